//! Pages that grow by themselves: when a book is nearly full, the operator signs for its next page.
//!
//! The facilitator builds the transaction and pays for it; what the operator's key signs is compared, account by account,
//! with the one page that may be added.

use crate::builder::Shared;
use crate::keeper::Failure;
use crate::operator::Proposed;
use crate::refund::book;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tallybook_chain::address::PROGRAM_ID;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{Address, BookView};
use tallybook_rules::Rejection;
use tallybook_wire::{GrowRequest, GrowResponse, Offer, TransactionBytes};

/// A book with fewer free slots than this is nearly full.
const NEARLY_FULL: u32 = 24;
/// How long after one try the next one may be made.
const PAUSE: Duration = Duration::from_secs(5);

/// How far a book may grow, and whether it is growing.
#[derive(Debug)]
pub(crate) struct Growth {
    /// The most pages that the operator signs for.
    pub(crate) max_pages: u32,
    busy: AtomicBool,
}

impl Growth {
    pub(crate) const fn up_to(max_pages: u32) -> Self {
        Self { max_pages, busy: AtomicBool::new(false) }
    }

    /// True when this offer asks for a page, and nobody is adding one.
    fn begins(&self, offer: &Offer) -> bool {
        let nearly_full = offer.free_slots.is_some_and(|free| free < NEARLY_FULL);
        let may_grow = offer.pages.is_some_and(|pages| pages < self.max_pages);
        nearly_full && may_grow && !self.busy.swap(true, Ordering::AcqRel)
    }
}

impl Shared {
    /// Adds a page in the background, if the offer says that the book is nearly full and the operator allows another one.
    pub(crate) fn grow_if_needed(self: &Arc<Self>, offer: &Arc<Offer>) {
        if self.operator.is_none() || !self.growth.begins(offer) {
            return;
        }
        let (shared, offer) = (Arc::clone(self), Arc::clone(offer));
        tokio::spawn(async move {
            match shared.grow(&offer).await {
                Ok(page) => tracing::info!(%page, "the book has a new page"),
                Err(failure) => tracing::warn!(reason = %failure.reason().name(), "the book did not get a new page"),
            }
            tokio::time::sleep(PAUSE).await;
            shared.growth.busy.store(false, Ordering::Release);
        });
    }

    async fn grow(&self, offer: &Offer) -> Result<tallybook_wire::Key, Failure> {
        let operator = self.operator.as_ref().ok_or(Rejection::OperatorMustSign)?;
        let facilitator = &self.keeper.facilitator;
        let proposed = facilitator.grow(&GrowRequest::default()).await?;
        let Some(unsigned) = &proposed.transaction else {
            return Ok(proposed.page); // somebody else has added it
        };
        let next = NextPage { book: book(offer), max_pages: self.growth.max_pages, proposed: &proposed };
        let transaction = Some(next.sign(unsigned, operator)?);
        Ok(facilitator.grow(&GrowRequest { transaction }).await?.page)
    }
}

/// The page that may be added.
struct NextPage<'a> {
    book: BookView,
    max_pages: u32,
    proposed: &'a GrowResponse,
}

impl NextPage<'_> {
    /// The transaction with the operator's signature; [`Rejection::PageLimit`] for a page beyond the limit,
    /// [`Rejection::RequirementsMismatch`] when it does anything else than adding this page at the sponsor's expense.
    fn sign(&self, unsigned: &TransactionBytes, operator: &Keypair) -> Result<TransactionBytes, Rejection> {
        if self.proposed.index >= self.max_pages {
            return Err(Rejection::PageLimit);
        }
        let proposed = Proposed::read(unsigned, operator)?;
        let sponsor: Address = proposed.fee_payer().ok_or(Rejection::RequirementsMismatch)?;
        let (index, capacity) = (self.proposed.index, self.proposed.capacity);
        let wanted = Instructions::new(PROGRAM_ID).add_page(&self.book, &operator.pubkey(), &sponsor, index, capacity);
        let allowed = matches!(proposed.instructions().as_slice(), [add] if proposed.is_ours(add)
            && add.data == wanted.data
            && proposed.accounts(add) == Some(wanted.accounts.iter().map(|account| account.pubkey).collect()));
        if allowed { proposed.sign(operator) } else { Err(Rejection::RequirementsMismatch) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use solana_hash::Hash;
    use solana_instruction::Instruction;
    use solana_message::VersionedMessage;
    use solana_message::legacy::Message;
    use solana_transaction::versioned::VersionedTransaction;
    use tallybook_chain::transaction::{compute_unit_limit, memo, to_bytes};
    use tallybook_rules::Book;
    use tallybook_wire::Key;

    fn sign(
        max_pages: u32,
        fee_payer: &Address,
        instructions: &[Instruction],
        operator: &Keypair,
    ) -> Option<Rejection> {
        let message = Message::new_with_blockhash(instructions, Some(fee_payer), &Hash::default());
        let signatures = vec![Default::default(); usize::from(message.header.num_required_signatures)];
        let transaction = VersionedTransaction { signatures, message: VersionedMessage::Legacy(message) };
        let unsigned = TransactionBytes::new(to_bytes(&transaction).unwrap()).unwrap();
        let proposed = GrowResponse { page: Key([1; 32]), index: 3, capacity: 96, transaction: None, signature: None };
        NextPage { book: the_book(), max_pages, proposed: &proposed }.sign(&unsigned, operator).err()
    }

    fn the_book() -> BookView {
        let state = Book { mint: [7; 32], token_program: [8; 32], ..Book::default() };
        BookView { address: Address::from([3; 32]), state }
    }

    #[test]
    fn given_the_next_page_at_the_sponsors_expense_when_asked_then_the_operator_signs_for_it_and_for_nothing_else() {
        let (operator, sponsor) = (Keypair::new(), Address::from([9; 32]));
        let page = |rent_payer: &Address, index, capacity| {
            let program = Instructions::new(PROGRAM_ID);
            program.add_page(&the_book(), &operator.pubkey(), rent_payer, index, capacity)
        };
        let good = page(&sponsor, 3, 96);
        let budget = compute_unit_limit(1);
        assert_eq!(sign(4, &sponsor, &[budget.clone(), good.clone()], &operator), None);
        assert_eq!(sign(3, &sponsor, std::slice::from_ref(&good), &operator), Some(Rejection::PageLimit));
        let mismatch = Some(Rejection::RequirementsMismatch);
        for (case, instructions) in [
            ("another page", vec![page(&sponsor, 2, 96)]),
            ("another capacity", vec![page(&sponsor, 3, 95)]),
            ("rent from the operator", vec![page(&operator.pubkey(), 3, 96)]),
            ("two pages", vec![good.clone(), page(&sponsor, 4, 96)]),
            ("a memo besides", vec![memo("x"), good.clone()]),
            ("nothing", vec![budget]),
        ] {
            assert_eq!(sign(9, &sponsor, &instructions, &operator), mismatch, "{case}");
        }
        assert_eq!(sign(9, &operator.pubkey(), &[good], &operator), mismatch, "the operator pays the fee");
    }

    #[test]
    fn given_offers_when_the_book_is_nearly_full_then_it_grows_once_and_only_within_its_limit() {
        let growth = Growth::up_to(2);
        let offer = |free_slots, pages| {
            let json = serde_json::json!({
                "network": "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "asset": Key([1; 32]), "payTo": Key([1; 32]),
                "maxTimeoutSeconds": 60, "freeSlots": free_slots, "pages": pages, "extra": {
                    "book": Key([1; 32]), "bookId": 0, "page": Key([1; 32]), "slot": 0, "generation": 1,
                    "feePayer": Key([1; 32]), "withdrawDelay": 900, "minDeposit": "1", "tokenProgram": Key([1; 32]),
                    "decimals": 6,
                },
            });
            serde_json::from_value::<Offer>(json).unwrap()
        };
        assert!(!growth.begins(&offer(Some(24), Some(1))), "not nearly full");
        assert!(!growth.begins(&offer(Some(0), Some(2))), "at its limit");
        assert!(!growth.begins(&offer(None, Some(1))), "a facilitator that does not say");
        assert!(growth.begins(&offer(Some(23), Some(1))));
        assert!(!growth.begins(&offer(Some(23), Some(1))), "already growing");
    }
}
