//! The scheme `@tallybook/channel`: vouchers, deposits and refunds, verified and settled.

mod deposit;
mod refund;
mod voucher;

use crate::app::App;
use crate::audit::{Act, Done};
use crate::first_sight;
use crate::holding::To;
use crate::metrics;
use crate::problem::{Problem, is_of_service};
use crate::schemes::{Answer, Place, Scheme, Settled, Settling};
use crate::shares::Turn;
use serde_json::{Map, Value};
use std::time::Instant;
use tallybook_chain::PROGRAM_ID;
use tallybook_ledger::{Channel, Purpose, Refused};
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::{correction, state_of};
use tallybook_settler::Chain;
use tallybook_wire::{
    AnswerExtra, ChannelPayload, FacilitatorRequest, Key, Kind, KindExtra, ReleaseResponse, SCHEME, SettleResponse,
    Signature, VerifyResponse, Version, body, read_body,
};
use tokio::sync::SemaphorePermit;

/// The scheme on one network.
pub(crate) struct ChannelScheme {
    kind: Kind,
}

impl ChannelScheme {
    pub(crate) fn new(place: &Place<'_>) -> Self {
        let extra = KindExtra {
            fee_payer: Key(place.sponsor.to_bytes()),
            program_id: Key(PROGRAM_ID.to_bytes()),
            genesis_hash: Key(place.genesis_hash),
            other: Default::default(),
        };
        Self { kind: Kind::new(Version::NUMBER, SCHEME, place.network.as_str(), &extra) }
    }
}

impl<C: Chain> Scheme<C> for ChannelScheme {
    fn kinds(&self) -> Vec<Kind> {
        vec![self.kind.clone()]
    }

    fn verify<'a>(&'a self, app: &'a App<C>, request: &'a [u8]) -> Answer<'a> {
        Box::pin(async move { Ok(body(&verify(app, &read_body(request)?).await?)?) })
    }

    fn settle<'a>(&'a self, app: &'a App<C>, request: &'a [u8]) -> Settling<'a> {
        Box::pin(async move {
            let (response, paid_by) = settle(app, &read_body(request)?).await?;
            Ok(Settled { answer: body(&response)?, paid_by })
        })
    }

    fn as_listed(&self, requirements: &mut Map<String, Value>) {
        without_hints(requirements);
    }

    fn release<'a>(&'a self, app: &'a App<C>, request: &'a [u8]) -> Answer<'a> {
        Box::pin(async move { Ok(body(&release(app, &read_body(request)?).await?)?) })
    }
}

/// Takes hints of one moment out of requirements, and where one client's channel stands.
pub(crate) fn without_hints(requirements: &mut Map<String, Value>) {
    if let Some(extra) = requirements.get_mut("extra").and_then(Value::as_object_mut) {
        ["recentBlockhash", "channelState", "voucherState"].into_iter().for_each(|hint| drop(extra.remove(hint)));
    }
}

/// What a payment that holds is answered with.
#[derive(Debug)]
struct Accepted {
    payer: [u8; 32],
    extra: AnswerExtra,
    /// What was sent for it.
    transaction: Option<[u8; 64]>,
    /// What was deposited, or went back.
    amount: Option<Amount>,
    /// Whether a call was charged by it that was not charged before.
    charges: bool,
}

/// Why a payment was refused, with the name of what was sent for it where the outcome is not known.
#[derive(Debug)]
struct Denied {
    refused: Refused,
    sent: Option<[u8; 64]>,
}

impl<R: Into<Refused>> From<R> for Denied {
    fn from(refused: R) -> Self {
        Self { refused: refused.into(), sent: None }
    }
}

/// What to say of a transaction that was signed for a purpose and of which no more can be told now: once it is recorded it may
/// have landed, whatever kept the rest from being known, and then it is pending by name.
async fn untold<C: Chain>(app: &App<C>, purpose: Purpose, rejection: Rejection, signature: [u8; 64]) -> Denied {
    match app.last_attempt(purpose).await {
        Ok(Some(attempt)) if attempt.signature == signature => {
            Denied { refused: Rejection::SettlementPending.into(), sent: Some(signature) }
        }
        Ok(_) | Err(_) => rejection.into(),
    }
}

/// True for what says nothing of a transaction that may have been sent.
const fn tells_nothing(rejection: Rejection) -> bool {
    matches!(rejection, Rejection::SettlementPending | Rejection::ChainUnavailable | Rejection::StoreUnavailable)
}

impl Accepted {
    fn of(channel: &Channel) -> Self {
        Self {
            payer: channel.on_chain().payer,
            extra: state_of(channel),
            transaction: None,
            amount: None,
            charges: false,
        }
    }

    /// As it is recorded.
    fn done(&self) -> Done {
        Done { payer: self.payer.into(), transaction: self.transaction.map(Signature), amount: self.amount }
    }
}

/// The turns of the payer and the payee of a request.
struct Turns<'a> {
    payer: Option<Turn<'a>>,
    payee: Option<Turn<'a>>,
    _on_chain: Option<SemaphorePermit<'a>>,
}

impl<'a> Turns<'a> {
    /// One turn each for the two of them, and a place for what waits for the chain. Who they are is believed for now: a
    /// request that is not theirs is over in no time, and counts for nobody.
    fn of<C: Chain>(app: &'a App<C>, request: &FacilitatorRequest) -> Result<Self, Problem> {
        let now = Instant::now();
        let book = request.payment_requirements.extra.book.0;
        let payee = app.book(&book).ok().map(|_| app.payees.turn(book, now).ok_or(PAYEE_FULL)).transpose()?;
        let (payer, waits) = match &request.payment_payload.payload {
            ChannelPayload::Voucher { voucher } => (app.sequencer.payer(&voucher.channel_id.0), false),
            ChannelPayload::Deposit { channel, .. } => (Some(channel.payer.0), true),
            ChannelPayload::Refund { voucher, .. } => (app.sequencer.payer(&voucher.channel_id.0), true),
        };
        let payer = payer.map(|payer| app.payers.turn(payer, now).ok_or(PAYER_FULL)).transpose()?;
        let on_chain = waits.then(|| app.places.on_chain().ok_or(CHAIN_FULL)).transpose()?;
        Ok(Self { payer, payee, _on_chain: on_chain })
    }

    /// It was really theirs.
    fn count(&self) {
        let now = Instant::now();
        [&self.payer, &self.payee].into_iter().flatten().for_each(|turn| turn.count(now));
    }
}

const PAYER_FULL: Problem = Problem::Full(
    "This payer has as many requests at work, or has had as many in a second, as one payer may: wait for their answers.",
);
const PAYEE_FULL: Problem = Problem::Full(
    "This book's payers have as many requests at work, or have had as many in a second, as one book's may: retry.",
);
const CHAIN_FULL: Problem =
    Problem::Full("As many deposits and refunds wait for the chain as may: retry. Calls go on.");

/// `POST /verify`.
async fn verify<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<VerifyResponse, Problem> {
    let _visit = app.enter(request.payment_requirements.extra.book.as_bytes(), To::Begin)?;
    let turns = Turns::of(app, request)?;
    let outcome = verify_any(app, request).await;
    if outcome.is_ok() {
        turns.count();
    }
    app.record(|| Act::verified(request, outcome.as_ref().map(Accepted::done))).await?;
    match outcome {
        Ok(accepted) => Ok(VerifyResponse::Valid { payer: accepted.payer.into(), extra: accepted.extra }),
        Err(refused) => {
            let (reason, payer, extra) = explain(refused)?;
            Ok(VerifyResponse::Invalid { reason: reason.into(), payer, extra })
        }
    }
}

/// `POST /settle`: the answer, and who paid for a call, if one was charged.
async fn settle<C: Chain>(
    app: &App<C>,
    request: &FacilitatorRequest,
) -> Result<(SettleResponse, Option<[u8; 32]>), Problem> {
    let network = app.network.clone();
    let to = match &request.payment_payload.payload {
        ChannelPayload::Voucher { .. } => To::End,
        ChannelPayload::Deposit { .. } | ChannelPayload::Refund { .. } => To::Begin,
    };
    let _visit = app.enter(request.payment_requirements.extra.book.as_bytes(), to)?;
    // A call that was begun may end.
    let _turns = match &request.payment_payload.payload {
        ChannelPayload::Voucher { .. } => None,
        ChannelPayload::Deposit { .. } | ChannelPayload::Refund { .. } => Some(Turns::of(app, request)?),
    };
    let outcome = settle_any(app, request).await;
    let told = outcome.as_ref().map(Accepted::done).map_err(|denied| &denied.refused);
    app.record(|| Act::settled(request, told)).await?;
    let paid_by = outcome.as_ref().ok().filter(|accepted| accepted.charges).map(|accepted| accepted.payer);
    let response = match outcome {
        Ok(accepted) => SettleResponse::Settled {
            transaction: accepted.transaction.map(Signature),
            network,
            payer: accepted.payer.into(),
            amount: accepted.amount,
            extra: accepted.extra,
        },
        Err(Denied { refused, sent }) => {
            let (reason, payer, extra) = explain(refused)?;
            SettleResponse::Failed { reason: reason.into(), transaction: sent.map(Signature), network, payer, extra }
        }
    };
    Ok((response, paid_by))
}

/// `POST /release`.
async fn release<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<ReleaseResponse, Problem> {
    let _visit = app.enter(request.payment_requirements.extra.book.as_bytes(), To::End)?;
    app.book_required(&request.payment_requirements)?;
    let released = voucher::release(app, request).await;
    app.record(|| Act::released(request, released)).await?;
    match released {
        Ok(released) => Ok(ReleaseResponse { released }),
        Err(rejection) if is_of_service(rejection) => Err(rejection.into()),
        // No such reservation, channel or book: as good as released.
        Err(_) => Ok(ReleaseResponse { released: false }),
    }
}

async fn verify_any<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<Accepted, Refused> {
    request.check()?;
    let book = app.book_required(&request.payment_requirements)?;
    meet(app, &request.payment_payload.payload).await?;
    match &request.payment_payload.payload {
        ChannelPayload::Voucher { voucher } => voucher::reserve(app, &request.payment_requirements, voucher).await,
        ChannelPayload::Deposit { channel, voucher, deposit } => {
            let asked = deposit::Asked::new(app, book, &request.payment_requirements, channel, voucher, deposit)?;
            asked.verify(app).await
        }
        ChannelPayload::Refund { voucher, .. } => refund::prepare(app, &book, voucher).await,
    }
}

/// The page that a payment is about was read since the start.
async fn meet<C: Chain>(app: &App<C>, payload: &ChannelPayload) -> Result<(), Rejection> {
    match payload {
        ChannelPayload::Voucher { voucher } | ChannelPayload::Refund { voucher, .. } => {
            first_sight::of_channel(app, voucher.channel_id.as_bytes()).await
        }
        ChannelPayload::Deposit { channel, .. } => first_sight::of_page(app, channel.page.as_bytes()).await,
    }
}

async fn settle_any<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<Accepted, Denied> {
    match &request.payment_payload.payload {
        ChannelPayload::Voucher { .. } => request.check_charge()?,
        ChannelPayload::Deposit { .. } | ChannelPayload::Refund { .. } => request.check()?,
    }
    let book = app.book_required(&request.payment_requirements)?;
    meet(app, &request.payment_payload.payload).await?;
    match &request.payment_payload.payload {
        ChannelPayload::Voucher { voucher } => Ok(voucher::commit(app, &request.payment_requirements, voucher).await?),
        ChannelPayload::Deposit { channel, voucher, deposit } => {
            let asked = deposit::Asked::new(app, book, &request.payment_requirements, channel, voucher, deposit)?;
            asked.settle(app).await
        }
        ChannelPayload::Refund { voucher, transaction } => {
            let signed = transaction.as_ref().ok_or(Rejection::WrongAuthority)?;
            refund::send(app, &book, voucher, signed.as_bytes()).await
        }
    }
}

/// The members of a refused answer; a [`Problem`] when it was not the payment.
fn explain(refused: Refused) -> Result<(Rejection, Option<Key>, AnswerExtra), Problem> {
    let rejection = refused.rejection;
    metrics::refused(rejection.name());
    if is_of_service(rejection) {
        return Err(rejection.into());
    }
    let payer = refused.channel.as_ref().map(|channel| Key(channel.on_chain().payer));
    Ok((rejection, payer, correction(&refused)))
}
