//! Calls that are sold without the layer: for whatever carries x402 otherwise, such as another middleware or another
//! transport. The same three steps, one at a time.

use crate::builder::Paywall;
use crate::call::{self, Begun};
use crate::declared::declare_tool;
use crate::price::Price;
use crate::reservation::{Reserved, commit};
use crate::respond::Refused;
use crate::sale::{Way, with_state};
use core::fmt;
use std::sync::Arc;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    AnswerExtra, Discoverable, FacilitatorRequest, Key, PaymentPayload, PaymentRequirements, Reason, ResourceInfo,
    SettleResponse, Signature,
};
use tokio::sync::OwnedSemaphorePermit;

/// Why a payment was not taken, and what a client needs to do better.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Declined {
    /// Why.
    pub reason: Reason,
    /// Where the channel stands, if it was the amount.
    pub extra: AnswerExtra,
    /// The transaction that was sent for it, where its outcome is not known.
    pub transaction: Option<Signature>,
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.reason.advice())
    }
}

impl core::error::Error for Declined {}

impl From<Refused> for Declined {
    fn from(refused: Refused) -> Self {
        let transaction = refused.sent_transaction();
        Self { reason: refused.reason, extra: *refused.state, transaction }
    }
}

/// What became of a payment.
#[derive(Debug)]
pub enum Taken {
    /// It pays for a call: run the handler, then [`Accepted::charge`].
    Call(Box<Accepted>),
    /// It asked for its channel to be closed, which was done. There is no call: answer with this receipt.
    Closed(Box<SettleResponse>),
}

/// A call that is paid for, once it is charged. Dropped without that, the payment is given back: nothing is charged.
#[derive(Debug)]
pub struct Accepted {
    way: Way,
    reserved: Reserved,
    price: Amount,
    _permit: OwnedSemaphorePermit,
}

impl Accepted {
    /// The wallet that pays.
    pub const fn payer(&self) -> Key {
        self.reserved.payer
    }

    /// Charges the call. When it says so the charge is durable, and the answer may go out; [`Rejection::SettlementPending`]
    /// when that is not known: the same payment again then finds out.
    pub async fn charge(mut self) -> Result<SettleResponse, Declined> {
        self.reserved.renew().await?;
        let payment = self.reserved.take().ok_or(Refused::from(Rejection::NoReservation))?;
        Ok(commit(&self.way.shared, payment, self.price).await?)
    }
}

impl Paywall {
    /// The entry of `accepts` for a call that costs `price`, in base units; after a payment that was declined, with what the
    /// client needs to correct it.
    pub async fn requirements(
        &self,
        price: Amount,
        declined: Option<&Declined>,
    ) -> Result<PaymentRequirements, Declined> {
        let way = self.way(price);
        let offer = self.shared.keeper.offer().await.map_err(Refused::from)?;
        self.shared.grow_if_needed(&offer);
        Ok(with_state(way.required(&offer), declined.map(|declined| &declined.extra)))
    }

    /// Takes a payment for a call that costs `price`, in base units: opens or tops up its channel where it brings a deposit,
    /// and reserves its voucher.
    pub async fn take(&self, payment: PaymentPayload, price: Amount) -> Result<Taken, Declined> {
        self.take_for(payment, price, None).await
    }

    /// As [`Paywall::take`], for something that catalogues may list once it was paid for: where it is, and how it is called.
    /// What the client has echoed of that is not handed on, with this or without.
    pub async fn take_for(
        &self,
        mut payment: PaymentPayload,
        price: Amount,
        sold: Option<(ResourceInfo, &Discoverable)>,
    ) -> Result<Taken, Declined> {
        declare_tool(&mut payment, sold);
        let way = self.way(price);
        let permit = Arc::clone(&self.shared.in_flight).try_acquire_owned();
        let permit = permit.map_err(|_| Refused::from(Rejection::Overloaded))?;
        let requirements = way.required(&*self.shared.keeper.terms().await.map_err(Refused::from)?);
        payment.accepted.answers(&requirements).map_err(Refused::from)?;
        match call::begin(&self.shared, Box::new(FacilitatorRequest::new(payment, requirements)), None).await? {
            Begun::Reserved(reserved) => {
                Ok(Taken::Call(Box::new(Accepted { way, reserved: *reserved, price, _permit: permit })))
            }
            Begun::Closed(receipt) => Ok(Taken::Closed(receipt)),
            // Without the request's fingerprint no answer is kept.
            Begun::Answered(_) => Err(Refused::from(Rejection::VoucherUsed).into()),
        }
    }

    fn way(&self, price: Amount) -> Way {
        Way { shared: Arc::clone(&self.shared), price: Price::Exactly(price) }
    }
}
