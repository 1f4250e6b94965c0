//! The properties of the fuzz targets, over the inputs that the fuzzer has found: `fuzz/corpus`. And those of configuration and
//! key files, whose readers the fuzzer does not build: over changes made by rule.
#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test says what it expects, also in the properties that it shares with the fuzz targets"
)]

mod mutation;
#[path = "../../../fuzz/src/lib.rs"]
#[allow(dead_code, reason = "the fuzz targets use the rest")]
mod properties;
mod texts;

use properties::{PROPERTIES, voucher_file};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tallybook_cli::vouchers::Newest;

/// Every input of a target, by its file's name.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has a corpus");
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs a property over an input, and names the input that breaks it.
fn hold(property: impl Fn(&[u8]), input: &[u8], name: &str) {
    let held = catch_unwind(AssertUnwindSafe(|| property(input)));
    assert!(held.is_ok(), "{name} breaks the property: {}", input.escape_ascii());
}

#[test]
fn given_what_the_fuzzer_has_found_when_read_again_then_every_property_holds() {
    for (target, property) in PROPERTIES {
        let inputs = corpus(target);
        for (path, input) in &inputs {
            hold(property, input, &path.display().to_string());
        }
        println!("{target}: {} inputs", inputs.len());
    }
}

#[test]
fn given_the_targets_when_listed_then_each_has_its_file_its_binary_and_its_property() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    let mut files: Vec<String> = fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    let mut names: Vec<String> = PROPERTIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    assert_eq!(files, names);
    for name in names {
        assert!(manifest.contains(&format!("[[bin]]\nname = \"{name}\"\n")), "{name} is no binary of fuzz/Cargo.toml");
    }
}

#[test]
fn given_a_paywalls_file_when_the_command_line_reads_it_then_it_finds_the_same_vouchers() {
    for (path, input) in corpus("voucher_file") {
        let ours = voucher_file::by_hand(&input);
        let read = Newest::in_lines(input.as_slice()).unwrap();
        let numbers =
            read.lines.iter().map(|(id, line)| (id.0, (line.voucher.max_claimable_amount.get(), line.charged.get())));
        assert_eq!(numbers.collect::<std::collections::BTreeMap<_, _>>(), ours, "{}", path.display());
    }
}

#[test]
fn given_any_configuration_when_read_then_it_is_good_or_refused_by_its_key_and_shows_no_secret() {
    let read =
        mutation::each(&corpus("configuration"), 400, |text| hold(texts::configuration, text, "a configuration"));
    println!("{read} configurations");
}

#[test]
fn given_any_key_file_when_read_then_it_is_a_key_or_refused_without_a_digit_of_it() {
    let read = mutation::each(&corpus("key_files"), 1_000, |text| hold(texts::key_file, text, "a key file"));
    println!("{read} key files");
}
