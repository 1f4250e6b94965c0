//! A call's three steps, and a payer's wish to leave, as jobs for the writer: the same for a facilitator that is asked over
//! HTTP and for a server that embeds its ledger.

use crate::{Desk, Sequencer};
use tallybook_ledger::{Change, Channel, Committed, Event, Finality, PageSeen, Place, Refused};
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{AnswerExtra, ChannelState, Signature, VoucherState};

/// Pages that are taken in at one time: as long as a call may have to wait for the desk.
const PAGES_AT_ONCE: usize = 4;

impl Sequencer {
    /// Reserves `amount` base units for `seconds` at least, and a second more at most. The signature is verified first, with
    /// nothing locked: see [`Sequencer::verify`]; at the desk only numbers are compared. A reservation is not durable, so it
    /// waits for no commit but that of its own channel's last call.
    ///
    /// As [`tallybook_ledger::Ledger::reserve`], and [`Rejection::RequirementsMismatch`] for a channel of another `book`.
    pub async fn reserve(
        &self,
        voucher: SignedVoucher,
        book: [u8; 32],
        amount: Amount,
        seconds: u32,
    ) -> Result<Channel, Refused> {
        let verified = self.verify(voucher).await?;
        let reserve = |desk: &mut Desk| {
            check_book(desk, &voucher.channel_id, &book)?;
            // The clock counts whole seconds: of this one nearly all may have passed.
            let expires = desk.now.saturating_add(seconds.into()).saturating_add(1);
            let before = desk.ledger.channel(&voucher.channel_id);
            let forgets = before.is_some_and(|channel| channel.was_paid_by(&voucher));
            let channel = desk.ledger.reserve(verified, amount, desk.now, expires)?;
            // Durable, or a restart would remember the last call and forget this one.
            if let Some(record) = channel.record().filter(|_| forgets) {
                desk.write(Change::Channel(record));
            }
            Ok::<Channel, Refused>(channel)
        };
        self.once_proven(|| self.ask_of(&voucher.channel_id, reserve)).await
    }

    /// Charges what the call really cost, at most what was reserved: durable when this returns. The signature was verified
    /// when the voucher was reserved.
    ///
    /// As [`tallybook_ledger::Ledger::commit`], and [`Rejection::RequirementsMismatch`] for a channel of another `book`.
    pub async fn commit(&self, voucher: SignedVoucher, book: [u8; 32], charge: Amount) -> Result<Committed, Refused> {
        let commit = |desk: &mut Desk| {
            check_book(desk, &voucher.channel_id, &book)?;
            let committed = desk.ledger.commit(&voucher, charge, desk.now)?;
            if let Some(record) = committed.change {
                desk.write(Change::Channel(record));
            }
            Ok::<Committed, Refused>(committed)
        };
        self.once_proven(|| self.ask(commit)).await
    }

    /// Gives a reservation back; says whether there was one.
    pub async fn release(&self, voucher: SignedVoucher, book: [u8; 32]) -> Result<bool, Rejection> {
        let released = self.ask_of(&voucher.channel_id, |desk| {
            check_book(desk, &voucher.channel_id, &book)?;
            let before = desk.ledger.channel(&voucher.channel_id);
            let after = desk.ledger.release(&voucher).map_err(|refused| refused.rejection)?;
            Ok(before.is_some_and(|before| before.reserved(desk.now) != after.reserved(desk.now)))
        });
        released.await?
    }

    /// Marks a channel as on its way to a refund, durably, by a voucher of exactly what is charged: it takes no more
    /// calls. Comes back with that voucher, verified.
    ///
    /// As [`tallybook_ledger::Ledger::leave`], and [`Rejection::RequirementsMismatch`] for a channel of another `book`.
    pub async fn leave(&self, voucher: SignedVoucher, book: [u8; 32]) -> Result<(Channel, VerifiedVoucher), Refused> {
        let verified = self.verify(voucher).await?;
        let leave = |desk: &mut Desk| {
            check_book(desk, &voucher.channel_id, &book)?;
            let left = desk.ledger.leave(verified, desk.now)?;
            if let Some(record) = left.change {
                desk.write(Change::Channel(record));
            }
            Ok::<Channel, Refused>(left.channel)
        };
        Ok((self.once_proven(|| self.ask(leave)).await?, verified))
    }

    /// Takes in pages for the first time: of each what is confirmed together with what is `last`, which is final, so that nobody
    /// finds a deposit between the two. Says what is new, as [`Sequencer::observe`] does.
    pub async fn meet(&self, confirmed: &[PageSeen<'_>], last: &[PageSeen<'_>]) -> Result<Vec<Event>, Rejection> {
        let mut events = Vec::new();
        for some in confirmed.chunks(PAGES_AT_ONCE) {
            let of_some = |page: &&PageSeen<'_>| some.iter().any(|met| met.address == page.address);
            let met = self.insist_now(|desk| {
                let events = desk.observe(some.iter().copied(), Finality::Confirmed);
                desk.observe(last.iter().filter(of_some).copied(), Finality::Final);
                events
            });
            events.extend(met.await?);
            tokio::task::yield_now().await;
        }
        self.insist(|_| events).await
    }

    /// Where a channel is, or was when it was stored; none of one that neither a page nor the store has shown.
    pub async fn place(&self, channel_id: &[u8; 32]) -> Result<Option<Place>, Rejection> {
        let place = self.insist_now(|desk| {
            let met = desk.ledger.channel(channel_id).map(|channel| *channel.place());
            met.or_else(|| desk.ledger.stored_place(channel_id))
        });
        place.await
    }

    /// Takes in pages as the chain showed them, some at a time, so that calls come between; says what is new once that is
    /// durable. See [`Desk::observe`]. [`Rejection::StoreUnavailable`] when the writer has ended.
    pub async fn observe(&self, pages: &[PageSeen<'_>], finality: Finality) -> Result<Vec<Event>, Rejection> {
        let mut events = Vec::new();
        for some in pages.chunks(PAGES_AT_ONCE) {
            events.extend(self.insist_now(|desk| desk.observe(some.iter().copied(), finality)).await?);
            tokio::task::yield_now().await;
        }
        self.insist(|_| events).await
    }
}

/// A channel pays its own payee only: [`Rejection::UnknownChannel`], or [`Rejection::RequirementsMismatch`] for a channel of
/// another book.
pub fn check_book(desk: &Desk, channel_id: &[u8; 32], book: &[u8; 32]) -> Result<(), Rejection> {
    let channel = desk.ledger.channel(channel_id).ok_or(Rejection::UnknownChannel)?;
    if desk.ledger.book_of(&channel.place().page) == Some(*book) {
        Ok(())
    } else {
        Err(Rejection::RequirementsMismatch)
    }
}

/// Where a channel stands, for its client.
pub fn state_of(channel: &Channel) -> AnswerExtra {
    AnswerExtra {
        channel_state: Some(ChannelState {
            channel_id: (*channel.id()).into(),
            balance: channel.deposit(),
            total_claimed: channel.settled(),
            charged_cumulative_amount: channel.charged(),
        }),
        voucher_state: channel.newest().map(|newest| VoucherState {
            signed_max_claimable: newest.cumulative,
            signature: Signature(newest.signature),
        }),
        ..AnswerExtra::default()
    }
}

/// Where the channel of a refusal stands, when that helps its client: after a wrong amount.
pub fn correction(refused: &Refused) -> AnswerExtra {
    let corrective = matches!(refused.rejection, Rejection::VoucherUsed | Rejection::WrongCumulative);
    refused.channel.as_ref().filter(|_| corrective).map(|channel| state_of(channel)).unwrap_or_default()
}
