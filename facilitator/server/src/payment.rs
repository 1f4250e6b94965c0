//! Payments of each kind, verified and settled.

mod deposit;
mod refund;
mod voucher;

use crate::app::App;
use crate::audit::{Act, Done};
use crate::metrics;
use crate::problem::{Problem, is_of_service};
use tallybook_ledger::{Channel, Refused};
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::{correction, state_of};
use tallybook_settler::Chain;
use tallybook_wire::{
    AnswerExtra, ChannelPayload, FacilitatorRequest, Key, ReleaseResponse, SettleResponse, Signature, VerifyResponse,
};

/// What a payment that holds is answered with.
#[derive(Debug)]
struct Accepted {
    payer: [u8; 32],
    extra: AnswerExtra,
    /// What was sent for it.
    transaction: Option<[u8; 64]>,
    /// What was deposited, or went back.
    amount: Option<Amount>,
}

impl Accepted {
    fn of(channel: &Channel) -> Self {
        Self { payer: channel.on_chain().payer, extra: state_of(channel), transaction: None, amount: None }
    }

    /// As it is recorded.
    fn done(&self) -> Done {
        Done { payer: self.payer.into(), transaction: self.transaction.map(Signature), amount: self.amount }
    }
}

/// `POST /verify`.
pub(crate) async fn verify<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<VerifyResponse, Problem> {
    let outcome = verify_any(app, request).await;
    app.record(|| Act::verified(request, outcome.as_ref().map(Accepted::done))).await?;
    match outcome {
        Ok(accepted) => Ok(VerifyResponse::Valid { payer: accepted.payer.into(), extra: accepted.extra }),
        Err(refused) => {
            let (reason, payer, extra) = explain(refused)?;
            Ok(VerifyResponse::Invalid { reason: reason.into(), payer, extra })
        }
    }
}

/// `POST /settle`.
pub(crate) async fn settle<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<SettleResponse, Problem> {
    let network = app.network.clone();
    let outcome = settle_any(app, request).await;
    app.record(|| Act::settled(request, outcome.as_ref().map(Accepted::done))).await?;
    match outcome {
        Ok(accepted) => Ok(SettleResponse::Settled {
            transaction: accepted.transaction.map(Signature),
            network,
            payer: accepted.payer.into(),
            amount: accepted.amount,
            extra: accepted.extra,
        }),
        Err(refused) => {
            let (reason, payer, extra) = explain(refused)?;
            Ok(SettleResponse::Failed { reason: reason.into(), transaction: None, network, payer, extra })
        }
    }
}

/// `POST /release`.
pub(crate) async fn release<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<ReleaseResponse, Problem> {
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
    match &request.payment_payload.payload {
        ChannelPayload::Voucher { voucher } => voucher::reserve(app, &request.payment_requirements, voucher).await,
        ChannelPayload::Deposit { channel, voucher, deposit } => {
            let asked = deposit::Asked::new(app, book, &request.payment_requirements, channel, voucher, deposit)?;
            asked.verify(app).await
        }
        ChannelPayload::Refund { voucher, .. } => refund::prepare(app, &book, voucher).await,
    }
}

async fn settle_any<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<Accepted, Refused> {
    match &request.payment_payload.payload {
        ChannelPayload::Voucher { .. } => request.check_charge()?,
        ChannelPayload::Deposit { .. } | ChannelPayload::Refund { .. } => request.check()?,
    }
    let book = app.book_required(&request.payment_requirements)?;
    match &request.payment_payload.payload {
        ChannelPayload::Voucher { voucher } => voucher::commit(app, &request.payment_requirements, voucher).await,
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
    metrics::refused(rejection);
    if is_of_service(rejection) {
        return Err(rejection.into());
    }
    let payer = refused.channel.as_ref().map(|channel| Key(channel.on_chain().payer));
    Ok((rejection, payer, correction(&refused)))
}
