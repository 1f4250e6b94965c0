//! A call: reserve, commit, release.

use super::Accepted;
use crate::app::App;
use crate::traces::target;
use tallybook_ledger::{Committed, Refused};
use tallybook_rules::Rejection;
use tallybook_rules::signing::SignedVoucher;
use tallybook_settler::Chain;
use tallybook_wire::{AnswerExtra, FacilitatorRequest, PaymentRequirements, Voucher};
use tracing::Instrument;

/// Reserves the required amount.
pub(super) async fn reserve<C: Chain>(
    app: &App<C>,
    requirements: &PaymentRequirements,
    voucher: &Voucher,
) -> Result<Accepted, Refused> {
    app.takes_on()?;
    let seconds = requirements.max_timeout_seconds.get().min(app.config.limits.reservation_seconds);
    let (book, amount) = (requirements.extra.book.0, requirements.amount);
    let span = tracing::debug_span!(target: target!(), "reserve", channel = %voucher.channel_id, %amount);
    let reserved = app.sequencer.reserve((*voucher).into(), book, amount, seconds).instrument(span);
    Ok(Accepted::of(&reserved.await?))
}

/// Commits what the call really cost: durable when this returns.
pub(super) async fn commit<C: Chain>(
    app: &App<C>,
    requirements: &PaymentRequirements,
    voucher: &Voucher,
) -> Result<Accepted, Refused> {
    let (book, charge) = (requirements.extra.book.0, requirements.amount);
    let span = tracing::debug_span!(target: target!(), "commit", channel = %voucher.channel_id, %charge);
    let committed = app.sequencer.commit((*voucher).into(), book, charge).instrument(span);
    let Committed { channel, charge, change } = committed.await?;
    app.traces.charged(&voucher.channel_id.0);
    if app.config.settlement.per_call {
        app.wake.notify_one();
    }
    let accepted = Accepted::of(&channel);
    let extra = AnswerExtra { charged_amount: Some(charge), ..accepted.extra };
    Ok(Accepted { extra, charges: change.is_some() && !charge.is_zero(), ..accepted })
}

/// Releases; says whether there was something to release.
pub(super) async fn release<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<bool, Rejection> {
    let voucher = SignedVoucher::from(*request.payment_payload.payload.voucher());
    app.sequencer.release(voucher, request.payment_requirements.extra.book.0).await
}
