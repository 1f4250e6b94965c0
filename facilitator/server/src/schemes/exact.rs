//! The scheme `exact` on Solana, in versions 2 and 1 of x402: a client's transaction pays its payee at once.
//!
//! `/verify` checks and simulates, and changes nothing. `/settle` signs for the fee, sends, and says how that went. One
//! message is settled once: who settles it is written down in memory before anything is waited for, and what is sent is
//! durable before it leaves the house, so that neither a second request beside the first nor one after a restart is
//! granted what was paid for once. What is not known is asked of the chain, until its blockhash has expired. A resource
//! server that names its settlement can ask again for an answer that it has lost.

mod settling;

use crate::app::App;
use crate::audit::{Act, Direct};
use crate::config::ExactSettings;
use crate::holding::{PAYMENTS, To};
use crate::metrics;
use crate::problem::{Problem, is_of_service};
use crate::schemes::{Answer, Place, Scheme, Settled, Settling};
use crate::shares::Turn;
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tallybook_exact::{Caps, Denied, Fault, Payment, check, check_mint};
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::{
    Asked, EXACT, ExactExtra, ExactRequest, Key, Kind, Settlement, Signature, Verification, Version, body, v1_network,
};
use tokio::sync::SemaphorePermit;

/// The scheme on one network.
pub(crate) struct ExactScheme {
    settings: ExactSettings,
    caps: Caps,
    kinds: Vec<Kind>,
    under_way: UnderWay,
}

/// The payments that are being settled now, by the hash of their message.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<HashSet<[u8; 32]>>>);

/// One payment that is being settled; no other request may settle it meanwhile.
struct Sole {
    under_way: UnderWay,
    message_hash: [u8; 32],
}

impl UnderWay {
    /// Takes a payment up, unless somebody else has.
    fn take(&self, message_hash: [u8; 32]) -> Option<Sole> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(message_hash);
        is_new.then(|| Sole { under_way: self.clone(), message_hash })
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        self.under_way.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.message_hash);
    }
}

/// Why a payment is not taken: what is wrong with it, or with the service now.
enum Refusal {
    Payment(Denied, Option<[u8; 64]>),
    Service(Problem),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Payment(denied, None)
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Service(problem)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Service(rejection.into())
    }
}

/// A payment that was granted.
struct Granted {
    payment: Payment,
    /// The transaction that paid.
    sent: [u8; 64],
    /// It was not granted before: the same asker is told the same again.
    is_new: bool,
}

/// Refused for a reason of the payment's, of which nothing was sent.
fn refuse(payment: &Payment, fault: Fault) -> Refusal {
    Denied { fault, payer: Some(*payment.payer()) }.into()
}

/// The same, with what was sent for it.
fn refuse_sent(payment: &Payment, fault: Fault, sent: [u8; 64]) -> Refusal {
    Refusal::Payment(Denied { fault, payer: Some(*payment.payer()) }, Some(sent))
}

impl ExactScheme {
    pub(crate) fn new(settings: &ExactSettings, place: &Place<'_>) -> Self {
        let extra = ExactExtra { fee_payer: Key(place.sponsor.to_bytes()) };
        let kind = |version, network: &str| Kind::new(version, EXACT, network, &extra);
        let first = v1_network(place.network).filter(|_| settings.v1).map(|name| kind(1, name));
        Self {
            caps: Caps {
                sponsor: place.sponsor,
                max_compute_units: settings.max_compute_units,
                max_compute_price: settings.max_compute_price,
            },
            settings: settings.clone(),
            kinds: [kind(Version::NUMBER, place.network.as_str())].into_iter().chain(first).collect(),
            under_way: UnderWay::default(),
        }
    }

    /// What needs no chain: the transaction, and whom the sponsor serves.
    fn check(&self, request: &ExactRequest) -> Result<Payment, Denied> {
        let payment = check(request, &self.caps)?;
        if self.settings.serves(&payment.pay_to().to_bytes(), &payment.mint().to_bytes()) {
            Ok(payment)
        } else {
            Err(Denied { fault: Fault::NotServed, payer: Some(*payment.payer()) })
        }
    }

    /// Asks the chain whether the payee would get the price now. What is not the payment's fault is the service's.
    async fn ask_chain<C: Chain>(&self, app: &App<C>, payment: &Payment) -> Result<(), Refusal> {
        if payment.has_extensions() {
            let mint =
                app.settler.account(payment.mint()).await?.ok_or_else(|| refuse(payment, Fault::MintMismatch))?;
            check_mint(&mint.data).map_err(|fault| refuse(payment, fault))?;
        }
        match app.settler.simulate_sponsored(payment.transaction()).await? {
            None => Ok(()),
            Some(failure) if failure.is_of_fee_payers_funds() => Err(refuse(payment, Fault::SponsorSpent)),
            Some(failure) => {
                tracing::info!(%failure, "the chain would refuse a payment");
                Err(refuse(payment, Fault::SimulationFailed))
            }
        }
    }

    /// Refuses what the sponsor does not pay for any more today; puts nothing aside.
    fn check_sponsoring<C: Chain>(&self, app: &App<C>, payment: &Payment) -> Result<(), Refusal> {
        let checked = app.allowance().check(self.highest_fee(), clock());
        checked.map_err(|_| refuse(payment, Fault::SponsorSpent))
    }

    /// The most that a payment can cost the sponsor, in lamports.
    const fn highest_fee(&self) -> u64 {
        crate::allowance::highest_fee(self.caps.max_compute_units, self.caps.max_compute_price)
    }

    async fn verify_any<C: Chain>(&self, app: &App<C>, request: &ExactRequest) -> Result<Payment, Refusal> {
        let payment = self.check(request)?;
        app.takes_on()?;
        let message_hash = *payment.message_hash();
        match app.sequencer.ask(move |desk| desk.payment(&message_hash)).await? {
            // It would be refused in simulation because it has landed; it is for `/settle` to ask about.
            Some(known) if known.granted_to.is_none() => Ok(payment),
            Some(_) => Err(refuse(&payment, Fault::Duplicate)),
            None => {
                let turns = Turns::of(app, &payment)?;
                self.check_sponsoring(app, &payment)?;
                self.ask_chain(app, &payment).await?;
                turns.count();
                Ok(payment)
            }
        }
    }

    async fn verify<C: Chain>(&self, app: &App<C>, request: &ExactRequest) -> Result<Verification, Problem> {
        let _visit = app.enter(&PAYMENTS, To::Begin)?;
        let outcome = self.verify_any(app, request).await;
        app.record(|| act(Asked::CheckPayment, request, &outcome, |payment| (payment, None))).await?;
        match outcome {
            Ok(payment) => Ok(Verification::valid(Key(payment.payer().to_bytes()))),
            Err(refusal) => {
                let (denied, _) = explain(refusal, request.x402_version)?;
                let name = denied.fault.name(request.x402_version);
                Ok(Verification::invalid(name, denied.fault.advice(), denied.payer.map(|payer| Key(payer.to_bytes()))))
            }
        }
    }

    async fn settle<C: Chain>(
        &self,
        app: &App<C>,
        request: &ExactRequest,
    ) -> Result<(Settlement, Option<[u8; 32]>), Problem> {
        let _visit = app.enter(&PAYMENTS, To::Begin)?;
        let outcome = self.settle_any(app, request).await;
        app.record(|| act(Asked::Pay, request, &outcome, |paid| (&paid.payment, Some(paid.sent)))).await?;
        let paid_by = outcome.as_ref().ok().filter(|paid| paid.is_new).map(|paid| paid.payment.payer().to_bytes());
        let text = |sent: Option<[u8; 64]>| sent.map(|sent| Signature(sent).to_string()).unwrap_or_default();
        let network = request.accepted.1.clone();
        let settlement = match outcome {
            Ok(Granted { payment, sent, .. }) => Settlement {
                success: true,
                error_reason: None,
                error_message: None,
                payer: Some(Key(payment.payer().to_bytes())),
                transaction: text(Some(sent)),
                network,
                amount: Some(payment.amount()),
            },
            Err(refusal) => {
                let (denied, sent) = explain(refusal, request.x402_version)?;
                Settlement {
                    success: false,
                    error_reason: Some(denied.fault.name(request.x402_version).to_owned()),
                    error_message: Some(denied.fault.advice().to_owned()),
                    payer: denied.payer.map(|payer| Key(payer.to_bytes())),
                    transaction: text(sent),
                    network,
                    amount: None,
                }
            }
        };
        Ok((settlement, paid_by))
    }
}

/// What a refusal is told as; a [`Problem`] when it was not the payment.
fn explain(refusal: Refusal, x402_version: u64) -> Result<(Denied, Option<[u8; 64]>), Problem> {
    match refusal {
        Refusal::Payment(denied, sent) => {
            metrics::refused(denied.fault.name(x402_version));
            Ok((denied, sent))
        }
        Refusal::Service(problem) => {
            if let Problem::Refused(rejection) = problem {
                metrics::refused(rejection.name());
                debug_assert!(is_of_service(rejection), "what is wrong with a payment is a fault");
            }
            Err(problem)
        }
    }
}

/// What is recorded of a payment.
fn act<T>(
    asked: Asked,
    request: &ExactRequest,
    outcome: &Result<T, Refusal>,
    of: impl FnOnce(&T) -> (&Payment, Option<[u8; 64]>),
) -> Act {
    let named = Direct {
        payee: request.terms.pay_to.parse().ok(),
        amount: tallybook_wire::decimal::parse(&request.terms.amount).ok(),
        ..Direct::default()
    };
    let direct = match outcome {
        Ok(done) => {
            let (payment, sent) = of(done);
            Direct { payer: Some(Key(payment.payer().to_bytes())), transaction: sent.map(Signature), ..named }
        }
        Err(Refusal::Payment(denied, sent)) => Direct {
            payer: denied.payer.map(|payer| Key(payer.to_bytes())),
            transaction: sent.map(Signature),
            refused: Some(denied.fault.name(request.x402_version)),
            ..named
        },
        Err(Refusal::Service(Problem::Refused(rejection))) => Direct { refused: Some(rejection.name()), ..named },
        Err(Refusal::Service(_)) => Direct { refused: Some(Rejection::Overloaded.name()), ..named },
    };
    Act::direct(asked, direct)
}

/// The turns of the payer and the payee of a payment, and a place for what waits for the chain.
struct Turns<'a> {
    payer: Turn<'a>,
    payee: Turn<'a>,
    _on_chain: SemaphorePermit<'a>,
}

impl<'a> Turns<'a> {
    fn of<C: Chain>(app: &'a App<C>, payment: &Payment) -> Result<Self, Problem> {
        let now = Instant::now();
        Ok(Self {
            payer: app.payers.turn(payment.payer().to_bytes(), now).ok_or(PAYER_FULL)?,
            payee: app.payees.turn(payment.pay_to().to_bytes(), now).ok_or(PAYEE_FULL)?,
            _on_chain: app.places.on_chain().ok_or(CHAIN_FULL)?,
        })
    }

    /// It was really theirs.
    fn count(&self) {
        let now = Instant::now();
        self.payer.count(now);
        self.payee.count(now);
    }
}

const PAYER_FULL: Problem = Problem::Full(
    "This payer has as many payments at work, or has had as many in a second, as one payer may: wait for their answers.",
);
const PAYEE_FULL: Problem =
    Problem::Full("This payee has as many payments at work, or has had as many in a second, as one may: retry.");
const CHAIN_FULL: Problem = Problem::Full("As many payments wait for the chain as may: retry.");

impl<C: Chain> Scheme<C> for ExactScheme {
    fn kinds(&self) -> Vec<Kind> {
        self.kinds.clone()
    }

    fn verify<'a>(&'a self, app: &'a App<C>, request: &'a [u8]) -> Answer<'a> {
        Box::pin(async move { Ok(body(&self.verify(app, &ExactRequest::read(request)?).await?)?) })
    }

    fn settle<'a>(&'a self, app: &'a App<C>, request: &'a [u8]) -> Settling<'a> {
        Box::pin(async move {
            let (settlement, paid_by) = self.settle(app, &ExactRequest::read(request)?).await?;
            Ok(Settled { answer: body(&settlement)?, paid_by })
        })
    }

    fn tend<'a>(&'a self, app: &'a App<C>) -> Pin<Box<dyn Future<Output = Result<(), Rejection>> + Send + 'a>> {
        Box::pin(self.forget_what_is_over(app))
    }
}
