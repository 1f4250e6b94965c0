//! Paying through x402-reqwest: the scheme that makes payments, and the middleware that sees what became of them.

mod answers;
mod carried;

pub use answers::Answers;

use alloy_primitives::U256;
use async_trait::async_trait;
use carried::{Calls, HANDLE, Handle};
use std::fmt;
use std::sync::Arc;
use tallybook_agent::{Agent, Chain, RpcEndpoint};
use tallybook_wire::{PaymentRequirements, SCHEME};
use x402_types::proto::{self, OriginalJson};
use x402_types::scheme::X402SchemeId;
use x402_types::scheme::client::{PaymentCandidate, PaymentCandidateSigner, X402Error, X402SchemeClient};

/// The scheme, to register with `X402Client`. A handle: clones share the agent and its channels.
pub struct TallybookChannel<C = RpcEndpoint> {
    agent: Agent<C>,
    calls: Arc<Calls<C>>,
}

impl<C> Clone for TallybookChannel<C> {
    fn clone(&self) -> Self {
        Self { agent: self.agent.clone(), calls: Arc::clone(&self.calls) }
    }
}

impl<C> fmt::Debug for TallybookChannel<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TallybookChannel").field("agent", &self.agent).finish_non_exhaustive()
    }
}

impl<C: Chain> TallybookChannel<C> {
    /// A scheme whose payments `agent` makes, from its channels and within its policy.
    pub fn new(agent: Agent<C>) -> Self {
        Self { agent, calls: Arc::default() }
    }

    /// The middleware that tells the agent what became of its payments and sends corrected ones. It belongs below
    /// `X402Client`; without it no payment is made.
    pub fn answers(&self) -> Answers<C> {
        Answers::new(Arc::clone(&self.calls))
    }

    /// The agent: its channels, its budget, its shutdown.
    pub const fn agent(&self) -> &Agent<C> {
        &self.agent
    }

    /// One entry of `accepts`, if it is of our scheme.
    fn candidate(&self, original: &OriginalJson) -> Option<PaymentCandidate> {
        let offer: PaymentRequirements = serde_json::from_str(original.0.get()).ok()?;
        let handle = offer.extra.other.get(HANDLE).and_then(Handle::read);
        Some(PaymentCandidate {
            chain_id: offer.network.to_string().parse().ok()?,
            asset: offer.asset.to_string(),
            amount: U256::from(offer.amount.get()),
            scheme: SCHEME.to_owned(),
            x402_version: self.x402_version(),
            pay_to: offer.pay_to.to_string(),
            signer: Box::new(CallSigner { channel: self.clone(), handle }),
        })
    }
}

impl<C> X402SchemeId for TallybookChannel<C> {
    fn namespace(&self) -> &str {
        "solana"
    }

    fn scheme(&self) -> &str {
        SCHEME
    }
}

impl<C: Chain> X402SchemeClient for TallybookChannel<C> {
    fn accept(&self, required: &proto::PaymentRequired) -> Vec<PaymentCandidate> {
        match required {
            proto::PaymentRequired::V2(required) => {
                required.accepts.iter().filter_map(|original| self.candidate(original)).collect()
            }
            proto::PaymentRequired::V1(_) => Vec::new(),
        }
    }
}

/// Pays one call, once it was chosen.
struct CallSigner<C> {
    channel: TallybookChannel<C>,
    /// The call, if the middleware is in place.
    handle: Option<Handle>,
}

#[async_trait]
impl<C: Chain> PaymentCandidateSigner for CallSigner<C> {
    async fn sign_payment(&self) -> Result<String, X402Error> {
        let call = self.handle.and_then(|handle| Some((self.channel.calls.get(handle)?, handle)));
        let Some((call, handle)) = call else {
            return Err(X402Error::SigningError(
                "the scheme would not see what its payment buys: add `.with(channel.answers())` below X402Client"
                    .into(),
            ));
        };
        call.pay(&self.channel.agent, handle).await
    }
}
