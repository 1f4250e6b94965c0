//! The cooperative close. The facilitator builds and pays; the book's operator, who is the resource server, looks at it
//! and signs.

use super::{Accepted, Denied, tells_nothing, untold};
use crate::app::App;
use tallybook_chain::{Address, BookView};
use tallybook_ledger::{Expense, Purpose, Refused};
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_settler::{Chain, Commitment, Refund};
use tallybook_wire::{AnswerExtra, TransactionBytes, Voucher};

/// Marks the channel as leaving, durably, and answers with the transaction to sign.
pub(super) async fn prepare<C: Chain>(app: &App<C>, book: &BookView, voucher: &Voucher) -> Result<Accepted, Refused> {
    let (channel, voucher) = app.sequencer.leave((*voucher).into(), book.address.to_bytes()).await?;
    let page = Address::from(channel.place().page);
    let (_, page) = app.settler.read_page(&page, 0, Commitment::Confirmed).await?;
    let refund = Refund { book, page: &page, slot: channel.place().slot, voucher: &voucher };
    let prepared = app.settler.refund_transaction(&refund).await?;
    let transaction = TransactionBytes::new(prepared.bytes.clone())?;
    app.keep_refund(*channel.id(), prepared);
    let accepted = Accepted::of(&channel);
    Ok(Accepted { extra: AnswerExtra { transaction: Some(transaction), ..accepted.extra }, ..accepted })
}

/// Takes the signed transaction back, co-signs and sends it, and waits for it to be confirmed.
pub(super) async fn send<C: Chain>(
    app: &App<C>,
    book: &BookView,
    voucher: &Voucher,
    signed: &[u8],
) -> Result<Accepted, Denied> {
    let (channel, _) = app.sequencer.leave((*voucher).into(), book.address.to_bytes()).await?;
    // Not prepared since the last start: ask /verify again.
    let prepared = app.prepared_refund(channel.id()).ok_or(Rejection::NoReservation)?;
    let purpose = Purpose::Refund(*channel.id());
    let previous = app.last_attempt(purpose).await?;
    let share = match previous {
        Some(_) => None,
        None => Some(app.allowance().take(app.prepared_fee(), clock())?),
    };
    let notebook = app.notebook(purpose, book.address.to_bytes(), Expense::Refunds).paid_from(share);
    let sent = async {
        let closed = app.settler.send_prepared(&prepared, signed, previous, &notebook).await?;
        app.read_and_observe(&Address::from(channel.place().page), closed.slot).await?;
        Ok(closed)
    };
    let closed = match app.in_time(sent).await {
        Ok(closed) => closed,
        Err(rejection) if tells_nothing(rejection) => {
            return Err(untold(app, purpose, rejection, app.settler.prepared_signature(&prepared)).await);
        }
        Err(rejection) => return Err(rejection.into()),
    };
    app.forget_refund(channel.id());
    let returned = channel.deposit().less(channel.charged().max(channel.settled()));
    Ok(Accepted { transaction: Some(closed.attempt.signature), amount: Some(returned), ..Accepted::of(&channel) })
}
