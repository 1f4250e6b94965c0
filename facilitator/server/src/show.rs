//! What the facilitator shows: to paywalls what they offer, to people and monitors where things stand.

use crate::app::App;
use crate::first_sight;
use crate::holding::Door;
use crate::line::{Line, was_handed_on};
use crate::problem::Problem;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use tallybook_ledger::{BatchRecord, Channel, Landed, State};
use tallybook_rules::{Rejection, Status};
use tallybook_sequencer::Sponsorship;
use tallybook_settler::Chain;
use tallybook_wire::{
    BatchList, BatchStatus, BatchView, ChannelStatus, ChannelView, Health, HealthStatus, Key, Offer, Signature,
};

/// Batches of one answer, unless fewer are asked for.
const BATCHES: u32 = 100;

/// `GET /books/{book}/offer`.
pub(crate) async fn offer<C: Chain>(app: &App<C>, book: &Key) -> Result<Offer, Rejection> {
    let terms = app.book(book.as_bytes())?;
    let by = Sponsorship {
        network: app.network.clone(),
        fee_payer: app.sponsor(),
        max_timeout_seconds: NonZeroU32::new(app.config.limits.reservation_seconds).unwrap_or(NonZeroU32::MIN),
        recent_blockhash: app.blockhash().map(Key),
    };
    let offer = app.sequencer.offer(*book, &terms.state, by).await;
    if app.first_sight.is_over() {
        return offer;
    }
    // There may be room in pages that were not read yet.
    let offer = offer.map_err(|_| Rejection::ChainUnavailable)?;
    Ok(Offer { free_slots: offer.free_slots.filter(|free| *free > 0), pages: None, ..offer })
}

/// `GET /health`.
pub(crate) async fn health<C: Chain>(app: &App<C>) -> Result<Health, Rejection> {
    let counted = app.sequencer.ask(|desk| (desk.ledger.len(), desk.ledger.unsettled()));
    let (channels, unsettled) = counted.await?;
    let (slot, answers) = app.chain_seen();
    let status = if app.draining.is_cancelled() {
        HealthStatus::Draining
    } else if answers && !app.settler.is_out_of_funds() {
        HealthStatus::Ok
    } else {
        HealthStatus::Degraded
    };
    Ok(Health {
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        chain_slot: Some(slot).filter(|slot| *slot != 0),
        channels: u64::try_from(channels).ok(),
        unsettled: Some(unsettled),
        node: app.line.as_ref().map(Line::number),
        books: app.line.as_ref().and_then(|_| u32::try_from(app.holding.at_work()).ok()),
        unread_pages: Some(app.first_sight.unread()).filter(|unread| *unread != 0),
    })
}

/// Why `GET /readyz` says that nothing new should be sent here; nothing when it may. A chain that is silent and a sponsor
/// without SOL do not stop vouchers: they make the status of `GET /health` degraded, and alerts go off.
pub(crate) fn unready<C: Chain>(app: &App<C>) -> Vec<&'static str> {
    let reasons = [
        (app.sequencer.ended().is_cancelled(), "the store has failed"),
        (app.draining.is_cancelled(), "it is ending"),
        (app.paused.load(Ordering::Relaxed), "an administrator has paused it"),
    ];
    reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
}

/// `GET /channels/{id}`; [`Rejection::SlotFree`] for one that is over.
pub(crate) async fn channel<C: Chain>(app: &App<C>, id: &Key) -> Result<ChannelView, Rejection> {
    let id = id.0;
    let is_met = first_sight::of_channel(app, &id).await;
    let is_among_others = app.line.is_some();
    let found = app.sequencer.ask(move |desk| {
        if let Some(channel) = desk.ledger.channel(&id) {
            let book = desk.ledger.book_of(&channel.place().page).unwrap_or_default();
            return Ok(view(&channel, book, desk.now));
        }
        let kept = desk.ask_store(|store| store.channel(&id))?;
        let is_over = kept.map(|kept| kept.over);
        match is_met {
            // It may stand in a page that was not read yet.
            Err(rejection) if is_over != Some(true) => Err(rejection),
            // It may be of a book that is held elsewhere.
            Ok(()) if is_among_others && is_over != Some(true) => Err(Rejection::UnknownChannel),
            Ok(()) | Err(_) => Err(is_over.map_or(Rejection::UnknownChannel, |_| Rejection::SlotFree)),
        }
    });
    found.await?
}

/// `GET /channels/{id}` of a channel that is none of those held here: what another facilitator on the same database says of it.
pub(crate) async fn elsewhere<C: Chain>(app: &App<C>, id: &Key, headers: &HeaderMap) -> Result<Response, Problem> {
    let Some(line) = &app.line else { return Err(Rejection::UnknownChannel.into()) };
    // A book that nobody holds now, or who takes it up, may have it.
    let mut are_all = app.holding.with(Door::Coming).is_empty();
    if !was_handed_on(headers) {
        let (answers, answered) = line.ask_others(&format!("/channels/{id}"), headers).await;
        are_all = answered && answers.iter().all(|answer| answer.status() == StatusCode::NOT_FOUND);
        are_all &= line.are_held(&app.config.held_by_name());
        if let Some(answer) = answers.into_iter().find(|answer| answer.status().is_success()) {
            return Ok(answer);
        }
    }
    Err(if are_all { Rejection::UnknownChannel } else { Rejection::ChainUnavailable }.into())
}

fn view(channel: &Channel, book: [u8; 32], now: i64) -> ChannelView {
    let (slot, place) = (channel.on_chain(), channel.place());
    ChannelView {
        channel_id: Key(*channel.id()),
        channel: tallybook_wire::Channel {
            payer: Key(slot.payer),
            signer: Key(slot.signer),
            book: Key(book),
            page: Key(place.page),
            slot: place.slot,
            generation: place.generation,
        },
        status: if channel.is_closing() { ChannelStatus::Closing } else { ChannelStatus::Open },
        deposit: channel.deposit(),
        signed: channel.signed(),
        charged: channel.charged(),
        reserved: channel.reserved(now).map(|reserved| reserved.voucher.voucher().cumulative),
        settled: channel.settled(),
        closing_at: Some(slot.closing_at).filter(|_| slot.status() == Ok(Status::Closing)),
    }
}

/// `GET /batches`.
pub(crate) async fn batches<C: Chain>(
    app: &App<C>,
    before: Option<u64>,
    limit: Option<u32>,
) -> Result<BatchList, Rejection> {
    let limit = limit.unwrap_or(BATCHES).clamp(1, BATCHES);
    let listed = app.sequencer.ask(move |desk| desk.ask_store(|store| store.batches(before, limit)));
    let batches = listed.await??;
    let full = u32::try_from(batches.len()).is_ok_and(|length| length == limit);
    let next = batches.last().map(|batch| batch.id).filter(|oldest| full && *oldest > 1);
    Ok(BatchList { batches: batches.iter().map(batch).collect(), next })
}

fn batch(batch: &BatchRecord) -> BatchView {
    let sum = |number: fn(&Landed) -> u64| batch.landed.iter().map(number).fold(0, u64::saturating_add);
    let last = batch.landed.last().map(|landed| landed.signature);
    let last = last.or_else(|| batch.attempts.last().map(|attempt| attempt.signature));
    let ended = batch.state != State::Sending;
    BatchView {
        id: batch.id,
        page: Key(batch.page),
        rows: u8::try_from(batch.rows.len()).unwrap_or(u8::MAX),
        claimed: batch.gain,
        status: match batch.state {
            State::Sending if batch.attempts.is_empty() => BatchStatus::Planned,
            State::Sending => BatchStatus::Sent,
            State::Confirmed => BatchStatus::Confirmed,
            State::Failed => BatchStatus::Failed,
        },
        transaction: last.map(Signature),
        transactions: u32::try_from(batch.landed.len()).unwrap_or(u32::MAX),
        fee_lamports: ended.then(|| sum(|landed| landed.fee_lamports)),
        compute_units: ended.then(|| sum(|landed| landed.compute_units)),
        planned_at: batch.planned_at,
    }
}
