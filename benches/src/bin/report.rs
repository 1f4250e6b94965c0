//! `bench-report FOLDER`: from what the benches have written there to a page with plots. See `just bench`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for the terminal")]

use std::path::PathBuf;
use std::process::ExitCode;
use tallybook_benches::report::Measured;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: bench-report FOLDER");
        return ExitCode::FAILURE;
    };
    match Measured::read(&folder) {
        Ok(measured) => {
            measured.write(&folder);
            println!("written: {}", folder.join("README.md").display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("bench-report: {problem}");
            ExitCode::FAILURE
        }
    }
}
