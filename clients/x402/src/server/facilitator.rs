//! The facilitator that x402-axum asks: a paywall for payments of channels, and another facilitator for the rest.

use super::around::{Open, current};
use serde_json::{Value, json};
use std::sync::Arc;
use tallybook_paywall::{Declined, Paywall, Taken};
use tallybook_rules::Rejection;
use tallybook_wire::{FacilitatorRequest, SettleResponse};
use x402_axum::facilitator_client::{FacilitatorClient, FacilitatorClientError};
use x402_types::facilitator::Facilitator;
use x402_types::proto::{self, SupportedResponse};

/// Takes payments of our scheme itself, and hands those of others on. For `X402Middleware::from_facilitator`.
#[derive(Clone, Debug)]
pub struct ChannelFacilitator {
    paywall: Paywall,
    others: Arc<FacilitatorClient>,
}

impl ChannelFacilitator {
    pub(super) const fn new(paywall: Paywall, others: Arc<FacilitatorClient>) -> Self {
        Self { paywall, others }
    }

    /// Reserves; the reservation waits with the request for being charged.
    async fn take(&self, request: FacilitatorRequest) -> Value {
        let price = request.payment_requirements.amount;
        let taken = match self.paywall.take(request.payment_payload, price).await {
            Ok(Taken::Call(accepted)) => {
                let payer = accepted.payer();
                // Without a place to wait in it is given back right here.
                current(|open| open.accept(*accepted)).map(|()| json!({ "isValid": true, "payer": payer }))
            }
            Ok(Taken::Closed(_)) => None,
            Err(declined) => Some(decline(declined)),
        };
        taken.unwrap_or_else(|| {
            tracing::error!("a route is charged without `Channels::around`: no payment of a channel is taken");
            json!({ "isValid": false, "invalidReason": Rejection::NoReservation.name() })
        })
    }

    async fn charge(&self) -> Value {
        let Some(accepted) = current(Open::take).flatten() else {
            return json!({ "success": false, "errorReason": Rejection::NoReservation.name() });
        };
        match accepted.charge().await {
            Ok(receipt @ SettleResponse::Settled { .. }) => serde_json::to_value(receipt).unwrap_or_default(),
            Ok(SettleResponse::Failed { reason, .. }) => json!({ "success": false, "errorReason": reason.name() }),
            Err(declined) => {
                let reason = declined.reason.name().to_owned();
                decline(declined);
                json!({ "success": false, "errorReason": reason })
            }
        }
    }
}

/// Keeps the reason for the 402 that follows.
fn decline(declined: Declined) -> Value {
    let answer = json!({ "isValid": false, "invalidReason": declined.reason.name() });
    current(|open| open.decline(declined));
    answer
}

fn ours(request: &proto::VerifyRequest) -> Option<FacilitatorRequest> {
    serde_json::from_str(request.as_str()).ok()
}

impl Facilitator for ChannelFacilitator {
    type Error = FacilitatorClientError;

    async fn verify(&self, request: &proto::VerifyRequest) -> Result<proto::VerifyResponse, Self::Error> {
        match ours(request) {
            Some(request) => Ok(proto::VerifyResponse(self.take(request).await)),
            None => self.others.verify(request).await,
        }
    }

    async fn settle(&self, request: &proto::SettleRequest) -> Result<proto::SettleResponse, Self::Error> {
        match ours(request) {
            Some(request) => {
                // Where the route settles before it runs its handler nothing was reserved yet.
                if current(|open| open.has_accepted()) == Some(false) {
                    self.take(request).await;
                }
                Ok(proto::SettleResponse(self.charge().await))
            }
            None => self.others.settle(request).await,
        }
    }

    async fn supported(&self) -> Result<SupportedResponse, Self::Error> {
        self.others.supported().await
    }
}
