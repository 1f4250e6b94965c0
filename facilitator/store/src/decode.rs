//! Rows, as records.

use crate::encode::{expense_name, state_name, subject};
use crate::{KeptChannel, Row, Spending, StoreFailure, Stored};
use rusqlite::{Connection, OptionalExtension, Row as Columns, params};
use tallybook_ledger::{
    Attempt, BatchRecord, ChannelRecord, Expense, Landed, LastCall, ListingRecord, PaymentRecord, Place, Purpose,
    RowRecord, State,
};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};

const CHANNEL: &str = "SELECT channel_id, page, slot, generation, payer, signer, cumulative, signature, charged,
                              unsettled_since, leaving_since, over, last_cumulative, last_signature, last_charge
                       FROM channel";
const BATCH: &str = "SELECT id, page, gain, planned_at, ended_at, state FROM batch";
const PAYMENT: &str =
    "SELECT message_hash, signature, last_valid_block_height, granted_to FROM payment ORDER BY message_hash";
const LISTING: &str = "SELECT key, text, paid_at FROM listing ORDER BY key";
const TABLE: &str = "SELECT page, address FROM lookup_table ORDER BY page";
const EXPENSES: [Expense; 5] =
    [Expense::Claims, Expense::Deposits, Expense::Refunds, Expense::Pages, Expense::Payments];

pub(crate) fn load(connection: &Connection, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
    // The plus keeps SQLite from the index of those in use, by which each row would be looked for by itself. To read past
    // those that are over costs less than the check of the whole file, which opening it has done.
    let mut statement = connection.prepare_cached(&format!("{CHANNEL} WHERE +over = 0 ORDER BY channel_id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        channel(kept_channel(row)?.record);
    }
    let sql = format!("{BATCH} WHERE state = 'sending' ORDER BY id");
    let mut sending = all(connection, &sql, [], bare_batch)?;
    sending.iter_mut().try_for_each(|batch| fill(connection, batch))?;
    let payments = all(connection, PAYMENT, [], payment)?;
    let listings = all(connection, LISTING, [], listing)?;
    let tables = all(connection, TABLE, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let newest = connection.query_row("SELECT coalesce(max(id), 0) FROM batch", [], |row| row.get(0))?;
    Ok(Stored { channels: Vec::new(), sending, payments, listings, tables, newest_batch: unsigned(newest)? })
}

/// Everything, row by row.
pub(crate) fn each_row(
    connection: &Connection,
    visit: &mut dyn FnMut(Row) -> Result<(), StoreFailure>,
) -> Result<(), StoreFailure> {
    let sql = format!("{CHANNEL} ORDER BY channel_id");
    each(connection, &sql, |row| visit(Row::Channel(kept_channel(row)?)))?;
    each(connection, &format!("{BATCH} ORDER BY id"), |row| {
        let mut batch = bare_batch(row)?;
        fill(connection, &mut batch)?;
        visit(Row::Batch(batch))
    })?;
    let sql = "SELECT subject, purpose, signature, last_valid_block_height FROM attempt ORDER BY subject, purpose";
    each(connection, sql, |row| {
        let (of, name): (_, String) = (row.get(0)?, row.get(1)?);
        let purposes = [Purpose::Deposit(of), Purpose::TopUp(of), Purpose::Refund(of), Purpose::Page(of)];
        let purpose = purposes.into_iter().find(|purpose| subject(*purpose).is_some_and(|(of, _)| of == name));
        let purpose = purpose.ok_or(StoreFailure::Damaged("the purpose of a sending"))?;
        visit(Row::Attempt(purpose, attempt((row.get(2)?, row.get(3)?))?))
    })?;
    each(connection, "SELECT signature, book, purpose, lamports, at FROM spent ORDER BY signature, book", |row| {
        let (name, lamports): (String, _) = (row.get(2)?, unsigned(row.get(3)?)?);
        let expense = EXPENSES.into_iter().find(|expense| expense_name(*expense) == name);
        let expense = expense.ok_or(StoreFailure::Damaged("what something was spent for"))?;
        visit(Row::Spent { signature: row.get(0)?, book: row.get(1)?, expense, lamports, at: row.get(4)? })
    })?;
    each(connection, PAYMENT, |row| visit(Row::Payment(payment(row)?)))?;
    each(connection, LISTING, |row| visit(Row::Listing(listing(row)?)))?;
    each(connection, TABLE, |row| visit(Row::Table { page: row.get(0)?, table: row.get(1)? }))
}

pub(crate) fn channel(connection: &Connection, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
    let sql = format!("{CHANNEL} WHERE channel_id = ?1");
    Ok(all(connection, &sql, [channel_id], kept_channel)?.pop())
}

pub(crate) fn batches(
    connection: &Connection,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<BatchRecord>, StoreFailure> {
    let before = i64::try_from(before.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
    let sql = format!("{BATCH} WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
    let mut batches = all(connection, &sql, params![before, limit], bare_batch)?;
    batches.iter_mut().try_for_each(|batch| fill(connection, batch))?;
    Ok(batches)
}

pub(crate) fn batch(connection: &Connection, id: u64) -> Result<Option<BatchRecord>, StoreFailure> {
    let id = i64::try_from(id).map_err(|_| StoreFailure::OutOfRange("a batch's number"))?;
    let sql = format!("{BATCH} WHERE id = ?1");
    let mut batch = all(connection, &sql, [id], bare_batch)?.pop();
    if let Some(batch) = &mut batch {
        fill(connection, batch)?;
    }
    Ok(batch)
}

pub(crate) fn last_attempt(connection: &Connection, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
    let found = if let Purpose::Batch(id) = purpose {
        let id = i64::try_from(id).map_err(|_| StoreFailure::OutOfRange("a batch's number"))?;
        let sql = "SELECT signature, last_valid_block_height FROM batch_attempt
                   WHERE batch = ?1 ORDER BY id DESC LIMIT 1";
        connection.prepare_cached(sql)?.query_row([id], raw_attempt)
    } else {
        let Some((name, subject)) = subject(purpose) else { return Ok(None) };
        let sql = "SELECT signature, last_valid_block_height FROM attempt WHERE subject = ?1 AND purpose = ?2";
        connection.prepare_cached(sql)?.query_row(params![subject, name], raw_attempt)
    };
    found.optional()?.map(attempt).transpose()
}

pub(crate) fn spent(connection: &Connection, book: &[u8; 32]) -> Result<Spending, StoreFailure> {
    let sql = "SELECT purpose, lamports FROM spent_sum WHERE book = ?1";
    let sums = all(connection, sql, [book], |row| Ok((row.get::<_, String>(0)?, unsigned(row.get(1)?)?)))?;
    let mut spending = Spending::default();
    for expense in EXPENSES {
        let of_it = sums.iter().filter(|(name, _)| name == expense_name(expense));
        of_it.for_each(|(_, lamports)| spending.add(expense, *lamports));
    }
    Ok(spending)
}

pub(crate) fn spent_for_others_since(connection: &Connection, at: i64) -> Result<u64, StoreFailure> {
    let sql = "SELECT coalesce(sum(lamports), 0) FROM spent WHERE purpose <> 'claims' AND at >= ?1";
    unsigned(connection.prepare_cached(sql)?.query_row([at], |row| row.get(0))?)
}

/// Every row of a query.
fn all<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&Columns<'_>) -> Result<T, StoreFailure>,
) -> Result<Vec<T>, StoreFailure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// Each row of a query, as it comes.
fn each(
    connection: &Connection,
    sql: &str,
    mut visit: impl FnMut(&Columns<'_>) -> Result<(), StoreFailure>,
) -> Result<(), StoreFailure> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        visit(row)?;
    }
    Ok(())
}

fn payment(row: &Columns<'_>) -> Result<PaymentRecord, StoreFailure> {
    let attempt = attempt((row.get(1)?, row.get(2)?))?;
    Ok(PaymentRecord { message_hash: row.get(0)?, attempt, granted_to: row.get(3)? })
}

fn listing(row: &Columns<'_>) -> Result<ListingRecord, StoreFailure> {
    Ok(ListingRecord { key: row.get(0)?, text: row.get(1)?, paid_at: row.get(2)? })
}

fn kept_channel(row: &Columns<'_>) -> Result<KeptChannel, StoreFailure> {
    let place = Place { page: row.get(1)?, slot: row.get(2)?, generation: row.get(3)? };
    let voucher = SignedVoucher { channel_id: row.get(0)?, cumulative: amount(row.get(6)?)?, signature: row.get(7)? };
    let record = ChannelRecord {
        place,
        payer: row.get(4)?,
        signer: row.get(5)?,
        voucher,
        charged: amount(row.get(8)?)?,
        unsettled_since: row.get(9)?,
        leaving_since: row.get(10)?,
        last: last_call(row)?,
    };
    Ok(KeptChannel { record, over: row.get(11)? })
}

fn last_call(row: &Columns<'_>) -> Result<Option<LastCall>, StoreFailure> {
    let (cumulative, signature): (Option<i64>, Option<[u8; 64]>) = (row.get(12)?, row.get(13)?);
    let charge = row.get::<_, Option<i64>>(14)?.map(amount).transpose()?;
    let Some((cumulative, signature)) = cumulative.zip(signature) else { return Ok(None) };
    Ok(Some(LastCall { cumulative: amount(cumulative)?, signature, charge }))
}

/// A batch without its rows.
fn bare_batch(row: &Columns<'_>) -> Result<BatchRecord, StoreFailure> {
    let name: String = row.get(5)?;
    let state = [State::Sending, State::Confirmed, State::Failed]
        .into_iter()
        .find(|state| state_name(*state) == name)
        .ok_or(StoreFailure::Damaged("a batch's state"))?;
    Ok(BatchRecord {
        id: unsigned(row.get(0)?)?,
        page: row.get(1)?,
        gain: amount(row.get(2)?)?,
        planned_at: row.get(3)?,
        ended_at: row.get(4)?,
        state,
        rows: Vec::new(),
        attempts: Vec::new(),
        landed: Vec::new(),
        refused: Vec::new(),
    })
}

/// Reads what belongs to a batch.
fn fill(connection: &Connection, batch: &mut BatchRecord) -> Result<(), StoreFailure> {
    let id = [i64::try_from(batch.id).map_err(|_| StoreFailure::OutOfRange("a batch's number"))?];
    let sql = "SELECT slot, channel_id, cumulative, settled FROM batch_row WHERE batch = ?1 ORDER BY position";
    batch.rows = all(connection, sql, id, |row| {
        Ok(RowRecord {
            slot: row.get(0)?,
            channel_id: row.get(1)?,
            cumulative: amount(row.get(2)?)?,
            settled: amount(row.get(3)?)?,
        })
    })?;
    let sql = "SELECT signature, last_valid_block_height FROM batch_attempt WHERE batch = ?1 ORDER BY id";
    batch.attempts = all(connection, sql, id, |row| attempt(raw_attempt(row)?))?;
    let sql = "SELECT signature, channels, fee_lamports, compute_units FROM batch_landed
               WHERE batch = ?1 ORDER BY position";
    batch.landed = all(connection, sql, id, |row| {
        Ok(Landed {
            signature: row.get(0)?,
            rows: row.get(1)?,
            fee_lamports: unsigned(row.get(2)?)?,
            compute_units: unsigned(row.get(3)?)?,
        })
    })?;
    let sql = "SELECT slot, rejection FROM batch_refusal WHERE batch = ?1 ORDER BY position";
    batch.refused = all(connection, sql, id, |row| {
        let rejection = Rejection::from_code(row.get(1)?).ok_or(StoreFailure::Damaged("a rejection's number"))?;
        Ok((row.get(0)?, rejection))
    })?;
    Ok(())
}

fn raw_attempt(row: &Columns<'_>) -> rusqlite::Result<([u8; 64], i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn attempt((signature, height): ([u8; 64], i64)) -> Result<Attempt, StoreFailure> {
    Ok(Attempt { signature, last_valid_block_height: unsigned(height)? })
}

fn amount(number: i64) -> Result<Amount, StoreFailure> {
    unsigned(number).map(Amount::new)
}

fn unsigned(number: i64) -> Result<u64, StoreFailure> {
    u64::try_from(number).map_err(|_| StoreFailure::Damaged("a negative number"))
}
