use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use std::fmt;
use tallybook_rules::Amount;

/// An amount of a token, to be shown: `{"baseUnits":"1500","tokens":"0.001500"}`, or `0.001500` for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Money {
    /// Base units.
    pub amount: Amount,
    /// Places of the mint.
    pub decimals: u8,
}

impl Money {
    /// `amount` base units of a mint with `decimals` places.
    pub const fn new(amount: Amount, decimals: u8) -> Self {
        Self { amount, decimals }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.amount.decimal(self.decimals).fmt(f)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut money = serializer.serialize_struct("Money", 2)?;
        money.serialize_field("baseUnits", &self.amount.to_string())?;
        money.serialize_field("tokens", &self.to_string())?;
        money.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_shown_to_programs_and_people() {
        let money = Money::new(Amount::new(1_500), 6);
        assert_eq!(serde_json::to_string(&money).unwrap(), r#"{"baseUnits":"1500","tokens":"0.001500"}"#);
        assert_eq!(money.to_string(), "0.001500");
    }
}
