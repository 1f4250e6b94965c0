//! What settling costs: tables and plots.

use super::plot::{Bar, Scale, bars, number};
use crate::settlement::{Batch, PeerBatch, Settlement, Table, per};
use std::path::Path;

/// Calls of a channel between two claims of it.
const CALLS: [u64; 3] = [10, 100, 1_000];
/// What a transaction for each call costs, as x402's `exact` on Solana has it: client and fee payer sign, 5,000 lamports each.
const EXACT_LAMPORTS: f64 = 10_000.0;

/// The figures that others are compared with.
pub(super) struct Compared<'a> {
    /// The largest batch of version 0.
    pub(super) v0: &'a Batch,
    /// The largest batch of version 1.
    pub(super) v1: &'a Batch,
    /// The peer's dearest packing: that of the x402 specification.
    pub(super) peer: &'a PeerBatch,
    /// Its cheapest.
    pub(super) peer_at_best: &'a PeerBatch,
}

impl<'a> Compared<'a> {
    /// Of one leg, in SPL tokens.
    pub(super) fn of(settlement: &'a Settlement) -> Self {
        let plain = |format: &'static str| {
            let batches = settlement.batches.iter().filter(move |batch| batch.format.starts_with(format));
            batches.filter(|batch| batch.legs == 1 && !batch.token.contains("2022")).max_by_key(|batch| batch.claims)
        };
        let dear =
            |one: &&PeerBatch, other: &&PeerBatch| one.lamports_per_channel().total_cmp(&other.lamports_per_channel());
        Self {
            v0: plain("v0").unwrap(),
            v1: plain("v1").unwrap(),
            peer: settlement.peer.iter().max_by(dear).unwrap(),
            peer_at_best: settlement.peer.iter().min_by(dear).unwrap(),
        }
    }

    /// (name, lamports for each channel that is settled, ours)
    fn rows(&self) -> [(String, f64, bool); 4] {
        [
            (format!("Tallybook, v1, {} claims", self.v1.claims), self.v1.lamports_per_claim(), true),
            (format!("Tallybook, v0, {} claims", self.v0.claims), self.v0.lamports_per_claim(), true),
            (self.peer_at_best.name(), self.peer_at_best.lamports_per_channel(), false),
            (self.peer.name(), self.peer.lamports_per_channel(), false),
        ]
    }
}

impl PeerBatch {
    fn name(&self) -> String {
        format!("payment channels, {}", self.packing)
    }

    /// Channels that one transaction settles; their payout takes another.
    fn settled_by_one(&self) -> f64 {
        per(self.channels, 1)
    }
}

/// Claims in a transaction, and lamports for each.
pub(super) fn plots(settlement: &Settlement, folder: &Path) {
    let compared = Compared::of(settlement);
    let claims = [
        Bar::ours("Tallybook, v1, 4,096 bytes", per(compared.v1.claims, 1), "payout included"),
        Bar::ours("Tallybook, v0, 1,232 bytes", per(compared.v0.claims, 1), "payout included"),
        Bar::theirs("payment channels, at best", compared.peer_at_best.settled_by_one(), "without payout"),
        Bar::theirs("payment channels, by the x402 spec", compared.peer.settled_by_one(), "without payout"),
    ];
    let claims = claims.map(|bar| Bar { shown: format!("{}, {}", number(bar.value), bar.shown), ..bar });
    bars(
        &folder.join("claims.svg"),
        "Channels of unrelated payers in one transaction",
        "channels",
        Scale::Linear,
        &claims,
    );
    let short = ["Tallybook, v1", "Tallybook, v0", "payment channels, at best", "payment channels, by the x402 spec"];
    let lamports = compared.rows().into_iter().zip(short).map(|((_, value, ours), label)| Bar {
        label: label.to_owned(),
        value,
        shown: number(value),
        ours,
    });
    let lamports: Vec<Bar> = lamports.collect();
    let title = "Lamports for a channel settled and paid out";
    bars(&folder.join("lamports.svg"), title, "lamports, logarithmic", Scale::Logarithmic, &lamports);
}

/// What a call costs, by calls for each claim.
pub(super) fn calls(settlement: &Settlement) -> String {
    let mut table = "| lamports a call, at | 10 calls a claim | 100 | 1,000 |\n|---|---:|---:|---:|\n".to_owned();
    for (name, lamports, ours) in Compared::of(settlement).rows() {
        let cells = CALLS.map(|calls| small(lamports / per(calls, 1)));
        let name = if ours { format!("**{name}**") } else { name };
        table.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    let exact = CALLS.map(|_| small(EXACT_LAMPORTS));
    table.push_str(&format!(
        "| a transaction for each call (`exact`; computed: two signatures) | {} |\n",
        exact.join(" | ")
    ));
    table
}

/// Batches, the peer's, and lookup tables.
pub(super) fn batches(settlement: &Settlement) -> String {
    let mut table =
        "| claims | transaction | token | legs | bytes | compute units | a further claim | lamports | a claim | \
                     base units moved |\n|---:|---|---|---:|---:|---:|---:|---:|---:|---:|\n"
            .to_owned();
    let mut before: Option<&Batch> = None;
    for batch in &settlement.batches {
        let like = before
            .filter(|before| (&before.format, &before.token, before.legs) == (&batch.format, &batch.token, batch.legs));
        let further = like.map_or_else(String::new, |before| {
            let (units, claims) =
                (batch.taken.compute_units - before.taken.compute_units, batch.claims - before.claims);
            number(per(units, claims).round())
        });
        let taken = &batch.taken;
        table.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {further} | {} | {:.1} | {} |\n",
            batch.claims,
            batch.format,
            batch.token,
            batch.legs,
            number(per(taken.bytes, 1)),
            number(per(taken.compute_units, 1)),
            number(per(taken.lamports, 1)),
            batch.lamports_per_claim(),
            number(per(batch.tokens_moved, 1)),
        ));
        before = Some(batch);
    }
    table
}

/// The same in the layout of the payment-channels program.
pub(super) fn peer(settlement: &Settlement) -> String {
    let mut table =
        "| channels | packing | bytes of each transaction | lamports | a channel | compute units, quoted |\n\
                     |---:|---|---|---:|---:|---:|\n"
            .to_owned();
    for batch in &settlement.peer {
        let bytes: Vec<String> = batch.bytes.iter().map(|bytes| number(per(*bytes, 1))).collect();
        table.push_str(&format!(
            "| {} | {} | {} | {} | {:.1} | {} |\n",
            batch.channels,
            batch.packing,
            bytes.join(" + "),
            number(per(batch.lamports, 1)),
            batch.lamports_per_channel(),
            number(per(batch.quoted_compute_units, 1)),
        ));
    }
    table
}

/// Lookup tables, closings and lives.
pub(super) fn rest(settlement: &Settlement) -> String {
    let mut text = "| lookup table of | serves channels | addresses | fees, lamports | rent, comes back |\n\
                    |---|---:|---:|---:|---:|\n"
        .to_owned();
    for Table { owner, channels, addresses, fees, refundable_rent } in &settlement.tables {
        let numbers = [*channels, *addresses, *fees, *refundable_rent].map(|one| number(per(one, 1)));
        text.push_str(&format!("| {owner} | {} |\n", numbers.join(" | ")));
    }
    text.push_str("\nChannels closed in bulk, as many as fit:\n\n");
    text.push_str("| instruction | transaction | channels | bytes | compute units | lamports | a channel |\n");
    text.push_str("|---|---|---:|---:|---:|---:|---:|\n");
    for closing in &settlement.closing {
        let taken = &closing.taken;
        text.push_str(&format!(
            "| `{}` | {} | {} | {} | {} | {} | {:.1} |\n",
            closing.instruction,
            closing.format,
            closing.channels,
            number(per(taken.bytes, 1)),
            number(per(taken.compute_units, 1)),
            number(per(taken.lamports, 1)),
            per(taken.lamports, closing.channels),
        ));
    }
    text.push_str("\nA whole life with one settlement, fees alone, in lamports a channel:\n\n");
    text.push_str("| | open | settle | close | in all | |\n|---|---:|---:|---:|---:|---|\n");
    for life in &settlement.lives {
        let numbers = [life.open, life.settle, life.close, life.total].map(number);
        let how = if life.measured_here { "measured here" } else { "quoted" };
        text.push_str(&format!("| {} | {} | {how} |\n", life.name, numbers.join(" | ")));
    }
    text
}

/// Lamports below ten with the digits that matter.
fn small(lamports: f64) -> String {
    if lamports < 10.0 { format!("{lamports:.2}") } else { number(lamports.round()) }
}
