use crate::{ChannelRecord, LastCall, Unproven};
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher};
use tallybook_rules::{Amount, Rejection, Slot, Status};

/// Where a channel is: a slot of a page, in one generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The page's address.
    pub page: [u8; 32],
    /// The slot's number.
    pub slot: u8,
    /// How often the slot was opened, this time included.
    pub generation: u32,
}

/// A call that is under way: its voucher is held, and nothing is charged yet. Not durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Signed for what was charged before, and for the most that the call may cost.
    pub voucher: VerifiedVoucher,
    /// The most that the call may cost.
    pub amount: Amount,
    /// When it ends by itself, in Unix seconds.
    pub expires: i64,
}

/// A channel as the ledger knows it: what the chain showed last, and what was signed and charged here since.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Channel {
    pub(crate) id: [u8; 32],
    pub(crate) place: Place,
    /// As last read from the chain; written by [`crate::Ledger::observe`] alone.
    pub(crate) on_chain: Slot,
    /// The largest deposit that the chain has shown; above `on_chain.deposit` only after a refund.
    pub(crate) funded: Amount,
    /// The deposit that is final: no fork can take it back any more.
    pub(crate) final_deposit: Amount,
    /// What calls cost so far.
    pub(crate) charged: Amount,
    /// The voucher over most that paid for a call.
    pub(crate) newest: Newest,
    /// The last call that was charged.
    pub(crate) last: Option<LastCall>,
    /// Since when something is charged and not settled, in Unix seconds; 0 when nothing is.
    pub(crate) unsettled_since: i64,
    /// Since when the payer wants out by a refund, in Unix seconds; 0 when not. Never taken back.
    pub(crate) leaving_since: i64,
    /// The call under way.
    pub(crate) reservation: Option<Reservation>,
    /// True while a batch with this channel is on its way.
    pub(crate) in_flight: bool,
    /// Not to be claimed before this time, in Unix seconds, since the chain refused its row; 0 when it did not, or once the
    /// time has come.
    pub(crate) claim_after: i64,
}

/// The newest voucher of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Newest {
    /// It has none before its first call.
    None,
    /// As it was stored. A disk is trusted no more than a network: until it is verified again, nothing is decided on the
    /// channel and nothing claimed of it.
    Unproven(SignedVoucher),
    /// Its signature holds.
    Proven(VerifiedVoucher),
}

impl Newest {
    /// The voucher, proven or not.
    pub(crate) const fn voucher(&self) -> Option<&SignedVoucher> {
        match self {
            Self::None => None,
            Self::Unproven(voucher) => Some(voucher),
            Self::Proven(voucher) => Some(voucher.voucher()),
        }
    }
}

impl Channel {
    /// A channel that the chain shows at `place`, with what was stored of it.
    pub(crate) fn seen(
        id: [u8; 32],
        place: Place,
        on_chain: Slot,
        stored: Option<ChannelRecord>,
    ) -> Result<Self, Rejection> {
        let mut channel = Self {
            id,
            place,
            on_chain,
            funded: on_chain.deposit,
            final_deposit: Amount::ZERO,
            charged: on_chain.settled,
            newest: Newest::None,
            last: None,
            unsettled_since: 0,
            leaving_since: 0,
            reservation: None,
            in_flight: false,
            claim_after: 0,
        };
        if let Some(record) = stored {
            channel.charged = record.charged.min(record.voucher.cumulative).max(on_chain.settled);
            channel.newest = Newest::Unproven(record.voucher);
            channel.last = record.last;
            channel.leaving_since = record.leaving_since;
            // A deposit below what was signed was lowered by the payee since.
            channel.funded = on_chain.deposit.max(record.voucher.cumulative);
            channel.unsettled_since = if channel.gain().is_zero() { 0 } else { record.unsettled_since.max(1) };
        }
        channel.check()?;
        Ok(channel)
    }

    /// The channel after the chain was read again.
    pub(crate) fn observed(self, on_chain: Slot, now: i64) -> Result<Self, Rejection> {
        let settled_rose = on_chain.settled > self.on_chain.settled;
        let mut next = Self { on_chain, funded: self.funded.max(on_chain.deposit), ..self };
        // Whoever holds a voucher of a call that failed may claim it: then the chain has charged for it. A fork that undoes
        // such a claim undoes its charge, since that voucher is not kept here.
        next.charged = self.charged.max(on_chain.settled).min(next.signed());
        if next.gain().is_zero() {
            next.unsettled_since = 0;
        } else if settled_rose || next.unsettled_since == 0 {
            next.unsettled_since = now.max(1);
        }
        next.check()?;
        Ok(next)
    }

    /// Decides on a voucher for a call of `amount`; in order of precedence. Changes nothing.
    pub(crate) fn decide(
        &self,
        voucher: &VerifiedVoucher,
        amount: Amount,
        credit: Amount,
        now: i64,
    ) -> Result<(), Rejection> {
        if self.is_closing() {
            return Err(Rejection::ChannelClosing);
        }
        if voucher.signer() != &self.on_chain.signer {
            return Err(Rejection::BadSignature);
        }
        if self.live_reservation(now).is_some() {
            return Err(Rejection::ChannelBusy);
        }
        let cumulative = voucher.voucher().cumulative;
        // A call that cost less than its ceiling leaves room: the next voucher may be over less than an earlier one, or
        // even the same.
        if amount.is_zero() || self.charged.plus(amount)? != cumulative {
            let used = self.last.is_some_and(|last| last.cumulative == cumulative);
            return Err(if used { Rejection::VoucherUsed } else { Rejection::WrongCumulative });
        }
        self.collectable(cumulative, now)?;
        // What a fork could still take back of the deposit counts only up to the credit that is given on it.
        if cumulative.less(self.final_deposit) > credit {
            return Err(Rejection::SettlementPending);
        }
        Ok(())
    }

    /// The same transition as on chain, on a copy: [`Rejection::DepositExceeded`] unless all of `cumulative` would settle.
    pub(crate) fn collectable(&self, cumulative: Amount, now: i64) -> Result<(), Rejection> {
        let mut slot = self.on_chain;
        slot.claim(cumulative, now)?;
        if slot.settled == cumulative { Ok(()) } else { Err(Rejection::DepositExceeded) }
    }

    /// The channel after the reserved call has cost `charge`: [`Rejection::ChargeAboveCeiling`] when that is more than
    /// what was reserved, [`Rejection::DepositExceeded`] when the payee has taken the deposit back meanwhile.
    pub(crate) fn charge(self, reserved: &Reservation, charge: Amount, now: i64) -> Result<Self, Rejection> {
        if charge > reserved.amount {
            return Err(Rejection::ChargeAboveCeiling);
        }
        let signed = *reserved.voucher.voucher();
        // From where the call began: what the chain has charged meanwhile, by a claim of this very voucher, is not added.
        let charged = signed.cumulative.less(reserved.amount).plus(charge)?.max(self.charged);
        self.collectable(charged, now)?;
        let last = LastCall { cumulative: signed.cumulative, signature: signed.signature, charge: Some(charge) };
        Self { charged, last: Some(last), reservation: None, ..self }.with_voucher(reserved.voucher, now)
    }

    /// The channel after a voucher and a charge that another ledger has accepted: of each, the larger counts.
    pub(crate) fn adopted(self, voucher: VerifiedVoucher, charged: Amount, now: i64) -> Result<Self, Rejection> {
        if voucher.signer() != &self.on_chain.signer {
            return Err(Rejection::BadSignature);
        }
        let signed = voucher.voucher().cumulative;
        if charged > signed {
            return Err(Rejection::AmountAboveSigned);
        }
        if signed > self.funded {
            return Err(Rejection::DepositExceeded);
        }
        Self { charged: self.charged.max(charged), ..self }.with_voucher(voucher, now)
    }

    /// Keeps the voucher if it is over more than the newest one, and checks the whole.
    fn with_voucher(self, voucher: VerifiedVoucher, now: i64) -> Result<Self, Rejection> {
        let newest = match self.newest {
            // Never dropped for another one: it may be over more.
            Newest::Unproven(_) => return Err(Rejection::Overloaded),
            Newest::Proven(newest) if newest.voucher().cumulative >= voucher.voucher().cumulative => newest,
            Newest::Proven(_) | Newest::None => voucher,
        };
        let mut next = Self { newest: Newest::Proven(newest), ..self };
        if next.unsettled_since == 0 && !next.gain().is_zero() {
            next.unsettled_since = now.max(1);
        }
        next.check()?;
        Ok(next)
    }

    /// The reservation, unless its time is over.
    pub(crate) fn live_reservation(&self, now: i64) -> Option<Reservation> {
        self.reservation.filter(|reservation| now < reservation.expires)
    }

    /// What must hold after every change: `settled ≤ charged ≤ signed ≤ deposit`, where a payee may lower the deposit
    /// again, a sound slot, and a voucher of this very channel.
    pub fn check(&self) -> Result<(), Rejection> {
        self.on_chain.check()?;
        let sound = self.settled() <= self.charged
            && self.charged <= self.signed()
            && self.signed() <= self.funded
            && self.deposit() <= self.funded
            && (self.unsettled_since == 0) == self.gain().is_zero()
            && self.place.generation == self.on_chain.generation
            && self.newest.voucher().is_none_or(|newest| newest.channel_id == self.id)
            && match &self.newest {
                Newest::Proven(newest) => newest.signer() == &self.on_chain.signer,
                Newest::Unproven(_) | Newest::None => true,
            };
        if sound { Ok(()) } else { Err(Rejection::InvariantBroken) }
    }

    /// The channel id.
    pub const fn id(&self) -> &[u8; 32] {
        &self.id
    }

    /// Where it is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The slot as last read from the chain.
    pub const fn on_chain(&self) -> &Slot {
        &self.on_chain
    }

    /// All that was put in and not refunded.
    pub const fn deposit(&self) -> Amount {
        self.on_chain.deposit
    }

    /// What is recorded on chain.
    pub const fn settled(&self) -> Amount {
        self.on_chain.settled
    }

    /// What calls cost so far.
    pub const fn charged(&self) -> Amount {
        self.charged
    }

    /// The cumulative amount of the newest voucher, or what somebody has settled beyond it.
    pub fn signed(&self) -> Amount {
        self.newest.voucher().map_or(Amount::ZERO, |newest| newest.cumulative).max(self.on_chain.settled)
    }

    /// The voucher over most that paid for a call; none also while that was not verified again since it was read back.
    pub const fn newest(&self) -> Option<&SignedVoucher> {
        match &self.newest {
            Newest::Proven(newest) => Some(newest.voucher()),
            Newest::Unproven(_) | Newest::None => None,
        }
    }

    /// The stored voucher, while it was not verified again: nothing is decided on the channel until it is proven.
    pub const fn unproven(&self) -> Option<Unproven> {
        match self.newest {
            Newest::Unproven(voucher) => Some(Unproven::new(voucher, self.on_chain.signer)),
            Newest::Proven(_) | Newest::None => None,
        }
    }

    /// The channel after its stored voucher was verified again; unchanged by any other voucher.
    pub(crate) fn proven(self, voucher: &VerifiedVoucher) -> Self {
        let is_it = self.unproven().is_some_and(|unproven| unproven.is(voucher));
        if is_it { Self { newest: Newest::Proven(*voucher), ..self } } else { self }
    }

    /// Whether the last call that was charged was paid for by this very voucher.
    pub fn was_paid_by(&self, voucher: &SignedVoucher) -> bool {
        self.last.is_some_and(|last| last.is_of(voucher))
    }

    /// What the call under way will charge up to, at `now`.
    pub fn reserved(&self, now: i64) -> Option<Reservation> {
        self.live_reservation(now)
    }

    /// True when no voucher is accepted any more: closing on chain, or on its way to a refund.
    pub fn is_closing(&self) -> bool {
        self.leaving_since != 0 || self.on_chain.status() != Ok(Status::Open)
    }

    /// True while a batch with this channel is on its way.
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight
    }

    /// What a claim of exactly what is charged would add on chain now.
    pub fn gain(&self) -> Amount {
        let mut slot = self.on_chain;
        self.due().and_then(|due| slot.claim(due, 0).ok()).unwrap_or_default()
    }

    /// The cumulative amount that the newest voucher is claimed for: what is charged. (What is charged above the voucher
    /// was claimed by somebody else.)
    pub(crate) fn due(&self) -> Option<Amount> {
        self.newest.voucher().map(|newest| newest.cumulative.min(self.charged))
    }

    /// What is durable of it; none before its first voucher.
    pub fn record(&self) -> Option<ChannelRecord> {
        let voucher = *self.newest.voucher()?;
        Some(ChannelRecord {
            place: self.place,
            payer: self.on_chain.payer,
            signer: self.on_chain.signer,
            voucher,
            charged: self.charged.min(voucher.cumulative),
            last: self.last,
            unsettled_since: self.unsettled_since,
            leaving_since: self.leaving_since,
        })
    }
}
