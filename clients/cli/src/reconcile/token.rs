//! Store and chain, parted by token: an amount of one is never beside an amount of another when something is added up.

use crate::history::BookHistory;
use anyhow::{Context, Result};
use solana_address::Address;
use std::collections::BTreeMap;
use tallybook_ledger::{BatchRecord, ChannelRecord};

/// The books of one token, as the store and the chain have them.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// The token.
    pub mint: Address,
    /// Its decimals: 6 means that 1,000,000 base units are one.
    pub decimals: u8,
    /// What the chain says of its books.
    pub histories: Vec<BookHistory>,
    /// What the store says of their channels.
    pub channels: Vec<ChannelRecord>,
    /// The store's batches for their pages.
    pub batches: Vec<BatchRecord>,
}

impl Token {
    /// Each token of the books with what is of it, by mint. `book_of` has the book of every page that the store names.
    pub(super) fn each(
        channels: Vec<ChannelRecord>,
        batches: Vec<BatchRecord>,
        book_of: &BTreeMap<Address, Address>,
        histories: Vec<BookHistory>,
    ) -> Result<Vec<Self>> {
        let mints: BTreeMap<Address, Address> =
            histories.iter().map(|history| (history.book.address, history.book.mint())).collect();
        let mut tokens: BTreeMap<Address, Self> = BTreeMap::new();
        for history in histories {
            let (mint, decimals) = (history.book.mint(), history.book.state.decimals);
            let token = tokens.entry(mint).or_insert_with(|| Self::new(mint, decimals));
            token.histories.push(history);
        }
        let mint_of = |page: Address| {
            let mint = book_of.get(&page).and_then(|book| mints.get(book)).copied();
            mint.with_context(|| format!("the book of the page {page} was not read: report this"))
        };
        for channel in channels {
            let mint = mint_of(channel.place.page.into())?;
            tokens.entry(mint).and_modify(|token| token.channels.push(channel));
        }
        for batch in batches {
            let mint = mint_of(batch.page.into())?;
            tokens.entry(mint).and_modify(|token| token.batches.push(batch));
        }
        Ok(tokens.into_values().collect())
    }

    const fn new(mint: Address, decimals: u8) -> Self {
        Self { mint, decimals, histories: Vec::new(), channels: Vec::new(), batches: Vec::new() }
    }
}
