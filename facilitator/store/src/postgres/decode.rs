//! Rows, as records.

use super::session::Session;
use crate::encode::{expense_name, state_name, subject};
use crate::{KeptChannel, Row, Spending, StoreFailure, Stored};
use futures_util::TryStreamExt;
use std::collections::HashMap;
use tallybook_ledger::{
    Attempt, BatchRecord, ChannelRecord, Expense, Landed, LastCall, ListingRecord, PaymentRecord, Place, Purpose,
    RowRecord, State,
};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};
use tokio_postgres::Row as Columns;
use tokio_postgres::types::FromSql;

const CHANNEL: &str = "SELECT channel_id, page, slot, generation, payer, signer, cumulative, signature, charged,
                              unsettled_since, leaving_since, over, last_cumulative, last_signature, last_charge
                       FROM channel";
const BATCH: &str = "SELECT id, page, gain, planned_at, ended_at, state FROM batch";
const PAYMENT: &str =
    "SELECT message_hash, signature, last_valid_block_height, granted_to FROM payment ORDER BY message_hash";
const LISTING: &str = "SELECT key, text, paid_at FROM listing ORDER BY key";
const TABLE: &str = "SELECT page, address FROM lookup_table";
/// So many batches are read at a time, with all that belongs to them.
const BATCHES: i64 = 256;
/// The last number of a batch that a row can have, and one more would not fit.
const NO_BATCH_AFTER: i64 = i64::MAX;

const EXPENSES: [Expense; 5] =
    [Expense::Claims, Expense::Deposits, Expense::Refunds, Expense::Pages, Expense::Payments];

/// What is told of each thing that is read.
pub(super) type Visit<'a, T> = &'a mut dyn FnMut(T) -> Result<(), StoreFailure>;

pub(super) async fn load(session: &mut Session, channel: Visit<'_, ChannelRecord>) -> Result<Stored, StoreFailure> {
    // As long as it takes.
    session.run("BEGIN READ ONLY; SET LOCAL statement_timeout = 0").await?;
    let sql = format!("{CHANNEL} WHERE NOT over ORDER BY channel_id");
    each(session, &sql, |row| channel(kept_channel(row)?.record)).await?;
    let rows = session.query(&format!("{BATCH} WHERE state = 'sending' ORDER BY id"), &[]).await?;
    let sending = filled(session, &rows).await?;
    let (payments, listings) = (payments(session).await?, listings(session).await?);
    let sql = format!("{TABLE} ORDER BY page");
    let tables = all(session.query(&sql, &[]).await?, table)?;
    let newest_batch = newest_batch(session).await?;
    session.run("COMMIT").await?;
    Ok(Stored { channels: Vec::new(), sending, payments, listings, tables, newest_batch })
}

/// What there is of some pages. Whoever reads it holds their book, so that nobody writes of it meanwhile.
pub(super) async fn load_pages(
    session: &mut Session,
    pages: Vec<[u8; 32]>,
    channel: Visit<'_, ChannelRecord>,
) -> Result<Stored, StoreFailure> {
    let pages: Vec<&[u8]> = pages.iter().map(<[u8; 32]>::as_slice).collect();
    let sql = format!("{CHANNEL} WHERE page = ANY ($1) AND NOT over ORDER BY channel_id");
    let rows = session.query(&sql, &[&pages]).await?;
    rows.iter().try_for_each(|row| channel(kept_channel(row)?.record))?;
    let sql = format!("{BATCH} WHERE state = 'sending' AND page = ANY ($1) ORDER BY id");
    let rows = session.query(&sql, &[&pages]).await?;
    let sending = filled(session, &rows).await?;
    let sql = format!("{TABLE} WHERE page = ANY ($1) ORDER BY page");
    let tables = all(session.query(&sql, &[&pages]).await?, table)?;
    let newest_batch = newest_batch(session).await?;
    let (payments, listings) = (Vec::new(), Vec::new());
    Ok(Stored { channels: Vec::new(), sending, payments, listings, tables, newest_batch })
}

pub(super) async fn payments(session: &mut Session) -> Result<Vec<PaymentRecord>, StoreFailure> {
    all(session.query(PAYMENT, &[]).await?, payment)
}

pub(super) async fn listings(session: &mut Session) -> Result<Vec<ListingRecord>, StoreFailure> {
    all(session.query(LISTING, &[]).await?, listing)
}

async fn newest_batch(session: &mut Session) -> Result<u64, StoreFailure> {
    let rows = session.query("SELECT coalesce(max(id), 0) FROM batch", &[]).await?;
    rows.first().map_or(Ok(0), |row| number(row, 0))
}

fn table(row: &Columns) -> Result<([u8; 32], [u8; 32]), StoreFailure> {
    Ok((key(row, 0)?, key(row, 1)?))
}

/// Everything, as it is at one moment.
pub(super) async fn everything(session: &mut Session, visit: Visit<'_, Row>) -> Result<(), StoreFailure> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0").await?;
    each_row(session, visit).await?;
    session.run("COMMIT").await
}

/// Everything, within the transaction that is open.
pub(super) async fn each_row(session: &mut Session, visit: Visit<'_, Row>) -> Result<(), StoreFailure> {
    let sql = format!("{CHANNEL} ORDER BY channel_id");
    each(session, &sql, |row| visit(Row::Channel(kept_channel(row)?))).await?;
    let mut after = 0i64;
    loop {
        let sql = format!("{BATCH} WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = session.query(&sql, &[&after, &BATCHES]).await?;
        let batches = filled(session, &rows).await?;
        let Some(last) = batches.last() else { break };
        after = i64::try_from(last.id).unwrap_or(NO_BATCH_AFTER);
        batches.into_iter().try_for_each(|batch| visit(Row::Batch(batch)))?;
    }
    let sql = "SELECT subject, purpose, signature, last_valid_block_height FROM attempt ORDER BY subject, purpose";
    each(session, sql, |row| {
        let (of, name) = (key(row, 0)?, get::<&str>(row, 1)?);
        let purposes = [Purpose::Deposit(of), Purpose::TopUp(of), Purpose::Refund(of), Purpose::Page(of)];
        let purpose = purposes.into_iter().find(|purpose| subject(*purpose).is_some_and(|(of, _)| of == name));
        visit(Row::Attempt(purpose.ok_or(StoreFailure::Damaged("the purpose of a sending"))?, attempt(row, 2)?))
    })
    .await?;
    each(session, "SELECT signature, book, purpose, lamports, at FROM spent ORDER BY signature, book", |row| {
        let (expense, lamports) = (expense(get(row, 2)?)?, number(row, 3)?);
        visit(Row::Spent { signature: key(row, 0)?, book: key(row, 1)?, expense, lamports, at: get(row, 4)? })
    })
    .await?;
    each(session, PAYMENT, |row| visit(Row::Payment(payment(row)?))).await?;
    each(session, LISTING, |row| visit(Row::Listing(listing(row)?))).await?;
    let sql = format!("{TABLE} ORDER BY page");
    each(session, &sql, |row| {
        let (page, table) = table(row)?;
        visit(Row::Table { page, table })
    })
    .await
}

pub(super) async fn channel(session: &mut Session, id: [u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
    let rows = session.query(&format!("{CHANNEL} WHERE channel_id = $1"), &[&id.as_slice()]).await?;
    rows.first().map(kept_channel).transpose()
}

pub(super) async fn batches(
    session: &mut Session,
    before: Option<u64>,
    limit: u32,
) -> Result<Vec<BatchRecord>, StoreFailure> {
    let before = i64::try_from(before.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
    let sql = format!("{BATCH} WHERE id < $1 ORDER BY id DESC LIMIT $2");
    let rows = session.query(&sql, &[&before, &i64::from(limit)]).await?;
    filled(session, &rows).await
}

pub(super) async fn last_attempt(session: &mut Session, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
    let rows = if let Purpose::Batch(id) = purpose {
        let id = i64::try_from(id).map_err(|_| StoreFailure::OutOfRange("a batch's number"))?;
        let sql = "SELECT signature, last_valid_block_height FROM batch_attempt
                   WHERE batch = $1 ORDER BY id DESC LIMIT 1";
        session.query(sql, &[&id]).await?
    } else {
        let Some((name, subject)) = subject(purpose) else { return Ok(None) };
        let sql = "SELECT signature, last_valid_block_height FROM attempt WHERE subject = $1 AND purpose = $2";
        session.query(sql, &[&subject.as_slice(), &name]).await?
    };
    rows.first().map(|row| attempt(row, 0)).transpose()
}

pub(super) async fn spent(session: &mut Session, book: [u8; 32]) -> Result<Spending, StoreFailure> {
    let sql = "SELECT purpose, lamports FROM spent_sum WHERE book = $1";
    let mut spending = Spending::default();
    for row in session.query(sql, &[&book.as_slice()]).await? {
        spending.add(expense(get(&row, 0)?)?, number(&row, 1)?);
    }
    Ok(spending)
}

pub(super) async fn spent_for_others_since(session: &mut Session, at: i64) -> Result<u64, StoreFailure> {
    let sql = "SELECT coalesce(sum(lamports), 0)::bigint FROM spent WHERE purpose <> 'claims' AND at >= $1";
    let rows = session.query(sql, &[&at]).await?;
    rows.first().map_or(Ok(0), |row| number(row, 0))
}

/// How much stands in the tables.
pub(super) async fn is_empty(session: &mut Session) -> Result<bool, StoreFailure> {
    let sql = "SELECT EXISTS (SELECT FROM channel) OR EXISTS (SELECT FROM batch) OR EXISTS (SELECT FROM attempt)
                   OR EXISTS (SELECT FROM spent) OR EXISTS (SELECT FROM payment) OR EXISTS (SELECT FROM lookup_table)
                   OR EXISTS (SELECT FROM listing)";
    let rows = session.query(sql, &[]).await?;
    rows.first().map_or(Ok(false), |row| get::<bool>(row, 0).map(|holds| !holds))
}

/// Every row of a query, as it comes.
async fn each(
    session: &mut Session,
    sql: &str,
    mut visit: impl FnMut(&Columns) -> Result<(), StoreFailure>,
) -> Result<(), StoreFailure> {
    let mut rows = std::pin::pin!(session.stream(sql).await?);
    while let Some(row) = rows.try_next().await? {
        visit(&row)?;
    }
    Ok(())
}

fn all<T>(rows: Vec<Columns>, read: impl Fn(&Columns) -> Result<T, StoreFailure>) -> Result<Vec<T>, StoreFailure> {
    rows.iter().map(read).collect()
}

fn kept_channel(row: &Columns) -> Result<KeptChannel, StoreFailure> {
    let place = Place { page: key(row, 1)?, slot: small(row, 2)?, generation: small(row, 3)? };
    let voucher = SignedVoucher { channel_id: key(row, 0)?, cumulative: amount(row, 6)?, signature: key(row, 7)? };
    let record = ChannelRecord {
        place,
        payer: key(row, 4)?,
        signer: key(row, 5)?,
        voucher,
        charged: amount(row, 8)?,
        unsettled_since: get(row, 9)?,
        leaving_since: get(row, 10)?,
        last: last_call(row)?,
    };
    Ok(KeptChannel { record, over: get(row, 11)? })
}

fn last_call(row: &Columns) -> Result<Option<LastCall>, StoreFailure> {
    let (cumulative, signature) = (get::<Option<i64>>(row, 12)?, get::<Option<&[u8]>>(row, 13)?);
    let charge = get::<Option<i64>>(row, 14)?.map(unsigned).transpose()?.map(Amount::new);
    let Some((cumulative, signature)) = cumulative.zip(signature) else { return Ok(None) };
    Ok(Some(LastCall { cumulative: Amount::new(unsigned(cumulative)?), signature: fixed(signature)?, charge }))
}

/// Batches with everything that belongs to them, in the order of `rows`.
async fn filled(session: &mut Session, rows: &[Columns]) -> Result<Vec<BatchRecord>, StoreFailure> {
    let mut batches = rows.iter().map(bare_batch).collect::<Result<Vec<_>, _>>()?;
    let ids = rows.iter().map(|row| get::<i64>(row, 0)).collect::<Result<Vec<_>, _>>()?;
    if ids.is_empty() {
        return Ok(batches);
    }
    let mut by_id: HashMap<i64, &mut BatchRecord> = ids.iter().copied().zip(&mut batches).collect();
    let sql = "SELECT batch, slot, channel_id, cumulative, settled FROM batch_row
               WHERE batch = ANY ($1) ORDER BY batch, position";
    for row in session.query(sql, &[&ids]).await? {
        let (cumulative, settled) = (amount(&row, 3)?, amount(&row, 4)?);
        let read = RowRecord { slot: small(&row, 1)?, channel_id: key(&row, 2)?, cumulative, settled };
        of(&mut by_id, &row)?.rows.push(read);
    }
    let sql = "SELECT batch, signature, last_valid_block_height FROM batch_attempt
               WHERE batch = ANY ($1) ORDER BY id";
    for row in session.query(sql, &[&ids]).await? {
        of(&mut by_id, &row)?.attempts.push(attempt(&row, 1)?);
    }
    let sql = "SELECT batch, signature, channels, fee_lamports, compute_units FROM batch_landed
               WHERE batch = ANY ($1) ORDER BY batch, position";
    for row in session.query(sql, &[&ids]).await? {
        let (fee_lamports, compute_units) = (number(&row, 3)?, number(&row, 4)?);
        let read = Landed { signature: key(&row, 1)?, rows: small(&row, 2)?, fee_lamports, compute_units };
        of(&mut by_id, &row)?.landed.push(read);
    }
    let sql =
        "SELECT batch, slot, rejection::bigint FROM batch_refusal WHERE batch = ANY ($1) ORDER BY batch, position";
    for row in session.query(sql, &[&ids]).await? {
        let rejection = Rejection::from_code(small(&row, 2)?).ok_or(StoreFailure::Damaged("a rejection's number"))?;
        of(&mut by_id, &row)?.refused.push((small(&row, 1)?, rejection));
    }
    Ok(batches)
}

/// The batch that a row belongs to.
fn of<'a>(batches: &'a mut HashMap<i64, &mut BatchRecord>, row: &Columns) -> Result<&'a mut BatchRecord, StoreFailure> {
    let id: i64 = get(row, 0)?;
    batches.get_mut(&id).map(|batch| &mut **batch).ok_or(StoreFailure::Damaged("a row of no batch"))
}

/// A batch without its rows.
fn bare_batch(row: &Columns) -> Result<BatchRecord, StoreFailure> {
    let name: &str = get(row, 5)?;
    let state = [State::Sending, State::Confirmed, State::Failed]
        .into_iter()
        .find(|state| state_name(*state) == name)
        .ok_or(StoreFailure::Damaged("a batch's state"))?;
    Ok(BatchRecord {
        id: number(row, 0)?,
        page: key(row, 1)?,
        gain: amount(row, 2)?,
        planned_at: get(row, 3)?,
        ended_at: get(row, 4)?,
        state,
        rows: Vec::new(),
        attempts: Vec::new(),
        landed: Vec::new(),
        refused: Vec::new(),
    })
}

fn payment(row: &Columns) -> Result<PaymentRecord, StoreFailure> {
    let granted_to = get::<Option<&[u8]>>(row, 3)?.map(fixed).transpose()?;
    Ok(PaymentRecord { message_hash: key(row, 0)?, attempt: attempt(row, 1)?, granted_to })
}

fn listing(row: &Columns) -> Result<ListingRecord, StoreFailure> {
    Ok(ListingRecord { key: key(row, 0)?, text: get(row, 1)?, paid_at: get(row, 2)? })
}

fn expense(name: &str) -> Result<Expense, StoreFailure> {
    let found = EXPENSES.into_iter().find(|expense| expense_name(*expense) == name);
    found.ok_or(StoreFailure::Damaged("what something was spent for"))
}

/// A sending, whose signature stands in column `at` and its height in the next one.
fn attempt(row: &Columns, at: usize) -> Result<Attempt, StoreFailure> {
    Ok(Attempt { signature: key(row, at)?, last_valid_block_height: number(row, at.saturating_add(1))? })
}

fn get<'a, T: FromSql<'a>>(row: &'a Columns, at: usize) -> Result<T, StoreFailure> {
    Ok(row.try_get(at)?)
}

fn key<const N: usize>(row: &Columns, at: usize) -> Result<[u8; N], StoreFailure> {
    fixed(get(row, at)?)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], StoreFailure> {
    bytes.try_into().map_err(|_| StoreFailure::Damaged("a key or signature of another length"))
}

/// A number that fits something smaller than a row's.
fn small<T: TryFrom<i64>>(row: &Columns, at: usize) -> Result<T, StoreFailure> {
    let number = get::<i64>(row, at).or_else(|_| get::<i16>(row, at).map(i64::from))?;
    T::try_from(number).map_err(|_| StoreFailure::Damaged("a number out of range"))
}

fn number(row: &Columns, at: usize) -> Result<u64, StoreFailure> {
    unsigned(get(row, at)?)
}

fn amount(row: &Columns, at: usize) -> Result<Amount, StoreFailure> {
    number(row, at).map(Amount::new)
}

fn unsigned(number: i64) -> Result<u64, StoreFailure> {
    u64::try_from(number).map_err(|_| StoreFailure::Damaged("a negative number"))
}
