//! Where batches stand while they are worked through.

use crate::chain::{Failure, Spent};
use crate::claim::{Part, Role, Scene, Sorted};
use crate::deposit::refusal;
use solana_address::Address;
use tallybook_chain::BookView;
use tallybook_ledger::{Attempt, ClaimRow, Landed, Outcome};
use tallybook_rules::Rejection;

/// How one group ended.
pub(crate) enum Step {
    /// In a block of this slot.
    Landed(u64),
    /// To be done in these groups instead.
    Split(Vec<Group>),
    /// Nothing of it is left to do.
    Nothing,
    /// Sent, and not decided.
    Unknown,
}

/// What is meant to go into one transaction, each page once.
pub(crate) type Group = Vec<Portion>;

/// Rows of one page.
#[derive(Clone, Debug)]
pub(crate) struct Portion {
    /// The page's number in the work.
    pub(crate) at: usize,
    pub(crate) rows: Vec<ClaimRow>,
}

impl Portion {
    pub(crate) fn of(parts: &[Part<'_>]) -> Group {
        parts.iter().map(|part| Self { at: part.at, rows: part.rows.clone() }).collect()
    }
}

/// A page that is worked on.
pub(crate) struct Place<'a> {
    pub(crate) book: &'a BookView,
    pub(crate) page: Address,
    /// The node does not see the page's lookup table.
    without_table: bool,
    /// The payout failed: what is owed stays owed, claims go on.
    without_payout: bool,
    outcome: Outcome,
}

impl<'a> Place<'a> {
    pub(crate) fn new(book: &'a BookView, page: Address) -> Self {
        Self { book, page, without_table: false, without_payout: false, outcome: Outcome::default() }
    }
}

/// All pages that are worked on together.
pub(crate) struct Work<'a> {
    pub(crate) places: Vec<Place<'a>>,
    /// Nothing older than this slot is looked at, so that own transactions are seen.
    pub(crate) min_slot: u64,
}

impl<'a> Work<'a> {
    pub(crate) const fn new(places: Vec<Place<'a>>) -> Self {
        Self { places, min_slot: 0 }
    }

    /// True once something was sent, or refused for good.
    pub(crate) fn has_begun(&self) -> bool {
        self.places.iter().any(|place| place.outcome != Outcome::default())
    }

    /// Something was sent and is not decided, or could not be gone on with.
    pub(crate) fn is_unknown(&mut self) {
        self.places.iter_mut().for_each(|place| place.outcome.unknown = true);
    }

    /// In the order of the places.
    pub(crate) fn outcomes(self) -> Vec<Outcome> {
        self.places.into_iter().map(|place| place.outcome).collect()
    }

    /// Holds rows against their page: what is not to be claimed is noted. All of them are refused with a page that cannot be
    /// claimed.
    pub(crate) fn sort(&mut self, at: usize, rows: &[ClaimRow], scene: Result<&Scene, &Rejection>) -> Sorted {
        let sorted = match scene {
            Ok(scene) => scene.sort(rows),
            Err(rejection) => {
                let refused = rows.iter().map(|row| (row.slot, *rejection)).collect();
                Sorted { refused, ..Sorted::default() }
            }
        };
        if let Some(place) = self.places.get_mut(at) {
            place.outcome.refused.extend(&sorted.refused);
        }
        sorted
    }

    /// What is left to do of a group, with the legs that are owed and can be paid then.
    pub(crate) fn parts(
        &mut self,
        group: Group,
        scenes: Vec<Result<Scene, Rejection>>,
    ) -> Result<Vec<Part<'a>>, Rejection> {
        let mut parts = Vec::with_capacity(group.len());
        for (Portion { at, rows }, scene) in group.into_iter().zip(scenes) {
            let sorted = self.sort(at, &rows, scene.as_ref());
            let (Ok(scene), Some(place)) = (scene, self.places.get(at)) else { continue };
            let rows = [sorted.closing, sorted.open].concat();
            let legs = if place.without_payout { 0 } else { scene.legs(place.book, &rows)? };
            if !rows.is_empty() || legs != 0 {
                parts.push(Part { at, book: place.book, page: place.page, rows, legs });
            }
        }
        Ok(parts)
    }

    /// Notes a transaction that has landed, worked or failed: its cost falls on the pages by their rows.
    pub(crate) fn landed(&mut self, parts: &[Part<'_>], attempt: &Attempt, spent: Option<Spent>, worked: bool) {
        let weights: Vec<u64> = parts.iter().map(|part| u64::try_from(part.rows.len()).unwrap_or(1).max(1)).collect();
        let lamports = shares(spent.map_or(0, |spent| spent.lamports), &weights);
        let units = shares(spent.map_or(0, |spent| spent.compute_units), &weights);
        for (part, (fee_lamports, compute_units)) in parts.iter().zip(lamports.into_iter().zip(units)) {
            let rows = if worked { u32::try_from(part.rows.len()).unwrap_or(u32::MAX) } else { 0 };
            if let Some(place) = self.places.get_mut(part.at) {
                place.outcome.landed.push(Landed { signature: attempt.signature, rows, fee_lamports, compute_units });
            }
        }
    }

    /// After a failure: the page at fault is taken out of the transaction, or its payout, or of a single page its rows are
    /// halved; a row that failed alone is refused for good. None when the same is to be tried without a payout.
    pub(crate) fn take_apart(&mut self, parts: &[Part<'_>], role: Option<Role>, failure: &Failure) -> Option<Step> {
        let pages = parts.len();
        let all = Portion::of(parts);
        if let Some(Role::Payout(number)) = role {
            let place = parts.get(number).and_then(|part| self.places.get_mut(part.at))?;
            tracing::warn!(page = %place.page, %failure, "cannot pay out now: it stays owed");
            place.without_payout = true;
            return None;
        }
        tracing::info!(pages, ?role, %failure, "a claim is refused");
        if let [portion] = all.as_slice() {
            return Some(self.halve(portion, failure));
        }
        let (fault, rest): (Vec<_>, Vec<_>) = match role {
            Some(Role::Claim(number)) => all.into_iter().enumerate().partition(|(at, _)| *at == number),
            // No page is named: half of them.
            _ => all.into_iter().enumerate().partition(|(at, _)| *at >= pages / 2),
        };
        let group = |portions: Vec<(usize, Portion)>| portions.into_iter().map(|(_, portion)| portion).collect();
        Some(Step::Split(vec![group(rest), group(fault)]))
    }

    fn halve(&mut self, portion: &Portion, failure: &Failure) -> Step {
        let Portion { at, rows } = portion;
        match rows.as_slice() {
            [] => Step::Nothing,
            [row] => {
                if let Some(place) = self.places.get_mut(*at) {
                    place.outcome.refused.push((row.slot, refusal(failure)));
                }
                Step::Nothing
            }
            rows => {
                let (left, right) = rows.split_at(rows.len() / 2);
                let half = |rows: &[ClaimRow]| vec![Portion { at: *at, rows: rows.to_vec() }];
                Step::Split(vec![half(left), half(right)])
            }
        }
    }

    pub(crate) fn may_use_table(&self, part: &Part<'_>) -> bool {
        self.places.get(part.at).is_some_and(|place| !place.without_table)
    }

    /// Goes without lookup tables in these pages; false when that was so already.
    pub(crate) fn gives_table_up(&mut self, parts: &[Part<'_>]) -> bool {
        let mut changed = false;
        for part in parts {
            if let Some(place) = self.places.get_mut(part.at) {
                changed |= !place.without_table;
                place.without_table = true;
            }
        }
        changed
    }
}

/// `whole` in parts as large as `weights`, whose sum it is again.
fn shares(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum = weights.iter().copied().fold(0, u64::saturating_add).max(1);
    let upto = |weight: u64| {
        let part = u128::from(whole).saturating_mul(u128::from(weight)).checked_div(u128::from(sum));
        part.and_then(|part| u64::try_from(part).ok()).unwrap_or(whole)
    };
    let mut before = 0u64;
    let mut shares = Vec::with_capacity(weights.len());
    for weight in weights {
        let next = before.saturating_add(*weight);
        shares.push(upto(next).saturating_sub(upto(before)));
        before = next;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn given_a_cost_when_it_is_shared_then_no_lamport_is_lost_or_made() {
        assert_eq!(shares(5_101, &[1]), [5_101]);
        assert_eq!(shares(100, &[1, 1, 1]), [33, 33, 34]);
        assert_eq!(shares(5_000, &[94, 6]), [4_700, 300]);
        assert_eq!(
            shares(u64::MAX, &[u64::MAX / 2, u64::MAX / 2]).iter().copied().reduce(u64::wrapping_add),
            Some(u64::MAX)
        );
        assert_eq!(shares(7, &[]), [0; 0]);
    }
}
