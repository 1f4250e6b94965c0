//! One suite for every store, and what only a file can do.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

#[path = "server/mod.rs"]
mod server;

use server::Server;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tallybook_ledger::{
    Attempt, Batch, BatchRecord, Change, ChannelRecord, ClaimRow, Expense, Landed, LastCall, ListingRecord, Outcome,
    PaymentRecord, Place, Purpose, State,
};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection};
use tallybook_store::{
    FaultyStore, KeptChannel, MemoryStore, PostgresStore, PostgresUrl, Spending, SqliteStore, StoreFailure, Stored,
    Tally, VoucherStore,
};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

fn record(channel: u8, cumulative: u64) -> ChannelRecord {
    ChannelRecord {
        place: Place { page: [9; 32], slot: channel, generation: u32::MAX },
        payer: [channel; 32],
        signer: key().verifying_key().to_bytes(),
        voucher: SignedVoucher::sign(&key(), [channel; 32], Amount::new(cumulative)),
        charged: Amount::new(cumulative),
        last: Some(LastCall {
            cumulative: Amount::new(cumulative),
            signature: [channel; 64],
            charge: Some(Amount::new(cumulative / 2)),
        }),
        unsettled_since: 77,
        leaving_since: 0,
    }
}

fn batch(id: u64, channels: &[u8]) -> BatchRecord {
    let row = |channel: &u8| ClaimRow {
        slot: *channel,
        voucher: record(*channel, 100).voucher.verify(key().verifying_key().as_bytes()).unwrap(),
        amount: Amount::new(90),
        settled: Amount::new(40),
        deposit: Amount::new(1_000),
    };
    let batch = Batch::new([9; 32], channels.iter().map(row).collect()).unwrap();
    BatchRecord::planned(id, &batch, 1_000).unwrap()
}

fn attempt(number: u8) -> Attempt {
    Attempt { signature: [number; 64], last_valid_block_height: 10 + u64::from(number) }
}

fn sending(purpose: Purpose, number: u8) -> Change {
    Change::Sending { purpose, attempt: attempt(number) }
}

/// The store, and how to come back to the same rows after the process has ended.
trait Disk {
    type Store: VoucherStore;
    fn store(&mut self) -> &mut Self::Store;
    fn reopen(&mut self);
}

struct Memory(MemoryStore);
impl Disk for Memory {
    type Store = MemoryStore;
    fn store(&mut self) -> &mut MemoryStore {
        &mut self.0
    }
    fn reopen(&mut self) {
        self.0 = self.0.clone();
    }
}

struct Faulty(FaultyStore<MemoryStore>);
impl Disk for Faulty {
    type Store = FaultyStore<MemoryStore>;
    fn store(&mut self) -> &mut Self::Store {
        &mut self.0
    }
    fn reopen(&mut self) {
        let sound = FaultyStore::new(MemoryStore::default()).0;
        self.0 = FaultyStore::new(std::mem::replace(&mut self.0, sound).into_inner()).0;
    }
}

struct File {
    store: Option<SqliteStore>,
    folder: tempfile::TempDir,
}
impl File {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Some(SqliteStore::open(&folder.path().join("vouchers.db")).unwrap());
        Self { store, folder }
    }
}
impl Disk for File {
    type Store = SqliteStore;
    fn store(&mut self) -> &mut SqliteStore {
        self.store.as_mut().unwrap()
    }
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(SqliteStore::open(&self.folder.path().join("vouchers.db")).unwrap());
    }
}

struct Database {
    store: Option<PostgresStore>,
    url: PostgresUrl,
}
impl Database {
    fn new() -> Self {
        let url = Server::shared().database().parse().unwrap();
        Self { store: Some(PostgresStore::open(&url, Duration::ZERO).unwrap()), url }
    }
}
impl Disk for Database {
    type Store = PostgresStore;
    fn store(&mut self) -> &mut PostgresStore {
        self.store.as_mut().unwrap()
    }
    fn reopen(&mut self) {
        self.store = None;
        self.store = Some(PostgresStore::open(&self.url, Duration::ZERO).unwrap());
    }
}

/// Makes a test of each law for each store.
macro_rules! conformance {
    ($($law:ident),+ $(,)?) => {
        mod memory { $(#[test] fn $law() { super::$law(super::Memory(Default::default())); })+ }
        mod faulty { $(#[test] fn $law() { super::$law(super::Faulty(super::FaultyStore::new(Default::default()).0)); })+ }
        mod sqlite { $(#[test] fn $law() { super::$law(super::File::new()); })+ }
        mod postgres { $(#[test] fn $law() { super::$law(super::Database::new()); })+ }
    };
}

conformance! {
    a_new_store_is_empty,
    the_last_record_of_a_channel_is_the_truth,
    a_channel_that_is_over_is_kept_and_not_loaded,
    a_commit_is_all_or_nothing,
    a_voucher_is_never_taken_back,
    a_batch_is_kept_with_all_that_happened_to_it,
    batches_are_listed_newest_first_in_pages,
    attempts_of_channels_and_pages_and_tables_are_kept,
    a_payment_is_kept_until_it_is_over_and_granted_once,
    a_listing_is_kept_as_it_was_written_last_until_it_is_taken_out,
    a_call_below_its_ceiling_is_kept_as_the_last_one,
    what_was_spent_is_counted_once_for_each_transaction,
    a_commit_says_what_its_changes_say_one_after_the_other,
    everything_can_be_read_row_by_row_and_made_again,
    what_is_of_some_pages_is_loaded_by_itself,
}

fn what_is_of_some_pages_is_loaded_by_itself(mut disk: impl Disk) {
    let on = |page: u8, channel: u8| ChannelRecord {
        place: Place { page: [page; 32], ..record(channel, 100).place },
        ..record(channel, 100)
    };
    let elsewhere = BatchRecord { page: [8; 32], ..batch(2, &[4]) };
    let payment = PaymentRecord { message_hash: [1; 32], attempt: attempt(1), granted_to: None };
    let listing = ListingRecord { key: [2; 32], text: "{}".to_owned(), paid_at: 5 };
    let table = |page: u8| Change::Table { page: [page; 32], table: [page; 32] };
    let over = Change::Over { channel_id: [5; 32] };
    let channels = [on(9, 1), on(8, 2), on(9, 3), on(7, 4), on(9, 5)].map(Change::Channel);
    disk.store().commit(&channels).unwrap();
    disk.store().commit(&[over, Change::Planned(batch(1, &[3])), sending(Purpose::Batch(1), 1)]).unwrap();
    disk.store().commit(&[Change::Planned(elsewhere), Change::Planned(batch(3, &[1]))]).unwrap();
    let ended = Change::Ended { id: 3, outcome: Outcome::default(), at: 1_010 };
    disk.store().commit(&[ended, table(9), table(8)]).unwrap();
    disk.store().commit(&[Change::Payment(payment), Change::Listing(listing.clone())]).unwrap();
    disk.reopen();
    let mut load = |pages: &[[u8; 32]]| {
        let mut channels = Vec::new();
        let stored = disk.store().load_pages(pages, &mut |record| channels.push(record)).unwrap();
        Stored { channels, ..stored }
    };
    let sent = BatchRecord { attempts: vec![attempt(1)], ..batch(1, &[3]) };
    let of_nine = Stored {
        channels: vec![on(9, 1), on(9, 3)],
        sending: vec![sent],
        tables: vec![([9; 32], [9; 32])],
        newest_batch: 3,
        ..Stored::default()
    };
    assert_eq!(load(&[[9; 32], [6; 32]]), of_nine);
    let all = load(&[[9; 32], [8; 32], [7; 32]]);
    assert_eq!((all.channels.len(), all.sending.len(), all.tables.len()), (4, 2, 2));
    assert_eq!(load(&[]), Stored { newest_batch: 3, ..Stored::default() });
    assert_eq!((disk.store().payments().unwrap(), disk.store().listings().unwrap()), (vec![payment], vec![listing]));
}

fn a_new_store_is_empty(mut disk: impl Disk) {
    assert_eq!(disk.store().load().unwrap(), Stored::default());
    assert_eq!(disk.store().channel(&[1; 32]).unwrap(), None);
    assert_eq!(disk.store().batches(None, 10).unwrap(), []);
    assert_eq!(disk.store().last_attempt(Purpose::Batch(1)).unwrap(), None);
    disk.store().commit(&[]).unwrap();
}

fn the_last_record_of_a_channel_is_the_truth(mut disk: impl Disk) {
    let newest = ChannelRecord { leaving_since: 5, unsettled_since: 0, ..record(1, 200) };
    disk.store()
        .commit(&[Change::Channel(record(2, 1)), Change::Channel(record(1, 100)), Change::Channel(newest)])
        .unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().channels, [newest, record(2, 1)]);
    assert_eq!(disk.store().channel(&[1; 32]).unwrap(), Some(KeptChannel { record: newest, over: false }));
}

fn a_channel_that_is_over_is_kept_and_not_loaded(mut disk: impl Disk) {
    let over = |channel: u8| Change::Over { channel_id: [channel; 32] };
    disk.store().commit(&[Change::Channel(record(1, 100)), over(1), over(2)]).unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap(), Stored::default());
    let kept = disk.store().channel(&[1; 32]).unwrap().unwrap();
    assert!(kept.over && kept.record == record(1, 100));
}

fn a_commit_is_all_or_nothing(mut disk: impl Disk) {
    disk.store().commit(&[Change::Channel(record(1, 100))]).unwrap();
    let unknown = sending(Purpose::Batch(99), 1);
    assert!(disk.store().commit(&[Change::Channel(record(1, 200)), unknown]).is_err());
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().channels, [record(1, 100)]);
}

fn a_voucher_is_never_taken_back(mut disk: impl Disk) {
    disk.store().commit(&[Change::Channel(record(1, 100))]).unwrap();
    disk.store().commit(&[Change::Channel(record(1, 100))]).unwrap();
    assert!(disk.store().commit(&[Change::Channel(record(1, 99))]).is_err());
    disk.reopen();
    let more_charged_than_signed = ChannelRecord { charged: Amount::new(101), ..record(1, 100) };
    assert!(disk.store().commit(&[Change::Channel(more_charged_than_signed)]).is_err());
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().channels, [record(1, 100)]);
}

fn a_batch_is_kept_with_all_that_happened_to_it(mut disk: impl Disk) {
    let mut expected = batch(1, &[3, 2]);
    disk.store().commit(&[Change::Planned(expected.clone()), sending(Purpose::Batch(1), 1)]).unwrap();
    disk.store().commit(&[sending(Purpose::Batch(1), 2)]).unwrap();
    disk.reopen();
    expected.attempts = vec![attempt(1), attempt(2)];
    let stored = disk.store().load().unwrap();
    assert_eq!((stored.sending, stored.newest_batch), (vec![expected.clone()], 1));
    assert_eq!(disk.store().last_attempt(Purpose::Batch(1)).unwrap(), Some(attempt(2)));

    let landed = Landed { signature: [2; 64], rows: 1, fee_lamports: 5_000, compute_units: 200_000 };
    let outcome = Outcome { landed: vec![landed], refused: vec![(2, Rejection::SignatureMismatch)], unknown: false };
    let ended = Change::Ended { id: 1, outcome: outcome.clone(), at: 1_010 };
    disk.store().commit(&[ended, Change::Planned(batch(2, &[2]))]).unwrap();
    disk.reopen();
    expected.end(&outcome, 1_010);
    assert_eq!(expected.state, State::Failed);
    assert_eq!(disk.store().batches(None, 9).unwrap(), [batch(2, &[2]), expected]);
    let whole = Outcome { landed: vec![landed], ..Outcome::default() };
    let ended = Change::Ended { id: 2, outcome: whole, at: 1_011 };
    disk.store().commit(&[ended]).unwrap();
    assert_eq!(disk.store().batches(None, 1).unwrap()[0].state, State::Confirmed);
    assert_eq!(disk.store().load().unwrap().sending, []);
}

fn batches_are_listed_newest_first_in_pages(mut disk: impl Disk) {
    let plans: Vec<_> = (1..=5).map(|id| Change::Planned(batch(id, &[1]))).collect();
    disk.store().commit(&plans).unwrap();
    let mut ids = |before, limit| -> Vec<u64> {
        let batches = disk.store().batches(before, limit).unwrap();
        batches.iter().map(|batch| batch.id).collect()
    };
    assert_eq!(ids(None, 2), [5, 4]);
    assert_eq!(ids(Some(4), 2), [3, 2]);
    assert_eq!(ids(Some(2), 2), [1]);
    assert_eq!(ids(Some(1), 2), [0u64; 0]);
    assert_eq!(ids(None, 0), [0u64; 0]);
}

fn attempts_of_channels_and_pages_and_tables_are_kept(mut disk: impl Disk) {
    let table = |table: u8| Change::Table { page: [9; 32], table: [table; 32] };
    let (deposit, refund) = (Purpose::Deposit([1; 32]), Purpose::Refund([1; 32]));
    let (top_up, page) = (Purpose::TopUp([1; 32]), Purpose::Page([1; 32]));
    let changes = [sending(deposit, 1), sending(refund, 2), sending(deposit, 3), sending(top_up, 4), sending(page, 5)];
    disk.store().commit(&changes).unwrap();
    disk.store().commit(&[table(1), table(2)]).unwrap();
    disk.reopen();
    for (purpose, number) in [(deposit, 3), (refund, 2), (top_up, 4), (page, 5)] {
        assert_eq!(disk.store().last_attempt(purpose).unwrap(), Some(attempt(number)));
    }
    assert_eq!(disk.store().last_attempt(Purpose::Refund([2; 32])).unwrap(), None);
    assert_eq!(disk.store().load().unwrap().tables, [([9; 32], [2; 32])]);
}

fn a_listing_is_kept_as_it_was_written_last_until_it_is_taken_out(mut disk: impl Disk) {
    let listing = |key: u8, text: &str, paid_at: i64| ListingRecord { key: [key; 32], text: text.to_owned(), paid_at };
    let rows = [listing(2, "{}", 5), listing(1, "{\"n\":1}", 6), listing(3, "\"ä\u{1F600}'\"", -1)];
    disk.store().commit(&rows.map(Change::Listing)).unwrap();
    let newer = listing(1, "{\"n\":2}", 7);
    let gone = |key: u8| Change::Unlisted { key: [key; 32] };
    disk.store().commit(&[Change::Listing(newer.clone()), gone(2), gone(9)]).unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().listings, [newer, listing(3, "\"ä\u{1F600}'\"", -1)]);
    disk.store().commit(&[gone(1), gone(3)]).unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap(), Stored::default());
}

fn a_payment_is_kept_until_it_is_over_and_granted_once(mut disk: impl Disk) {
    let payment = |number: u8, to: Option<u8>| PaymentRecord {
        message_hash: [number; 32],
        attempt: attempt(number),
        granted_to: to.map(|to| [to; 32]),
    };
    let changes =
        [(1, None), (2, None), (3, Some(0))].map(|(number, granted)| Change::Payment(payment(number, granted)));
    disk.store().commit(&changes).unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().payments, [payment(1, None), payment(2, None), payment(3, Some(0))]);
    disk.store()
        .commit(&[Change::Payment(payment(1, Some(7))), Change::PaymentOver { message_hash: [2; 32] }])
        .unwrap();
    // What is over already is over.
    disk.store().commit(&[Change::PaymentOver { message_hash: [2; 32] }]).unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().payments, [payment(1, Some(7)), payment(3, Some(0))]);
    // The same once more is nothing new; to another it is refused.
    disk.store().commit(&[Change::Payment(payment(1, Some(7)))]).unwrap();
    assert!(disk.store().commit(&[Change::Payment(payment(1, Some(8)))]).is_err(), "it was granted");
}

fn a_call_below_its_ceiling_is_kept_as_the_last_one(mut disk: impl Disk) {
    let last = |charge| Some(LastCall { cumulative: Amount::new(80), signature: [3; 64], charge });
    let metered = ChannelRecord { charged: Amount::new(50), last: last(Some(Amount::ZERO)), ..record(1, 100) };
    let never_called = ChannelRecord { last: None, ..record(2, 100) };
    disk.store().commit(&[Change::Channel(metered), Change::Channel(never_called)]).unwrap();
    disk.reopen();
    assert_eq!(disk.store().load().unwrap().channels, [metered, never_called]);
    let unknown = ChannelRecord { last: last(None), ..metered };
    disk.store().commit(&[Change::Channel(unknown)]).unwrap();
    disk.reopen();
    assert_eq!(disk.store().channel(&[1; 32]).unwrap().unwrap().record, unknown);
    let taken_back = ChannelRecord { charged: Amount::new(49), ..metered };
    assert!(disk.store().commit(&[Change::Channel(taken_back)]).is_err());
}

fn what_was_spent_is_counted_once_for_each_transaction(mut disk: impl Disk) {
    let spent = |signature: u8, book: u8, expense, lamports| Change::Spent {
        signature: [signature; 64],
        book: [book; 32],
        expense,
        lamports,
        at: i64::from(signature) * 100,
    };
    let changes = [
        spent(1, 1, Expense::Claims, 5_000),
        spent(2, 1, Expense::Claims, 6_000),
        spent(3, 1, Expense::Deposits, 10_000),
        spent(4, 2, Expense::Pages, 7_000_000),
        spent(5, 1, Expense::Refunds, 10_001),
        // A payment without a channel, under its payee's address.
        spent(5, 9, Expense::Payments, 10_002),
        // A transaction that two books shared.
        spent(6, 1, Expense::Claims, 300),
        spent(6, 3, Expense::Claims, 4_700),
    ];
    disk.store().commit(&changes).unwrap();
    disk.reopen();
    let again = [
        spent(2, 1, Expense::Claims, 6_000),
        spent(4, 2, Expense::Pages, 7_000_000),
        spent(6, 3, Expense::Claims, 4_700),
    ];
    disk.store().commit(&again).unwrap();
    disk.reopen();
    let first = Spending { claims: 11_300, deposits: 10_000, refunds: 10_001, ..Spending::default() };
    assert_eq!(disk.store().spent(&[1; 32]).unwrap(), first);
    assert_eq!(disk.store().spent(&[2; 32]).unwrap(), Spending { pages: 7_000_000, ..Spending::default() });
    assert_eq!(disk.store().spent(&[3; 32]).unwrap(), Spending { claims: 4_700, ..Spending::default() });
    assert_eq!(disk.store().spent(&[4; 32]).unwrap(), Spending::default());
    assert_eq!(disk.store().spent(&[9; 32]).unwrap(), Spending { payments: 10_002, ..Spending::default() });
    for (since, lamports) in [(0, 7_030_003), (300, 7_030_003), (301, 7_020_003), (500, 20_003), (501, 0)] {
        assert_eq!(disk.store().spent_for_others_since(since).unwrap(), lamports, "since {since}");
    }
}

fn a_commit_says_what_its_changes_say_one_after_the_other(mut disk: impl Disk) {
    let over = |channel: u8| Change::Over { channel_id: [channel; 32] };
    let payment = |granted: Option<u8>| {
        let granted_to = granted.map(|to| [to; 32]);
        Change::Payment(PaymentRecord { message_hash: [1; 32], attempt: attempt(1), granted_to })
    };
    let whole = Outcome {
        landed: vec![Landed { signature: [2; 64], rows: 1, fee_lamports: 5_000, compute_units: 200_000 }],
        ..Outcome::default()
    };
    // One that nobody knows yet cannot be over; the others are, whichever is said first.
    disk.store().commit(&[Change::Channel(record(2, 1)), over(1), Change::Channel(record(1, 100))]).unwrap();
    let changes = [
        over(2),
        Change::Channel(record(2, 2)),
        Change::Channel(record(3, 7)),
        over(3),
        Change::Channel(record(3, 8)),
        Change::Planned(batch(1, &[1])),
        sending(Purpose::Batch(1), 1),
        sending(Purpose::Batch(1), 2),
        sending(Purpose::Refund([1; 32]), 1),
        sending(Purpose::Refund([1; 32]), 2),
        Change::Ended { id: 1, outcome: whole.clone(), at: 1_001 },
        payment(Some(1)),
        Change::PaymentOver { message_hash: [1; 32] },
        payment(Some(2)),
        Change::Table { page: [9; 32], table: [1; 32] },
        Change::Table { page: [9; 32], table: [2; 32] },
        listing("1"),
        Change::Unlisted { key: [4; 32] },
        listing("2"),
        listing("3"),
    ];
    disk.store().commit(&changes).unwrap();
    disk.reopen();
    let stored = disk.store().load().unwrap();
    assert_eq!((stored.channels, stored.sending), (vec![record(1, 100)], vec![]));
    assert_eq!(disk.store().channel(&[2; 32]).unwrap(), Some(KeptChannel { record: record(2, 2), over: true }));
    assert_eq!(disk.store().channel(&[3; 32]).unwrap(), Some(KeptChannel { record: record(3, 8), over: true }));
    let mut expected = BatchRecord { attempts: vec![attempt(1), attempt(2)], ..batch(1, &[1]) };
    expected.end(&whole, 1_001);
    assert_eq!(disk.store().batches(None, 9).unwrap(), [expected]);
    assert_eq!(disk.store().last_attempt(Purpose::Refund([1; 32])).unwrap(), Some(attempt(2)));
    assert_eq!(stored.payments.iter().map(|payment| payment.granted_to).collect::<Vec<_>>(), [Some([2; 32])]);
    assert_eq!(stored.tables, [([9; 32], [2; 32])]);
    assert_eq!(stored.listings.iter().map(|listing| listing.text.as_str()).collect::<Vec<_>>(), ["3"]);
    // Within one commit nothing falls either.
    disk.store().commit(&[Change::Channel(record(1, 200))]).unwrap();
    assert!(disk.store().commit(&[Change::Channel(record(1, 300)), Change::Channel(record(1, 250))]).is_err());
    disk.reopen();
    assert!(disk.store().commit(&[payment(Some(2)), payment(Some(3))]).is_err());
    disk.reopen();
    let no_batch = Change::Ended { id: 9, outcome: Outcome::default(), at: 1 };
    assert!(disk.store().commit(&[no_batch]).is_err());
}

fn listing(text: &str) -> Change {
    Change::Listing(ListingRecord { key: [4; 32], text: text.to_owned(), paid_at: 9 })
}

/// Something of every kind.
fn everything() -> Vec<Change> {
    let spent = |(book, expense)| Change::Spent { signature: [8; 64], book: [book; 32], expense, lamports: 5, at: 70 };
    let expenses = [Expense::Claims, Expense::Deposits, Expense::Refunds, Expense::Pages, Expense::Payments];
    let landed = Landed { signature: [2; 64], rows: 1, fee_lamports: 5_000, compute_units: 200_000 };
    let part = Outcome { landed: vec![landed], refused: vec![(2, Rejection::SignatureMismatch)], unknown: false };
    let mut changes = vec![
        Change::Channel(record(1, 100)),
        Change::Channel(ChannelRecord { last: None, charged: Amount::ZERO, ..record(2, u64::MAX >> 1) }),
        Change::Channel(record(3, 5)),
        Change::Over { channel_id: [3; 32] },
        Change::Planned(batch(1, &[2, 1])),
        sending(Purpose::Batch(1), 1),
        sending(Purpose::Batch(1), 2),
        Change::Ended { id: 1, outcome: part, at: 1_010 },
        Change::Planned(batch(2, &[1])),
        sending(Purpose::Batch(2), 3),
        Change::Payment(PaymentRecord { message_hash: [1; 32], attempt: attempt(1), granted_to: None }),
        Change::Payment(PaymentRecord { message_hash: [2; 32], attempt: attempt(1), granted_to: Some([3; 32]) }),
        Change::Table { page: [9; 32], table: [1; 32] },
        listing("{}"),
    ];
    changes.extend([
        sending(Purpose::Deposit([1; 32]), 4),
        sending(Purpose::TopUp([1; 32]), 5),
        sending(Purpose::Refund([1; 32]), 6),
        sending(Purpose::Page([1; 32]), 7),
    ]);
    changes.extend((1u8..).zip(expenses).map(spent));
    changes
}

fn everything_can_be_read_row_by_row_and_made_again(mut disk: impl Disk) {
    disk.store().commit(&everything()).unwrap();
    disk.reopen();
    let mut rows = Vec::new();
    disk.store()
        .each_row(&mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
    let tally = Tally::of(disk.store()).unwrap();
    let counts = (tally.channels, tally.batches, tally.attempts, tally.spent, tally.payments, tally.tables);
    assert_eq!((counts, tally.listings, rows.len()), ((3, 2, 4, 5, 2, 1), 1, 18));

    // Whatever store they are in, the same rows give the same tally, and another order of them no other one.
    let mut copy = MemoryStore::default();
    for row in &rows {
        copy.commit(&row.clone().changes()).unwrap();
    }
    assert_eq!(Tally::of(&mut copy).unwrap(), tally);
    assert_eq!(copy.load().unwrap(), disk.store().load().unwrap());
    assert_eq!(copy.batches(None, 9).unwrap(), disk.store().batches(None, 9).unwrap());
    let backwards = rows.iter().rev().fold(Tally::default(), |mut tally, row| {
        tally.add(row);
        tally
    });
    assert_eq!(backwards, tally);

    // A reader may stop.
    let mut seen = 0;
    let stopped = disk.store().each_row(&mut |_| {
        seen += 1;
        Err(StoreFailure::Damaged("enough"))
    });
    assert!(matches!(stopped, Err(StoreFailure::Damaged("enough"))) && seen == 1);
}

#[test]
fn given_any_difference_between_two_stores_when_tallied_then_it_shows() {
    let mut whole = MemoryStore::default();
    whole.commit(&everything()).unwrap();
    let whole = Tally::of(&mut whole).unwrap();
    let differences = [
        Change::Channel(ChannelRecord { leaving_since: 9, ..record(1, 100) }),
        Change::Channel(ChannelRecord { last: None, ..record(1, 100) }),
        Change::Over { channel_id: [1; 32] },
        sending(Purpose::Batch(2), 9),
        sending(Purpose::Refund([1; 32]), 9),
        sending(Purpose::Refund([2; 32]), 6),
        Change::Ended { id: 2, outcome: Outcome::default(), at: 1_010 },
        Change::PaymentOver { message_hash: [1; 32] },
        Change::Payment(PaymentRecord { message_hash: [1; 32], attempt: attempt(1), granted_to: Some([0; 32]) }),
        Change::Table { page: [9; 32], table: [2; 32] },
        listing("[]"),
        Change::Unlisted { key: [4; 32] },
        Change::Spent { signature: [9; 64], book: [9; 32], expense: Expense::Claims, lamports: 0, at: 0 },
    ];
    for difference in differences {
        let mut other = MemoryStore::default();
        other.commit(&everything()).unwrap();
        other.commit(std::slice::from_ref(&difference)).unwrap();
        assert_ne!(Tally::of(&mut other).unwrap().checksum(), whole.checksum(), "{difference:?}");
    }
}

#[test]
fn given_a_broken_disk_when_written_then_the_store_is_poisoned_for_good() {
    let (mut store, broken) = FaultyStore::new(MemoryStore::default());
    store.commit(&[Change::Channel(record(1, 100))]).unwrap();
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(store.commit(&[Change::Channel(record(1, 200))]), Err(StoreFailure::File { .. })));
    broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(store.commit(&[]), Err(StoreFailure::Poisoned)));
    assert!(matches!(store.load(), Err(StoreFailure::Poisoned)));
    assert_eq!(store.into_inner().load().unwrap().channels, [record(1, 100)]);
}

fn poisons(mut disk: impl Disk) {
    assert!(disk.store().commit(&[sending(Purpose::Batch(1), 1)]).is_err(), "no such batch");
    assert!(matches!(disk.store().commit(&[]), Err(StoreFailure::Poisoned)));
    assert!(matches!(disk.store().channel(&[1; 32]), Err(StoreFailure::Poisoned)));
    assert!(matches!(disk.store().load(), Err(StoreFailure::Poisoned)));
}

#[test]
fn given_a_failed_write_when_a_durable_store_is_asked_again_then_it_is_poisoned() {
    poisons(File::new());
    poisons(Database::new());
}

#[test]
fn given_a_number_beyond_63_bits_when_written_then_it_is_refused() {
    let high = Attempt { last_valid_block_height: 1 << 63, ..attempt(1) };
    let change = [Change::Sending { purpose: Purpose::Deposit([1; 32]), attempt: high }];
    assert!(matches!(File::new().store().commit(&change), Err(StoreFailure::OutOfRange(_))));
    assert!(matches!(Database::new().store().commit(&change), Err(StoreFailure::OutOfRange(_))));
}

#[test]
fn given_a_file_in_use_when_opened_again_then_it_is_refused() {
    let file = File::new();
    let path = file.folder.path().join("vouchers.db");
    assert!(matches!(SqliteStore::open(&path), Err(StoreFailure::InUse(_))));
    drop(file.store);
    assert!(SqliteStore::open(&path).is_ok());
}

#[test]
fn given_a_new_file_when_made_then_only_its_owner_may_read_it() {
    let mut file = File::new();
    file.store().commit(&[Change::Channel(record(1, 100))]).unwrap();
    let path = file.folder.path().join("vouchers.db");
    for name in ["vouchers.db", "vouchers.db-wal"] {
        let mode = fs::metadata(file.folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop(file.store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreFailure::Exposed(_))));
}

#[test]
fn given_a_file_of_something_else_when_opened_then_it_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE songs (title TEXT)").unwrap();
    drop(other);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreFailure::Foreign(_))));
    fs::write(&path, vec![b'x'; 4_096]).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreFailure::Foreign(_))));
}

#[test]
fn given_a_store_in_use_when_copied_then_the_copy_is_a_store_of_its_own_with_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let [path, to] = ["vouchers.db", "copy.db"].map(|name| folder.path().join(name));
    let mut store = SqliteStore::open(&path).unwrap();
    store.commit(&everything()).unwrap();
    let there = store.load().unwrap();
    // What an earlier copy that was cut off has left is in nobody's way.
    fs::write(folder.path().join("copy.unfinished"), "half a copy").unwrap();
    store.copy_to(&to).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o600, "its owner's alone");
    assert!(!folder.path().join("copy.unfinished").exists());
    // What comes later is not in it, and it can be written itself.
    store.commit(&[Change::Channel(record(200, 100))]).unwrap();
    let mut copy = SqliteStore::open(&to).unwrap();
    assert_eq!(copy.load().unwrap(), there);
    copy.commit(&[Change::Channel(record(201, 100))]).unwrap();
    assert!(store.channel(&[200; 32]).unwrap().is_some());
}

#[test]
fn given_a_copy_that_cannot_be_made_then_nothing_is_left_of_it_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("vouchers.db")).unwrap();
    store.commit(&[Change::Channel(record(1, 100))]).unwrap();
    let taken = folder.path().join("taken.db");
    fs::write(&taken, "of somebody else").unwrap();
    for to in [taken.clone(), folder.path().join("no/such/folder/copy.db")] {
        assert!(matches!(store.copy_to(&to), Err(StoreFailure::File { .. })), "{}", to.display());
    }
    assert_eq!(fs::read_to_string(&taken).unwrap(), "of somebody else");
    let left = fs::read_dir(folder.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "unfinished"));
    assert_eq!(left.count(), 0);
    store.commit(&[Change::Channel(record(1, 200))]).unwrap();
    assert!(matches!(MemoryStore::default().copy_to(&taken), Err(StoreFailure::CopiedElsewhere)));
}

#[test]
fn given_a_file_of_a_newer_version_when_opened_then_it_is_refused() {
    let file = File::new();
    let path = file.folder.path().join("vouchers.db");
    drop(file.store);
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 7).unwrap();
    drop(newer);
    assert!(matches!(SqliteStore::open(&path), Err(StoreFailure::TooNew { found: 7, known: 6, .. })));
}

/// What version 1 of this program wrote: its schema, and rows as it wrote them.
fn write_version_1(path: &std::path::Path, written: &ChannelRecord) {
    fs::write(path, "").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = rusqlite::Connection::open(path).unwrap();
    file.execute_batch(include_str!("../src/migrations/0001_vouchers.sql")).unwrap();
    file.pragma_update(None, "application_id", 0x5442_7673).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    let amount = |amount: Amount| i64::try_from(amount.get()).unwrap();
    file.execute(
        "INSERT INTO channel (channel_id, page, slot, generation, payer, signer, cumulative, signature, charged,
                              unsettled_since, leaving_since)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        rusqlite::params![
            written.voucher.channel_id,
            written.place.page,
            written.place.slot,
            written.place.generation,
            written.payer,
            written.signer,
            amount(written.voucher.cumulative),
            written.voucher.signature,
            amount(written.charged),
            written.unsettled_since,
            written.leaving_since,
        ],
    )
    .unwrap();
    let sql = "INSERT INTO channel_attempt VALUES (?1, ?2, ?3, ?4)";
    for (purpose, number) in [("deposit", 1u8), ("refund", 2)] {
        let height = 10 + i64::from(number);
        file.execute(sql, rusqlite::params![[1u8; 32], purpose, [number; 64], height]).unwrap();
    }
    file.execute("INSERT INTO batch VALUES (1, ?1, 50, 1000, 0, 'sending')", [[9u8; 32]]).unwrap();
    file.execute("INSERT INTO batch_row VALUES (1, 1, 0, ?1, 90, 40)", [[1u8; 32]]).unwrap();
    file.execute("INSERT INTO batch_attempt VALUES (1, 1, ?1, 13)", [[3u8; 64]]).unwrap();
    file.execute("INSERT INTO lookup_table VALUES (?1, ?2)", [[9u8; 32], [2u8; 32]]).unwrap();
}

#[test]
fn given_a_file_of_version_1_when_opened_then_it_moves_forward_with_all_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vouchers.db");
    let old = record(1, 100);
    write_version_1(&path, &old);
    for _ in 0..2 {
        let mut store = SqliteStore::open(&path).unwrap();
        let last = LastCall { cumulative: Amount::new(100), signature: old.voucher.signature, charge: None };
        let stored = store.load().unwrap();
        assert_eq!(stored.channels, [ChannelRecord { last: Some(last), ..old }]);
        let sending = BatchRecord { attempts: vec![attempt(3)], ..batch(1, &[1]) };
        assert_eq!((stored.sending, stored.newest_batch), (vec![sending], 1));
        assert_eq!(stored.tables, [([9; 32], [2; 32])]);
        assert_eq!(store.last_attempt(Purpose::Deposit([1; 32])).unwrap(), Some(attempt(1)));
        assert_eq!(store.last_attempt(Purpose::Refund([1; 32])).unwrap(), Some(attempt(2)));
    }
    let mut store = SqliteStore::open(&path).unwrap();
    assert!(store.commit(&[Change::Channel(record(1, 99))]).is_err(), "and what was accepted is not taken back");
}

#[test]
fn given_a_file_of_version_3_when_opened_then_what_was_spent_is_counted_as_before_and_may_be_shared_by_books() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vouchers.db");
    write_version_1(&path, &record(1, 100));
    let file = rusqlite::Connection::open(&path).unwrap();
    file.execute_batch(include_str!("../src/migrations/0002_metering.sql")).unwrap();
    file.execute_batch(include_str!("../src/migrations/0003_spent_at.sql")).unwrap();
    file.pragma_update(None, "user_version", 3).unwrap();
    for (signature, purpose, lamports, at) in [(1u8, "claims", 5_000, 700), (2, "deposits", 10_000, 800)] {
        let sql = "INSERT INTO spent (signature, book, purpose, lamports, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        file.execute(sql, rusqlite::params![[signature; 64], [1u8; 32], purpose, lamports, at]).unwrap();
        file.execute("INSERT INTO spent_sum VALUES (?1, ?2, ?3)", rusqlite::params![[1u8; 32], purpose, lamports])
            .unwrap();
    }
    drop(file);
    let spent = |book: u8, lamports| Change::Spent {
        signature: [1; 64],
        book: [book; 32],
        expense: Expense::Claims,
        lamports,
        at: 700,
    };
    for _ in 0..2 {
        let mut store = SqliteStore::open(&path).unwrap();
        store.commit(&[spent(1, 5_000), spent(2, 700)]).unwrap();
        let first = Spending { claims: 5_000, deposits: 10_000, ..Spending::default() };
        assert_eq!(store.spent(&[1; 32]).unwrap(), first, "known before, and not counted again");
        assert_eq!(store.spent(&[2; 32]).unwrap(), Spending { claims: 700, ..Spending::default() });
        assert_eq!(store.spent_for_others_since(800).unwrap(), 10_000);
    }
}
