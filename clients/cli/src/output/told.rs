//! What an agent says of money, in whole tokens and in the words of the command line.

use crate::output::Money;
use std::fmt;
use tallybook_agent::{AgentError, Breach};
use tallybook_rules::Amount;

/// An agent's error with what it says to whoever sits at a shell.
#[derive(Debug)]
pub struct Told {
    /// The error.
    pub error: AgentError,
    decimals: u8,
}

impl Told {
    /// `error`, of an agent that pays in a mint with `decimals` places.
    pub const fn new(error: AgentError, decimals: u8) -> Self {
        Self { error, decimals }
    }

    fn money(&self, amount: Amount) -> Money {
        Money::new(amount, self.decimals)
    }

    fn write_breach(&self, f: &mut fmt::Formatter<'_>, breach: &Breach) -> fmt::Result {
        f.write_str("not paid: ")?;
        if let Breach::PriceTooHigh { price, limit } = breach {
            let (price, limit) = (self.money(*price), self.money(*limit));
            return write!(
                f,
                "the call costs {price}, above the limit of {limit}: raise --max-price if it is worth it"
            );
        }
        if let Breach::DepositTooHigh { deposit, limit } = breach {
            let (deposit, limit) = (self.money(*deposit), self.money(*limit));
            return write!(
                f,
                "a channel there takes a deposit of {deposit}, above the limit of {limit}: raise --deposit"
            );
        }
        if let Breach::BudgetExceeded { scope, deposit, committed, limit } = breach {
            let (deposit, committed, limit) = (self.money(*deposit), self.money(*committed), self.money(*limit));
            let option = if scope.starts_with("at ") { "--budget-per-host" } else { "--budget" };
            return write!(
                f,
                "a deposit of {deposit} exceeds the limit {scope}: {committed} of {limit} are tied up or spent. Close \
                 channels (`tallybook channel list`), or raise {option}"
            );
        }
        if let Breach::RateExceeded { period, price, spent, limit } = breach {
            let (price, spent, limit) = (self.money(*price), self.money(*spent), self.money(*limit));
            return write!(
                f,
                "a call at {price} exceeds the limit of one {period}: {spent} of {limit} may be spent already. Wait, or raise \
                 --budget-per-{period}"
            );
        }
        if let Breach::NobodyToAsk { amount } = breach {
            let amount = self.money(*amount);
            return write!(
                f,
                "{amount} are above --ask-above, and there is no terminal to ask at: raise it, or run this in one"
            );
        }
        if let Breach::NotApproved { amount } = breach {
            return write!(f, "{} were not approved", self.money(*amount));
        }
        write!(f, "{breach}")
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let AgentError::Policy(breach) = &self.error {
            return self.write_breach(f, breach);
        }
        if let AgentError::WalletShort { held, deposit, account } = &self.error {
            let (held, deposit) = (self.money(*held), self.money(*deposit));
            return write!(
                f,
                "not paid: the wallet holds {held}, a deposit takes {deposit}: fund its token account {account}"
            );
        }
        if let AgentError::NoLamports { held, wallet } = &self.error {
            return write!(
                f,
                "the wallet {wallet} holds {held} lamports, too few for the network's fee: send it some, or let another key \
                 pay (--fee-payer, or `tallybook channel exit`)"
            );
        }
        self.error.fmt(f)
    }
}

impl std::error::Error for Told {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_told_in_tokens_and_limits_by_their_options() {
        let told = |error| Told::new(error, 6).to_string();
        let price = Breach::PriceTooHigh { price: Amount::new(500), limit: Amount::new(100) };
        let said = told(AgentError::Policy(price));
        assert!(said.contains("0.000500") && said.contains("--max-price"), "{said}");
        let budget = |scope: &str| Breach::BudgetExceeded {
            scope: scope.to_owned(),
            deposit: Amount::new(2),
            committed: Amount::new(1),
            limit: Amount::new(2),
        };
        let said = told(AgentError::Policy(budget("in all")));
        assert!(said.ends_with("--budget") && said.contains("0.000001 of 0.000002"), "{said}");
        assert!(told(AgentError::Policy(budget("at a.example"))).ends_with("--budget-per-host"));
        let said = told(AgentError::NotNow { channel: [1; 32].into(), why: "it is over" });
        assert!(said.contains("it is over"), "{said}");
    }
}
