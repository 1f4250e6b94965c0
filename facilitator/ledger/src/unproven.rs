//! Stored vouchers that were not verified again yet. Nothing rests on one: no call is decided on its channel, and none is
//! claimed. So that nobody waits for all of them, a page is met without; each is verified by whoever needs its channel, and
//! all others soon, some at a time.

use crate::{Channel, Ledger};
use tallybook_rules::signing::{SignedVoucher, SignerKey, VerifiedVoucher, verify_all};

/// The stored voucher of a channel that stands, with the channel's key as the chain shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unproven {
    voucher: SignedVoucher,
    signer: [u8; 32],
}

/// What came of verifying stored vouchers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Proofs {
    /// Those that hold: for [`Ledger::prove`].
    pub proven: Vec<VerifiedVoucher>,
    /// The channels of those that do not: what is stored is damaged, and whoever keeps the store has to end.
    pub damaged: Vec<[u8; 32]>,
}

impl Unproven {
    pub(crate) const fn new(voucher: SignedVoucher, signer: [u8; 32]) -> Self {
        Self { voucher, signer }
    }

    /// The voucher, of which nothing is known yet.
    pub const fn voucher(&self) -> &SignedVoucher {
        &self.voucher
    }

    /// Whose it has to be.
    pub const fn signer(&self) -> &[u8; 32] {
        &self.signer
    }

    /// Whether this is the same voucher, verified.
    pub(crate) fn is(&self, verified: &VerifiedVoucher) -> bool {
        verified.voucher() == &self.voucher && verified.signer() == &self.signer
    }
}

/// Verifies stored vouchers, all of them together: nothing has to be locked meanwhile.
pub fn verify_stored(stored: &[Unproven]) -> Proofs {
    let mut proofs = Proofs::default();
    let mut signed = Vec::with_capacity(stored.len());
    for unproven in stored {
        match SignerKey::decode(&unproven.signer) {
            Ok(key) => signed.push((unproven.voucher, key)),
            Err(_) => proofs.damaged.push(unproven.voucher.channel_id),
        }
    }
    for ((voucher, _), verified) in signed.iter().zip(verify_all(&signed).vouchers) {
        match verified {
            Ok(verified) => proofs.proven.push(verified),
            Err(_) => proofs.damaged.push(voucher.channel_id),
        }
    }
    proofs
}

impl Ledger {
    /// Some stored vouchers that were not verified again yet: those of one page, none when there are none at all.
    pub fn unproven(&self) -> Vec<Unproven> {
        self.channels.unproven_page().map(|page| self.unproven_in(&page)).unwrap_or_default()
    }

    /// Whether there are any.
    pub fn has_unproven(&self) -> bool {
        self.channels.unproven_page().is_some()
    }

    /// Takes in that the stored voucher of a channel was verified again: from now on the channel is like any other. Changes
    /// nothing by a voucher that is not the stored one.
    pub fn prove(&mut self, voucher: &VerifiedVoucher) {
        if let Some(before) = self.channels.get(&voucher.voucher().channel_id) {
            self.keep(before.standing(), &before.proven(voucher));
        }
    }

    /// Verifies all of them now, for whoever keeps nobody waiting meanwhile. Gives the channels of which the stored voucher
    /// does not hold.
    pub fn prove_all(&mut self) -> Vec<[u8; 32]> {
        let mut damaged = Vec::new();
        for page in self.channels.unproven_pages() {
            let proofs = verify_stored(&self.unproven_in(&page));
            proofs.proven.iter().for_each(|voucher| self.prove(voucher));
            damaged.extend(proofs.damaged);
        }
        damaged
    }

    fn unproven_in(&self, page: &[u8; 32]) -> Vec<Unproven> {
        let seats = self.boards.get(page).map_or(&[][..], |board| &board.seats);
        let channels = seats.iter().filter_map(|seat| self.channels.get(&seat.channel?));
        channels.filter_map(|channel| Channel::unproven(&channel)).collect()
    }
}
