//! `tallybook settle`: vouchers in hand, claimed on chain. Anybody may do it, with SOL for the fees and no key but the
//! fee payer's: the program pays what is claimed to the payee, whoever claims.
//!
//! Reading path: `survey` (what the vouchers are worth) → [`Settle`] (sent) → `report` (what the chain says then).

mod report;
pub(crate) mod survey;

pub use report::{ChannelOutcome, Outcome, PageOwed, SettleReport, Total, TransactionReport};

use crate::connection::{KeyFile, NoAnswer, Rpc};
use crate::output::{Output, UnknownOutcome};
use crate::vouchers::Newest;
use anyhow::{Context, Result, ensure};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use survey::Survey;
use tallybook_chain::shape::{Budget, MAX_COMPUTE_UNITS, SIGNATURE_LAMPORTS};
use tallybook_ledger::{Attempt, Landed};
use tallybook_rules::Rejection;
use tallybook_settler::{FeePolicy, Journal, RpcChain, Settings, Settler};

/// How long one answer of the chain may take.
pub(crate) const CHAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Arguments of `tallybook settle`.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples: an export, with your own SOL; a paywall's file, which does not say which book it is for\n  \
    tallybook settle export.jsonl --keypair me.json --dry-run\n  \
    tallybook settle export.jsonl --keypair me.json\n  \
    tallybook settle vouchers.jsonl --book $BOOK --keypair me.json\n\n\
    Safe to run twice: a claim settles up to what is due and never pays twice. What was signed and not charged is left\n\
    to the payer."
)]
pub struct Settle {
    #[command(flatten)]
    rpc: Rpc,
    /// Whose SOL pays the fees.
    #[command(flatten)]
    fee_payer: KeyFile,
    /// An export (`tallybook vouchers export`), a paywall's file or a voucher database; - for standard input.
    from: PathBuf,
    /// A book whose channels the vouchers may be of, where they do not say it themselves; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    book: Vec<Address>,
    /// What to bid for compute: auto (the median of recent blocks, 1,000 to 50,000), off, or micro-lamports a unit.
    #[arg(long, value_name = "PRICE", default_value = "auto", value_parser = compute_price)]
    compute_price: FeePolicy,
    /// Make the payee's token account if it has none (about 0.002 SOL): without one nothing can be paid out.
    #[arg(long)]
    create_payee_account: bool,
    /// Say what would be settled, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

/// What was sent, kept for as long as this process lives: an outcome that stays unknown is found on chain by the next
/// run, since a claim settles up to a target.
#[derive(Default)]
pub(crate) struct Sendings(Mutex<Vec<Attempt>>);

impl Journal for Sendings {
    async fn record(&self, attempt: Attempt) -> Result<(), Rejection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
        Ok(())
    }

    async fn table(&self, _page: &[u8; 32]) -> Result<Option<[u8; 32]>, Rejection> {
        Ok(None)
    }

    async fn keep_table(&self, _page: &[u8; 32], _table: &[u8; 32]) -> Result<(), Rejection> {
        Ok(())
    }
}

impl Settle {
    /// Settles, and says channel by channel what came of it.
    pub async fn run(self, output: Output) -> Result<()> {
        let newest = Newest::in_file(&self.from)?;
        ensure!(!newest.lines.is_empty(), "{} holds no vouchers: nothing to settle", self.from.display());
        if !newest.unreadable.is_empty() {
            output.hint(format_args!("{newest}"));
        }
        let settler = self.settler()?;
        let survey = Survey::of(&settler, &newest, &self.book).await?;
        let mut report = SettleReport::planned(&survey, &newest, self.dry_run);
        if self.dry_run {
            return output.report(&report);
        }
        self.can_pay(&settler.sponsor(), &survey).await?;
        self.send(&settler, &survey, &mut report, output).await?;
        output.report(&report)?;
        match report.failed() {
            0 => Ok(()),
            _ if report.is_unknown() => Err(UnknownOutcome(
                "what became of some transactions is not known yet: run this again in a minute. Nothing is paid twice",
            )
            .into()),
            failed => Err(anyhow::anyhow!("{failed} channels were not settled: see why above")),
        }
    }

    fn settler(&self) -> Result<Settler> {
        let settings = Settings {
            fees: self.compute_price,
            create_payee_accounts: self.create_payee_account,
            // Where the chain takes no transactions of version 1, a lookup table would have 23 claims in one instead of 19: for
            // a full page 5 transactions instead of 6, one signature of 5,000 lamports. Making the table takes two and 2,600,000
            // of rent, and closing it again two more.
            make_tables: false,
            ..Settings::default()
        };
        Ok(Settler::new(RpcChain::new(&self.rpc.rpc, CHAIN_TIMEOUT), self.fee_payer.read()?, settings))
    }

    /// Fails early, while nothing has been sent.
    async fn can_pay(&self, fee_payer: &Address, survey: &Survey) -> Result<()> {
        let rpc: RpcClient = self.rpc.client();
        let held = rpc.get_balance(fee_payer).await.context(NoAnswer)?;
        let dearest = Budget { compute_units: MAX_COMPUTE_UNITS, compute_price: self.compute_price.most() };
        let bid = dearest.priority_lamports();
        let needed = survey.transactions().saturating_mul(SIGNATURE_LAMPORTS.saturating_add(bid));
        ensure!(
            held >= needed,
            "{fee_payer} pays the fees and holds {held} lamports, but this takes up to {needed}: send it some SOL, or \
             name another key with --keypair"
        );
        Ok(())
    }

    /// Claims everything, in as few transactions as the chain allows, and pays out what is owed. What was settled by it is read
    /// from the pages, never taken from here.
    async fn send(&self, settler: &Settler, survey: &Survey, report: &mut SettleReport, output: Output) -> Result<()> {
        let bundles = survey.bundles(settler).await;
        let bar = output.progress().bar(u64::try_from(bundles.len().saturating_add(survey.pages.len()))?, "steps done");
        let mut done: BTreeMap<[u8; 32], Done> = BTreeMap::new();
        let mut is_unknown = false;
        for bundle in &bundles {
            let claims = survey.with_books(bundle);
            let outcomes = settler.settle_together(&claims, &Sendings::default()).await.context("settling")?;
            for (batch, outcome) in bundle.batches().iter().zip(outcomes) {
                is_unknown |= outcome.unknown;
                done.entry(*batch.page()).or_default().add(outcome.landed, outcome.unknown);
            }
            bar.inc(1);
            // What became of it may change what is left to do.
            if is_unknown {
                break;
            }
        }
        for page in &survey.pages {
            let mut done = done.remove(page.page.address.as_array()).unwrap_or_default();
            // What was claimed before, by whomever, may still be owed.
            if !is_unknown {
                let paid = settler.pay_out(&page.book, &page.page.address, &Sendings::default()).await;
                let paid = paid.context("paying out")?;
                done.add(paid.landed, paid.unknown);
            }
            let seen = page.look_again(settler).await?;
            report.record(page, &seen, &done.landed, done.is_unknown)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

/// What was done in one page.
#[derive(Default)]
struct Done {
    landed: Vec<Landed>,
    is_unknown: bool,
}

impl Done {
    fn add(&mut self, landed: Vec<Landed>, is_unknown: bool) {
        self.landed.extend(landed);
        self.is_unknown |= is_unknown;
    }
}

/// Reads a price of compute.
pub(crate) fn compute_price(text: &str) -> Result<FeePolicy, String> {
    match text {
        "auto" => Ok(FeePolicy::default()),
        "off" => Ok(FeePolicy::Off),
        number => number.parse().map(FeePolicy::Fixed).map_err(|_| "write auto, off, or a number".to_owned()),
    }
}
