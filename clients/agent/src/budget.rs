//! What is tied up in channels and what was spent, together.

use crate::policy::{Breach, Policy};
use std::collections::HashMap;
use tallybook_rules::Amount;

/// Amounts in base units. A channel counts with its deposit until it ended, then with what it cost.
#[derive(Default, Debug)]
pub(crate) struct Budget {
    total: Amount,
    by_host: HashMap<String, Amount>,
}

impl Budget {
    /// Commits a deposit at a host if the policy leaves room for it.
    pub(crate) fn commit(&mut self, policy: &Policy, host: &str, deposit: Amount) -> Result<(), Breach> {
        let at_host = self.by_host.get(host).copied().unwrap_or_default();
        for (scope, committed, limit) in
            [(format!("at {host}"), at_host, policy.budget_per_host), ("in all".to_owned(), self.total, policy.budget)]
        {
            if committed.plus(deposit).map_or(true, |sum| sum > limit) {
                return Err(Breach::BudgetExceeded { scope, deposit, committed, limit });
            }
        }
        self.count(host, deposit);
        Ok(())
    }

    /// Counts what is committed already, over the limit or not.
    pub(crate) fn count(&mut self, host: &str, amount: Amount) {
        // A sum beyond 64 bits is beyond every budget as well.
        let sum = |old: Amount| old.plus(amount).unwrap_or(Amount::new(u64::MAX));
        let at_host = self.by_host.entry(host.to_owned()).or_default();
        *at_host = sum(*at_host);
        self.total = sum(self.total);
    }

    /// Frees what came back.
    pub(crate) fn free(&mut self, host: &str, amount: Amount) {
        if let Some(at_host) = self.by_host.get_mut(host) {
            *at_host = at_host.less(amount);
        }
        self.total = self.total.less(amount);
    }

    /// What is tied up or spent in all.
    pub(crate) const fn committed(&self) -> Amount {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Cluster;
    use tallybook_wire::{Key, Network};

    #[test]
    fn neither_budget_is_exceeded_and_what_comes_back_is_free_again() {
        let cluster = Cluster { network: Network::devnet(), genesis_hash: Key([0; 32]), mint: Key([1; 32]) };
        let policy =
            Policy::new(cluster, Amount::new(1), Amount::new(10), Amount::new(30)).budget_per_host(Amount::new(20));
        let mut budget = Budget::default();
        let ten = Amount::new(10);
        assert_eq!(budget.commit(&policy, "a", ten), Ok(()));
        assert_eq!(budget.commit(&policy, "a", ten), Ok(()));
        let refused = budget.commit(&policy, "a", ten).unwrap_err();
        assert!(refused.to_string().contains("at a"), "{refused}");
        assert_eq!(budget.commit(&policy, "b", ten), Ok(()));
        let refused = budget.commit(&policy, "c", Amount::new(1)).unwrap_err();
        assert!(refused.to_string().contains("in all"), "{refused}");
        assert!(budget.commit(&policy, "c", Amount::new(u64::MAX)).is_err());
        budget.free("a", Amount::new(7));
        assert_eq!(budget.commit(&policy, "a", Amount::new(7)), Ok(()));
        assert_eq!(budget.committed(), Amount::new(30));
    }
}
