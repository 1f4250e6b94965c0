//! What was not listed lately, and why: for whoever asks.

use std::collections::VecDeque;
use tallybook_wire::Unlisted;

/// So many are remembered; the oldest go first.
const REMEMBERED: usize = 512;

/// The last reason for each address.
#[derive(Clone, Default, Debug)]
pub(crate) struct Refusals(VecDeque<Refused>);

/// One of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    /// The URL, without a query.
    pub(crate) url: String,
    pub(crate) payee: String,
    pub(crate) why: Unlisted,
    /// In Unix seconds.
    pub(crate) at: i64,
}

impl Refusals {
    pub(crate) fn add(&mut self, refused: Refused) {
        self.forget(&refused.url, &refused.payee);
        self.0.push_back(refused);
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// It is listed now.
    pub(crate) fn forget(&mut self, url: &str, payee: &str) {
        self.0.retain(|known| known.url != url || known.payee != payee);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Refused> {
        self.0.iter()
    }
}
