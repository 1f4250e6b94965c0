//! Changes, as statements: one for each kind of change that there is, whatever their number.

use crate::StoreFailure;
use crate::encode::{expense_name, subject};
use bytes::BytesMut;
use std::collections::BTreeMap;
use tallybook_ledger::{
    Attempt, BatchRecord, Change, ChannelRecord, Expense, ListingRecord, Outcome, PaymentRecord, Purpose,
};
use tallybook_rules::Amount;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

/// A parameter of a statement.
pub(super) type Parameter = Box<dyn ToSql + Sync + Send>;

/// What one statement does to all rows of a kind.
pub(super) struct Write {
    pub(super) sql: &'static str,
    pub(super) parameters: Vec<Parameter>,
}

/// Bytes of a fixed length, as they are sent.
#[derive(Clone, Copy, Debug)]
struct Fixed<const N: usize>([u8; N]);

impl<const N: usize> ToSql for Fixed<N> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::BYTEA
    }

    to_sql_checked!();
}

/// Those that come first are written first.
const OVER: &str = "UPDATE channel SET over = true WHERE channel_id = ANY ($1)";
const CHANNELS: &str = "
    INSERT INTO channel (channel_id, page, slot, generation, payer, signer, cumulative, signature, charged,
                         unsettled_since, leaving_since, over, last_cumulative, last_signature, last_charge)
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::smallint[], $4::bigint[], $5::bytea[], $6::bytea[], $7::bigint[],
                         $8::bytea[], $9::bigint[], $10::bigint[], $11::bigint[], $12::boolean[], $13::bigint[],
                         $14::bytea[], $15::bigint[])
    ON CONFLICT (channel_id) DO UPDATE SET
        cumulative = excluded.cumulative, signature = excluded.signature, charged = excluded.charged,
        unsettled_since = excluded.unsettled_since, leaving_since = excluded.leaving_since,
        over = channel.over OR excluded.over, last_cumulative = excluded.last_cumulative,
        last_signature = excluded.last_signature, last_charge = excluded.last_charge";
const BATCHES: &str = "
    INSERT INTO batch (id, page, gain, planned_at, state)
    SELECT id, page, gain, planned_at, 'sending'
    FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bigint[]) AS given (id, page, gain, planned_at)";
const BATCH_ROWS: &str = "
    INSERT INTO batch_row (batch, slot, position, channel_id, cumulative, settled)
    SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bigint[])";
const BATCH_ATTEMPTS: &str = "
    INSERT INTO batch_attempt (batch, signature, last_valid_block_height)
    SELECT batch, signature, height
    FROM unnest($1::bigint[], $2::bytea[], $3::bigint[]) WITH ORDINALITY AS given (batch, signature, height, number)
    ORDER BY number";
const LANDED: &str = "
    INSERT INTO batch_landed (batch, position, signature, channels, fee_lamports, compute_units)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[])";
const REFUSED: &str = "
    INSERT INTO batch_refusal (batch, position, slot, rejection)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::integer[])";
const ENDED: &str = "SELECT end_batches($1, $2, $3, $4)";
const ATTEMPTS: &str = "
    INSERT INTO attempt (subject, purpose, signature, last_valid_block_height)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::bytea[], $4::bigint[])
    ON CONFLICT (subject, purpose) DO UPDATE SET
        signature = excluded.signature, last_valid_block_height = excluded.last_valid_block_height";
const PAYMENTS_OVER: &str = "DELETE FROM payment WHERE message_hash = ANY ($1)";
const PAYMENTS: &str = "
    INSERT INTO payment (message_hash, signature, last_valid_block_height, granted_to)
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bigint[], $4::bytea[])
    ON CONFLICT (message_hash) DO UPDATE SET
        signature = excluded.signature, last_valid_block_height = excluded.last_valid_block_height,
        granted_to = excluded.granted_to";
const SPENT: &str = "
    WITH new AS (
        INSERT INTO spent (signature, book, purpose, lamports, at)
        SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::bigint[], $5::bigint[])
        ON CONFLICT (signature, book) DO NOTHING
        RETURNING book, purpose, lamports
    )
    INSERT INTO spent_sum (book, purpose, lamports)
    SELECT book, purpose, sum(lamports)::bigint FROM new GROUP BY book, purpose
    ON CONFLICT (book, purpose) DO UPDATE SET lamports = spent_sum.lamports + excluded.lamports";
const UNLISTED: &str = "DELETE FROM listing WHERE key = ANY ($1)";
const LISTINGS: &str = "
    INSERT INTO listing (key, text, paid_at) SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[])
    ON CONFLICT (key) DO UPDATE SET text = excluded.text, paid_at = excluded.paid_at";
const TABLES: &str = "
    INSERT INTO lookup_table (page, address) SELECT * FROM unnest($1::bytea[], $2::bytea[])
    ON CONFLICT (page) DO UPDATE SET address = excluded.address";

/// The statements that write `changes`, in the order in which they have to be run. What is written of one thing several
/// times is written once, as the last says; what the rules of the tables would refuse on the way there is refused here.
pub(super) fn writes(changes: &[Change]) -> Result<Vec<Write>, StoreFailure> {
    let mut folded = Folded::default();
    changes.iter().try_for_each(|change| folded.add(change))?;
    folded.writes()
}

/// What was spent for a book.
struct Bill {
    signature: Fixed<64>,
    book: Fixed<32>,
    expense: Expense,
    lamports: u64,
    at: i64,
}

/// Changes by what they are of.
#[derive(Default)]
struct Folded<'a> {
    /// Channels that were over before a record of them, if any, was written.
    over: Vec<[u8; 32]>,
    channels: BTreeMap<[u8; 32], (&'a ChannelRecord, bool)>,
    planned: Vec<&'a BatchRecord>,
    batch_attempts: Vec<(u64, &'a Attempt)>,
    ended: Vec<(u64, &'a Outcome, i64)>,
    attempts: BTreeMap<(&'static str, [u8; 32]), &'a Attempt>,
    payments_over: Vec<[u8; 32]>,
    payments: BTreeMap<[u8; 32], &'a PaymentRecord>,
    spent: Vec<Bill>,
    /// None for what is gone.
    listings: BTreeMap<[u8; 32], Option<&'a ListingRecord>>,
    tables: BTreeMap<[u8; 32], [u8; 32]>,
}

impl<'a> Folded<'a> {
    fn add(&mut self, change: &'a Change) -> Result<(), StoreFailure> {
        match change {
            Change::Channel(record) => return self.channel(record),
            Change::Over { channel_id } => match self.channels.get_mut(channel_id) {
                Some((_, over)) => *over = true,
                None => self.over.push(*channel_id),
            },
            Change::Planned(batch) => self.planned.push(batch),
            Change::Sending { purpose, attempt } => match (purpose, subject(*purpose)) {
                (Purpose::Batch(id), _) => self.batch_attempts.push((*id, attempt)),
                (_, Some(key)) => drop(self.attempts.insert(key, attempt)),
                (_, None) => {}
            },
            Change::Ended { id, outcome, at } => self.ended.push((*id, outcome, *at)),
            Change::Spent { signature, book, expense, lamports, at } => {
                let (signature, book) = (Fixed(*signature), Fixed(*book));
                self.spent.push(Bill { signature, book, expense: *expense, lamports: *lamports, at: *at });
            }
            Change::Payment(record) => return self.payment(record),
            Change::PaymentOver { message_hash } => {
                self.payments.remove(message_hash);
                self.payments_over.push(*message_hash);
            }
            Change::Listing(record) => drop(self.listings.insert(record.key, Some(record))),
            Change::Unlisted { key } => drop(self.listings.insert(*key, None)),
            Change::Table { page, table } => drop(self.tables.insert(*page, *table)),
        }
        Ok(())
    }

    fn channel(&mut self, record: &'a ChannelRecord) -> Result<(), StoreFailure> {
        let (kept, _) = self.channels.entry(record.voucher.channel_id).or_insert((record, false));
        if record.voucher.cumulative < kept.voucher.cumulative || record.charged < kept.charged {
            return Err(StoreFailure::Damaged("a voucher would be taken back"));
        }
        *kept = record;
        Ok(())
    }

    fn payment(&mut self, record: &'a PaymentRecord) -> Result<(), StoreFailure> {
        let before = self.payments.insert(record.message_hash, record).and_then(|kept| kept.granted_to);
        if before.is_some() && before != record.granted_to {
            return Err(StoreFailure::Damaged("a payment would be granted twice"));
        }
        Ok(())
    }

    fn writes(self) -> Result<Vec<Write>, StoreFailure> {
        let mut writes = Vec::new();
        let mut write = |count: usize, sql, parameters: Vec<Parameter>| {
            if count > 0 {
                writes.push(Write { sql, parameters });
            }
        };
        write(self.over.len(), OVER, vec![keys(&self.over)]);
        write(self.channels.len(), CHANNELS, channels(&self.channels)?);
        write(self.planned.len(), BATCHES, batches(&self.planned)?);
        let (count, parameters) = batch_rows(&self.planned)?;
        write(count, BATCH_ROWS, parameters);
        write(self.batch_attempts.len(), BATCH_ATTEMPTS, batch_attempts(&self.batch_attempts)?);
        let (count, parameters) = landed(&self.ended)?;
        write(count, LANDED, parameters);
        let (count, parameters) = refused(&self.ended)?;
        write(count, REFUSED, parameters);
        write(self.ended.len(), ENDED, ended(&self.ended)?);
        write(self.attempts.len(), ATTEMPTS, attempts(&self.attempts)?);
        write(self.payments_over.len(), PAYMENTS_OVER, vec![keys(&self.payments_over)]);
        write(self.payments.len(), PAYMENTS, payments(&self.payments)?);
        write(self.spent.len(), SPENT, spent(&self.spent)?);
        let gone: Vec<_> = self.listings.iter().filter(|(_, listing)| listing.is_none()).map(|(key, _)| *key).collect();
        write(gone.len(), UNLISTED, vec![keys(&gone)]);
        let listed: Vec<_> = self.listings.values().copied().flatten().collect();
        write(listed.len(), LISTINGS, listings(&listed));
        let (pages, tables): (Vec<_>, Vec<_>) = self.tables.iter().map(|(page, table)| (*page, *table)).unzip();
        write(pages.len(), TABLES, vec![keys(&pages), keys(&tables)]);
        Ok(writes)
    }
}

fn channels(channels: &BTreeMap<[u8; 32], (&ChannelRecord, bool)>) -> Result<Vec<Parameter>, StoreFailure> {
    let last = |of: &dyn Fn(&tallybook_ledger::LastCall) -> Option<Amount>| {
        let of_it = |(record, _): &(&ChannelRecord, bool)| record.last.as_ref().and_then(of).map(amount).transpose();
        channels.values().map(of_it).collect::<Result<Vec<_>, _>>()
    };
    let last_cumulative = last(&|last| Some(last.cumulative))?;
    let last_charge = last(&|last| last.charge)?;
    let cumulative: Vec<_> = each(channels.values(), |(record, _)| amount(record.voucher.cumulative))?;
    let charged: Vec<_> = each(channels.values(), |(record, _)| amount(record.charged))?;
    let records = || channels.values().map(|(record, _)| *record);
    Ok(vec![
        column(records().map(|record| Fixed(record.voucher.channel_id))),
        column(records().map(|record| Fixed(record.place.page))),
        column(records().map(|record| i16::from(record.place.slot))),
        column(records().map(|record| i64::from(record.place.generation))),
        column(records().map(|record| Fixed(record.payer))),
        column(records().map(|record| Fixed(record.signer))),
        Box::new(cumulative),
        column(records().map(|record| Fixed(record.voucher.signature))),
        Box::new(charged),
        column(records().map(|record| record.unsettled_since)),
        column(records().map(|record| record.leaving_since)),
        column(channels.values().map(|(_, over)| *over)),
        Box::new(last_cumulative),
        column(records().map(|record| record.last.map(|last| Fixed(last.signature)))),
        Box::new(last_charge),
    ])
}

fn batches(planned: &[&BatchRecord]) -> Result<Vec<Parameter>, StoreFailure> {
    Ok(vec![
        Box::new(each(planned, |batch| number_of(batch.id))?),
        column(planned.iter().map(|batch| Fixed(batch.page))),
        Box::new(each(planned, |batch| amount(batch.gain))?),
        column(planned.iter().map(|batch| batch.planned_at)),
    ])
}

fn batch_rows(planned: &[&BatchRecord]) -> Result<(usize, Vec<Parameter>), StoreFailure> {
    let rows: Vec<_> = planned
        .iter()
        .flat_map(|batch| (0i64..).zip(&batch.rows).map(|(position, row)| (batch.id, position, row)))
        .collect();
    let parameters: Vec<Parameter> = vec![
        Box::new(each(&rows, |(id, ..)| number_of(*id))?),
        column(rows.iter().map(|(_, _, row)| i16::from(row.slot))),
        column(rows.iter().map(|(_, position, _)| *position)),
        column(rows.iter().map(|(_, _, row)| Fixed(row.channel_id))),
        Box::new(each(&rows, |(_, _, row)| amount(row.cumulative))?),
        Box::new(each(&rows, |(_, _, row)| amount(row.settled))?),
    ];
    Ok((rows.len(), parameters))
}

fn batch_attempts(attempts: &[(u64, &Attempt)]) -> Result<Vec<Parameter>, StoreFailure> {
    Ok(vec![
        Box::new(each(attempts, |(id, _)| number_of(*id))?),
        column(attempts.iter().map(|(_, attempt)| Fixed(attempt.signature))),
        Box::new(each(attempts, |(_, attempt)| height(attempt))?),
    ])
}

fn landed(ended: &[(u64, &Outcome, i64)]) -> Result<(usize, Vec<Parameter>), StoreFailure> {
    let rows: Vec<_> = ended
        .iter()
        .flat_map(|(id, outcome, _)| (0i64..).zip(&outcome.landed).map(|(position, landed)| (*id, position, landed)))
        .collect();
    let parameters: Vec<Parameter> = vec![
        Box::new(each(&rows, |(id, ..)| number_of(*id))?),
        column(rows.iter().map(|(_, position, _)| *position)),
        column(rows.iter().map(|(_, _, landed)| Fixed(landed.signature))),
        column(rows.iter().map(|(_, _, landed)| i64::from(landed.rows))),
        Box::new(each(&rows, |(_, _, landed)| integer(landed.fee_lamports, "a fee"))?),
        Box::new(each(&rows, |(_, _, landed)| integer(landed.compute_units, "compute units"))?),
    ];
    Ok((rows.len(), parameters))
}

fn refused(ended: &[(u64, &Outcome, i64)]) -> Result<(usize, Vec<Parameter>), StoreFailure> {
    let rows: Vec<_> = ended
        .iter()
        .flat_map(|(id, outcome, _)| (0i64..).zip(&outcome.refused).map(|(position, refused)| (*id, position, refused)))
        .collect();
    let parameters: Vec<Parameter> = vec![
        Box::new(each(&rows, |(id, ..)| number_of(*id))?),
        column(rows.iter().map(|(_, position, _)| *position)),
        column(rows.iter().map(|(_, _, (slot, _))| i16::from(*slot))),
        column(rows.iter().map(|(_, _, (_, rejection))| i32::from(rejection.code()))),
    ];
    Ok((rows.len(), parameters))
}

fn ended(ended: &[(u64, &Outcome, i64)]) -> Result<Vec<Parameter>, StoreFailure> {
    let count = |count: usize| i64::try_from(count).map_err(|_| StoreFailure::OutOfRange("rows of a batch"));
    let sum =
        |outcome: &Outcome| outcome.landed.iter().map(|landed| i64::from(landed.rows)).fold(0, i64::saturating_add);
    Ok(vec![
        Box::new(each(ended, |(id, ..)| number_of(*id))?),
        column(ended.iter().map(|(_, _, at)| *at)),
        column(ended.iter().map(|(_, outcome, _)| sum(outcome))),
        Box::new(each(ended, |(_, outcome, _)| count(outcome.refused.len()))?),
    ])
}

fn attempts(attempts: &BTreeMap<(&'static str, [u8; 32]), &Attempt>) -> Result<Vec<Parameter>, StoreFailure> {
    Ok(vec![
        column(attempts.keys().map(|(_, subject)| Fixed(*subject))),
        column(attempts.keys().map(|(purpose, _)| *purpose)),
        column(attempts.values().map(|attempt| Fixed(attempt.signature))),
        Box::new(each(attempts.values(), |attempt| height(attempt))?),
    ])
}

fn payments(payments: &BTreeMap<[u8; 32], &PaymentRecord>) -> Result<Vec<Parameter>, StoreFailure> {
    Ok(vec![
        column(payments.keys().map(|hash| Fixed(*hash))),
        column(payments.values().map(|record| Fixed(record.attempt.signature))),
        Box::new(each(payments.values(), |record| height(&record.attempt))?),
        column(payments.values().map(|record| record.granted_to.map(Fixed))),
    ])
}

fn spent(spent: &[Bill]) -> Result<Vec<Parameter>, StoreFailure> {
    Ok(vec![
        column(spent.iter().map(|bill| bill.signature)),
        column(spent.iter().map(|bill| bill.book)),
        column(spent.iter().map(|bill| expense_name(bill.expense))),
        Box::new(each(spent, |bill| integer(bill.lamports, "lamports"))?),
        column(spent.iter().map(|bill| bill.at)),
    ])
}

fn listings(listed: &[&ListingRecord]) -> Vec<Parameter> {
    vec![
        column(listed.iter().map(|listing| Fixed(listing.key))),
        column(listed.iter().map(|listing| listing.text.clone())),
        column(listed.iter().map(|listing| listing.paid_at)),
    ]
}

fn keys(keys: &[[u8; 32]]) -> Parameter {
    column(keys.iter().map(|key| Fixed(*key)))
}

/// All values of a column.
fn column<T: ToSql + Sync + Send + 'static>(values: impl Iterator<Item = T>) -> Parameter
where
    Vec<T>: ToSql,
{
    Box::new(values.collect::<Vec<_>>())
}

/// All values of a column, each of which may not fit.
fn each<T, U>(
    from: impl IntoIterator<Item = T>,
    of: impl Fn(T) -> Result<U, StoreFailure>,
) -> Result<Vec<U>, StoreFailure> {
    from.into_iter().map(of).collect()
}

fn amount(amount: Amount) -> Result<i64, StoreFailure> {
    integer(amount.get(), "an amount")
}

fn number_of(batch: u64) -> Result<i64, StoreFailure> {
    integer(batch, "a batch's number")
}

fn height(attempt: &Attempt) -> Result<i64, StoreFailure> {
    integer(attempt.last_valid_block_height, "a block height")
}

fn integer(number: u64, what: &'static str) -> Result<i64, StoreFailure> {
    i64::try_from(number).map_err(|_| StoreFailure::OutOfRange(what))
}
