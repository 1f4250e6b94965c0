//! Configurations: the example is good, and what is bad is refused by its key before anything is opened.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use house::{StillChain, config, write_keypair};
use std::path::Path;
use std::process::{Command, Output};
use tallybook_facilitator::Config;

const EXAMPLE: &str = include_str!("../facilitator.example.toml");

fn good(folder: &Path) -> String {
    let sponsor = folder.join("sponsor.json");
    write_keypair(&sponsor, 0o600);
    EXAMPLE
        .replace("\"sponsor.json\"", &format!("\"{}\"", sponsor.display()))
        .replace("\"vouchers.db\"", &format!("\"{}\"", folder.join("vouchers.db").display()))
}

fn load(text: &str, folder: &Path, environment: &[(&str, &str)]) -> Result<Config, (String, String)> {
    let file = folder.join("facilitator.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&file), environment).map_err(|problem| (problem.key, problem.problem))
}

#[test]
fn given_the_example_when_loaded_then_it_is_good_and_shows_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let example = load(&good(folder.path()), folder.path(), &[]).unwrap();
    let bare = config(folder.path(), &StillChain::new().book_address);
    let defaults = Config {
        listen: example.listen,
        rpc_url: example.rpc_url.clone(),
        books: example.books.clone(),
        chain: Default::default(),
        limits: Default::default(),
        ..bare
    };
    assert_eq!(example, defaults);
}

#[test]
fn given_a_bad_value_when_loaded_then_its_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = good(folder.path());
    for (from, to, key) in [
        ("listen = \"127.0.0.1:4020\"", "listen = \"somewhere\"", "listen"),
        ("listen = \"127.0.0.1:4020\"", "listen = \"0.0.0.0:4020\"", "access_token"),
        ("# access_token = \"...\"", "access_token = \"short\"", "access_token"),
        ("listen = \"127.0.0.1:4020\"", "", "listen"),
        ("http://127.0.0.1:8899", "ftp://127.0.0.1", "rpc_url"),
        ("[\"9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin\"]", "[]", "books"),
        ("[\"9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin\"]", "[\"0OIl\"]", "books"),
        ("# network = \"solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1\"", "network = \"solana:x\"", "network"),
        ("vouchers.db", "no/such/folder/vouchers.db", "database"),
        ("# address = \"http://10.0.0.1:4020\"", "address = \"http://10.0.0.1:4020\"", "address"),
        ("sponsor.json", "missing.json", "sponsor"),
        (
            "# claim_sponsors = [\"claims-1.json\", \"claims-2.json\"]",
            "claim_sponsors = [\"missing.json\"]",
            "claim_sponsors",
        ),
        ("# claim_sponsors = [", "claim_sponsors = [\"sponsor.json\"] # [", "claim_sponsors"),
        ("rows_per_transaction = 96", "rows_per_transaction = 97", "settlement.rows_per_transaction"),
        ("rows_per_transaction = 96", "rows_per_transaction = 0", "settlement.rows_per_transaction"),
        ("transaction = \"auto\"", "transaction = \"v2\"", "chain.transaction"),
        ("priority_fee = \"recent\"", "priority_fee = \"high\"", "chain.priority_fee"),
        ("compute_price_cap = 50_000", "compute_price_cap = 999", "chain.compute_price_cap"),
        ("compute_price_percentile = 50", "compute_price_percentile = 101", "chain.compute_price_percentile"),
        ("per_call = false", "per_call = \"no\"", "settlement.per_call"),
        ("queue = 4_096", "queue = -1", "limits.queue"),
        ("queue = 4_096", "quue = 4_096", "limits.quue"),
        ("poll_milliseconds = 1_000", "poll_milliseconds = 1", "chain.poll_milliseconds"),
        ("# access_token = \"...\"", "access_token = [\"1234567890123456\", \"short\"]", "access_token"),
        ("# access_token = \"...\"", "access_token = []", "access_token"),
        ("# backup_folder = \"backups\"", "backup_folder = \"no/such/folder\"", "backup_folder"),
        ("anybody_reads = false", "anybody_reads = 1", "operator.anybody_reads"),
        ("session_minutes = 480", "session_minutes = 0", "operator.session_minutes"),
        ("viewers = 32", "viewers = 1_001", "operator.viewers"),
        ("# proxy_header = \"X-Auth-Request-Email\"", "proxy_header = \"X-Auth-Request-Email\"", "operator.proxies"),
        ("# proxy_header = \"X-Auth-Request-Email\"", "proxy_header = \"two words\"", "operator.proxy_header"),
        ("# administrators = [", "administrators = [", "operator.proxy_header"),
        ("[log]", "[logs]", "logs"),
        ("[log]", "[log", "file"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let (found, problem) = load(&bad, folder.path(), &[]).unwrap_err();
        assert_eq!(found, key, "{to}: {problem}");
        assert!(!problem.is_empty());
    }
}

#[test]
fn given_a_sponsor_file_that_others_may_read_when_loaded_then_it_is_refused_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let text = good(folder.path());
    let sponsor = folder.path().join("sponsor.json");
    std::fs::remove_file(&sponsor).unwrap();
    write_keypair(&sponsor, 0o644);
    let (key, problem) = load(&text, folder.path(), &[]).unwrap_err();
    assert_eq!(key, "sponsor");
    assert!(problem.contains("chmod 600"), "{problem}");
    std::fs::remove_file(&sponsor).unwrap();
    write_keypair(&sponsor, 0o600);
    std::fs::write(&sponsor, "[5,5,5]").unwrap();
    let (key, problem) = load(&text, folder.path(), &[]).unwrap_err();
    assert_eq!(key, "sponsor");
    assert!(!problem.contains("5,5"), "{problem}");
}

#[test]
fn given_the_environment_when_loaded_then_it_comes_before_the_file_and_strangers_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = good(folder.path());
    let environment = [
        ("TALLYBOOK_LIMITS__QUEUE", "7"),
        ("TALLYBOOK_RPC_URL", "https://node.example"),
        ("TALLYBOOK_ACCESS_TOKEN", "1234567890123456"),
        ("TALLYBOOK_ARTIFACT", "of another program"),
        ("QUEUE", "8"),
    ];
    let loaded = load(&text, folder.path(), &environment).unwrap();
    assert_eq!((loaded.limits.queue, loaded.rpc_url.as_str()), (7, "https://node.example"));
    assert!(!format!("{loaded:?}").contains("1234567890123456"), "a secret is never printed");
    let two =
        load(&text, folder.path(), &[("TALLYBOOK_ACCESS_TOKEN", "['1234567890123456', '6543210987654321']")]).unwrap();
    assert!(two.access_token.is_some());
    let shared = [
        ("TALLYBOOK_ADMIN_TOKEN", "1234567890123456"),
        ("TALLYBOOK_ACCESS_TOKEN", "['6543210987654321', '1234567890123456']"),
    ];
    assert_eq!(load(&text, folder.path(), &shared).unwrap_err().0, "admin_token", "one token may not be both");
    let number = text.replace("# access_token = \"...\"", "access_token = 1234567890123456");
    let (key, problem) = load(&number, folder.path(), &[]).unwrap_err();
    assert_eq!(key, "access_token");
    assert!(!problem.contains("1234567890123456"), "{problem}");
    let bad = load(&text, folder.path(), &[("TALLYBOOK_LIMITS__QUUE", "7")]).unwrap_err();
    assert_eq!(bad.0, "limits.quue");
}

fn program(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallybook-facilitator"));
    command.args(arguments).env_clear().output().unwrap()
}

#[test]
fn given_the_program_when_started_wrongly_then_it_says_which_key_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facilitator.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, good(folder.path())).unwrap();
    let sound = program(&["--config", path, "--check"]);
    assert!(sound.status.success(), "{sound:?}");
    assert!(!folder.path().join("vouchers.db").exists(), "a check opens nothing");

    std::fs::write(&file, good(folder.path()).replace("per_call = false", "per_call = 3")).unwrap();
    let refused = program(&["--config", path]);
    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("`settlement.per_call`"), "{said}");
    let nothing = program(&[]);
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert!(!nothing.status.success() && said.contains("`listen`"), "{said}");
    let help = String::from_utf8(program(&["--help"]).stdout).unwrap();
    assert!(help.contains("facilitator.example.toml") && help.contains("docs/configuration.md"), "{help}");
    let page = String::from_utf8(program(&["reference"]).stdout).unwrap();
    assert!(page.contains("### `limits.queue`") && page.contains("`TALLYBOOK_LIMITS__QUEUE`"), "{page}");
}

#[tokio::test]
async fn given_a_facilitator_when_a_container_asks_for_its_health_then_the_status_says_it() {
    let house = house::House::new().await;
    let (well, gone) = (house.url(""), "http://127.0.0.1:1".to_owned());
    let ask = async |url: String| tokio::task::spawn_blocking(move || program(&["health", &url])).await.unwrap();
    assert!(ask(well.clone()).await.status.success());
    let silent = ask(gone).await;
    let said = String::from_utf8(silent.stderr).unwrap();
    assert!(!silent.status.success() && said.contains("does not answer"), "{said}");
    house.facilitator.shutdown().await.unwrap();
    assert!(!ask(well).await.status.success());
}
