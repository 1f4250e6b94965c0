//! A client that costs little, and the same for every route: requests are bytes made beforehand, sent over connections
//! that are kept, each after the answer to the one before. It runs on a thread of its own, whose time on a processor is
//! read, so that it can be said what the load itself took.

use std::collections::HashMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The requests of one connection, in their order.
pub type Script = Vec<Vec<u8>>;

/// What a load was answered with.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Requests.
    pub calls: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// How long each took, in nanoseconds.
    pub nanos: Vec<u64>,
    /// Time of the load's thread on a processor.
    pub on_cpu: Duration,
    /// Time of all threads of this process on a processor: the load, and whoever it asks in here.
    pub all_on_cpu: Duration,
}

impl Answered {
    /// Requests a second.
    pub fn per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }

    /// What all in this process took of a processor for each, in microseconds.
    pub fn all_micros(&self) -> f64 {
        self.all_on_cpu.as_secs_f64() * 1e6 / self.calls as f64
    }

    /// What the load took of a processor for each, in microseconds.
    pub fn load_micros(&self) -> f64 {
        self.on_cpu.as_secs_f64() * 1e6 / self.calls as f64
    }
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Sends every script over a connection of its own; every answer must be 200. Returns when all are answered.
pub fn run(address: SocketAddr, scripts: Vec<Script>) -> Answered {
    run_at(scripts.into_iter().map(|script| (address, script)).collect())
}

/// The same, each to an address of its own.
pub fn run_at(scripts: Vec<(SocketAddr, Script)>) -> Answered {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connections = Vec::new();
            for (address, script) in scripts {
                let connection = TcpStream::connect(address).await.unwrap();
                connection.set_nodelay(true).unwrap();
                connections.push((connection, script));
            }
            let (began, before, all_before) = (Instant::now(), on_cpu(), Threads::now());
            let tasks: Vec<_> =
                connections.into_iter().map(|(connection, script)| tokio::spawn(speak(connection, script))).collect();
            let mut nanos = Vec::new();
            for task in tasks {
                nanos.extend(task.await.unwrap());
            }
            let (took, on_cpu) = (began.elapsed(), on_cpu() - before);
            let all_on_cpu = Threads::now().since(&all_before);
            Answered { calls: nanos.len(), took, nanos, on_cpu, all_on_cpu }
        })
    });
    thread.join().unwrap()
}

async fn speak(mut connection: TcpStream, script: Script) -> Vec<u64> {
    let mut nanos = Vec::with_capacity(script.len());
    let mut buffer = Vec::with_capacity(16_384);
    for request in script {
        let began = Instant::now();
        connection.write_all(&request).await.unwrap();
        buffer.clear();
        while !is_whole(&buffer) {
            assert!(connection.read_buf(&mut buffer).await.unwrap() > 0, "the server hung up");
        }
        nanos.push(u64::try_from(began.elapsed().as_nanos()).unwrap());
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
    }
    nanos
}

/// Whether an answer is there, by its `content-length`.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    answer.len() >= end + 4 + length.expect("a body of a known length").parse::<usize>().unwrap()
}

/// This thread's time on a processor so far.
pub fn on_cpu() -> Duration {
    time_in("/proc/thread-self/schedstat".as_ref())
}

/// How long each thread of this process that is there has been on a processor.
pub struct Threads(HashMap<OsString, Duration>);

impl Threads {
    /// As it is now.
    pub fn now() -> Self {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().map(Result::unwrap);
        Self(threads.map(|thread| (thread.file_name(), time_in(&thread.path().join("schedstat")))).collect())
    }

    /// The time of all of them since `before`. What has ended meanwhile, as threads do that nobody needs for a while, is left out.
    pub fn since(&self, before: &Self) -> Duration {
        let of = |(thread, time): (&OsString, &Duration)| {
            time.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(of).sum()
    }
}

fn time_in(schedstat: &Path) -> Duration {
    let schedstat = std::fs::read_to_string(schedstat).unwrap_or_default();
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default())
}
