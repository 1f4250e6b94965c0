//! `budget`, `channels` and `paid`: how the wallet stands.

use super::Shared;
use super::money::Money;
use super::quote::structured;
use super::refusal::Refusal;
use rmcp::model::CallToolResult;
use rmcp::schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;
use tallybook_agent::{BudgetReport, ChannelReport, LimitsReport, Paid, Phase};
use tallybook_rules::Amount;

/// The most payments that are listed at once, and how many unless said otherwise.
const MAX_PAYMENTS: usize = 200;
const USUAL_PAYMENTS: usize = 20;

/// The limits, and what is left of them.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Budget {
    /// The wallet's address.
    wallet: String,
    /// The most that a call may cost.
    max_price: Money,
    /// The most that a stream may cost, and a call whose price is a ceiling.
    max_ceiling: Money,
    /// What goes into a new channel.
    deposit: Money,
    /// A person is asked before a call costs more than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    asks_above: Option<Money>,
    /// A person is asked before a larger deposit.
    #[serde(skip_serializing_if = "Option::is_none")]
    asks_above_deposit: Option<Money>,
    /// What is tied up in channels and was spent, in all.
    in_all: Bound,
    /// The same at each host where there is some.
    at_hosts: BTreeMap<String, Bound>,
    /// What calls may have cost within the last hour, if that is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_hour: Option<Bound>,
    /// What calls may have cost within the last day, if that is bounded.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_day: Option<Bound>,
    /// The hosts that may be paid; any, where this is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    hosts: Option<Vec<String>>,
    /// The hosts that are never paid.
    never: Vec<String>,
}

/// A limit.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
struct Bound {
    /// What it is.
    limit: Money,
    /// What counts against it.
    used: Money,
    /// What is left.
    left: Money,
}

/// The wallet's channels.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Channels {
    /// What was spent on all of them, those that have ended included.
    spent: Money,
    /// Each.
    channels: Vec<Channel>,
}

/// A channel.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
struct Channel {
    /// Its id.
    id: String,
    /// The host that it pays.
    host: String,
    /// What was put in.
    deposit: Money,
    /// What was spent of it.
    spent: Money,
    /// What is left.
    left: Money,
    /// opening (its deposit was sent), open, givenUp (pays no more), closing, or ended.
    state: String,
    /// When what is left can be taken back, in Unix seconds, where it is closing.
    #[serde(skip_serializing_if = "Option::is_none")]
    closing_at: Option<i64>,
}

/// What `paid` takes.
#[derive(Deserialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct PaidArguments {
    /// Only what was paid at this host, written as `host` or `host:port`.
    #[serde(default)]
    host: Option<String>,
    /// How many to list at most: 20 unless said otherwise, up to 200.
    #[serde(default)]
    limit: Option<u16>,
}

/// The newest payments.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Payments {
    /// The newest first.
    payments: Vec<Payment>,
}

/// A payment.
#[derive(Serialize, JsonSchema, Debug)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
struct Payment {
    /// When, in Unix seconds.
    at: i64,
    /// The host that was paid.
    host: String,
    /// The method.
    method: String,
    /// The path, without its query.
    path: String,
    /// The status of the answer; 0 where none was seen.
    status: u16,
    /// What it cost; missing where that is not known yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    charged: Option<Money>,
    /// What it could have cost.
    price: Money,
    /// The channel that paid.
    channel: String,
}

impl Bound {
    fn new(limit: Amount, used: Amount, decimals: u8) -> Self {
        let money = |amount| Money::new(amount, decimals);
        Self { limit: money(limit), used: money(used), left: money(limit.less(used)) }
    }
}

pub(super) async fn budget(shared: &Shared) -> Result<CallToolResult, Refusal> {
    let counted = shared.agent.budget().await.map_err(|error| shared.told(error))?;
    structured(&budget_of(shared.agent.wallet().to_string(), shared.agent.limits(), counted, shared.decimals))
}

fn budget_of(wallet: String, limits: LimitsReport, counted: BudgetReport, decimals: u8) -> Budget {
    let money = |amount| Money::new(amount, decimals);
    let bound = |limit, used| Bound::new(limit, used, decimals);
    let at_hosts = counted.by_host.into_iter().map(|(host, used)| (host, bound(limits.budget_per_host, used)));
    Budget {
        wallet,
        max_price: money(limits.max_price),
        max_ceiling: money(limits.max_ceiling),
        deposit: money(limits.deposit),
        asks_above: limits.approve_price_above.map(money),
        asks_above_deposit: limits.approve_deposit_above.map(money),
        in_all: bound(limits.budget, counted.committed),
        at_hosts: at_hosts.collect(),
        last_hour: limits.budget_per_hour.map(|limit| bound(limit, counted.last_hour)),
        last_day: limits.budget_per_day.map(|limit| bound(limit, counted.last_day)),
        hosts: limits.hosts,
        never: limits.denied_hosts,
    }
}

pub(super) fn channels(shared: &Shared) -> Result<CallToolResult, Refusal> {
    let channels = shared.agent.channels().into_iter().map(|channel| channel_of(channel, shared.decimals));
    let spent = Money::new(shared.agent.spent(), shared.decimals);
    structured(&Channels { spent, channels: channels.collect() })
}

fn channel_of(channel: ChannelReport, decimals: u8) -> Channel {
    let money = |amount| Money::new(amount, decimals);
    let (state, closing_at) = match channel.phase {
        Phase::Opening { .. } => ("opening", None),
        Phase::Open => ("open", None),
        Phase::GivenUp => ("givenUp", None),
        Phase::Closing { closing_at } => ("closing", Some(closing_at)),
        Phase::Ended => ("ended", None),
    };
    let left = if channel.phase == Phase::Ended { Amount::ZERO } else { channel.deposit.less(channel.charged) };
    Channel {
        id: channel.id.to_string(),
        host: channel.host,
        deposit: money(channel.deposit),
        spent: money(channel.charged),
        left: money(left),
        state: state.to_owned(),
        closing_at,
    }
}

pub(super) async fn paid(shared: &Shared, arguments: PaidArguments) -> Result<CallToolResult, Refusal> {
    let count = arguments.limit.map_or(USUAL_PAYMENTS, usize::from).min(MAX_PAYMENTS);
    let (folder, decimals) = (shared.state_directory.clone(), shared.decimals);
    let newest = tokio::task::spawn_blocking(move || newest(folder, arguments.host.as_deref(), count)).await;
    let newest = newest.map_err(io::Error::other).flatten();
    let newest = newest.map_err(|error| Refusal::new(format!("the list of payments cannot be read: {error}")))?;
    structured(&Payments { payments: newest.into_iter().map(|paid| payment_of(paid, decimals)).collect() })
}

/// The newest `count`, the newest first.
fn newest(folder: PathBuf, host: Option<&str>, count: usize) -> io::Result<Vec<Paid>> {
    let mut newest = VecDeque::with_capacity(count);
    for paid in tallybook_agent::paid(&folder) {
        let paid = paid?;
        if host.is_none_or(|host| host == paid.host) {
            newest.truncate(count.saturating_sub(1));
            newest.push_front(paid);
        }
    }
    newest.truncate(count);
    Ok(newest.into())
}

fn payment_of(paid: Paid, decimals: u8) -> Payment {
    let money = |amount| Money::new(amount, decimals);
    Payment {
        at: paid.at,
        host: paid.host,
        method: paid.method,
        path: paid.path,
        status: paid.status,
        charged: paid.charged.map(money),
        price: money(paid.price),
        channel: paid.channel.to_string(),
    }
}
