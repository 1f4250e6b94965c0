//! What a 402 says: the terms of the chain, a free slot of the ledger, the sponsor that the facilitator named.

use super::Embedded;
use crate::keeper::Failure;
use std::sync::Arc;
use tallybook_rules::Rejection;
use tallybook_sequencer::Sponsorship;
use tallybook_wire::Offer;

impl Embedded {
    /// A fresh offer: a free slot of our own ledger. The facilitator is asked only as long as its sponsor is not known.
    pub(crate) async fn offer(&self) -> Result<Arc<Offer>, Failure> {
        let is_first = self.is_looking_first();
        if !is_first {
            self.look_if_old().await?;
        }
        if self.sight.terms().is_none() {
            self.learn_terms().await?;
        }
        let terms = self.terms()?;
        let (book, blockhash) = self.sight.book();
        let state = book.ok_or(Rejection::ChainUnavailable)?.state;
        let by = Sponsorship {
            network: terms.network.clone(),
            fee_payer: terms.extra.fee_payer,
            max_timeout_seconds: terms.max_timeout_seconds,
            recent_blockhash: blockhash,
        };
        let offer = self.sequencer.offer(self.book, &state, by).await?;
        if !is_first {
            return Ok(Arc::new(offer));
        }
        // There may be room in pages that were not read yet.
        Ok(Arc::new(Offer { free_slots: offer.free_slots.filter(|free| *free > 0), pages: None, ..offer }))
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
