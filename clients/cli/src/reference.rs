//! `docs/cli.md`: written by hand at its head, and from the command line's own definitions below, so that it cannot rot.

use crate::Cli;
use crate::output::print;
use anyhow::Result;
use clap::{Args, Command, CommandFactory};

/// What is written by hand: exit statuses, environment, the JSON.
const HEAD: &str = include_str!("reference.md");

/// Arguments of `tallybook reference`.
#[derive(Args, Debug)]
pub struct Reference {}

impl Reference {
    /// Prints the page.
    pub fn run(self) -> Result<()> {
        print(format_args!("{}", page().trim_end()))
    }
}

/// The whole page.
pub fn page() -> String {
    let mut command = Cli::command();
    command.build();
    let mut page = format!("{}\n", HEAD.trim_end());
    for subcommand in command.get_subcommands() {
        describe(subcommand, "tallybook", &mut page);
    }
    page
}

/// A command with those below it: what `--help` says.
fn describe(command: &Command, parents: &str, page: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parents} {}", command.get_name());
    if command.has_subcommands() {
        command.get_subcommands().for_each(|subcommand| describe(subcommand, &name, page));
        return;
    }
    let help = command.clone().bin_name(&name).render_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n### `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use std::path::Path;

    const ADDRESS: &str = "Eis2qMZ5ku5ZubGRsjYXVmaKDwzseonmDJjq6QepXp5h";

    /// Every command that does something, with its whole name.
    fn leaves() -> Vec<(String, Command)> {
        fn collect(command: &Command, parents: &str, leaves: &mut Vec<(String, Command)>) {
            for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
                let name = format!("{parents}{} ", command.get_name());
                match command.has_subcommands() {
                    true => collect(command, &name, leaves),
                    false => leaves.push((name.trim_end().to_owned(), command.clone())),
                }
            }
        }
        let mut leaves = Vec::new();
        collect(&Cli::command(), "", &mut leaves);
        leaves
    }

    #[test]
    #[cfg(feature = "dev-chain")]
    fn the_page_says_what_the_commands_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written.trim_end() == page().trim_end(),
            "docs/cli.md is not what the commands say: cargo run --bin tallybook -- reference > docs/cli.md"
        );
    }

    #[test]
    fn every_command_has_an_example_that_parses() {
        for (name, command) in leaves() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            // A line that ends in a backslash goes on.
            let help = help.replace("\\\n", " ");
            let examples: Vec<&str> =
                help.lines().map(str::trim).filter(|line| line.starts_with("tallybook ")).collect();
            assert!(
                examples.iter().any(|line| line.starts_with(&format!("tallybook {name}"))),
                "{name} has no example"
            );
            for example in examples {
                let first = example.split(['|', '>']).next().unwrap();
                let words = words(first);
                let parsed = Cli::try_parse_from(&words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }

    /// Words as a shell splits them, with addresses for variables.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                c => word.push(c),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        words.iter().map(|word| if word.starts_with('$') { ADDRESS.to_owned() } else { word.clone() }).collect()
    }

    #[test]
    fn every_option_says_what_it_is_for() {
        for (name, command) in leaves() {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {} says nothing", argument.get_id());
            }
        }
    }
}
