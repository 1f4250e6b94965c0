//! `tallybook-facilitator --config FILE`: parse, refuse, start, serve, drain.

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use tallybook_facilitator::{Config, install, run};
use tokio::signal::unix::{SignalKind, signal};

/// Takes payments by voucher for resource servers, and settles them on Solana.
///
/// Start from facilitator.example.toml: it explains every key. Each key can also be set in the environment, as
/// TALLYBOOK_RPC_URL=… or TALLYBOOK_LIMITS__QUEUE=….
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, in TOML.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Checks the configuration, says what is wrong with it, and ends.
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = tallybook_keys::keep_out_of_cores() {
        return refuse(&error);
    }
    let config = match Config::load(arguments.config.as_deref(), std::env::vars()) {
        Ok(config) => config,
        Err(problem) => return refuse(&problem),
    };
    if arguments.check {
        say("the configuration is sound");
        return ExitCode::SUCCESS;
    }
    let _telemetry = match install(&config.log, config.traces.as_ref()) {
        Ok(telemetry) => telemetry,
        Err(problem) => return refuse(&problem),
    };
    match run(config, asked_to_end()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(%failure, "ended");
            refuse(&failure)
        }
    }
}

/// SIGTERM, or Ctrl-C.
async fn asked_to_end() {
    let term = async {
        match signal(SignalKind::terminate()) {
            Ok(mut term) => drop(term.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = term => {}
        Ok(()) = tokio::signal::ctrl_c() => {}
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a program go to the terminal")]
fn refuse(problem: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tallybook-facilitator: {problem}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "the answer to --check")]
fn say(text: &str) {
    println!("{text}");
}
