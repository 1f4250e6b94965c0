//! Who keeps the vouchers: the facilitator, asked over HTTP, or a ledger of the server's own.
//!
//! A question over HTTP is a future of some kilobytes. Each is on the heap by itself, so that the calls which ask nobody, and
//! the tasks of all others that wait for something else, do not carry it along.

#[cfg(feature = "embedded")]
use crate::embedded::Embedded;
use crate::facilitator::Facilitator;
use std::sync::Arc;
use tallybook_rules::Rejection;
use tallybook_wire::{FacilitatorRequest, Offer, Reason, SettleResponse, VerifyResponse};

/// An answer that was asked for and not had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Failure {
    /// Refused, by name.
    Refused(Reason),
    /// No answer, or none that can be read: whether the request was done is not known.
    Unknown,
}

impl Failure {
    /// The reason to tell a client.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Refused(reason) => reason.clone(),
            Self::Unknown => Rejection::FacilitatorUnavailable.into(),
        }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection.into())
    }
}

/// Where vouchers are decided on and durable.
#[derive(Debug)]
pub(crate) enum Books {
    /// By the facilitator: every call asks it twice.
    Remote,
    /// By a ledger in this process: no call leaves it.
    #[cfg(feature = "embedded")]
    Embedded(Arc<Embedded>),
}

/// The keeper of a book's vouchers, with the facilitator that settles them in either case.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) facilitator: Arc<Facilitator>,
    pub(crate) books: Books,
}

impl Keeper {
    /// A fresh offer: a free slot, and the terms.
    pub(crate) async fn offer(&self) -> Result<Arc<Offer>, Failure> {
        match &self.books {
            Books::Remote => Box::pin(self.facilitator.offer()).await,
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => Box::pin(embedded.offer()).await,
        }
    }

    /// The terms as they were read last, or fresh ones if there are none yet.
    pub(crate) async fn terms(&self) -> Result<Arc<Offer>, Failure> {
        match &self.books {
            Books::Remote => Box::pin(self.facilitator.terms()).await,
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => embedded.terms(),
        }
    }

    /// Reserves a voucher for a call of the required amount.
    pub(crate) async fn reserve(&self, payment: &FacilitatorRequest) -> Result<VerifyResponse, Failure> {
        match &self.books {
            Books::Remote => Box::pin(self.facilitator.verify(payment)).await,
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => embedded.reserve(payment).await,
        }
    }

    /// Charges the required amount, at most what was reserved. Durable when it says so.
    pub(crate) async fn commit(&self, payment: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        match &self.books {
            Books::Remote => Box::pin(self.facilitator.settle(payment)).await,
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => embedded.commit(payment).await,
        }
    }

    /// Gives a reservation back. Nobody waits for how that went: it ends by itself.
    pub(crate) async fn release(&self, payment: &FacilitatorRequest) {
        match &self.books {
            Books::Remote => drop(Box::pin(self.facilitator.release(payment)).await),
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => embedded.release(payment).await,
        }
    }

    /// Opens or tops up a channel: the facilitator pays the fee and waits for the chain.
    pub(crate) async fn fund(&self, payment: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        match &self.books {
            Books::Remote => Box::pin(self.facilitator.settle_on_chain(payment)).await,
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => Box::pin(embedded.fund(payment)).await,
        }
    }

    /// Ends a channel at its payer's wish: the transaction to sign.
    pub(crate) async fn prepare_refund(&self, payment: &FacilitatorRequest) -> Result<VerifyResponse, Failure> {
        match &self.books {
            Books::Remote => Box::pin(self.facilitator.verify(payment)).await,
            #[cfg(feature = "embedded")]
            Books::Embedded(embedded) => Box::pin(embedded.prepare_refund(payment)).await,
        }
    }

    /// Sends the signed transaction of a refund, and waits for the chain.
    pub(crate) async fn refund(&self, payment: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        let settled = Box::pin(self.facilitator.settle_on_chain(payment)).await;
        #[cfg(feature = "embedded")]
        if let Books::Embedded(embedded) = &self.books {
            embedded.look_soon();
        }
        settled
    }
}
