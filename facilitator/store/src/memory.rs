use crate::{KeptChannel, Row, Spending, StoreFailure, Stored, VoucherStore};
use std::collections::BTreeMap;
use tallybook_ledger::{
    Attempt, BatchRecord, Change, ChannelRecord, Expense, ListingRecord, PaymentRecord, Purpose, State,
};

/// A transaction's signature, and the book that it was for.
type Bill = ([u8; 64], [u8; 32]);

/// A store without a disk, for tests. Its clone is what a crash would have left.
#[derive(Clone, Default, Debug)]
pub struct MemoryStore {
    channels: BTreeMap<[u8; 32], KeptChannel>,
    batches: BTreeMap<u64, BatchRecord>,
    attempts: BTreeMap<Purpose, Attempt>,
    payments: BTreeMap<[u8; 32], PaymentRecord>,
    listings: BTreeMap<[u8; 32], ListingRecord>,
    tables: BTreeMap<[u8; 32], [u8; 32]>,
    spent: BTreeMap<Bill, (Expense, u64, i64)>,
}

impl VoucherStore for MemoryStore {
    fn load_each(&mut self, channel: &mut dyn FnMut(ChannelRecord)) -> Result<Stored, StoreFailure> {
        self.channels.values().filter(|kept| !kept.over).for_each(|kept| channel(kept.record));
        let sending = self.batches.values().filter(|batch| batch.state == State::Sending);
        Ok(Stored {
            channels: Vec::new(),
            sending: sending.cloned().collect(),
            payments: self.payments.values().copied().collect(),
            listings: self.listings.values().cloned().collect(),
            tables: self.tables.iter().map(|(page, table)| (*page, *table)).collect(),
            newest_batch: self.batches.last_key_value().map_or(0, |(id, _)| *id),
        })
    }

    fn each_row(&mut self, row: &mut dyn FnMut(Row) -> Result<(), StoreFailure>) -> Result<(), StoreFailure> {
        let channels = self.channels.values().map(|kept| Row::Channel(*kept));
        let batches = self.batches.values().map(|batch| Row::Batch(batch.clone()));
        let attempts = self.attempts.iter().filter(|(purpose, _)| !matches!(purpose, Purpose::Batch(_)));
        let attempts = attempts.map(|(purpose, attempt)| Row::Attempt(*purpose, *attempt));
        let spent = self.spent.iter().map(|((signature, book), (expense, lamports, at))| Row::Spent {
            signature: *signature,
            book: *book,
            expense: *expense,
            lamports: *lamports,
            at: *at,
        });
        let payments = self.payments.values().map(|record| Row::Payment(*record));
        let listings = self.listings.values().map(|record| Row::Listing(record.clone()));
        let tables = self.tables.iter().map(|(page, table)| Row::Table { page: *page, table: *table });
        channels
            .chain(batches)
            .chain(attempts)
            .chain(spent)
            .chain(payments)
            .chain(listings)
            .chain(tables)
            .try_for_each(row)
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreFailure> {
        let mut next = self.clone();
        changes.iter().try_for_each(|change| next.apply(change))?;
        *self = next;
        Ok(())
    }

    fn channel(&mut self, channel_id: &[u8; 32]) -> Result<Option<KeptChannel>, StoreFailure> {
        Ok(self.channels.get(channel_id).copied())
    }

    fn batches(&mut self, before: Option<u64>, limit: u32) -> Result<Vec<BatchRecord>, StoreFailure> {
        let below = self.batches.range(..before.unwrap_or(u64::MAX)).rev();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(below.map(|(_, batch)| batch.clone()).take(limit).collect())
    }

    fn last_attempt(&mut self, purpose: Purpose) -> Result<Option<Attempt>, StoreFailure> {
        Ok(self.attempts.get(&purpose).copied())
    }

    fn spent(&mut self, book: &[u8; 32]) -> Result<Spending, StoreFailure> {
        let mut spending = Spending::default();
        let of_book = self.spent.iter().filter(|((_, of), _)| of == book);
        of_book.for_each(|(_, (expense, lamports, _))| spending.add(*expense, *lamports));
        Ok(spending)
    }

    fn spent_for_others_since(&mut self, since: i64) -> Result<u64, StoreFailure> {
        let counted = self.spent.values().filter(|(expense, _, at)| *expense != Expense::Claims && *at >= since);
        Ok(counted.fold(0, |sum, (_, lamports, _)| sum.saturating_add(*lamports)))
    }
}

impl MemoryStore {
    fn apply(&mut self, change: &Change) -> Result<(), StoreFailure> {
        match change {
            Change::Channel(record) => {
                let id = record.voucher.channel_id;
                let kept = self.channels.get(&id);
                let falls = kept.is_some_and(|kept| {
                    record.voucher.cumulative < kept.record.voucher.cumulative || record.charged < kept.record.charged
                });
                if falls || record.charged > record.voucher.cumulative {
                    return Err(StoreFailure::Damaged("a voucher would be taken back"));
                }
                let over = kept.is_some_and(|kept| kept.over);
                self.channels.insert(id, KeptChannel { record: *record, over });
            }
            Change::Over { channel_id } => {
                if let Some(kept) = self.channels.get_mut(channel_id) {
                    kept.over = true;
                }
            }
            Change::Planned(batch) => {
                if self.batches.insert(batch.id, batch.clone()).is_some() {
                    return Err(StoreFailure::Damaged("a batch would be planned twice"));
                }
            }
            Change::Sending { purpose, attempt } => {
                self.attempts.insert(*purpose, *attempt);
                if let Purpose::Batch(id) = purpose {
                    self.batch(*id)?.attempts.push(*attempt);
                }
            }
            Change::Ended { id, outcome, at } => self.batch(*id)?.end(outcome, *at),
            Change::Spent { signature, book, expense, lamports, at } => {
                self.spent.entry((*signature, *book)).or_insert((*expense, *lamports, *at));
            }
            Change::Payment(record) => {
                let granted_to = self.payments.get(&record.message_hash).and_then(|kept| kept.granted_to);
                if granted_to.is_some() && granted_to != record.granted_to {
                    return Err(StoreFailure::Damaged("a payment would be granted twice"));
                }
                self.payments.insert(record.message_hash, *record);
            }
            Change::PaymentOver { message_hash } => {
                self.payments.remove(message_hash);
            }
            Change::Listing(record) => {
                self.listings.insert(record.key, record.clone());
            }
            Change::Unlisted { key } => {
                self.listings.remove(key);
            }
            Change::Table { page, table } => {
                self.tables.insert(*page, *table);
            }
        }
        Ok(())
    }

    fn batch(&mut self, id: u64) -> Result<&mut BatchRecord, StoreFailure> {
        self.batches.get_mut(&id).ok_or(StoreFailure::Damaged("no such batch"))
    }
}
