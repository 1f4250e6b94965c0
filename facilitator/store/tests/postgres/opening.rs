//! Who is let in, to which database of which server.

use super::*;
use std::path::Path;
use tallybook_store::VoucherStore;

#[test]
fn given_a_database_in_use_when_opened_again_then_it_is_refused_until_its_owner_ends() {
    let (_, url) = database();
    let owner = open(&url).unwrap();
    let failure = refusal(&url);
    assert!(matches!(failure, PostgresFailure::InUse(_)), "{failure}");
    assert!(!failure.to_string().contains("pass"), "{failure}");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(owner);
    });
    // Who waits for it gets it.
    open_within(&url, Duration::from_secs(20)).unwrap();
    ends.join().unwrap();
}

#[test]
fn given_two_that_open_an_empty_database_at_once_then_one_makes_its_tables_and_both_find_them() {
    let (_, url) = database();
    let threads: Vec<_> = (0..4u8)
        .map(|number| {
            let url = url.clone();
            std::thread::spawn(move || {
                let mut store = open_within(&url, Duration::from_secs(60)).unwrap();
                store.commit(&[Change::Channel(record(number, 100))]).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(open(&url).unwrap().load().unwrap().channels.len(), 4);
}

#[test]
fn given_a_store_when_used_within_a_runtime_then_it_answers() {
    let (_, url) = database();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut store = open(&url).unwrap();
        store.commit(&[Change::Channel(record(1, 100))]).unwrap();
        assert_eq!(store.load().unwrap().channels, [record(1, 100)]);
    });
}

#[test]
fn given_a_database_of_something_else_when_opened_then_it_is_left_alone() {
    let (server, url) = database();
    server.sql(&url, "CREATE TABLE songs (title text)");
    assert!(matches!(refusal(&url), PostgresFailure::Foreign(_)));
    assert_eq!(server.sql(&url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tallybook'"), "0");

    // Others' tables in a schema of our name, and a mark that is not ours.
    let url = server.database();
    server.sql(&url, "CREATE SCHEMA tallybook; CREATE TABLE tallybook.channel (title text)");
    assert!(matches!(refusal(&url), PostgresFailure::Foreign(_)));
    let url = server.database();
    drop(open(&url).unwrap());
    server.sql(&url, "UPDATE tallybook.about SET application_id = 1");
    assert!(matches!(refusal(&url), PostgresFailure::Foreign(_)));
}

#[test]
fn given_a_database_of_a_newer_version_when_opened_then_it_is_refused() {
    let (server, url) = database();
    drop(open(&url).unwrap());
    server.sql(&url, "UPDATE tallybook.about SET version = 1000");
    assert!(matches!(refusal(&url), PostgresFailure::TooNew { found: 1_000, .. }));
}

#[test]
fn given_a_server_that_is_set_to_lose_commits_when_opened_then_our_session_is_not() {
    // One of its own: what others do is not synced at once.
    let server = Server::start();
    let url = server.database();
    server.sql(&url, "ALTER ROLE tallybook SET synchronous_commit = off");
    let mut store = open(&url).unwrap();
    store.commit(&[Change::Channel(record(1, 100))]).unwrap();
    let others = "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'";
    assert_eq!(server.sql(&url, others), "1", "for others it is off");
    // What is written is synced before it is answered: nothing waits to be.
    let unsynced = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()";
    assert_eq!(server.sql(&url, unsynced), "0");
    server.sql(&url, "ALTER ROLE tallybook RESET synchronous_commit");
}

#[test]
fn given_a_server_without_sync_when_opened_then_it_is_refused_by_the_name_of_the_setting() {
    let server = Server::start();
    for setting in ["fsync", "full_page_writes"] {
        server.sql("postgres", &format!("ALTER SYSTEM SET {setting} = off"));
        server.sql("postgres", "SELECT pg_reload_conf()");
        let url = server.database();
        // The reload reaches new sessions a moment later.
        let failure = std::iter::repeat_with(|| open(&url).err())
            .inspect(|_| std::thread::sleep(Duration::from_millis(50)))
            .take(100)
            .find_map(|failure| failure)
            .expect("a refusal");
        assert!(matches!(&failure, PostgresFailure::Setting { setting: named, .. } if *named == setting), "{failure}");
        server.sql("postgres", &format!("ALTER SYSTEM RESET {setting}"));
        server.sql("postgres", "SELECT pg_reload_conf()");
        std::thread::sleep(Duration::from_millis(200));
    }
    // A server that is not there yet is waited for, for as long as one says.
    let url = server.database();
    server.stop();
    assert!(matches!(refusal(&url), PostgresFailure::Connect { .. }));
    let opening = std::thread::spawn(move || open_within(&url, Duration::from_secs(60)).map(drop));
    server.restart();
    opening.join().unwrap().unwrap();
}

#[test]
fn given_a_wrong_password_when_opened_then_it_is_refused_at_once_and_not_shown() {
    let (_, url) = database();
    let wrong = url.replace("pass%3Aw%40rd%2F1", "guessed");
    let begun = std::time::Instant::now();
    let failure = open_within(&wrong, Duration::from_secs(60)).map(drop).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(10));
    let shown = format!("{failure} {failure:?}");
    assert!(shown.contains("password authentication failed") && !shown.contains("guessed"), "{shown}");
}

#[test]
fn given_a_socket_when_named_then_it_is_used() {
    let (server, url) = database();
    let name = url.rsplit('/').next().unwrap();
    let folder = server.file("");
    let url = format!("postgres:///{name}?user=tallybook&port={}&host={}", server.port(), folder.display());
    open(&url).unwrap().commit(&[Change::Channel(record(1, 100))]).unwrap();
}

#[test]
fn given_tls_when_the_certificate_is_not_of_a_named_authority_or_not_of_the_host_then_it_is_refused() {
    let (server, url) = database();
    let with = |host: &str, mode: &str, authority: Option<&Path>| {
        let url = url.replace("127.0.0.1", host);
        let authority = authority.map_or_else(String::new, |path| format!("&sslrootcert={}", path.display()));
        format!("{url}?sslmode={mode}{authority}")
    };
    let (ours, another) = (server.file("authority.pem"), server.file("another.pem"));
    for mode in ["require", "verify-full"] {
        let store = open(&with("localhost", mode, Some(&ours))).unwrap();
        let asked = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                     WHERE ssl AND application_name LIKE 'tallybook %' AND datname = current_database()";
        assert_eq!(server.sql(&url, asked), "1");
        drop(store);
        for (host, authority, says) in [
            ("127.0.0.1", Some(ours.as_path()), "not valid for name"),
            ("localhost", Some(another.as_path()), "invalid peer certificate"),
            ("localhost", None, "UnknownIssuer"),
        ] {
            let failure = refusal(&with(host, mode, authority)).to_string();
            assert!(failure.contains(says), "{host} {authority:?}: {failure}");
        }
    }
    let none = refusal(&with("localhost", "require", Some(&server.file("password")))).to_string();
    assert!(none.contains("holds no certificate"), "{none}");
}
