//! The desk of a node, one of several processes on a common store: what is of a page comes to it when the page is taken up, and
//! leaves it when the page is given away. Nothing is known here of any other page, and so nothing of one is taken in.

use super::{Desk, OpenFailure};
use std::collections::{HashMap, HashSet};
use tallybook_ledger::{BatchRecord, Ledger, PaymentRecord, Settings};
use tallybook_rules::Rejection;
use tallybook_store::{MAX_NODES, StoreFailure, Stored, VoucherStore};

impl Desk {
    /// The desk of node `number` over a common store, with the rows of the catalogue: no page is taken up yet.
    pub fn among(mut store: Box<dyn VoucherStore>, settings: Settings, number: u16) -> Result<Self, OpenFailure> {
        let newest_batch = store.load_pages(&[], &mut |_| {})?.newest_batch;
        let listings = store.listings()?;
        let desk = Self::new(Ledger::new(settings), store);
        Ok(Self { newest_batch, listings, node: Some(number), taken_up: Some(HashMap::new()), ..desk })
    }

    /// The number of a new batch: one more than the newest. A node counts in steps of [`MAX_NODES`], from its own number on, so
    /// that no two have the same.
    pub fn number_batch(&mut self) -> Result<u64, Rejection> {
        self.newest_batch = after(self.newest_batch, self.node).ok_or(Rejection::Overflow)?;
        Ok(self.newest_batch)
    }

    /// Those of these pages that were not taken up.
    pub(crate) fn not_taken_up(&self, pages: impl IntoIterator<Item = [u8; 32]>) -> Vec<[u8; 32]> {
        pages.into_iter().filter(|page| !self.has_taken_up(page)).collect()
    }

    /// The pages of a book that were taken up.
    pub fn taken_up_of(&self, book: &[u8; 32]) -> Vec<[u8; 32]> {
        let of_book = self.taken_up.iter().flatten().filter(|(_, of)| *of == book);
        of_book.map(|(page, _)| *page).collect()
    }

    pub(super) fn has_taken_up(&self, page: &[u8; 32]) -> bool {
        self.taken_up.as_ref().is_none_or(|taken_up| taken_up.contains_key(page))
    }

    /// Takes up pages of a book with what is stored of them. Gives their batches that were on their way, of which the chain is to be asked;
    /// what somebody else has taken up meanwhile is left as it is. Damage ends the writer.
    pub fn take_up(&mut self, book: [u8; 32], pages: &[[u8; 32]], stored: Stored) -> Vec<BatchRecord> {
        let Some(taken_up) = &mut self.taken_up else { return Vec::new() };
        let new: HashSet<[u8; 32]> =
            pages.iter().copied().filter(|page| taken_up.insert(*page, book).is_none()).collect();
        // Those of all nodes rise together, more or less.
        self.newest_batch = self.newest_batch.max(stored.newest_batch);
        for record in stored.channels.into_iter().filter(|record| new.contains(&record.place.page)) {
            if self.ledger.restore(record).is_err() {
                return self.is_damaged_by(record.voucher.channel_id);
            }
        }
        self.tables.extend(stored.tables.into_iter().filter(|(page, _)| new.contains(page)));
        stored.sending.into_iter().filter(|batch| new.contains(&batch.page)).collect()
    }

    fn is_damaged_by(&mut self, channel_id: [u8; 32]) -> Vec<BatchRecord> {
        self.is_damaged(channel_id);
        Vec::new()
    }

    /// Gives pages away: nothing of them is known here any more.
    pub fn give_away(&mut self, pages: &[[u8; 32]]) {
        let Some(taken_up) = &mut self.taken_up else { return };
        for page in pages {
            taken_up.remove(page);
            self.tables.remove(page);
        }
        let forgotten = self.ledger.forget(pages);
        self.signers.forget(&forgotten);
    }

    /// Takes up payments without a channel, in the place of those that are known here.
    pub fn take_up_payments(&mut self, payments: Vec<PaymentRecord>) {
        self.payments = payments.into_iter().map(|record| (record.message_hash, record)).collect();
    }

    /// The store has failed somebody who asked it so.
    pub(crate) fn has_lost(&mut self, failure: StoreFailure) {
        self.failure = Some(failure);
    }
}

/// The number of the batch after `newest`.
fn after(newest: u64, node: Option<u16>) -> Option<u64> {
    let Some(number) = node else { return newest.checked_add(1) };
    let nodes = u64::from(MAX_NODES);
    let round = newest.checked_sub(newest.checked_rem(nodes)?)?;
    let of_this_round = round.checked_add(number.into())?;
    if of_this_round > newest { Some(of_this_round) } else { of_this_round.checked_add(nodes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_nodes_when_they_number_batches_then_each_number_rises_and_no_two_are_the_same() {
        assert_eq!((after(0, None), after(41, None), after(u64::MAX, None)), (Some(1), Some(42), None));
        let of_node =
            |number: u16| std::iter::successors(after(0, Some(number)), move |newest| after(*newest, Some(number)));
        assert_eq!(of_node(0).take(3).collect::<Vec<_>>(), [64, 128, 192]);
        assert_eq!(of_node(5).take(3).collect::<Vec<_>>(), [5, 69, 133]);
        let all: HashSet<u64> = (0..MAX_NODES).flat_map(|number| of_node(number).take(50)).collect();
        assert_eq!(all.len(), usize::from(MAX_NODES) * 50);
        // Whoever comes later goes on after whatever there is, a process alone too.
        for (newest, number, next) in [(69, 5, 133), (70, 5, 133), (68, 5, 69), (127, 63, 191), (128, 0, 192)] {
            assert_eq!(after(newest, Some(number)), Some(next));
        }
        assert_eq!(after(u64::MAX - 1, Some(3)), None);
    }
}
