//! What the answer is, by our own crates: the reference that others are held against, and `tallybook conform answer`.

use super::question::{ClaimBelowRow, ClaimRow, Question, Signed, hex};
use serde_json::{Value, json};
use tallybook_agent::Known;
use tallybook_chain::address::{associated_token_account, book, page};
use tallybook_chain::instruction::Instructions;
use tallybook_chain::{Address, PROGRAM_ID};
use tallybook_rules::half_aggregation::{BelowRow, Row};
use tallybook_rules::signing::{SignedVoucher, SigningKey, VerifiedVoucher, aggregate, channel_id, page_domain};
use tallybook_rules::voucher::voucher_bytes;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{
    Accept, ChannelPayload, ChannelState, PaymentPayload, PaymentRequired, VoucherState, decimal, header, read_header,
};

/// The answer: what it is, or `null` for what must be refused.
pub(super) fn answer(question: &Question) -> Value {
    bytes(question).or_else(|| wire(question)).unwrap_or(Value::Null)
}

/// Answers about bytes on chain.
fn bytes(question: &Question) -> Option<Value> {
    Some(match question {
        Question::PageDomain { program_id, genesis_hash, page } => {
            hex(&page_domain(&program_id.0, &genesis_hash.0, &page.0)).into()
        }
        Question::ChannelId { page_domain, slot, generation, payer, signer } => {
            hex(&channel_id(&page_domain.0, *slot, *generation, &payer.0, &signer.0)).into()
        }
        Question::Voucher { channel_id, cumulative } => hex(&voucher_bytes(&channel_id.0, *cumulative)).into(),
        Question::Sign { seed, channel_id, cumulative } => {
            hex(&SignedVoucher::sign(&SigningKey::from_bytes(&seed.0), channel_id.0, *cumulative).signature).into()
        }
        Question::Verify(signed) | Question::Accept(signed) => verified(signed).is_ok().into(),
        Question::Aggregate { vouchers } => {
            let verified: Result<Vec<VerifiedVoucher>, Rejection> = vouchers.iter().map(verified).collect();
            hex(&aggregate(&verified.ok().filter(|vouchers| !vouchers.is_empty())?).ok()?).into()
        }
        Question::Claim { scalar, rows } => {
            let rows: Vec<Row> = rows.iter().map(row).collect();
            hex(&Instructions::new(PROGRAM_ID).claim(&Address::default(), &scalar.0, &rows).ok()?.data).into()
        }
        Question::ClaimBelow { scalar, rows } => {
            let rows: Vec<BelowRow> = rows.iter().map(below_row).collect();
            rows.iter().try_for_each(BelowRow::check).ok()?;
            hex(&Instructions::new(PROGRAM_ID).claim_below(&Address::default(), &scalar.0, &rows).ok()?.data).into()
        }
        Question::BookAddress { program_id, payee, mint, book_id } => {
            address(book(&program_id.0.into(), &payee.0.into(), &mint.0.into(), *book_id).0)
        }
        Question::PageAddress { program_id, book, index } => {
            address(page(&program_id.0.into(), &book.0.into(), *index).0)
        }
        Question::TokenAddress { owner, token_program, mint } => {
            address(associated_token_account(&owner.0.into(), &mint.0.into(), &token_program.0.into()))
        }
        Question::Amount { .. } | Question::Offers { .. } | Question::Payment { .. } | Question::Believe { .. } => {
            return None;
        }
    })
}

/// Answers about JSON and headers.
fn wire(question: &Question) -> Option<Value> {
    match question {
        Question::Amount { value } => Some(decimal::parse(value.as_str()?).ok()?.to_string().into()),
        Question::Offers { header, network, asset } => {
            let required = read_header::<PaymentRequired>(header.as_bytes()).ok();
            let accepts = required.map(|required| required.accepts).unwrap_or_default();
            let payable = accepts.iter().enumerate().filter(|(_, accept)| match accept {
                Accept::Channel(offer) => offer.network == *network && offer.asset == *asset,
                Accept::Foreign(_) => false,
            });
            Some(payable.map(|(at, _)| at).collect())
        }
        Question::Payment { header: value, accept, seed, channel_id, charged, deposit } => {
            let required: PaymentRequired = read_header(value.as_bytes()).ok()?;
            let Accept::Channel(offer) = required.accepts.get(*accept)? else { return None };
            let cumulative = charged.plus(offer.amount).ok().filter(|cumulative| cumulative <= deposit)?;
            let voucher = SignedVoucher::sign(&SigningKey::from_bytes(&seed.0), channel_id.0, cumulative);
            let payload = ChannelPayload::Voucher { voucher: voucher.into() };
            let payment = PaymentPayload::new(offer.as_ref().clone(), payload);
            Some(header(&payment).ok()?.to_str().ok()?.into())
        }
        Question::Believe { signer, channel_id, charged, possible, settled, extra } => {
            let read = |name: &str| extra.get(name).filter(|value| !value.is_null()).cloned();
            let state: ChannelState = serde_json::from_value(read("channelState")?).ok()?;
            let voucher: Option<VoucherState> = match read("voucherState") {
                Some(voucher) => Some(serde_json::from_value(voucher).ok()?),
                None => None,
            };
            let (id, charged, possible, settled) = (channel_id.0.into(), *charged, *possible, *settled);
            let known = Known { id, signer: signer.0, charged, possible, settled };
            known.believe(&state, voucher.as_ref()).ok().map(|charged: Amount| json!(charged.to_string()))
        }
        Question::PageDomain { .. }
        | Question::ChannelId { .. }
        | Question::Voucher { .. }
        | Question::Sign { .. }
        | Question::Verify(_)
        | Question::Accept(_)
        | Question::Aggregate { .. }
        | Question::Claim { .. }
        | Question::ClaimBelow { .. }
        | Question::BookAddress { .. }
        | Question::PageAddress { .. }
        | Question::TokenAddress { .. } => None,
    }
}

fn verified(signed: &Signed) -> Result<VerifiedVoucher, Rejection> {
    let Signed { signer, channel_id, cumulative, signature } = signed;
    SignedVoucher { channel_id: channel_id.0, cumulative: *cumulative, signature: signature.0 }.verify(&signer.0)
}

fn row(row: &ClaimRow) -> Row {
    Row { slot: row.slot, cumulative: row.cumulative, nonce: row.nonce.0 }
}

fn below_row(row: &ClaimBelowRow) -> BelowRow {
    let signed = Row { slot: row.slot, cumulative: row.signed, nonce: row.nonce.0 };
    BelowRow { signed, amount: row.amount }
}

fn address(address: Address) -> Value {
    hex(&address.to_bytes()).into()
}
