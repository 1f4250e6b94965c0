//! What others may make the sponsor pay within a day, however many names they have: fees of deposits and refunds, fees and
//! rent of pages. Claims are not held back: they bring payees their money, and nobody else can have one sent.

use std::collections::VecDeque;
use tallybook_rules::{PageHeader, Rejection, Slot};

const HOUR_SECONDS: i64 = 3_600;
const DAY_HOURS: i64 = 24;
/// What a signature costs, in lamports.
const SIGNATURE_LAMPORTS: u64 = 5_000;
/// The most signatures of a transaction that is paid for here: payer, operator, sponsor.
const SIGNATURES: u64 = 3;
const MICRO_LAMPORTS: u64 = 1_000_000;
/// Rent of a byte that is to stay, in lamports, when it was highest: 3,480 a year, for two years. Since SIMD-0437 it is less.
const RENT_LAMPORTS_PER_BYTE: u64 = 6_960;
/// Bytes that every account is charged for besides its data.
const ACCOUNT_BYTES: u64 = 128;
/// A vault with every extension that mints here may have, generously.
const VAULT_BYTES: u64 = 300;

/// The most that a transaction can cost its fee payer, in lamports.
pub(crate) const fn highest_fee(compute_units: u32, compute_price: u64) -> u64 {
    #[expect(clippy::as_conversions, reason = "u32 to u64; const")]
    let priority = compute_price.saturating_mul(compute_units as u64).div_ceil(MICRO_LAMPORTS);
    SIGNATURE_LAMPORTS.saturating_mul(SIGNATURES).saturating_add(priority)
}

/// The most that a page of so many slots can lock up, in lamports, with its vault.
pub(crate) fn highest_rent(capacity: u8) -> u64 {
    let slots = usize::from(capacity).saturating_mul(Slot::SIZE).saturating_add(PageHeader::SIZE).saturating_add(8);
    let bytes = u64::try_from(slots).unwrap_or(u64::MAX).saturating_add(ACCOUNT_BYTES.saturating_mul(2));
    bytes.saturating_add(VAULT_BYTES).saturating_mul(RENT_LAMPORTS_PER_BYTE)
}

/// A part of a day's allowance that was put aside for a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    hour: i64,
    lamports: u64,
}

/// The running day's spending, by the hour.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u64,
    hours: VecDeque<(i64, u64)>,
    /// What other facilitators on the same store have spent, as far as was seen.
    others: u64,
}

impl Allowance {
    /// At most so many lamports within a day, of which some were spent before.
    pub(crate) fn new(most: u64, spent: u64, now: i64) -> Self {
        Self { most, hours: VecDeque::from([(hour(now), spent)]), others: 0 }
    }

    /// Takes in what all facilitators on the same store have spent within the last day: what of it is not known here is others'.
    /// So all of them together go wrong by what each has put aside, or spent since the others looked.
    pub(crate) fn all_spent(&mut self, lamports: u64, now: i64) {
        self.others = lamports.saturating_sub(self.used_here(now));
    }

    /// What was spent or put aside within the last day.
    pub(crate) fn used(&mut self, now: i64) -> u64 {
        self.used_here(now).saturating_add(self.others)
    }

    fn used_here(&mut self, now: i64) -> u64 {
        let oldest = hour(now).saturating_sub(DAY_HOURS);
        self.hours.retain(|(hour, _)| *hour > oldest);
        self.hours.iter().fold(0, |sum, (_, lamports)| sum.saturating_add(*lamports))
    }

    /// Whether so many lamports more may be spent: [`Rejection::QuotaExceeded`].
    pub(crate) fn check(&mut self, lamports: u64, now: i64) -> Result<(), Rejection> {
        let used = self.used(now).saturating_add(lamports);
        if used <= self.most { Ok(()) } else { Err(Rejection::QuotaExceeded) }
    }

    /// Puts aside the most that a transaction can cost, before it is sent.
    pub(crate) fn take(&mut self, lamports: u64, now: i64) -> Result<Share, Rejection> {
        self.check(lamports, now)?;
        let share = Share { hour: hour(now), lamports };
        self.add(share);
        Ok(share)
    }

    /// A transaction has cost so much; what was put aside for it is free again. One that never landed keeps its share.
    pub(crate) fn spent(&mut self, share: Option<Share>, lamports: u64, now: i64) {
        if let Some(share) = share {
            let of_its_hour = self.hours.iter_mut().find(|(hour, _)| *hour == share.hour);
            if let Some((_, sum)) = of_its_hour {
                *sum = sum.saturating_sub(share.lamports);
            }
        }
        self.add(Share { hour: share.map_or_else(|| hour(now), |share| share.hour), lamports });
    }

    fn add(&mut self, share: Share) {
        match self.hours.iter_mut().find(|(hour, _)| *hour == share.hour) {
            Some((_, sum)) => *sum = sum.saturating_add(share.lamports),
            None => self.hours.push_back((share.hour, share.lamports)),
        }
    }
}

const fn hour(now: i64) -> i64 {
    now.div_euclid(HOUR_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_800_000_000;

    #[test]
    fn given_an_allowance_when_it_is_used_up_then_nothing_is_paid_for_until_a_day_has_passed() {
        let mut allowance = Allowance::new(100, 30, NOON);
        assert!(allowance.take(70, NOON + 3_600).is_ok());
        assert_eq!(allowance.take(1, NOON + 7_200), Err(Rejection::QuotaExceeded));
        assert_eq!(allowance.take(30, NOON + 23 * 3_600), Err(Rejection::QuotaExceeded));
        assert!(allowance.take(30, NOON + 24 * 3_600).is_ok());
        assert_eq!(allowance.take(1, NOON + 24 * 3_600), Err(Rejection::QuotaExceeded));
        assert_eq!(allowance.used(NOON + 50 * 3_600), 0);
    }

    #[test]
    fn given_shares_when_their_transactions_cost_less_or_more_then_that_is_what_counts() {
        let mut allowance = Allowance::new(1_000, 0, NOON);
        let (first, second) = (allowance.take(400, NOON).unwrap(), allowance.take(400, NOON).unwrap());
        allowance.spent(Some(first), 100, NOON + 5);
        assert_eq!(allowance.used(NOON), 500);
        allowance.spent(Some(second), 450, NOON + 4_000);
        allowance.spent(None, 50, NOON + 4_000);
        assert_eq!(allowance.used(NOON), 600);
        assert_eq!(allowance.check(401, NOON), Err(Rejection::QuotaExceeded));
        assert_eq!(allowance.check(400, NOON), Ok(()));
    }

    #[test]
    fn given_others_that_spend_too_when_that_is_seen_then_it_is_left_of_the_same_allowance() {
        let mut allowance = Allowance::new(1_000, 300, NOON);
        let share = allowance.take(100, NOON).unwrap();
        allowance.all_spent(700, NOON);
        assert_eq!(allowance.used(NOON), 700, "300 of before, 100 put aside, 300 by others");
        assert_eq!(allowance.check(301, NOON), Err(Rejection::QuotaExceeded));
        // Looked at again, the same is the same, and what was put aside has cost less.
        allowance.spent(Some(share), 50, NOON);
        allowance.all_spent(650, NOON + 5);
        assert_eq!(allowance.used(NOON + 5), 650);
        allowance.all_spent(0, NOON + 50 * 3_600);
        assert_eq!(allowance.used(NOON + 50 * 3_600), 0);
    }

    #[test]
    fn given_what_transactions_can_cost_when_computed_then_it_is_not_less_than_they_do() {
        assert_eq!(highest_fee(200_000, 50_000), 25_000);
        assert_eq!(highest_fee(1, 1), 15_001, "a part of a lamport is a whole one");
        // A page of 96 slots: 216 + 96 * 104 + 8 bytes of data, and a token account of 165, at 6,960 a byte.
        assert!(highest_rent(96) >= (216 + 96 * 104 + 8 + 165 + 2 * 128) * 6_960);
    }
}
