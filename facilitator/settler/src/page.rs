//! A book's next page at the sponsor's expense.

use crate::chain::Chain;
use crate::prepared::Prepared;
use crate::settler::Settler;
use solana_address::Address;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{BookView, PROGRAM_ID, address};
use tallybook_rules::Rejection;

/// The unsigned transaction that adds a page: compute limit, compute price, `add_page` by the operator's authority, its rent
/// paid by the sponsor, who can close the page again once it is unused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PreparedPage {
    /// The page that it adds.
    pub page: Address,
    /// Its index in the book.
    pub index: u32,
    /// Its slots.
    pub capacity: u8,
    /// What is to be signed.
    pub transaction: Prepared,
}

impl<C: Chain> Settler<C> {
    /// Builds and simulates the transaction that adds the next page of a book, as read last. Two of them can never both land,
    /// since each names its page's index.
    ///
    /// [`Rejection::WrongPageIndex`] when the book has grown since it was read, else what the program says.
    pub async fn page_transaction(&self, book: &BookView, capacity: u8) -> Result<PreparedPage, Rejection> {
        let (index, operator) = (book.state.next_page, book.operator());
        let add = Instructions::new(PROGRAM_ID).add_page(book, &operator, &self.sponsor(), index, capacity);
        Ok(PreparedPage {
            page: address::page(&PROGRAM_ID, &book.address, index).0,
            index,
            capacity,
            transaction: self.prepare(operator, &[add]).await?,
        })
    }
}
