//! `tallybook channel`: a payer's channels.

use crate::wallet::Wallet;
use crate::{print, sending};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use tallybook_agent::{Closed, Phase};
use tallybook_wire::Key;

/// What to do with channels.
#[derive(Subcommand, Debug)]
pub enum ChannelCommand {
    /// List the wallet's channels.
    List(List),
    /// Close a channel: with the server's help at once, or with --force through the chain.
    Close(Close),
    /// Take what is unspent out of a channel whose forced close is over its grace period.
    Withdraw(Withdraw),
}

/// Arguments of `tallybook channel list`.
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel close`.
#[derive(Args, Debug)]
pub struct Close {
    #[command(flatten)]
    wallet: Wallet,
    /// The channel's id.
    id: Key,
    /// Ask the chain instead of the server: for a server that does not answer or does not agree. What is unspent can
    /// be withdrawn after the book's grace period.
    #[arg(long)]
    force: bool,
}

/// Arguments of `tallybook channel withdraw`.
#[derive(Args, Debug)]
pub struct Withdraw {
    #[command(flatten)]
    wallet: Wallet,
    /// The channel's id.
    id: Key,
}

impl ChannelCommand {
    /// Does it.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::List(list) => list.run().await,
            Self::Close(close) => close.run().await,
            Self::Withdraw(withdraw) => withdraw.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        let channels = wallet.agent.channels();
        ensure!(
            !channels.is_empty(),
            "this wallet has no channels yet: `tallybook pay URL` opens them as they are needed"
        );
        for channel in channels {
            let phase = match channel.phase {
                Phase::Opening { .. } => "opening".to_owned(),
                Phase::Open => "open".to_owned(),
                Phase::GivenUp => "given up: close it".to_owned(),
                Phase::Closing { closing_at } => format!("closing: withdraw after {closing_at}"),
                Phase::Ended => "over".to_owned(),
            };
            print(format_args!(
                "{}  {}  at least {} of {} used  {phase}",
                channel.id,
                channel.host,
                channel.charged.decimal(wallet.decimals),
                channel.deposit.decimal(wallet.decimals),
            ))?;
        }
        Ok(())
    }
}

impl Close {
    async fn run(self) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        if self.force {
            let closing_at = wallet.agent.force_close(self.id).await?;
            return print(format_args!(
                "closing: after {closing_at} (Unix seconds) run `tallybook channel withdraw {}`",
                self.id
            ));
        }
        print_closed(&wallet.agent.close(self.id).await?, wallet.decimals)
    }
}

impl Withdraw {
    async fn run(self) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        let channel = wallet.agent.channels().into_iter().find(|channel| channel.id == self.id);
        if let Some(Phase::Closing { closing_at }) = channel.map(|channel| channel.phase) {
            let wait = closing_at.saturating_sub(sending::chain_clock(&self.wallet.rpc().client()).await?);
            ensure!(wait <= 0, "the grace period is not over yet: try again in {wait} seconds");
        }
        print_closed(&wallet.agent.withdraw(self.id).await?, wallet.decimals)
    }
}

fn print_closed(closed: &Closed, decimals: u8) -> Result<()> {
    print(format_args!(
        "closed {}: its calls cost {}, {} came back",
        closed.id,
        closed.charged.decimal(decimals),
        closed.returned.decimal(decimals)
    ))
}
