use crate::{Amount, Rejection};
use bytemuck::{Pod, Zeroable};

/// Whether a channel stands in a slot, and whether it is on its way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// No channel. Only `generation` is kept.
    Free,
    /// A channel that takes vouchers.
    Open,
    /// The payer asked to leave; claims still count until the slot is withdrawn.
    Closing,
}

/// One place in a page, and the channel in it: 104 bytes, exactly as they lie in the account.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Slot {
    /// Who funds the channel, and gets back what is unspent.
    pub payer: [u8; 32],
    /// The Ed25519 key whose vouchers bind the channel: the payer's own or a session key.
    pub signer: [u8; 32],
    /// All that was put in and not refunded, below [`Amount::DEPOSIT_LIMIT`].
    pub deposit: Amount,
    /// What was claimed on chain, at most `deposit`; never falls.
    pub settled: Amount,
    /// When a closing slot may be withdrawn, in Unix seconds; 0 unless closing.
    pub closing_at: i64,
    /// When the channel was opened or last claimed from, in Unix seconds.
    pub last_activity: i64,
    /// How often the slot was opened; never falls, so that no voucher survives its channel.
    pub generation: u32,
    /// 0 free, 1 open, 2 closing.
    pub status_byte: u8,
    /// For later versions; zero.
    pub spare: [u8; 3],
}

const _: () = assert!(size_of::<Slot>() == Slot::SIZE, "a slot is 104 bytes");

impl Slot {
    /// Bytes of a slot in its page.
    pub const SIZE: usize = 104;
    pub(crate) const FREE: u8 = 0;
    pub(crate) const OPEN: u8 = 1;
    pub(crate) const CLOSING: u8 = 2;

    /// The status; a byte that is none of the three breaks an invariant.
    pub const fn status(&self) -> Result<Status, Rejection> {
        match self.status_byte {
            Self::FREE => Ok(Status::Free),
            Self::OPEN => Ok(Status::Open),
            Self::CLOSING => Ok(Status::Closing),
            _ => Err(Rejection::InvariantBroken),
        }
    }

    /// `payer ‖ signer`, as they lie in the account.
    #[inline]
    pub(crate) fn payer_and_signer(&self) -> &[u8] {
        let (both, _) = bytemuck::bytes_of(self).split_at(core::mem::offset_of!(Self, deposit));
        both
    }

    /// `deposit − settled`: what a voucher can still claim.
    pub const fn unsettled(&self) -> Result<Amount, Rejection> {
        self.deposit.minus(self.settled)
    }

    /// A claim of a verified voucher: settles up to `min(cumulative, deposit)` and says by how much that rose.
    ///
    /// Open or closing. By target: an older voucher, or the same one again, adds nothing and is no error, so that
    /// two claimants or a resend never pay twice.
    #[inline]
    pub fn claim(&mut self, cumulative: Amount, now: i64) -> Result<Amount, Rejection> {
        if self.status_byte != Self::OPEN && self.status_byte != Self::CLOSING {
            return Err(Rejection::SlotFree);
        }
        let target = if cumulative < self.deposit { cumulative } else { self.deposit };
        if target <= self.settled {
            return Ok(Amount::ZERO);
        }
        let added = target.minus(self.settled)?;
        self.settled = target;
        self.last_activity = now;
        Ok(added)
    }

    /// [`Rejection::SlotFree`] or [`Rejection::SlotNotOpen`] unless open.
    pub(crate) fn must_be_open(&self) -> Result<(), Rejection> {
        match self.status()? {
            Status::Free => Err(Rejection::SlotFree),
            Status::Closing => Err(Rejection::SlotNotOpen),
            Status::Open => Ok(()),
        }
    }

    /// From open to closing: says when it may be withdrawn.
    pub(crate) fn begin_to_close(&mut self, grace_seconds: u32, now: i64) -> Result<i64, Rejection> {
        let closing_at = now.checked_add(i64::from(grace_seconds)).ok_or(Rejection::Overflow)?;
        self.closing_at = closing_at;
        self.status_byte = Self::CLOSING;
        Ok(closing_at)
    }

    /// Takes the channel out; only the generation stays, for the next one.
    pub(crate) fn free(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
    }

    /// What must hold of every slot: `settled ≤ deposit < 2^48`, a known status, nothing left in a free slot.
    #[inline]
    pub fn check(&self) -> Result<(), Rejection> {
        let sound = self.settled <= self.deposit
            && self.deposit < Amount::DEPOSIT_LIMIT
            && self.status_byte <= Self::CLOSING
            && (self.status_byte != Self::FREE || self.deposit.is_zero());
        if sound { Ok(()) } else { Err(Rejection::InvariantBroken) }
    }
}
