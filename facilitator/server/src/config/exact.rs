use super::{Config, ConfigProblem};
use schemars::JsonSchema;
use serde::Deserialize;
use tallybook_wire::Key;

/// Payments by the scheme `exact`: a client's transaction pays its payee at once, and the sponsor pays the network's fee.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExactSettings {
    /// The mints that are paid in.
    #[schemars(with = "Vec<String>")]
    pub mints: Vec<Key>,
    /// Who may be paid at the sponsor's expense.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub pay_to: Vec<Key>,
    /// Anybody whom a resource server names may: only where resource servers show the `access_token`, or on this machine
    /// alone.
    #[serde(default)]
    pub any_pay_to: bool,
    /// The highest compute limit that is paid for, in units.
    #[serde(default = "max_compute_units")]
    pub max_compute_units: u32,
    /// The highest compute price that is paid, in micro-lamports a unit.
    #[serde(default = "max_compute_price")]
    pub max_compute_price: u64,
    /// Take payments of version 1 of x402 too, where it has a name for the network.
    #[serde(default = "yes")]
    pub v1: bool,
}

const fn max_compute_units() -> u32 {
    200_000
}

const fn max_compute_price() -> u64 {
    50_000
}

const fn yes() -> bool {
    true
}

impl ExactSettings {
    /// Refuses what would serve nobody, or anybody by mistake.
    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigProblem> {
        if self.mints.is_empty() {
            return Err(ConfigProblem::new("exact.mints", "name at least one mint, or leave the section out"));
        }
        if self.pay_to.is_empty() && !self.any_pay_to {
            return Err(ConfigProblem::new("exact.pay_to", "name who may be paid, or set any_pay_to"));
        }
        if self.any_pay_to && config.access_token.is_none() && !config.listen.ip().is_loopback() {
            return Err(ConfigProblem::new(
                "exact.any_pay_to",
                "set access_token too: otherwise anybody could be paid at the sponsor's expense",
            ));
        }
        Ok(())
    }

    /// Each key with its value, and the smallest and largest that makes sense.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 2] {
        [
            ("exact.max_compute_units", u64::from(self.max_compute_units), 1, 1_400_000),
            ("exact.max_compute_price", self.max_compute_price, 0, 10_000_000),
        ]
    }

    /// Whether a payment to this payee in this mint is sponsored.
    pub(crate) fn serves(&self, pay_to: &[u8; 32], mint: &[u8; 32]) -> bool {
        let named = |keys: &[Key], key: &[u8; 32]| keys.iter().any(|one| one.as_bytes() == key);
        named(&self.mints, mint) && (self.any_pay_to || named(&self.pay_to, pay_to))
    }
}
