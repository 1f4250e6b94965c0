//! What a 402 says of a book: its terms, and a free slot.

use crate::Sequencer;
use core::num::NonZeroU32;
use tallybook_rules::{Book, Rejection};
use tallybook_wire::{Extra, Key, Network, Offer};

/// What an offer says that neither the book nor the ledger knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sponsorship {
    /// The cluster.
    pub network: Network,
    /// Who pays the network's fees.
    pub fee_payer: Key,
    /// The longest reservation, in seconds.
    pub max_timeout_seconds: NonZeroU32,
    /// A blockhash to save clients a question; a hint.
    pub recent_blockhash: Option<Key>,
}

impl Sequencer {
    /// An offer of the book `address` with these terms: a slot of the ledger that is free, as far as is known, and how much
    /// place there is. [`Rejection::BookFull`] for a book without a page.
    pub async fn offer(&self, address: Key, terms: &Book, by: Sponsorship) -> Result<Offer, Rejection> {
        let asked = self.ask_now(|desk| {
            let place = desk.ledger.offer(&address.0, desk.now);
            (place, desk.ledger.room(&address.0, desk.now))
        });
        let (place, room) = asked.await?;
        // A book whose pages were all read but that has none is as full as one can be.
        let place = place.map_err(|_| Rejection::BookFull)?;
        Ok(Offer {
            network: by.network,
            asset: Key(terms.mint),
            pay_to: Key(terms.payee),
            max_timeout_seconds: by.max_timeout_seconds,
            extra: Extra {
                book: address,
                book_id: terms.book_id,
                page: Key(place.page),
                slot: place.slot,
                generation: place.generation,
                fee_payer: by.fee_payer,
                withdraw_delay: terms.grace_seconds,
                min_deposit: terms.min_deposit,
                token_program: Key(terms.token_program),
                decimals: terms.decimals,
                metered: false,
                recent_blockhash: by.recent_blockhash,
                channel_state: None,
                voucher_state: None,
                other: Default::default(),
            },
            free_slots: Some(room.free_slots),
            pages: Some(room.pages),
        })
    }
}
