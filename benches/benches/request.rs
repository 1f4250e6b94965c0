//! What a paid call costs. `cargo measure-request`, or with `-- --quick` to see that it works.
//!
//! All parties share the processors of this machine: the load, the server, and where there is one the facilitator. Every
//! ratio is of numbers that were measured in turn within this run. With `TALLYBOOK_REPORT=DIR` all of it is written to
//! `DIR/request.json`.

#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench measures and prints; no money is in it"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tallybook_benches::request::house::{EMBEDDED, House, REMOTE};
use tallybook_benches::request::world::{World, payment_header};
use tallybook_benches::request::{Facilitator, Http, InProcess, Latency, Report, Runs, Scale, Spread};
use tallybook_benches::request::{inside, load, scale};
use tallybook_rules::Rejection;
use tallybook_wire::{PaymentPayload, read_header};
use tokio::runtime::Runtime;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    quick: bool,
    cores: usize,
    /// How often each is measured.
    runs: u64,
    /// Calls of one caller in one run.
    calls: u64,
    /// Calls one after another.
    lone: u64,
    channels: usize,
    stored: usize,
}

const CONNECTIONS: usize = 64;
/// Signatures that the sequencer checks together at most.
const GROUP: usize = 32;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, part, number, path] = arguments.as_slice() {
        return alone(part, number.parse().unwrap(), Path::new(path));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let only = arguments.iter().find_map(|argument| argument.strip_prefix("--only="));
    let cores = std::thread::available_parallelism().unwrap().get();
    let size = if quick {
        Size { quick, cores, runs: 3, calls: 20, lone: 200, channels: 20_000, stored: 20_000 }
    } else {
        Size { quick, cores, runs: 7, calls: 100, lone: 2_000, channels: 200_000, stored: 1_000_000 }
    };
    if only == Some("scale") {
        scaled(size);
        return;
    }
    let world = World::new(1_024);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_all().build().unwrap();
    let wants = |part: &str| only.is_none_or(|only| only == part);
    if let Some(only) = only {
        println!("only {only}");
    }
    let mut in_process = Vec::new();
    if wants("inside") {
        in_process = [1, 64, 512].map(|callers| in_process_by(&runtime, &world, size, callers)).to_vec();
    }
    if only == Some("inside") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let house = runtime.block_on(House::open(&world, folder.path()));
    let embedded = paid_beside_unpaid(&house, &world, size, EMBEDDED, "paywall with its own ledger");
    if only == Some("embedded") {
        return;
    }
    let remote = paid_beside_unpaid(&house, &world, size, REMOTE, "paywall that asks the facilitator");
    let facilitator = facilitator(&house, &world, size);
    let latency = latency(&runtime, &house, &world, size);
    if only.is_some() {
        return;
    }
    drop(runtime);
    let scale = scaled(size);
    let quick = size.quick;
    let report = Report { cores, quick, in_process, embedded, remote, facilitator, latency, scale };
    if let Ok(folder) = std::env::var("TALLYBOOK_REPORT") {
        let path = Path::new(&folder).join("request.json");
        std::fs::write(&path, serde_json::to_vec_pretty(&report).unwrap()).unwrap();
        println!("written to {}", path.display());
    }
}

fn show(name: &str, runs: &Runs, unit: &str) {
    let noisy = if runs.noisy { "  noisy" } else { "" };
    println!("  {name:<52} {:>12.2} {unit}{noisy}", runs.median);
}

fn in_process_by(runtime: &Runtime, world: &World, size: Size, callers: usize) -> InProcess {
    let folder = tempfile::tempdir().unwrap();
    let sequencer = inside::sequencer(world, &folder.path().join("vouchers.sqlite"));
    // As many in all, however many call at once, but not for a minute when it is one.
    let calls = (size.calls * 64 / callers as u64).min(size.lone / 2);
    let mut rows: [Vec<f64>; 6] = Default::default();
    for run in 0..size.runs {
        let scripts = inside::scripts(world, callers, 1 + run * calls..1 + (run + 1) * calls);
        let verify = inside::verify(world, (size.calls * 64) as usize, size.cores);
        let grouped = inside::verify_in_groups(world, (size.calls * 64) as usize, size.cores, GROUP);
        let accepted = runtime.block_on(inside::accept(&sequencer, world.address.to_bytes(), scripts));
        let all = callers as u64 * calls;
        let per_second = all as f64 / accepted.took.as_secs_f64();
        let micros = accepted.on_cpu.as_secs_f64() * 1e6 / all as f64;
        let ratios = [per_second / verify.per_second, verify.micros / micros];
        let row = [ratios[0], ratios[1], per_second, verify.per_second, grouped.per_second, micros];
        rows.iter_mut().zip(row).for_each(|(rows, one)| rows.push(one));
    }
    let [ratio, ratio_by_micros, calls_per_second, verify_per_second, grouped_per_second, micros] = rows.map(Runs::of);
    println!("in process, {callers} callers: verified, decided, durable");
    show("of the signatures alone", &ratio, "");
    show("of the signatures alone, by time on a processor", &ratio_by_micros, "");
    show("calls", &calls_per_second, "/s");
    show("verify_strict alone", &verify_per_second, "/s");
    show("signatures in groups alone", &grouped_per_second, "/s");
    show("time on a processor for a call", &micros, "µs");
    InProcess { callers, ratio, calls_per_second, verify_per_second, grouped_per_second, micros, ratio_by_micros }
}

fn paid_beside_unpaid(house: &House, world: &World, size: Size, path: &str, name: &str) -> Http {
    let mut rows: [Vec<f64>; 9] = Default::default();
    for run in 0..size.runs {
        let calls = 1 + run * size.calls..1 + (run + 1) * size.calls;
        let (free, paid) = (house.unpaid(CONNECTIONS, size.calls), house.paid(world, path, CONNECTIONS, calls));
        let verify = inside::verify(world, (size.calls * 32) as usize, size.cores);
        let (free, paid) = (load::run(house.server, free), load::run(house.server, paid));
        let bound = 1.0 / (1.0 / free.per_second() + 1.0 / verify.per_second);
        let ratios = [paid.per_second() / bound, paid.per_second() / free.per_second()];
        let by_micros = (free.all_micros() + verify.micros) / paid.all_micros();
        let rates = [paid.per_second(), free.per_second()];
        let micros = [paid.load_micros(), free.load_micros(), paid.all_micros(), free.all_micros(), by_micros];
        let row = ratios.into_iter().chain(rates).chain(micros);
        rows.iter_mut().zip(row).for_each(|(rows, one)| rows.push(one));
    }
    let [ratio_of_bound, ratio_to_unpaid, paid_per_second, unpaid_per_second, load_paid, load_unpaid, rest @ ..] =
        rows.map(Runs::of);
    let [paid_micros, unpaid_micros, ratio_by_micros] = rest;
    println!("{name}, {CONNECTIONS} connections");
    show("paid calls over the bound", &ratio_of_bound, "");
    show("paid calls over the bound, by time on a processor", &ratio_by_micros, "");
    show("paid calls over unpaid ones", &ratio_to_unpaid, "");
    show("paid calls", &paid_per_second, "/s");
    show("unpaid calls", &unpaid_per_second, "/s");
    show("the load itself, for a paid call", &load_paid, "µs");
    show("the load itself, for an unpaid call", &load_unpaid, "µs");
    show("all of it, for a paid call", &paid_micros, "µs");
    show("all of it, for an unpaid call", &unpaid_micros, "µs");
    let (load_paid_micros, load_unpaid_micros) = (load_paid.median, load_unpaid.median);
    Http {
        connections: CONNECTIONS,
        ratio_of_bound,
        ratio_to_unpaid,
        paid_per_second,
        unpaid_per_second,
        paid_micros,
        unpaid_micros,
        ratio_by_micros,
        load_paid_micros,
        load_unpaid_micros,
    }
}

fn facilitator(house: &House, world: &World, size: Size) -> Facilitator {
    let (mut ratios, mut called, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    // The calls before these were charged here through the paywall.
    let first = 1 + size.runs * size.calls;
    for run in 0..size.runs {
        let calls = first + run * size.calls..first + (run + 1) * size.calls;
        let (ask, asked) = (house.plain(CONNECTIONS, size.calls * 2), house.questions(world, CONNECTIONS, calls));
        let verify = inside::verify(world, (size.calls * 32) as usize, size.cores).per_second;
        let (ask, asked) = (load::run(house.facilitator, ask), load::run(house.facilitator, asked));
        let calls_per_second = asked.per_second() / 2.0;
        ratios.push(calls_per_second * (2.0 / ask.per_second() + 1.0 / verify));
        called.push(calls_per_second);
        plain.push(ask.per_second());
    }
    let [ratio_of_bound, calls_per_second, plain_per_second] = [ratios, called, plain].map(Runs::of);
    println!("the facilitator asked directly, {CONNECTIONS} connections");
    show("calls over the bound", &ratio_of_bound, "");
    show("calls (/verify and /settle)", &calls_per_second, "/s");
    show("GET /supported", &plain_per_second, "/s");
    Facilitator { connections: CONNECTIONS, ratio_of_bound, calls_per_second, plain_per_second }
}

fn latency(runtime: &Runtime, house: &House, world: &World, size: Size) -> Latency {
    let first = 1 + size.runs * size.calls;
    let (mut unpaid, mut paid) = (Vec::new(), Vec::new());
    // In turn, some at a time, so that both meet the same noise.
    let some = size.lone / 10;
    for run in 0..10 {
        let calls = first + run * some..first + (run + 1) * some;
        unpaid.extend(load::run(house.server, house.unpaid(1, some)).nanos);
        paid.extend(load::run(house.server, house.paid(world, EMBEDDED, 1, calls)).nanos);
    }
    let (unpaid, paid) = (Spread::of(&unpaid), Spread::of(&paid));
    let folder = tempfile::tempdir().unwrap();
    let sequencer = inside::sequencer(world, &folder.path().join("vouchers.sqlite"));
    let accepted = inside::accept(&sequencer, world.address.to_bytes(), inside::scripts(world, 1, 1..1 + size.lone));
    let accepted = runtime.block_on(accepted);
    let verify_micros = inside::verify(world, size.lone as usize, 1).micros;
    let parse_micros = parse_micros(house, world, size.lone);
    let reserve_micros = Spread::of(&accepted.reserve_nanos).p50_micros - verify_micros;
    let commit_micros = Spread::of(&accepted.commit_nanos).p50_micros;
    let added_p50_micros = paid.p50_micros - unpaid.p50_micros;
    let added_p99_micros = paid.p99_micros - unpaid.p99_micros;
    let rest_micros = added_p50_micros - parse_micros - verify_micros - reserve_micros - commit_micros;
    println!("one call after another, paywall with its own ledger: p50 and p99 in µs");
    println!("  unpaid {:>40.1} {:>10.1}", unpaid.p50_micros, unpaid.p99_micros);
    println!("  paid {:>42.1} {:>10.1}", paid.p50_micros, paid.p99_micros);
    println!("  added {added_p50_micros:>41.1} {added_p99_micros:>10.1}");
    println!(
        "    of it: parse {parse_micros:.1}, verify {verify_micros:.1}, to the writer and back {reserve_micros:.1},"
    );
    println!("           commit with its sync {commit_micros:.1}, the rest {rest_micros:.1}");
    Latency {
        unpaid,
        paid,
        added_p50_micros,
        added_p99_micros,
        parse_micros,
        verify_micros,
        reserve_micros,
        commit_micros,
        rest_micros,
    }
}

/// Reading the header and holding it to the offer, as the paywall does.
fn parse_micros(house: &House, world: &World, calls: u64) -> f64 {
    let headers: Vec<_> =
        (1..=calls).map(|call| payment_header(&house.offer, world.channels[0].voucher(call))).collect();
    let began = Instant::now();
    for header in &headers {
        let payment: PaymentPayload = read_header(header.as_bytes()).unwrap();
        let offered = house.offer.priced(payment.accepted.amount, 60.try_into().unwrap());
        assert_eq!(payment.accepted.answers(&offered), Ok::<(), Rejection>(()));
    }
    began.elapsed().as_secs_f64() * 1e6 / calls as f64
}

fn scaled(size: Size) -> Scale {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vouchers.sqlite");
    let ledger_bytes_per_channel = child("ledger", size.channels, &path);
    // What a desk has beyond the ledger, in the same state: no vouchers in either.
    let list_bytes_per_channel = child("desk", size.channels, &path) - child("seen", size.channels, &path);
    println!("{} channels in memory", size.channels);
    println!("  of the ledger, each {ledger_bytes_per_channel:>32.0} bytes");
    println!("  of the list of signers, each {list_bytes_per_channel:>23.0} bytes");
    child("fill", size.stored, &path);
    let start_seconds = child("start", size.stored, &path);
    println!("{} channels in the store", size.stored);
    let stored_bytes_per_channel = child("stored", size.stored, &path);
    let [meet_seconds, desk_millis] = children("meet", size.stored, &path);
    let [first_answer_seconds, first_payment_seconds, met_seconds] = started(folder.path(), size.stored);
    println!("  from opening it to a ledger {start_seconds:>24.2} s");
    println!("  of the ledger then, each {stored_bytes_per_channel:>27.0} bytes");
    println!("  until all were met on chain and verified {meet_seconds:>11.2} s");
    println!("  the longest wait for the desk meanwhile {desk_millis:>12.2} ms");
    println!("  from a facilitator's start to its first answer {first_answer_seconds:>5.2} s");
    println!("  to a payment from a page not read before {first_payment_seconds:>11.2} s");
    println!("  until all pages were read {met_seconds:>26.2} s");
    Scale {
        channels: size.channels,
        ledger_bytes_per_channel,
        list_bytes_per_channel,
        stored: size.stored,
        start_seconds,
        stored_bytes_per_channel,
        meet_seconds,
        desk_millis,
        first_answer_seconds,
        first_payment_seconds,
        met_seconds,
    }
}

/// A facilitator's start, over a node in a process of its own: seconds from there until anything is answered, until a payment is
/// taken whose page was not read before, and until all pages were read.
fn started(folder: &Path, channels: usize) -> [f64; 3] {
    let (node, address) = standing("node", channels, folder);
    std::fs::write(folder.join("node"), address).unwrap();
    std::fs::rename(folder.join("vouchers.sqlite"), folder.join("facilitator.sqlite")).unwrap();
    let began = Instant::now();
    let (facilitator, address) = standing("serve", channels, folder);
    let address = address.parse().unwrap();
    let unread = || scale::unread_pages(address);
    let was_unread = unread();
    let first_answer = began.elapsed().as_secs_f64();
    scale::pay_from_the_middle(address, channels);
    let first_payment = began.elapsed().as_secs_f64();
    println!("  pages unread at the first answer {was_unread:>19}, at the first payment {}", unread());
    // Seldom: whoever asks takes of the cores what reading needs.
    while unread() > 0 {
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    let met = began.elapsed().as_secs_f64();
    for mut child in [facilitator, node] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    [first_answer, first_payment, met]
}

/// A process that says one line, and stands until it is ended.
fn standing(part: &str, number: usize, path: &Path) -> (Child, String) {
    let this = std::env::current_exe().unwrap();
    let started = Command::new(this).args([part, &number.to_string()]).arg(path).stdout(Stdio::piped()).spawn();
    let mut child = started.unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

/// Measures a part in a process of its own, whose memory nothing else has touched.
fn child(part: &str, number: usize, path: &Path) -> f64 {
    let [measured] = children(part, number, path);
    measured
}

/// The same, of several numbers.
fn children<const N: usize>(part: &str, number: usize, path: &Path) -> [f64; N] {
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).args([part, &number.to_string()]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let numbers = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = numbers.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// The other side of [`child`].
fn alone(part: &str, number: usize, path: &Path) {
    let measured = match part {
        "ledger" => scale::ledger_bytes(number, true),
        "seen" => scale::ledger_bytes(number, false),
        "desk" => scale::desk_bytes(number),
        "start" => scale::start(path).0.as_secs_f64(),
        "stored" => scale::start(path).1,
        "meet" => {
            let (took, longest) = scale::meet(path, number);
            print!("{} ", took.as_secs_f64());
            longest.as_secs_f64() * 1e3
        }
        "node" => return scale::node(number),
        "serve" => return scale::serve(path),
        _ => {
            scale::fill(path, number);
            0.0
        }
    };
    println!("{measured}");
}
