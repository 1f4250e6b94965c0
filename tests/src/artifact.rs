//! What the released program was built from, as one hash: the test that guards `programs/tallybook/artifact` and the
//! script that builds it both ask here.

use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The package whose artifact this is about.
const PROGRAM: &str = "tallybook-program";
/// Files and folders that go into the program, from the root of the repository.
const SOURCES: [&str; 4] =
    ["programs/tallybook/Cargo.toml", "programs/tallybook/src", "protocol/rules/Cargo.toml", "protocol/rules/src"];

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// SHA-256, in hex, over everything that the program is made of: path and content of each of its sources in order of
/// their paths, what the workspace says of its dependencies and of the release profile, and the locked versions of its
/// dependencies and of theirs. What the rest of the workspace depends on is left out.
pub fn source_hash(root: &Path) -> io::Result<String> {
    let mut files = BTreeMap::new();
    for source in SOURCES {
        collect(root, Path::new(source), &mut files)?;
    }
    let manifests: String =
        files.iter().filter(|(path, _)| path.ends_with("Cargo.toml")).map(|(_, text)| text.as_str()).collect();
    let workspace = fs::read_to_string(root.join("Cargo.toml"))?;
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    files.insert("workspace".into(), inherited(&workspace, &manifests));
    files.insert("locked".into(), locked(&lock, PROGRAM));

    let mut hash = Sha256::new();
    for (path, content) in &files {
        // Lengths keep one path and content from being read as another.
        for part in [path, content] {
            hash.update(part.len().to_string());
            hash.update([0]);
            hash.update(part);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads a file, or all files of a folder, under their paths with forward slashes.
fn collect(root: &Path, path: &Path, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    let full = root.join(path);
    if full.is_dir() {
        for entry in fs::read_dir(full)? {
            collect(root, &path.join(entry?.file_name()), files)?;
        }
        return Ok(());
    }
    let name: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    files.insert(name.join("/"), fs::read_to_string(full)?);
    Ok(())
}

/// The lines of the workspace's manifest that the program inherits: dependencies that its manifests name, and the profile
/// it is built with.
fn inherited(workspace: &str, manifests: &str) -> String {
    let is_named = |name: &str| manifests.lines().any(|line| line.split(['.', ' ']).next() == Some(name));
    let (mut section, mut kept) = ("", Vec::new());
    for line in workspace.lines() {
        if line.starts_with('[') {
            section = line;
        }
        let counts = match section {
            "[workspace.package]" => true,
            "[workspace.dependencies]" => line.split_once(" =").is_some_and(|(name, _)| is_named(name)),
            // What it says of single packages too.
            _ => section.starts_with("[profile.release"),
        };
        if counts {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// The entries of the lock file that `package` depends on, itself included.
fn locked(lock: &str, package: &str) -> String {
    let entries: Vec<&str> = lock.split("[[package]]\n").skip(1).collect();
    let mut wanted = vec![package.to_owned()];
    let mut found = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        for entry in entries.iter().filter(|entry| is_named(entry, &name)) {
            if found.insert(*entry) {
                let dependencies = entry.split_once("dependencies = [").map_or("", |(_, rest)| rest);
                wanted.extend(dependencies.split('"').skip(1).step_by(2).map(str::to_owned));
            }
        }
    }
    found.into_iter().collect()
}

/// Whether the entry is that of a dependency, written as `name` or as `name version`.
fn is_named(entry: &str, dependency: &str) -> bool {
    let field = |key: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim_matches(['=', ' ']).strip_prefix('"')?.strip_suffix('"'))
    };
    let mut words = dependency.split(' ');
    field("name") == words.next() && words.next().is_none_or(|version| field("version") == Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
[[package]]
name = "a"
version = "1.0.0"
dependencies = [
 "b 2.0.0",
]

[[package]]
name = "b"
version = "1.0.0"

[[package]]
name = "b"
version = "2.0.0"
dependencies = [
 "c",
]

[[package]]
name = "c"
version = "0.1.0"

[[package]]
name = "stranger"
version = "0.1.0"
"#;

    #[test]
    fn given_a_lock_file_when_asked_for_one_package_then_only_what_it_needs_counts() {
        let locked = locked(LOCK, "a");
        let versions: Vec<_> = locked.lines().filter(|line| line.starts_with("version")).collect();
        assert_eq!(versions.len(), 3, "{locked}");
        assert!(!locked.contains("stranger") && locked.contains("\"2.0.0\"") && locked.contains("name = \"c\""));
    }

    #[test]
    fn given_a_manifest_when_asked_what_is_inherited_then_only_named_dependencies_and_the_profile_count() {
        let workspace =
            "[workspace.dependencies]\na = \"1\"\nab = \"2\"\n[profile.dev]\nx = 1\n[profile.release]\nlto = 2\n";
        let inherited = inherited(workspace, "[dependencies]\na.workspace = true\n");
        assert_eq!(inherited, "a = \"1\"\n[profile.release]\nlto = 2");
    }
}
