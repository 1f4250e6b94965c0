//! A ledger of the server's own: no call leaves the process.
//!
//! Vouchers are decided on by the same ledger as in the facilitator, and durable in an SQLite file before anybody is
//! answered. The pages are read over the server's own RPC endpoint and are never older than a bound: a channel that closes
//! is seen long before its grace period ends. The facilitator sponsors deposits and refunds, and is handed the newest
//! vouchers in the background so that it settles them; while it is away, calls go on and vouchers wait. It is never
//! believed: what it says of a channel is read on chain.

mod first_look;
mod forward;
mod offer;
mod sight;

use crate::facilitator::Facilitator;
use crate::keeper::Failure;
use forward::Forwarded;
use sight::Sight;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tallybook_ledger::{Refused, Settings};
use tallybook_rpc::RpcEndpoint;
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::{Desk, OpenFailure, Sequencer, correction, state_of};
use tallybook_store::{SqliteStore, StoreFailure};
use tallybook_wire::{AnswerExtra, FacilitatorRequest, Key, Network, Offer, SettleResponse, VerifyResponse};
use tokio::sync::Notify;
use url::Url;

/// The most decisions that wait for the writer.
const QUEUE: usize = 4_096;

/// How often our own endpoint is asked for a deposit that the facilitator says is confirmed.
const FUNDED_LOOKS: u32 = 20;
/// The pause between two of these looks.
const FUNDED_PAUSE: Duration = Duration::from_millis(250);

/// How a server keeps its own ledger: see [`crate::PaywallBuilder::embed`].
#[derive(Clone, Debug)]
pub struct Embedding {
    database: PathBuf,
    rpc: Url,
    max_age: Duration,
    poll: Duration,
    forward_every: Duration,
    credit: Amount,
}

impl Embedding {
    /// Vouchers in the SQLite file `database` (made if missing, 0600, one process alone), pages over the JSON-RPC endpoint
    /// `rpc`, which should be another one than the facilitator's.
    pub fn new(database: impl Into<PathBuf>, rpc: Url) -> Self {
        Self {
            database: database.into(),
            rpc,
            max_age: Duration::from_secs(60),
            poll: Duration::from_secs(2),
            forward_every: Duration::from_secs(5),
            credit: Settings::default().credit,
        }
    }

    /// The oldest picture of the pages that calls are decided on, 60 seconds unless told otherwise; when the endpoint does
    /// not answer for longer, calls are refused with `chain_unavailable`. Keep it well below the grace period.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How often the pages are read, every 2 seconds unless told otherwise.
    #[must_use]
    pub const fn poll(mut self, every: Duration) -> Self {
        self.poll = every;
        self
    }

    /// How often new vouchers are handed to the facilitator, every 5 seconds unless told otherwise; those of a channel that
    /// closes at once.
    #[must_use]
    pub const fn forward_every(mut self, every: Duration) -> Self {
        self.forward_every = every;
        self
    }

    /// How much of a deposit may be spent before it is final, in base units: 10,000,000 unless told otherwise.
    #[must_use]
    pub const fn unfinalized_credit(mut self, credit: Amount) -> Self {
        self.credit = credit;
        self
    }
}

/// Why an embedded ledger does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The file of vouchers.
    #[error("the store: {0}")]
    Store(#[from] StoreFailure),
    /// What is stored does not hold.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// No thread for the writer.
    #[error("no thread for the writer: {0}")]
    Thread(std::io::Error),
    /// Not called within a Tokio runtime, which the ledger's background work needs.
    #[error("build the paywall within a Tokio runtime: its ledger works in the background")]
    NoRuntime,
    /// The HTTP client for the RPC endpoint could not be made.
    #[error("no HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// The ledger of one book, in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    facilitator: Arc<Facilitator>,
    book: Key,
    sequencer: Sequencer,
    chain: RpcEndpoint,
    settings: Embedding,
    sight: Sight,
    forwarded: Forwarded,
    /// A voucher cannot wait to be handed over.
    urgent: Notify,
    /// Something has changed on chain.
    look: Notify,
}

impl Embedded {
    /// Opens the store and starts reading and forwarding in the background, until the last handle is dropped.
    pub(crate) fn start(
        settings: Embedding,
        facilitator: Arc<Facilitator>,
        book: Key,
    ) -> Result<Arc<Self>, EmbedError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| EmbedError::NoRuntime)?;
        let store = SqliteStore::open(&settings.database)?;
        let ledger = Settings { credit: settings.credit, ..Settings::default() };
        // It sends no batches, so none was on its way.
        let (desk, _) = Desk::open(Box::new(store), ledger)?;
        let (sequencer, _) = Sequencer::start(desk, QUEUE).map_err(EmbedError::Thread)?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let embedded = Arc::new(Self {
            facilitator,
            book,
            sequencer,
            chain: RpcEndpoint::new(http, settings.rpc.clone()),
            sight: Sight::new(offer_file(&settings.database)),
            settings,
            forwarded: Forwarded::default(),
            urgent: Notify::new(),
            look: Notify::new(),
        });
        runtime.spawn(sight::watch(Arc::downgrade(&embedded)));
        runtime.spawn(forward::forward(Arc::downgrade(&embedded)));
        Ok(embedded)
    }

    /// [`crate::keeper::Keeper::reserve`].
    pub(crate) async fn reserve(&self, payment: &FacilitatorRequest) -> Result<VerifyResponse, Failure> {
        let voucher = SignedVoucher::from(*payment.payment_payload.payload.voucher());
        self.look_for(&voucher.channel_id).await?;
        if self.sequencer.signer(&voucher.channel_id).is_err() {
            // It may have been opened since the last look, by its payer alone.
            self.look_for_news().await?;
        }
        let required = &payment.payment_requirements;
        let seconds = required.max_timeout_seconds.get();
        match self.sequencer.reserve(voucher, self.book.0, required.amount, seconds).await {
            Ok(channel) => {
                Ok(VerifyResponse::Valid { payer: channel.on_chain().payer.into(), extra: state_of(&channel) })
            }
            Err(refused) => Ok(invalid(&refused)),
        }
    }

    /// [`crate::keeper::Keeper::commit`].
    pub(crate) async fn commit(&self, payment: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        let voucher = SignedVoucher::from(*payment.payment_payload.payload.voucher());
        let network = payment.payment_requirements.network.clone();
        let charge = payment.payment_requirements.amount;
        match self.sequencer.commit(voucher, self.book.0, charge).await {
            Ok(committed) => {
                if committed.change.is_some() {
                    self.forwarded.has_paid_for(voucher.channel_id, payment);
                    self.forwarded.is_waiting(voucher.channel_id);
                }
                let payer = committed.channel.on_chain().payer.into();
                let extra = AnswerExtra { charged_amount: Some(committed.charge), ..state_of(&committed.channel) };
                Ok(SettleResponse::Settled { transaction: None, network, payer, amount: None, extra })
            }
            Err(refused) => Ok(failed(&refused, network)),
        }
    }

    /// [`crate::keeper::Keeper::release`].
    pub(crate) async fn release(&self, payment: &FacilitatorRequest) {
        let voucher = SignedVoucher::from(*payment.payment_payload.payload.voucher());
        if let Err(rejection) = self.sequencer.release(voucher, self.book.0).await {
            tracing::debug!(%rejection, "a reservation ends by itself");
        }
    }

    /// [`crate::keeper::Keeper::fund`]. The facilitator pays for it; whether it is there is read on chain, where our
    /// endpoint may see it a moment later.
    pub(crate) async fn fund(&self, payment: &FacilitatorRequest) -> Result<SettleResponse, Failure> {
        let channel_id = payment.payment_payload.payload.voucher().channel_id;
        // A top-up is sponsored only for a voucher that then pays for its call: the facilitator has to know what is charged.
        self.hand_over(&channel_id).await?;
        let settled = self.facilitator.settle_on_chain(payment).await?;
        let SettleResponse::Settled { extra, .. } = &settled else { return Ok(settled) };
        let id = channel_id.0;
        let funded = extra.channel_state.map_or(Amount::ZERO, |state| state.balance);
        for _ in 0..FUNDED_LOOKS {
            self.look_now().await?;
            let seen =
                self.sequencer.ask(move |desk| desk.ledger.channel(&id).map(|channel| channel.deposit())).await?;
            if seen.is_some_and(|deposit| deposit >= funded) {
                return Ok(settled);
            }
            tokio::time::sleep(FUNDED_PAUSE).await;
        }
        // The same deposit again is the same answer from the facilitator, and one more look for us.
        Err(Rejection::SettlementPending.into())
    }

    /// [`crate::keeper::Keeper::prepare_refund`]. The ledger here takes no more calls on the channel from now on; the
    /// facilitator is told what is charged, so that it proposes to keep as much.
    pub(crate) async fn prepare_refund(&self, payment: &FacilitatorRequest) -> Result<VerifyResponse, Failure> {
        self.look_if_old().await?;
        let voucher = *payment.payment_payload.payload.voucher();
        let left = self.sequencer.leave(voucher.into(), self.book.0).await;
        if let Err(refused) = left {
            return Ok(invalid(&refused));
        }
        self.forwarded.is_waiting(voucher.channel_id.0);
        self.hand_over(&voucher.channel_id).await?;
        self.facilitator.verify(payment).await
    }

    /// The terms as they are known, without asking anybody.
    pub(crate) fn terms(&self) -> Result<Arc<Offer>, Failure> {
        self.sight.terms().ok_or_else(|| Rejection::FacilitatorUnavailable.into())
    }

    /// Something was sent that changes the pages.
    pub(crate) fn look_soon(&self) {
        self.look.notify_one();
    }
}

fn payer(refused: &Refused) -> Option<Key> {
    refused.channel.as_ref().map(|channel| channel.on_chain().payer.into())
}

fn invalid(refused: &Refused) -> VerifyResponse {
    VerifyResponse::Invalid { reason: refused.rejection.into(), payer: payer(refused), extra: correction(refused) }
}

fn failed(refused: &Refused, network: Network) -> SettleResponse {
    let (payer, extra) = (payer(refused), correction(refused));
    SettleResponse::Failed { reason: refused.rejection.into(), transaction: None, network, payer, extra }
}

/// The file beside the store with what the facilitator said last of itself.
fn offer_file(database: &Path) -> PathBuf {
    database.with_extension("offer.json")
}
