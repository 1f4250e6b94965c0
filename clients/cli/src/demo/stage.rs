//! The ground with everybody on it who serves: the facilitator and the paid API.

use super::ground::{Ground, Pace};
use super::shop::Shop;
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};
use tallybook_facilitator::{Config, Facilitator};
use tallybook_wire::{ChannelView, Key};

/// A stage, set.
pub struct Stage {
    /// Chain, mint, book and keys.
    pub ground: Ground,
    /// The paid API.
    pub shop: Shop,
    facilitator: Facilitator,
    http: reqwest::Client,
}

impl Stage {
    /// Sets it, with an API that charges `price`.
    pub async fn set(pace: Pace, price: &str, progress: Progress) -> Result<Self> {
        Self::on(Ground::prepare(pace, progress).await?, price, (0, 0), progress).await
    }

    /// Facilitator and API on a ground, at these ports of loopback; 0 takes a free one.
    pub async fn on(ground: Ground, price: &str, ports: (u16, u16), progress: Progress) -> Result<Self> {
        let facilitator = start(&ground, SocketAddr::from((Ipv4Addr::LOCALHOST, ports.0))).await?;
        let url = format!("http://{}", facilitator.local_addr());
        progress.done(format_args!("facilitator at {url}, vouchers in SQLite"));
        let shop = Shop::open(&ground.paywall(&url)?, price, ports.1).await?;
        progress.done(format_args!("paid API at {}, {price} a call", shop.paid()));
        Ok(Self { ground, shop, facilitator, http: reqwest::Client::new() })
    }

    /// Where the facilitator answers.
    pub fn facilitator(&self) -> String {
        format!("http://{}", self.facilitator.local_addr())
    }

    /// What the facilitator knows of a channel.
    pub async fn channel(&self, id: &Key) -> Result<ChannelView> {
        let url = format!("{}/channels/{id}", self.facilitator());
        let response = self.http.get(url).send().await?.error_for_status()?;
        Ok(response.json().await?)
    }

    /// Ends the facilitator as its operator would, does something, and starts it at the same address again.
    pub async fn without_facilitator<T>(self, meanwhile: impl AsyncFnOnce(&Ground) -> Result<T>) -> Result<(Self, T)> {
        let address = self.facilitator.local_addr();
        shut_down(self.facilitator).await?;
        let outcome = meanwhile(&self.ground).await?;
        let facilitator = start(&self.ground, address).await?;
        let stage = Self { facilitator, ..self };
        Ok((stage, outcome))
    }

    /// Ends the facilitator as its operator would.
    pub async fn shut_down(self) -> Result<()> {
        shut_down(self.facilitator).await
    }
}

async fn start(ground: &Ground, listen: SocketAddr) -> Result<Facilitator> {
    let config = Config::from_toml(&ground.facilitator_config(listen))?;
    Facilitator::start(config).await.context("the facilitator does not start")
}

async fn shut_down(facilitator: Facilitator) -> Result<()> {
    facilitator.shutdown().await.context("the facilitator did not shut down")
}
