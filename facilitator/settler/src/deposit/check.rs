//! What a sponsor checks before it co-signs a deposit.
//!
//! The expected instructions are built by the same code that clients use, and the transaction has to be those and nothing
//! else: not one account, signer or writable flag more. So there is no list of what is forbidden that could be short
//! of an item.

use solana_address::Address;
use solana_instruction::Instruction;
use solana_message::{VersionedMessage, legacy};
use solana_transaction::versioned::VersionedTransaction;
use std::collections::BTreeMap;
use tallybook_chain::instruction::{Addition, NewChannel, discriminator};
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, from_bytes};
use tallybook_chain::{BookView, NamedInstruction, PROGRAM_ID, PageView, deposit};
use tallybook_rules::signing::{channel_id, is_strong_signer};
use tallybook_rules::{Amount, OpenPolicy, Rejection};

/// What a deposit does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DepositKind {
    /// It opens the channel.
    Opening,
    /// It adds to the deposit of the channel, which is open already.
    TopUp,
}

/// What a payload says that its transaction does: it opens this channel, or adds to it. Which of them, the transaction says.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedDeposit<'a> {
    /// The book, as read from the chain.
    pub book: &'a BookView,
    /// The page, as read from the chain. Whether the slot is free *now* is for the simulation.
    pub page: &'a PageView,
    /// The channel that the payload names, and what is put in. Its `source` must be the payer's associated token account, its
    /// `operator` the book's under open policy 1 and nobody otherwise; it signs openings only.
    pub new: &'a NewChannel,
    /// Its id, which the memo repeats.
    pub channel_id: [u8; 32],
}

/// What a sponsor pays for at most, and who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// The sponsor.
    pub fee_payer: Address,
    /// The highest compute limit, in units.
    pub max_compute_units: u32,
    /// The highest compute price, in micro-lamports a unit.
    pub max_compute_price: u64,
}

/// A deposit transaction that does exactly what its payload says, signed by all but the sponsor. Made by [`check`] alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckedDeposit {
    /// The sponsor's signature is still empty.
    pub(crate) transaction: VersionedTransaction,
    new: NewChannel,
    kind: DepositKind,
    channel_id: [u8; 32],
}

impl CheckedDeposit {
    /// The channel that it opens, or adds to; `deposit` is what it puts in.
    pub const fn new_channel(&self) -> &NewChannel {
        &self.new
    }

    /// Which of them.
    pub const fn kind(&self) -> DepositKind {
        self.kind
    }

    /// The channel's id.
    pub const fn channel_id(&self) -> &[u8; 32] {
        &self.channel_id
    }
}

/// Checks a deposit transaction as it came over the wire, after base64. In this order:
///
/// * [`Rejection::DepositMismatch`]: the payload itself is not of one piece (book, page, id, source, operator);
///   [`Rejection::WeakSigner`], [`Rejection::DepositTooLarge`]: it could not be opened;
/// * [`Rejection::RequestTooLarge`], [`Rejection::MalformedDeposit`]: not the bytes of a legacy or v0 transaction,
///   or not of the one allowed shape;
/// * [`Rejection::WrongFeePayer`]: another fee payer, or the fee payer in an instruction;
/// * [`Rejection::FeeTooHigh`]: a compute limit or price above the caps;
/// * [`Rejection::DepositTooSmall`]: an opening below the book's smallest deposit, or a top-up of nothing;
/// * [`Rejection::OperatorMustSign`]: open policy 1 without the operator's place among the signers;
/// * [`Rejection::DepositMismatch`]: another channel, amount or account than the payload says;
/// * [`Rejection::PayerSignatureMissing`], [`Rejection::OperatorMustSign`]: a signature that does not verify.
pub fn check(bytes: &[u8], expected: &ExpectedDeposit<'_>, caps: &Caps) -> Result<CheckedDeposit, Rejection> {
    check_payload(expected)?;
    let transaction = parse(bytes)?;
    let message = &transaction.message;
    if message.static_account_keys().first() != Some(&caps.fee_payer) {
        return Err(Rejection::WrongFeePayer);
    }
    let named = NamedInstruction::all(message).ok_or(Rejection::MalformedDeposit)?;
    let [limit, price, deposit, memo] = named.as_slice() else { return Err(Rejection::MalformedDeposit) };
    let [limit, price] = check_fees(limit, price, caps)?;

    let new = expected.new;
    let kind = kind(deposit);
    let least = match kind {
        DepositKind::Opening => expected.book.state.min_deposit,
        DepositKind::TopUp => Amount::new(1),
    };
    if Amount::new(new.deposit) < least {
        return Err(Rejection::DepositTooSmall);
    }
    let operator = new.operator.filter(|_| kind == DepositKind::Opening);
    if operator.is_some_and(|operator| !is_signer(message, &operator)) {
        return Err(Rejection::OperatorMustSign);
    }
    let [_, _, expected_deposit, expected_memo] = expected.instructions(kind);
    check_instruction(deposit, &expected_deposit, caps)?;
    check_instruction(memo, &expected_memo, caps)?;

    let whole = [limit, price, expected_deposit, expected_memo];
    check_accounts(message, &whole, caps)?;
    check_signatures(&transaction, &new.payer, operator)?;
    Ok(CheckedDeposit { new: *new, kind, channel_id: expected.channel_id, transaction })
}

impl ExpectedDeposit<'_> {
    /// The instructions as clients build them.
    fn instructions(&self, kind: DepositKind) -> [Instruction; 4] {
        let new = self.new;
        match kind {
            DepositKind::Opening => deposit::instructions(self.book, new, &self.channel_id),
            DepositKind::TopUp => {
                let addition = Addition {
                    funder: new.payer,
                    source: new.source,
                    page: new.page,
                    slot: new.slot,
                    generation: new.generation,
                    amount: new.deposit,
                };
                deposit::top_up_instructions(self.book, &addition, &self.channel_id)
            }
        }
    }
}

fn check_payload(expected: &ExpectedDeposit<'_>) -> Result<(), Rejection> {
    let ExpectedDeposit { book, page, new, .. } = *expected;
    let operator = match OpenPolicy::from_byte(book.state.open_policy)? {
        OpenPolicy::Anyone => None,
        OpenPolicy::OperatorCoSigns => Some(book.operator()),
    };
    let id = channel_id(&page.header.page_domain, new.slot, new.generation, &new.payer.to_bytes(), &new.signer);
    let of_one_piece = page.book() == book.address
        && page.address == new.page
        && id == expected.channel_id
        && new.source == book.token_account(&new.payer)
        && new.operator == operator;
    if !of_one_piece {
        Err(Rejection::DepositMismatch)
    } else if new.slot >= page.header.capacity {
        Err(Rejection::NoSuchSlot)
    } else if Amount::new(new.deposit) >= Amount::DEPOSIT_LIMIT {
        Err(Rejection::DepositTooLarge)
    } else if !is_strong_signer(&new.signer) {
        Err(Rejection::WeakSigner)
    } else {
        Ok(())
    }
}

/// A legacy or v0 transaction without lookup tables, whole and in its one encoding.
fn parse(bytes: &[u8]) -> Result<VersionedTransaction, Rejection> {
    let transaction = from_bytes(bytes).map_err(|rejection| {
        if rejection == Rejection::RequestTooLarge { rejection } else { Rejection::MalformedDeposit }
    })?;
    let plain = match &transaction.message {
        VersionedMessage::Legacy(_) => true,
        VersionedMessage::V0(message) => message.address_table_lookups.is_empty(),
        // A v1 message carries its compute limits outside of its instructions, where nothing here looks.
        VersionedMessage::V1(_) => false,
    };
    if plain && !transaction.uses_durable_nonce() { Ok(transaction) } else { Err(Rejection::MalformedDeposit) }
}

/// By its first byte; anything but a top-up is to be an opening.
fn kind(deposit: &NamedInstruction<'_>) -> DepositKind {
    let top_up = deposit.program == PROGRAM_ID && deposit.data.first() == Some(&discriminator::TOP_UP);
    if top_up { DepositKind::TopUp } else { DepositKind::Opening }
}

/// The first two are a compute limit and a compute price, each below its cap; says which, as clients build them.
fn check_fees(
    limit: &NamedInstruction<'_>,
    price: &NamedInstruction<'_>,
    caps: &Caps,
) -> Result<[Instruction; 2], Rejection> {
    let units = limit.compute_limit().ok_or(Rejection::MalformedDeposit)?;
    let micro_lamports = price.compute_price().ok_or(Rejection::MalformedDeposit)?;
    if units > caps.max_compute_units || micro_lamports > caps.max_compute_price {
        return Err(Rejection::FeeTooHigh);
    }
    Ok([compute_unit_limit(units), compute_unit_price(micro_lamports)])
}

/// Program, accounts and data are the expected ones.
fn check_instruction(named: &NamedInstruction<'_>, expected: &Instruction, caps: &Caps) -> Result<(), Rejection> {
    if named.accounts.contains(&caps.fee_payer) {
        return Err(Rejection::WrongFeePayer);
    }
    if named.program != expected.program_id {
        return Err(Rejection::MalformedDeposit);
    }
    let accounts = expected.accounts.iter().map(|account| account.pubkey);
    if named.data != expected.data || !accounts.eq(named.accounts.iter().copied()) {
        return Err(Rejection::DepositMismatch);
    }
    Ok(())
}

/// The accounts are those of the expected instructions, each once, and with the same rights. (Their order is the
/// client's own: libraries differ in it.)
fn check_accounts(message: &VersionedMessage, whole: &[Instruction], caps: &Caps) -> Result<(), Rejection> {
    let expected = legacy::Message::new(whole, Some(&caps.fee_payer));
    let expected = rights(&VersionedMessage::Legacy(expected));
    let given = rights(message);
    let unique = given.len() == message.static_account_keys().len();
    if unique && given == expected { Ok(()) } else { Err(Rejection::MalformedDeposit) }
}

fn is_signer(message: &VersionedMessage, who: &Address) -> bool {
    rights(message).get(who).is_some_and(|(signs, _)| *signs)
}

/// Who signs and who may be written, by address.
fn rights(message: &VersionedMessage) -> BTreeMap<Address, (bool, bool)> {
    let header = message.header();
    let keys = message.static_account_keys();
    let signers = usize::from(header.num_required_signatures);
    let writable_signers = signers.saturating_sub(usize::from(header.num_readonly_signed_accounts));
    let writable = keys.len().saturating_sub(usize::from(header.num_readonly_unsigned_accounts));
    let right = |at: usize| (at < signers, at < writable_signers || (at >= signers && at < writable));
    keys.iter().enumerate().map(|(at, key)| (*key, right(at))).collect()
}

/// Payer and operator have signed this very message.
fn check_signatures(
    transaction: &VersionedTransaction,
    payer: &Address,
    operator: Option<Address>,
) -> Result<(), Rejection> {
    let signed = |who: &Address| verifies(transaction, who);
    if !signed(payer) {
        Err(Rejection::PayerSignatureMissing)
    } else if operator.is_some_and(|operator| !signed(&operator)) {
        Err(Rejection::OperatorMustSign)
    } else {
        Ok(())
    }
}

/// True when `who` is among the signers and its signature holds.
pub(crate) fn verifies(transaction: &VersionedTransaction, who: &Address) -> bool {
    let message = transaction.message.serialize();
    transaction
        .message
        .static_account_keys()
        .iter()
        .zip(&transaction.signatures)
        .any(|(key, signature)| key == who && signature.verify(key.as_ref(), &message))
}
