//! `tallybook conform server`: a paid GET of a resource server, without money and with.

mod paid;
mod shop;
mod unpaid;

use super::checks::Checks;
use super::report::Report;
use crate::output::Output;
use crate::wallet::{Limits, Wallet};
use anyhow::{Context, Result};
use clap::Args;
use shop::Shop;
use url::Url;

/// Arguments of `tallybook conform server`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: what needs no money; and all of it, with a wallet, within its limits\n  \
    tallybook conform server https://api.example.com/weather\n  \
    tallybook conform server https://api.example.com/weather --pay --max-price 0.001 --deposit 0.1\n\n\
    With --pay two calls are paid for, and the wallet's channel there is closed, so that the rest comes back. The URL must\n\
    answer the same GET with a success each time, and not as a stream. Exit status 1 when anything is not as specified.")]
pub struct Server {
    /// A URL that costs something to GET.
    url: Url,
    /// Pay for calls with the wallet's money, and check how payments are taken.
    #[arg(long)]
    pay: bool,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    wallet: Wallet,
}

impl Server {
    /// Makes the checks that its options ask for.
    pub async fn run(self, output: Output) -> Result<Report> {
        let host =
            self.url.host_str().context("the URL names no host: write it like https://api.example.com/weather")?;
        let mut checks = Checks::new(output.progress(), "asking the server");
        let shop = Shop::new(self.url.clone())?;
        let offered = unpaid::look(&shop, &mut checks).await?;
        if !self.pay {
            checks.leave_out("a paid call, and again", "§8", "one answer, charged once", "it takes money: see --pay");
        } else if offered {
            let wallet = self.wallet.open(Some(&self.limits), Some(host)).await?;
            let paid = paid::pay(&shop, &wallet.agent, &mut checks).await;
            wallet.agent.shutdown().await.map_err(|error| wallet.told(error))?;
            paid.map_err(|error| wallet.told(error))?;
        }
        Ok(checks.end())
    }
}
