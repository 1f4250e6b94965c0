//! Third parties as processes: settings go in as environment variables, one line of JSON comes out for whatever happens.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a client may take for its calls, and a server to start: interpreters load hundreds of packages.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder of these tests.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// How a third party is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    /// A script of `typescript/`.
    Node(&'static str),
    /// A script of `python/`.
    Python(&'static str),
    /// An example of `clients/x402`.
    Rust(&'static str),
}

/// What a client says of one call.
#[derive(Deserialize, Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<u16>,
    /// The receipt's header as it came.
    pub(crate) receipt: Option<String>,
    pub(crate) body: Option<String>,
    /// Why there is none of that.
    pub(crate) error: Option<String>,
}

/// What a server says once it listens.
#[derive(Deserialize, Debug)]
struct Listening {
    listening: String,
}

/// Settings by their names.
pub(crate) type Settings = Vec<(&'static str, String)>;

impl Program {
    fn command(self, settings: &Settings) -> Command {
        let folder = folder();
        let mut command = match self {
            Self::Node(script) => {
                let mut command = Command::new("node");
                command.current_dir(folder.join("typescript")).arg(script);
                command
            }
            Self::Python(script) => {
                let folder = folder.join("python");
                let mut command = Command::new(folder.join(".venv/bin/python"));
                // The client of solana-py that x402 uses is deprecated there: not ours to say.
                command.current_dir(folder).arg(script).env("PYTHONWARNINGS", "ignore::FutureWarning");
                command
            }
            Self::Rust(example) => Command::new(folder.join("../../clients/x402/target/debug/examples").join(example)),
        };
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        command
    }

    /// Lets a client make its calls.
    pub(crate) async fn run(self, settings: &Settings) -> Result<Vec<Said>> {
        let child = self.command(settings).spawn().with_context(|| format!("{self:?} does not start"))?;
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
        let output = output.await.with_context(|| format!("{self:?} takes too long"))??;
        ensure!(output.status.success(), "{self:?} ended with {}", output.status);
        let text = String::from_utf8(output.stdout)?;
        text.lines().map(|line| line_of(line).with_context(|| format!("{self:?} said {line:?}"))).collect()
    }

    /// Starts a server.
    pub(crate) async fn serve(self, settings: &Settings) -> Result<Serving> {
        let mut child = self.command(settings).spawn().with_context(|| format!("{self:?} does not start"))?;
        let stdout = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line());
        let Some(line) = first.await.with_context(|| format!("{self:?} does not listen"))?? else {
            bail!("{self:?} ended before it listened");
        };
        let Listening { listening } = line_of(&line)?;
        // Whatever else it prints is read away, or it would block in the end.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Serving { url: listening, _child: child })
    }
}

fn line_of<T: DeserializeOwned>(line: &str) -> Result<T> {
    Ok(serde_json::from_str(line)?)
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) url: String,
    _child: Child,
}
