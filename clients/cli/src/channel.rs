//! `tallybook channel`: a payer's channels.

use crate::connection;
use crate::output::{Moment, Money, Output, line};
use crate::page::SlotReport;
use crate::sending;
use crate::wallet::{OpenWallet, Wallet};
use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use solana_address::Address;
use std::fmt;
use tallybook_agent::{ChannelReport, Closed, Phase};
use tallybook_wire::Key;

/// What to do with channels.
#[derive(Subcommand, Debug)]
pub enum ChannelCommand {
    /// List the wallet's channels.
    List(List),
    /// Show a channel: what this wallet remembers of it, and what the chain says.
    Status(Status),
    /// Close a channel: with the server's help at once, or with --force through the chain.
    Close(Close),
    /// Take what is unspent out of a channel whose forced close is over its grace period.
    Withdraw(Withdraw),
}

/// Arguments of `tallybook channel list`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tallybook channel list --json")]
pub struct List {
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel status`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  tallybook channel status $CHANNEL")]
pub struct Status {
    /// The channel's id.
    #[arg(value_parser = channel_id)]
    id: Key,
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel close`.
#[derive(Args, Debug)]
#[command(after_help = "Examples: with the server's help; and where it does not help\n  \
    tallybook channel close $CHANNEL\n  \
    tallybook channel close $CHANNEL --force")]
pub struct Close {
    /// The channel's id.
    #[arg(value_parser = channel_id)]
    id: Key,
    /// Ask the chain instead of the server: for a server that does not answer or does not agree. What is unspent can
    /// be withdrawn after the book's grace period. Takes some lamports for the fee.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel withdraw`.
#[derive(Args, Debug)]
#[command(after_help = "Example: after `tallybook channel close --force` and the grace period\n  \
    tallybook channel withdraw $CHANNEL")]
pub struct Withdraw {
    /// The channel's id.
    #[arg(value_parser = channel_id)]
    id: Key,
    #[command(flatten)]
    wallet: Wallet,
}

impl ChannelCommand {
    /// Does it.
    pub async fn run(self, output: Output) -> Result<()> {
        match self {
            Self::List(list) => list.run(output).await,
            Self::Status(status) => status.run(output).await,
            Self::Close(close) => close.run(output).await,
            Self::Withdraw(withdraw) => withdraw.run(output).await,
        }
    }
}

impl List {
    async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        let mut channels: Vec<_> =
            wallet.agent.channels().iter().map(|channel| Remembered::of(channel, wallet.decimals)).collect();
        channels.sort_by(|a, b| (&a.host, &a.channel).cmp(&(&b.host, &b.channel)));
        let committed = Money::new(wallet.agent.committed(), wallet.decimals);
        output.report(&ListReport { wallet: wallet.agent.wallet().to_string(), committed, channels })
    }
}

impl Status {
    async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        let channel = find(&wallet, &self.id)?;
        let rpc = self.wallet.rpc().client();
        let book = connection::book(&rpc, &Address::from(channel.parts.book.0)).await?;
        let page = connection::page_at(&rpc, &Address::from(channel.parts.page.0)).await?;
        let on_chain = match page {
            Some(page) => SlotReport::of(&book, &page, channel.parts.slot)?,
            None => None,
        };
        output.report(&StatusReport {
            remembered: Remembered::of(&channel, wallet.decimals),
            // Another generation is another channel.
            on_chain: on_chain.filter(|slot| slot.channel == self.id.to_string()),
            chain_time: Moment(sending::chain_clock(&rpc).await?),
        })
    }
}

impl Close {
    async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        if self.force {
            let spinner = output.progress().spinner("asking the chain to close");
            let closing_at = wallet.agent.force_close(self.id).await.map_err(|error| wallet.told(error));
            spinner.finish_and_clear();
            return output.report(&ClosingReport { channel: self.id.to_string(), closing_at: Moment(closing_at?) });
        }
        let spinner = output.progress().spinner("asking the server to close");
        let closed = wallet.agent.close(self.id).await.map_err(|error| wallet.told(error));
        spinner.finish_and_clear();
        output.report(&ClosedReport::of(&closed?, wallet.decimals))
    }
}

impl Withdraw {
    async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        if let Phase::Closing { closing_at } = find(&wallet, &self.id)?.phase {
            let wait = closing_at.saturating_sub(sending::chain_clock(&self.wallet.rpc().client()).await?);
            ensure!(wait <= 0, "the grace period is not over yet: try again in {wait} seconds");
        }
        let spinner = output.progress().spinner("withdrawing");
        let closed = wallet.agent.withdraw(self.id).await.map_err(|error| wallet.told(error));
        spinner.finish_and_clear();
        output.report(&ClosedReport::of(&closed?, wallet.decimals))
    }
}

/// Reads a channel's id.
pub(crate) fn channel_id(text: &str) -> Result<Key> {
    Key::from_base58_or_hex(text).ok().context("a channel's id is 32 bytes in base58: see `tallybook channel list`")
}

fn find(wallet: &OpenWallet, id: &Key) -> Result<ChannelReport> {
    let found = wallet.agent.channels().into_iter().find(|channel| channel.id == *id);
    found.with_context(|| {
        format!(
            "the wallet {} knows of no channel {id}: see `tallybook channel list`, and that --state-dir and --keypair are \
             those that it was opened with",
            wallet.agent.wallet()
        )
    })
}

/// What `tallybook channel list` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListReport {
    /// Whose.
    pub wallet: String,
    /// What is tied up in channels and what was spent, together.
    pub committed: Money,
    /// The channels, ended ones too.
    pub channels: Vec<Remembered>,
}

/// A channel as the wallet's journal has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Remembered {
    /// Its id.
    pub channel: String,
    /// The host that it pays.
    pub host: String,
    /// `opening`, `open`, `givenUp`, `closing` or `ended`.
    pub phase: &'static str,
    /// All that was put in.
    pub deposit: Money,
    /// What calls cost, as far as their outcome was seen.
    pub charged: Money,
    /// When it may be withdrawn, in Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closing_at: Option<Moment>,
    /// The payee's book.
    pub book: String,
    /// The page.
    pub page: String,
    /// The slot in the page.
    pub slot: u8,
    /// The slot's generation.
    pub generation: u32,
}

/// What `tallybook channel status` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// What the wallet remembers.
    pub remembered: Remembered,
    /// What the chain says; nothing when the channel is over there.
    pub on_chain: Option<SlotReport>,
    /// The chain's clock.
    pub chain_time: Moment,
}

/// What `tallybook channel close --force` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosingReport {
    /// Which one.
    pub channel: String,
    /// From when on it may be withdrawn, in Unix seconds.
    pub closing_at: Moment,
}

/// What `tallybook channel close` and `withdraw` print.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedReport {
    /// Which one.
    pub channel: String,
    /// What its calls cost in all.
    pub charged: Money,
    /// What came back to the wallet.
    pub returned: Money,
}

impl Remembered {
    fn of(channel: &ChannelReport, decimals: u8) -> Self {
        let (phase, closing_at) = match channel.phase {
            Phase::Opening { .. } => ("opening", None),
            Phase::Open => ("open", None),
            Phase::GivenUp => ("givenUp", None),
            Phase::Closing { closing_at } => ("closing", Some(Moment(closing_at))),
            Phase::Ended => ("ended", None),
        };
        Self {
            channel: channel.id.to_string(),
            host: channel.host.clone(),
            phase,
            deposit: Money::new(channel.deposit, decimals),
            charged: Money::new(channel.charged, decimals),
            closing_at,
            book: channel.parts.book.to_string(),
            page: channel.parts.page.to_string(),
            slot: channel.parts.slot,
            generation: channel.parts.generation,
        }
    }

    /// What to do next, where something is.
    fn advice(&self) -> String {
        match (self.phase, self.closing_at) {
            ("givenUp", _) => ": it pays no more calls, close it".to_owned(),
            (_, Some(at)) => format!(": withdraw it from {at} on"),
            _ => String::new(),
        }
    }
}

impl ClosedReport {
    fn of(closed: &Closed, decimals: u8) -> Self {
        Self {
            channel: closed.id.to_string(),
            charged: Money::new(closed.charged, decimals),
            returned: Money::new(closed.returned, decimals),
        }
    }
}

impl fmt::Display for ListReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.channels.is_empty() {
            return write!(
                f,
                "the wallet {} has no channels yet: `tallybook pay URL` opens them as they are needed",
                self.wallet
            );
        }
        for channel in &self.channels {
            let (id, host, phase) = (&channel.channel, &channel.host, channel.phase);
            let (charged, deposit, advice) = (channel.charged, channel.deposit, channel.advice());
            writeln!(f, "{id:<44}  {host}  {charged} of {deposit} used  {phase}{advice}")?;
        }
        write!(f, "tied up or spent in all: {}", self.committed)
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = &self.remembered;
        line(f, "channel", &here.channel)?;
        line(f, "host", &here.host)?;
        line(f, "here", format_args!("{}{}", here.phase, here.advice()))?;
        line(f, "used", format_args!("{} of {}, as far as was seen", here.charged, here.deposit))?;
        line(f, "place", format_args!("page {}, slot {}, generation {}", here.page, here.slot, here.generation))?;
        let Some(there) = &self.on_chain else {
            return line(f, "on chain", "over: its slot is free, or another channel's");
        };
        line(f, "on chain", format_args!("{}, {} of {} settled", there.status, there.settled, there.deposit))?;
        match there.closing_at {
            Some(at) if at.0 <= self.chain_time.0 => {
                line(f, "next", format_args!("tallybook channel withdraw {}", here.channel))
            }
            Some(at) => {
                line(f, "withdrawable", format_args!("{at}, in {} seconds", at.0.saturating_sub(self.chain_time.0)))
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for ClosingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closing: from {} on, run `tallybook channel withdraw {}`", self.closing_at, self.channel)
    }
}

impl fmt::Display for ClosedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "closed {}: its calls cost {}, {} came back", self.channel, self.charged, self.returned)
    }
}
