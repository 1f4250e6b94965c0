//! The command line `tallybook`, as a library, so that tests drive the same code.
#![forbid(unsafe_code)]

pub mod book;
pub mod channel;
pub mod connection;
#[cfg(feature = "dev-chain")]
pub mod demo;
#[cfg(feature = "dev-chain")]
pub mod dev;
#[cfg(feature = "dev-chain")]
pub mod dev_chain;
pub mod keys;
pub mod page;
pub mod pay;
pub mod progress;
pub mod sending;
pub mod wallet;

use anyhow::Result;
use clap::Parser;
use std::fmt;
use std::io::Write;

/// Pay HTTP APIs per call with prepaid channels, and get paid.
#[derive(Parser, Debug)]
#[command(name = "tallybook", version, propagate_version = true)]
pub enum Command {
    /// See the main job: agents pay an API on a local chain, with trouble on the way, to the last base unit.
    #[cfg(feature = "dev-chain")]
    Demo(demo::Demo),
    /// Run a local chain with the program, a USDC-like mint and funded keys.
    #[cfg(feature = "dev-chain")]
    Dev(dev::Dev),
    /// Ask a URL, and pay for the answer.
    Pay(pay::Pay),
    /// List and close the channels that paying has opened.
    #[command(subcommand)]
    Channel(channel::ChannelCommand),
    /// Make and show books: a payee's offers.
    #[command(subcommand)]
    Book(book::BookCommand),
    /// Add and show pages: the places that a book has for channels.
    #[command(subcommand)]
    Page(page::PageCommand),
}

/// Does what the command line asks for.
pub fn run(command: Command) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            #[cfg(feature = "dev-chain")]
            Command::Demo(demo) => demo.run().await,
            #[cfg(feature = "dev-chain")]
            Command::Dev(dev) => dev.run().await,
            Command::Pay(pay) => pay.run().await,
            Command::Channel(channel) => channel.run().await,
            Command::Book(book) => book.run().await,
            Command::Page(page) => page.run().await,
        }
    })
}

/// An error with its causes, each said once.
pub fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Prints a line to standard error: what a person reads, next to what a program reads from standard output.
pub fn say(line: fmt::Arguments<'_>) {
    // Standard error may be closed; there is nobody left to tell then.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Prints a line to standard output.
pub fn print(line: fmt::Arguments<'_>) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Command::command().debug_assert();
    }

    #[test]
    fn causes_are_said_once() {
        let error = anyhow!("refused").context("it was refused").context("no page");
        assert_eq!(in_full(&error), "no page: it was refused");
    }
}
