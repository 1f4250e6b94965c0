//! What a 402 says: the terms of the chain, a free slot of the ledger, the sponsor that the facilitator named.

use super::Embedded;
use crate::keeper::Failure;
use std::sync::Arc;
use tallybook_rules::Rejection;
use tallybook_wire::{Extra, Key, Offer};

impl Embedded {
    /// A fresh offer: a free slot of our own ledger. The facilitator is asked only as long as its sponsor is not known.
    pub(crate) async fn offer(&self) -> Result<Arc<Offer>, Failure> {
        self.look_if_old().await?;
        if self.sight.terms().is_none() {
            self.learn_terms().await?;
        }
        let terms = self.terms()?;
        let (book, blockhash) = self.sight.book();
        let state = book.ok_or(Rejection::ChainUnavailable)?.state;
        let address = self.book.0;
        let offered = self.sequencer.ask(move |desk| {
            let place = desk.ledger.offer(&address, desk.now)?;
            Ok::<_, Rejection>((place, desk.ledger.room(&address, desk.now)))
        });
        // A book whose pages were all read but that has none is as full as one can be.
        let (place, room) = offered.await?.map_err(|_| Rejection::BookFull)?;
        Ok(Arc::new(Offer {
            network: terms.network.clone(),
            asset: Key(state.mint),
            pay_to: Key(state.payee),
            max_timeout_seconds: terms.max_timeout_seconds,
            extra: Extra {
                book: self.book,
                book_id: state.book_id,
                page: Key(place.page),
                slot: place.slot,
                generation: place.generation,
                fee_payer: terms.extra.fee_payer,
                withdraw_delay: state.grace_seconds,
                min_deposit: state.min_deposit,
                token_program: Key(state.token_program),
                decimals: state.decimals,
                metered: false,
                recent_blockhash: blockhash,
                channel_state: None,
                voucher_state: None,
                other: Default::default(),
            },
            free_slots: Some(room.free_slots),
            pages: Some(room.pages),
        }))
    }

    /// Asks the facilitator what it is called and whom it sponsors by, and remembers it over a restart.
    async fn learn_terms(&self) -> Result<(), Failure> {
        let offer = self.facilitator.offer().await?;
        let changed = self
            .sight
            .terms()
            .is_none_or(|known| known.extra.fee_payer != offer.extra.fee_payer || known.network != offer.network);
        if changed && let Ok(json) = serde_json::to_vec(offer.as_ref()) {
            // Lost with a crash it is asked for again.
            if let Err(error) = std::fs::write(&self.sight.offer_file, json) {
                tracing::warn!(%error, "cannot remember the facilitator's sponsor over a restart");
            }
        }
        self.sight.set_terms(offer);
        Ok(())
    }

    /// Keeps the terms true while the facilitator answers; while it does not, the known ones hold.
    pub(super) async fn refresh_terms(&self) {
        if let Err(failure) = self.learn_terms().await {
            tracing::debug!(reason = %failure.reason().name(), "the facilitator does not say its terms now");
        }
    }
}
