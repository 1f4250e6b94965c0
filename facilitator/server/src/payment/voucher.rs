//! A call: reserve, commit, release.

use super::{Accepted, state_of};
use crate::app::App;
use tallybook_ledger::{Committed, Refused};
use tallybook_rules::Rejection;
use tallybook_rules::signing::SignedVoucher;
use tallybook_sequencer::Desk;
use tallybook_settler::Chain;
use tallybook_wire::{FacilitatorRequest, PaymentRequirements, Voucher};

/// Reserves: the signature is verified here, on the request's own task and with nothing locked, since it takes tens of
/// microseconds; the writer only compares numbers.
pub(super) async fn reserve<C: Chain>(
    app: &App<C>,
    requirements: &PaymentRequirements,
    voucher: &Voucher,
) -> Result<Accepted, Refused> {
    if app.draining.is_cancelled() {
        return Err(Rejection::Draining.into());
    }
    let voucher = SignedVoucher::from(*voucher);
    let signer = app.sequencer.signer(&voucher.channel_id)?;
    let verified = voucher.verify(&signer)?;
    let (book, amount) = (requirements.extra.book.0, requirements.amount);
    let seconds = requirements.max_timeout_seconds.get().min(app.config.limits.reservation_seconds);
    let reserved = app.sequencer.ask(move |desk| {
        check_book(desk, &voucher.channel_id, &book)?;
        let expires = desk.now.saturating_add(seconds.into());
        desk.ledger.reserve(verified, amount, desk.now, expires)
    });
    Ok(Accepted::of(&reserved.await??))
}

/// Commits what the call really cost: durable when this returns. The signature was verified when the voucher was reserved.
pub(super) async fn commit<C: Chain>(
    app: &App<C>,
    requirements: &PaymentRequirements,
    voucher: &Voucher,
) -> Result<Accepted, Refused> {
    let voucher = SignedVoucher::from(*voucher);
    let (book, charge) = (requirements.extra.book.0, requirements.amount);
    let committed = app.sequencer.ask(move |desk| {
        check_book(desk, &voucher.channel_id, &book)?;
        let committed = desk.ledger.commit(&voucher, charge, desk.now)?;
        if let Some(record) = committed.change {
            desk.write(tallybook_ledger::Change::Channel(record));
        }
        Ok::<Committed, Refused>(committed)
    });
    let Committed { channel, charge, .. } = committed.await??;
    if app.config.settlement.per_call {
        app.wake.notify_one();
    }
    let mut accepted = Accepted::of(&channel);
    accepted.extra = tallybook_wire::AnswerExtra { charged_amount: Some(charge), ..state_of(&channel) };
    Ok(accepted)
}

/// Releases; says whether there was something to release.
pub(super) async fn release<C: Chain>(app: &App<C>, request: &FacilitatorRequest) -> Result<bool, Rejection> {
    let voucher = SignedVoucher::from(*request.payment_payload.payload.voucher());
    let book = request.payment_requirements.extra.book.0;
    let released = app.sequencer.ask(move |desk| {
        check_book(desk, &voucher.channel_id, &book)?;
        let before = desk.ledger.channel(&voucher.channel_id).copied();
        let after = desk.ledger.release(&voucher).map_err(|refused| refused.rejection)?;
        Ok(before.is_some_and(|before| before.reserved(desk.now) != after.reserved(desk.now)))
    });
    released.await?
}

/// A channel pays its own payee only.
pub(crate) fn check_book(desk: &Desk, channel_id: &[u8; 32], book: &[u8; 32]) -> Result<(), Rejection> {
    let channel = desk.ledger.channel(channel_id).ok_or(Rejection::UnknownChannel)?;
    if desk.ledger.book_of(&channel.place().page) == Some(*book) {
        Ok(())
    } else {
        Err(Rejection::RequirementsMismatch)
    }
}
