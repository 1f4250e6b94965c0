//! What a claim with its payout costs on a chain, beside the same in the layout of the payment-channels program, and what a
//! whole life of a channel costs.
//!
//! `cargo bench --profile dev --bench settlement`. Nothing here depends on the machine: bytes, compute units and lamports are the same
//! in every run. With `-- --quick` only the smallest and the largest batches are measured, with `TALLYBOOK_REPORT=DIR` all is
//! written to `DIR/settlement.json` too.

#![allow(
    clippy::unwrap_used,
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench measures and prints; no money is in it"
)]

use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::AddressLookupTableAccount;
use solana_signer::Signer;
use tallybook_benches::settlement::peer::{self, Profile};
use tallybook_benches::settlement::world::{
    CHANNELS, Chain, MAX_V1_BYTES, Sized, TALLYBOOK, TOKEN_2022_PROGRAM, World, token_name,
};
use tallybook_benches::settlement::{Batch, Closing, Life, PeerBatch, Ratios, Settlement, Table, Taken, per};
use tallybook_chain::address::TOKEN_PROGRAM;
use tallybook_chain::instruction::RefundRow;
use tallybook_chain::transaction::{MAX_TRANSACTION_BYTES, compute_unit_limit, compute_unit_price};

const CHAIN: &str = "LiteSVM with mainnet's features and transactions of version 1: lamports are taken from balances, and a \
                     precompile's signature is charged as on mainnet";
const V0: &str = "v0 with lookup table";
const V1: &str = "v1";
/// Claims, legs and token of each batch; the first three fit into version 0.
const BATCHES: [(u8, u8, Address); 6] = [
    (1, 1, TOKEN_PROGRAM),
    (8, 1, TOKEN_PROGRAM),
    (23, 1, TOKEN_PROGRAM),
    (50, 1, TOKEN_PROGRAM),
    (90, 1, TOKEN_PROGRAM),
    (94, 1, TOKEN_PROGRAM),
];
/// With Token-2022, and with five recipients.
const VARIANTS: [(u8, u8, Address); 4] =
    [(23, 1, TOKEN_2022_PROGRAM), (94, 1, TOKEN_2022_PROGRAM), (23, 5, TOKEN_PROGRAM), (90, 5, TOKEN_PROGRAM)];
/// What one voucher is worth.
const CUMULATIVE: u64 = 1_000;
/// How many claims a transaction of version 0 holds.
const V0_CLAIMS: u8 = 23;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let mut tables = Vec::new();
    let (mut batches, mut opening) = (Vec::new(), Taken::default());
    let chosen: Vec<_> =
        if quick { vec![BATCHES[0], BATCHES[2], BATCHES[5]] } else { [&BATCHES[..], &VARIANTS].concat() };
    for (claims, legs, token) in chosen {
        let (batch, opened) = batch(claims, legs, token, &mut tables);
        (opening, batches) = (opened, [batches, vec![batch]].concat());
    }
    let peer = peer_batches(&mut tables);
    let (closing, one_close) = closing();
    let lives = lives(opening, &batches, &closing, one_close);
    let report = Settlement {
        ratios: ratios(&batches, &peer, &lives),
        chain: CHAIN.to_owned(),
        batches,
        peer,
        tables,
        closing,
        lives,
    };
    print(&report);
    if let Some(folder) = std::env::var_os("TALLYBOOK_REPORT") {
        let path = std::path::Path::new(&folder).join("settlement.json");
        std::fs::write(path, serde_json::to_string_pretty(&report).unwrap()).unwrap();
    }
}

/// Claims and pays out `claims` vouchers; says what it took, and what the opening of a channel took before.
fn batch(claims: u8, legs: u8, token: Address, tables: &mut Vec<Table>) -> (Batch, Taken) {
    let mut world = World::new(token, legs);
    let instructions = [world.claim(claims, CUMULATIVE), world.payout()];
    let (sized, format) = if claims <= V0_CLAIMS {
        let (table, made) = our_table(&mut world);
        if tables.is_empty() {
            tables.push(made);
        }
        (v0(&mut world.chain, &instructions, &table, &[]), V0)
    } else {
        (world.chain.v1(&instructions, &[]), V1)
    };
    assert!(sized.bytes <= if format == V0 { MAX_TRANSACTION_BYTES } else { MAX_V1_BYTES });
    let held = world.held();
    let taken = world.chain.send(sized);
    let tokens_moved = held - world.held();
    assert_eq!(tokens_moved, u64::from(claims) * CUMULATIVE, "all that was claimed is paid out");
    let token = token_name(&token).to_owned();
    (
        Batch { claims: claims.into(), format: format.to_owned(), token, legs: legs.into(), taken, tokens_moved },
        world.opening,
    )
}

/// A transaction of version 0 with a compute limit and a price (of nothing, so that what it takes is the base fee).
fn v0(
    chain: &mut Chain,
    instructions: &[Instruction],
    table: &AddressLookupTableAccount,
    signers: &[&Keypair],
) -> Sized {
    let head = [compute_unit_limit(1_400_000), compute_unit_price(0)];
    chain.v0(&[&head, instructions].concat(), table, signers)
}

/// The page's lookup table, and what it took.
fn our_table(world: &mut World) -> (AddressLookupTableAccount, Table) {
    let addresses = world.shared_addresses();
    let (table, fees, refundable_rent) = world.chain.table(&addresses);
    let (owner, addresses) = ("Tallybook, a page".to_owned(), addresses.len().try_into().unwrap());
    (table, Table { owner, channels: CHANNELS.into(), addresses, fees, refundable_rent })
}

/// The payment-channels layout, packed as its specification does and as well as it can be.
fn peer_batches(tables: &mut Vec<Table>) -> Vec<PeerBatch> {
    let mut batches = Vec::new();
    let mut chain = Chain::default();
    let taken = peer::by_specification(&mut chain, 4);
    let packing = "x402 specification: 4 settled in one legacy transaction, 4 paid out in another";
    batches.push(peer_batch(4, packing, Profile::X402, &taken));
    for (channels, profile, packing) in [
        (4, Profile::X402, "one v0 transaction, x402 profile, every account in a lookup table"),
        (
            5,
            Profile::Direct,
            "at best: one v0 transaction, merchant as payee, every account in a lookup table, no compute limit",
        ),
    ] {
        let mut chain = Chain::default();
        let addresses = peer::addresses(peer::TABLE_CHANNELS, profile);
        let (table, fees, refundable_rent) = chain.table(&addresses);
        tables.push(Table {
            owner: format!("payment-channels, profile {profile:?}, a full table"),
            channels: peer::TABLE_CHANNELS.into(),
            addresses: addresses.len().try_into().unwrap(),
            fees,
            refundable_rent,
        });
        let sized = peer::in_v0(&mut chain, channels, profile, &table);
        assert!(sized.bytes <= MAX_TRANSACTION_BYTES, "{packing}");
        batches.push(peer_batch(channels, packing, profile, &[chain.send(sized)]));
    }
    let mut chain = Chain::default();
    let instructions = peer::together(&chain, 8, Profile::Direct);
    let sized = chain.v1(&instructions, &[]);
    assert!(sized.bytes <= MAX_V1_BYTES);
    let packing = "one v1 transaction, merchant as payee; leaders take at most 8 signatures for precompiles";
    batches.push(peer_batch(8, packing, Profile::Direct, &[chain.send(sized)]));
    batches
}

fn peer_batch(channels: u8, packing: &str, profile: Profile, taken: &[Taken]) -> PeerBatch {
    let distribute = if profile == Profile::X402 { peer::DISTRIBUTE_UNITS } else { peer::DIRECT_DISTRIBUTE_UNITS };
    PeerBatch {
        channels: channels.into(),
        packing: packing.to_owned(),
        bytes: taken.iter().map(|taken| taken.bytes).collect(),
        lamports: taken.iter().map(|taken| taken.lamports).sum(),
        quoted_compute_units: u64::from(channels) * (peer::SETTLE_UNITS + distribute),
    }
}

/// As many refunds, and as many withdrawals, as fit into one transaction; and what it takes to claim, pay out and close one
/// channel in a transaction of its own.
fn closing() -> (Vec<Closing>, Taken) {
    let mut closing = Vec::new();
    for (name, format) in [("refund", V0), ("refund", V1), ("withdraw", V0), ("withdraw", V1)] {
        let mut world = World::new(TOKEN_PROGRAM, 1);
        let (table, _) = our_table(&mut world);
        if name == "withdraw" {
            world.leave();
        }
        let build = |world: &mut World, channels: usize| {
            let (instruction, operator) = close(world, name, channels);
            let signers: Vec<_> = operator.iter().collect();
            if format == V0 {
                v0(&mut world.chain, &[instruction], &table, &signers)
            } else {
                world.chain.v1(&[instruction], &signers)
            }
        };
        let most_bytes = if format == V0 { MAX_TRANSACTION_BYTES } else { MAX_V1_BYTES };
        let fits = |world: &mut World, channels: &usize| {
            let sized = build(world, *channels);
            world.chain.takes(&sized, most_bytes)
        };
        let channels = (1..=usize::from(CHANNELS)).rev().find(|channels| fits(&mut world, channels)).unwrap();
        let (sized, held) = (build(&mut world, channels), world.held());
        let taken = world.chain.send(sized);
        closing.push(Closing {
            instruction: name.to_owned(),
            format: format.to_owned(),
            channels: channels.try_into().unwrap(),
            taken,
            tokens_moved: held - world.held(),
        });
    }
    let mut world = World::new(TOKEN_PROGRAM, 1);
    let (refund, operator) = close(&world, "refund", 1);
    let instructions = [world.claim(1, CUMULATIVE), world.payout(), refund];
    let sized = world.chain.legacy(&instructions, &operator.iter().collect::<Vec<_>>());
    (closing, world.chain.send(sized))
}

/// Closes the first `channels`, and says who has to sign for it.
fn close(world: &World, name: &str, channels: usize) -> (Instruction, Option<Keypair>) {
    let (book, leaving) = (world.book(), &world.channels[..channels]);
    if name == "refund" {
        let rows: Vec<_> = leaving
            .iter()
            .map(|channel| (RefundRow { slot: channel.slot, generation: 1, keep: 0 }, channel.payer.pubkey()))
            .collect();
        let operator = world.operator.insecure_clone();
        (TALLYBOOK.refund(&book, &world.page, &operator.pubkey(), &rows), Some(operator))
    } else {
        let rows: Vec<_> = leaving.iter().map(|channel| (channel.slot, channel.payer.pubkey())).collect();
        (TALLYBOOK.withdraw(&book, &world.page, &rows), None)
    }
}

/// Whole lives, with one settlement each.
fn lives(opening: Taken, batches: &[Batch], closing: &[Closing], one_close: Taken) -> Vec<Life> {
    let settled = |claims: u64| batches.iter().find(|batch| batch.claims == claims).unwrap().lamports_per_claim();
    let in_bulk = |format: &str| {
        let bulk = closing.iter().find(|bulk| bulk.instruction == "refund" && bulk.format == format).unwrap();
        per(bulk.taken.lamports, bulk.channels)
    };
    let ours = |name: &str, settle: f64, close: f64| {
        let open = per(opening.lamports, 1);
        Life { name: name.to_owned(), open, settle, close, total: open + settle + close, measured_here: true }
    };
    let theirs = |name: &str, [open, settle, close, reclaim]: [u64; 4]| {
        let [open, settle, close] = [open, settle, close + reclaim].map(|lamports| per(lamports, 1));
        Life { name: name.to_owned(), open, settle, close, total: open + settle + close, measured_here: false }
    };
    vec![
        ours("Tallybook: settled among 23 in v0, closed alone", settled(23), per(one_close.lamports, 1)),
        ours("Tallybook: settled by its close alone", 0.0, per(one_close.lamports, 1)),
        ours("Tallybook: settled among 23 and closed in bulk, in v0", settled(23), in_bulk(V0)),
        ours("Tallybook: settled among 94 and closed in bulk, in v1", settled(94), in_bulk(V1)),
        theirs("payment-channels: x402 specification", peer::LIFE_BY_SPECIFICATION),
        theirs("payment-channels: at best, settled by its close alone", peer::LIFE_AT_BEST),
    ]
}

fn ratios(batches: &[Batch], peer: &[PeerBatch], lives: &[Life]) -> Ratios {
    let ours = |claims: u64| batches.iter().find(|batch| batch.claims == claims).unwrap().lamports_per_claim();
    let (specified, best) = (peer[0].lamports_per_channel(), peer[2].lamports_per_channel());
    Ratios {
        peer_by_specification_to_ours_of_23: specified / ours(23),
        peer_at_best_to_ours_of_23: best / ours(23),
        peer_by_specification_to_ours_of_94: specified / ours(94),
        peer_at_best_to_ours_of_94: best / ours(94),
        peer_life_to_ours: lives[4].total / lives[0].total,
        peer_life_at_best_to_ours_at_best: lives[5].total / lives[3].total,
    }
}

fn print(report: &Settlement) {
    println!("{}\n", report.chain);
    println!("Claim and payout in one transaction, with compute limit and price:\n");
    println!(
        "| claims | format | token | legs | bytes | compute units | per claim | lamports | per claim | tokens moved |"
    );
    println!("|---:|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for Batch { claims, format, token, legs, taken, tokens_moved } in &report.batches {
        let Taken { bytes, compute_units, lamports } = taken;
        println!(
            "| {claims} | {format} | {token} | {legs} | {bytes} | {compute_units} | {:.0} | {lamports} | {:.1} | {tokens_moved} |",
            per(*compute_units, *claims),
            per(*lamports, *claims),
        );
    }
    println!("\nThe layout of the payment-channels program, its compute units quoted:\n");
    println!("| channels | packing | bytes | compute units, quoted | lamports | per channel |");
    println!("|---:|---|---|---:|---:|---:|");
    for batch in &report.peer {
        let PeerBatch { channels, packing, bytes, lamports, quoted_compute_units } = batch;
        let each = batch.lamports_per_channel();
        println!("| {channels} | {packing} | {bytes:?} | {quoted_compute_units} | {lamports} | {each:.1} |");
    }
    println!("\nLookup tables, once; the rent comes back when the table is closed:\n");
    println!("| whose | channels | addresses | fees | per channel | refundable rent | per channel |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for Table { owner, channels, addresses, fees, refundable_rent } in &report.tables {
        let (fee, rent) = (per(*fees, *channels), per(*refundable_rent, *channels));
        println!("| {owner} | {channels} | {addresses} | {fees} | {fee:.1} | {refundable_rent} | {rent:.0} |");
    }
    println!("\nClosing in bulk, all that fit into one transaction:\n");
    println!(
        "| instruction | format | channels | bytes | compute units | per channel | lamports | per channel | tokens moved |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for Closing { instruction, format, channels, taken, tokens_moved } in &report.closing {
        let Taken { bytes, compute_units, lamports } = taken;
        let (units, fee) = (per(*compute_units, *channels), per(*lamports, *channels));
        println!(
            "| {instruction} | {format} | {channels} | {bytes} | {compute_units} | {units:.0} | {lamports} | {fee:.1} | {tokens_moved} |"
        );
    }
    println!("\nA whole life with one settlement, fees in lamports:\n");
    println!("| | open | settle | close | in all | |");
    println!("|---|---:|---:|---:|---:|---|");
    for Life { name, open, settle, close, total, measured_here } in &report.lives {
        let from = if *measured_here { "measured" } else { "quoted" };
        println!("| {name} | {open:.0} | {settle:.1} | {close:.1} | {total:.0} | {from} |");
    }
    println!("\n{:#?}", report.ratios);
}
