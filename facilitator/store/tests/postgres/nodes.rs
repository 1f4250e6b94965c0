//! Several at work on one database, each on some books.

use super::*;
use std::collections::BTreeSet;
use std::thread::JoinHandle;
use tallybook_store::{CommonStore, MAX_NODES, Tally, VoucherStore, lock_of};
use tokio::sync::watch;

type Hears = watch::Receiver<Option<String>>;

/// One that takes its place on a database, and what it is told meanwhile.
fn come(url: &str, address: &'static str) -> (JoinHandle<Result<PostgresStore, StoreFailure>>, Hears) {
    let (tell, hears) = watch::channel(None);
    let url = url.parse().unwrap();
    (std::thread::spawn(move || PostgresStore::among(&url, address, tell)), hears)
}

fn came(url: &str, address: &'static str) -> PostgresStore {
    let (coming, _hears) = come(url, address);
    coming.join().unwrap().unwrap()
}

fn common(store: &mut PostgresStore) -> &mut dyn CommonStore {
    store.common().unwrap()
}

/// Waits until it is so, as the server sees it.
fn soon(mut is_so: impl FnMut() -> bool) -> bool {
    let tries = std::iter::repeat_with(&mut is_so).take(300);
    tries.inspect(|is_so| std::thread::sleep(Duration::from_millis(if *is_so { 0 } else { 50 }))).any(|is_so| is_so)
}

#[test]
fn given_nodes_on_a_database_when_they_hold_books_then_each_book_has_one_and_is_free_when_that_one_is_gone() {
    let (_, url) = database();
    let (mut one, mut two) = (came(&url, "http://one:1"), came(&url, "http://two:2"));
    assert_eq!((common(&mut one).number(), common(&mut two).number()), (0, 1));
    assert!(common(&mut one).hold(&[1; 32]).unwrap() && common(&mut two).hold(&[2; 32]).unwrap());
    assert!(!common(&mut two).hold(&[1; 32]).unwrap() && !common(&mut one).hold(&[2; 32]).unwrap());
    let nodes = common(&mut two).at_work().unwrap();
    let said = |at: usize| (nodes[at].address.as_str(), nodes[at].number, nodes[at].is_this_one);
    assert_eq!((nodes.len(), said(0), said(1)), (2, ("http://one:1", 0, false), ("http://two:2", 1, true)));
    assert!(nodes[0].holds(&[1; 32]) && !nodes[0].holds(&[2; 32]) && nodes[1].holds(&[2; 32]));

    // Given away, with what was written of it.
    one.commit(&[Change::Channel(record(1, 100))]).unwrap();
    common(&mut one).let_go(&[1; 32]).unwrap();
    assert!(common(&mut two).hold(&[1; 32]).unwrap());
    assert_eq!(two.load().unwrap().channels, [record(1, 100)]);
    assert!(!common(&mut one).hold(&[1; 32]).unwrap());

    // One that ends is not counted any more, and its books and its number are free, however it ends.
    common(&mut two).leave().unwrap();
    assert_eq!(common(&mut one).at_work().unwrap().len(), 1);
    drop(two);
    assert!(soon(|| common(&mut one).hold(&[1; 32]).unwrap()));
    assert_eq!(common(&mut came(&url, "http://three:3")).number(), 1);
}

#[test]
fn given_a_node_whose_session_is_ended_when_it_writes_then_it_cannot_and_its_books_are_free() {
    let (server, url) = database();
    let (mut one, mut two) = (came(&url, "http://one:1"), came(&url, "http://two:2"));
    assert!(common(&mut one).hold(&[1; 32]).unwrap());
    server.sql(&url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%one:1'");
    assert!(soon(|| common(&mut two).hold(&[1; 32]).unwrap()));
    assert!(one.commit(&[Change::Channel(record(1, 100))]).is_err());
    assert!(matches!(common(&mut one).hold(&[3; 32]), Err(StoreFailure::Poisoned)));
    assert_eq!(two.load().unwrap().channels, []);
}

#[test]
fn given_nodes_at_work_when_somebody_wants_the_database_alone_then_not_before_they_end_nor_they_before_that_one() {
    let (_, url) = database();
    let one = came(&url, "http://one:1");
    assert!(matches!(refusal(&url), PostgresFailure::InUse(_)));
    drop(one);
    let alone = open_within(&url, Duration::from_secs(20)).unwrap();
    let (two, hears) = come(&url, "http://two:2");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!two.is_finished() && hears.borrow().is_none(), "one alone says nowhere where it answers");
    drop(alone);
    let mut two = two.join().unwrap().unwrap();
    assert_eq!(Tally::of(&mut two).unwrap(), Tally::default());
    assert!(open_within(&url, Duration::ZERO).is_err());
}

#[test]
fn given_nodes_of_an_older_version_when_a_newer_one_comes_then_it_waits_for_them_and_hears_where_one_answers() {
    let (server, url) = database();
    let old = came(&url, "http://old:1");
    // As it was before nodes.
    server.sql(&url, "DROP INDEX tallybook.channel_of_page; UPDATE tallybook.about SET version = 1");
    let (new, hears) = come(&url, "http://new:2");
    assert!(soon(|| hears.borrow().as_deref() == Some("http://old:1")) && !new.is_finished());
    drop(old);
    let mut new = new.join().unwrap().unwrap();
    assert_eq!(server.sql(&url, "SELECT version FROM tallybook.about"), "2");
    assert!(common(&mut new).hold(&[1; 32]).unwrap());
    // One that is older than the database does not wait for anything.
    server.sql(&url, "UPDATE tallybook.about SET version = 1000");
    let failure = come(&url, "http://older:3").0.join().unwrap().unwrap_err();
    assert!(matches!(failure, StoreFailure::Postgres(PostgresFailure::TooNew { found: 1_000, .. })), "{failure}");
}

#[test]
fn given_somebody_who_waits_when_nobody_hears_it_any_more_then_it_waits_no_longer() {
    let (_, url) = database();
    let alone = open(&url).unwrap();
    let (waiting, hears) = come(&url, "http://one:1");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.is_finished());
    drop(hears);
    let failure = waiting.join().unwrap().unwrap_err();
    assert!(matches!(failure, StoreFailure::Postgres(PostgresFailure::InUse(_))), "{failure}");
    drop(alone);
    let too_long = format!("http://{}", "x".repeat(PostgresStore::MAX_ADDRESS_BYTES));
    let (tell, _) = watch::channel(None);
    let failure = PostgresStore::among(&url.parse().unwrap(), &too_long, tell).unwrap_err();
    assert!(matches!(failure, StoreFailure::Postgres(PostgresFailure::Address(_))), "{failure}");
}

#[test]
fn given_a_server_that_restarts_while_somebody_waits_when_it_is_back_then_the_wait_goes_on() {
    let server = Server::start();
    let url = server.database();
    let owner = open(&url).unwrap();
    let (waiting, _hears) = come(&url, "http://two:2");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waiting.is_finished());
    server.kill();
    std::thread::sleep(Duration::from_millis(300));
    server.restart();
    // The first one has lost its session, whatever it thinks.
    waiting.join().unwrap().unwrap().commit(&[Change::Channel(record(1, 100))]).unwrap();
    drop(owner);
}

#[test]
fn given_as_many_nodes_as_can_be_when_another_comes_then_it_is_refused_by_name() {
    let (server, url) = database();
    let mut one = came(&url, "http://one:1");
    // All other numbers, taken by one session of somebody else's: a shell that holds them.
    let taken = (1..MAX_NODES).map(|number| format!("pg_advisory_lock(1413641843, {})", 1_024 + number));
    let taken = taken.collect::<Vec<_>>().join(", ");
    let mut holding = server.program("psql", &url);
    holding.args(["-q", "-c", &format!("SELECT {taken}, pg_sleep(60)")]).stdout(std::process::Stdio::null());
    let mut holding = holding.spawn().unwrap();
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1413641843 AND objid > 1024
                AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert!(soon(|| server.sql(&url, held) == "63"));
    let failure = come(&url, "http://two:2").0.join().unwrap().unwrap_err();
    assert!(matches!(failure, StoreFailure::Postgres(PostgresFailure::Crowded { most: MAX_NODES, .. })), "{failure}");
    assert_eq!(common(&mut one).at_work().unwrap().len(), 1);
    holding.kill().unwrap();
    holding.wait().unwrap();
    assert_eq!([1u8, 2].map(|book| lock_of(&[book; 32])).into_iter().collect::<BTreeSet<_>>().len(), 2);
}
