//! Reading books and pages: the watcher's eye, and the look before a claim.

use crate::chain::{Account, Chain, Commitment, Snapshot};
use crate::pace::jittered;
use crate::send::deadline;
use crate::settler::Settler;
use solana_address::Address;
use tallybook_chain::{BookView, PROGRAM_ID, PageView, address};
use tallybook_rules::Rejection;
use tokio::time::Instant;

/// The most accounts that a node gives in one answer.
const ACCOUNTS_AT_ONCE: usize = 100;

/// Books, as of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BooksRead {
    /// The smallest slot at which any of them was read: an answer below the last one taken is stale.
    pub slot: u64,
    /// In the order in which they were asked for.
    pub books: Vec<BookView>,
}

/// Pages, as of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PagesRead {
    /// The smallest slot at which any of them was read: an answer below the last one taken is stale.
    pub slot: u64,
    /// In the order of their books, then of their numbers. A closed page is missing.
    pub pages: Vec<PageView>,
}

impl<C: Chain> Settler<C> {
    /// Reads books; [`Rejection::UnknownBook`] when one is not there, [`Rejection::WrongAccount`] when it is no book.
    pub async fn read_books(&self, books: &[Address], commitment: Commitment) -> Result<BooksRead, Rejection> {
        let Snapshot { slot, accounts } = self.accounts(books, commitment).await?;
        let books = books.iter().zip(accounts).map(|(book, account)| {
            let account = account.ok_or(Rejection::UnknownBook)?;
            BookView::parse(*book, ours(&account)?)
        });
        Ok(BooksRead { slot, books: books.collect::<Result<_, _>>()? })
    }

    /// Reads every page of `books`, as many as each book's `next_page` says.
    pub async fn read_pages(&self, books: &[&BookView], commitment: Commitment) -> Result<PagesRead, Rejection> {
        let addresses: Vec<Address> = books
            .iter()
            .flat_map(|book| (0..book.state.next_page).map(|index| address::page(&PROGRAM_ID, &book.address, index).0))
            .collect();
        self.read_pages_at(&addresses, commitment).await
    }

    /// Reads these pages; one that is not there, or is no page of the program, is missing.
    pub async fn read_pages_at(&self, addresses: &[Address], commitment: Commitment) -> Result<PagesRead, Rejection> {
        let Snapshot { slot, accounts } = self.accounts(addresses, commitment).await?;
        let pages = addresses
            .iter()
            .zip(accounts)
            .filter_map(|(page, account)| Some(PageView::parse(*page, ours(&account?).ok()?)));
        Ok(PagesRead { slot, pages: pages.collect::<Result<_, _>>()? })
    }

    /// Reads a page as of `min_slot` or later, together with the slot; waits for a node that is behind.
    /// [`Rejection::UnknownPage`] when there is none.
    pub async fn read_page(
        &self,
        page: &Address,
        min_slot: u64,
        commitment: Commitment,
    ) -> Result<(u64, PageView), Rejection> {
        let Snapshot { slot, accounts } = self.accounts_since(&[*page], min_slot, commitment).await?;
        let account = accounts.into_iter().next().flatten().ok_or(Rejection::UnknownPage)?;
        Ok((slot, PageView::parse(*page, ours(&account)?)?))
    }

    /// Any number of accounts, read in parts.
    async fn accounts(&self, addresses: &[Address], commitment: Commitment) -> Result<Snapshot, Rejection> {
        let mut all = Snapshot {
            slot: if addresses.is_empty() { 0 } else { u64::MAX },
            accounts: Vec::with_capacity(addresses.len()),
        };
        for part in addresses.chunks(ACCOUNTS_AT_ONCE) {
            let Snapshot { slot, accounts } = self.chain().accounts(part, commitment).await?;
            all.slot = all.slot.min(slot);
            all.accounts.extend(accounts);
        }
        Ok(all)
    }

    /// Accounts as of `min_slot` or later; [`Rejection::ChainUnavailable`] when no node is there in time.
    pub(crate) async fn accounts_since(
        &self,
        addresses: &[Address],
        min_slot: u64,
        commitment: Commitment,
    ) -> Result<Snapshot, Rejection> {
        let pace = &self.settings().pace;
        let (deadline, mut pause) = (deadline(pace), pace.first);
        loop {
            let snapshot = self.accounts(addresses, commitment).await?;
            if snapshot.slot >= min_slot {
                return Ok(snapshot);
            }
            if Instant::now() >= deadline {
                tracing::warn!(slot = snapshot.slot, min_slot, "the node stays behind");
                return Err(Rejection::ChainUnavailable);
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = pace.after(pause);
        }
    }
}

/// The data of an account that the program owns.
pub(crate) fn ours(account: &Account) -> Result<&[u8], Rejection> {
    if account.owner == PROGRAM_ID { Ok(&account.data) } else { Err(Rejection::WrongAccount) }
}
