//! One look at the chain: which of the channels are closing, and what is claimed of them.

use crate::output::{Moment, Money, line};
use crate::sending::chain_clock;
use crate::settle::survey::{Claim, PageWork, Survey};
use crate::settle::{Sendings, Total};
use crate::vouchers::Newest;
use anyhow::{Context, Result};
use serde::Serialize;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use std::fmt;
use std::sync::Arc;
use tallybook_chain::BookView;
use tallybook_ledger::{Batch, Outcome};
use tallybook_rules::{Amount, Rejection, Status};
use tallybook_settler::{Commitment, Settler};
use tallybook_wire::{Key, Signature};
use tokio::task::JoinSet;

/// Claims that are sent at the same time: each waits for its confirmation.
const CLAIMED_AT_ONCE: usize = 16;

/// What a look needs.
pub(super) struct Round {
    pub(super) rpc: Arc<RpcClient>,
    pub(super) settler: Arc<Settler>,
    pub(super) books: Vec<Address>,
    /// Seconds that a closing channel is left to its facilitator.
    pub(super) patience: i64,
    /// What a claim has to add at least.
    pub(super) min_gain: Amount,
}

/// What a look saw and did.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Look {
    /// When, by the chain's clock, in Unix seconds.
    pub at: i64,
    /// Channels that there is a voucher of.
    pub vouchers: usize,
    /// Those of them that stand on chain.
    pub standing: usize,
    /// Those that are closing.
    pub closing: usize,
    /// Those of the closing ones that are left to their facilitator for now.
    pub waiting: usize,
    /// What was claimed in this look.
    pub claimed: Vec<Claimed>,
    /// What that comes to, for each mint.
    pub totals: Vec<Total>,
    /// Closing channels that could not be claimed in this look, and are tried again in the next.
    pub failed: usize,
    /// Channels whose vouchers none is genuine of.
    pub forged: usize,
}

/// A closing channel that was claimed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    /// Its id.
    pub channel: String,
    /// Its page.
    pub page: String,
    /// The token.
    pub mint: String,
    /// What was claimed, as the page shows it.
    pub amount: Money,
    /// When its payer could have taken that back.
    pub closing_at: Moment,
    /// The transactions.
    pub transactions: Vec<String>,
}

/// A closing channel, and what claims it.
struct Due {
    book: BookView,
    batch: Batch,
    closing_at: i64,
    id: Key,
    settled: Amount,
}

impl Round {
    /// Claims what has to be claimed now, and tells of each claim at once.
    pub(super) async fn look(&self, newest: &Newest, tell: &impl Fn(&Claimed)) -> Result<Look> {
        let at = chain_clock(&self.rpc).await?;
        let mut look = Look { at, vouchers: newest.lines.len(), ..Look::default() };
        if newest.lines.is_empty() {
            return Ok(look);
        }
        let survey = Survey::of(&self.settler, newest, &self.books).await?;
        let mut due = Vec::new();
        for page in &survey.pages {
            for claim in &page.claims {
                look.standing = look.standing.saturating_add(1);
                due.extend(self.due(page, claim, &mut look)?);
            }
        }
        // The one whose time is over first goes first.
        due.sort_by_key(|due| due.closing_at);
        let mut claims = JoinSet::new();
        for due in due {
            while claims.len() >= CLAIMED_AT_ONCE {
                look.take(claims.join_next().await, tell);
            }
            let settler = Arc::clone(&self.settler);
            claims.spawn(async move { due.claim(&settler).await });
        }
        while let Some(claimed) = claims.join_next().await {
            look.take(Some(claimed), tell);
        }
        Ok(look)
    }

    /// What to claim of a channel now, if anything.
    fn due(&self, page: &PageWork, claim: &Claim, look: &mut Look) -> Result<Option<Due>> {
        if claim.row == Err(Rejection::BadSignature) {
            look.forged = look.forged.saturating_add(1);
        }
        let slot = &claim.on_chain;
        if slot.status() != Ok(Status::Closing) {
            return Ok(None);
        }
        look.closing = look.closing.saturating_add(1);
        let gain = claim.target().less(slot.settled);
        let Some(row) = claim.row.ok().filter(|_| !gain.is_zero() && gain >= self.min_gain) else { return Ok(None) };
        let grace = i64::from(page.book.state.grace_seconds);
        let since = slot.closing_at.saturating_sub(grace);
        if look.at < since.saturating_add(self.patience.min(grace / 2)) {
            look.waiting = look.waiting.saturating_add(1);
            return Ok(None);
        }
        let batch = Batch::new(page.page.address.to_bytes(), vec![row])?;
        let id = claim.line.voucher.channel_id;
        Ok(Some(Due { book: page.book, batch, closing_at: slot.closing_at, id, settled: slot.settled }))
    }
}

impl Due {
    /// Claims it, alone: no other row of its transaction can fail with it.
    async fn claim(self, settler: &Settler) -> Result<Option<Claimed>> {
        let outcomes = settler.settle_together(&[(&self.book, &self.batch)], &Sendings::default()).await?;
        let page = Address::from(*self.batch.page());
        let (_, now) = settler.read_page(&page, 0, Commitment::Confirmed).await.context("reading the page again")?;
        // Over meanwhile, as by its facilitator's claim and its payer's withdrawal: nothing is left to claim.
        let slot = (0u8..).zip(&now.slots).find(|(at, _)| now.channel_id(*at) == Some(self.id.0));
        let Some((_, slot)) = slot else { return Ok(None) };
        let transactions = |outcome: &Outcome| {
            let landed = outcome.landed.iter();
            landed.map(|landed| Signature(landed.signature).to_string()).collect::<Vec<_>>()
        };
        let amount = slot.settled.less(self.settled);
        let transactions: Vec<String> = outcomes.iter().flat_map(transactions).collect();
        anyhow::ensure!(!amount.is_zero(), "the channel {} was not claimed: {}", self.id, refusal(&outcomes));
        Ok(Some(Claimed {
            channel: self.id.to_string(),
            page: page.to_string(),
            mint: self.book.mint().to_string(),
            amount: Money::new(amount, self.book.state.decimals),
            closing_at: Moment(self.closing_at),
            transactions,
        }))
    }
}

/// Why nothing was claimed.
fn refusal(outcomes: &[Outcome]) -> String {
    let refused = outcomes.iter().flat_map(|outcome| &outcome.refused).next();
    refused.map_or_else(|| "what became of it is not known yet".to_owned(), |(_, rejection)| rejection.to_string())
}

impl Look {
    fn take(
        &mut self,
        claimed: Option<Result<Result<Option<Claimed>>, tokio::task::JoinError>>,
        tell: &impl Fn(&Claimed),
    ) {
        match claimed {
            Some(Ok(Ok(Some(claimed)))) => {
                tell(&claimed);
                Total::add(&mut self.totals, &claimed.mint, claimed.amount);
                self.claimed.push(claimed);
            }
            Some(Ok(Ok(None))) | None => {}
            Some(Ok(Err(error))) => {
                crate::say(format_args!("{error:#}"));
                self.failed = self.failed.saturating_add(1);
            }
            Some(Err(error)) => {
                crate::say(format_args!("a claim has ended without an answer: {error}"));
                self.failed = self.failed.saturating_add(1);
            }
        }
    }

    /// Whether there is nothing new to say.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let counts = |look: &Self| (look.vouchers, look.standing, look.closing, look.waiting, look.failed, look.forged);
        counts(self) == counts(other)
    }
}

impl fmt::Display for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, mint, amount, closing_at, transactions, .. } = self;
        let transactions = transactions.join(", ");
        write!(f, "claimed {amount} of {mint} from {channel}, which closes {closing_at}, by {transactions}")
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "watching", format_args!("{} channels, {} of them on chain", self.vouchers, self.standing))?;
        line(
            f,
            "closing",
            format_args!("{}, {} of them left to their facilitator for now", self.closing, self.waiting),
        )?;
        line(f, "claimed", self.claimed.len())?;
        for total in &self.totals {
            line(f, "gained", format_args!("{} of {}", total.amount, total.mint))?;
        }
        if self.failed > 0 {
            line(f, "failed", format_args!("{}: tried again", self.failed))?;
        }
        if self.forged > 0 {
            line(f, "forged", format_args!("{} channels without a genuine voucher", self.forged))?;
        }
        Ok(())
    }
}
