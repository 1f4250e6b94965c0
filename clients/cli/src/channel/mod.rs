//! `tallybook channel`: a payer's channels. Nothing here needs a facilitator; a server only where a command says so.
//!
//! Reading path: list and status here → `funding` (open, top-up, recover) → `leaving` (close, withdraw, exit).

mod funding;
mod leaving;

pub use funding::{FoundReport, Open, Recover, TopUp, TopUpReport};
pub use leaving::{Close, ClosedAllReport, ClosedReport, ClosingReport, Exit, ExitReport, NotClosed, Withdraw};

use crate::connection;
use crate::output::{Moment, Money, Output, line};
use crate::page::SlotReport;
use crate::sending;
use crate::wallet::{OpenWallet, Wallet};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use solana_address::Address;
use std::fmt;
use tallybook_agent::{ChannelReport, Phase};
use tallybook_wire::Key;

/// What to do with channels.
#[derive(Subcommand, Debug)]
pub enum ChannelCommand {
    /// List the wallet's channels.
    List(List),
    /// Show a channel: what this wallet remembers of it, and what the chain says.
    Status(Status),
    /// Open a channel yourself, at the wallet's expense. (`tallybook pay` opens channels as they are needed, at the
    /// sponsor's.)
    Open(Open),
    /// Add to a channel's deposit, at the wallet's expense.
    TopUp(TopUp),
    /// Find the wallet's channels again, on chain, when the state directory was lost.
    Recover(Recover),
    /// Close a channel: with the server's help at once, or with --force through the chain.
    Close(Close),
    /// Take what is unspent out of a channel whose forced close is over its grace period.
    Withdraw(Withdraw),
    /// Print the next step out of a channel as a transaction that anybody else can pay for and send: for a wallet
    /// without SOL.
    Exit(Exit),
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

impl ChannelCommand {
    /// Does it.
    pub async fn run(self, output: Output) -> Result<()> {
        match self {
            Self::List(list) => list.run(output).await,
            Self::Status(status) => status.run(output).await,
            Self::Open(open) => open.run(output).await,
            Self::TopUp(top_up) => top_up.run(output).await,
            Self::Recover(recover) => recover.run(output).await,
            Self::Close(close) => close.run(output).await,
            Self::Withdraw(withdraw) => withdraw.run(output).await,
            Self::Exit(exit) => exit.run(output).await,
        }
    }
}

impl List {
    async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        let mut channels: Vec<_> =
            wallet.agent.channels().iter().map(|channel| Remembered::of(channel, wallet.decimals)).collect();
        channels.sort_by(|a, b| (&a.host, &a.channel).cmp(&(&b.host, &b.channel)));
        let budget = wallet.agent.budget().await?;
        let money = |amount| Money::new(amount, wallet.decimals);
        output.report(&ListReport {
            wallet: wallet.agent.wallet().to_string(),
            committed: money(wallet.agent.committed()),
            budget: BudgetUse {
                committed: money(budget.committed),
                last_hour: money(budget.last_hour),
                last_day: money(budget.last_day),
            },
            channels,
        })
    }
}

impl Status {
    async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        let known = find(&wallet, &self.id)?;
        // What the chain says is taken over, if it can be; it is shown below in any case.
        let channel = wallet.agent.look(self.id).await.unwrap_or(known);
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

/// Reads a channel's id.
pub(crate) fn channel_id(text: &str) -> Result<Key> {
    Key::from_base58_or_hex(text).ok().context("a channel's id is 32 bytes in base58: see `tallybook channel list`")
}

pub(crate) fn find(wallet: &OpenWallet, id: &Key) -> Result<ChannelReport> {
    let found = wallet.agent.channels().into_iter().find(|channel| channel.id == *id);
    found.with_context(|| {
        format!(
            "the wallet {} knows of no channel {id}: see `tallybook channel list`, and that --state-dir and --keypair are \
             those that it was opened with; or find it on chain by `tallybook channel recover`",
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
    /// What counts against the budgets, of all agents that share them.
    pub budget: BudgetUse,
    /// The channels, ended ones too.
    pub channels: Vec<Remembered>,
}

/// What counts against budgets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetUse {
    /// Tied up or spent, in all.
    pub committed: Money,
    /// What calls may have cost in the last hour, where there is a budget by time.
    pub last_hour: Money,
    /// The same for the last day.
    pub last_day: Money,
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
            ("givenUp", _) if self.host.is_empty() => {
                ": its server is not known, so it pays no calls (`tallybook channel recover URL`)".to_owned()
            }
            ("givenUp", _) => ": it pays no more calls, close it".to_owned(),
            (_, Some(at)) => format!(": withdraw it from {at} on"),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = if self.host.is_empty() { "(no host)" } else { &self.host };
        let (id, charged, deposit, phase) = (&self.channel, self.charged, self.deposit, self.phase);
        // What the last calls cost is written down some calls later; a channel that is over is known to the last unit.
        let least = if self.phase == "ended" { "" } else { "at least " };
        write!(f, "{id:<44}  {host}  {least}{charged} of {deposit} used  {phase}{}", self.advice())
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
        self.channels.iter().try_for_each(|channel| writeln!(f, "{channel}"))?;
        write!(f, "tied up or spent: {} by this wallet", self.committed)?;
        let budget = &self.budget;
        if budget.committed != self.committed {
            write!(f, ", {} by all that share the budget", budget.committed)?;
        }
        if !budget.last_day.amount.is_zero() {
            write!(
                f,
                "; calls cost at most {} in the last hour, {} in the last day",
                budget.last_hour, budget.last_day
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for StatusReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = &self.remembered;
        line(f, "channel", &here.channel)?;
        line(f, "host", &here.host)?;
        line(f, "here", format_args!("{}{}", here.phase, here.advice()))?;
        line(f, "used", format_args!("at least {} of {}", here.charged, here.deposit))?;
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
