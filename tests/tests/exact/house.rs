//! Chain and facilitator, and the answers that are expected of it.

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tallybook_cli::demo::{Ground, Pace};
use tallybook_cli::progress::Progress;
use tallybook_facilitator::{Config, Facilitator};
use tallybook_tests::exact::{Purchase, ask};

pub(crate) struct House {
    pub(crate) ground: Ground,
    pub(crate) config: Config,
    pub(crate) facilitator: Facilitator,
    pub(crate) http: Client,
}

impl House {
    /// Blocks of 50 ms; every payee is served.
    pub(crate) async fn open() -> Result<Self> {
        Self::open_with(|_| {}).await
    }

    pub(crate) async fn open_with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        Self::open_at(Duration::from_millis(50), change).await
    }

    /// With blocks of so long.
    pub(crate) async fn open_at(slot: Duration, change: impl FnOnce(&mut Config)) -> Result<Self> {
        let pace = Pace { slot, settle_after_seconds: 30 };
        let ground = Ground::prepare(pace, Progress::Silent).await?;
        let mut config = Config::from_toml(&ground.facilitator_config(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        change(&mut config);
        let facilitator = Facilitator::start(config.clone()).await?;
        Ok(Self { ground, config, facilitator, http: Client::new() })
    }

    /// Ends, and starts again over the same file.
    pub(crate) async fn restart(self) -> Result<Self> {
        self.facilitator.shutdown().await?;
        Ok(Self { facilitator: Facilitator::start(self.config.clone()).await?, ..self })
    }

    pub(crate) async fn close(self) -> Result<()> {
        Ok(self.facilitator.shutdown().await?)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.facilitator.local_addr())
    }

    pub(crate) async fn post(&self, path: &str, request: &Value) -> Result<(u16, Value)> {
        ask(&self.http, &self.url(), path, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.http.get(format!("{}/{path}", self.url())).send().await?.json().await?)
    }

    /// Settles a payment that goes through; says by which transaction.
    pub(crate) async fn settle(&self, request: &Value) -> Result<String> {
        let (status, settled) = self.post("settle", request).await?;
        ensure!(status == 200 && settled["success"] == true, "{status} {settled}");
        Ok(settled["transaction"].as_str().context("a signature")?.to_owned())
    }

    /// The name of why a payment is not taken, which both routes say, and that it says what to do.
    pub(crate) async fn refused(&self, request: &Value) -> Result<String> {
        let (status, verified) = self.post("verify", request).await?;
        ensure!(status == 200 && verified["isValid"] == false, "{status} {verified}");
        ensure!(verified["invalidMessage"].as_str().is_some_and(|message| message.ends_with('.')), "{verified}");
        let reason = verified["invalidReason"].as_str().context("a reason")?.to_owned();
        ensure!(self.unsettled(request).await? == reason, "both routes say the same");
        Ok(reason)
    }

    /// The name of why a payment is not settled.
    pub(crate) async fn unsettled(&self, request: &Value) -> Result<String> {
        let (status, settled) = self.post("settle", request).await?;
        ensure!(status == 200 && settled["success"] == false, "{status} {settled}");
        Ok(settled["errorReason"].as_str().context("a reason")?.to_owned())
    }

    /// What the payee has, by the chain itself.
    pub(crate) async fn paid(&self) -> Result<u64> {
        Ok(self.ground.mint.held_by(&self.ground.chain, &self.ground.payee).await?.get())
    }

    pub(crate) fn purchase(&self, amount: u64) -> Purchase {
        Purchase::of(&self.ground, amount)
    }

    pub(crate) async fn sponsor_lamports(&self) -> Result<u64> {
        Ok(self.ground.chain.rpc().get_balance(&self.ground.sponsor).await?)
    }
}
