//! What it costs to make vouchers durable: SQLite beside PostgreSQL, and PostgreSQL with one statement for all vouchers of a
//! commit beside a statement for each. Both are on this machine's disk and sync every commit; PostgreSQL is reached over
//! loopback, as a server on another machine is over a longer way.
#![allow(
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement"
)]

#[path = "../../facilitator/store/tests/server/mod.rs"]
mod server;

use server::Server;
use std::time::{Duration, Instant};
use tallybook_ledger::{Change, ChannelRecord, LastCall, Place};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_store::{PostgresStore, SqliteStore, VoucherStore};

/// Channels that pay.
const CHANNELS: u64 = 4_096;
/// How long each is measured.
const TIME: Duration = Duration::from_secs(3);

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    let mut file = SqliteStore::open(&folder.path().join("vouchers.db")).unwrap();
    let url = server.database();
    let mut database = PostgresStore::open(&url.parse().unwrap(), Duration::ZERO).unwrap();
    println!("PostgreSQL {}, {CHANNELS} channels, every commit synced\n", database.version());
    println!("vouchers a commit | SQLite/s | PostgreSQL/s | ratio | a statement each/s | ratio");
    let mut each = Each::open(server.database());
    let mut round = 0;
    for group in [1usize, 16, 64, 256, 1_024] {
        // Warm: all channels are there.
        let mut rates = [0.0; 3];
        let mut measure = |commit: &mut dyn FnMut(&[Change])| {
            let (began, mut vouchers) = (Instant::now(), 0usize);
            while began.elapsed() < TIME {
                round += 1;
                for changes in changes(round).chunks(group) {
                    commit(changes);
                    vouchers += changes.len();
                    if began.elapsed() > TIME {
                        break;
                    }
                }
            }
            vouchers as f64 / began.elapsed().as_secs_f64()
        };
        rates[0] = measure(&mut |changes| file.commit(changes).unwrap());
        rates[1] = measure(&mut |changes| database.commit(changes).unwrap());
        rates[2] = measure(&mut |changes| each.commit(changes));
        let [sqlite, postgres, one_by_one] = rates;
        println!(
            "{group:>17} | {sqlite:>8.0} | {postgres:>12.0} | {:>5.2} | {one_by_one:>18.0} | {:>5.2}",
            postgres / sqlite,
            postgres / one_by_one
        );
    }
}

/// One more voucher of each channel.
fn changes(round: u64) -> Vec<Change> {
    let record = |number: u64| {
        let mut channel_id = [7; 32];
        // Spread as the hashes that channel ids are.
        channel_id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let cumulative = Amount::new(round);
        let signature = [round.to_le_bytes()[0]; 64];
        Change::Channel(ChannelRecord {
            place: Place { page: [9; 32], slot: 3, generation: 1 },
            payer: [1; 32],
            signer: [2; 32],
            voucher: SignedVoucher { channel_id, cumulative, signature },
            charged: cumulative,
            last: Some(LastCall { cumulative, signature, charge: Some(Amount::new(1)) }),
            unsettled_since: 77,
            leaving_since: 0,
        })
    };
    (0..CHANNELS).map(record).collect()
}

/// The same rows in the same tables, by one statement after the other in a transaction.
struct Each {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
    statement: tokio_postgres::Statement,
}

impl Each {
    fn open(url: String) -> Self {
        // Makes the tables.
        drop(PostgresStore::open(&url.parse().unwrap(), Duration::ZERO).unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (client, statement) = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("SET search_path = tallybook; SET synchronous_commit = on").await.unwrap();
            let sql = "INSERT INTO channel (channel_id, page, slot, generation, payer, signer, cumulative, signature, charged,
                                            unsettled_since, leaving_since, last_cumulative, last_signature, last_charge)
                       VALUES ($1, $2, 3, 1, $3, $4, $5, $6, $5, 77, 0, $5, $6, 1)
                       ON CONFLICT (channel_id) DO UPDATE SET
                           cumulative = excluded.cumulative, signature = excluded.signature, charged = excluded.charged,
                           last_cumulative = excluded.last_cumulative, last_signature = excluded.last_signature,
                           last_charge = excluded.last_charge";
            let statement = client.prepare(sql).await.unwrap();
            (client, statement)
        });
        Self { runtime, client, statement }
    }

    fn commit(&mut self, changes: &[Change]) {
        self.runtime.block_on(async {
            let transaction = self.client.transaction().await.unwrap();
            for change in changes {
                let Change::Channel(record) = change else { continue };
                let cumulative = i64::try_from(record.voucher.cumulative.get()).unwrap();
                let ChannelRecord { place, payer, signer, voucher, .. } = record;
                transaction
                    .execute(
                        &self.statement,
                        &[
                            &voucher.channel_id.as_slice(),
                            &place.page.as_slice(),
                            &payer.as_slice(),
                            &signer.as_slice(),
                            &cumulative,
                            &voucher.signature.as_slice(),
                        ],
                    )
                    .await
                    .unwrap();
            }
            transaction.commit().await.unwrap();
        });
    }
}
