//! The house keeps itself in order: which crate may know which, how long a file may get, which words are not used.

#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `a -> b` means a depends on b. Anything not named here is an arrow that the architecture does not have.
const ARROWS: &[(&str, &[&str])] = &[
    ("rules", &[]),
    ("wire", &["rules"]),
    ("chain", &["rules"]),
    ("program", &["rules"]),
    ("ledger", &["rules"]),
    ("store", &["ledger", "rules"]),
    ("sequencer", &["ledger", "store", "wire", "rules"]),
    ("settler", &["ledger", "chain", "rules"]),
    ("exact", &["chain", "wire", "rules"]),
    ("catalogue", &["ledger", "wire", "rules"]),
    ("keys", &[]),
    (
        "facilitator",
        &["ledger", "store", "sequencer", "settler", "exact", "catalogue", "keys", "wire", "chain", "rules"],
    ),
    ("rpc", &["wire", "chain", "rules"]),
    ("agent", &["rpc", "wire", "chain", "rules"]),
    ("paywall", &["wire", "chain", "rpc", "ledger", "store", "sequencer", "rules"]),
    ("mcp", &["agent", "paywall", "wire", "rules"]),
    ("x402", &["agent", "paywall", "wire", "rules"]),
    (
        "cli",
        &[
            "agent",
            "paywall",
            "mcp",
            "facilitator",
            "ledger",
            "store",
            "settler",
            "keys",
            "rpc",
            "wire",
            "chain",
            "rules",
        ],
    ),
];
/// Workspaces whose crates the architecture holds: the second has one crate, which pulls in what nobody else here needs.
const WORKSPACES: &[&str] = &["Cargo.toml", "clients/x402/Cargo.toml"];
/// Crates that hold no product and may use any other.
const FREE: &[&str] = &["tests", "benches"];

/// Lines of product code in one file. Longer files stand in [`LONGER`], and may only shrink.
const MAX_FILE_LINES: usize = 400;
const LONGER: &[(&str, usize)] = &[];

/// Written by people for people: none of these says anything.
const WORDS: &[&str] = &["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("];
/// Names that hide what a thing is.
const NAMES: &[&str] = &["Manager", "Helper", "Util", "Impl"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file that git tracks or would track, as a path from the root.
fn files(suffixes: &[&str]) -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files of the repository");
    assert!(listed.status.success(), "git ls-files failed: run the tests in a clone");
    String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .filter(|path| suffixes.iter().any(|suffix| path.ends_with(suffix)) && root().join(path).is_file())
        .map(str::to_owned)
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The lines before the unit tests, which stand last in a file.
fn product_lines(text: &str) -> usize {
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count()
}

#[test]
fn given_the_workspace_when_its_crates_are_read_then_no_arrow_points_the_wrong_way() {
    let packages = WORKSPACES.iter().flat_map(|manifest| {
        let metadata = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--no-deps", "--offline", "--manifest-path", manifest])
            .current_dir(root())
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
        metadata["packages"].as_array().unwrap().clone()
    });
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for package in packages {
        let name =
            package["name"].as_str().unwrap().strip_prefix("tallybook-").expect("packages are named tallybook-…");
        seen.insert(name.to_owned());
        if FREE.contains(&name) {
            continue;
        }
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is no crate of the architecture"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let own = dependency["name"].as_str().unwrap().strip_prefix("tallybook-");
            let for_tests = dependency["kind"].as_str() == Some("dev");
            if let Some(own) = own.filter(|own| !for_tests && *own != name) {
                assert!(may.contains(&own), "{name} -> {own} is not an arrow of the architecture");
            }
        }
    }
    assert!(ARROWS.iter().all(|(name, _)| seen.contains(*name)), "a crate of the architecture is missing");
}

#[test]
fn given_the_sources_when_measured_then_no_file_grows_beyond_its_bound() {
    let ratchet: BTreeMap<&str, usize> = LONGER.iter().copied().collect();
    let mut faults = Vec::new();
    for path in files(&[".rs", ".ts"]) {
        if path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") {
            continue;
        }
        let lines = product_lines(&read(&path));
        match ratchet.get(path.as_str()) {
            Some(last) if lines != *last && lines <= MAX_FILE_LINES => {
                faults.push(format!("{path} fits now: take it out of LONGER"));
            }
            Some(last) if lines != *last => {
                faults.push(format!("{path}: {lines} lines, LONGER says {last}; shrink it"))
            }
            None if lines > MAX_FILE_LINES => faults.push(format!("{path}: {lines} lines, at most {MAX_FILE_LINES}")),
            Some(_) | None => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn given_the_sources_when_read_then_nothing_is_left_unfinished_or_badly_named() {
    let mut faults = Vec::new();
    for path in files(&[".rs", ".ts", ".md", ".toml", ".sql", ".sh"]) {
        if path == "tests/tests/tidy.rs" {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let said = |words: &[&str]| words.iter().any(|word| line.contains(word));
            let names = ["struct ", "enum ", "trait ", "type "].iter().filter_map(|kind| line.trim().split_once(kind));
            let badly = names.map(|(_, rest)| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or(""));
            if said(WORDS) || badly.into_iter().any(|name| NAMES.iter().any(|bad| name.ends_with(bad))) {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn given_every_document_when_its_links_are_followed_then_they_lead_to_a_file() {
    let mut faults = Vec::new();
    for path in files(&[".md"]) {
        let folder = root().join(&path).parent().unwrap().to_owned();
        for target in read(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                faults.push(format!("{path} links to {target}, which is not there"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A failure of the checklist in SECURITY.md: its number, and what is said to hold it.
fn checklist() -> Vec<(usize, String)> {
    let text = read("SECURITY.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split(" | ");
        let number = cells.next()?.trim().parse().ok()?;
        Some((number, cells.nth(1)?.to_owned()))
    });
    rows.collect()
}

#[test]
fn given_the_checklist_of_failures_when_read_then_each_is_held_by_tests_that_exist() {
    let rows = checklist();
    let numbers: Vec<usize> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=36).collect::<Vec<_>>(), "every failure stands once, in order");
    let mut faults = Vec::new();
    for (number, held_by) in rows {
        let named: Vec<_> = held_by.split('`').filter_map(|word| word.split_once("::")).collect();
        if named.is_empty() {
            faults.push(format!("failure {number} is held by nothing"));
        }
        for (path, name) in named {
            let declared = format!("fn {name}(");
            if !root().join(path).is_file() || !read(path).contains(&declared) {
                faults.push(format!("failure {number} is held by {path}::{name}, which is not there"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
