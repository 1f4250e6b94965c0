//! `tallybook settle`: vouchers in hand, claimed on chain. Anybody may do it, with SOL for the fees and no key but the
//! fee payer's: the program pays what is claimed to the payee, whoever claims.
//!
//! Reading path: `survey` (what the vouchers are worth) → [`Settle`] (sent) → `report` (what the chain says then).

mod report;
mod survey;

pub use report::{ChannelOutcome, Outcome, PageOwed, SettleReport, Total, TransactionReport};

use crate::connection::{KeyFile, NoAnswer, Rpc};
use crate::output::{Output, UnknownOutcome};
use crate::vouchers::Newest;
use anyhow::{Context, Result, ensure};
use clap::Args;
use solana_address::Address;
use solana_client::nonblocking::rpc_client::RpcClient;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use survey::{PageWork, Survey};
use tallybook_ledger::{Attempt, Landed};
use tallybook_rules::Rejection;
use tallybook_settler::{Journal, RpcChain, Settings, Settler};

/// How long one answer of the chain may take.
const CHAIN_TIMEOUT: Duration = Duration::from_secs(15);
/// Lamports that one transaction takes at most: a signature, and a bid for all the compute there is.
const SIGNATURE_LAMPORTS: u64 = 5_000;
const MAX_COMPUTE_UNITS: u64 = 1_400_000;
const MICRO_LAMPORTS: u64 = 1_000_000;

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
    /// What to bid for compute, in micro-lamports a unit.
    #[arg(long, default_value_t = 1_000)]
    compute_price: u64,
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
struct Sendings(Mutex<Vec<Attempt>>);

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
            compute_price: self.compute_price,
            create_payee_accounts: self.create_payee_account,
            // A table's rent is worth more than the few transactions that it would save here.
            make_tables: false,
            ..Settings::default()
        };
        Ok(Settler::new(RpcChain::new(&self.rpc.rpc, CHAIN_TIMEOUT), self.fee_payer.read()?, settings))
    }

    /// Fails early, while nothing has been sent.
    async fn can_pay(&self, fee_payer: &Address, survey: &Survey) -> Result<()> {
        let rpc: RpcClient = self.rpc.client();
        let held = rpc.get_balance(fee_payer).await.context(NoAnswer)?;
        let bid = self.compute_price.saturating_mul(MAX_COMPUTE_UNITS).div_ceil(MICRO_LAMPORTS);
        let needed = survey.transactions().saturating_mul(SIGNATURE_LAMPORTS.saturating_add(bid));
        ensure!(
            held >= needed,
            "{fee_payer} pays the fees and holds {held} lamports, but this takes up to {needed}: send it some SOL, or \
             name another key with --keypair"
        );
        Ok(())
    }

    async fn send(&self, settler: &Settler, survey: &Survey, report: &mut SettleReport, output: Output) -> Result<()> {
        let bar = output.progress().bar(u64::try_from(survey.pages.len())?, "pages settled");
        for page in &survey.pages {
            let (landed, unknown) = page.settle(settler).await?;
            let seen = page.look_again(settler).await?;
            report.record(page, &seen, &landed, unknown)?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }
}

impl PageWork {
    /// Claims every row and pays out what is owed. Returns what is confirmed, and whether something is unknown. What was
    /// settled by it is read from the page, never taken from here.
    async fn settle(&self, settler: &Settler) -> Result<(Vec<Landed>, bool)> {
        let sendings = Sendings::default();
        let (mut landed, mut unknown) = (Vec::new(), false);
        for batch in self.batches()? {
            let outcome = settler.settle(&self.book, &batch, &sendings).await.context("settling")?;
            landed.extend(outcome.landed);
            unknown |= outcome.unknown;
            if unknown {
                return Ok((landed, unknown));
            }
        }
        // What was claimed before, by whomever, may still be owed.
        let outcome = settler.pay_out(&self.book, &self.page.address, &sendings).await.context("paying out")?;
        landed.extend(outcome.landed);
        Ok((landed, unknown | outcome.unknown))
    }
}
