//! More than can be served: connections, slow and endless clients, storms. The server is a process of its own, so that its
//! memory is measured alone.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;
mod town;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use town::{Server, megabytes};

/// The server of the other tests: they start it in a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the other tests"]
async fn server() {
    town::serve().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_ten_thousand_idle_connections_when_somebody_pays_then_it_is_served_and_each_costs_little_memory() {
    rlimit::increase_nofile_limit(12_000).unwrap();
    let server = Server::start("").await;
    server.pay(0).await;
    let before = server.memory().await;
    // Given as many connections as are allowed, half of them with half a head, and some more
    let mut idle = Vec::new();
    for number in 0..10_200 {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            connection.write_all(b"POST /verify HTTP/1.1\r\nhost: ").await.unwrap();
        }
        idle.push(connection);
    }
    // When somebody pays, then it is served
    let begun = Instant::now();
    server.pay(1).await;
    let took = begun.elapsed();
    let grown = server.memory().await.saturating_sub(before);
    println!("{} idle connections: {} MB, a payment took {took:?}", idle.len(), megabytes(grown));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(grown < 200 << 20, "{} MB", megabytes(grown));
    // And who came first has made room for who came last
    assert!(is_closed(&mut idle[0]).await, "nobody has made room");
    let last = idle.len() - 1;
    assert!(!is_closed(&mut idle[last]).await);
}

/// Whether the other side has ended a connection.
async fn is_closed(connection: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(2), connection.read_to_end(&mut answer)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn given_clients_that_send_a_byte_a_second_when_others_pay_then_they_are_served_and_the_slow_ones_end() {
    let server = Server::start("head_seconds=3 body_seconds=3 requests_in_flight=64").await;
    // Given more slow clients than there are places for requests, in their heads and in their bodies
    let mut slow = JoinSet::new();
    for number in 0..200 {
        let mut connection = TcpStream::connect(server.address).await.unwrap();
        let head: &[u8] = b"POST /verify HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n";
        let sent = if number % 2 == 0 { head } else { &head[..20] };
        connection.write_all(sent).await.unwrap();
        slow.spawn(async move {
            let mut answer = Vec::new();
            loop {
                let mut read = [0; 512];
                match tokio::time::timeout(Duration::from_secs(1), connection.read(&mut read)).await {
                    Ok(Ok(0) | Err(_)) => return String::from_utf8_lossy(&answer).into_owned(),
                    Ok(Ok(bytes)) => answer.extend_from_slice(&read[..bytes]),
                    // What it writes after the end is its own affair.
                    Err(_) => drop(connection.write_all(b"x").await),
                }
            }
        });
    }
    // When others pay meanwhile, then they are served
    for slot in 0..20 {
        server.pay(slot).await;
    }
    // And the slow ones have an end, by name where there was a head
    let answers =
        tokio::time::timeout(Duration::from_secs(20), slow.join_all()).await.expect("slow clients without end");
    let named = answers.iter().filter(|answer| answer.contains("408") && answer.contains("too_slow")).count();
    assert_eq!(named, 100, "{:?}", answers.first());
}

#[tokio::test(flavor = "multi_thread")]
async fn given_huge_and_endless_bodies_and_heads_when_they_are_sent_then_they_are_refused_and_take_no_memory() {
    let server = Server::start("").await;
    server.pay(0).await;
    let before = server.memory().await;
    let heads: [&[u8]; 3] = [
        b"POST /verify HTTP/1.1\r\nhost: here\r\ncontent-length: 4000000000\r\n\r\n",
        b"POST /verify HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST /verify HTTP/1.1\r\nhost: here\r\nx-endless: ",
    ];
    let mut senders = JoinSet::new();
    for number in 0..120 {
        let (address, head) = (server.address, heads[number % 3]);
        senders.spawn(async move {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.write_all(head).await.unwrap();
            let (mut reading, mut writing) = connection.split();
            let piece = [&b"ffff\r\n"[..], &[b'x'; 0xffff], &b"\r\n"[..]].concat();
            let sending = async {
                // As long as anybody takes it.
                while writing.write_all(&piece).await.is_ok() {}
            };
            let mut answer = [0; 64];
            let read = tokio::select! {
                read = reading.read(&mut answer) => read.unwrap_or(0),
                () = sending => reading.read(&mut answer).await.unwrap_or(0),
            };
            (number % 3, String::from_utf8_lossy(&answer[..read]).into_owned())
        });
    }
    let answers =
        tokio::time::timeout(Duration::from_secs(20), senders.join_all()).await.expect("somebody is still sending");
    let grown = server.memory().await.saturating_sub(before);
    println!("120 endless clients: {} MB", megabytes(grown));
    assert!(grown < 64 << 20, "{} MB", megabytes(grown));
    // The answer may be lost with a connection that is ended under somebody who is still writing.
    let refused = |kind: usize, status: &str| {
        answers.iter().any(|(of, answer)| *of == kind && answer.starts_with(&format!("HTTP/1.1 {status}")))
    };
    assert!(refused(0, "413") && refused(1, "413") && refused(2, "431"), "{answers:?}");
    server.pay(1).await;
}

/// What came of requests: how many by status, and the longest wait.
#[derive(Default, Debug)]
struct Tally {
    by_status: BTreeMap<u16, u64>,
    longest: Duration,
    /// Refusals that do not say when to come back.
    mute: u64,
}

impl Tally {
    fn of(&self, status: u16) -> u64 {
        self.by_status.get(&status).copied().unwrap_or_default()
    }
}

/// Asks for the same call again and again, from `clients` connections, until told to stop.
async fn storm(server: &Arc<Server>, clients: usize, book: usize, slot: usize, until: Instant) -> Tally {
    let mut askers = JoinSet::new();
    for _ in 0..clients {
        let (server, body) = (Arc::clone(server), server.call(book, slot, 1));
        askers.spawn(async move {
            let (http, mut tally) = (reqwest::Client::new(), Tally::default());
            while Instant::now() < until {
                let begun = Instant::now();
                let request = http.post(server.url("/verify")).body(body.clone()).timeout(Duration::from_secs(20));
                let (status, mute) = match request.send().await {
                    Ok(answer) => {
                        let (status, mute) = (answer.status().as_u16(), answer.headers().get("retry-after").is_none());
                        // The whole answer, so that the connection can be used again.
                        drop(answer.bytes().await);
                        (status, mute)
                    }
                    Err(_) => (0, false),
                };
                *tally.by_status.entry(status).or_default() += 1;
                tally.mute += u64::from(mute && status == 429);
                tally.longest = tally.longest.max(begun.elapsed());
            }
            tally
        });
    }
    let mut all = Tally::default();
    for one in askers.join_all().await {
        one.by_status.iter().for_each(|(status, count)| *all.by_status.entry(*status).or_default() += count);
        all.longest = all.longest.max(one.longest);
        all.mute += one.mute;
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn given_a_storm_on_one_channel_when_others_pay_then_they_are_served_and_all_is_well_afterwards() {
    // Given a server for sixteen requests at a time, four of a payer, and a storm of ten times as many on one channel
    let settings = "requests_in_flight=16 payer_requests_in_flight=4 book_requests_in_flight=8 queue=64";
    let server = Arc::new(Server::start(settings).await);
    server.pay(1).await;
    let before = server.memory().await;
    let until = Instant::now() + Duration::from_secs(4);
    let stormy = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { storm(&server, 160, 0, 0, until).await })
    };
    // When others pay meanwhile, of the same book and of another one, each coming back when told to
    let mut waits = Vec::new();
    while Instant::now() < until {
        for (book, slot) in [(0, 1), (1, 0)] {
            let begun = Instant::now();
            server.pay_in_the_end(book, slot).await;
            waits.push(begun.elapsed());
        }
    }
    let storm = stormy.await.unwrap();
    waits.sort_unstable();
    let (middle, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    println!("storm: {storm:?}; {} others were served, in {middle:?} (half of them), {longest:?} (all)", waits.len());
    // Then they are served, and the storm is refused early and told when to come back
    assert!(waits.len() >= 2 && longest < Duration::from_secs(10), "{} calls, {longest:?}", waits.len());
    assert_eq!((storm.of(0), storm.mute), (0, 0), "{storm:?}");
    assert!(storm.of(200) + storm.of(429) > 160, "{storm:?}");
    // And afterwards all is as before
    let grown = server.memory().await.saturating_sub(before);
    println!("after the storm: {} MB more", megabytes(grown));
    assert!(grown < 64 << 20, "{} MB", megabytes(grown));
    for _ in 0..20 {
        let begun = Instant::now();
        server.pay_once(0, 1).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_payer_and_a_book_with_all_that_they_may_have_when_others_come_then_the_limit_names_whose_it_is() {
    // Given rates of one a second for a payer, and of two for a book
    let server = Server::start("payer_requests_per_second=1 book_requests_per_second=2").await;
    let said = async |book: usize, slot: usize| match server.pay_once(book, slot).await {
        Ok(()) => "paid".to_owned(),
        Err((429, refusal)) => {
            assert_eq!(refusal["error"], json!("overloaded"));
            refusal["message"].as_str().unwrap_or_default().chars().take(9).collect()
        }
        Err(other) => panic!("{other:?}"),
    };
    // When one payer calls on and on, then it is told that it was the payer's rate, and another one is served
    let (begun, mut paid) = (Instant::now(), 0);
    loop {
        match said(0, 0).await.as_str() {
            "paid" => paid += 1,
            other => break assert_eq!(other, "This paye"),
        }
    }
    assert!(paid <= 2 + begun.elapsed().as_secs(), "{paid} calls in {:?}", begun.elapsed());
    server.pay_in_the_end(0, 1).await;
    // When many payers of one book do, then it is the book's, and another book's are served
    let mut next = 2;
    loop {
        match said(0, next).await.as_str() {
            "paid" => next += 1,
            other => break assert_eq!(other, "This book"),
        }
    }
    server.pay_in_the_end(1, 90).await;
    // And it comes back with time
    server.pay_in_the_end(0, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_chain_that_hangs_when_deposits_and_refunds_wait_for_it_then_calls_go_on() {
    // Given places for two that wait for the chain, and a chain that does not answer
    let server = Arc::new(Server::start("deposits_in_flight=2 request_seconds=6 requests_in_flight=16").await);
    for slot in 0..3 {
        server.pay(slot).await;
    }
    let leave = |slot: usize| {
        let server = Arc::clone(&server);
        async move { server.ask("/verify", server.refund(0, slot, 1)).await }
    };
    let waiting = [tokio::spawn(leave(0)), tokio::spawn(leave(1))];
    tokio::time::sleep(Duration::from_millis(500)).await;
    // When a third wants to leave, then it is told so at once
    let begun = Instant::now();
    let (status, refusal) = leave(2).await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    let message = refusal["message"].as_str().unwrap_or_default();
    assert!(status == 429 && message.starts_with("As many deposits"), "{status} {refusal}");
    // And calls go on, and those who waited have an answer in the end
    for slot in 3..8 {
        server.pay(slot).await;
    }
    for one in waiting {
        let (status, answer) = one.await.unwrap();
        assert!(status == 429 || status == 503, "{status} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_hundred_thousand_channels_when_some_of_them_pay_then_each_costs_little_memory() {
    let small = Server::start("").await;
    let few = small.memory().await;
    drop(small);
    let begun = Instant::now();
    let server = Arc::new(Server::start("pages=1042").await);
    let started = begun.elapsed();
    let many = server.memory().await;
    let channels = server.town.channels();
    assert!(channels >= 100_000);
    // When two thousand of them, all over the book, pay for a call
    let (next, paid) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut payers = JoinSet::new();
    for _ in 0..8 {
        let (server, next) = (Arc::clone(&server), Arc::clone(&next));
        payers.spawn(async move {
            loop {
                let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                if number >= 2_000 {
                    return;
                }
                server.pay(number * 50).await;
            }
        });
    }
    payers.join_all().await;
    let took = paid.elapsed();
    // Then a channel costs some hundred bytes
    let grown = server.memory().await.saturating_sub(few);
    println!(
        "{channels} channels: started in {started:?}, {} MB, with 2,000 that paid in {took:?} {} MB",
        megabytes(many.saturating_sub(few)),
        megabytes(grown)
    );
    assert!(grown < 400 << 20, "{} MB", megabytes(grown));
    let (status, health) = server.get("/health").await;
    assert_eq!((status, &health["unsettled"]), (200, &Value::from("2000")));
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_server_whose_files_run_out_when_somebody_comes_then_who_is_idle_makes_room() {
    // Given a process that may open fewer files than it has connections
    let server = Server::start("files=200").await;
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    // When somebody pays, then it is served
    server.pay(0).await;
    server.pay(1).await;
}
