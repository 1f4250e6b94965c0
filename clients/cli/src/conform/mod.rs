//! `tallybook conform`: what another implementation of the protocol makes of it, held against `protocol/SPEC.md`.
//!
//! Every check names the section that it is about. Nothing here looks into an implementation: `codec` asks a program over its
//! standard input, `facilitator` and `server` ask over HTTP and look at the chain.

mod checks;
pub mod codec;
pub mod facilitator;
mod http;
pub mod report;
pub mod server;

use crate::output::Output;
use anyhow::{Result, bail};
use clap::Subcommand;

/// What to hold against the specification.
#[derive(Subcommand, Debug)]
pub enum ConformCommand {
    /// Check an implementation in any language: bytes, signatures, headers, what it believes.
    Codec(codec::Codec),
    /// Check a facilitator over HTTP: without money, or with --pay all of it.
    Facilitator(Box<facilitator::Facilitator>),
    /// Check a paid GET of a resource server: without money, or with --pay all of it.
    Server(Box<server::Server>),
    /// Answer the questions of `conform codec` on standard input, as our own code does: the reference.
    Answer(codec::Answer),
}

impl ConformCommand {
    /// Makes the checks, prints what was found, and fails when anything is not as specified.
    pub async fn run(self, output: Output) -> Result<()> {
        let report = match self {
            Self::Codec(codec) => codec.run(output).await?,
            Self::Facilitator(facilitator) => facilitator.run(output).await?,
            Self::Server(server) => server.run(output).await?,
            Self::Answer(answer) => return answer.run(),
        };
        output.report(&report)?;
        if report.conforms() {
            return Ok(());
        }
        match report.broken {
            0 => bail!("nothing was looked at: implement one of the questions at least"),
            broken => {
                bail!("{broken} of {} checks found something else than the specification says", report.checks.len())
            }
        }
    }
}
