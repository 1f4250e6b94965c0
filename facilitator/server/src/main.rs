//! `tallybook-facilitator --config FILE`: parse, refuse, start, serve, drain.

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tallybook_facilitator::{Config, backup, check_health, install, reference, run};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

// musl's allocator has one lock for all threads, and takes several times as long.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Takes payments by voucher for resource servers, and settles them on Solana.
///
/// Start from facilitator.example.toml; `tallybook-facilitator reference` (docs/configuration.md) explains every key. Each key
/// can also be set in the environment, as TALLYBOOK_RPC_URL=… or TALLYBOOK_LIMITS__QUEUE=….
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, in TOML.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Checks the configuration, says what is wrong with it, and ends.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What is done instead of serving.
#[derive(Subcommand)]
enum Instead {
    /// Prints what every key of the configuration is: docs/configuration.md.
    Reference,
    /// Asks a facilitator that runs whether it is of use, and ends with status 0 if it is.
    Health {
        /// Where it answers.
        #[arg(default_value = "http://127.0.0.1:4020")]
        facilitator: Url,
    },
    /// Copies the store, if it is a file, into the folder that the configuration names as `backup_folder`, whether a facilitator
    /// runs on it or not; prints which file that is.
    Backup,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = tallybook_keys::keep_out_of_cores() {
        return refuse(&error);
    }
    let config = || Config::load(arguments.config.as_deref(), std::env::vars());
    match arguments.instead {
        None => {}
        Some(Instead::Reference) => return tell(reference().map(|page| page.trim_end().to_owned())),
        Some(Instead::Health { facilitator }) => {
            return tell(check_health(&facilitator).await.map(|()| "it is well".to_owned()));
        }
        Some(Instead::Backup) => {
            return match config() {
                Ok(config) => tell(backup(&config).await.map(|copy| copy.file)),
                Err(problem) => refuse(&problem),
            };
        }
    }
    let config = match config() {
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

fn tell<E: std::fmt::Display>(answer: Result<String, E>) -> ExitCode {
    match answer {
        Ok(answer) => {
            say(&answer);
            ExitCode::SUCCESS
        }
        Err(problem) => refuse(&problem),
    }
}

#[expect(clippy::print_stderr, reason = "the last words of a program go to the terminal")]
fn refuse(problem: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("tallybook-facilitator: {problem}");
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "what was asked for goes to the terminal")]
fn say(text: &str) {
    println!("{text}");
}
