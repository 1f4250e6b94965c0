//! What was read of the chain.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tallybook_chain::{BookView, PageView};
use tallybook_ledger::PageSeen;
use tokio::time::Instant;

/// The books that are held here and their pages, as they were read last.
#[derive(Clone, Default, Debug)]
pub(crate) struct Sight {
    pub(crate) books: BTreeMap<[u8; 32], Arc<BookView>>,
    pub(crate) pages: BTreeMap<[u8; 32], Arc<PageView>>,
    /// A hint for offers, so that clients need not ask.
    pub(crate) blockhash: Option<[u8; 32]>,
    /// The chain's slot of the pages, and when they were read.
    read: Option<(u64, Instant)>,
}

/// For how long pages that were read stand against a node that shows older ones. One that named a slot far ahead by mistake is
/// forgiven then.
const SIGHT_STANDS: Duration = Duration::from_secs(60);

impl Sight {
    /// All pages of these books as they are at a slot, unless newer ones were seen: a node that is behind does not know the
    /// newest pages.
    pub(crate) fn take_in(&mut self, books: &[[u8; 32]], pages: BTreeMap<[u8; 32], Arc<PageView>>, slot: u64) {
        let now = Instant::now();
        let stands = |(newest, at): (u64, Instant)| slot < newest && now.saturating_duration_since(at) < SIGHT_STANDS;
        if !self.read.is_some_and(stands) {
            self.pages.retain(|_, page| !books.contains(&page.header.book));
            self.pages.extend(pages);
            self.read = Some((slot, now));
        }
    }
}

/// A page as the ledger looks at it.
pub(crate) fn seen(page: &PageView, chain_slot: u64) -> PageSeen<'_> {
    PageSeen { address: page.address.to_bytes(), chain_slot, header: &page.header, slots: &page.slots }
}
