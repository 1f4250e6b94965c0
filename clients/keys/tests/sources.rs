//! Secrets from files, the environment and commands; and what is refused, without a word of the secret.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

use solana_keypair::Keypair;
use solana_signer::Signer;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use tallybook_keys::{MAX_SECRET_BYTES, Problem, Source};
use tempfile::TempDir;

fn keypair() -> (Keypair, String) {
    let key = Keypair::new_from_array([7; 32]);
    let text = format!("{:?}", key.to_bytes());
    (key, text)
}

fn file(folder: &TempDir, text: &str, mode: u32) -> PathBuf {
    let path = folder.path().join("key.json");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn source(text: &str) -> Source {
    text.parse().unwrap()
}

#[test]
fn given_a_keypair_when_it_is_in_a_file_or_comes_from_a_command_in_json_or_base58_then_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (key, json) = keypair();
    for text in [json.clone(), format!("  {json}\n"), bs58::encode(key.to_bytes()).into_string()] {
        let path = file(&folder, &text, 0o600);
        for named in [format!("{}", path.display()), format!("file:{}", path.display())] {
            assert_eq!(source(&named).keypair().unwrap().pubkey(), key.pubkey());
        }
        let command = format!("command:cat '{}'", path.display());
        assert_eq!(source(&command).keypair().unwrap().pubkey(), key.pubkey());
    }
}

#[test]
fn given_a_variable_when_it_is_set_then_it_is_the_secret_and_when_it_is_not_then_it_is_named() {
    // Set for every test by cargo.
    assert_eq!(source("env:CARGO_PKG_NAME").text().unwrap().as_str(), "tallybook-keys");
    let problem = source("env:TALLYBOOK_NOT_SET").text().unwrap_err();
    assert_eq!(problem.to_string(), "the environment variable TALLYBOOK_NOT_SET is not set");
}

#[test]
fn given_a_file_that_others_may_read_or_write_when_it_is_read_then_it_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o644] {
        let path = file(&folder, &keypair().1, mode);
        let problem = Source::from(path.clone()).keypair().unwrap_err();
        assert_eq!(problem, Problem::Unguarded { path: path.display().to_string() });
        assert!(problem.to_string().ends_with("run chmod 600 on it"), "{problem}");
    }
}

#[test]
fn given_what_is_no_keypair_when_it_is_read_then_the_error_holds_none_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (key, json) = keypair();
    let mut halves = key.to_bytes();
    halves[40] ^= 1;
    for (text, said) in [
        ("[17,18,19]".to_owned(), "64 bytes"),
        ("[300]".to_owned(), "not a JSON array"),
        (json.replace(']', ""), "not a JSON array"),
        ("hunter2!".to_owned(), "neither"),
        (String::new(), "64 bytes"),
        (format!("{halves:?}"), "halves"),
    ] {
        let path = file(&folder, &text, 0o600);
        for source in [Source::from(path.clone()), source(&format!("command:cat {}", path.display()))] {
            let problem = source.keypair().unwrap_err();
            let shown = format!("{problem} {problem:?} {source:?}").replace(&path.display().to_string(), "");
            assert!(shown.contains(said), "{shown}");
            for part in ["17", "18, 19", "300", "hunter2", "7, 7", "7,7"] {
                assert!(!shown.contains(part), "{part} of the secret stands in {shown}");
            }
        }
    }
}

#[test]
fn given_commands_that_fail_or_do_not_end_when_they_are_run_then_they_are_refused_without_their_arguments() {
    for (line, said) in [
        ("command:no-such-program --token hunter2", "cannot be run"),
        ("command:sh -c 'echo hunter2; exit 3'", "exit status: 3"),
        ("command:yes hunter2", "more than 4096 bytes"),
    ] {
        let problem = source(line).text().unwrap_err();
        assert!(problem.to_string().contains(said), "{problem}");
        assert!(!format!("{problem} {problem:?} {:?}", source(line)).contains("hunter2"));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, &"x".repeat(MAX_SECRET_BYTES + 1), 0o600);
    assert!(matches!(Source::from(path).text(), Err(Problem::TooLong { .. })));
}

#[test]
fn given_texts_that_name_no_source_when_they_are_parsed_then_each_says_what_to_write() {
    for text in ["", "file:", "env:", "env:A=B", "command:", "command: ", "command:a 'b"] {
        let problem = text.parse::<Source>().unwrap_err();
        assert!(matches!(problem, Problem::Syntax(_)), "{text:?} was read");
    }
    assert!(matches!(Source::from(PathBuf::from("/")).text(), Err(Problem::File { .. })));
}
