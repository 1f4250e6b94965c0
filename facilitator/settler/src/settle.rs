//! Batches: from rows to confirmed transactions.
//!
//! One batch may become several transactions: closing channels go alone, what does not fit is split, and what fails as
//! a whole is halved until the row at fault stands alone. They are sent one after another, never two at once for one
//! page, and the page is read anew before each, so that each pays out exactly what is owed by then.

use crate::chain::{Chain, Commitment, Failure, Snapshot};
use crate::claim::{
    MAX_COMPUTE_UNITS, PAYOUT_INSTRUCTION, Plan, Scene, limit_for, message, rows_at_once, rows_too_many,
};
use crate::deposit::refusal;
use crate::read::ours;
use crate::send::{Fate, Journal, deadline, send_until_decided};
use crate::settler::{Settler, attempt_of};
use solana_address::Address;
use solana_message::AddressLookupTableAccount;
use solana_transaction::versioned::VersionedTransaction;
use std::collections::VecDeque;
use tallybook_chain::transaction::{compute_unit_limit, compute_unit_price, create_token_account};
use tallybook_chain::{BookView, PageView};
use tallybook_ledger::{Attempt, Batch, ClaimRow, Landed, Outcome};
use tallybook_rules::Rejection;
use tokio::time::Instant;

/// Making an associated token account, with room for a costly search of its address.
const TOKEN_ACCOUNT_UNITS: u32 = 60_000;

/// How one group of rows ended.
enum Step {
    Landed(Landed, u64),
    /// More rows than fit: this many have to go.
    TooMany(usize),
    /// The chain refuses the group as a whole.
    Refused(Failure),
    /// Nothing of it is left to do.
    Nothing,
    Unknown,
}

/// Where a batch stands while it is worked through.
struct Work<'a> {
    book: &'a BookView,
    page: Address,
    table: Option<AddressLookupTableAccount>,
    /// Nothing older than this slot is looked at, so that own transactions are seen.
    min_slot: u64,
    /// The payout failed in this batch: what is owed stays owed, claims go on.
    without_payout: bool,
    outcome: Outcome,
}

impl<C: Chain> Settler<C> {
    /// Claims a batch and pays out what is owed; returns when each row is confirmed, refused or unknown.
    ///
    /// Rows that are in no list of the outcome were settled already. When `unknown` is set, the journal holds what was
    /// sent: ask [`Settler::resolve`]. Planning the same rows again meanwhile is harmless, since claims settle up to a
    /// target.
    ///
    /// `Err` only when nothing was sent.
    pub async fn settle<J: Journal>(&self, book: &BookView, batch: &Batch, journal: &J) -> Result<Outcome, Rejection> {
        let page = Address::from(*batch.page());
        let scene = self.scene(book, &page, 0, journal).await?;
        let sorted = scene.sort(batch.rows());
        let mut queue: VecDeque<Vec<ClaimRow>> = sorted.closing.iter().map(|row| vec![*row]).collect();
        let mut work = self.work(book, page, journal).await;
        let at_once = rows_at_once(&sorted.open, work.table.is_some());
        queue.extend(sorted.open.chunks(at_once).map(<[_]>::to_vec));
        work.outcome.refused = sorted.refused;
        self.work_through(&mut work, queue, journal).await
    }

    /// Pays out what is owed to every leg that can be paid, without a claim.
    pub async fn pay_out<J: Journal>(
        &self,
        book: &BookView,
        page: &Address,
        journal: &J,
    ) -> Result<Outcome, Rejection> {
        let mut work = self.work(book, *page, journal).await;
        self.work_through(&mut work, VecDeque::from([Vec::new()]), journal).await
    }

    async fn work<'a, J: Journal>(&self, book: &'a BookView, page: Address, journal: &J) -> Work<'a> {
        Work {
            book,
            page,
            table: self.table(book, &page, journal).await,
            min_slot: 0,
            without_payout: false,
            outcome: Outcome::default(),
        }
    }

    async fn work_through<J: Journal>(
        &self,
        work: &mut Work<'_>,
        mut queue: VecDeque<Vec<ClaimRow>>,
        journal: &J,
    ) -> Result<Outcome, Rejection> {
        while let Some(rows) = queue.pop_front() {
            match self.step(work, &rows, journal).await {
                Ok(Step::Nothing) => {}
                Ok(Step::Landed(landed, slot)) => {
                    work.min_slot = work.min_slot.max(slot);
                    work.outcome.landed.push(landed);
                }
                Ok(Step::TooMany(excess)) => {
                    let (now, later) = rows.split_at(rows.len().saturating_sub(excess).max(1));
                    queue.push_front(later.to_vec());
                    queue.push_front(now.to_vec());
                }
                Ok(Step::Refused(failure)) => {
                    work.split_or_refuse(&mut queue, rows, &failure);
                }
                Ok(Step::Unknown) => {
                    work.outcome.unknown = true;
                    break;
                }
                // Something was sent already, or refused for good: that must not get lost.
                Err(_) if work.outcome != Outcome::default() => {
                    work.outcome.unknown = true;
                    break;
                }
                Err(rejection) => return Err(rejection),
            }
        }
        Ok(std::mem::take(&mut work.outcome))
    }

    /// One group of rows, up to a decision: a transaction that expired is built and sent again while patience lasts.
    async fn step<J: Journal>(&self, work: &mut Work<'_>, rows: &[ClaimRow], journal: &J) -> Result<Step, Rejection> {
        let deadline = deadline(&self.settings().pace);
        let mut rows = rows.to_vec();
        loop {
            let scene = self.scene(work.book, &work.page, work.min_slot, journal).await?;
            let sorted = scene.sort(&rows);
            work.outcome.refused.extend(sorted.refused);
            rows = [sorted.closing, sorted.open].concat();
            let legs = if work.without_payout { 0 } else { scene.legs(work.book, &rows)? };
            if rows.is_empty() && legs == 0 {
                return Ok(Step::Nothing);
            }
            let plan = Plan {
                book: work.book,
                page: work.page,
                rows: &rows,
                legs,
                compute_units: MAX_COMPUTE_UNITS,
                compute_price: self.settings().compute_price,
            };
            match self.send_plan(work, plan, journal).await? {
                Sent::Fate(attempt, Fate::Landed { slot, .. }) => {
                    let landed = self.landed(&attempt, rows.len()).await;
                    return Ok(Step::Landed(landed, slot));
                }
                Sent::Fate(attempt, Fate::Failed { slot, failure }) => {
                    // It cost a fee all the same, so it is counted.
                    work.outcome.landed.push(self.landed(&attempt, 0).await);
                    work.min_slot = work.min_slot.max(slot);
                    if work.without_payout || !is_of_payout(&failure, &rows) {
                        return Ok(Step::Refused(failure));
                    }
                    work.without_payout = true;
                }
                Sent::Fate(_, Fate::Expired) if Instant::now() < deadline => {}
                Sent::Fate(_, Fate::Expired | Fate::Unknown) => return Ok(Step::Unknown),
                Sent::Refused(failure) if failure.is_unknown_blockhash() && Instant::now() < deadline => {
                    // Another node gave the hash than simulates: it will catch up.
                    tokio::time::sleep(self.settings().pace.slowest).await;
                }
                Sent::Refused(failure) if is_of_payout(&failure, &rows) && !work.without_payout => {
                    tracing::warn!(page = %work.page, %failure, "cannot pay out now: it stays owed");
                    work.without_payout = true;
                }
                Sent::Refused(failure) if failure.instruction().is_none() && work.table.is_some() => {
                    // The node does not see the table (yet, or any more): go without, and look for it next time.
                    tracing::warn!(page = %work.page, %failure, "trying without the lookup table");
                    self.tables().forget(&work.page);
                    work.table = None;
                }
                Sent::Refused(failure) if failure.instruction().is_none() => {
                    tracing::error!(page = %work.page, %failure, "the chain does not take the sponsor's transactions");
                    return Err(Rejection::ChainUnavailable);
                }
                Sent::Refused(failure) => return Ok(Step::Refused(failure)),
                Sent::TooMany(excess) => return Ok(Step::TooMany(excess)),
            }
        }
    }

    /// Simulates with the highest compute limit, sets what that used, signs, records, and sends.
    async fn send_plan<J: Journal>(&self, work: &Work<'_>, mut plan: Plan<'_>, journal: &J) -> Result<Sent, Rejection> {
        let blockhash = self.latest_blockhash().await?;
        let compile =
            |plan: &Plan<'_>| message(&self.sponsor(), &plan.instructions()?, work.table.as_ref(), blockhash.hash);
        let draft = compile(&plan)?;
        let excess = rows_too_many(&draft, plan.rows);
        if excess > 0 && plan.rows.len() > 1 {
            return Ok(Sent::TooMany(excess));
        }
        let draft = VersionedTransaction { signatures: vec![Default::default()], message: draft };
        let simulation = self.simulate(&draft).await?;
        if let Some(failure) = simulation.failure {
            return Ok(Sent::Refused(failure));
        }
        plan.compute_units = limit_for(simulation.compute_units);
        let transaction = self.signed(compile(&plan)?);
        let attempt = attempt_of(&transaction, blockhash.last_valid_height).ok_or(Rejection::MalformedRows)?;
        let fate = self.record_and_send(&transaction, &attempt, journal).await?;
        Ok(Sent::Fate(attempt, fate))
    }

    /// What a landed transaction cost, from the balances that the chain recorded.
    async fn landed(&self, attempt: &Attempt, rows: usize) -> Landed {
        let spent = self.spent(&attempt.signature).await;
        Landed {
            signature: attempt.signature,
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            fee_lamports: spent.map_or(0, |spent| spent.lamports),
            compute_units: spent.map_or(0, |spent| spent.compute_units),
        }
    }

    /// Reads the page, and which legs of its book can be paid.
    async fn scene<J: Journal>(
        &self,
        book: &BookView,
        page: &Address,
        min_slot: u64,
        journal: &J,
    ) -> Result<Scene, Rejection> {
        let mut scene = self.look(book, page, min_slot).await?;
        let payee_owed = !scene.page.header.claimed_total.is_zero() || scene.page.header.used > 0;
        if self.settings().create_payee_accounts && payee_owed && scene.payable.first() == Some(&false) {
            self.create_payee_account(book, journal).await?;
            scene = self.look(book, page, min_slot).await?;
        }
        Ok(scene)
    }

    async fn look(&self, book: &BookView, page: &Address, min_slot: u64) -> Result<Scene, Rejection> {
        let legs = book.state.legs();
        let mut addresses = vec![*page];
        addresses.extend(legs.iter().map(|leg| Address::from(leg.account)));
        let Snapshot { accounts, .. } = self.accounts_since(&addresses, min_slot, Commitment::Confirmed).await?;
        let (page_account, accounts) = accounts.split_first().ok_or(Rejection::UnknownPage)?;
        let page_account = page_account.as_ref().ok_or(Rejection::UnknownPage)?;
        let view = PageView::parse(*page, ours(page_account)?)?;
        if view.book() != book.address {
            return Err(Rejection::WrongBook);
        }
        let payable = legs.iter().zip(accounts).map(|(leg, account)| Scene::is_payable(book, leg, account.as_ref()));
        Ok(Scene { page: view, payable: payable.collect() })
    }

    /// Makes the payee's associated token account, at the sponsor's expense. Nobody else's is ever made.
    async fn create_payee_account<J: Journal>(&self, book: &BookView, journal: &J) -> Result<(), Rejection> {
        let instructions = [
            compute_unit_limit(TOKEN_ACCOUNT_UNITS),
            compute_unit_price(self.settings().compute_price),
            create_token_account(&self.sponsor(), &book.payee(), &book.mint(), &book.token_program()),
        ];
        let blockhash = self.latest_blockhash().await?;
        let transaction = self.signed(message(&self.sponsor(), &instructions, None, blockhash.hash)?);
        let attempt = attempt_of(&transaction, blockhash.last_valid_height).ok_or(Rejection::MalformedRows)?;
        if let Some(failure) = self.simulate(&transaction).await?.failure {
            // It is there but cannot be paid (frozen, given away): the leg stays owed.
            tracing::warn!(payee = %book.payee(), %failure, "the payee's token account cannot be made");
            return Ok(());
        }
        let fate = send_until_decided(self.chain(), &transaction, &attempt, &self.settings().pace).await;
        if matches!(fate, Fate::Landed { .. } | Fate::Failed { .. }) {
            journal.billed_for_accounts(attempt.signature);
        }
        tracing::info!(payee = %book.payee(), ?fate, "made the payee's token account");
        Ok(())
    }
}

/// What came of handing a plan over.
enum Sent {
    Fate(Attempt, Fate),
    /// In simulation; nothing was sent.
    Refused(Failure),
    TooMany(usize),
}

impl Work<'_> {
    /// Halves a group that failed as a whole; a row that failed alone is refused for good.
    fn split_or_refuse(&mut self, queue: &mut VecDeque<Vec<ClaimRow>>, mut rows: Vec<ClaimRow>, failure: &Failure) {
        tracing::info!(rows = rows.len(), %failure, "a claim is refused");
        match rows.as_slice() {
            [] => {}
            [row] => self.outcome.refused.push((row.slot, refusal(failure))),
            _ => {
                let right = rows.split_off(rows.len() / 2);
                queue.push_front(right);
                queue.push_front(rows);
            }
        }
    }
}

/// True when it was not the claim that failed.
fn is_of_payout(failure: &Failure, rows: &[ClaimRow]) -> bool {
    let payout = if rows.is_empty() { PAYOUT_INSTRUCTION.saturating_sub(1) } else { PAYOUT_INSTRUCTION };
    failure.instruction() == Some(payout)
}

#[cfg(test)]
mod tests;
