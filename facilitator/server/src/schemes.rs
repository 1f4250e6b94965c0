//! Which scheme takes a payment. Everything above this module reads a request's head and asks here; everything below is one
//! scheme's own. A new scheme, or an old one on another network or version of x402, is a module and a line in [`registered`].

mod channel;
mod exact;

pub(crate) use channel::without_hints;

use crate::app::App;
use crate::config::Config;
use crate::metrics;
use crate::problem::Problem;
use axum::http::HeaderValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::pin::Pin;
use tallybook_chain::Address;
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::{BAZAAR, Head, Key, Kind, Network, Settlement, SupportedResponse, Verification, body};

/// An answer on its way: the JSON of it.
pub(crate) type Answer<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Problem>> + Send + 'a>>;

/// What a payment came to: the JSON of the answer, and who has paid, if something was charged by it that was not charged before.
pub(crate) struct Settled {
    pub(crate) answer: Vec<u8>,
    pub(crate) paid_by: Option<[u8; 32]>,
}

/// The same, on its way.
pub(crate) type Settling<'a> = Pin<Box<dyn Future<Output = Result<Settled, Problem>> + Send + 'a>>;

/// One scheme of x402. It is handed the whole body of a request whose head is one of its kinds, reads it, decides, records
/// what it did ([`App::record`]), and answers.
pub(crate) trait Scheme<C: Chain>: Send + Sync {
    /// What it takes: each an entry of `/supported`.
    fn kinds(&self) -> Vec<Kind>;

    /// `POST /verify`.
    fn verify<'a>(&'a self, app: &'a App<C>, body: &'a [u8]) -> Answer<'a>;

    /// `POST /settle`.
    fn settle<'a>(&'a self, app: &'a App<C>, body: &'a [u8]) -> Settling<'a>;

    /// Takes out of a payment's requirements what only one call was told, so that a catalogue can show the rest.
    fn as_listed(&self, _requirements: &mut Map<String, Value>) {}

    /// `POST /release`. Most schemes reserve nothing that could be released.
    fn release<'a>(&'a self, _app: &'a App<C>, _body: &'a [u8]) -> Answer<'a> {
        Box::pin(async { Ok(body(&tallybook_wire::ReleaseResponse { released: false })?) })
    }

    /// Called from time to time, to forget what is over.
    fn tend<'a>(&'a self, _app: &'a App<C>) -> Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>> {
        Box::pin(async { Ok(()) })
    }
}

/// Where a scheme is served, and by whom it is paid for.
pub(crate) struct Place<'a> {
    pub(crate) network: &'a Network,
    pub(crate) genesis_hash: [u8; 32],
    pub(crate) sponsor: Address,
}

/// The schemes that a facilitator of this configuration serves.
pub(crate) fn registered<C: Chain>(config: &Config, place: &Place<'_>) -> Schemes<C> {
    let extensions = if config.discovery.enabled { vec![BAZAAR.to_owned()] } else { Vec::new() };
    let mut schemes = Schemes { of: Vec::new(), signer: Key(place.sponsor.to_bytes()), extensions };
    schemes.register(channel::ChannelScheme::new(place));
    if let Some(settings) = &config.exact {
        schemes.register(exact::ExactScheme::new(settings, place));
    }
    schemes
}

/// What is served, by kind.
pub(crate) struct Schemes<C> {
    of: Vec<(Vec<Kind>, Box<dyn Scheme<C>>)>,
    signer: Key,
    /// The extensions of x402 that are understood.
    extensions: Vec<String>,
}

impl<C: Chain> Schemes<C> {
    fn register(&mut self, scheme: impl Scheme<C> + 'static) {
        self.of.push((scheme.kinds(), Box::new(scheme)));
    }

    /// Who takes a request of this head; or the name that the x402 reference has for why nobody does.
    fn of(&self, head: &Head<'_>) -> Result<&dyn Scheme<C>, &'static str> {
        let found = self.of.iter().find(|(kinds, _)| kinds.iter().any(|kind| kind.is_of(head)));
        if let Some((_, scheme)) = found {
            return Ok(scheme.as_ref());
        }
        let mut of_version = self.kinds().filter(|kind| kind.x402_version == head.x402_version).peekable();
        if of_version.peek().is_none() {
            Err("invalid_x402_version")
        } else if of_version.any(|kind| kind.scheme == head.scheme) {
            Err("invalid_network")
        } else {
            Err("unsupported_scheme")
        }
    }

    fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.of.iter().flat_map(|(kinds, _)| kinds)
    }

    /// `GET /supported`.
    pub(crate) fn supported(&self) -> SupportedResponse {
        SupportedResponse {
            kinds: self.kinds().cloned().collect(),
            extensions: self.extensions.clone(),
            signers: BTreeMap::from([("solana:*".to_owned(), vec![self.signer])]),
        }
    }

    /// `POST /verify`.
    pub(crate) async fn verify(&self, app: &App<C>, request: &[u8]) -> Result<Vec<u8>, Problem> {
        match self.of(&Head::read(request)?) {
            Ok(scheme) => scheme.verify(app, request).await,
            Err(reason) => {
                metrics::refused(reason);
                Ok(body(&Verification::invalid(reason, ASK_SUPPORTED, None))?)
            }
        }
    }

    /// `POST /settle`: the answer, and what became of the payment's extensions.
    pub(crate) async fn settle(&self, app: &App<C>, request: &[u8]) -> Result<(Vec<u8>, Option<HeaderValue>), Problem> {
        let head = Head::read(request)?;
        match self.of(&head) {
            Ok(scheme) => {
                let Settled { answer, paid_by } = scheme.settle(app, request).await?;
                let listed = paid_by.zip(app.discovery.as_ref()).and_then(|(payer, discovery)| {
                    discovery.paid(request, payer, clock(), |requirements| scheme.as_listed(requirements))
                });
                Ok((answer, listed))
            }
            Err(reason) => {
                metrics::refused(reason);
                let refused = body(&Settlement {
                    success: false,
                    error_reason: Some(reason.to_owned()),
                    error_message: Some(ASK_SUPPORTED.to_owned()),
                    payer: None,
                    transaction: String::new(),
                    network: head.network.into_owned(),
                    amount: None,
                })?;
                Ok((refused, None))
            }
        }
    }

    /// `POST /release`.
    pub(crate) async fn release(&self, app: &App<C>, request: &[u8]) -> Result<Vec<u8>, Problem> {
        match self.of(&Head::read(request)?) {
            Ok(scheme) => scheme.release(app, request).await,
            Err(_) => Err(Rejection::UnsupportedScheme.into()),
        }
    }

    /// Lets every scheme forget what is over.
    pub(crate) async fn tend(&self, app: &App<C>) -> Result<(), Rejection> {
        for (_, scheme) in &self.of {
            scheme.tend(app).await?;
        }
        Ok(())
    }
}

/// What to do about a payment of another kind.
const ASK_SUPPORTED: &str = "GET /supported names the versions, schemes and networks that are taken here.";

impl<C> std::fmt::Debug for Schemes<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemes").field("registered", &self.of.len()).finish_non_exhaustive()
    }
}
