//! The handle by which a handler says what its call really costs.

use crate::price::Rate;
use crate::tab::Tab;
use std::sync::Arc;
use tallybook_rules::{Amount, Rejection};

/// What the call at hand costs, said by its handler while it works.
///
/// Among the extensions of every request behind a paywall, and (with the feature `axum`) an extractor. A handler that
/// never says anything charges the whole price that was asked for; one that does charges what it said in all. On a route
/// of a fixed price, and where a free quota pays, it has no effect.
///
/// ```no_run
/// use tallybook_paywall::{Charge, Rate};
/// use tallybook_rules::Amount;
///
/// async fn summary(charge: Charge, text: String) -> Result<String, http::StatusCode> {
///     let words = text.split_whitespace().count();
///     charge.add(Amount::new(10).times(words as u64).unwrap_or(Amount::MAX_DEPOSIT))
///         .map_err(|_| http::StatusCode::PAYLOAD_TOO_LARGE)?;
///     Ok(format!("{words} words"))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Charge(Option<Arc<Tab>>);

impl Charge {
    /// For a call whose price is fixed.
    pub(crate) const fn fixed() -> Self {
        Self(None)
    }

    /// For a call that runs up a tab.
    pub(crate) const fn metered(tab: Arc<Tab>) -> Self {
        Self(Some(tab))
    }

    /// Adds to what the call costs, in base units.
    ///
    /// [`Rejection::ChargeAboveCeiling`] beyond what the client has signed for; then nothing is added, and the handler
    /// should stop its work. On a stream, [`Charge::pay`] waits for the client instead.
    pub fn add(&self, amount: Amount) -> Result<(), Rejection> {
        self.0.as_ref().map_or(Ok(()), |tab| tab.add(amount))
    }

    /// Adds to what a stream costs, in base units, and waits until the client has signed for it. Deliver what it pays
    /// for only after it.
    ///
    /// [`Rejection::PaymentOverdue`] when the client has not signed on in time, or has gone: end the stream, which stops
    /// there anyway. On a route that is not streamed the same as [`Charge::add`].
    pub async fn pay(&self, amount: Amount) -> Result<(), Rejection> {
        match &self.0 {
            Some(tab) => tab.pay(amount).await,
            None => Ok(()),
        }
    }

    /// Counts pieces at a rate.
    pub const fn meter(self, rate: Rate) -> Meter {
        Meter { charge: self, rate, pieces: 0, charged: Amount::ZERO }
    }
}

/// Counts what a handler delivers, and charges for it at a rate. Made by [`Charge::meter`].
#[derive(Debug)]
pub struct Meter {
    charge: Charge,
    rate: Rate,
    pieces: u64,
    charged: Amount,
}

impl Meter {
    /// Counts so many more, and pays for them as [`Charge::pay`] does. When that fails, nothing was counted.
    pub async fn count(&mut self, pieces: u64) -> Result<(), Rejection> {
        let total = self.pieces.checked_add(pieces).ok_or(Rejection::Overflow)?;
        let cost = self.rate.cost(total)?;
        self.charge.pay(cost.minus(self.charged)?).await?;
        (self.pieces, self.charged) = (total, cost);
        Ok(())
    }

    /// What was counted so far.
    pub const fn pieces(&self) -> u64 {
        self.pieces
    }

    /// What that cost, in base units.
    pub const fn charged(&self) -> Amount {
        self.charged
    }
}

#[cfg(feature = "axum")]
impl<S: Sync> axum_core::extract::FromRequestParts<S> for Charge {
    type Rejection = http::StatusCode;

    /// 500 on a route that no paywall stands in front of.
    async fn from_request_parts(parts: &mut http::request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or(http::StatusCode::INTERNAL_SERVER_ERROR)
    }
}
