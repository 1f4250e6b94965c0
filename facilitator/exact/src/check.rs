use crate::Fault;
use crate::layout::{LIGHTHOUSE_PROGRAM, Transfer, owner};
use base64::{Engine, engine::general_purpose::STANDARD};
use solana_address::Address;
use solana_message::VersionedMessage;
use solana_transaction::versioned::VersionedTransaction;
use tallybook_chain::NamedInstruction;
use tallybook_chain::address::{MEMO_PROGRAM, TOKEN_2022_PROGRAM, associated_token_account};
use tallybook_chain::transaction::{MAX_TRANSACTION_BYTES, from_bytes};
use tallybook_rules::signing::Sha2;
use tallybook_rules::{Amount, Hasher};
use tallybook_wire::{EXACT, ExactRequest, ExactTerms, Key, decimal};

/// Instructions that every payment has: compute limit, compute price, transfer.
const NEEDED: usize = 3;
/// The most instructions of a payment, in version 2 of x402 and in version 1.
const MOST: usize = 7;
const MOST_IN_V1: usize = 6;
/// The number from which on only a memo may stand.
const MEMO_ONLY: usize = 7;
/// Client and sponsor.
const SIGNERS: u8 = 2;

/// What the sponsor pays for at most, and who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// The sponsor.
    pub sponsor: Address,
    /// The highest compute limit, in units.
    pub max_compute_units: u32,
    /// The highest compute price, in micro-lamports a unit.
    pub max_compute_price: u64,
}

/// A transaction that pays what was asked for, whole and signed by all but the sponsor, and does nothing else that the
/// sponsor pays for. Made by [`check`] alone.
#[derive(Clone, PartialEq, Debug)]
pub struct Payment {
    transaction: VersionedTransaction,
    message_hash: [u8; 32],
    payer: Address,
    pay_to: Address,
    mint: Address,
    token_program: Address,
    amount: Amount,
}

impl Payment {
    /// The transaction, with whatever the client put in the sponsor's place: it is overwritten.
    pub const fn transaction(&self) -> &VersionedTransaction {
        &self.transaction
    }

    /// The SHA-256 of the message that is signed: what makes two payments the same. The sponsor's place among the
    /// signatures can be changed by whoever carries the transaction, the message cannot.
    pub const fn message_hash(&self) -> &[u8; 32] {
        &self.message_hash
    }

    /// Whose tokens are moved.
    pub const fn payer(&self) -> &Address {
        &self.payer
    }

    /// Who is paid.
    pub const fn pay_to(&self) -> &Address {
        &self.pay_to
    }

    /// In which token.
    pub const fn mint(&self) -> &Address {
        &self.mint
    }

    /// Whether the mint has to be looked at by [`check_mint`](crate::check_mint): it is one of Token-2022.
    pub fn has_extensions(&self) -> bool {
        self.token_program == TOKEN_2022_PROGRAM
    }

    /// How much, in base units.
    pub const fn amount(&self) -> Amount {
        self.amount
    }
}

/// What is wrong with a payment, and whose it is where that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// What is wrong.
    pub fault: Fault,
    /// Whose tokens would have been moved.
    pub payer: Option<Address>,
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Self {
        Self { fault, payer: None }
    }
}

/// Checks a client's transaction against what was asked for, in the order of the x402 reference: the request, the bytes,
/// who signs, the signatures, the instructions by position, then what the transfer says and what follows it. Stricter than
/// the reference where the sponsor's money or the payee's is at stake: the fee payer may stand in no instruction at all,
/// nobody but client and sponsor may have to sign, and the client that signs is the one whose tokens are moved.
///
/// A memo is needed only where the requirements ask for one. Clients add one to make equal payments differ; without it the
/// second of two equal payments is the same message, and so refused as a duplicate and never paid twice.
pub fn check(request: &ExactRequest, caps: &Caps) -> Result<Payment, Denied> {
    let terms = &request.terms;
    check_terms(request, caps)?;
    let amount = decimal::parse(&terms.amount).map_err(|_| Fault::Requirements)?;
    let transaction = decode(&request.transaction)?;
    let message = &transaction.message;
    check_signers(message, caps)?;
    check_signatures(&transaction)?;
    if message.address_table_lookups().is_some_and(|tables| !tables.is_empty()) {
        return Err(Fault::LookupTables.into());
    }
    let named = NamedInstruction::all(message).ok_or(Fault::Undecodable)?;
    let most = if request.x402_version == 1 { MOST_IN_V1 } else { MOST };
    let ([limit, price, transfer], rest) =
        split(&named).filter(|_| named.len() <= most).ok_or(Fault::InstructionsLength)?;
    check_fees(limit, price, caps)?;
    let payer = named.iter().find_map(owner).ok_or(Fault::NoTransfer)?;
    let of_payer = |fault: Fault| Denied { fault, payer: Some(payer) };
    let transfer = Transfer::of(transfer).ok_or(of_payer(Fault::NoTransfer))?;
    let pay_to = check_transfer(&transfer, terms, amount, caps).map_err(of_payer)?;
    check_rest(rest, terms).map_err(of_payer)?;
    if named.iter().any(|named| named.names(&caps.sponsor)) {
        return Err(of_payer(Fault::FeePayerInAccounts));
    }
    // Its signature was checked above: it is the second of two.
    if message.static_account_keys().get(1) != Some(&transfer.authority) {
        return Err(of_payer(Fault::SignatureInvalid));
    }
    let message_hash = Sha2::sha256(&[&message.serialize()]);
    let Transfer { token_program, mint, .. } = transfer;
    Ok(Payment { message_hash, payer, pay_to, mint, token_program, amount, transaction })
}

/// The request itself, before its transaction is looked at.
fn check_terms(request: &ExactRequest, caps: &Caps) -> Result<(), Fault> {
    let (terms, (scheme, network)) = (&request.terms, &request.accepted);
    if scheme != EXACT || terms.scheme != EXACT {
        return Err(Fault::UnsupportedScheme);
    }
    if *network != terms.network {
        return Err(Fault::NetworkMismatch);
    }
    let fee_payer = terms.fee_payer.as_ref().ok_or(Fault::MissingFeePayer)?;
    if address(fee_payer) == Some(caps.sponsor) { Ok(()) } else { Err(Fault::FeePayerNotManaged) }
}

/// A legacy or v0 transaction. One of version 1 carries its compute limits where nothing here looks.
fn decode(base64: &str) -> Result<VersionedTransaction, Fault> {
    if base64.len() > MAX_TRANSACTION_BYTES.saturating_mul(2) {
        return Err(Fault::Undecodable);
    }
    let bytes = STANDARD.decode(base64).map_err(|_| Fault::Undecodable)?;
    let transaction = from_bytes(&bytes).map_err(|_| Fault::Undecodable)?;
    match transaction.message {
        VersionedMessage::Legacy(_) | VersionedMessage::V0(_) => Ok(transaction),
        VersionedMessage::V1(_) => Err(Fault::Undecodable),
    }
}

/// The sponsor pays the fee, and nobody but a client has to sign besides.
fn check_signers(message: &VersionedMessage, caps: &Caps) -> Result<(), Fault> {
    if message.header().num_required_signatures > SIGNERS {
        return Err(Fault::ExcessiveSigners);
    }
    if message.static_account_keys().first() == Some(&caps.sponsor) { Ok(()) } else { Err(Fault::FeePayerMismatch) }
}

/// Everybody but the sponsor has signed this very message, and somebody has.
fn check_signatures(transaction: &VersionedTransaction) -> Result<(), Fault> {
    let message = transaction.message.serialize();
    let mut clients = transaction.message.static_account_keys().iter().zip(&transaction.signatures).skip(1).peekable();
    let signed = clients.peek().is_some() && clients.all(|(key, signature)| signature.verify(key.as_ref(), &message));
    if signed { Ok(()) } else { Err(Fault::SignatureInvalid) }
}

type Split<'a, 'b> = (&'a [NamedInstruction<'b>; NEEDED], &'a [NamedInstruction<'b>]);

fn split<'a, 'b>(named: &'a [NamedInstruction<'b>]) -> Option<Split<'a, 'b>> {
    named.split_first_chunk()
}

/// The first two are a compute limit and a compute price, each whole and below its cap.
fn check_fees(limit: &NamedInstruction<'_>, price: &NamedInstruction<'_>, caps: &Caps) -> Result<(), Fault> {
    if limit.compute_limit().ok_or(Fault::ComputeLimit)? > caps.max_compute_units {
        return Err(Fault::ComputeLimitTooHigh);
    }
    if price.compute_price().ok_or(Fault::ComputePrice)? > caps.max_compute_price {
        return Err(Fault::ComputePriceTooHigh);
    }
    Ok(())
}

/// The transfer moves what was asked for to whom it was asked for; says to whom.
fn check_transfer(transfer: &Transfer, terms: &ExactTerms, amount: Amount, caps: &Caps) -> Result<Address, Fault> {
    if transfer.authority == caps.sponsor || transfer.source == caps.sponsor {
        return Err(Fault::FeePayerTransferring);
    }
    if address(&terms.asset) != Some(transfer.mint) {
        return Err(Fault::MintMismatch);
    }
    let pay_to = address(&terms.pay_to).ok_or(Fault::RecipientMismatch)?;
    if transfer.destination != associated_token_account(&pay_to, &transfer.mint, &transfer.token_program) {
        return Err(Fault::RecipientMismatch);
    }
    // The sponsor's own tokens are nobody's to pay with, whoever may move them.
    if transfer.source == associated_token_account(&caps.sponsor, &transfer.mint, &transfer.token_program) {
        return Err(Fault::FeePayerTransferring);
    }
    if transfer.amount == amount.get() { Ok(pay_to) } else { Err(Fault::AmountMismatch) }
}

/// What follows the transfer protects the client's wallet or says what is paid for, and nothing else.
fn check_rest(rest: &[NamedInstruction<'_>], terms: &ExactTerms) -> Result<(), Fault> {
    let first = NEEDED.saturating_add(1);
    for (number, named) in (first..).zip(rest) {
        let known = is_memo(named) || (named.program == LIGHTHOUSE_PROGRAM && number < MEMO_ONLY);
        if !known {
            return Err(Fault::UnknownInstruction(number));
        }
    }
    let Some(memo) = &terms.memo else { return Ok(()) };
    let mut memos = rest.iter().filter(|named| is_memo(named));
    match (memos.next(), memos.next()) {
        (Some(only), None) if only.data == memo.as_bytes() => Ok(()),
        (Some(_), None) => Err(Fault::MemoMismatch),
        _ => Err(Fault::MemoCount),
    }
}

fn is_memo(named: &NamedInstruction<'_>) -> bool {
    named.program == MEMO_PROGRAM
}

fn address(base58: &str) -> Option<Address> {
    base58.parse::<Key>().ok().map(|key| Address::from(key.0))
}
