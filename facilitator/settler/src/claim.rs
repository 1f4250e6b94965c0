//! A claim transaction: compute limit, compute price, the claim, and the payout of every leg that is owed and can be
//! paid.

use crate::chain::Account;
use solana_address::Address;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_message::{AddressLookupTableAccount, VersionedMessage, v0};
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::transaction::{MAX_TRANSACTION_BYTES, compute_unit_limit, compute_unit_price, to_bytes};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, TokenAccountView};
use tallybook_ledger::ClaimRow;
use tallybook_rules::half_aggregation::{BELOW_ROW_BYTES, BelowRow, ROW_BYTES, Row};
use tallybook_rules::signing::{VerifiedVoucher, aggregate, halves};
use tallybook_rules::{Amount, Leg, Rejection, Status};

/// How many claims fit into one transaction with the payout and a lookup table. A larger batch is split.
pub const ROWS_PER_TRANSACTION: usize = 23;
/// How many fit when one of them settles less than was signed.
pub const ROWS_BELOW_PER_TRANSACTION: usize = 20;
/// How many fit without a table, with one leg to pay.
const ROWS_WITHOUT_TABLE: usize = 19;
/// How many fit without a table when one of them settles less than was signed.
const ROWS_BELOW_WITHOUT_TABLE: usize = 16;
/// How many of these rows fit into one transaction, as a first guess: the bytes decide.
pub(crate) fn rows_at_once(rows: &[ClaimRow], with_table: bool) -> usize {
    match (rows.iter().any(ClaimRow::is_below), with_table) {
        (false, true) => ROWS_PER_TRANSACTION,
        (false, false) => ROWS_WITHOUT_TABLE,
        (true, true) => ROWS_BELOW_PER_TRANSACTION,
        (true, false) => ROWS_BELOW_WITHOUT_TABLE,
    }
}

/// The most that a transaction may use.
pub(crate) const MAX_COMPUTE_UNITS: u32 = 1_400_000;
/// The number of the payout in a claim transaction, after compute limit, compute price and claim.
pub(crate) const PAYOUT_INSTRUCTION: u8 = 3;

/// What the chain showed of a page and of the token accounts of its book's legs, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) page: PageView,
    pub(crate) payable: Vec<bool>,
}

/// The rows of a batch, held against the page.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    /// Each claimed alone: should its slot be freed meanwhile, no other row is lost with it.
    pub(crate) closing: Vec<ClaimRow>,
    pub(crate) open: Vec<ClaimRow>,
    pub(crate) refused: Vec<(u8, Rejection)>,
}

impl Scene {
    /// True for a token account that a leg can be paid to: of the mint, still its recipient's, and not frozen.
    pub(crate) fn is_payable(book: &BookView, leg: &Leg, account: Option<&Account>) -> bool {
        account
            .filter(|account| account.owner == book.token_program())
            .and_then(|account| TokenAccountView::parse(&account.data))
            .is_some_and(|token| {
                token.mint == book.mint() && token.owner == Address::from(leg.recipient) && !token.frozen
            })
    }

    /// Holds rows against the page: those of a freed or reopened slot are refused, those already settled are left out.
    pub(crate) fn sort(&self, rows: &[ClaimRow]) -> Sorted {
        let mut sorted = Sorted::default();
        for row in rows {
            match self.stands(row) {
                Ok(_) if self.gain(row).is_zero() => {}
                Ok(Status::Closing) => sorted.closing.push(*row),
                Ok(_) => sorted.open.push(*row),
                Err(rejection) => sorted.refused.push((row.slot, rejection)),
            }
        }
        sorted
    }

    /// Whether the row's channel is the one in its slot.
    fn stands(&self, row: &ClaimRow) -> Result<Status, Rejection> {
        let slot = self.page.slot(row.slot)?;
        match slot.status()? {
            Status::Free => Err(Rejection::SlotFree),
            _ if self.page.channel_id(row.slot) != Some(row.voucher.voucher().channel_id) => {
                Err(Rejection::WrongGeneration)
            }
            _ if slot.signer != *row.voucher.signer() => Err(Rejection::BadSignature),
            Status::Open => Ok(Status::Open),
            Status::Closing => Ok(Status::Closing),
        }
    }

    /// What a row adds to what is settled on chain.
    fn gain(&self, row: &ClaimRow) -> Amount {
        self.page.slot(row.slot).map_or(Amount::ZERO, |slot| row.amount.min(slot.deposit).less(slot.settled))
    }

    /// The legs that are owed something once `rows` are claimed, and can be paid: bit 0 is the payee's.
    pub(crate) fn legs(&self, book: &BookView, rows: &[ClaimRow]) -> Result<u8, Rejection> {
        let mut header = self.page.header;
        for row in rows {
            header.record_claim(self.gain(row))?;
        }
        let mut mask = 0u8;
        for (at, (leg, payable)) in book.state.legs().iter().zip(&self.payable).enumerate() {
            let owed = header.owed(at, leg)?;
            if *payable && !owed.is_zero() {
                mask |= u32::try_from(at).ok().and_then(|at| 1u8.checked_shl(at)).unwrap_or(0);
            }
        }
        Ok(mask)
    }
}

/// What goes into one transaction.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) book: &'a BookView,
    pub(crate) page: Address,
    pub(crate) rows: &'a [ClaimRow],
    /// Legs to pay; 0 for none.
    pub(crate) legs: u8,
    pub(crate) compute_units: u32,
    pub(crate) compute_price: u64,
}

impl Plan<'_> {
    /// Compute limit, compute price, the claim if there are rows, the payout if there are legs.
    pub(crate) fn instructions(&self) -> Result<Vec<Instruction>, Rejection> {
        let program = Instructions::new(PROGRAM_ID);
        let mut instructions = vec![compute_unit_limit(self.compute_units), compute_unit_price(self.compute_price)];
        if !self.rows.is_empty() {
            instructions.push(claim(&program, &self.page, self.rows)?);
        }
        if self.legs != 0 {
            instructions.push(program.payout(self.book, &self.page, self.legs));
        }
        Ok(instructions)
    }
}

/// The instruction that settles exactly what the rows say: a plain claim if that is all that was signed, in each of them.
fn claim(program: &Instructions, page: &Address, rows: &[ClaimRow]) -> Result<Instruction, Rejection> {
    let vouchers: Vec<VerifiedVoucher> = rows.iter().map(|row| row.voucher).collect();
    let scalar = aggregate(&vouchers)?;
    if rows.iter().any(ClaimRow::is_below) {
        let rows: Vec<BelowRow> = rows.iter().map(|row| BelowRow { signed: signed(row), amount: row.amount }).collect();
        program.claim_below(page, &scalar, &rows)
    } else {
        let rows: Vec<Row> = rows.iter().map(signed).collect();
        program.claim(page, &scalar, &rows)
    }
}

/// The voucher of a row.
fn signed(row: &ClaimRow) -> Row {
    let voucher = row.voucher.voucher();
    Row { slot: row.slot, cumulative: voucher.cumulative, nonce: *halves(&voucher.signature).0 }
}

/// A v0 message that `fee_payer` pays for; [`Rejection::MalformedRows`] for one that cannot be written down at all.
pub(crate) fn message(
    fee_payer: &Address,
    instructions: &[Instruction],
    table: Option<&AddressLookupTableAccount>,
    blockhash: Hash,
) -> Result<VersionedMessage, Rejection> {
    let tables: Vec<_> = table.into_iter().cloned().collect();
    v0::Message::try_compile(fee_payer, instructions, &tables, blockhash)
        .map(VersionedMessage::V0)
        .map_err(|_| Rejection::MalformedRows)
}

/// How many rows too many a transaction carries; 0 when it fits.
pub(crate) fn rows_too_many(message: &VersionedMessage, rows: &[ClaimRow]) -> usize {
    let row_bytes = if rows.iter().any(ClaimRow::is_below) { BELOW_ROW_BYTES } else { ROW_BYTES };
    let unsigned = VersionedTransaction { signatures: vec![Default::default()], message: message.clone() };
    let excess = match to_bytes(&unsigned) {
        Ok(_) => 0,
        Err(_) => unsigned.message.serialize().len().saturating_add(1 + 64).saturating_sub(MAX_TRANSACTION_BYTES),
    };
    excess.div_ceil(row_bytes).min(rows.len())
}

/// The compute limit for what a simulation used: a tenth more, since a landed transaction meets other state, and a bit
/// for small ones.
pub(crate) fn limit_for(measured: u64) -> u32 {
    let with_margin = measured.saturating_add(measured / 10).saturating_add(3_000);
    u32::try_from(with_margin).unwrap_or(MAX_COMPUTE_UNITS).min(MAX_COMPUTE_UNITS)
}
