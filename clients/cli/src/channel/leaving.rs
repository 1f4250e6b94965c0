//! The ways out: with the server's help, without it through the chain, and at somebody else's expense.

use super::{channel_id, find};
use crate::output::{Moment, Money, Output, in_full, line};
use crate::sending;
use crate::wallet::{OpenWallet, Wallet};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use solana_address::Address;
use solana_keypair::Keypair;
use std::fmt;
use tallybook_agent::{AgentError, Closed, ExitStep, Phase};
use tallybook_keys::Source;
use tallybook_wire::Key;

/// Arguments of `tallybook channel close`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: with the server's help; where it does not help; and where the wallet has no SOL either\n  \
    tallybook channel close $CHANNEL\n  \
    tallybook channel close --all\n  \
    tallybook channel close $CHANNEL --force\n  \
    tallybook channel close $CHANNEL --force --fee-payer friend.json"
)]
pub struct Close {
    /// The channel's id.
    #[arg(value_parser = channel_id, required_unless_present = "all", conflicts_with = "all")]
    id: Option<Key>,
    /// Every channel that is neither over nor closing, with the servers' help.
    #[arg(long, conflicts_with = "force")]
    all: bool,
    /// Ask the chain instead of the server: for a server that does not answer or does not agree. What is unspent can
    /// be withdrawn after the book's grace period.
    #[arg(long)]
    force: bool,
    /// Key of whoever pays the network's fee, as for --keypair [default: the wallet].
    #[arg(long, value_name = "KEY", requires = "force")]
    fee_payer: Option<Source>,
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
    /// Key of whoever pays the network's fee, as for --keypair [default: the wallet].
    #[arg(long, value_name = "KEY")]
    fee_payer: Option<Source>,
    #[command(flatten)]
    wallet: Wallet,
}

/// Arguments of `tallybook channel exit`.
#[derive(Args, Debug)]
#[command(
    after_help = "Example: the request to close, and after the grace period the withdrawal, for a friend to sign and send\n  \
    tallybook channel exit $CHANNEL --fee-payer $FRIEND"
)]
pub struct Exit {
    /// The channel's id.
    #[arg(value_parser = channel_id)]
    id: Key,
    /// The address of whoever pays the fee, signs and sends it, within about a minute.
    #[arg(long, value_name = "ADDRESS")]
    fee_payer: Address,
    #[command(flatten)]
    wallet: Wallet,
}

impl Close {
    pub(super) async fn run(self, output: Output) -> Result<()> {
        let fee_payer = self.fee_payer.as_ref().map(Source::keypair).transpose()?;
        let wallet = self.wallet.open(None, None).await?;
        let Some(id) = self.id else {
            return close_all(&wallet, output).await;
        };
        find(&wallet, &id)?;
        if !self.force {
            let spinner = output.progress().spinner("asking the server to close");
            let closed = wallet.agent.close(id).await;
            spinner.finish_and_clear();
            return output.report(&ClosedReport::of(&closed.map_err(|error| wallet.told(error))?, wallet.decimals));
        }
        let spinner = output.progress().spinner("asking the chain to close");
        let closing_at = match &fee_payer {
            Some(fee_payer) => wallet.agent.force_close_paid_by(id, fee_payer).await,
            None => wallet.agent.force_close(id).await,
        };
        spinner.finish_and_clear();
        let closing_at = Moment(closing_at.map_err(|error| wallet.told(error))?);
        output.report(&ClosingReport { channel: id.to_string(), closing_at })
    }
}

async fn close_all(wallet: &OpenWallet, output: Output) -> Result<()> {
    let spinner = output.progress().spinner("asking the servers to close");
    let outcomes = wallet.agent.close_all().await;
    spinner.finish_and_clear();
    let mut report = ClosedAllReport::default();
    for (id, outcome) in outcomes {
        match outcome {
            Ok(closed) => report.closed.push(ClosedReport::of(&closed, wallet.decimals)),
            Err(error) => report
                .failed
                .push(NotClosed { channel: id.to_string(), message: in_full(&anyhow::Error::new(wallet.told(error))) }),
        }
    }
    output.report(&report)?;
    let failed = report.failed.len();
    ensure!(failed == 0, "not all channels were closed, {failed} stay: try again, or close each with --force");
    Ok(())
}

impl Withdraw {
    pub(super) async fn run(self, output: Output) -> Result<()> {
        let fee_payer = self.fee_payer.as_ref().map(Source::keypair).transpose()?;
        let wallet = self.wallet.open(None, None).await?;
        if let Phase::Closing { closing_at } = find(&wallet, &self.id)?.phase {
            let wait = closing_at.saturating_sub(sending::chain_clock(&self.wallet.rpc().client()).await?);
            ensure!(wait <= 0, "the grace period is not over yet: try again in {wait} seconds");
        }
        let spinner = output.progress().spinner("withdrawing");
        let closed = withdraw(&wallet, self.id, fee_payer.as_ref()).await;
        spinner.finish_and_clear();
        output.report(&ClosedReport::of(&closed.map_err(|error| wallet.told(error))?, wallet.decimals))
    }
}

async fn withdraw(wallet: &OpenWallet, id: Key, fee_payer: Option<&Keypair>) -> Result<Closed, AgentError> {
    match fee_payer {
        Some(fee_payer) => wallet.agent.withdraw_paid_by(id, fee_payer).await,
        None => wallet.agent.withdraw(id).await,
    }
}

impl Exit {
    pub(super) async fn run(self, output: Output) -> Result<()> {
        let wallet = self.wallet.open(None, None).await?;
        find(&wallet, &self.id)?;
        let exit = wallet.agent.exit_transaction(self.id, Key(self.fee_payer.to_bytes())).await;
        let exit = exit.map_err(|error| wallet.told(error))?;
        let transaction = String::from(exit.transaction);
        output.report(&ExitReport {
            channel: self.id.to_string(),
            step: match exit.step {
                ExitStep::RequestClose => "requestClose",
                ExitStep::Withdraw => "withdraw",
            },
            fee_payer: self.fee_payer.to_string(),
            transaction,
            last_valid_height: exit.last_valid_height,
        })
    }
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

/// What `tallybook channel close --all` prints.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct ClosedAllReport {
    /// Those that are over now.
    pub closed: Vec<ClosedReport>,
    /// The others.
    pub failed: Vec<NotClosed>,
}

/// A channel that was not closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct NotClosed {
    /// Which one.
    pub channel: String,
    /// Why, and what to do.
    pub message: String,
}

/// What `tallybook channel exit` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitReport {
    /// Which one.
    pub channel: String,
    /// `requestClose`, or after the grace period `withdraw`.
    pub step: &'static str,
    /// Who has to sign it.
    pub fee_payer: String,
    /// The transaction, complete but for that signature, in base64.
    pub transaction: String,
    /// The last block height at which it can land.
    pub last_valid_height: u64,
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

impl fmt::Display for ClosedAllReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.closed.is_empty() && self.failed.is_empty() {
            return f.write_str("nothing to close: no channel is open");
        }
        self.closed.iter().try_for_each(|closed| writeln!(f, "{closed}"))?;
        self.failed.iter().try_for_each(|failed| writeln!(f, "NOT closed {}: {}", failed.channel, failed.message))
    }
}

impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "channel", &self.channel)?;
        line(f, "step", self.step)?;
        line(f, "to sign", format_args!("{}, and send within about a minute", self.fee_payer))?;
        line(f, "transaction", &self.transaction)
    }
}
