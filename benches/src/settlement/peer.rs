//! The layout of the payment-channels program: for each channel one signature for the Ed25519 precompile, one small
//! instruction behind it, and a payout of its own.
//!
//! The precompile's instructions are real and are checked by the chain, as the payer's and the sponsor's signatures are, so that
//! sizes and fees are. The program itself is not here. In its place stands one that does nothing, with as many accounts and
//! bytes of data as the program's instructions have; what those compute is quoted.

use super::Taken;
use super::world::{Chain, Sized, key};
use solana_address::{Address, address};
use solana_instruction::{AccountMeta, Instruction};
use solana_message::AddressLookupTableAccount;
use solana_signer::Signer;
use tallybook_chain::transaction::MAX_TRANSACTION_BYTES;

/// Compute units of the program's `settle`, with the instruction for the precompile: measured of it, without a limit.
pub const SETTLE_UNITS: u64 = 368;
/// Of its `distribute` in the x402 profile: the median over many keys.
pub const DISTRIBUTE_UNITS: u64 = 13_466;
/// Of its `distribute` with the merchant itself as the payee: the median.
pub const DIRECT_DISTRIBUTE_UNITS: u64 = 11_659;
/// Lamports of a whole life with one settlement, as the x402 specification packs it: open, settle, close, reclaim.
pub const LIFE_BY_SPECIFICATION: [u64; 4] = [10_000, 7_500, 10_000, 179];
/// At best: the one settlement is that of the close.
pub const LIFE_AT_BEST: [u64; 4] = [10_000, 0, 10_000, 179];

/// Channels that a lookup table of 256 addresses serves.
pub const TABLE_CHANNELS: u8 = 62;

const ED25519: Address = address!("Ed25519SigVerify111111111111111111111111111");
const INSTRUCTIONS: Address = address!("Sysvar1nstructions1111111111111111111111111");
/// Takes any accounts, and any data that are text.
const STAND_IN: Address = address!("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo");
const VOUCHER_BYTES: usize = 50;

/// What every channel of one merchant shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// As x402 has it: the facilitator is the payee of record, and the merchant a recipient of all.
    X402,
    /// The merchant is the payee, and there are no recipients: the smallest `distribute`.
    Direct,
}

fn own(channel: u8, what: &str) -> Address {
    key(&format!("peer {channel} {what}")).pubkey()
}

fn shared(what: &str) -> Address {
    key(&format!("peer {what}")).pubkey()
}

/// The two instructions that settle a channel: a real signature over its voucher, and `settle` behind it.
#[must_use]
pub fn settle(channel: u8) -> [Instruction; 2] {
    let signer = key(&format!("peer {channel} signer"));
    let mut voucher = vec![0x56, 0x01];
    voucher.extend_from_slice(own(channel, "channel").as_ref());
    voucher.extend_from_slice(&1_000u64.to_le_bytes());
    voucher.extend_from_slice(&0i64.to_le_bytes());
    assert_eq!(voucher.len(), VOUCHER_BYTES);
    let mut data = vec![1, 0];
    // Signature, key and message: where each begins, how long the message is, and that all are in this instruction.
    for field in [48, u16::MAX, 16, u16::MAX, 112, 50, u16::MAX] {
        data.extend_from_slice(&field.to_le_bytes());
    }
    data.extend_from_slice(signer.pubkey().as_ref());
    data.extend_from_slice(signer.sign_message(&voucher).as_ref());
    data.extend_from_slice(&voucher);
    let accounts =
        vec![AccountMeta::new(own(channel, "channel"), false), AccountMeta::new_readonly(INSTRUCTIONS, false)];
    [
        Instruction { program_id: ED25519, accounts: Vec::new(), data },
        Instruction { program_id: STAND_IN, accounts, data: vec![2] },
    ]
}

/// The instruction that pays a channel's settled amount out.
#[must_use]
pub fn distribute(channel: u8, sponsor: &Address, profile: Profile) -> Instruction {
    let writable = |address: Address| AccountMeta::new(address, false);
    let readonly = |address: Address| AccountMeta::new_readonly(address, false);
    let mut accounts = vec![
        writable(own(channel, "channel")),
        writable(own(channel, "payer")),
        writable(*sponsor),
        writable(own(channel, "escrow")),
        writable(own(channel, "payer's account")),
        writable(shared("payee's account")),
        writable(shared("treasury")),
        readonly(shared("mint")),
        readonly(shared("token program")),
        readonly(shared("event authority")),
        readonly(STAND_IN),
    ];
    // How many recipients, and of each its key and basis points.
    let mut data = vec![7];
    if profile == Profile::X402 {
        accounts.push(writable(shared("recipient's account")));
        data.extend_from_slice(&1u32.to_le_bytes());
        data.extend_from_slice(&[b'r'; 32]);
        data.extend_from_slice(&10_000u16.to_le_bytes());
    } else {
        data.extend_from_slice(&0u32.to_le_bytes());
    }
    Instruction { program_id: STAND_IN, accounts, data }
}

/// All that a lookup table can hold for these channels: four addresses of each, and what they share.
#[must_use]
pub fn addresses(channels: u8, profile: Profile) -> Vec<Address> {
    let mut all = vec![INSTRUCTIONS];
    let shared_ones = ["payee's account", "treasury", "mint", "token program", "event authority"];
    all.extend(shared_ones.map(shared));
    if profile == Profile::X402 {
        all.push(shared("recipient's account"));
    }
    for channel in 0..channels {
        all.extend(["channel", "payer", "escrow", "payer's account"].map(|what| own(channel, what)));
    }
    all
}

/// As the specification packs it: one legacy transaction of settlements, then one of payouts.
pub fn by_specification(chain: &mut Chain, channels: u8) -> [Taken; 2] {
    let sponsor = chain.sponsor.pubkey();
    let settle: Vec<_> = (0..channels).flat_map(settle).collect();
    let pay: Vec<_> = (0..channels).map(|channel| distribute(channel, &sponsor, Profile::X402)).collect();
    [settle, pay].map(|instructions| {
        let sized = chain.legacy(&instructions, &[]);
        assert!(sized.bytes <= MAX_TRANSACTION_BYTES);
        chain.send(sized)
    })
}

/// Settlements each with its payout, all in one transaction.
#[must_use]
pub fn together(chain: &Chain, channels: u8, profile: Profile) -> Vec<Instruction> {
    let sponsor = chain.sponsor.pubkey();
    (0..channels)
        .flat_map(|channel| settle(channel).into_iter().chain([distribute(channel, &sponsor, profile)]))
        .collect()
}

/// [`together`] in version 0.
pub fn in_v0(chain: &mut Chain, channels: u8, profile: Profile, table: &AddressLookupTableAccount) -> Sized {
    let instructions = together(chain, channels, profile);
    chain.v0(&instructions, table, &[])
}
