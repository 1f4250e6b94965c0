//! What the handles of an agent share.

use crate::answer::Receipt;
use crate::approval::{Approver, Ask, Asked, approve};
use crate::budget::Budget;
use crate::channel::{OwnChannel, Phase};
use crate::error::AgentError;
use crate::journal::Journal;
use crate::paid::{Bought, Paid, Payments};
use crate::policy::Policy;
use crate::pool::{Pool, PoolKey, Shared, lock};
use crate::route::{self, Remembered, Route};
use crate::tending::Background;
use http::HeaderValue;
use reqwest::{Request, Response};
use serde_json::{Map, Value};
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tallybook_rpc::Chain;
use tallybook_rules::Amount;
use tallybook_rules::signing::SigningKey;
use tallybook_wire::{
    BAZAAR, ChannelPayload, Key, PAYMENT_IDENTIFIER, PAYMENT_SIGNATURE, PaymentIdentifier, PaymentPayload,
    PaymentRequired, PaymentRequirements,
};
use tokio::sync::OnceCell;

/// The longest declaration of a server that is echoed, in bytes of JSON.
const MAX_DECLARATION_BYTES: usize = 1_024;
/// The same, of what is for catalogues and goes back once: with a deposit's transaction there is still room in a header.
const MAX_ECHO_BYTES: usize = 2_560;

/// What the handles share. No `Debug`: it holds keys.
pub(crate) struct AgentState<C> {
    pub(crate) http: reqwest::Client,
    pub(crate) chain: C,
    pub(crate) wallet: Keypair,
    pub(crate) signer: SigningKey,
    pub(crate) policy: Policy,
    pub(crate) journal: Journal,
    pub(crate) payments: Payments,
    pub(crate) budget: Arc<Budget>,
    pub(crate) approver: Option<Approver>,
    pub(crate) channels: Mutex<HashMap<Key, Shared>>,
    pub(crate) pools: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    pub(crate) remembered: Mutex<Remembered>,
    pub(crate) cluster_checked: OnceCell<()>,
    pub(crate) background: Mutex<Option<Background>>,
}

impl<C: Chain> AgentState<C> {
    /// Sends a copy of `request`, with a payment if there is one.
    pub(crate) async fn send(&self, request: &Request, payment: Option<HeaderValue>) -> Result<Response, AgentError> {
        let mut copy = request.try_clone().ok_or(AgentError::NotRepeatable)?;
        if let Some(payment) = payment {
            copy.headers_mut().insert(PAYMENT_SIGNATURE, payment);
        }
        Ok(self.http.execute(copy).await?)
    }

    /// Chooses the offer of a 402 that can be paid, and remembers it for the route.
    pub(crate) fn learn(
        &self,
        route: &Route,
        required: &PaymentRequired,
    ) -> Result<Arc<PaymentRequirements>, AgentError> {
        let mut offers = required.channel_offers();
        let Some(offer) = offers.find(|offer| self.policy.can_pay(offer)) else {
            return Err(AgentError::NoOffer {
                network: self.policy.cluster.network.to_string(),
                mint: self.policy.cluster.mint,
            });
        };
        let mut offer = offer.clone();
        // What was said about one channel is no part of the terms.
        offer.extra.channel_state = None;
        offer.extra.voucher_state = None;
        let offer = Arc::new(offer);
        let naming = required.extensions.as_ref().and_then(|extensions| extensions.get(PAYMENT_IDENTIFIER));
        let naming = naming.filter(|naming| is_small(naming)).cloned().map(Arc::new);
        let declared = declared(required);
        lock(&self.remembered).insert(route, route::Asked { offer: Arc::clone(&offer), naming, declared });
        Ok(offer)
    }

    pub(crate) fn remembered(&self, route: &Route) -> Option<Arc<PaymentRequirements>> {
        lock(&self.remembered).get(route).map(|asked| Arc::clone(&asked.offer))
    }

    /// A payment, under the name of its voucher where the server lets payments have names: so that it is done once,
    /// however often it has to be sent.
    pub(crate) fn payment(
        &self,
        route: &Route,
        offer: &PaymentRequirements,
        payload: ChannelPayload,
    ) -> PaymentPayload {
        let (naming, declared) = {
            let mut remembered = lock(&self.remembered);
            (remembered.get(route).and_then(|asked| asked.naming.clone()), remembered.take_declared(route))
        };
        let name = PaymentIdentifier::of(payload.voucher());
        let mut payment = PaymentPayload::new(offer.clone(), payload);
        let mut extensions: Map<String, Value> =
            naming.iter().map(|naming| (PAYMENT_IDENTIFIER.to_owned(), name.echo(naming))).collect();
        if let Some(route::Declared { resource, extension }) = declared {
            payment.resource = Some(resource);
            extensions.insert(BAZAAR.to_owned(), extension);
        }
        payment.extensions = Some(extensions).filter(|extensions| !extensions.is_empty());
        payment
    }

    /// The endpoint is of the policy's cluster; asked once.
    pub(crate) async fn check_cluster(&self) -> Result<(), AgentError> {
        let check = async || {
            let found = Key(self.chain.genesis_hash().await?);
            let pinned = self.policy.cluster.genesis_hash;
            if found == pinned { Ok(()) } else { Err(AgentError::WrongCluster { pinned, found }) }
        };
        self.cluster_checked.get_or_try_init(check).await.map(|_| ())
    }

    /// Asks a person if the policy says so. True when one was asked, and approved.
    pub(crate) async fn approve(
        &self,
        what: Asked,
        amount: Amount,
        route: &Route,
        payee: Key,
    ) -> Result<bool, AgentError> {
        let (host, path) = (route.authority().to_owned(), route.path().to_owned());
        let ask = Ask { what, amount, host, path, payee };
        Ok(approve(&self.policy, self.approver.as_ref(), ask).await?)
    }

    /// The signed receipt of a paid call, if there is one and it is of this wallet's payment on this cluster.
    pub(crate) fn signed_for(&self, receipt: &Receipt) -> Option<String> {
        let statement = receipt.statement.as_ref()?;
        let wallet = Key(self.wallet.pubkey().to_bytes());
        match statement.receipt() {
            Ok(stated) if stated.what.payer == wallet && stated.what.network == self.policy.cluster.network => {
                Some(statement.signature.clone())
            }
            Ok(_) => None,
            Err(rejection) => {
                tracing::debug!(%rejection, "a server's signed receipt does not hold, and is not kept");
                None
            }
        }
    }

    /// The pool of a host and book.
    pub(crate) fn pool(&self, key: &PoolKey) -> Arc<Pool> {
        let mut pools = lock(&self.pools);
        let pool = pools.entry(key.clone());
        Arc::clone(pool.or_insert_with(|| Pool::new(self.policy.channels_per_host)))
    }

    /// All pools.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        lock(&self.pools).values().cloned().collect()
    }

    /// Makes a channel known by its id.
    pub(crate) fn register(&self, channel: OwnChannel) -> Shared {
        let id = channel.id;
        let shared = Arc::new(Mutex::new(channel));
        lock(&self.channels).insert(id, Arc::clone(&shared));
        shared
    }

    /// Makes what is now in memory durable.
    pub(crate) async fn save(&self, channel: &Shared) -> Result<(), AgentError> {
        let snapshot = lock(channel).clone();
        self.journal.save(&snapshot).await
    }

    /// Ends a channel that cost `charged` in all: what came back is free again. The journal first: the budget is put right
    /// from it after a crash in between.
    pub(crate) async fn end(&self, channel: &Shared, charged: Amount) -> Result<(), AgentError> {
        {
            let mut channel = lock(channel);
            channel.phase = Phase::Ended;
            channel.charged = charged;
            channel.ceiling = charged;
            channel.top_up = None;
        }
        self.list_found(channel);
        self.save(channel).await?;
        self.count(channel).await
    }

    /// Tells the budget what a channel counts with now.
    pub(crate) async fn count(&self, channel: &Shared) -> Result<(), AgentError> {
        let (id, counted) = {
            let channel = lock(channel);
            (channel.id, channel.counted())
        };
        self.budget.set(id, counted).await
    }

    /// Puts what a channel was charged beyond what is listed on the list: a call whose outcome was found out now.
    pub(crate) fn list_found(&self, channel: &Shared) {
        let paid = {
            let mut channel = lock(channel);
            let found = channel.charged.less(channel.recorded);
            if found.is_zero() {
                return;
            }
            channel.recorded = channel.charged;
            Paid {
                what: Bought::Found,
                status: 0,
                price: found,
                charged: Some(found),
                ..channel.paid((self.budget.clock)())
            }
        };
        self.payments.record(paid);
    }

    /// The voucher key.
    pub(crate) fn signer_key(&self) -> Key {
        self.signer.verifying_key().to_bytes().into()
    }
}

/// What a 402 declares to catalogues, if it fits into the header of a payment beside everything else.
fn declared(required: &PaymentRequired) -> Option<route::Declared> {
    let extension = required.extensions.as_ref()?.get(BAZAAR)?;
    let size = extension.to_string().len().saturating_add(serde_json::to_string(&required.resource).ok()?.len());
    let fits = size <= MAX_ECHO_BYTES;
    fits.then(|| route::Declared { resource: required.resource.clone(), extension: extension.clone() })
}

/// Goes back with every payment, in a header.
fn is_small(declaration: &Value) -> bool {
    declaration.to_string().len() <= MAX_DECLARATION_BYTES
}

pub(crate) fn pool_key(channel: &OwnChannel) -> PoolKey {
    PoolKey { authority: channel.authority.clone(), book: channel.parts.book }
}
