//! Being paid through x402-axum: the price tag, the facilitator, and what stands around the layer.

mod around;
mod facilitator;
mod tag;

pub use around::{Around, WatchedService};
pub use facilitator::ChannelFacilitator;
pub use tag::{Price, Tag};

use std::sync::Arc;
use tallybook_paywall::{Paywall, PaywallError};
use x402_axum::facilitator_client::{FacilitatorClient, FacilitatorClientError};

/// Why a server could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelsError {
    /// The facilitator's address is none.
    #[error(transparent)]
    Facilitator(#[from] FacilitatorClientError),
    /// The price is none.
    #[error(transparent)]
    Price(#[from] PaywallError),
}

/// Channels of a paywall's book, for the routes of an x402-axum server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Channels {
    paywall: Paywall,
    others: Arc<FacilitatorClient>,
}

impl Channels {
    /// Channels that `paywall` takes payments from; those of every other scheme are verified and settled by the x402
    /// facilitator at `others`, which may be the same.
    pub fn new(paywall: Paywall, others: &str) -> Result<Self, ChannelsError> {
        Ok(Self { paywall, others: Arc::new(FacilitatorClient::try_from(others)?) })
    }

    /// What `X402Middleware::from_facilitator` is made of.
    pub fn facilitator(&self) -> ChannelFacilitator {
        ChannelFacilitator::new(self.paywall.clone(), Arc::clone(&self.others))
    }

    /// A price in whole tokens, such as `"$0.0005"`, for `X402Middleware::with_dynamic_price`: the slot that an offer names
    /// is free when it is made, so that every request needs an offer of its own.
    pub fn price(&self, price: &str) -> Result<Price, ChannelsError> {
        let amount = self.paywall.amount(price)?;
        if amount.is_zero() {
            return Err(PaywallError::Free.into());
        }
        Ok(Price::new(self.paywall.clone(), amount))
    }

    /// Puts what x402-axum does not do around its layer: it gives the payment of a failed handler back, says in a 402 why the
    /// last payment was declined, and closes channels. A route is wrapped by what this returns, instead of by the layer.
    pub fn around<L>(&self, layer: L) -> Around<L> {
        Around::new(self.paywall.clone(), layer)
    }
}
