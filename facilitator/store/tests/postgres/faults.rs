//! Nothing that was answered is lost, and nothing is half written, whatever becomes of the server and of the way to it.

use super::proxy::{Fault, Proxy};
use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use tallybook_store::{Stored, VoucherStore};

/// A commit of several kinds, whose parts stand or fall together: two channels and an expense, all of one number.
fn step(number: u64) -> Vec<Change> {
    let mut changes = vec![Change::Channel(record(1, number)), Change::Channel(record(2, number))];
    changes.push(Change::Spent {
        signature: std::array::from_fn(|at| number.to_le_bytes()[at % 8]),
        book: [1; 32],
        expense: Expense::Claims,
        lamports: 1,
        at: 0,
    });
    changes
}

/// The number of the last step that is there, whole.
fn found(store: &mut PostgresStore) -> u64 {
    let Stored { channels, .. } = store.load().unwrap();
    let cumulative: Vec<_> = channels.iter().map(|record| record.voucher.cumulative.get()).collect();
    let last = cumulative.first().copied().unwrap_or(0);
    assert!(cumulative.iter().all(|one| *one == last), "half a commit is there: {cumulative:?}");
    assert_eq!(store.spent(&[1; 32]).unwrap().claims, last, "half a commit is there");
    last
}

#[test]
fn given_a_server_that_is_killed_under_load_when_it_is_back_then_all_that_was_answered_is_there() {
    let server = Server::start();
    let url = server.database();
    let mut last = 0;
    for round in 0..3 {
        let answered = AtomicU64::new(last);
        let failed = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut store = open_within(&url, Duration::from_secs(60)).unwrap();
                for number in last + 1.. {
                    if store.commit(&step(number)).is_err() {
                        assert!(matches!(store.commit(&[]), Err(StoreFailure::Poisoned)));
                        return number;
                    }
                    answered.store(number, Ordering::SeqCst);
                }
                unreachable!()
            });
            while answered.load(Ordering::SeqCst) < last + 20 {
                std::thread::sleep(Duration::from_millis(5));
            }
            server.kill();
            writer.join().unwrap()
        });
        server.restart();
        let (answered, mut store) = (answered.into_inner(), open_within(&url, Duration::from_secs(60)).unwrap());
        last = found(&mut store);
        assert!(
            (answered..=failed).contains(&last),
            "round {round}: answered {answered}, failed {failed}, found {last}"
        );
    }
}

#[test]
fn given_a_connection_that_is_cut_at_a_commit_when_opened_again_then_it_is_whole_or_not_there() {
    let (server, url) = database();
    let name = url.rsplit('/').next().unwrap();
    let proxy = Proxy::before(server.port());
    let through = server.url(name, proxy.port());
    let mut number = 0;
    for (fault, is_there) in [
        (Fault::Unsent, Some(false)),
        (Fault::Unanswered, Some(true)),
        (Fault::Torn, Some(false)),
        (Fault::Unanswered, Some(true)),
    ] {
        // The session that was cut off may not have ended yet.
        let mut store = open_within(&through, Duration::from_secs(60)).unwrap();
        for _ in 0..3 {
            number += 1;
            store.commit(&step(number)).unwrap();
        }
        proxy.fail(fault);
        let failure = store.commit(&step(number + 1)).unwrap_err();
        assert!(matches!(failure, StoreFailure::Postgres(_)), "{failure}");
        assert!(matches!(store.load(), Err(StoreFailure::Poisoned)));
        drop(store);
        let mut store = open_within(&through, Duration::from_secs(60)).unwrap();
        let found = found(&mut store);
        assert!((number..=number + 1).contains(&found), "{fault:?}: {number} answered, {found} found");
        if let Some(is_there) = is_there {
            assert_eq!(found > number, is_there, "{fault:?}");
        }
        number = found;
    }
}

#[test]
fn given_a_session_that_the_server_has_ended_when_another_has_the_database_then_the_first_writes_nothing_more() {
    let (server, url) = database();
    let mut first = open(&url).unwrap();
    first.commit(&step(1)).unwrap();
    server.sql(
        &url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name LIKE 'tallybook %' AND datname = current_database()",
    );
    let mut second = open_within(&url, Duration::from_secs(60)).unwrap();
    second.commit(&step(2)).unwrap();
    let failure = first.commit(&step(3)).unwrap_err();
    assert!(
        matches!(failure, StoreFailure::Postgres(PostgresFailure::Lost(_) | PostgresFailure::Server(_))),
        "{failure}"
    );
    assert_eq!(found(&mut second), 2);
}

#[test]
fn given_a_row_that_another_has_locked_when_written_then_the_server_gives_up_and_nothing_is_written() {
    let (server, url) = database();
    let mut store = open(&url).unwrap();
    store.commit(&step(1)).unwrap();
    let mut psql = server.program("psql", &url);
    let hold = "BEGIN; SELECT FROM tallybook.channel FOR UPDATE; SELECT pg_sleep(14); COMMIT";
    let mut holder = psql.args(["-X", "-q", "-c", hold]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let failure = store.commit(&step(2)).unwrap_err().to_string();
    assert!(failure.contains("lock timeout"), "{failure}");
    drop(store);
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(found(&mut open_within(&url, Duration::from_secs(60)).unwrap()), 1);
}
