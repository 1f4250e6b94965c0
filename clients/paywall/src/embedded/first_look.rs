//! What is answered before the first look at all pages is over: with many pages that takes a while. A call needs one of them,
//! its channel's, which is read for it; an offer needs one that has room, so the newest are read first.

use super::Embedded;
use super::sight::page;
use std::sync::PoisonError;
use std::time::Instant;
use tallybook_chain::{Address, BookView, PROGRAM_ID, PageView};
use tallybook_ledger::PageSeen;
use tallybook_rpc::{Chain, View};
use tallybook_rules::Rejection;
use tallybook_wire::Key;

/// Pages of one question to the endpoint, which are all that most books have.
const PAGES_AT_ONCE: usize = 100;

impl Embedded {
    /// Whether there are offers to make although not all pages were read since the start.
    pub(super) fn is_looking_first(&self) -> bool {
        self.sight.age().is_none() && self.sight.book().0.is_some()
    }

    /// Reads the book and its newest pages, if it has more of them than are read at once. What cannot be read now is read with
    /// all the others.
    pub(super) async fn begin_to_look(&self) -> Result<(), Rejection> {
        let Some(book) = self.read_book().await.filter(|_| self.sight.book().0.is_none()) else { return Ok(()) };
        let mut newest = self.page_addresses(book.state.next_page);
        if newest.len() <= PAGES_AT_ONCE {
            return Ok(());
        }
        newest.reverse();
        newest.truncate(PAGES_AT_ONCE);
        if self.read_and_meet(&newest).await.is_ok() {
            let blockhash = self.chain.latest_blockhash().await.ok().map(|latest| Key(latest.hash.to_bytes()));
            self.sight.begin(book, blockhash);
        }
        Ok(())
    }

    async fn read_book(&self) -> Option<BookView> {
        let address = Address::from(self.book.0);
        let read = self.chain.accounts(&[address], View::CONFIRMED).await.ok()?;
        let account = read.list.into_iter().next().flatten().filter(|account| account.owner == PROGRAM_ID)?;
        BookView::parse(address, &account.data).ok()
    }

    /// Sees to it that what is decided next on a channel stands on a picture of its page that is not too old, as
    /// [`Self::look_if_old`] does for all: closings and deposits of the meantime are known before a voucher is taken.
    pub(super) async fn look_for(&self, channel_id: &[u8; 32]) -> Result<(), Rejection> {
        if self.sight.age().is_some() {
            return self.look_if_old().await;
        }
        match self.sequencer.place(channel_id).await? {
            Some(place) => Box::pin(self.read_first(&place.page)).await,
            // It may have been opened meanwhile, anywhere.
            None => self.look_if_old().await,
        }
    }

    /// Reads one page, what is confirmed of it and what is final, unless that was done lately.
    async fn read_first(&self, address: &[u8; 32]) -> Result<(), Rejection> {
        let read_at = || self.sight.read_first.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied();
        if read_at().is_some_and(|at| at.elapsed() <= self.settings.max_age) {
            return Ok(());
        }
        let begun = Instant::now();
        self.read_and_meet(&[Address::from(*address)]).await?;
        self.sight.read_first.lock().unwrap_or_else(PoisonError::into_inner).insert(*address, begun);
        Ok(())
    }

    /// Reads pages, and lets the ledger see what is confirmed of each together with what is final.
    async fn read_and_meet(&self, addresses: &[Address]) -> Result<(), Rejection> {
        let (now, now_slot) = self.read_pages(addresses, View::CONFIRMED).await?;
        let (last, last_slot) = self.read_pages(addresses, View::FINALIZED).await?;
        let now: Vec<_> = now.iter().map(|page| seen(page, now_slot)).collect();
        let last: Vec<_> = last.iter().map(|page| seen(page, last_slot)).collect();
        let events = self.sequencer.meet(&now, &last).await?;
        self.tell(&events);
        Ok(())
    }

    /// Those of the pages that are there and our book's, and the slot at which that was so.
    async fn read_pages(&self, addresses: &[Address], view: View) -> Result<(Vec<PageView>, u64), Rejection> {
        let read = self.chain.accounts(addresses, view).await.map_err(|error| {
            tracing::warn!(%error, "pages could not be read");
            Rejection::ChainUnavailable
        })?;
        let found = addresses.iter().zip(read.list).filter_map(|(address, account)| page(*address, account));
        Ok((found.filter(|page| page.header.book == self.book.0).collect(), read.context_slot))
    }
}

fn seen(page: &PageView, chain_slot: u64) -> PageSeen<'_> {
    PageSeen { address: page.address.to_bytes(), chain_slot, header: &page.header, slots: &page.slots }
}
