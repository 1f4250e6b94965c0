//! Vouchers in PostgreSQL: one line of configuration, and the same promises.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;
#[path = "../../store/tests/server/mod.rs"]
mod server;

use house::{House, StillChain, config, write_keypair};
use serde_json::json;
use server::Server;
use std::process::Command;
use tallybook_facilitator::{Config, Database, Facilitator};
use tallybook_rules::Amount;
use tallybook_store::VoucherStore;

async fn open(url: &str) -> Box<dyn VoucherStore> {
    let database: Database = url.parse().unwrap();
    tokio::task::spawn_blocking(move || database.open()).await.unwrap().unwrap()
}

#[tokio::test]
async fn given_a_server_that_dies_under_a_facilitator_when_both_are_back_then_every_answered_call_is_there_and_none_else()
 {
    let server = Server::start();
    let url = server.database();
    let house = House::over(|_| {}, open(&url).await, tempfile::tempdir().unwrap()).await;
    for call in 1..=20 {
        house.pay(0, call * 10, 10).await;
    }
    let under_way = house.call(0, 210, 10);
    house.post("/verify", &under_way).await;
    server.kill();
    let (status, refusal) = house.post("/settle", &under_way).await;
    assert_eq!((status, &refusal["error"]), (503, &json!("store_unavailable")), "{refusal}");
    let House { facilitator, config, chain, http, offer, folder } = house;
    let ended = facilitator.stopped().await.unwrap_err().to_string();
    assert!(ended.contains("connection") && !ended.contains("pass"), "{ended}");

    server.restart();
    let facilitator = Facilitator::start_with(config.clone(), chain.clone(), open(&url).await).await.unwrap();
    let house = House { facilitator, config, chain, http, offer, folder };
    assert_eq!(house.charged(0).await, "200");
    house.pay(0, 210, 10).await;
    house.facilitator.shutdown().await.unwrap();
    assert_eq!(open(&url).await.load().unwrap().channels[0].charged, Amount::new(210));
}

#[test]
fn given_a_configuration_that_names_a_database_when_the_program_is_started_then_no_password_is_told() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let sponsor = folder.path().join("sponsor.json");
    write_keypair(&sponsor, 0o600);
    let url = server.database();
    let start = |database: &str, variable: &str| {
        let text = format!(
            "listen = '127.0.0.1:0'\ndatabase = '{database}'\nrpc_url = 'http://127.0.0.1:1'\nsponsor = '{}'\n\
             books = ['9xQeWvG816bUx9EPjHmaT23yvVM2ZWbrrpZb9PusVFin']",
            sponsor.display()
        );
        let file = folder.path().join("facilitator.toml");
        std::fs::write(&file, text).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_tallybook-facilitator"));
        program.args(["--config", file.to_str().unwrap()]).env_clear().env("DATABASE", variable);
        let ended = program.output().unwrap();
        assert!(!ended.status.success());
        let told = String::from_utf8(ended.stderr).unwrap() + &String::from_utf8(ended.stdout).unwrap();
        assert!(!told.contains("pass%3A") && !told.contains(server::PASSWORD) && !told.contains("guessed"), "{told}");
        told
    };
    // It opens the database, and only then finds no chain.
    let opened = format!("postgres://tallybook@127.0.0.1:{}/", server.port());
    for (database, variable) in [(url.as_str(), ""), ("env:DATABASE", url.as_str())] {
        let told = start(database, variable);
        assert!(told.contains(&opened) && told.contains("the chain at start"), "{told}");
    }
    let wrong = url.replace("pass%3Aw%40rd%2F1", "guessed");
    assert!(start(&wrong, "").contains("password authentication failed"));
    assert!(start("env:DATABASE", &wrong).contains("password authentication failed"));
    for (database, variable) in [
        ("env:DATABASE", "env:DATABASE"),
        ("env:NONE", ""),
        ("mysql://me:guessed@host/db", ""),
        ("env:DATABASE", "postgres://me:guessed@host"),
    ] {
        assert!(start(database, variable).contains("config key `database`"), "{database} {variable}");
    }
}

#[test]
fn given_a_path_when_it_is_the_database_then_it_is_a_file_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let config: Config = config(folder.path(), &StillChain::new().book_address);
    let path = config.database.path().unwrap().to_owned();
    drop(config.database.open().unwrap());
    assert!(path.is_file());
}
