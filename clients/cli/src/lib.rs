//! The command line `tallybook`, as a library, so that tests drive the same code.
#![forbid(unsafe_code)]

pub mod audit;
pub mod book;
pub mod channel;
pub mod completions;
pub mod conform;
pub mod connection;
#[cfg(feature = "dev-chain")]
pub mod demo;
pub mod deploy;
#[cfg(feature = "dev-chain")]
pub mod dev;
#[cfg(feature = "dev-chain")]
pub mod dev_chain;
pub mod find;
pub mod history;
pub mod keys;
pub mod mcp;
pub mod output;
pub mod page;
pub mod paid;
pub mod pay;
pub mod progress;
pub mod reconcile;
pub mod reference;
pub mod sending;
pub mod settle;
pub mod statement;
pub mod terminal;
pub mod vouchers;
pub mod wallet;
pub mod watch;

pub use output::{in_full, print, say};

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use output::{Exit, Failure, Output};
use std::process::ExitCode;

/// Pay HTTP APIs per call with prepaid channels, and get paid.
#[derive(Parser, Debug)]
#[command(
    name = "tallybook",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Begin with:\n  \
        tallybook demo                      the whole thing on a local chain, in a minute\n  \
        tallybook dev --serve               a local chain with an API to pay, and what to type next\n\n\
        `tallybook COMMAND --help` shows an example of each command."
)]
pub struct Cli {
    /// Print the result as one line of JSON, and errors too (on standard error).
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// See the main job: agents pay an API on a local chain, with trouble on the way, to the last base unit.
    #[cfg(feature = "dev-chain")]
    Demo(demo::Demo),
    /// Run a local chain with the program, a USDC-like mint and funded keys.
    #[cfg(feature = "dev-chain")]
    Dev(dev::Dev),
    /// Find what can be bought, by the catalogues of facilitators, and compare it.
    Find(Box<find::Find>),
    /// Ask a URL, and pay for the answer.
    Pay(Box<pay::Pay>),
    /// List what was paid for, from the wallet's own record.
    Paid(paid::ListPaid),
    /// Give an agent that speaks MCP a wallet: it asks prices, fetches and pays, within your limits.
    Mcp(Box<mcp::Mcp>),
    /// A payer's channels: see them, close them, get the rest back.
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Claim on chain what vouchers in hand are worth. Anybody may; the money goes to the payee.
    Settle(settle::Settle),
    /// A payee's vouchers: take them out of a paywall's file or a facilitator's database.
    #[command(subcommand)]
    Vouchers(vouchers::VouchersCommand),
    /// Claim in time what vouchers are worth whose channels close: for others, with no key of theirs.
    Watch(watch::Watch),
    /// What went in and out of a payee's or a payer's channels in a period, to the base unit, from the chain alone.
    Statement(statement::Statement),
    /// Hold a facilitator's store against the chain, and explain each difference.
    Reconcile(reconcile::Reconcile),
    /// Check a facilitator's record of payments, and say what it says.
    Audit(audit::Audit),
    /// Make and show books: a payee's offers.
    #[command(subcommand)]
    Book(book::BookCommand),
    /// Add and show pages: the places that a book has for channels.
    #[command(subcommand)]
    Page(page::PageCommand),
    /// Deploy or upgrade the program, and make a payee's book and first page. Does only what is not done yet.
    Deploy(Box<deploy::Deploy>),
    /// Check another implementation against the specification: its code, its facilitator, its resource server.
    #[command(subcommand)]
    Conform(conform::ConformCommand),
    /// Print a script that completes this command line in a shell.
    Completions(completions::Completions),
    /// Print docs/cli.md.
    #[command(hide = true)]
    Reference(reference::Reference),
}

/// Does what the command line asks for, and says so if that fails.
pub fn main(cli: Cli) -> ExitCode {
    let output = Output::new(cli.json);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::reader_is_gone(&error) => ExitCode::SUCCESS,
        Err(error) => end(&Failure::of(&error), output),
    }
}

/// Answers a command line that asks for nothing that can be done: help, or what is wrong with it.
pub fn refuse(error: &clap::Error) -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    if !json || !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // Standard output or error may be closed; there is nobody left to tell then.
        drop(error.print());
        return if error.use_stderr() { ExitCode::from(Exit::Usage.status()) } else { ExitCode::SUCCESS };
    }
    end(&Failure::of_usage(error), Output::Json)
}

fn end(failure: &Failure, output: Output) -> ExitCode {
    match output {
        Output::Text => say(format_args!("{failure}")),
        Output::Json => say(format_args!("{}", failure.to_json())),
    }
    failure.exit_code()
}

/// Does what the command line asks for.
pub fn run(cli: Cli) -> Result<()> {
    // Before any key is read.
    tallybook_keys::keep_out_of_cores()?;
    let output = Output::new(cli.json);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match cli.command {
            #[cfg(feature = "dev-chain")]
            Command::Demo(demo) => demo.run(output).await,
            #[cfg(feature = "dev-chain")]
            Command::Dev(dev) => dev.run(output).await,
            Command::Find(find) => find.run(output).await,
            Command::Pay(pay) => pay.run(output).await,
            Command::Paid(paid) => paid.run(output).await,
            Command::Mcp(mcp) => mcp.run(output).await,
            Command::Channel(channel) => channel.run(output).await,
            Command::Settle(settle) => settle.run(output).await,
            Command::Vouchers(vouchers) => vouchers.run(output),
            Command::Watch(watch) => watch.run(output).await,
            Command::Statement(statement) => statement.run(output).await,
            Command::Reconcile(reconcile) => reconcile.run(output).await,
            Command::Audit(audit) => audit.run(output),
            Command::Book(book) => book.run(output).await,
            Command::Page(page) => page.run(output).await,
            Command::Deploy(deploy) => deploy.run(output).await,
            Command::Conform(conform) => conform.run(output).await,
            Command::Completions(completions) => completions.run(),
            Command::Reference(reference) => reference.run(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
