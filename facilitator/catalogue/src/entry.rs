//! One entry: a payee's call at an address, and who paid for it.

use crate::judge::{Candidate, Described};
use crate::words::Index;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use tallybook_ledger::ListingRecord;
use tallybook_wire::{BAZAAR, Key, Listing, Standing, Version, iso_8601};

/// The most ways to pay that are listed.
const MAX_WAYS: usize = 8;
/// Payers are counted up to so many.
const MAX_PAYERS: usize = 256;
/// What is recent, in days.
const RECENT_DAYS: usize = 30;
const DAY_SECONDS: i64 = 86_400;

/// What is kept of it. Written whole each time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Counts up in the order of first payments.
    pub(crate) number: u64,
    /// Of what it declares.
    pub(crate) digest: Key,
    pub(crate) resource: String,
    pub(crate) kind: String,
    pub(crate) call: String,
    pub(crate) payee: String,
    pub(crate) described: Described,
    pub(crate) extension: Value,
    /// The ways to pay, the one that was used last at the end.
    pub(crate) accepts: Vec<Value>,
    /// In Unix seconds.
    pub(crate) first_paid: i64,
    pub(crate) paid_at: i64,
    pub(crate) paid_calls: u64,
    recent: Recent,
    /// The first bytes of each payer's address, without the payee's own.
    payers: BTreeSet<u64>,
    /// Another declaration that was paid for since, and since when: it waits to take the place of this one.
    #[serde(skip)]
    pub(crate) waiting: Option<(Key, i64)>,
    #[serde(skip)]
    pub(crate) index: Index,
}

/// Paid calls of the last days.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
struct Recent {
    /// Which day the first number is of, since 1970.
    day: i64,
    /// The newest first.
    calls: Vec<u32>,
}

impl Recent {
    fn roll_to(&mut self, day: i64) {
        let passed = usize::try_from(day.saturating_sub(self.day)).unwrap_or(0);
        if passed > 0 {
            let kept = self.calls.iter().copied().take(RECENT_DAYS.saturating_sub(passed));
            self.calls = std::iter::repeat_n(0, passed.min(RECENT_DAYS)).chain(kept).collect();
            self.day = day;
        }
    }

    fn count(&mut self, day: i64) {
        self.roll_to(day);
        match self.calls.first_mut() {
            Some(today) => *today = today.saturating_add(1),
            None => self.calls.push(1),
        }
    }

    fn sum(&self, day: i64) -> u64 {
        let passed = usize::try_from(day.saturating_sub(self.day)).unwrap_or(0);
        self.calls.iter().take(RECENT_DAYS.saturating_sub(passed)).map(|calls| u64::from(*calls)).sum()
    }
}

impl Entry {
    pub(crate) fn new(number: u64, candidate: Candidate, now: i64) -> Self {
        let Candidate { digest, resource, kind, call, payee, described, extension, .. } = candidate;
        let mut entry = Self {
            number,
            digest,
            resource,
            kind,
            call,
            payee,
            described,
            extension,
            accepts: Vec::new(),
            first_paid: now,
            paid_at: now,
            paid_calls: 0,
            recent: Recent::default(),
            payers: BTreeSet::new(),
            waiting: None,
            index: Index::default(),
        };
        entry.index = Index::of(&entry);
        entry
    }

    /// As it was stored; none for a row that cannot be read.
    pub(crate) fn read(record: &ListingRecord) -> Option<Self> {
        let mut entry: Self = serde_json::from_str(&record.text).ok()?;
        entry.accepts.truncate(MAX_WAYS);
        entry.recent.calls.truncate(RECENT_DAYS);
        entry.index = Index::of(&entry);
        Some(entry)
    }

    /// As it is stored; none if it cannot be written, which no entry is.
    pub(crate) fn record(&self, key: [u8; 32]) -> Option<ListingRecord> {
        Some(ListingRecord { key, text: serde_json::to_string(self).ok()?, paid_at: self.paid_at })
    }

    /// Says anew what it is, as it was paid for now.
    pub(crate) fn declare(&mut self, candidate: Candidate) {
        self.digest = candidate.digest;
        self.described = candidate.described;
        self.extension = candidate.extension;
        self.waiting = None;
        self.index = Index::of(self);
    }

    /// Counts a paid call. Who pays itself is no payer.
    pub(crate) fn count(&mut self, payer: &[u8; 32], now: i64) {
        self.paid_calls = self.paid_calls.saturating_add(1);
        self.paid_at = self.paid_at.max(now);
        self.recent.count(now.div_euclid(DAY_SECONDS));
        let (first, _) = payer.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        if self.payers.len() < MAX_PAYERS && Key(*payer).to_string() != self.payee {
            self.payers.insert(u64::from_le_bytes(*first));
        }
    }

    /// The terms that were paid now, in the place of those of the same scheme, network and token.
    pub(crate) fn accept(&mut self, terms: Value) {
        let way = |terms: &Value| ["scheme", "network", "asset"].map(|name| terms.get(name).cloned());
        self.accepts.retain(|known| way(known) != way(&terms));
        self.accepts.push(terms);
        if self.accepts.len() > MAX_WAYS {
            self.accepts.remove(0);
        }
    }

    pub(crate) fn payers(&self) -> usize {
        self.payers.len()
    }

    pub(crate) fn recent_calls(&self, now: i64) -> u64 {
        self.recent.sum(now.div_euclid(DAY_SECONDS))
    }

    /// As it is listed; `contested` if others are paid at the same address.
    pub(crate) fn listing(&self, contested: bool, now: i64) -> Listing {
        let described = self.described.clone();
        Listing {
            resource: self.resource.clone(),
            kind: self.kind.clone(),
            x402_version: Version::NUMBER,
            accepts: self.accepts.iter().rev().cloned().collect(),
            last_updated: iso_8601(self.paid_at),
            description: described.description,
            mime_type: described.mime_type,
            service_name: described.service_name,
            tags: described.tags,
            icon_url: described.icon_url,
            extensions: Map::from_iter([(BAZAAR.to_owned(), self.extension.clone())]),
            standing: Some(Standing {
                paid_calls: self.paid_calls,
                recent_paid_calls: self.recent_calls(now),
                payers: u32::try_from(self.payers.len()).unwrap_or(u32::MAX),
                contested,
                first_paid: iso_8601(self.first_paid),
                last_paid: iso_8601(self.paid_at),
            }),
        }
    }
}
