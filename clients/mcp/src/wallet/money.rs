use rmcp::schemars::JsonSchema;
use serde::Serialize;
use tallybook_rules::Amount;

/// An amount of the wallet's token.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Money {
    /// In base units.
    base_units: String,
    /// In whole tokens, such as 0.000500.
    tokens: String,
}

impl Money {
    pub(super) fn new(amount: Amount, decimals: u8) -> Self {
        Self { base_units: amount.to_string(), tokens: amount.decimal(decimals).to_string() }
    }

    pub(super) fn tokens(&self) -> &str {
        &self.tokens
    }
}
