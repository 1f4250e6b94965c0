//! Which shape the chain takes: asked, and asked again, never assumed.
//!
//! A transaction of version 1 holds four times as much. Whether it can be used is known by two questions: has the cluster
//! activated it, and does the node take one? The answer is kept for a while. It is asked for anew after that, and when the
//! node does not take such a transaction after all; then claims go in smaller ones. Which shape a claim has makes no
//! difference to what it settles: claims settle up to a target, so that nothing is lost or paid twice by changing it.

use crate::chain::{Chain, Commitment, Failure, Snapshot};
use crate::settler::Settler;
use solana_address::{Address, address};
use solana_rpc_client_api::client_error::TransactionError;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tallybook_chain::shape::{Budget, Shape, message};
use tallybook_chain::transaction::memo;
use tallybook_ledger::{Capacity, Load, Policy};
use tallybook_rules::half_aggregation::{BELOW_ROW_BYTES, MAX_ROWS, ROW_BYTES};
use tokio::time::Instant;

/// The gate of transactions of version 1.
const FEATURE: Address = address!("txv1aq4pp281K9um3tnPgkfX8UqtFT6wcVW3hNezGLL");
/// The owner of all such gates.
const FEATURE_PROGRAM: Address = address!("Feature111111111111111111111111111111111111");
/// How long an answer counts.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// Bytes of the memo that a node is tried with: more than fit into a transaction of an older shape.
const TRIAL_BYTES: usize = 1_300;
const TRIAL_UNITS: u32 = 300_000;

/// Which shape claims have.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ShapeChoice {
    /// The largest that the chain takes: version 1, else v0 with the page's lookup table, else legacy.
    #[default]
    Auto,
    /// This one, without asking. A chain that does not take it settles nothing.
    Only(Shape),
}

/// What is known of the chain.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Mutex<Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    takes_v1: bool,
    /// When that was found out; none when it is to be asked again.
    since: Option<Instant>,
}

impl Shapes {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer is as old as one may be.
    #[cfg(test)]
    pub(crate) fn grow_old(&self) {
        let mut known = self.known();
        known.since = known.since.and_then(|since| since.checked_sub(ASK_AGAIN));
    }

    /// Something went wrong with a transaction of version 1: asks again before the next one.
    pub(crate) fn doubt(&self) {
        self.known().since = None;
    }

    /// A transaction of version 1 was refused for what it is: none for a while, whatever a trial says.
    pub(crate) fn refuse(&self) {
        *self.known() = Known { takes_v1: false, since: Some(Instant::now()) };
    }
}

impl<C: Chain> Settler<C> {
    /// The shape of claims now. Asks the chain unless it was asked a short while ago.
    pub async fn shape(&self) -> Shape {
        match self.settings().shape {
            ShapeChoice::Only(shape) => shape,
            ShapeChoice::Auto if self.takes_v1().await => Shape::V1,
            ShapeChoice::Auto if self.settings().make_tables => Shape::V0,
            ShapeChoice::Auto => Shape::Legacy,
        }
    }

    /// The policy, for as much as one transaction holds now: of books with at most `legs` legs, and `one_mint` when all of
    /// them have the same.
    pub async fn fitted(&self, policy: Policy, legs: u8, one_mint: bool) -> Policy {
        let shape = self.shape().await;
        Policy {
            rows_per_batch: policy.rows_per_batch.min(rows(shape, false)),
            rows_per_batch_below: policy.rows_per_batch_below.min(rows(shape, true)),
            capacity: capacity(shape, legs, one_mint),
            ..policy
        }
    }

    async fn takes_v1(&self) -> bool {
        let known = *self.shapes().known();
        if known.since.is_some_and(|since| since.elapsed() < ASK_AGAIN) {
            return known.takes_v1;
        }
        let Some(takes_v1) = self.ask().await else {
            // The chain does not answer: what was known last, until it does.
            return known.takes_v1;
        };
        if takes_v1 != known.takes_v1 || known.since.is_none() {
            tracing::info!(takes_v1, "asked whether the chain takes transactions of version 1");
        }
        *self.shapes().known() = Known { takes_v1, since: Some(Instant::now()) };
        takes_v1
    }

    /// Whether the cluster has activated transactions of version 1 and the node takes one; none when neither can be told.
    async fn ask(&self) -> Option<bool> {
        let Snapshot { slot, accounts } = self.chain().accounts(&[FEATURE], Commitment::Confirmed).await.ok()?;
        let gate = accounts.into_iter().next().flatten();
        let active = gate.is_some_and(|gate| gate.owner == FEATURE_PROGRAM && is_active(&gate.data, slot));
        if !active {
            return Some(false);
        }
        match self.try_out(Shape::V1, TRIAL_BYTES).await? {
            Some(taken) => Some(taken),
            // A node that cannot read it answers with an error, as one does that is overloaded: then it does not answer
            // for an old transaction either.
            None => self.try_out(Shape::Legacy, 1).await?.map(|_| false),
        }
    }

    /// Whether the node simulates a memo of this shape; the inner none when it does not answer.
    async fn try_out(&self, shape: Shape, bytes: usize) -> Option<Option<bool>> {
        let blockhash = self.chain().latest_blockhash().await.ok()?.hash;
        let budget = Budget { compute_units: TRIAL_UNITS, compute_price: 0 };
        let message = message(shape, &self.sponsor(), &[memo(&".".repeat(bytes))], None, &budget, blockhash).ok()?;
        let trial = VersionedTransaction { signatures: vec![Default::default()], message };
        let answer = self.chain().simulate(&trial).await.ok();
        Some(answer.map(|simulation| !simulation.failure.is_some_and(|failure| is_of_shape(&failure))))
    }
}

/// True when a transaction failed for what it looks like, not for what it does.
pub(crate) fn is_of_shape(failure: &Failure) -> bool {
    matches!(
        failure.0,
        TransactionError::UnsupportedVersion
            | TransactionError::SanitizeFailure
            | TransactionError::MaxLoadedAccountsDataSizeExceeded
            | TransactionError::InvalidLoadedAccountsDataSizeLimit
    )
}

/// A gate is a flag, and if it is set the slot from which it counts.
fn is_active(gate: &[u8], slot: u64) -> bool {
    let activated = gate.split_first().filter(|(flag, _)| **flag == 1).and_then(|(_, rest)| rest.first_chunk::<8>());
    activated.is_some_and(|activated| u64::from_le_bytes(*activated) <= slot)
}

/// How many rows of one page fit into a transaction with the payout of one leg, and for v0 with the page's table. A first
/// guess: the bytes decide.
pub const fn rows(shape: Shape, is_below: bool) -> usize {
    match (shape, is_below) {
        (Shape::Legacy, false) => 19,
        (Shape::Legacy, true) => 17,
        (Shape::V0, false) => 23,
        (Shape::V0, true) => 20,
        (Shape::V1, false) => 94,
        (Shape::V1, true) => 81,
    }
}

/// Compute units of a claimed row, rounded up; measured in the program's README.
const ROW_UNITS: u32 = 9_500;
/// Those of a page beside its rows: the claim, and the payout without its legs.
const PAGE_UNITS: u32 = 11_500;
/// Those of each leg that is paid.
const LEG_UNITS: u32 = 2_500;
/// What is left for the rest.
const TRANSACTION_UNITS: u32 = 1_000;

/// Bytes of prefix, header, mask, blockhash, two counts, three limits and a signature.
const HEAD_BYTES: u32 = 1 + 3 + 4 + 32 + 2 + 16 + 64;
/// Of the claim 4 bytes of header, an account, discriminator and scalar; of the payout as much header, its accounts but
/// those of the legs, discriminator and legs.
const PAGE_BYTES: u32 = 4 + 1 + 33 + 4 + 5 + 2;

/// What a transaction of this shape holds. Only one of version 1 takes several pages: a v0 one has one lookup table.
fn capacity(shape: Shape, legs: u8, one_mint: bool) -> Capacity {
    if shape != Shape::V1 {
        return Capacity::ONE_PAGE;
    }
    let addresses = |count: u32, bytes: u32, compute_units: u32| Load {
        bytes: count.saturating_mul(32).saturating_add(bytes),
        addresses: count,
        compute_units,
    };
    let size = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    // Mint and token program, once for all or once for each book.
    let (once, each): (u32, u32) = if one_mint { (2, 0) } else { (0, 2) };
    let legs = u32::from(legs);
    Capacity {
        limit: Load {
            bytes: size(shape.max_bytes()),
            addresses: size(shape.max_addresses()),
            compute_units: tallybook_chain::shape::MAX_COMPUTE_UNITS,
        },
        transaction: addresses(once.saturating_add(2), HEAD_BYTES, TRANSACTION_UNITS),
        book: addresses(legs.saturating_add(each).saturating_add(1), 0, 0),
        page: addresses(2, legs.saturating_add(PAGE_BYTES), PAGE_UNITS.saturating_add(legs.saturating_mul(LEG_UNITS))),
        row: addresses(0, size(ROW_BYTES), ROW_UNITS),
        row_below: addresses(0, size(BELOW_ROW_BYTES), ROW_UNITS),
        pages: MAX_ROWS,
    }
}

#[cfg(test)]
mod tests;
