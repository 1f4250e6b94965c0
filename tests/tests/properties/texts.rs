//! Texts that an operator or a payer writes: configurations and key files.

use std::path::Path;
use tallybook_cli::keys;
use tallybook_facilitator::Config;

/// What the corpus has as an access token: shown nowhere.
const SECRET: &str = "hunter2-hunter2-hunter2";
/// Parts the file from the environment.
const ENVIRONMENT: &str = "--- environment\n";

/// A file, and after a line of its own the environment, `NAME=value` a line.
pub(crate) fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, environment) = text.split_once(ENVIRONMENT).unwrap_or((text, ""));
    let pairs = environment.lines().filter_map(|line| line.split_once('='));
    let pairs: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("facilitator.toml");
    std::fs::write(&path, file).unwrap();
    // Loading fetches what stands elsewhere; what a change may have made a program is not run.
    let is_plain = !text.contains("command:");
    let loaded = is_plain.then(|| Config::load(Some(&path), pairs.into_iter()));
    let alone = Config::from_toml(file);
    for read in loaded.iter().chain([&alone]) {
        let said = match read {
            Err(problem) => {
                assert!(!problem.key.is_empty() && !problem.problem.is_empty(), "what is refused is named");
                problem.to_string()
            }
            Ok(config) => {
                format!("{config:?}")
            }
        };
        assert!(!(said.contains(SECRET) && is_only_a_token(text)), "the access token is shown: {said}");
    }
    if let Some(Ok(config)) = &loaded {
        assert!(!config.books.is_empty(), "what was loaded was checked");
        assert!(config.listen.ip().is_loopback() || config.access_token.is_some());
    }
    let again = Config::from_toml(file);
    assert_eq!(alone.as_ref().ok(), again.as_ref().ok(), "the same text is the same configuration");
    assert!(Path::new(&path).exists());
}

/// True while the secret stands where tokens stand; a change may have moved it into a name, which may be shown.
fn is_only_a_token(text: &str) -> bool {
    let holders = text.lines().filter(|line| line.contains(SECRET));
    holders.into_iter().all(|line| {
        let line = line.trim_start_matches("TALLYBOOK_").to_lowercase();
        line.strip_prefix("access_token").is_some_and(|rest| {
            let rest = rest.trim_start().strip_prefix('=').unwrap_or_default();
            rest.matches(SECRET).count() == 1
                && !rest.split(SECRET).next().unwrap_or_default().contains(['=', '\n', '.'])
        })
    })
}

/// 64 bytes, as a JSON array or in base58, of which the second half belongs to the first, and nothing else.
pub(crate) fn key_file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match keys::parse_published(text) {
        Ok(key) => {
            let base58 = || bs58::decode(text.trim()).into_vec().expect("JSON or base58");
            let bytes: Vec<u8> = serde_json::from_str(text).unwrap_or_else(|_| base58());
            assert_eq!(key.to_bytes().as_slice(), bytes);
        }
        Err(problem) => {
            let said = format!("{problem:#}").replace("64", "").replace("base58", "");
            assert!(!said.contains(|c: char| c.is_ascii_digit()), "a digit of the secret is shown: {said}");
        }
    }
}
