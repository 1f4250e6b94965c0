//! Asking the person at the terminal, where there is one.

use crate::output::{Money, say};
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal};
use tallybook_agent::{Ask, Asked};

/// Where a terminal is read from: standard input may carry a request's body.
#[cfg(unix)]
const TERMINAL: &str = "/dev/tty";
#[cfg(not(unix))]
const TERMINAL: &str = "CONIN$";

/// True when somebody can be asked.
pub fn is_there() -> bool {
    std::io::stderr().is_terminal() && File::open(TERMINAL).is_ok()
}

/// Asks, and waits for the answer: anything but a yes is a no.
pub async fn approve(ask: Ask, decimals: u8) -> bool {
    let money = Money::new(ask.amount, decimals);
    let what = match ask.what {
        Asked::Call => format!("a call that costs up to {money}"),
        Asked::Stream => format!("a stream that costs up to {money}"),
        Asked::Deposit => format!("a deposit of {money} into a new channel"),
        Asked::TopUp => format!("{money} more in a channel"),
    };
    say(format_args!("{}{}, paid to {}: {what}. Pay? [y/N]", ask.host, ask.path, ask.payee));
    tokio::task::spawn_blocking(answer).await.unwrap_or(false)
}

fn answer() -> bool {
    let mut line = String::new();
    let read = File::open(TERMINAL).map(BufReader::new).and_then(|mut terminal| terminal.read_line(&mut line));
    read.is_ok() && is_yes(&line)
}

fn is_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes(" YES \n"));
        assert!(!is_yes("\n") && !is_yes("") && !is_yes("n\n") && !is_yes("yess\n"));
    }
}
