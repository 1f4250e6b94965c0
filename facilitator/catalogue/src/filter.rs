//! Which entries are meant.

use crate::entry::Entry;
use serde_json::Value;
use tallybook_wire::BAZAAR;

/// What is asked for; whatever is none is not asked for. An entry is meant when one of its ways to pay has all that is asked
/// of one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    /// `http` or `mcp`.
    pub kind: Option<String>,
    /// The payee.
    pub pay_to: Option<String>,
    /// The scheme of a way to pay.
    pub scheme: Option<String>,
    /// Its network.
    pub network: Option<String>,
    /// Its token.
    pub asset: Option<String>,
    /// The most that it may cost, in base units of its token.
    pub max_amount: Option<u64>,
    /// An extension that the listing has: there is only `bazaar`.
    pub extension: Option<String>,
}

impl Filter {
    pub(crate) fn takes(&self, entry: &Entry) -> bool {
        let is = |asked: &Option<String>, found: &str| asked.as_ref().is_none_or(|asked| asked == found);
        is(&self.kind, &entry.kind)
            && is(&self.pay_to, &entry.payee)
            && is(&self.extension, BAZAAR)
            && entry.accepts.iter().any(|terms| self.takes_way(terms))
    }

    fn takes_way(&self, terms: &Value) -> bool {
        let text = |name: &str| terms.get(name).and_then(Value::as_str);
        let is = |asked: &Option<String>, name: &str| asked.as_ref().is_none_or(|asked| text(name) == Some(asked));
        let cheap = |most: u64| {
            text("amount").and_then(|amount| amount.parse::<u64>().ok()).is_some_and(|amount| amount <= most)
        };
        is(&self.scheme, "scheme")
            && is(&self.network, "network")
            && is(&self.asset, "asset")
            && self.max_amount.is_none_or(cheap)
    }
}
