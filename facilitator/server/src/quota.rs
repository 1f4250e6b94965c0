//! How many deposits the sponsor pays for.

use std::collections::HashMap;
use tallybook_rules::Rejection;

const HOUR_SECONDS: i64 = 3_600;
/// The most payers that are remembered; beyond them everybody waits for the hour to pass.
const PAYERS: usize = 100_000;

/// Deposits of the running hour, by payer.
#[derive(Debug)]
pub(crate) struct Quotas {
    most: u32,
    since: i64,
    used: HashMap<[u8; 32], u32>,
}

impl Quotas {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, since: 0, used: HashMap::new() }
    }

    /// Whether one more is paid for; changes nothing.
    pub(crate) fn check(&mut self, payer: &[u8; 32], now: i64) -> Result<(), Rejection> {
        if now.saturating_sub(self.since) >= HOUR_SECONDS {
            self.since = now;
            self.used.clear();
        }
        let room = self.used.len() < PAYERS || self.used.contains_key(payer);
        let used = self.used.get(payer).copied().unwrap_or_default();
        if room && used < self.most { Ok(()) } else { Err(Rejection::QuotaExceeded) }
    }

    /// Counts a deposit that is about to be sent.
    pub(crate) fn take(&mut self, payer: [u8; 32], now: i64) -> Result<(), Rejection> {
        self.check(&payer, now)?;
        let used = self.used.entry(payer).or_default();
        *used = used.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_quota_when_it_is_used_up_then_the_payer_waits_for_the_next_hour_and_others_do_not() {
        let mut quotas = Quotas::new(2);
        assert_eq!([quotas.take([1; 32], 10_000), quotas.take([1; 32], 10_001)], [Ok(()), Ok(())]);
        assert_eq!(quotas.take([1; 32], 13_599), Err(Rejection::QuotaExceeded));
        assert_eq!(quotas.take([2; 32], 13_599), Ok(()));
        assert_eq!(quotas.take([1; 32], 13_600), Ok(()));
    }
}
