//! What an operator does on a bad day, and on a day of changes, with real processes under load: a backup is put in the place of what
//! is lost, and a store of before is brought forward.

use super::process::{PATIENCE, POLL, Process, set_database};
use super::server::Server;
use super::{DEPOSIT, Load, PRICE, Result, Shop, ground, settle_and_leave};
use anyhow::{Context, ensure};
use serde_json::Value;
use solana_keypair::Keypair;
use solana_signer::Signer;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tallybook_agent::{Agent, Phase};
use tallybook_cli::demo::{Ground, Pace};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_cli::keys;
use tallybook_cli::progress::Progress;
use tallybook_facilitator::Database;
use tallybook_rules::Amount;
use tallybook_wire::{BackupView, Key};

/// Where vouchers are kept, how that is backed up, and how it is lost.
enum Place {
    File(PathBuf),
    Postgres { server: Server, url: String },
}

impl Place {
    fn database(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Postgres { url, .. } => url.clone(),
        }
    }

    /// Takes a backup of a facilitator at work.
    async fn back_up(&self, ground: &Ground, facilitator: &Process) -> Result<PathBuf> {
        match self {
            Self::File(_) => {
                let url = format!("{}/admin/backup", facilitator.url());
                let asked = reqwest::Client::new().post(url).bearer_auth(&ground.admin_token).send().await?;
                let copy: BackupView = asked.error_for_status()?.json().await?;
                let mode = fs::metadata(&copy.file)?.permissions().mode();
                ensure!(mode.trailing_zeros() >= 6, "others may read the backup: {mode:o}");
                Ok(copy.file.into())
            }
            Self::Postgres { server, url } => {
                let dump = ground.folder().join("vouchers.dump");
                run(server.program("pg_dump", url).args(["--format=custom", "--file"]).arg(&dump)).await?;
                Ok(dump)
            }
        }
    }

    /// All is lost, and the backup takes its place.
    async fn lose_and_restore(&mut self, backup: &Path) -> Result<()> {
        match self {
            Self::File(path) => {
                for ending in ["", "-wal", "-shm"] {
                    drop(fs::remove_file(format!("{}{ending}", path.display())));
                }
                fs::copy(backup, path)?;
            }
            Self::Postgres { server, url } => {
                let name = url.rsplit('/').next().context("a name")?.to_owned();
                server.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
                *url = server.database();
                run(server.program("pg_restore", url).arg("--exit-on-error").arg(backup)).await?;
            }
        }
        Ok(())
    }
}

async fn run(command: &mut Command) -> Result<()> {
    let ran = tokio::task::block_in_place(|| command.output())?;
    ensure!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    Ok(())
}

/// What each channel was charged, as it is stored.
async fn charges(database: String) -> Result<BTreeMap<Key, Amount>> {
    let read = move || -> Result<_> {
        let database: Database = database.parse().map_err(anyhow::Error::msg)?;
        let channels = database.open()?.load()?.channels;
        Ok(channels.into_iter().map(|record| (Key(record.voucher.channel_id), record.charged)).collect())
    };
    tokio::task::spawn_blocking(read).await?
}

/// Runs `tallybook` as somebody with SOL; says with which status it ended, and what it printed.
pub(crate) async fn tallybook(ground: &Ground, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let somebody = ground.folder().join("somebody.json");
    if !somebody.exists() {
        let wallet = Keypair::new();
        ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await?;
        keys::write(&somebody, &wallet)?;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallybook-to-run"));
    command
        .args(arguments)
        .arg("--json")
        .env("TALLYBOOK_KEYPAIR", somebody)
        .env("TALLYBOOK_RPC", ground.chain.rpc_url());
    let ran = tokio::task::spawn_blocking(move || command.output()).await??;
    let report = serde_json::from_slice(&ran.stdout);
    Ok((ran.status.code(), report.with_context(|| String::from_utf8_lossy(&ran.stderr).into_owned())?))
}

/// The kinds of differences that `tallybook reconcile` finds between a store that nobody holds and the chain.
async fn differences(ground: &Ground, place: &Place) -> Result<(Option<i32>, Vec<String>)> {
    let (status, report) = tallybook(ground, &["reconcile", &place.database()]).await?;
    let kinds = report["kinds"].as_object().context("no kinds")?.keys().cloned().collect();
    Ok((status, kinds))
}

/// A backup is older than what is lost, and that costs nobody anything.
async fn restored(ground: Ground, mut place: Place) -> Result<()> {
    // Given agents under way, and a backup that is taken beside them
    let backups = ground.folder().join("backups");
    fs::create_dir(&backups)?;
    let mut facilitator = Process::configured(&ground, |config| {
        let folder =
            if matches!(place, Place::File(_)) { format!("backup_folder = {backups:?}\n") } else { String::new() };
        set_database(&format!("{folder}{config}"), &place.database())
    })
    .await?;
    let shop = Shop::open(&ground.paywall(&facilitator.url())?, "$0.0005", 0).await?;
    let load = Load::begin(&ground, &shop.host()).await?;
    load.wait_for(200).await?;
    let backup = place.back_up(&ground, &facilitator).await?;
    load.wait_for(200).await?;

    // When everything is lost, the backup takes its place, and what the paywall has kept is claimed before anybody is served
    facilitator.kill()?;
    let lost = charges(place.database()).await?;
    place.lose_and_restore(&backup).await?;
    let kept = charges(place.database()).await?;
    ensure!(kept.values().sum_of()? < lost.values().sum_of()?, "the backup is not older than what was lost");
    let (vouchers, book) = (ground.vouchers().display().to_string(), ground.book.address.to_string());
    let (status, report) = tallybook(&ground, &["settle", &vouchers, "--book", &book]).await?;
    assert_eq!(status, Some(0), "{report}");
    facilitator.configure(|config| set_database(config, &place.database()))?;
    facilitator.start_again().await?;

    // Then agents go on by themselves, on the channels that they have, nothing is lost and nothing is paid twice
    load.wait_for(200).await?;
    let agents = load.end().await?;
    settle_and_leave(&ground, &facilitator, &agents).await?;
    // And each difference between store and chain has an explanation
    facilitator.kill()?;
    let (status, kinds) = differences(&ground, &place).await?;
    assert_eq!(status, Some(0), "{kinds:?}");
    Ok(())
}

trait Sum<'a>: Iterator<Item = &'a Amount> + Sized {
    fn sum_of(mut self) -> Result<Amount> {
        Ok(self.try_fold(Amount::ZERO, |sum, amount| sum.plus(*amount))?)
    }
}

impl<'a, I: Iterator<Item = &'a Amount>> Sum<'a> for I {}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_file_and_its_backup_when_the_disk_is_lost_under_load_then_nothing_is_lost_and_nothing_paid_twice()
-> Result<()> {
    let ground = ground().await?;
    let file = ground.folder().join("facilitator.sqlite");
    restored(ground, Place::File(file)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_database_and_its_dump_when_it_is_lost_under_load_then_nothing_is_lost_and_nothing_paid_twice()
-> Result<()> {
    let ground = ground().await?;
    let server = tokio::task::spawn_blocking(Server::start).await?;
    let url = server.database();
    restored(ground, Place::Postgres { server, url }).await
}

/// Makes so many calls, all of which are answered. No two are the same, or they would be answered alike.
async fn call(agent: &Agent, host: &str, numbers: Range<u64>) -> Result<()> {
    let client = reqwest::Client::new();
    for number in numbers {
        let request = client.post(format!("http://{host}/facts")).body(format!("call number {number}")).build()?;
        let answer = agent.execute(request).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn given_an_old_backup_that_serves_when_what_was_lost_is_settled_afterwards_then_agents_stay_on_their_channels()
-> Result<()> {
    // Given an agent that has paid eight calls of which nothing is settled yet, and a backup that knows of two
    let pace = Pace { slot: Duration::from_millis(50), settle_after_seconds: 600 };
    let ground = Ground::prepare(pace, Progress::Silent).await?;
    let (mut place, backups) =
        (Place::File(ground.folder().join("facilitator.sqlite")), ground.folder().join("backups"));
    fs::create_dir(&backups)?;
    let mut facilitator =
        Process::configured(&ground, |config| format!("backup_folder = {backups:?}\n{config}")).await?;
    let shop = Shop::open(&ground.paywall(&facilitator.url())?, "$0.0005", 0).await?;
    let (wallet, host) = (Keypair::new(), shop.host());
    ground.mint.fund(&ground.chain, &[wallet.pubkey()], LAMPORTS_PER_SOL / 100, DEPOSIT).await?;
    let agent = ground.agent(wallet, ground.policy(&host, PRICE, DEPOSIT))?;
    call(&agent, &host, 0..2).await?;
    let backup = place.back_up(&ground, &facilitator).await?;
    call(&agent, &host, 2..8).await?;
    let lost = ground.folder().join("lost.jsonl");
    fs::copy(ground.vouchers(), &lost)?;

    // When the backup serves three calls, and only then is claimed what was lost with the rest
    facilitator.kill()?;
    place.lose_and_restore(&backup).await?;
    facilitator.configure(|config| config.replace("max_age_seconds = 600", "max_age_seconds = 1"))?;
    facilitator.start_again().await?;
    call(&agent, &host, 8..11).await?;
    assert_eq!(agent.spent(), PRICE.times(5)?);
    let (lost, book) = (lost.display().to_string(), ground.book.address.to_string());
    let (status, report) = tallybook(&ground, &["settle", &lost, "--book", &book]).await?;
    assert_eq!(status, Some(0), "{report}");
    let (channel, began) = (agent.channels()[0].id, Instant::now());
    while facilitator.channel(&channel).await?.charged != PRICE.times(8)? {
        ensure!(began.elapsed() < PATIENCE, "the facilitator does not see the claim");
        tokio::time::sleep(POLL).await;
    }

    // Then the agent pays on, on the channel that it has; and what is charged is settled, paid out and left with to the base unit
    call(&agent, &host, 11..14).await?;
    let spent = PRICE.times(11)?;
    assert_eq!(agent.spent(), spent);
    let channels = agent.channels();
    assert_eq!((channels.len(), channels[0].phase), (1, Phase::Open));
    facilitator.settled(&channel, spent).await?;
    assert_eq!(ground.page().await?.slot(channels[0].parts.slot)?.settled, spent);
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.book.state.payee.into()).await?, spent);
    assert_eq!(agent.close(channel).await?.returned, DEPOSIT.minus(spent)?);
    assert_eq!(ground.mint.held_by(&ground.chain, &ground.page().await?.address).await?, Amount::ZERO);
    Ok(())
}

/// What brings a file of one version to the next: all before the newest.
const MIGRATIONS: [&str; 5] = [
    include_str!("../../../facilitator/store/src/migrations/0001_vouchers.sql"),
    include_str!("../../../facilitator/store/src/migrations/0002_metering.sql"),
    include_str!("../../../facilitator/store/src/migrations/0003_spent_at.sql"),
    include_str!("../../../facilitator/store/src/migrations/0004_shared_costs.sql"),
    include_str!("../../../facilitator/store/src/migrations/0005_payments.sql"),
];

/// Makes of a file what a facilitator of that version would have written: its tables, with what they have room for.
fn bring_back(file: &Path, version: usize) -> Result<()> {
    let now = file.with_extension("now");
    fs::rename(file, &now)?;
    for ending in ["-wal", "-shm"] {
        let beside = |path: &Path| format!("{}{ending}", path.display());
        drop(fs::rename(beside(file), beside(&now)));
    }
    fs::write(file, "")?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    let old = rusqlite::Connection::open(file)?;
    MIGRATIONS[..version].iter().try_for_each(|migration| old.execute_batch(migration))?;
    old.execute("ATTACH ?1 AS now", [now.to_str().context("a name")?])?;
    let names = |sql: &str| -> Result<Vec<String>> {
        let mut statement = old.prepare(sql)?;
        let names = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    };
    for table in names("SELECT name FROM main.sqlite_schema WHERE type = 'table'")? {
        // Then only of two kinds, and under another name.
        let (from, which) = match table.as_str() {
            "channel_attempt" => ("attempt", "WHERE purpose IN ('deposit', 'refund')"),
            other => (other, ""),
        };
        let columns = names(&format!("SELECT name FROM pragma_table_info('{table}', 'main')"))?;
        let source =
            |column: &String| if column == "channel_id" && from == "attempt" { "subject" } else { column }.to_owned();
        let (into, of) = (columns.join(", "), columns.iter().map(source).collect::<Vec<_>>().join(", "));
        old.execute_batch(&format!("INSERT INTO main.{table} ({into}) SELECT {of} FROM now.{from} {which}"))?;
    }
    old.pragma_update(None, "application_id", 0x5442_7673)?;
    old.pragma_update(None, "user_version", i64::try_from(version)?)?;
    old.execute_batch("DETACH now")?;
    Ok(fs::remove_file(&now)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_file_of_each_earlier_version_when_a_facilitator_starts_on_it_under_load_then_nothing_is_lost()
-> Result<()> {
    // Given agents under way
    let ground = ground().await?;
    let file = ground.folder().join("facilitator.sqlite");
    let mut facilitator = Process::facilitator(&ground).await?;
    let shop = Shop::open(&ground.paywall(&facilitator.url())?, "$0.0005", 0).await?;
    let load = Load::begin(&ground, &shop.host()).await?;
    load.wait_for(100).await?;
    // When what they have paid so far is in a file of before, as if an old facilitator had written it
    for version in 1..=MIGRATIONS.len() {
        facilitator.kill()?;
        bring_back(&file, version)?;
        facilitator.start_again().await?;
        load.wait_for(50).await.with_context(|| format!("on a file of version {version}"))?;
    }
    // Then all of it is there, and settled
    let agents = load.end().await?;
    settle_and_leave(&ground, &facilitator, &agents).await?;
    // And what a newer one has written is refused, by its version
    facilitator.kill()?;
    rusqlite::Connection::open(&file)?.pragma_update(None, "user_version", 1_000)?;
    let said = facilitator.last_words().await?;
    ensure!(said.contains("has schema version 1000") && said.contains("run the newer program"), "{said}");
    Ok(())
}
