//! From version to version, and from one store to another.

use super::*;
use std::process::Command;
use tallybook_ledger::{Landed, LastCall, ListingRecord, Outcome, PaymentRecord};
use tallybook_rules::Rejection;
use tallybook_store::{MemoryStore, SqliteStore, Tally, VoucherStore};

/// Something of every kind, in many channels.
fn everything() -> Vec<Change> {
    let last = LastCall { cumulative: Amount::new(90), signature: [4; 64], charge: Some(Amount::new(3)) };
    let landed = Landed { signature: [2; 64], rows: 1, fee_lamports: 5_000, compute_units: 200_000 };
    let whole = Outcome { landed: vec![landed], ..Outcome::default() };
    let refused = Outcome { refused: vec![(2, Rejection::SignatureMismatch)], ..Outcome::default() };
    vec![
        Change::Channel(ChannelRecord { last: Some(last), ..record(1, 100) }),
        Change::Channel(ChannelRecord { charged: Amount::ZERO, leaving_since: 5, ..record(2, 200) }),
        Change::Channel(record(3, u64::MAX >> 1)),
        Change::Over { channel_id: [3; 32] },
        Change::Planned(batch(1, 1)),
        sending(Purpose::Batch(1), 1),
        sending(Purpose::Batch(1), 2),
        Change::Ended { id: 1, outcome: whole, at: 1_010 },
        Change::Planned(batch(2, 2)),
        sending(Purpose::Batch(2), 3),
        Change::Ended { id: 2, outcome: refused, at: 1_011 },
        Change::Planned(batch(3, 1)),
        sending(Purpose::Batch(3), 4),
        sending(Purpose::Deposit([1; 32]), 5),
        sending(Purpose::TopUp([1; 32]), 6),
        sending(Purpose::Refund([2; 32]), 7),
        sending(Purpose::Page([9; 32]), 8),
        Change::Payment(PaymentRecord {
            message_hash: [1; 32],
            attempt: Attempt { signature: [9; 64], last_valid_block_height: 9 },
            granted_to: Some([3; 32]),
        }),
        Change::Listing(ListingRecord { key: [4; 32], text: "{\"n\":\"ä'\"}".to_owned(), paid_at: 9 }),
        Change::Table { page: [9; 32], table: [1; 32] },
        spent(1, 10_000),
        spent(2, 20_000),
    ]
}

fn tally_of_everything() -> Tally {
    let mut store = MemoryStore::default();
    store.commit(&everything()).unwrap();
    Tally::of(&mut store).unwrap()
}

/// What each released version left, as `pg_dump` wrote it down.
const RELEASED: [&str; 2] = [include_str!("version_1.sql"), include_str!("version_2.sql")];

#[test]
fn given_a_database_of_each_released_version_when_opened_then_it_moves_forward_with_all_its_rows() {
    for (version, dump) in (1..).zip(RELEASED) {
        let (server, url) = database();
        load(server, &url, dump);
        assert_eq!(server.sql(&url, "SELECT version FROM tallybook.about"), version.to_string());
        for _ in 0..2 {
            let mut store = open(&url).unwrap();
            assert_eq!(Tally::of(&mut store).unwrap(), tally_of_everything(), "version {version}");
        }
        let mut store = open(&url).unwrap();
        assert_eq!(store.spent(&[1; 32]).unwrap().deposits, 30_000);
        assert!(store.commit(&[Change::Channel(record(1, 99))]).is_err(), "what was accepted is not taken back");
    }
}

/// A schema that changes gets a new number, and a dump of its own.
#[test]
fn given_the_newest_version_when_dumped_then_it_is_as_it_was_released() {
    let (server, url) = database();
    let mut store = open(&url).unwrap();
    store.commit(&everything()).unwrap();
    drop(store);
    if let Some(path) = std::env::var_os("TALLYBOOK_WRITE_DUMP") {
        return std::fs::write(path, dump(server, &url)).unwrap();
    }
    let released = server.database();
    load(server, &released, RELEASED.last().unwrap());
    assert_eq!(dump(server, &url), dump(server, &released));
}

/// What a database holds, without what names the server and its settings.
fn dump(server: &Server, url: &str) -> String {
    let mut dump = server.program("pg_dump", url);
    let dump = dump.args(["--no-owner", "--inserts", "--schema", "tallybook"]).output().unwrap();
    assert!(dump.status.success());
    let is_kept = |line: &&str| {
        let dropped = ["--", "SET ", "SELECT pg_catalog.set_config", "\\"];
        !line.trim().is_empty() && !dropped.iter().any(|begin| line.starts_with(begin))
    };
    String::from_utf8(dump.stdout).unwrap().lines().filter(is_kept).map(|line| format!("{line}\n")).collect()
}

fn load(server: &Server, url: &str, dump: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), dump).unwrap();
    let mut psql: Command = server.program("psql", url);
    let ran = psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f"]).arg(file.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn given_a_file_of_vouchers_when_imported_then_all_of_it_is_there_and_nothing_is_taken_in_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = SqliteStore::open(&folder.path().join("vouchers.db")).unwrap();
    file.commit(&everything()).unwrap();
    // More than is written at a time.
    let many: Vec<_> = (0..9_000u16)
        .map(|number| {
            let mut record = record(200, 5);
            record.voucher.channel_id[..2].copy_from_slice(&number.to_be_bytes());
            Change::Channel(record)
        })
        .collect();
    file.commit(&many).unwrap();

    let (_, url) = database();
    let tally = open(&url).unwrap().import(&mut file).unwrap();
    assert_eq!((tally.channels, tally.batches, tally.attempts), (9_003, 3, 4));
    assert_eq!(tally, Tally::of(&mut file).unwrap());
    let mut store = open(&url).unwrap();
    assert_eq!(Tally::of(&mut store).unwrap(), tally);
    assert_eq!(store.load().unwrap(), file.load().unwrap());
    assert_eq!(store.spent(&[1; 32]).unwrap(), file.spent(&[1; 32]).unwrap());
    let again = store.import(&mut file).unwrap_err();
    assert!(matches!(again, StoreFailure::Postgres(PostgresFailure::NotEmpty(_))), "{again}");
    assert!(matches!(store.load(), Err(StoreFailure::Poisoned)));
}

#[test]
fn given_a_source_that_fails_on_the_way_when_imported_then_nothing_was_taken_in() {
    let (server, url) = database();
    let mut file = MemoryStore::default();
    file.commit(&everything()).unwrap();
    drop(open(&url).unwrap());
    // The server refuses one of the last rows.
    server.sql(&url, "ALTER TABLE tallybook.spent ADD CHECK (lamports < 15000)");
    assert!(open(&url).unwrap().import(&mut file).is_err());
    assert_eq!(Tally::of(&mut open(&url).unwrap()).unwrap(), Tally::default());

    // What does not come back as it was given is not kept.
    server.sql(&url, "ALTER TABLE tallybook.spent DROP CONSTRAINT spent_lamports_check1");
    server.sql(
        &url,
        "CREATE FUNCTION tallybook.lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER lose BEFORE INSERT ON tallybook.lookup_table FOR EACH ROW EXECUTE FUNCTION tallybook.lose()",
    );
    let failure = open(&url).unwrap().import(&mut file).unwrap_err();
    assert!(matches!(failure, StoreFailure::Postgres(PostgresFailure::Unequal(_))), "{failure}");
    assert_eq!(Tally::of(&mut open(&url).unwrap()).unwrap(), Tally::default());
}
