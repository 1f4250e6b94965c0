//! The voucher store: any changes in any order, and a file in which somebody has changed a value.
//!
//! A commit is whole or not at all, also when it is refused; what is read back is what was written; and a damaged row is an
//! error or a record that the ledger checks again, never a panic.

use super::input::Input;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::path::Path;
use tallybook_ledger::{
    Attempt, Batch, BatchRecord, Change, ChannelRecord, ClaimRow, Expense, Landed, LastCall, Ledger, Outcome,
    PaymentRecord, Place, Purpose, Settings,
};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection};
use tallybook_store::{MemoryStore, SqliteStore, StoreFailure, Stored, VoucherStore};

/// Columns that a disk, or somebody with an editor, may have changed.
const COLUMNS: [(&str, &str); 14] = [
    ("channel", "slot"),
    ("channel", "generation"),
    ("channel", "cumulative"),
    ("channel", "charged"),
    ("channel", "signature"),
    ("channel", "signer"),
    ("channel", "last_charge"),
    ("channel", "over"),
    ("batch", "state"),
    ("batch", "gain"),
    ("batch_row", "slot"),
    ("batch_row", "channel_id"),
    ("batch_attempt", "last_valid_block_height"),
    ("batch_refusal", "rejection"),
];

/// Commits of some changes each, and then some damage.
pub(crate) fn store_rows(data: &[u8]) {
    let mut input = Input(data);
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join("vouchers.db");
    let (mut memory, mut newest) = (MemoryStore::default(), 0);
    {
        let mut store = SqliteStore::open(&path).expect("a new file opens");
        for _ in 0..=input.below(4) {
            let changes: Vec<Change> = (0..=input.below(4)).map(|_| change(&mut input, &mut newest)).collect();
            let before = memory.clone();
            if store.commit(&changes).is_err() {
                assert!(matches!(store.load(), Err(StoreFailure::Poisoned)), "after a failure nothing goes on");
                memory = before;
                break;
            }
            memory.commit(&changes).expect("what the disk takes the model takes");
        }
    }
    let expected = memory.load().expect("memory does not fail");
    let mut store = SqliteStore::open(&path).expect("a file that was left opens");
    assert_eq!(store.load().expect("and reads"), expected, "whole commits and nothing else");
    drop(store);
    if damage(&path, &mut input) {
        read_damaged(&path, &expected);
    }
}

/// Anything that the house may ask to be written.
fn change(input: &mut Input<'_>, newest: &mut u64) -> Change {
    match input.below(9) {
        0 | 1 => Change::Channel(record(input)),
        2 => Change::Over { channel_id: [input.below(3); 32] },
        3 => {
            *newest += 1;
            Change::Planned(batch(*newest, input))
        }
        4 => {
            let id = u64::from(input.below(3));
            let which = [input.below(3); 32];
            let purposes = [
                Purpose::Batch(id),
                Purpose::Deposit(which),
                Purpose::TopUp(which),
                Purpose::Refund(which),
                Purpose::Page(which),
            ];
            let attempt = Attempt { signature: [input.byte(); 64], last_valid_block_height: input.amount() };
            Change::Sending { purpose: purposes[usize::from(input.below(5))], attempt }
        }
        5 => {
            let landed = Landed {
                signature: [input.byte(); 64],
                rows: u32::from(input.below(3)),
                fee_lamports: input.amount(),
                compute_units: 1,
            };
            let refused = vec![(input.byte(), Rejection::ALL[usize::from(input.byte()) % Rejection::ALL.len()])];
            let outcome = match input.below(3) {
                0 => Outcome { landed: vec![landed], ..Outcome::default() },
                1 => Outcome { refused, ..Outcome::default() },
                _ => Outcome { landed: vec![landed], refused, unknown: false },
            };
            Change::Ended { id: u64::from(input.below(3)), outcome, at: i64::from(input.u16()) }
        }
        6 => Change::Payment(PaymentRecord {
            message_hash: [input.below(3); 32],
            attempt: Attempt { signature: [input.byte(); 64], last_valid_block_height: input.amount() },
            granted_to: (input.below(2) == 1).then(|| [input.below(3); 32]),
        }),
        7 => Change::PaymentOver { message_hash: [input.below(3); 32] },
        _ => Change::Spent {
            signature: [input.below(3); 64],
            book: [input.below(2); 32],
            expense: [Expense::Claims, Expense::Deposits, Expense::Refunds, Expense::Pages, Expense::Payments]
                [usize::from(input.below(5))],
            lamports: input.amount() / 8,
            at: i64::from(input.u16()),
        },
    }
}

fn record(input: &mut Input<'_>) -> ChannelRecord {
    let which = input.below(3);
    let key = SigningKey::from_bytes(&[which + 1; 32]);
    let voucher = SignedVoucher::sign(&key, [which; 32], Amount::new(input.amount()));
    let last = (input.below(2) == 1).then(|| LastCall {
        cumulative: voucher.cumulative,
        signature: voucher.signature,
        charge: Some(Amount::new(input.amount())),
    });
    ChannelRecord {
        place: Place { page: [7; 32], slot: which, generation: 1 },
        payer: [which; 32],
        signer: key.verifying_key().to_bytes(),
        voucher,
        charged: Amount::new(input.amount()),
        last,
        unsettled_since: i64::from(input.u16()),
        leaving_since: i64::from(input.u16()),
    }
}

fn batch(id: u64, input: &mut Input<'_>) -> BatchRecord {
    let key = SigningKey::from_bytes(&[1; 32]);
    let signed = Amount::new(u64::from(input.u16()));
    let voucher = SignedVoucher::sign(&key, [0; 32], signed).verify(key.verifying_key().as_bytes());
    let row = ClaimRow {
        slot: input.below(4),
        voucher: voucher.expect("an honest voucher verifies"),
        amount: signed,
        settled: Amount::ZERO,
        deposit: Amount::new(input.amount()),
    };
    let batch = Batch::new([7; 32], vec![row]).expect("a batch of one row");
    BatchRecord::planned(id, &batch, i64::from(input.u16())).expect("one row's gain is in range")
}

/// Writes a value past every check; false when there was nothing to change.
fn damage(path: &Path, input: &mut Input<'_>) -> bool {
    let (table, column) = COLUMNS[usize::from(input.byte()) % COLUMNS.len()];
    let value = match input.below(4) {
        0 => Value::Integer(i64::from_le_bytes(input.array())),
        1 => Value::Integer(i64::from(input.byte())),
        2 => Value::Blob(input.array::<32>()[..usize::from(input.below(33))].to_vec()),
        _ => Value::Text(["sending", "failed", "", "sent\u{0}"][usize::from(input.below(4))].to_owned()),
    };
    let connection = Connection::open(path).expect("SQLite opens the file");
    connection
        .execute_batch(
            "PRAGMA ignore_check_constraints = ON; PRAGMA foreign_keys = OFF; DROP TRIGGER channel_never_falls;",
        )
        .expect("checks off");
    // A STRICT table keeps the column's type all the same, and a key its uniqueness: then nothing is damaged.
    let changed = connection.execute(&format!("UPDATE {table} SET {column} = ?1"), [value]);
    changed.is_ok_and(|rows| rows > 0)
}

fn read_damaged(path: &Path, before: &Stored) {
    let Ok(mut store) = SqliteStore::open(path) else { return };
    let Ok(read) = store.load() else {
        return assert!(matches!(store.load(), Err(StoreFailure::Poisoned)), "after a failure nothing goes on");
    };
    for record in &read.channels {
        let mut ledger = Ledger::new(Settings::default());
        if ledger.restore(*record).is_ok() {
            // Its signature is looked at when its channel is met on chain.
            assert!(record.charged <= record.voucher.cumulative);
        }
    }
    assert!(read.channels.len() <= before.channels.len() + 3);
    let _ = store.batches(None, 16);
    for which in 0..3 {
        let Ok(mut store) = SqliteStore::open(path) else { continue };
        let _ = store.channel(&[which; 32]);
        let _ = store.last_attempt(Purpose::Batch(u64::from(which)));
        let _ = store.spent(&[which; 32]);
    }
}
