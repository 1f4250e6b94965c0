//! What resource servers that keep a ledger of their own forward: their newest vouchers, so that they are settled here.

use crate::app::App;
use crate::audit::Act;
use crate::schemes::without_hints;
use crate::watcher;
use serde_json::Value;
use std::collections::BTreeSet;
use tallybook_catalogue::Sale;
use tallybook_ledger::{Change, Committed};
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, Rejection};
use tallybook_sequencer::{Desk, check_book, clock};
use tallybook_settler::Chain;
use tallybook_wire::{ForwardRequest, ForwardResponse, ForwardedVoucher, Key, MAX_FORWARDED, MAX_SOLD, Sold, Taken};

/// `POST /vouchers`: durable when it is answered, whatever of it is taken.
pub(crate) async fn take<C: Chain>(app: &App<C>, request: &ForwardRequest) -> Result<ForwardResponse, Rejection> {
    if app.draining.is_cancelled() {
        return Err(Rejection::Draining);
    }
    if request.vouchers.len() > MAX_FORWARDED {
        return Err(Rejection::RequestTooLarge);
    }
    let channels: BTreeSet<Key> = request.vouchers.iter().map(|forwarded| forwarded.voucher.channel_id).collect();
    if channels.len() != request.vouchers.len() {
        return Err(Rejection::MalformedPayload);
    }
    let book = app.book(request.book.as_bytes())?;
    if request.sold.len() > MAX_SOLD {
        return Err(Rejection::RequestTooLarge);
    }
    let mut taken = adopt(app, &request.book, &request.vouchers).await?;
    // A channel or a top-up of just now, which the sender has seen before this facilitator: one look decides.
    if taken.iter().any(|(_, result)| may_be_news(result)) && app.may_look_for_news(clock()) {
        watcher::look_at(app, &book.address).await?;
        let (news, settled): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(_, result)| may_be_news(result));
        let again: Vec<ForwardedVoucher> = news.into_iter().map(|(forwarded, _)| forwarded).collect();
        taken = [settled, adopt(app, &request.book, &again).await?].concat();
    }
    if app.config.settlement.per_call {
        app.wake.notify_one();
    }
    for (forwarded, held) in &taken {
        app.record(|| Act::forwarded(&request.book, forwarded, held.as_ref().err().copied())).await?;
    }
    list(app, request, &taken);
    let place = |id: &Key| request.vouchers.iter().position(|forwarded| forwarded.voucher.channel_id == *id);
    taken.sort_by_key(|(forwarded, _)| place(&forwarded.voucher.channel_id));
    Ok(ForwardResponse { taken: taken.iter().map(|(forwarded, result)| view(forwarded, result)).collect() })
}

/// Tells the catalogue what vouchers have paid for that say more than those before them.
fn list<C: Chain>(app: &App<C>, request: &ForwardRequest, taken: &[(ForwardedVoucher, Held)]) {
    let Some(discovery) = &app.discovery else { return };
    for Sold { channel_id, resource, extension, requirements } in &request.sold {
        let is_new = |(forwarded, held): &(ForwardedVoucher, Held)| {
            forwarded.voucher.channel_id == *channel_id && held.is_ok_and(|(_, _, is_new)| is_new)
        };
        // For nobody else than the payee whose book it is.
        let is_ours = requirements.extra.book == request.book && app.book_required(requirements).is_ok();
        let (resource, terms) = (serde_json::to_value(resource), serde_json::to_value(requirements));
        if let (true, true, Some(payer)) = (is_ours, taken.iter().any(is_new), app.sequencer.payer(&channel_id.0))
            && let (Ok(Value::Object(resource)), Ok(Value::Object(mut terms))) = (resource, terms)
        {
            without_hints(&mut terms);
            discovery.sold(Sale::of(resource, extension.clone(), terms), payer, clock());
        }
    }
}

/// What the ledger holds of a channel afterwards: charged and settled, and whether it held less before.
type Held = Result<(Amount, Amount, bool), Rejection>;

fn may_be_news(result: &Held) -> bool {
    matches!(result, Err(Rejection::UnknownChannel | Rejection::DepositExceeded))
}

/// Verifies with nothing locked, then decides on all in one turn of the writer.
async fn adopt<C: Chain>(
    app: &App<C>,
    book: &Key,
    vouchers: &[ForwardedVoucher],
) -> Result<Vec<(ForwardedVoucher, Held)>, Rejection> {
    let signed: Vec<_> = vouchers.iter().map(|forwarded| SignedVoucher::from(forwarded.voucher)).collect();
    let verified: Vec<_> = vouchers.iter().copied().zip(app.sequencer.verify_all(&signed)).collect();
    let (book, is_over) = (book.0, app.first_sight.is_over());
    app.sequencer.prove(signed.iter().map(|voucher| voucher.channel_id)).await?;
    let adopted = app.sequencer.ask(move |desk| {
        let mut adopted = Vec::with_capacity(verified.len());
        for (forwarded, verified) in verified {
            let held = match verified {
                Ok(voucher) => adopt_one(desk, &book, voucher, forwarded.charged),
                Err(Rejection::UnknownChannel) => Err(why_unknown(desk, &forwarded.voucher.channel_id, is_over)?),
                Err(rejection) => Err(rejection),
            };
            adopted.push((forwarded, held));
        }
        Ok(adopted)
    });
    adopted.await?
}

fn adopt_one(desk: &mut Desk, book: &[u8; 32], voucher: VerifiedVoucher, charged: Amount) -> Held {
    let channel_id = voucher.voucher().channel_id;
    check_book(desk, &channel_id, book)?;
    let before = desk.ledger.channel(&channel_id).map_or(Amount::ZERO, |channel| channel.charged());
    let adopted = desk.ledger.adopt(voucher, charged, desk.now);
    let Committed { channel, change, .. } = adopted.map_err(|refused| refused.rejection)?;
    if let Some(record) = change {
        desk.write(Change::Channel(record));
    }
    Ok((channel.charged(), channel.settled(), channel.charged() > before))
}

/// A channel that was known and is over has nothing left to settle; another one may stand in a page that was not read yet.
fn why_unknown(desk: &mut Desk, channel_id: &Key, all_pages_were_read: bool) -> Result<Rejection, Rejection> {
    let id = channel_id.0;
    let kept = desk.ask_store(|store| store.channel(&id))?;
    Ok(if kept.is_some_and(|kept| kept.over) {
        Rejection::SlotFree
    } else if all_pages_were_read {
        Rejection::UnknownChannel
    } else {
        Rejection::ChainUnavailable
    })
}

fn view(forwarded: &ForwardedVoucher, held: &Held) -> Taken {
    let channel_id = forwarded.voucher.channel_id;
    match held {
        Ok((charged, settled, _)) => {
            Taken { channel_id, charged: Some(*charged), settled: Some(*settled), error: None }
        }
        Err(rejection) => Taken { channel_id, charged: None, settled: None, error: Some((*rejection).into()) },
    }
}
