//! The calls: paid ones by agents with wallets of their own, and unpaid ones to compare with.

use super::words::{self, Facts};
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use reqwest::{Client, StatusCode};
use std::time::Duration;
use tallybook_agent::{Agent, receipt};
use tallybook_rules::Amount;
use tallybook_wire::SettleResponse;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Latencies are kept to three digits, in microseconds, up to a minute.
const LONGEST_MICROSECONDS: u64 = 60_000_000;
/// A handler fails now and then; this many in a row is something else.
const FAILURES_IN_A_ROW: u32 = 10;

/// What came of many calls.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Answered with 200 and the right facts.
    pub served: u64,
    /// Answered with the handler's own failure.
    pub failed: u64,
    /// What the receipts say was charged, in base units.
    pub charged: Amount,
    /// Microseconds of each served call but those that opened a channel.
    pub latency: Histogram<u64>,
    /// The longest call that opened a channel.
    pub opening: Duration,
    /// From the first request to the last answer.
    pub time: Duration,
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            served: 0,
            failed: 0,
            charged: Amount::ZERO,
            latency: Histogram::new_with_bounds(1, LONGEST_MICROSECONDS, 3)?,
            opening: Duration::ZERO,
            time: Duration::ZERO,
        })
    }

    /// Takes in what ran at the same time.
    pub fn join(&mut self, other: &Self) -> Result<()> {
        self.served = self.served.saturating_add(other.served);
        self.failed = self.failed.saturating_add(other.failed);
        self.charged = self.charged.plus(other.charged)?;
        self.latency.add(&other.latency)?;
        self.opening = self.opening.max(other.opening);
        self.time = self.time.max(other.time);
        Ok(())
    }

    /// Microseconds below which half of the calls were, and 99 in 100.
    pub fn p50_p99(&self) -> (u64, u64) {
        (self.latency.value_at_quantile(0.5), self.latency.value_at_quantile(0.99))
    }

    fn record(&mut self, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(LONGEST_MICROSECONDS);
        self.latency.saturating_record(microseconds);
    }
}

/// Makes `calls` paid calls of `url` one after another, with texts that differ by `seed`.
pub(super) async fn pay(
    agent: &Agent,
    client: &Client,
    url: &str,
    calls: u64,
    seed: u64,
    bar: &ProgressBar,
) -> Result<Tally> {
    let mut tally = Tally::new()?;
    let mut failures = 0u32;
    let began = Instant::now();
    while tally.served < calls {
        let text = words::text(seed.wrapping_add(tally.served).wrapping_add(tally.failed));
        let opens = agent.spent().is_zero() && tally.served == 0;
        let sent = Instant::now();
        let response = agent.execute(client.post(url).body(text.clone()).build()?).await?;
        let (status, charge) = (response.status(), receipt(response.headers()));
        let body = response.bytes().await?;
        let took = sent.elapsed();
        match (status, charge) {
            (StatusCode::OK, Some(SettleResponse::Settled { extra, .. })) => {
                let charged = extra.charged_amount.context("a receipt does not say what was charged")?;
                check(&body, &text)?;
                tally.served = tally.served.saturating_add(1);
                tally.charged = tally.charged.plus(charged)?;
                failures = 0;
                if opens {
                    tally.opening = tally.opening.max(took)
                } else {
                    tally.record(took)
                }
                bar.inc(1);
            }
            (StatusCode::INTERNAL_SERVER_ERROR, None) => {
                tally.failed = tally.failed.saturating_add(1);
                failures = failures.saturating_add(1);
                ensure!(failures < FAILURES_IN_A_ROW, "the API fails again and again");
            }
            (status, charge) => bail!(
                "an answer that makes no sense: {status}, {} receipt",
                if charge.is_some() { "with a" } else { "without a" }
            ),
        }
    }
    tally.time = began.elapsed();
    Ok(tally)
}

/// Makes `calls` calls of the unpaid route in `lanes` at a time.
pub(super) async fn unpaid(url: &str, lanes: u64, calls: u64, bar: &ProgressBar) -> Result<Tally> {
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        let (url, bar) = (url.to_owned(), bar.clone());
        let calls = share(calls, lanes, lane);
        running.spawn(async move { unpaid_lane(&url, calls, lane << 32, &bar).await });
    }
    let mut tally = Tally::new()?;
    while let Some(lane) = running.join_next().await {
        tally.join(&lane??)?;
    }
    Ok(tally)
}

async fn unpaid_lane(url: &str, calls: u64, seed: u64, bar: &ProgressBar) -> Result<Tally> {
    let client = Client::new();
    let mut tally = Tally::new()?;
    let began = Instant::now();
    while tally.served < calls {
        let text = words::text(seed.wrapping_add(tally.served).wrapping_add(tally.failed));
        let sent = Instant::now();
        let response = client.post(url).body(text.clone()).send().await?;
        let status = response.status();
        let body = response.bytes().await?;
        let took = sent.elapsed();
        match status {
            StatusCode::OK => {
                check(&body, &text)?;
                // The first call also connects, as the first paid one does.
                if tally.served > 0 {
                    tally.record(took);
                }
                tally.served = tally.served.saturating_add(1);
                bar.inc(1);
            }
            StatusCode::INTERNAL_SERVER_ERROR => tally.failed = tally.failed.saturating_add(1),
            status => bail!("the unpaid route answers {status}"),
        }
    }
    tally.time = began.elapsed();
    Ok(tally)
}

/// What lane `at` of `lanes` gets of `calls`.
pub(super) fn share(calls: u64, lanes: u64, at: u64) -> u64 {
    let rest = calls.checked_rem(lanes).unwrap_or_default();
    let even = calls.checked_div(lanes).unwrap_or_default();
    even.saturating_add(u64::from(at < rest))
}

fn check(body: &[u8], text: &str) -> Result<()> {
    let facts: Facts = serde_json::from_slice(body).context("the API's answer")?;
    ensure!(facts == Facts::about(text), "the API answers with wrong facts");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        for (calls, lanes) in [(10_000, 24), (7, 3), (0, 2), (5, 8)] {
            assert_eq!((0..lanes).map(|at| share(calls, lanes, at)).sum::<u64>(), calls);
        }
    }
}
