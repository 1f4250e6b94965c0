//! `tallybook completions`: what a shell needs to complete this command line.

use crate::Cli;
use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::io::Write;

/// Arguments of `tallybook completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    tallybook completions bash > ~/.local/share/bash-completion/completions/tallybook\n  \
    tallybook completions fish > ~/.config/fish/completions/tallybook.fish")]
pub struct Completions {
    /// For which shell.
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self) -> Result<()> {
        // Into memory first: the generator panics where standard output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tallybook", &mut script);
        std::io::stdout().write_all(&script)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_has_a_script_that_knows_the_commands() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "tallybook", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("settle") && script.contains("vouchers"), "{shell}");
        }
    }
}
