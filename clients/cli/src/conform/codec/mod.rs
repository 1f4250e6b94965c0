//! `tallybook conform codec`: what an implementation makes of bytes and JSON, in any language, asked over its standard input.

mod adapter;
mod answer;
mod case;
mod dice;
mod question;
mod vectors;
mod wire;

pub use adapter::{Adapter, Started};
pub(super) use vectors::malleated;

use super::report::{Check, Outcome, Report};
use crate::output::Output;
use crate::progress::Progress;
use answer::answer;
use anyhow::{Context, Result, ensure};
use case::{Asked, Case};
use clap::Args;
use dice::Dice;
use question::Question;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::time::Duration;

/// What an adapter has said that cannot go on.
const UNREADABLE: &str = "an answer that is no line of JSON with this question's id, and `is` or `cannot`";

/// Arguments of `tallybook conform codec`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: our own answers; and those of an adapter in another language\n  \
    tallybook conform codec -- tallybook conform answer\n  \
    tallybook conform codec -- node clients/typescript/conform.mjs\n\n\
    The command is started once, and asked one question after another, each a line of JSON on its standard input:\n  \
    {\"id\":7,\"ask\":\"voucher\",\"channelId\":\"52…63\",\"cumulative\":\"1000\"}\n\
    It answers each with a line on its standard output:\n  \
    {\"id\":7,\"is\":\"544201…\"}      the answer; null for what must be refused\n  \
    {\"id\":7,\"cannot\":true}       it does not implement this\n\
    docs/conformance.md has the table of questions. Exit status 1 when an answer is wrong, or nothing was answered.")]
pub struct Codec {
    /// Questions of each kind besides the fixed ones.
    #[arg(long, default_value_t = 16, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    cases: u32,
    /// What those are made from: the same seed asks the same.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// How long one answer may take, in seconds.
    #[arg(long, default_value_t = 10, value_name = "SECONDS")]
    patience: u64,
    /// The command that answers, with its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Arguments of `tallybook conform answer`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: a line such as {\"id\":1,\"ask\":\"amount\",\"value\":\"007\"} is answered as another implementation should\n  \
    tallybook conform answer"
)]
pub struct Answer {}

/// A question as it is sent.
#[derive(Serialize)]
struct Sent<'a> {
    id: u64,
    #[serde(flatten)]
    question: &'a Question,
}

/// An answer as it comes.
#[derive(Deserialize)]
struct Came {
    id: u64,
    #[serde(default, deserialize_with = "present")]
    is: Option<Value>,
    #[serde(default)]
    cannot: bool,
}

/// `null` is an answer, too.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Codec {
    /// Makes the checks that its options ask for.
    pub async fn run(self, output: Output) -> Result<Report> {
        let mut started = Started::new(&self.command, Duration::from_secs(self.patience))?;
        examine(&mut started, self.seed, self.cases, output.progress()).await
    }
}

impl Answer {
    /// Answers what comes on standard input until it ends.
    pub(super) fn run(self) -> Result<()> {
        for line in std::io::stdin().lock().lines() {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", answer_line(&line?)?)?;
            out.flush()?;
        }
        Ok(())
    }
}

/// What the reference answers to a line.
pub fn answer_line(line: &str) -> Result<String> {
    let sent: Value = serde_json::from_str(line).context("not a line of JSON")?;
    let id = sent.get("id").cloned().unwrap_or_default();
    let answer = match serde_json::from_value(sent) {
        Ok(question) => json!({ "id": id, "is": answer(&question) }),
        Err(error) => json!({ "id": id, "cannot": true, "why": error.to_string() }),
    };
    Ok(answer.to_string())
}

/// Asks everything that there is to ask.
pub async fn examine(adapter: &mut impl Adapter, seed: u64, count: u32, progress: Progress) -> Result<Report> {
    let cases = cases(seed, count)?;
    let questions = cases.iter().map(|case| case.asked.len()).fold(0, usize::saturating_add);
    let bar = progress.bar(u64::try_from(questions)?, "asking");
    let (mut report, mut id) = (Report::default(), 0u64);
    for case in cases {
        let mut check = Check {
            name: case.name.to_owned(),
            section: case.section,
            outcome: Outcome::Held,
            expected: case.expected.to_owned(),
            came: None,
            question: None,
        };
        for asked in &case.asked {
            id = id.saturating_add(1);
            bar.inc(1);
            if check.outcome == Outcome::Held {
                ask(adapter, id, asked, &mut check).await.with_context(|| format!("asked for {}", case.name))?;
            }
        }
        report.push(check);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Every check, by this seed.
fn cases(seed: u64, count: u32) -> Result<Vec<Case>> {
    let mut dice = Dice::new(seed);
    let mut cases = vectors::golden()?;
    cases.extend(vectors::forgeries(&mut dice));
    cases.extend(vectors::strictness(&mut dice)?);
    cases.extend(vectors::impossible_claims(&mut dice));
    if count > 0 {
        cases.extend(vectors::random(&mut dice, count));
    }
    cases.extend(wire::amounts());
    cases.extend(wire::offers(&mut dice)?);
    cases.extend(wire::payments(&mut dice)?);
    cases.extend(wire::beliefs(&mut dice)?);
    Ok(cases)
}

/// Asks one question, and puts what is wrong with its answer into the check.
async fn ask(adapter: &mut impl Adapter, id: u64, asked: &Asked, check: &mut Check) -> Result<()> {
    let sent = Sent { id, question: &asked.question };
    let line = adapter.ask(&serde_json::to_string(&sent)?).await?;
    let came = serde_json::from_str::<Came>(line.trim_end()).ok().filter(|came| came.id == id);
    // Without this the following answers could belong to anything.
    ensure!(came.is_some(), "{UNREADABLE}: {}", super::report::shortened(line.trim_end()));
    let (outcome, came) = match came {
        Some(Came { is: Some(is), .. }) if asked.is_answered_by(&is) => return Ok(()),
        Some(Came { is: Some(is), .. }) => (Outcome::Broken, is.to_string()),
        Some(Came { cannot: true, .. }) => (Outcome::NotDone, "not implemented there".to_owned()),
        Some(_) | None => (Outcome::Broken, line.trim_end().to_owned()),
    };
    if outcome == Outcome::Broken {
        check.expected = format!("{}; here {}", check.expected, asked.answer);
        check.question = Some(serde_json::to_value(sent)?);
    }
    (check.outcome, check.came) = (outcome, Some(came));
    Ok(())
}
