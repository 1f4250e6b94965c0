//! The other side: a program that reads a question a line and writes an answer a line.

use anyhow::{Context, Result, bail, ensure};
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// The longest line that is read, in bytes.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Whoever answers.
pub trait Adapter {
    /// The answer to a line, as it came.
    fn ask(&mut self, line: &str) -> impl Future<Output = Result<String>>;
}

/// A program that was started to answer. It ends with this.
pub struct Started {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    patience: Duration,
    // Killed when it is dropped.
    _child: Child,
}

impl Started {
    /// Starts it. What it writes to standard error is shown as it is.
    pub fn new(words: &[String], patience: Duration) -> Result<Self> {
        let (program, arguments) = words.split_first().context("name the command to start, after --")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{program} cannot be started"))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("no way to speak to it")?;
        Ok(Self { input, output: BufReader::new(output), patience, _child: child })
    }

    async fn exchange(&mut self, line: &str) -> Result<String> {
        // It may have ended without reading: what it said last, if anything, is the better message.
        let written = write(&mut self.input, line).await;
        let mut answer = String::new();
        (&mut self.output).take(MAX_LINE_BYTES).read_line(&mut answer).await.context("its answer is no UTF-8")?;
        if answer.is_empty() {
            written.context("it has ended, or closed its standard input")?;
            bail!("it has ended, or closed its standard output");
        }
        ensure!(answer.ends_with('\n'), "its answer is longer than {MAX_LINE_BYTES} bytes, or has no end of line");
        Ok(answer)
    }
}

async fn write(input: &mut ChildStdin, line: &str) -> io::Result<()> {
    input.write_all(line.as_bytes()).await?;
    input.write_all(b"\n").await?;
    input.flush().await
}

impl Adapter for Started {
    async fn ask(&mut self, line: &str) -> Result<String> {
        let patience = self.patience;
        match tokio::time::timeout(patience, self.exchange(line)).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {} seconds", patience.as_secs()),
        }
    }
}
