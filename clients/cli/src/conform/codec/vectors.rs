//! Questions about bytes: from the golden vectors, which another implementation made, and from a seed.

use super::case::Case;
use super::dice::Dice;
use super::question::{ClaimBelowRow, ClaimRow, Hex, Question, Signed, from_hex};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};

/// The golden vectors.
const VECTORS: &str = include_str!("../../../../../tests/vectors/vectors.json");
/// The instruction of the batch that the specification works through.
const WORKED: &str = "05eaca4f59c155e533a37311893fb05ec3ea1f93925b2e1a27fa3e46af0f4ff30500e803000000005f1412200b54fb497fb44175299f06a7789b675f4fbec2b2e32b740161f2b2c101d00700000000097169761c3ae9e079c6779e51dedf53f94288bc19c10ececf6c632cc6c58fef";

#[derive(Deserialize)]
struct Vectors {
    batches: Vec<Batch>,
}

#[derive(Deserialize)]
struct Batch {
    program_id: Hex<32>,
    genesis_hash: Hex<32>,
    page: Hex<32>,
    page_domain: Hex<32>,
    claims: Vec<Claim>,
    s_agg: Hex<32>,
}

#[derive(Deserialize)]
struct Claim {
    slot: u8,
    generation: u32,
    payer: Hex<32>,
    signer_seed: Hex<32>,
    signer: Hex<32>,
    channel_id: Hex<32>,
    cumulative: u64,
    message: String,
    signature: Hex<64>,
}

impl Claim {
    fn signed(&self) -> Signed {
        let (signer, channel_id, signature) = (self.signer, self.channel_id, self.signature);
        Signed { signer, channel_id, cumulative: Amount::new(self.cumulative), signature }
    }
}

/// The first half of a signature.
fn nonce(signature: &Hex<64>) -> Hex<32> {
    Hex(signature.0.first_chunk().copied().unwrap_or_default())
}

/// What the vectors say.
pub(super) fn golden() -> Result<Vec<Case>> {
    let vectors: Vectors = serde_json::from_str(VECTORS).context("the vectors cannot be read")?;
    let mut domains = Case::new("pageDomain: the vectors", "§3", "SHA-256 over tag, program, genesis hash, page");
    let mut ids = Case::new("channelId: the vectors", "§3", "SHA-256 over domain, slot, generation, payer, signer");
    let mut messages = Case::new("voucher: the vectors", "§3", "\"TB\", 1, channel id, cumulative u64 LE");
    let mut signatures = Case::new("sign: the vectors", "§3", "plain RFC 8032 Ed25519 over the 43 bytes");
    let mut verified = Case::new("verify: the vectors", "§3", "true");
    let mut aggregates = Case::new("aggregate: the vectors, 1 to 23 rows", "§4", "s_agg = Σ z_i · s_i mod L");
    let mut instructions = Case::new("claim: the worked batch", "§4", "05, s_agg, rows of 39 bytes");
    for batch in vectors.batches {
        let Batch { program_id, genesis_hash, page, page_domain, claims, s_agg } = batch;
        let text = |bytes: Hex<32>| serde_json::to_value(bytes);
        domains = domains.ask(Question::PageDomain { program_id, genesis_hash, page }, text(page_domain)?);
        for claim in &claims {
            let Claim { slot, generation, payer, signer, channel_id, .. } = *claim;
            let (seed, cumulative) = (claim.signer_seed, Amount::new(claim.cumulative));
            ids = ids.ask(Question::ChannelId { page_domain, slot, generation, payer, signer }, text(channel_id)?);
            messages = messages.ask(Question::Voucher { channel_id, cumulative }, claim.message.as_str());
            let signature = serde_json::to_value(claim.signature)?;
            signatures = signatures.ask(Question::Sign { seed, channel_id, cumulative }, signature);
            verified = verified.ask(Question::Verify(claim.signed()), true);
        }
        let vouchers = claims.iter().map(Claim::signed).collect();
        aggregates = aggregates.ask(Question::Aggregate { vouchers }, text(s_agg)?);
        if claims.len() == 2 {
            let row = |claim: &Claim| ClaimRow {
                slot: claim.slot,
                cumulative: Amount::new(claim.cumulative),
                nonce: nonce(&claim.signature),
            };
            instructions =
                instructions.ask(Question::Claim { scalar: s_agg, rows: claims.iter().map(row).collect() }, WORKED);
        }
    }
    Ok(vec![domains, ids, messages, signatures, verified, aggregates, instructions])
}

/// A voucher of a key that the dice make.
pub(super) fn voucher(dice: &mut Dice) -> Signed {
    let key = SigningKey::from_bytes(&dice.key().0);
    let (channel_id, cumulative) = (dice.key(), Amount::new(dice.up_to_bits(48)));
    let signature = Hex(SignedVoucher::sign(&key, channel_id.0, cumulative).signature);
    Signed { signer: Hex(key.verifying_key().to_bytes()), channel_id, cumulative, signature }
}

/// `count` cases of each kind, by dice.
pub(super) fn random(dice: &mut Dice, count: u32) -> Vec<Case> {
    let mut many = |question: &mut dyn FnMut(&mut Dice) -> Question| -> Vec<Question> {
        (0..count).map(|_| question(dice)).collect()
    };
    let domains = many(&mut |d| Question::PageDomain { program_id: d.key(), genesis_hash: d.key(), page: d.key() });
    let ids = many(&mut |d| Question::ChannelId {
        page_domain: d.key(),
        slot: d.byte(),
        generation: u32::try_from(d.up_to_bits(32)).unwrap_or(u32::MAX),
        payer: d.key(),
        signer: d.key(),
    });
    let messages = many(&mut |d| Question::Voucher { channel_id: d.key(), cumulative: Amount::new(d.up_to_bits(64)) });
    let signatures =
        many(&mut |d| Question::Sign { seed: d.key(), channel_id: d.key(), cumulative: Amount::new(d.up_to_bits(64)) });
    let verified = many(&mut |d| Question::Verify(voucher(d)));
    let aggregates = many(&mut |d| Question::Aggregate { vouchers: (0..=d.byte() % 24).map(|_| voucher(d)).collect() });
    let claims = many(&mut |d| Question::Claim {
        scalar: d.key(),
        rows: (0..=d.byte() % 24)
            .map(|slot| ClaimRow { slot, cumulative: Amount::new(d.up_to_bits(48)), nonce: d.key() })
            .collect(),
    });
    let below = many(&mut |d| Question::ClaimBelow { scalar: d.key(), rows: below_rows(d) });
    let books = many(&mut |d| Question::BookAddress {
        program_id: d.key(),
        payee: d.key(),
        mint: d.key(),
        book_id: u16::from(d.byte()),
    });
    let pages = many(&mut |d| Question::PageAddress {
        program_id: d.key(),
        book: d.key(),
        index: u32::try_from(d.up_to_bits(32)).unwrap_or(u32::MAX),
    });
    let accounts = many(&mut |d| Question::TokenAddress { owner: d.key(), token_program: d.key(), mint: d.key() });
    vec![
        Case::new("pageDomain: by the seed", "§3", "the domain").ask_all(domains),
        Case::new("channelId: by the seed", "§3", "the id").ask_all(ids),
        Case::new("voucher: by the seed, all 64 bits", "§3", "the 43 bytes").ask_all(messages),
        Case::new("sign: by the seed", "§3", "the signature").ask_all(signatures),
        Case::new("verify: by the seed", "§3", "true").ask_all(verified),
        Case::new("aggregate: by the seed, 1 to 24 rows", "§4", "the scalar").ask_all(aggregates),
        Case::new("claim: by the seed", "§4", "05, scalar, rows of 39 bytes").ask_all(claims),
        Case::new("claimBelow: by the seed", "§4", "06, scalar, rows of 45 bytes").ask_all(below),
        Case::new("bookAddress: by the seed", "§2", "the canonical bump's address").ask_all(books),
        Case::new("pageAddress: by the seed", "§2", "the canonical bump's address").ask_all(pages),
        Case::new("tokenAddress: by the seed", "§2", "the associated token account").ask_all(accounts),
    ]
}

fn below_rows(dice: &mut Dice) -> Vec<ClaimBelowRow> {
    let rows = (0..=dice.byte() % 24).map(|slot| {
        let (a, b) = (Amount::new(dice.up_to_bits(48)), Amount::new(dice.up_to_bits(48)));
        ClaimBelowRow { slot, signed: a.max(b), amount: a.min(b), nonce: dice.key() }
    });
    rows.collect()
}

/// What no claim may say.
pub(super) fn impossible_claims(dice: &mut Dice) -> Vec<Case> {
    let nonce = dice.key();
    let row = |cumulative| ClaimRow { slot: 0, cumulative, nonce };
    let claim = |rows| Question::Claim { scalar: nonce, rows };
    let below = |signed, amount| Question::ClaimBelow {
        scalar: nonce,
        rows: vec![ClaimBelowRow { slot: 0, signed, amount, nonce }],
    };
    let (one, limit) = (Amount::new(1), Amount::DEPOSIT_LIMIT);
    vec![
        Case::new("claim: 2^48 and above", "§4", "null: a row has 48 bits")
            .ask(claim(vec![row(limit)]), Value::Null)
            .ask(claim(vec![row(Amount::MAX_DEPOSIT), row(Amount::new(u64::MAX))]), Value::Null),
        Case::new("claim: no row, and 97", "§4", "null: 1 to 96 rows")
            .ask(claim(Vec::new()), Value::Null)
            .ask(claim(vec![row(one); 97]), Value::Null),
        Case::new("claim: 96 rows, of the largest amount", "§4", "3,777 bytes").ask_all([claim(vec![
            row(
                Amount::MAX_DEPOSIT
            );
            96
        ])]),
        Case::new("claimBelow: more than was signed", "§4", "null: amount ≤ signed")
            .ask(below(one, Amount::new(2)), Value::Null),
        Case::new("claimBelow: 2^48 and above", "§4", "null: a row has 48 bits").ask(below(limit, one), Value::Null),
        Case::new("claimBelow: exactly what was signed, and nothing", "§4", "06, scalar, row")
            .ask_all([below(one, one), below(one, Amount::ZERO)]),
    ]
}

/// Signatures that must not be taken for what they are not.
pub(super) fn forgeries(dice: &mut Dice) -> Vec<Case> {
    let good = voucher(dice);
    let refused = |name, forged: Vec<Signed>| {
        forged
            .into_iter()
            .fold(Case::new(name, "§3", "false"), |case, forged| case.ask(Question::Verify(forged), false))
    };
    let flipped = |at: usize| {
        let mut signature = good.signature;
        if let Some(byte) = signature.0.get_mut(at) {
            *byte ^= 1;
        }
        Signed { signature, ..good }
    };
    let more = Amount::new(good.cumulative.get().wrapping_add(1));
    vec![
        refused("verify: another amount", vec![Signed { cumulative: more, ..good }]),
        refused("verify: another channel", vec![Signed { channel_id: dice.key(), ..good }]),
        refused("verify: another signer", vec![Signed { signer: voucher(dice).signer, ..good }]),
        refused("verify: a bit flipped in R, in s", vec![flipped(0), flipped(31), flipped(32), flipped(62)]),
        refused("verify: s + L, the same number written otherwise", vec![with_order_added(good)]),
        refused("verify: zeros", vec![Signed { signature: Hex([0; 64]), ..good }]),
    ]
}

/// L, the order of the group.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A signature whose scalar is the same modulo L, and not below it.
pub(in crate::conform) fn malleated(signature: [u8; 64]) -> [u8; 64] {
    let mut malleable = signature;
    let mut carry = 0u16;
    for (byte, order) in malleable.iter_mut().skip(32).zip(ORDER) {
        let sum = u16::from(*byte).saturating_add(u16::from(order)).saturating_add(carry);
        let [low, high] = sum.to_le_bytes();
        *byte = low;
        carry = u16::from(high);
    }
    malleable
}

fn with_order_added(signed: Signed) -> Signed {
    Signed { signature: Hex(malleated(signed.signature.0)), ..signed }
}

/// What plain verifications take, and nobody may who keeps a ledger: anybody can sign for these keys. Made by an implementation
/// of the curve's arithmetic in another language: key, signature.
const LAX: [(&str, &str, &str); 2] = [
    (
        "accept: a key of small order",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "0dc3a8bf5e00a7d89fefee553f188185883282b0040104ffd915864b979a4e0834c630d51bab523d055e5de5eb147dfab04470fdd534f14d00d267922d0ade02",
    ),
    (
        "accept: a key of small order, not canonical",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "d93ec7d1df591d7a4259e946719ef28ab714965f1b56d6b844b73a5aeb7906831fc630d51bab523d055e5de5eb147dfab04470fdd534f14d00d267922d0ade02",
    ),
];
/// An ordinary key's good signature over the same voucher.
const STRICT: (&str, &str) = (
    "8970943593ad9bb961a6c5405a6cdb5df77ef277390a634b908bfa3f66bef2f5",
    "d93ec7d1df591d7a4259e946719ef28ab714965f1b56d6b844b73a5aeb79068322c9734b9bc16dfcbadb6caab119226d99c3cc96b53eb9d43d2b7c37d682d70d",
);
/// The channel that they are over, with a cumulative amount of 1000.
const CHANNEL: &str = "528eab6446604c9052c51c2b79e0c52e4815051b0ea2e467579e98c7452ee563";

/// What must hold of whoever accepts vouchers off chain.
pub(super) fn strictness(dice: &mut Dice) -> Result<Vec<Case>> {
    let signed = |signer: &str, signature: &str| -> Result<Question> {
        Ok(Question::Accept(Signed {
            signer: from_hex(signer).map(Hex).context("a key")?,
            channel_id: from_hex(CHANNEL).map(Hex).context("a channel")?,
            cumulative: Amount::new(1_000),
            signature: from_hex(signature).map(Hex).context("a signature")?,
        }))
    };
    let good = voucher(dice);
    let mut cases = vec![
        Case::new("accept: good vouchers", "§4", "true")
            .ask(Question::Accept(good), true)
            .ask(signed(STRICT.0, STRICT.1)?, true),
        Case::new("accept: s + L", "§4", "false: canonical scalars only")
            .ask(Question::Accept(with_order_added(good)), false),
    ];
    for (name, signer, signature) in LAX {
        let case = Case::new(name, "§4", "false: no key of small order");
        cases.push(case.ask(signed(signer, signature)?, false));
    }
    Ok(cases)
}
