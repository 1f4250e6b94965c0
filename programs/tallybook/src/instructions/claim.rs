use super::Outcome;
use crate::events::Claimed;
use crate::state::{Page, change, now};
use crate::verify::check_batch;
use anchor_lang::prelude::*;
use std::io::{Read, Result as IoResult, Write};
use tallybook_rules::half_aggregation::{BelowRow, ROW_BYTES, Row, SCALAR_BYTES, split_claim};
use tallybook_rules::{Amount, Rejection};

/// Anybody claims a batch of vouchers.
#[derive(Accounts)]
pub struct Claim<'info> {
    /// The page of all their channels.
    #[account(mut)]
    pub page: AccountLoader<'info, Page>,
}

/// The rest of the instruction's data, without a length: `scalar[32] ‖ rows`. A row is `slot u8 ‖ cumulative u48 LE ‖
/// nonce[32]`, and of `claim_below` `slot u8 ‖ signed u48 LE ‖ amount u48 LE ‖ nonce[32]`.
///
/// Four bytes less than a `Vec`, in a transaction whose bytes are what bounds a batch.
#[derive(Clone, Debug)]
pub struct Batch(Vec<u8>);

impl AnchorDeserialize for Batch {
    fn deserialize_reader<R: Read>(reader: &mut R) -> IoResult<Self> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl AnchorSerialize for Batch {
    fn serialize<W: Write>(&self, writer: &mut W) -> IoResult<()> {
        writer.write_all(&self.0)
    }
}

#[cfg(feature = "idl-build")]
impl anchor_lang::IdlBuild for Batch {
    /// An opaque type: no client can be generated for it, and none should guess a length prefix.
    fn create_type() -> Option<anchor_lang::idl::types::IdlTypeDef> {
        use anchor_lang::idl::types::{IdlSerialization, IdlTypeDef, IdlTypeDefTy};
        Some(IdlTypeDef {
            name: Self::get_full_path(),
            docs: vec![
                "Raw bytes to the end of the instruction, without a length: scalar[32], then 1 to 96 rows.".into(),
                "A row of claim is a ClaimRow of 39 bytes: slot u8, cumulative u48 LE, nonce[32]; one of claim_below"
                    .into(),
                "a ClaimBelowRow of 45: slot u8, signed u48 LE, amount u48 LE, nonce[32].".into(),
            ],
            serialization: IdlSerialization::Custom("raw".into()),
            repr: None,
            generics: Vec::new(),
            ty: IdlTypeDefTy::Struct { fields: None },
        })
    }

    /// The rows too, which no argument names.
    fn insert_types(types: &mut std::collections::BTreeMap<String, anchor_lang::idl::types::IdlTypeDef>) {
        for (name, amounts) in [("ClaimRow", &["cumulative"][..]), ("ClaimBelowRow", &["signed", "amount"])] {
            types.insert(name.into(), row_type(name, amounts));
        }
    }

    fn get_full_path() -> String {
        "Batch".into()
    }
}

/// A row as the IDL shows it: a slot, amounts of 48 bits, and the nonce point.
#[cfg(feature = "idl-build")]
fn row_type(name: &str, amounts: &[&str]) -> anchor_lang::idl::types::IdlTypeDef {
    use anchor_lang::idl::types::{IdlArrayLen, IdlDefinedFields, IdlField, IdlSerialization, IdlType};
    use anchor_lang::idl::types::{IdlTypeDef, IdlTypeDefTy};
    let field = |name: &str, docs: &str, ty| IdlField { name: name.into(), docs: vec![docs.into()], ty };
    let bytes = |count| IdlType::Array(Box::new(IdlType::U8), IdlArrayLen::Value(count));
    let mut fields = vec![field("slot", "The channel's slot.", IdlType::U8)];
    fields.extend(amounts.iter().map(|name| field(name, "In base units: u48, little-endian.", bytes(6))));
    fields.push(field("nonce", "The first half of the voucher's signature.", bytes(32)));
    IdlTypeDef {
        name: name.into(),
        docs: vec!["One row of a batch.".into()],
        serialization: IdlSerialization::default(),
        repr: None,
        generics: Vec::new(),
        ty: IdlTypeDefTy::Struct { fields: Some(IdlDefinedFields::Named(fields)) },
    }
}

/// Settles each row up to its voucher's cumulative amount, and checks that all vouchers were signed.
pub(crate) fn claim(ctx: Context<'_, Claim<'_>>, batch: &Batch) -> Outcome {
    let (scalar, rows) = split(&ctx, batch)?;
    let amounts = rows.iter().map(Row::from_bytes).map(|row| (row.slot, row.cumulative));
    settle(&ctx.accounts.page, scalar, rows, amounts)
}

/// Settles each row up to the amount that it names, and checks that all vouchers were signed, for as much or more.
pub(crate) fn claim_below(ctx: Context<'_, Claim<'_>>, batch: &Batch) -> Outcome {
    let (scalar, rows) = split(&ctx, batch)?;
    // As rows of a plain claim, for the one check that there is: a second one for longer rows would make the program larger.
    let mut signed = Vec::with_capacity(rows.len());
    for row in rows {
        signed.push(BelowRow::from_bytes(row).signed.to_bytes()?);
    }
    let amounts = rows.iter().map(BelowRow::from_bytes).map(|row| (row.signed.slot, row.amount));
    settle(&ctx.accounts.page, scalar, &signed, amounts)?;
    // Last, since it is the last in precedence of a claim's rejections: what is refused here was never settled.
    Ok(rows.iter().try_for_each(|row| BelowRow::from_bytes(row).check())?)
}

/// Scalar and rows of the batch; that the page is one of this version comes first in precedence.
fn split<'a, const ROW: usize>(
    ctx: &Context<'_, Claim<'_>>,
    batch: &'a Batch,
) -> Outcome<(&'a [u8; SCALAR_BYTES], &'a [[u8; ROW]])> {
    ctx.accounts.page.load()?.rules()?;
    Ok(split_claim(&batch.0)?)
}

/// Settles each slot up to its amount, and checks that all vouchers of `rows` were signed.
fn settle(
    page: &AccountLoader<'_, Page>,
    scalar: &[u8; SCALAR_BYTES],
    rows: &[[u8; ROW_BYTES]],
    amounts: impl Iterator<Item = (u8, Amount)>,
) -> Outcome {
    let now = now()?;
    let (added, claimed_total) = change(page, |page| {
        let mut added = Amount::ZERO;
        for (slot, amount) in amounts {
            added = added.plus(page.slot(slot)?.claim(amount, now)?)?;
        }
        page.header.record_claim(added)?;
        // What the check reads of a slot is not what a claim writes.
        check_batch(&page.header.page_domain, page.slots, scalar, rows)?;
        Ok((added, page.header.claimed_total))
    })?;
    emit!(Claimed {
        page: page.key(),
        rows: u8::try_from(rows.len()).map_err(|_| Rejection::MalformedRows)?,
        added: added.get(),
        claimed_total: claimed_total.get(),
    });
    Ok(())
}
