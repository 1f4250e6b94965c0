//! `tallybook`: see `tallybook --help`.

use clap::Parser;
use std::process::ExitCode;
use tallybook_cli::Cli;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => tallybook_cli::main(cli),
        Err(error) => tallybook_cli::refuse(&error),
    }
}
