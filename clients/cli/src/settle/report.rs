//! What came of settling, channel by channel, as the chain says.

use super::survey::{PageWork, Survey};
use crate::output::{Money, line};
use crate::vouchers::Newest;
use anyhow::Result;
use serde::Serialize;
use std::fmt;
use tallybook_chain::PageView;
use tallybook_chain::shape::SIGNATURE_LAMPORTS;
use tallybook_ledger::Landed;
use tallybook_rules::{Amount, Rejection};
use tallybook_wire::{Key, Signature};

/// What `tallybook settle` prints.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleReport {
    /// True when nothing was sent.
    pub dry_run: bool,
    /// Each channel that there was a voucher of.
    pub channels: Vec<ChannelOutcome>,
    /// The transactions that are confirmed.
    pub transactions: Vec<TransactionReport>,
    /// What they cost the fee payer, in lamports.
    pub fee_lamports: u64,
    /// How much of that was bid for compute.
    pub priority_lamports: u64,
    /// What was settled by this run (or would be), for each mint.
    pub settled: Vec<Total>,
    /// Pages with something claimed that could not be paid out.
    pub owed: Vec<PageOwed>,
    /// Lines of the file that no voucher could be read from.
    pub unreadable_lines: usize,
}

/// What became of one channel's voucher.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelOutcome {
    /// The channel's id.
    pub channel: String,
    /// The page that it is in, unless it is in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// The slot in the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
    /// How it ended.
    pub outcome: Outcome,
    /// What is due: what calls cost, at most what was signed and what is deposited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Money>,
    /// What was settled before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_before: Option<Money>,
    /// What is settled now, as read from the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Money>,
    /// Why it was refused, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip)]
    advice: &'static str,
}

/// How a channel's voucher ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Dry run: this would be settled.
    Due,
    /// All that is due is settled now.
    Settled,
    /// It was settled before.
    AlreadySettled,
    /// The channel stands in no page that was looked at: it is over, or in another book.
    NotFound,
    /// The voucher cannot be claimed.
    Refused,
    /// Not settled, and what became of a transaction is not known.
    Unknown,
    /// Not settled: the chain refused, or the channel changed meanwhile.
    NotSettled,
}

/// A confirmed transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionReport {
    /// Its signature.
    pub signature: String,
    /// Channels claimed by it; 0 for a payout alone.
    pub channels: u32,
    /// What the fee payer paid, in lamports.
    pub fee_lamports: u64,
    /// How much of that was bid for compute.
    pub priority_lamports: u64,
}

/// An amount of one mint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Total {
    /// The token.
    pub mint: String,
    /// How much.
    pub amount: Money,
}

/// Claimed, and still in the page's vault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PageOwed {
    /// The page.
    pub page: String,
    /// How much.
    pub amount: Money,
}

impl Total {
    /// Adds to what there is of this mint: amounts of two mints are never added up.
    pub(crate) fn add(totals: &mut Vec<Self>, mint: &str, gain: Money) {
        match totals.iter_mut().find(|total| total.mint == mint) {
            Some(total) => total.amount.amount = total.amount.amount.plus(gain.amount).unwrap_or(Amount::new(u64::MAX)),
            None => totals.push(Self { mint: mint.to_owned(), amount: gain }),
        }
    }
}

impl SettleReport {
    /// Before anything is sent.
    pub(super) fn planned(survey: &Survey, newest: &Newest, dry_run: bool) -> Self {
        let mut report = Self {
            dry_run,
            channels: Vec::new(),
            transactions: Vec::new(),
            fee_lamports: 0,
            priority_lamports: 0,
            settled: Vec::new(),
            owed: Vec::new(),
            unreadable_lines: newest.unreadable.len(),
        };
        let elsewhere = survey.elsewhere.iter().map(|line| ChannelOutcome::not_found(&line.voucher.channel_id));
        report.channels.extend(elsewhere);
        if dry_run {
            survey.pages.iter().for_each(|page| report.plan(page));
        }
        report
    }

    fn plan(&mut self, page: &PageWork) {
        for at in 0..page.claims.len() {
            let Some(mut outcome) = ChannelOutcome::of(page, at, None) else { continue };
            if outcome.outcome == Outcome::NotSettled {
                outcome.outcome = Outcome::Due;
                self.add(page, outcome.due, outcome.settled_before);
            }
            self.channels.push(outcome);
        }
    }

    /// After a page was settled, from the page as it is then.
    pub(super) fn record(&mut self, page: &PageWork, now: &PageView, landed: &[Landed], unknown: bool) -> Result<()> {
        for at in 0..page.claims.len() {
            let Some(mut outcome) = ChannelOutcome::of(page, at, Some(now)) else { continue };
            if outcome.outcome == Outcome::NotSettled && unknown {
                outcome.outcome = Outcome::Unknown;
            }
            if outcome.outcome == Outcome::Settled {
                self.add(page, outcome.settled, outcome.settled_before);
            }
            self.channels.push(outcome);
        }
        landed.iter().for_each(|landed| self.add_transaction(landed));
        let mut owed = Amount::ZERO;
        for (at, leg) in page.book.state.legs().iter().enumerate() {
            owed = owed.plus(now.header.owed(at, leg)?)?;
        }
        if !owed.is_zero() {
            let amount = Money::new(owed, page.book.state.decimals);
            self.owed.push(PageOwed { page: now.address.to_string(), amount });
        }
        Ok(())
    }

    /// Adds what a transaction did in one page: one that claims in several is one transaction.
    fn add_transaction(&mut self, landed: &Landed) {
        let signature = Signature(landed.signature).to_string();
        self.fee_lamports = self.fee_lamports.saturating_add(landed.fee_lamports);
        let known = self.transactions.iter_mut().find(|transaction| transaction.signature == signature);
        match known {
            Some(transaction) => {
                transaction.channels = transaction.channels.saturating_add(landed.rows);
                transaction.fee_lamports = transaction.fee_lamports.saturating_add(landed.fee_lamports);
                transaction.priority_lamports = transaction.fee_lamports.saturating_sub(SIGNATURE_LAMPORTS);
            }
            None => self.transactions.push(TransactionReport {
                signature,
                channels: landed.rows,
                fee_lamports: landed.fee_lamports,
                priority_lamports: landed.fee_lamports.saturating_sub(SIGNATURE_LAMPORTS),
            }),
        }
        let bids = self.transactions.iter().map(|transaction| transaction.priority_lamports);
        self.priority_lamports = bids.fold(0, u64::saturating_add);
    }

    /// Adds to the total of the page's mint.
    fn add(&mut self, page: &PageWork, now: Option<Money>, before: Option<Money>) {
        let (Some(now), Some(before)) = (now, before) else { return };
        let gain = Money::new(now.amount.less(before.amount), now.decimals);
        Total::add(&mut self.settled, &page.book.mint().to_string(), gain);
    }

    /// Channels whose voucher is worth something that is not settled.
    pub fn failed(&self) -> usize {
        let failed = [Outcome::Refused, Outcome::Unknown, Outcome::NotSettled];
        self.channels.iter().filter(|channel| failed.contains(&channel.outcome)).count()
    }

    /// True when the outcome of something is not known.
    pub fn is_unknown(&self) -> bool {
        self.channels.iter().any(|channel| channel.outcome == Outcome::Unknown)
    }
}

impl ChannelOutcome {
    fn not_found(id: &Key) -> Self {
        Self {
            channel: id.to_string(),
            page: None,
            slot: None,
            outcome: Outcome::NotFound,
            due: None,
            settled_before: None,
            settled: None,
            reason: None,
            advice: "",
        }
    }

    /// What became of the claim numbered `at`, when the page is `now`; `None` before.
    fn of(page: &PageWork, at: usize, now: Option<&PageView>) -> Option<Self> {
        let claim = page.claims.get(at)?;
        let id = claim.line.voucher.channel_id;
        let money = |amount| Money::new(amount, page.book.state.decimals);
        let (target, before) = (claim.target(), claim.on_chain.settled);
        // A channel that is over by now, as by its payer's refund, was claimed from on the way: its page says no more.
        let slot = now.and_then(|now| now.slot(claim.slot).ok().filter(|_| now.channel_id(claim.slot) == Some(id.0)));
        let settled = slot.map(|slot| slot.settled);
        let refused: Option<Rejection> = claim.row.err();
        let outcome = match (refused, settled) {
            (Some(_), _) => Outcome::Refused,
            (None, _) if target <= before => Outcome::AlreadySettled,
            (None, Some(settled)) if settled >= target => Outcome::Settled,
            (None, _) => Outcome::NotSettled,
        };
        Some(Self {
            channel: id.to_string(),
            page: Some(page.page.address.to_string()),
            slot: Some(claim.slot),
            outcome,
            due: Some(money(target)),
            settled_before: Some(money(before)),
            settled: settled.map(money),
            reason: refused.map(Rejection::name),
            advice: refused.map(Rejection::advice).unwrap_or_default(),
        })
    }
}

impl fmt::Display for ChannelOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44}  ", self.channel)?;
        let (Some(due), Some(before)) = (self.due, self.settled_before) else {
            return f.write_str("not found: it is over, or in a book that was not named (--book)");
        };
        match self.outcome {
            Outcome::Due => write!(f, "{due} due, {before} of it settled"),
            Outcome::Settled => write!(f, "settled {due}, {before} of it before"),
            Outcome::AlreadySettled => write!(f, "nothing due: {before} are settled"),
            Outcome::NotFound => Ok(()),
            Outcome::Refused => write!(f, "refused: {}. {}", self.reason.unwrap_or_default(), self.advice),
            Outcome::Unknown => write!(f, "{due} due, and not known yet whether it is settled"),
            Outcome::NotSettled => write!(f, "NOT settled: {due} are due. Run this again"),
        }
    }
}

impl fmt::Display for SettleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for channel in &self.channels {
            writeln!(f, "{channel}")?;
        }
        for transaction in &self.transactions {
            let what = match transaction.channels {
                0 => "paid out".to_owned(),
                rows => format!("claimed {rows}"),
            };
            line(
                f,
                "transaction",
                format_args!(
                    "{}  {what}, {} lamports, {} of them bid for compute",
                    transaction.signature, transaction.fee_lamports, transaction.priority_lamports
                ),
            )?;
        }
        for total in &self.settled {
            let name = if self.dry_run { "would settle" } else { "settled now" };
            line(f, name, format_args!("{} of {}", total.amount, total.mint))?;
        }
        if self.settled.is_empty() {
            line(f, "settled now", "nothing: nothing was due")?;
        }
        for owed in &self.owed {
            line(
                f,
                "still owed",
                format_args!(
                    "{} in the page {}: claimed, but a recipient has no account that can be paid. The payee's is made \
                     with --create-payee-account",
                    owed.amount, owed.page
                ),
            )?;
        }
        Ok(())
    }
}
