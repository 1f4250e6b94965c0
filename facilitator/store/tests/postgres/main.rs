//! What only a store in PostgreSQL can do, and what can happen to it, with a real server.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod faults;
mod moving;
mod nodes;
mod opening;
mod proxy;
#[path = "../server/mod.rs"]
mod server;

use server::Server;
use std::time::Duration;
use tallybook_ledger::{Attempt, Batch, BatchRecord, Change, ChannelRecord, ClaimRow, Expense, Place, Purpose};
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_store::{PostgresFailure, PostgresStore, StoreFailure};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

/// The record of a channel; its signature is none, which nothing here asks for.
fn record(channel: u8, cumulative: u64) -> ChannelRecord {
    ChannelRecord {
        place: Place { page: [9; 32], slot: channel, generation: 7 },
        payer: [channel; 32],
        signer: key().verifying_key().to_bytes(),
        voucher: SignedVoucher { channel_id: [channel; 32], cumulative: Amount::new(cumulative), signature: [6; 64] },
        charged: Amount::new(cumulative),
        last: None,
        unsettled_since: 77,
        leaving_since: 0,
    }
}

fn batch(id: u64, channel: u8) -> BatchRecord {
    let row = ClaimRow {
        slot: channel,
        voucher: SignedVoucher::sign(&key(), [channel; 32], Amount::new(100))
            .verify(key().verifying_key().as_bytes())
            .unwrap(),
        amount: Amount::new(90),
        settled: Amount::new(40),
        deposit: Amount::new(1_000),
    };
    BatchRecord::planned(id, &Batch::new([9; 32], vec![row]).unwrap(), 1_000).unwrap()
}

fn sending(purpose: Purpose, number: u8) -> Change {
    let attempt = Attempt { signature: [number; 64], last_valid_block_height: u64::from(number) };
    Change::Sending { purpose, attempt }
}

fn spent(signature: u8, lamports: u64) -> Change {
    Change::Spent { signature: [signature; 64], book: [1; 32], expense: Expense::Deposits, lamports, at: 100 }
}

/// Opens without waiting.
fn open(url: &str) -> Result<PostgresStore, PostgresFailure> {
    open_within(url, Duration::ZERO)
}

fn open_within(url: &str, patience: Duration) -> Result<PostgresStore, PostgresFailure> {
    PostgresStore::open(&url.parse()?, patience).map_err(|failure| {
        let StoreFailure::Postgres(failure) = failure else { panic!("{failure}") };
        failure
    })
}

fn refusal(url: &str) -> PostgresFailure {
    match open(url) {
        Ok(_) => panic!("{url} was opened"),
        Err(failure) => failure,
    }
}

/// An empty database of the server of all tests.
fn database() -> (&'static Server, String) {
    (Server::shared(), Server::shared().database())
}
