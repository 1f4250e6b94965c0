//! `tallybook`: see `tallybook --help`.

use clap::Parser;
use std::process::ExitCode;
use tallybook_cli::Command;

fn main() -> ExitCode {
    let command = Command::parse();
    match tallybook_cli::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tallybook_cli::say(format_args!("tallybook: {}", tallybook_cli::in_full(&error)));
            ExitCode::FAILURE
        }
    }
}
