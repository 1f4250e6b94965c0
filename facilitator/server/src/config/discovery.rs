use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tallybook_catalogue::Settings;

/// The catalogue of what was paid for (x402's `bazaar`): what declared itself, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DiscoverySettings {
    /// Keep one, and answer `/discovery`. What is stored stays stored without it.
    pub enabled: bool,
    /// Entries in all; beyond them what nobody else pays for, then what was not paid for longest, makes room.
    pub entries: u32,
    /// Entries of one payee.
    pub entries_per_payee: u32,
    /// For how long an entry stays that nobody pays for, in days.
    pub keep_days: u32,
    /// List resources at addresses of this machine and of private networks, too.
    pub private_addresses: bool,
}

impl Default for DiscoverySettings {
    fn default() -> Self {
        Self { enabled: true, entries: 10_000, entries_per_payee: 200, keep_days: 90, private_addresses: false }
    }
}

impl DiscoverySettings {
    /// Each key with its value, and the smallest and largest that makes sense.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 3] {
        [
            ("discovery.entries", u64::from(self.entries), 1, 100_000),
            ("discovery.entries_per_payee", u64::from(self.entries_per_payee), 1, 100_000),
            ("discovery.keep_days", u64::from(self.keep_days), 1, 3_650),
        ]
    }

    pub(crate) fn catalogue(&self) -> Settings {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Settings {
            entries: size(self.entries),
            entries_per_payee: size(self.entries_per_payee),
            keep_seconds: i64::from(self.keep_days).saturating_mul(86_400),
            private_addresses: self.private_addresses,
        }
    }
}
