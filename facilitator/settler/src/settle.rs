//! Batches: from rows to confirmed transactions.
//!
//! Batches of several pages may share a transaction, and one batch may become several: closing channels go alone, what
//! does not fit is split, and what fails as a whole is taken apart until the page, and in it the row, at fault stands
//! alone. They are sent one after another, never two at once for one page, and the pages are read anew before each, so
//! that each pays out exactly what is owed by then.

use crate::chain::{Chain, Commitment, Failure, Snapshot};
use crate::claim::{Part, Role, Scene, instructions, limit_for, role_of, rows_too_many, written};
use crate::read::ours;
use crate::send::{Fate, Journal, deadline, send_and_count, send_until_decided};
use crate::settler::{Settler, attempt_of};
use crate::shapes::ShapeChoice;
use crate::work::{Group, Place, Portion, Step, Work};
use solana_address::Address;
use solana_message::AddressLookupTableAccount;
use solana_transaction::versioned::VersionedTransaction;
use std::collections::{BTreeSet, VecDeque};
use tallybook_chain::shape::{Budget, MAX_COMPUTE_UNITS, Shape, bytes_too_many, message};
use tallybook_chain::transaction::create_token_account;
use tallybook_chain::{BookView, PageView};
use tallybook_ledger::{Attempt, Batch, Outcome};
use tallybook_rules::Rejection;
use tokio::time::Instant;

/// Making an associated token account, with room for a costly search of its address.
const TOKEN_ACCOUNT_UNITS: u32 = 60_000;

/// What came of handing parts over.
enum Sent {
    Fate(Attempt, Fate, Option<Role>),
    /// In simulation; nothing was sent.
    Refused(Failure, Option<Role>),
    /// They do not fit: nothing was sent.
    TooLarge(Vec<Group>),
    /// The node did not answer to a transaction of version 1.
    Unanswered,
}

impl<C: Chain> Settler<C> {
    /// As [`Settler::settle_together`] for one batch.
    pub async fn settle<J: Journal>(&self, book: &BookView, batch: &Batch, journal: &J) -> Result<Outcome, Rejection> {
        let outcomes = self.settle_together(&[(book, batch)], journal).await?;
        outcomes.into_iter().next().ok_or(Rejection::MalformedRows)
    }

    /// Claims batches of different pages, each with its book, and pays out what is owed in them, in as few transactions as
    /// the chain allows; returns when each row is confirmed, refused or unknown. The outcomes are in the order of the batches; a
    /// transaction that several shared is in each of theirs, with its part of the cost.
    ///
    /// Rows that are in no list of the outcome were settled already. When `unknown` is set, the journal holds what was
    /// sent: ask [`Settler::resolve`]. Planning the same rows again meanwhile is harmless, since claims settle up to a
    /// target. A page that is not there any more, or that the chain refuses, costs the others nothing.
    ///
    /// `Err` only when nothing was sent.
    pub async fn settle_together<J: Journal>(
        &self,
        batches: &[(&BookView, &Batch)],
        journal: &J,
    ) -> Result<Vec<Outcome>, Rejection> {
        let places = batches.iter().map(|(book, batch)| Place::new(book, Address::from(*batch.page())));
        let mut work = Work::new(places.collect());
        let all: Group =
            batches.iter().enumerate().map(|(at, (_, batch))| Portion { at, rows: batch.rows().to_vec() }).collect();
        let (mut queue, mut open) = (VecDeque::new(), Group::new());
        let scenes = self.scenes(&work, &all, journal).await?;
        for (Portion { at, rows }, scene) in all.into_iter().zip(scenes) {
            let sorted = work.sort(at, &rows, scene.as_ref());
            queue.extend(sorted.closing.iter().map(|row| vec![Portion { at, rows: vec![*row] }]));
            open.extend((!sorted.open.is_empty()).then_some(Portion { at, rows: sorted.open }));
        }
        // A group of nothing would ask for no account, and wait for a node that shows none as of the last landing.
        queue.extend((!open.is_empty()).then_some(open));
        self.work_through(work, queue, journal).await
    }

    /// Pays out what is owed to every leg that can be paid, without a claim.
    pub async fn pay_out<J: Journal>(
        &self,
        book: &BookView,
        page: &Address,
        journal: &J,
    ) -> Result<Outcome, Rejection> {
        let work = Work::new(vec![Place::new(book, *page)]);
        let nothing = vec![Portion { at: 0, rows: Vec::new() }];
        let outcomes = self.work_through(work, VecDeque::from([nothing]), journal).await?;
        outcomes.into_iter().next().ok_or(Rejection::MalformedRows)
    }

    async fn work_through<J: Journal>(
        &self,
        mut work: Work<'_>,
        mut queue: VecDeque<Group>,
        journal: &J,
    ) -> Result<Vec<Outcome>, Rejection> {
        while let Some(group) = queue.pop_front() {
            match self.step(&mut work, group, journal).await {
                Ok(Step::Nothing) => {}
                Ok(Step::Landed(slot)) => work.min_slot = work.min_slot.max(slot),
                Ok(Step::Split(groups)) => groups.into_iter().rev().for_each(|group| queue.push_front(group)),
                Ok(Step::Unknown) => {
                    work.is_unknown();
                    break;
                }
                // Something was sent already, or refused for good: that must not get lost.
                Err(_) if work.has_begun() => {
                    work.is_unknown();
                    break;
                }
                Err(rejection) => return Err(rejection),
            }
        }
        Ok(work.outcomes())
    }

    /// One group, up to a decision: a transaction that expired is built and sent again while patience lasts.
    async fn step<J: Journal>(&self, work: &mut Work<'_>, mut group: Group, journal: &J) -> Result<Step, Rejection> {
        let deadline = deadline(&self.settings().pace);
        loop {
            let scenes = self.scenes(work, &group, journal).await?;
            let parts = work.parts(group, scenes)?;
            if parts.is_empty() {
                return Ok(Step::Nothing);
            }
            let shape = self.shape().await;
            match self.send_parts(work, &parts, shape, journal).await? {
                Sent::Fate(attempt, Fate::Landed { slot, .. }, _) => {
                    work.landed(&parts, &attempt, self.spent(&attempt.signature).await, true);
                    return Ok(Step::Landed(slot));
                }
                Sent::Fate(attempt, Fate::Failed { slot, failure }, role) => {
                    // It cost a fee all the same, so it is counted.
                    work.landed(&parts, &attempt, self.spent(&attempt.signature).await, false);
                    work.min_slot = work.min_slot.max(slot);
                    if let Some(step) = work.take_apart(&parts, role, &failure) {
                        return Ok(step);
                    }
                }
                Sent::Fate(_, Fate::Expired, _) if Instant::now() < deadline => {}
                Sent::Fate(_, Fate::Expired | Fate::Unknown, _) => return Ok(Step::Unknown),
                Sent::Refused(failure, _) if failure.instruction().is_none() => {
                    self.cope(work, &parts, shape, &failure, deadline).await?;
                }
                Sent::Refused(failure, role) => {
                    if let Some(step) = work.take_apart(&parts, role, &failure) {
                        return Ok(step);
                    }
                }
                Sent::TooLarge(groups) => return Ok(Step::Split(groups)),
                Sent::Unanswered => {
                    self.shapes().doubt();
                    if self.shape().await == Shape::V1 {
                        return Err(Rejection::ChainUnavailable);
                    }
                }
            }
            group = Portion::of(&parts);
        }
    }

    /// Makes the best of a transaction that the chain refuses for itself, not for what it does: waits, or lets the next one
    /// be simpler. `Err` when there is nothing left to try.
    async fn cope(
        &self,
        work: &mut Work<'_>,
        parts: &[Part<'_>],
        shape: Shape,
        failure: &Failure,
        deadline: Instant,
    ) -> Result<(), Rejection> {
        if failure.is_unknown_blockhash() && Instant::now() < deadline {
            // Another node gave the hash than simulates: it will catch up.
            tokio::time::sleep(self.settings().pace.slowest).await;
            return Ok(());
        }
        if failure.is_of_fee_payers_funds() && Instant::now() < deadline && self.has_another(parts) {
            return Ok(());
        }
        let is_of_it = !failure.is_unknown_blockhash() && !failure.is_of_fee_payers_funds();
        if is_of_it && shape == Shape::V1 && self.settings().shape == ShapeChoice::Auto {
            tracing::warn!(%failure, "the chain takes no transaction of version 1: trying smaller ones");
            self.shapes().refuse();
            return Ok(());
        }
        if is_of_it && shape == Shape::V0 && work.gives_table_up(parts) {
            // The node does not see the table (yet, or any more): go without, and look for it next time.
            tracing::warn!(%failure, "trying without the lookup table");
            parts.iter().for_each(|part| self.tables().forget(&part.page));
            return Ok(());
        }
        tracing::error!(%failure, %shape, "the chain does not take the sponsor's transactions");
        Err(Rejection::ChainUnavailable)
    }

    /// Whether somebody else pays for these claims next time, now that one could not.
    fn has_another(&self, parts: &[Part<'_>]) -> bool {
        parts.first().is_some_and(|part| self.purse().can_pay(&self.purse().of_page(&part.page)))
    }

    /// Simulates with the highest compute limit, sets what that used, signs, records, and sends.
    async fn send_parts<J: Journal>(
        &self,
        work: &Work<'_>,
        parts: &[Part<'_>],
        shape: Shape,
        journal: &J,
    ) -> Result<Sent, Rejection> {
        let table = self.table_for(work, parts, shape, journal).await;
        // Without a table a v0 transaction is a legacy one with two more bytes.
        let auto = self.settings().shape == ShapeChoice::Auto;
        let shape = if auto && shape == Shape::V0 && table.is_none() { Shape::Legacy } else { shape };
        let blockhash = self.latest_blockhash().await?;
        let sponsor = parts.first().map_or_else(|| self.sponsor(), |part| self.purse().of_page(&part.page));
        let compute_price = self.compute_price(&written(parts)).await;
        let compile = |parts: &[Part<'_>], compute_units: u32| {
            let budget = Budget { compute_units, compute_price };
            let (instructions, roles) = instructions(parts)?;
            let message = message(shape, &sponsor, &instructions, table.as_ref(), &budget, blockhash.hash)?;
            Ok::<_, Rejection>((VersionedTransaction { signatures: vec![Default::default()], message }, roles))
        };
        let (draft, roles) = compile(parts, MAX_COMPUTE_UNITS)?;
        let excess = bytes_too_many(&draft);
        if excess > 0
            && let Some(groups) = split(parts, excess, |parts| Ok(bytes_too_many(&compile(parts, 0)?.0) == 0))?
        {
            return Ok(Sent::TooLarge(groups));
        }
        let simulation = match self.simulate(&draft).await {
            Err(_) if auto && shape == Shape::V1 => return Ok(Sent::Unanswered),
            simulation => simulation?,
        };
        if let Some(failure) = simulation.failure {
            let role = role_of(&failure, shape, &roles);
            return Ok(Sent::Refused(failure, role));
        }
        let (transaction, _) = compile(parts, limit_for(simulation.compute_units))?;
        let transaction = self.signed(transaction.message);
        let attempt = attempt_of(&transaction, blockhash.last_valid_height).ok_or(Rejection::MalformedRows)?;
        let pages: Vec<[u8; 32]> = parts.iter().map(|part| part.page.to_bytes()).collect();
        journal.record_for(attempt, &pages).await?;
        let (fate, taken) = send_and_count(self.chain(), &transaction, &attempt, &self.settings().pace).await;
        tracing::info!(%shape, pages = pages.len(), compute_price, ?fate, "a claim transaction");
        if shape == Shape::V1 && taken == 0 && matches!(fate, Fate::Expired | Fate::Unknown) {
            // Simulated by one node, and read by none that it was handed to.
            self.shapes().refuse();
        }
        let role = if let Fate::Failed { failure, .. } = &fate { role_of(failure, shape, &roles) } else { None };
        Ok(Sent::Fate(attempt, fate, role))
    }

    /// The lookup table of the one page of a v0 transaction.
    async fn table_for<J: Journal>(
        &self,
        work: &Work<'_>,
        parts: &[Part<'_>],
        shape: Shape,
        journal: &J,
    ) -> Option<AddressLookupTableAccount> {
        let [part] = parts else { return None };
        let wanted = shape == Shape::V0 && work.may_use_table(part);
        if wanted { self.table(part.book, &part.page, journal).await } else { None }
    }

    /// Reads the pages of a group, in their order, and which legs of their books can be paid; an error for a page that cannot
    /// be claimed.
    async fn scenes<J: Journal>(
        &self,
        work: &Work<'_>,
        group: &Group,
        journal: &J,
    ) -> Result<Vec<Result<Scene, Rejection>>, Rejection> {
        let places: Vec<&Place<'_>> = group.iter().filter_map(|portion| work.places.get(portion.at)).collect();
        let mut scenes = self.look(&places, work.min_slot).await?;
        if !self.settings().create_payee_accounts {
            return Ok(scenes);
        }
        let lacking = places.iter().zip(&scenes).filter(|(_, scene)| scene.as_ref().is_ok_and(Scene::lacks_payee));
        let lacking: Vec<&BookView> = lacking.map(|(place, _)| place.book).collect();
        let mut made = BTreeSet::new();
        for book in lacking {
            if made.insert(book.address) {
                self.create_payee_account(book, journal).await?;
            }
        }
        if !made.is_empty() {
            scenes = self.look(&places, work.min_slot).await?;
        }
        Ok(scenes)
    }

    async fn look(&self, places: &[&Place<'_>], min_slot: u64) -> Result<Vec<Result<Scene, Rejection>>, Rejection> {
        let named = places.iter().flat_map(|place| {
            let legs = place.book.state.legs().iter().map(|leg| Address::from(leg.account));
            std::iter::once(place.page).chain(legs)
        });
        let addresses: Vec<Address> = named.collect();
        let Snapshot { accounts, .. } = self.accounts_since(&addresses, min_slot, Commitment::Confirmed).await?;
        let mut accounts = accounts.into_iter();
        let scenes = places.iter().map(|place| {
            let page = accounts.next().flatten();
            let legs = place.book.state.legs();
            let payable = legs.iter().map(|leg| Scene::is_payable(place.book, leg, accounts.next().flatten().as_ref()));
            let payable: Vec<bool> = payable.collect();
            let page = PageView::parse(place.page, ours(&page.ok_or(Rejection::UnknownPage)?)?)?;
            if page.book() != place.book.address {
                return Err(Rejection::WrongBook);
            }
            Ok(Scene { page, payable })
        });
        Ok(scenes.collect())
    }

    /// Makes the payee's associated token account, at the sponsor's expense. Nobody else's is ever made.
    async fn create_payee_account<J: Journal>(&self, book: &BookView, journal: &J) -> Result<(), Rejection> {
        let create = create_token_account(&self.sponsor(), &book.payee(), &book.mint(), &book.token_program());
        let compute_price = self.compute_price(&[self.sponsor()]).await;
        let budget = Budget { compute_units: TOKEN_ACCOUNT_UNITS, compute_price };
        let blockhash = self.latest_blockhash().await?;
        let message = message(Shape::Legacy, &self.sponsor(), &[create], None, &budget, blockhash.hash)?;
        let transaction = self.signed(message);
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

/// The parts of a transaction that has `excess` bytes too many, in groups of which the first fits: as many pages as do, or
/// of a single page as many rows. None for what cannot be split.
fn split(
    parts: &[Part<'_>],
    excess: usize,
    fits: impl Fn(&[Part<'_>]) -> Result<bool, Rejection>,
) -> Result<Option<Vec<Group>>, Rejection> {
    let all = Portion::of(parts);
    if let [portion] = all.as_slice() {
        let too_many = rows_too_many(excess, &portion.rows);
        let Some((now, later)) = portion.rows.split_at_checked(portion.rows.len().saturating_sub(too_many)) else {
            return Ok(None);
        };
        let part = |rows: &[_]| vec![Portion { at: portion.at, rows: rows.to_vec() }];
        return Ok((too_many > 0).then(|| vec![part(now), part(later)]));
    }
    for pages in (1..parts.len()).rev() {
        let Some((now, _)) = parts.split_at_checked(pages) else { break };
        if pages == 1 || fits(now)? {
            let later = all.iter().skip(pages).cloned().collect();
            return Ok(Some(vec![all.into_iter().take(pages).collect(), later]));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
