//! A claim transaction: for each of its pages the claim, and the payout of every leg that is owed and can be paid.

use crate::chain::{Account, Failure};
use solana_address::Address;
use solana_instruction::Instruction;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::shape::{MAX_COMPUTE_UNITS, Shape, first_instruction};
use tallybook_chain::{BookView, PROGRAM_ID, PageView, TokenAccountView};
use tallybook_ledger::ClaimRow;
use tallybook_rules::half_aggregation::{BELOW_ROW_BYTES, BelowRow, ROW_BYTES, Row};
use tallybook_rules::signing::{VerifiedVoucher, aggregate, halves};
use tallybook_rules::{Amount, Leg, Rejection, Status};

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

    /// True when the payee is owed something, or will be, and has no account that can be paid.
    pub(crate) fn lacks_payee(&self) -> bool {
        let payee_owed = !self.page.header.claimed_total.is_zero() || self.page.header.used > 0;
        payee_owed && self.payable.first() == Some(&false)
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

/// What a transaction does with one page.
#[derive(Clone, Debug)]
pub(crate) struct Part<'a> {
    /// Its number in the work.
    pub(crate) at: usize,
    pub(crate) book: &'a BookView,
    pub(crate) page: Address,
    pub(crate) rows: Vec<ClaimRow>,
    /// Legs to pay; 0 for none.
    pub(crate) legs: u8,
}

/// What an instruction does, for which of the parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Claim(usize),
    Payout(usize),
}

/// For each part the claim if there are rows, and the payout if there are legs; and what each instruction is for.
pub(crate) fn instructions(parts: &[Part<'_>]) -> Result<(Vec<Instruction>, Vec<Role>), Rejection> {
    let program = Instructions::new(PROGRAM_ID);
    let (mut instructions, mut roles) = (Vec::new(), Vec::new());
    for (number, part) in parts.iter().enumerate() {
        if !part.rows.is_empty() {
            instructions.push(claim(&program, &part.page, &part.rows)?);
            roles.push(Role::Claim(number));
        }
        if part.legs != 0 {
            instructions.push(program.payout(part.book, &part.page, part.legs));
            roles.push(Role::Payout(number));
        }
    }
    Ok((instructions, roles))
}

/// What the instruction was for that failed; none when none of these did.
pub(crate) fn role_of(failure: &Failure, shape: Shape, roles: &[Role]) -> Option<Role> {
    let at = usize::from(failure.instruction()?).checked_sub(first_instruction(shape))?;
    roles.get(at).copied()
}

/// The accounts that a transaction writes to beside its fee payer: what others may bid for too.
pub(crate) fn written(parts: &[Part<'_>]) -> Vec<Address> {
    let mut written: Vec<Address> = Vec::new();
    for part in parts {
        let legs = part.book.state.legs().iter().map(|leg| Address::from(leg.account));
        written.extend([part.page, part.book.vault(&part.page)].into_iter().chain(legs));
    }
    written.sort_unstable();
    written.dedup();
    written
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

/// How many of the rows have to go for a transaction to lose so many bytes, at least one of them staying.
pub(crate) fn rows_too_many(bytes: usize, rows: &[ClaimRow]) -> usize {
    let row_bytes = if rows.iter().any(ClaimRow::is_below) { BELOW_ROW_BYTES } else { ROW_BYTES };
    bytes.div_ceil(row_bytes).min(rows.len().saturating_sub(1))
}

/// The compute limit for what a simulation used: a tenth more, since a landed transaction meets other state, and a bit
/// for small ones.
pub(crate) fn limit_for(measured: u64) -> u32 {
    let with_margin = measured.saturating_add(measured / 10).saturating_add(3_000);
    u32::try_from(with_margin).unwrap_or(MAX_COMPUTE_UNITS).min(MAX_COMPUTE_UNITS)
}
