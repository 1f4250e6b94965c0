use crate::conform;
use anyhow::Result;
use serde_json::{Value, json};
use std::process::Command;
use tallybook_cli::conform::codec::{Adapter, answer_line, examine};
use tallybook_cli::conform::report::Report;
use tallybook_cli::progress::Progress;
use tallybook_wire::{header, read_header};

const BINARY: &str = env!("CARGO_BIN_EXE_tallybook-to-run");

/// The reference, but for what `lie` makes of its answers to one kind of question.
struct Liar<F> {
    ask: &'static str,
    lie: F,
}

impl<F: FnMut(&Value, Value) -> Value> Adapter for Liar<F> {
    async fn ask(&mut self, line: &str) -> Result<String> {
        let question: Value = serde_json::from_str(line)?;
        let mut answer: Value = serde_json::from_str(&answer_line(line)?)?;
        if question["ask"] == self.ask {
            answer["is"] = (self.lie)(&question, answer["is"].take());
        }
        Ok(answer.to_string())
    }
}

async fn examined(ask: &'static str, lie: impl FnMut(&Value, Value) -> Value) -> Result<Report> {
    examine(&mut Liar { ask, lie }, 7, 4, Progress::Silent).await
}

/// The broken checks, all of which must be about `ask`.
async fn found(ask: &'static str, lie: impl FnMut(&Value, Value) -> Value) -> Result<Vec<String>> {
    let report = examined(ask, lie).await?;
    let broken: Vec<String> = report.broken_names().into_iter().map(str::to_owned).collect();
    assert!(broken.iter().all(|name| name.starts_with(&format!("{ask}:"))), "{report}");
    assert!(!broken.is_empty(), "a lie about {ask} is not found");
    Ok(broken)
}

/// Another last character.
fn spoilt(answer: Value) -> Value {
    let Some(mut text) = answer.as_str().map(str::to_owned) else { return answer };
    match text.pop() {
        Some('0') => text.push('1'),
        Some(_) => text.push('0'),
        None => return answer,
    }
    text.into()
}

#[tokio::test]
async fn given_the_reference_when_examined_then_all_of_it_holds() -> Result<()> {
    for seed in [0, 1, u64::MAX] {
        let report = examine(&mut Liar { ask: "nothing", lie: |_: &Value, is| is }, seed, 8, Progress::Silent).await?;
        assert_eq!((report.broken, report.not_done), (0, 0), "{report}");
        assert!(report.held > 50, "{report}");
    }
    Ok(())
}

#[tokio::test]
async fn given_an_adapter_that_lies_in_one_answer_when_examined_then_it_is_found() -> Result<()> {
    for ask in [
        "pageDomain",
        "channelId",
        "voucher",
        "sign",
        "aggregate",
        "claim",
        "claimBelow",
        "bookAddress",
        "pageAddress",
        "tokenAddress",
        "amount",
    ] {
        found(ask, |_, is| spoilt(is)).await?;
    }
    // Everything is accepted, or nothing
    for ask in ["verify", "accept"] {
        assert!(found(ask, |_, _| true.into()).await?.len() >= 3);
        found(ask, |_, _| false.into()).await?;
    }
    // A row of 48 bits takes what has more
    let broken = found("claim", |_, is| if is.is_null() { "05".into() } else { is }).await?;
    assert_eq!(broken, ["claim: 2^48 and above", "claim: no row, and 97"]);
    // An offer of another cluster is taken, or one that is malformed, or the place is another
    found(
        "offers",
        |question, is| if question["header"].as_str().is_some_and(|text| text.len() > 300) { json!([0]) } else { is },
    )
    .await?;
    found("offers", |_, is| if is == json!([1]) { json!([0]) } else { is }).await?;
    Ok(())
}

#[tokio::test]
async fn given_an_adapter_that_believes_too_much_when_examined_then_each_lie_it_would_fall_for_is_named() -> Result<()>
{
    let told = |question: &Value| question["extra"]["channelState"]["chargedCumulativeAmount"].clone();
    // Whatever the server says
    let broken = found("believe", |question, _| told(question)).await?;
    for name in [
        "believe: more than the one unseen call can have cost",
        "believe: more than our record, no call being unseen",
        "believe: more than our record, without our voucher",
        "believe: more than the chain has settled, without our voucher",
        "believe: charged above what is shown as signed",
        "believe: a voucher that another key signed",
        "believe: our voucher of another channel",
        "believe: the state of another channel",
        "believe: our signature over another amount",
        "believe: no state, or one that cannot be read",
    ] {
        assert!(broken.iter().any(|found| found == name), "{name}: {broken:?}");
    }
    // Nothing at all
    assert!(found("believe", |_, _| Value::Null).await?.len() >= 3);
    Ok(())
}

#[tokio::test]
async fn given_payments_that_are_not_what_was_offered_when_examined_then_they_are_found() -> Result<()> {
    fn changed(payment: Value, change: impl FnOnce(&mut Value)) -> Value {
        let Some(text) = payment.as_str() else { return payment };
        let mut read: Value = read_header(text.as_bytes()).unwrap();
        change(&mut read);
        header(&read).unwrap().to_str().unwrap().into()
    }
    // A member that the client does not know is dropped, or a price changed, or the version
    let drop = |payment: &mut Value| drop(payment["accepted"].as_object_mut().unwrap().remove("aMemberOfTomorrow"));
    found("payment", |_, is| changed(is, drop)).await?;
    found("payment", |_, is| changed(is, |payment| payment["accepted"]["amount"] = "499".into())).await?;
    found("payment", |_, is| changed(is, |payment| payment["x402Version"] = 1.into())).await?;
    found("payment", |_, is| changed(is, |payment| payment["payload"]["voucher"]["maxClaimableAmount"] = 500.into()))
        .await?;
    // More is signed than the deposit covers
    let broken = found("payment", |_, is| if is.is_null() { "e30=".into() } else { is }).await?;
    assert_eq!(broken, ["payment: more than the deposit covers"]);
    // To say more is allowed
    let more = examined("payment", |_, is| changed(is, |payment| payment["resource"] = json!({ "url": "" }))).await?;
    assert!(more.conforms(), "{more}");
    Ok(())
}

#[tokio::test]
async fn given_programs_in_any_language_when_examined_then_their_answers_are_read_or_it_is_said_why_not() -> Result<()>
{
    // The reference, as a process of its own
    let report = conform(&["codec", "--cases", "2", "--", BINARY, "conform", "answer"]).await?;
    assert_eq!((report.broken, report.not_done), (0, 0), "{report}");
    // One that implements nothing
    let mute = r#"while read -r line; do id=${line#*:}; echo "{\"id\":${id%%,*},\"cannot\":true}"; done"#;
    let report = conform(&["codec", "--cases", "1", "--", "sh", "-c", mute]).await?;
    assert_eq!((report.held, report.broken, report.conforms()), (0, 0, false), "{report}");
    // One that says the questions again: its lines have an id and no answer
    let report = conform(&["codec", "--cases", "1", "--", "cat"]).await?;
    assert_eq!((report.held, report.not_done), (0, 0), "{report}");
    // Some that do not answer at all
    for (script, why) in [
        ("exit 0", "it has ended"),
        ("read line; echo hello; cat", "no line of JSON"),
        ("read line; echo '{\"id\":99,\"is\":1}'; cat", "with this question's id"),
        ("exec sleep 60", "no answer within 1 seconds"),
    ] {
        let failed = conform(&["codec", "--patience", "1", "--", "sh", "-c", script]).await.unwrap_err();
        assert!(format!("{failed:#}").contains(why), "{script}: {failed:#}");
    }
    Ok(())
}

#[test]
fn given_the_command_when_something_is_broken_then_it_says_so_by_table_json_and_status() -> Result<()> {
    let run = |words: &[&str]| Command::new(BINARY).args(words).output();
    let good = run(&["conform", "codec", "--cases", "1", "--json", "--", BINARY, "conform", "answer"])?;
    let report: Value = serde_json::from_slice(&good.stdout)?;
    assert_eq!(
        (good.status.code(), &report["broken"], &report["checks"][0]["section"]),
        (Some(0), &0.into(), &"§3".into())
    );
    let bad = run(&["conform", "codec", "--cases", "1", "--", "cat"])?;
    let (table, said) = (String::from_utf8(bad.stdout)?, String::from_utf8(bad.stderr)?);
    assert_eq!(bad.status.code(), Some(1));
    assert!(
        table.contains("✗ §3") && table.contains("came: ") && said.contains("something else than"),
        "{table}{said}"
    );
    let none = run(&["conform", "codec", "--", "/no/such/adapter"])?;
    assert!(String::from_utf8(none.stderr)?.contains("cannot be started"));
    Ok(())
}
