//! Which pages there are, and what happened in each.

use super::read::{Recorded, transactions_of};
use super::replay::{Movement, PageHistory};
use crate::connection::{self, NoAnswer};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use solana_signature::Signature;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tallybook_chain::event::Event;
use tallybook_chain::{BookView, PROGRAM_ID, PageView};

/// Accounts that a node shows at once.
const ACCOUNTS_AT_ONCE: usize = 100;

/// The histories of some pages of one book, each held against the page as it stood at `chain_slot`.
#[derive(Clone, Debug)]
pub struct BookHistory {
    /// The book.
    pub book: BookView,
    /// The oldest slot of the chain at which one of the pages was read: what happened until then is in here.
    pub chain_slot: u64,
    /// The pages, in the order of their numbers, those that were closed too.
    pub pages: Vec<PageHistory>,
    /// What each transaction has cost, by its signature; one that touched several pages is here once.
    pub costs: BTreeMap<Signature, Cost>,
}

/// What a transaction has cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// When: Unix seconds of the chain.
    pub at: i64,
    /// Who paid.
    pub fee_payer: Address,
    /// The network's fee, in lamports.
    pub lamports: u64,
}

impl BookHistory {
    /// Reads the history of every page that `book` has ever had, or of those among `only`.
    pub async fn read(
        rpc: &Arc<RpcClient>,
        book: &Address,
        only: Option<&BTreeSet<Address>>,
        progress: Progress,
    ) -> Result<Self> {
        let book = connection::book(rpc, book).await?;
        let addresses = (0..book.state.next_page)
            .map(|index| tallybook_chain::address::page(&PROGRAM_ID, &book.address, index).0)
            .filter(|page| only.is_none_or(|only| only.contains(page)));
        let addresses: Vec<Address> = addresses.collect();
        let bar = progress.bar(0, "transactions read");
        let mut history = Self { book, chain_slot: u64::MAX, pages: Vec::new(), costs: BTreeMap::new() };
        for some in addresses.chunks(ACCOUNTS_AT_ONCE) {
            let (chain_slot, pages) = pages_at(rpc, some).await?;
            history.chain_slot = history.chain_slot.min(chain_slot);
            for (address, page) in some.iter().zip(pages) {
                let transactions = transactions_of(rpc, address, chain_slot, &bar).await?;
                let replayed = PageHistory::replay(&book, *address, &transactions)?;
                replayed.check(page.as_ref())?;
                history.pages.push(replayed);
                history
                    .costs
                    .extend(transactions.iter().map(|transaction| (transaction.signature, Cost::of(transaction))));
            }
        }
        bar.finish_and_clear();
        Ok(history)
    }

    /// What moved in all pages, in the order of time.
    pub fn movements(&self) -> Vec<Movement> {
        let mut movements: Vec<Movement> = self.pages.iter().flat_map(|page| &page.movements).copied().collect();
        movements.sort_by_key(|movement| movement.chain_slot);
        movements
    }
}

impl Cost {
    const fn of(transaction: &Recorded) -> Self {
        let Recorded { at, fee_payer, fee_lamports, .. } = transaction;
        Self { at: *at, fee_payer: *fee_payer, lamports: *fee_lamports }
    }
}

/// Pages as they stand, at one slot of the chain; none where one was closed.
async fn pages_at(rpc: &RpcClient, addresses: &[Address]) -> Result<(u64, Vec<Option<PageView>>)> {
    let answer = rpc.get_multiple_accounts_with_commitment(addresses, rpc.commitment()).await.context(NoAnswer)?;
    let mut pages = Vec::with_capacity(addresses.len());
    for (address, account) in addresses.iter().zip(answer.value) {
        let account = account.filter(|account| account.owner == PROGRAM_ID);
        let page = account.map(|account| PageView::parse(*address, &account.data)).transpose();
        pages.push(page.with_context(|| format!("{address} is no page"))?);
    }
    ensure!(pages.len() == addresses.len(), "the node shows fewer accounts than it was asked for");
    Ok((answer.context.slot, pages))
}

/// The pages that `payer` ever had a channel in, by their book.
pub async fn pages_of_payer(
    rpc: &Arc<RpcClient>,
    payer: &Address,
    progress: Progress,
) -> Result<BTreeMap<Address, BTreeSet<Address>>> {
    let bar = progress.bar(0, "transactions of the payer read");
    let transactions = transactions_of(rpc, payer, u64::MAX, &bar).await?;
    bar.finish_and_clear();
    let events = transactions.iter().flat_map(|transaction| &transaction.steps).map(|step| step.event);
    let opened: BTreeSet<Address> = events
        .filter_map(|event| {
            let Event::Opened(opened) = event else { return None };
            (opened.payer == payer.to_bytes()).then(|| opened.page.into())
        })
        .collect();
    let mut books: BTreeMap<Address, BTreeSet<Address>> = BTreeMap::new();
    for page in opened {
        books.entry(book_of(rpc, &page).await?).or_default().insert(page);
    }
    Ok(books)
}

/// The book of a page, also of one that was closed.
pub async fn book_of(rpc: &Arc<RpcClient>, page: &Address) -> Result<Address> {
    if let Some(page) = connection::page_at(rpc, page).await? {
        return Ok(page.book());
    }
    let transactions = transactions_of(rpc, page, u64::MAX, &indicatif::ProgressBar::hidden()).await?;
    let told = transactions.iter().flat_map(|transaction| &transaction.steps).find_map(|step| {
        let (book, of) = match step.event {
            Event::PageAdded(added) => (added.book, added.page),
            Event::PageClosed(closed) => (closed.book, closed.page),
            Event::BookMade(_)
            | Event::Opened(_)
            | Event::ToppedUp(_)
            | Event::Claimed(_)
            | Event::PaidOut(_)
            | Event::Closing(_)
            | Event::Withdrawn(_)
            | Event::Refunded(_)
            | Event::OperatorSet(_) => return None,
        };
        (of == page.to_bytes()).then_some(book)
    });
    Ok(told
        .with_context(|| format!("there is no page at {page}, and never was one: is --rpc the right cluster?"))?
        .into())
}
