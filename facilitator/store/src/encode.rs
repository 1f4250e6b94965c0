//! Changes, as rows.

use crate::StoreFailure;
use rusqlite::{Transaction, params};
use tallybook_ledger::{
    Attempt, BatchRecord, Change, ChannelRecord, Expense, ListingRecord, Outcome, PaymentRecord, Purpose, State,
};
use tallybook_rules::Amount;

pub(crate) fn write(transaction: &Transaction<'_>, change: &Change) -> Result<(), StoreFailure> {
    match change {
        Change::Channel(record) => channel(transaction, record),
        Change::Over { channel_id } => {
            let sql = "UPDATE channel SET over = 1 WHERE channel_id = ?1";
            transaction.prepare_cached(sql)?.execute([channel_id])?;
            Ok(())
        }
        Change::Planned(batch) => planned(transaction, batch),
        Change::Sending { purpose, attempt } => sending(transaction, *purpose, attempt),
        Change::Ended { id, outcome, at } => ended(transaction, *id, outcome, *at),
        Change::Spent { signature, book, expense, lamports, at } => {
            spent(transaction, signature, book, *expense, (*lamports, *at))
        }
        Change::Payment(record) => payment(transaction, record),
        Change::PaymentOver { message_hash } => {
            let sql = "DELETE FROM payment WHERE message_hash = ?1";
            transaction.prepare_cached(sql)?.execute([message_hash])?;
            Ok(())
        }
        Change::Listing(ListingRecord { key, text, paid_at }) => {
            let sql = "INSERT INTO listing (key, text, paid_at) VALUES (?1, ?2, ?3)
                       ON CONFLICT (key) DO UPDATE SET text = excluded.text, paid_at = excluded.paid_at";
            transaction.prepare_cached(sql)?.execute(params![key, text, paid_at])?;
            Ok(())
        }
        Change::Unlisted { key } => {
            transaction.prepare_cached("DELETE FROM listing WHERE key = ?1")?.execute([key])?;
            Ok(())
        }
        Change::Table { page, table } => {
            let sql = "INSERT INTO lookup_table (page, address) VALUES (?1, ?2)
                       ON CONFLICT (page) DO UPDATE SET address = excluded.address";
            transaction.prepare_cached(sql)?.execute([page, table])?;
            Ok(())
        }
    }
}

fn channel(transaction: &Transaction<'_>, record: &ChannelRecord) -> Result<(), StoreFailure> {
    let (id, last) = (record.voucher.channel_id, record.last);
    let cumulative = amount(record.voucher.cumulative)?;
    let charged = amount(record.charged)?;
    let last_cumulative = last.map(|last| amount(last.cumulative)).transpose()?;
    let last_charge = last.and_then(|last| last.charge).map(amount).transpose()?;
    // Nearly every channel is there already, and what never changes of it need not be looked at again: this takes a third
    // less of SQLite than an insertion that meets what is there.
    let sql =
        "UPDATE channel SET cumulative = ?2, signature = ?3, charged = ?4, unsettled_since = ?5, leaving_since = ?6,
                                  last_cumulative = ?7, last_signature = ?8, last_charge = ?9
               WHERE channel_id = ?1";
    let updated = transaction.prepare_cached(sql)?.execute(params![
        id,
        cumulative,
        record.voucher.signature,
        charged,
        record.unsettled_since,
        record.leaving_since,
        last_cumulative,
        last.map(|last| last.signature),
        last_charge,
    ])?;
    if updated > 0 {
        return Ok(());
    }
    let sql = "INSERT INTO channel (channel_id, page, slot, generation, payer, signer, cumulative, signature, charged,
                                    unsettled_since, leaving_since, last_cumulative, last_signature, last_charge)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    transaction.prepare_cached(sql)?.execute(params![
        id,
        record.place.page,
        record.place.slot,
        record.place.generation,
        record.payer,
        record.signer,
        cumulative,
        record.voucher.signature,
        charged,
        record.unsettled_since,
        record.leaving_since,
        last_cumulative,
        last.map(|last| last.signature),
        last_charge,
    ])?;
    Ok(())
}

fn planned(transaction: &Transaction<'_>, batch: &BatchRecord) -> Result<(), StoreFailure> {
    let id = integer(batch.id, "a batch's number")?;
    let sql = "INSERT INTO batch (id, page, gain, planned_at, state) VALUES (?1, ?2, ?3, ?4, 'sending')";
    transaction.prepare_cached(sql)?.execute(params![id, batch.page, amount(batch.gain)?, batch.planned_at])?;
    let sql = "INSERT INTO batch_row (batch, slot, position, channel_id, cumulative, settled)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (position, row) in (0i64..).zip(&batch.rows) {
        let (cumulative, settled) = (amount(row.cumulative)?, amount(row.settled)?);
        insert.execute(params![id, row.slot, position, row.channel_id, cumulative, settled])?;
    }
    Ok(())
}

fn sending(transaction: &Transaction<'_>, purpose: Purpose, attempt: &Attempt) -> Result<(), StoreFailure> {
    let height = integer(attempt.last_valid_block_height, "a block height")?;
    if let Purpose::Batch(id) = purpose {
        let sql = "INSERT INTO batch_attempt (batch, signature, last_valid_block_height) VALUES (?1, ?2, ?3)";
        let id = integer(id, "a batch's number")?;
        transaction.prepare_cached(sql)?.execute(params![id, attempt.signature, height])?;
    } else if let Some((name, subject)) = subject(purpose) {
        let sql = "INSERT INTO attempt (subject, purpose, signature, last_valid_block_height) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (subject, purpose) DO UPDATE SET
                       signature = excluded.signature, last_valid_block_height = excluded.last_valid_block_height";
        transaction.prepare_cached(sql)?.execute(params![subject, name, attempt.signature, height])?;
    }
    Ok(())
}

fn payment(transaction: &Transaction<'_>, record: &PaymentRecord) -> Result<(), StoreFailure> {
    let PaymentRecord { message_hash, attempt, granted_to } = record;
    let height = integer(attempt.last_valid_block_height, "a block height")?;
    let sql = "INSERT INTO payment (message_hash, signature, last_valid_block_height, granted_to)
               VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (message_hash) DO UPDATE SET
                   signature = excluded.signature, last_valid_block_height = excluded.last_valid_block_height,
                   granted_to = excluded.granted_to";
    transaction.prepare_cached(sql)?.execute(params![message_hash, attempt.signature, height, granted_to])?;
    Ok(())
}

/// What the last sending for a channel or page is kept under; a batch keeps all of its own.
pub(crate) const fn subject(purpose: Purpose) -> Option<(&'static str, [u8; 32])> {
    match purpose {
        Purpose::Batch(_) => None,
        Purpose::Deposit(channel_id) => Some(("deposit", channel_id)),
        Purpose::TopUp(channel_id) => Some(("top_up", channel_id)),
        Purpose::Refund(channel_id) => Some(("refund", channel_id)),
        Purpose::Page(page) => Some(("page", page)),
    }
}

fn spent(
    transaction: &Transaction<'_>,
    signature: &[u8; 64],
    book: &[u8; 32],
    expense: Expense,
    (lamports, at): (u64, i64),
) -> Result<(), StoreFailure> {
    let (name, lamports) = (expense_name(expense), integer(lamports, "lamports")?);
    let sql = "INSERT INTO spent (signature, book, purpose, lamports, at) VALUES (?1, ?2, ?3, ?4, ?5)
               ON CONFLICT (signature, book) DO NOTHING";
    let new = transaction.prepare_cached(sql)?.execute(params![signature, book, name, lamports, at])?;
    if new > 0 {
        let sql = "INSERT INTO spent_sum (book, purpose, lamports) VALUES (?1, ?2, ?3)
                   ON CONFLICT (book, purpose) DO UPDATE SET lamports = lamports + excluded.lamports";
        transaction.prepare_cached(sql)?.execute(params![book, name, lamports])?;
    }
    Ok(())
}

fn ended(transaction: &Transaction<'_>, id: u64, outcome: &Outcome, at: i64) -> Result<(), StoreFailure> {
    let batch = integer(id, "a batch's number")?;
    let sql = "INSERT INTO batch_landed (batch, position, signature, channels, fee_lamports, compute_units)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (position, landed) in (0i64..).zip(&outcome.landed) {
        let fee = integer(landed.fee_lamports, "a fee")?;
        let units = integer(landed.compute_units, "compute units")?;
        insert.execute(params![batch, position, landed.signature, landed.rows, fee, units])?;
    }
    let sql = "INSERT INTO batch_refusal (batch, position, slot, rejection) VALUES (?1, ?2, ?3, ?4)";
    let mut insert = transaction.prepare_cached(sql)?;
    for (position, (slot, rejection)) in (0i64..).zip(&outcome.refused) {
        insert.execute(params![batch, position, slot, rejection.code()])?;
    }
    // The state is decided by the record itself, from the rows as they are stored.
    let mut record = crate::decode::batch(transaction, id)?.ok_or(StoreFailure::Damaged("no such batch"))?;
    record.end(outcome, at);
    let sql = "UPDATE batch SET state = ?2, ended_at = ?3 WHERE id = ?1";
    let mut update = transaction.prepare_cached(sql)?;
    update.execute(params![batch, state_name(record.state), at])?;
    Ok(())
}

pub(crate) const fn state_name(state: State) -> &'static str {
    match state {
        State::Sending => "sending",
        State::Confirmed => "confirmed",
        State::Failed => "failed",
    }
}

pub(crate) const fn expense_name(expense: Expense) -> &'static str {
    match expense {
        Expense::Claims => "claims",
        Expense::Deposits => "deposits",
        Expense::Refunds => "refunds",
        Expense::Pages => "pages",
        Expense::Payments => "payments",
    }
}

fn amount(amount: Amount) -> Result<i64, StoreFailure> {
    integer(amount.get(), "an amount")
}

fn integer(number: u64, what: &'static str) -> Result<i64, StoreFailure> {
    i64::try_from(number).map_err(|_| StoreFailure::OutOfRange(what))
}
