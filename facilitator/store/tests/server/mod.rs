//! A real PostgreSQL server for tests, in a folder of its own, gone when the process that started it is.
#![allow(
    dead_code,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test says what it expects, and not every test needs everything"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

/// What the server lets in over TCP.
pub(crate) const PASSWORD: &str = "pass:w@rd/1";
/// The same, as it stands in a URL.
const PASSWORD_IN_URL: &str = "pass%3Aw%40rd%2F1";

/// A server.
pub(crate) struct Server {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Where the shell that runs it is told what to do. It ends, and the server with it, when this is closed.
    line: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _shell: Child,
    databases: AtomicU32,
}

static SHARED: LazyLock<Server> = LazyLock::new(Server::start);

impl Server {
    /// One server for all tests of a process that do not stop it.
    pub(crate) fn shared() -> &'static Self {
        &SHARED
    }

    /// A server of its own.
    pub(crate) fn start() -> Self {
        let bin = binaries();
        let folder = tempfile::Builder::new().prefix("pg").tempdir().unwrap().keep();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(include_str!("run.sh")).arg("postgres").args([&folder, &bin]).arg(port.to_string());
        shell
            .env("PASSWORD", PASSWORD)
            .env("HOME", &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // The server refuses to be run by root.
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            let (user, group) = unprivileged();
            chown(&folder, Some(user), Some(group)).unwrap();
            shell.uid(user).gid(group);
        }
        let mut shell = shell.spawn().unwrap();
        let line = (shell.stdin.take().unwrap(), BufReader::new(shell.stdout.take().unwrap()));
        let server = Self { bin, folder, port, line: Mutex::new(line), _shell: shell, databases: AtomicU32::new(0) };
        server.tell("make");
        server.tell("start");
        eprintln!("{}", server.sql("postgres", "SELECT version()"));
        server
    }

    /// Ends it as a loss of power of this process would: at once, without a word.
    pub(crate) fn kill(&self) {
        self.tell("kill");
    }

    /// Ends it as its operator does. It waits for nobody.
    pub(crate) fn stop(&self) {
        self.tell("stop");
    }

    /// Starts it again.
    pub(crate) fn restart(&self) {
        self.tell("start");
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// A file of it: `authority.pem` signed its certificate, `another.pem` did not.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The URL of a new, empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        self.url(&name, self.port)
    }

    /// The URL of a database over TCP, at some port of this machine.
    pub(crate) fn url(&self, database: &str, port: u16) -> String {
        format!("postgres://tallybook:{PASSWORD_IN_URL}@127.0.0.1:{port}/{database}")
    }

    /// What a statement says, as its owner runs it beside everything else. `database` is a name, or the URL of one.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let name = database.rsplit('/').next().unwrap();
        let name = name.split('?').next().unwrap();
        let ran = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "tallybook", "-d", name, "-c", sql])
            .args(["-p", &self.port.to_string(), "-h"])
            .arg(&self.folder)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    /// A program of the server's package, to be run against a database of it.
    pub(crate) fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        let database = database.rsplit('/').next().unwrap();
        command.args(["-U", "tallybook", "-d", database, "-p", &self.port.to_string(), "-h"]).arg(&self.folder);
        command
    }

    fn tell(&self, word: &str) {
        let mut line = self.line.lock().unwrap();
        writeln!(line.0, "{word}").unwrap();
        let mut answer = String::new();
        line.1.read_line(&mut answer).unwrap();
        let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        assert_eq!(answer.trim(), "done", "{word}: {}", log());
    }
}

/// Where Debian's package puts the newest of its versions.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|version| version.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| Path::new(&format!("/usr/lib/postgresql/{version}/bin/initdb")).is_file())
        .max();
    let newest = newest.expect("this test runs a real PostgreSQL server: apt-get install postgresql openssl");
    format!("/usr/lib/postgresql/{newest}/bin").into()
}

/// Somebody to run the server.
fn unprivileged() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |line: &str| -> Option<(u32, u32)> {
        let mut parts = line.split(':');
        let is_it = parts.next() == Some("postgres");
        let (user, group) = (parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?);
        is_it.then_some((user, group))
    };
    users.lines().find_map(of).unwrap_or((65_534, 65_534))
}
