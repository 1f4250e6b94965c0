//! What several facilitators on one PostgreSQL database take together: paid calls a second, each a `/verify` and a `/settle`, with
//! one, two and three of them at work, each in a process of its own, and what each party takes of the processors meanwhile.
//! `cargo bench --profile dev --bench nodes`, or with `-- --quick` to see that it works.
//!
//! All of it runs on this machine: the load, the facilitators, PostgreSQL, a node of the chain. So three facilitators can be
//! faster than one only as far as it was one of them that was busy.

#![allow(
    missing_docs,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
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
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tallybook_benches::request::load::{self, Script, request};
use tallybook_benches::request::world::{World, question};
use tallybook_benches::request::{Runs, house, node};
use tallybook_chain::Address;
use tallybook_facilitator::Facilitator;
use tallybook_store::lock_of;
use tokio::runtime::Runtime;

/// Books, each with as many channels as it has connections here.
const BOOKS: u16 = 6;
const CONNECTIONS: usize = 32;
/// How long facilitators may take to divide the books.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ticks of `/proc/PID/stat` in a second.
const TICKS: f64 = 100.0;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    runs: u64,
    /// Calls of a connection in a run.
    calls: u64,
}

/// Where a connection asks.
#[derive(Clone, Copy, PartialEq)]
enum Ask {
    /// The facilitator that works on its book.
    Holder,
    /// Any of them, as a balancer has it.
    Anyone,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, part, folder, number] = arguments.as_slice()
        && part == "facilitator"
    {
        return serve(Path::new(folder), number);
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let size = if quick { Size { runs: 1, calls: 5 } } else { Size { runs: 5, calls: 60 } };
    let server = Server::start();
    let worlds: Vec<World> = (0..BOOKS).map(|book| World::of_book(book, CONNECTIONS)).collect();
    let runtime = Runtime::new().unwrap();
    let (chain, _) = runtime.block_on(node::serve_hiding(&worlds));
    println!("{BOOKS} books, {CONNECTIONS} connections with a channel each to each book, every commit synced");
    println!(
        "facilitators | asked        | calls/s | x one | load µs | facilitators µs | PostgreSQL µs | calls a commit | WAL bytes a call"
    );
    let mut alone = None;
    for facilitators in 1..=3 {
        let town = Town::begin(&server, &worlds, chain, facilitators);
        let mut calls = 1;
        for ask in [Ask::Holder, Ask::Anyone] {
            if facilitators == 1 && ask == Ask::Anyone {
                continue;
            }
            let rows: Vec<Row> = (0..size.runs)
                .map(|_| {
                    let row = town.measure(&runtime, &worlds, ask, calls..calls + size.calls);
                    calls += size.calls;
                    row
                })
                .collect();
            let of = |number: fn(&Row) -> f64| Runs::of(rows.iter().map(number).collect());
            let rate = of(|row| row.rate);
            let one = *alone.get_or_insert(rate.median);
            println!(
                "{facilitators:>12} | {:<12} | {:>7.0} | {:>5.2} | {:>7.0} | {:>15.0} | {:>13.0} | {:>14.1} | {:>16.0}{}",
                if ask == Ask::Holder { "who works" } else { "any of them" },
                rate.median,
                rate.median / one,
                of(|row| row.load).median,
                of(|row| row.facilitators).median,
                of(|row| row.postgres).median,
                of(|row| row.calls_a_commit).median,
                of(|row| row.wal).median,
                if rate.noisy { "  noisy" } else { "" },
            );
        }
        if facilitators == 3 {
            println!("a channel takes {} bytes of PostgreSQL's disk, its indices included", town.bytes_a_channel());
        }
    }
}

/// What one run has measured; times on a processor are microseconds a call.
struct Row {
    rate: f64,
    load: f64,
    facilitators: f64,
    postgres: f64,
    calls_a_commit: f64,
    wal: f64,
}

/// Facilitators that have divided the books between them.
struct Town<'a> {
    server: &'a Server,
    database: String,
    facilitators: Vec<(Child, SocketAddr)>,
    /// Who works on each book.
    holders: Vec<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl<'a> Town<'a> {
    fn begin(server: &'a Server, worlds: &[World], chain: SocketAddr, count: usize) -> Self {
        let (folder, database) = (tempfile::tempdir().unwrap(), server.database());
        std::fs::write(folder.path().join("database"), &database).unwrap();
        std::fs::write(folder.path().join("chain"), format!("http://{chain}")).unwrap();
        let facilitators: Vec<_> = (0..count).map(|number| start(folder.path(), number)).collect();
        let mut town = Self { server, database, facilitators, holders: Vec::new(), _folder: folder };
        let began = Instant::now();
        while town.holders.len() < worlds.len() || !town.is_divided() {
            assert!(began.elapsed() < PATIENCE, "the books are not divided: {:?}", town.holders);
            std::thread::sleep(Duration::from_millis(200));
            town.holders = worlds.iter().filter_map(|world| town.holder(&world.address)).collect();
        }
        town
    }

    /// Whether everybody works on as many books as the others.
    fn is_divided(&self) -> bool {
        let part = usize::from(BOOKS) / self.facilitators.len();
        let has = |address: &SocketAddr| self.holders.iter().filter(|holder| *holder == address).count();
        self.facilitators.iter().all(|(_, address)| has(address) == part)
    }

    /// Who works on a book, by the name of the session that has its lock.
    fn holder(&self, book: &Address) -> Option<SocketAddr> {
        let sql = format!(
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND granted AND objsubid = 1
               AND (classid::bigint << 32 | objid::bigint) = {} AND datname = current_database()",
            lock_of(&book.to_bytes())
        );
        self.server.sql(&self.database, &sql).rsplit('/').next()?.parse().ok()
    }

    fn measure(&self, runtime: &Runtime, worlds: &[World], ask: Ask, calls: std::ops::Range<u64>) -> Row {
        let scripts = worlds.iter().zip(&self.holders).enumerate().flat_map(|(at, (world, holder))| {
            let offer = runtime.block_on(house::offer(*holder, &world.address.to_string()));
            let calls = calls.clone();
            world.channels.iter().enumerate().map(move |(connection, channel)| {
                let bodies = calls.clone().map(|call| question(&offer, channel.voucher(call)));
                let script: Script = bodies
                    .flat_map(|body| ["/verify", "/settle"].map(|path| request("POST", path, &[], &body)))
                    .collect();
                let anyone = self.facilitators[(at + connection) % self.facilitators.len()].1;
                (if ask == Ask::Holder { *holder } else { anyone }, script)
            })
        });
        let scripts: Vec<_> = scripts.collect();
        let (before, commits, wal) = (self.on_cpu(), self.commits(), self.wal());
        let answered = load::run_at(scripts);
        let after = self.on_cpu();
        let calls = answered.calls as f64 / 2.0;
        let micros = |seconds: f64| seconds * 1e6 / calls;
        Row {
            rate: calls / answered.took.as_secs_f64(),
            load: micros(answered.on_cpu.as_secs_f64()),
            facilitators: micros(after[0] - before[0]),
            postgres: micros(after[1] - before[1]),
            // The sessions tell of their commits now and then, and when they are idle.
            calls_a_commit: calls / (self.commits() - commits).max(1.0),
            wal: (self.wal() - wal) / calls,
        }
    }

    /// Seconds on a processor of the facilitators, and of all of PostgreSQL.
    fn on_cpu(&self) -> [f64; 2] {
        let facilitators = self.facilitators.iter().map(|(child, _)| seconds(child.id())).sum();
        let names = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let processes = names.filter_map(|name| name.parse::<u32>().ok());
        let is_postgres = |process: &u32| {
            std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim() == "postgres")
        };
        [facilitators, processes.filter(is_postgres).map(seconds).sum()]
    }

    fn commits(&self) -> f64 {
        std::thread::sleep(Duration::from_millis(1_500));
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        self.server.sql(&self.database, sql).parse().unwrap()
    }

    fn bytes_a_channel(&self) -> String {
        self.server.sql(&self.database, "VACUUM FULL tallybook.channel");
        let sql = "SELECT pg_total_relation_size('tallybook.channel') / count(*) FROM tallybook.channel";
        self.server.sql(&self.database, sql)
    }

    fn wal(&self) -> f64 {
        self.server.sql(&self.database, "SELECT pg_current_wal_lsn() - '0/0'").parse().unwrap()
    }
}

impl Drop for Town<'_> {
    fn drop(&mut self) {
        for (child, _) in &mut self.facilitators {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Seconds that a process was on a processor; none when it is gone.
fn seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let rest = stat.rsplit(") ").next().unwrap_or_default();
    // After the name in brackets come fields 3 and on; `utime` and `stime` are 14 and 15: proc(5).
    let ticks = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

/// A facilitator in a process of its own, once it answers.
fn start(folder: &Path, number: usize) -> (Child, SocketAddr) {
    let this = std::env::current_exe().unwrap();
    let command =
        Command::new(this).arg("facilitator").arg(folder).arg(number.to_string()).stdout(Stdio::piped()).spawn();
    let mut child = command.unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().parse().unwrap())
}

/// The other side of it.
fn serve(folder: &Path, number: &str) {
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let own = folder.join(number);
    std::fs::create_dir(&own).unwrap();
    let books: Vec<Address> = (0..BOOKS).map(|book| World::of_book(book, 0).address).collect();
    let mut config = house::config(&books, &own, &text("chain"), &text("database"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    config.listen = format!("127.0.0.1:{port}").parse().unwrap();
    config.limits.connections = 4_096;
    config.limits.connections_per_address = 4_096;
    config.address = Some(format!("http://127.0.0.1:{port}"));
    Runtime::new().unwrap().block_on(async {
        let facilitator = Facilitator::start(config).await.unwrap();
        println!("{}", facilitator.local_addr());
        facilitator.stopped().await.unwrap();
    });
}
