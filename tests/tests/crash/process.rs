//! Processes that are killed, and started again at the same address.

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;
use reqwest::Client;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tallybook_chain::BookView;
use tallybook_cli::demo::Ground;
use tallybook_cli::keys;
use tallybook_wire::{ChannelView, Key, PaidOut};

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// A server in a process of its own.
pub(crate) struct Process {
    program: &'static str,
    arguments: Vec<String>,
    address: SocketAddr,
    child: Child,
    http: Client,
    pub(crate) kills: u32,
}

impl Process {
    /// The facilitator, as its operator runs it.
    pub(crate) async fn facilitator(ground: &Ground) -> Result<Self> {
        Self::configured(ground, str::to_owned).await
    }

    /// The same, with something else in its configuration.
    pub(crate) async fn configured(ground: &Ground, change: impl Fn(&str) -> String) -> Result<Self> {
        let (address, config) = (free_address()?, ground.folder().join("facilitator.toml"));
        std::fs::write(&config, change(&ground.facilitator_config(address)))?;
        let arguments = vec!["--config".to_owned(), config.display().to_string()];
        Self::start(env!("CARGO_BIN_EXE_facilitator-to-kill"), arguments, address).await
    }

    /// Changes the configuration of a facilitator, for its next start.
    pub(crate) fn configure(&self, change: impl Fn(&str) -> String) -> Result<()> {
        let config = self.arguments.last().context("a configuration")?;
        Ok(std::fs::write(config, change(&std::fs::read_to_string(config)?))?)
    }

    /// Starts it once more where it cannot start, and hears why.
    pub(crate) async fn last_words(&self) -> Result<String> {
        let mut command = Command::new(self.program);
        command.args(&self.arguments);
        let ended = tokio::task::spawn_blocking(move || command.output()).await??;
        ensure!(!ended.status.success(), "{} starts", self.program);
        Ok(String::from_utf8(ended.stderr)?)
    }

    /// One of several facilitators of these books on a PostgreSQL database. It may not answer yet.
    pub(crate) fn node(ground: &Ground, books: &[BookView], number: usize, database: &str) -> Result<Self> {
        let (address, config) = (free_address()?, ground.folder().join(format!("facilitator-{number}.toml")));
        let text = ground.facilitator_config(address);
        let (before, after) = text.split_once("database = ").context("a database")?;
        let (_, after) = after.split_once('\n').context("more than a database")?;
        let text = format!("{before}database = \"{database}\"\naddress = \"http://{address}\"\n{after}");
        let names: Vec<String> = books.iter().map(|book| format!("\"{}\"", book.address)).collect();
        let (before, after) = text.split_once("books = [").context("books")?;
        let (_, after) = after.split_once(']').context("the end of the books")?;
        let text = format!("{before}books = [{}]{after}", names.join(", "));
        std::fs::write(&config, text)?;
        let arguments = vec!["--config".to_owned(), config.display().to_string()];
        let program = env!("CARGO_BIN_EXE_facilitator-to-kill");
        let child = spawn(program, &arguments)?;
        Ok(Self { program, arguments, address, child, http: Client::new(), kills: 0 })
    }

    /// Starts it again if it has ended.
    pub(crate) fn revive(&mut self) -> Result<bool> {
        let has_ended = self.child.try_wait()?.is_some();
        if has_ended {
            self.child = spawn(self.program, &self.arguments)?;
        }
        Ok(has_ended)
    }

    /// Waits until it is answered, by whomever.
    pub(crate) async fn wait_until_healthy(&mut self) -> Result<()> {
        self.healthy().await
    }

    /// A resource server with a ledger of its own, which hands its vouchers to the facilitator at `facilitator`.
    pub(crate) async fn server(ground: &Ground, facilitator: &str) -> Result<Self> {
        let (address, operator) = (free_address()?, ground.folder().join("operator.json"));
        keys::write(&operator, &ground.operator)?;
        let arguments = [
            ("--listen", address.to_string()),
            ("--facilitator", facilitator.to_owned()),
            ("--book", ground.book.address.to_string()),
            ("--operator", operator.display().to_string()),
            ("--database", database(ground).display().to_string()),
            ("--rpc", ground.chain.rpc_url()),
        ];
        let arguments = arguments.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        Self::start(env!("CARGO_BIN_EXE_server-to-kill"), arguments, address).await
    }

    async fn start(program: &'static str, arguments: Vec<String>, address: SocketAddr) -> Result<Self> {
        let child = spawn(program, &arguments)?;
        let mut process = Self { program, arguments, address, child, http: Client::new(), kills: 0 };
        process.healthy().await?;
        Ok(process)
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `Child::kill` is SIGKILL: no drain, no flush, no goodbye.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.kills += 1;
        Ok(())
    }

    /// What systemd does when it is to end: it may take leave.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        let told = Command::new("kill").arg(self.child.id().to_string()).status()?;
        ensure!(told.success(), "it cannot be told to end");
        let ended = self.child.wait()?;
        ensure!(ended.success(), "it did not end in order: {ended}");
        Ok(())
    }

    /// What monitors are told by a metric, over all its labels that hold `of`.
    pub(crate) async fn metric(&self, name: &str, of: &str) -> Result<f64> {
        let text = self.http.get(format!("{}/metrics", self.url())).send().await?.text().await?;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(of));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.child = spawn(self.program, &self.arguments)?;
        self.healthy().await
    }

    /// Kills it and starts it again, sometimes so soon that it is killed while it starts.
    pub(crate) async fn kill_and_restart(&mut self) -> Result<()> {
        self.kill()?;
        if rand::rng().random_ratio(1, 5) {
            self.child = spawn(self.program, &self.arguments)?;
            let soon = rand::rng().random_range(1..150);
            tokio::time::sleep(Duration::from_millis(soon)).await;
            self.kill()?;
        }
        self.start_again().await
    }

    async fn healthy(&mut self) -> Result<()> {
        let (url, began) = (format!("{}/health", self.url()), Instant::now());
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended by itself: {status}", self.program);
            }
            if self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("{} does not come up", self.program)
    }

    /// What the facilitator says of a channel.
    pub(crate) async fn channel(&self, id: &Key) -> Result<ChannelView> {
        let url = format!("{}/channels/{id}", self.url());
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }

    /// Has it pay out what a page owes.
    pub(crate) async fn pay_out(&self, ground: &Ground, page: &Key) -> Result<PaidOut> {
        let asked = self.http.post(format!("{}/admin/pages/{page}/pay-out", self.url()));
        Ok(asked.bearer_auth(&ground.admin_token).send().await?.error_for_status()?.json().await?)
    }

    /// Waits until all that a channel was charged is settled, and at least `charged`.
    pub(crate) async fn settled(&self, id: &Key, charged: tallybook_rules::Amount) -> Result<()> {
        let began = Instant::now();
        loop {
            let channel = self.channel(id).await?;
            if channel.settled == channel.charged && channel.charged >= charged {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "{id} is not settled: {channel:?}");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A configuration with another database.
pub(crate) fn set_database(config: &str, database: &str) -> String {
    let lines = config.lines().map(|line| match line.starts_with("database = ") {
        true => format!("database = {database:?}\n"),
        false => format!("{line}\n"),
    });
    lines.collect()
}

/// The file of the server's own ledger.
pub(crate) fn database(ground: &Ground) -> PathBuf {
    ground.folder().join("server.sqlite")
}

/// A port that is free now, and stays the same over all restarts.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn spawn(program: &str, arguments: &[String]) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {program}"))
}
