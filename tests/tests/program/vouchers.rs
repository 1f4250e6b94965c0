//! Vouchers and batches of them, honest or free to be forged.

use crate::world::{Channel, TALLYBOOK};
use solana_address::Address;
use solana_instruction::Instruction;
use tallybook_rules::Amount;
use tallybook_rules::half_aggregation::Row;
use tallybook_rules::signing::{SignedVoucher, VerifiedVoucher, aggregate, halves};

/// A claim to be: its scalar and rows, free to be forged.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) scalar: [u8; 32],
    pub(crate) rows: Vec<Row>,
}

impl Batch {
    /// The newest vouchers of these channels, signed for these cumulative amounts and aggregated.
    pub(crate) fn of(vouchers: &[(&Channel, u64)]) -> Self {
        Self::from_signed(vouchers.iter().map(|(channel, cumulative)| voucher(channel, *cumulative)))
    }

    /// Aggregates vouchers, each with its slot.
    pub(crate) fn from_signed(vouchers: impl IntoIterator<Item = (u8, VerifiedVoucher)>) -> Self {
        let (slots, vouchers): (Vec<_>, Vec<_>) = vouchers.into_iter().unzip();
        let rows = slots.iter().zip(&vouchers).map(|(slot, verified)| Row {
            slot: *slot,
            cumulative: verified.voucher().cumulative,
            nonce: *halves(&verified.voucher().signature).0,
        });
        Self { rows: rows.collect(), scalar: aggregate(&vouchers).unwrap() }
    }

    pub(crate) fn instruction(&self, page: &Address) -> Instruction {
        TALLYBOOK.claim(page, &self.scalar, &self.rows).unwrap()
    }
}

/// A channel's voucher, with its slot.
pub(crate) fn voucher(channel: &Channel, cumulative: u64) -> (u8, VerifiedVoucher) {
    let signed = SignedVoucher::sign(&channel.signer, channel.id, Amount::new(cumulative));
    (channel.slot, signed.verify(&channel.signer.verifying_key().to_bytes()).unwrap())
}
