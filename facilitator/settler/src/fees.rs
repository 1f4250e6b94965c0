//! What is bid for compute.

use crate::chain::Chain;
use crate::settler::Settler;
use solana_address::Address;

/// How the price of compute is found. Claims are not urgent, and a bid is paid for all units that a transaction asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeePolicy {
    /// No priority fee.
    Off,
    /// Always this price, in micro-lamports a unit.
    Fixed(u64),
    /// What recent blocks took for the accounts that a transaction writes to, see [`FeePolicy::price`].
    Recent {
        /// Which of the recent prices, 0 (the lowest) to 100 (the highest).
        percentile: u8,
        /// At least this, in micro-lamports a unit; also while the node does not say.
        floor: u64,
        /// At most this, in micro-lamports a unit.
        cap: u64,
    },
}

impl Default for FeePolicy {
    /// The median of the recent prices, 1,000 to 50,000 micro-lamports a unit.
    fn default() -> Self {
        Self::Recent { percentile: 50, floor: 1_000, cap: 50_000 }
    }
}

impl FeePolicy {
    /// The price for `recent` prices, in any order: the smallest that at least `percentile` percent of them do not exceed,
    /// within floor and cap. The cap counts where the two contradict each other.
    pub fn price(&self, recent: &[u64]) -> u64 {
        match *self {
            Self::Off => 0,
            Self::Fixed(price) => price,
            Self::Recent { percentile, floor, cap } => {
                let mut sorted = recent.to_vec();
                sorted.sort_unstable();
                let rank = sorted.len().saturating_mul(usize::from(percentile.min(100))).div_ceil(100);
                let found = sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default();
                found.max(floor).min(cap)
            }
        }
    }

    /// The most that is ever bid, in micro-lamports a unit.
    pub const fn most(&self) -> u64 {
        match *self {
            Self::Off => 0,
            Self::Fixed(price) => price,
            Self::Recent { cap, .. } => cap,
        }
    }
}

impl<C: Chain> Settler<C> {
    /// The price for a transaction that writes to these accounts, in micro-lamports a unit. Asks the chain only where the
    /// policy needs it; a chain that does not say costs the floor.
    pub(crate) async fn compute_price(&self, written: &[Address]) -> u64 {
        let policy = self.settings().fees;
        let recent = match policy {
            FeePolicy::Off | FeePolicy::Fixed(_) => Vec::new(),
            FeePolicy::Recent { .. } => self.chain().recent_prices(written).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "recent prices are not known: bidding the least");
                Vec::new()
            }),
        };
        policy.price(&recent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_recent_prices_when_a_percentile_is_asked_for_then_it_is_the_smallest_that_so_many_do_not_exceed() {
        let price = |percentile: u8| FeePolicy::Recent { percentile, floor: 0, cap: u64::MAX }.price(&[40, 10, 30, 20]);
        assert_eq!([0, 1, 25, 26, 50, 51, 75, 100].map(price), [10, 10, 10, 20, 20, 30, 30, 40]);
        assert_eq!(price(255), 40, "no more than all");
    }

    #[test]
    fn given_floor_and_cap_when_a_price_is_beyond_them_then_they_count() {
        let policy = FeePolicy::Recent { percentile: 50, floor: 100, cap: 5_000 };
        assert_eq!(policy.price(&[]), 100, "nothing is known");
        assert_eq!((policy.price(&[0; 150]), policy.price(&[700]), policy.price(&[u64::MAX])), (100, 700, 5_000));
        assert_eq!(FeePolicy::Recent { percentile: 50, floor: 9, cap: 5 }.price(&[7]), 5);
        assert_eq!((FeePolicy::Off.price(&[9]), FeePolicy::Fixed(7).price(&[9])), (0, 7));
        let most = [FeePolicy::Off, FeePolicy::Fixed(7), policy].map(|policy| policy.most());
        assert_eq!(most, [0, 7, 5_000]);
    }
}
