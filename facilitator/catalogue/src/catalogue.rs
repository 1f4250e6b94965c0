use crate::entry::Entry;
use crate::judge::Candidate;
use crate::place::{covers, place};
use crate::refusals::{Refusals, Refused};
use crate::words::Question;
use crate::{Filter, Sale, Settings};
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use tallybook_ledger::{Change, ListingRecord};
use tallybook_wire::{Key, Listing, ListingState, ListingStatus, Unlisted, UnlistedReason, iso_8601};

/// For how long every payment at an entry has to declare something new before that takes the place of what is listed, in
/// seconds: so that what one payment echoes wrongly does not change an entry that others pay for.
const CHANGE_SECONDS: i64 = 60;
/// An entry with so many payers is displaced only where no entry has fewer.
const ESTABLISHED_PAYERS: usize = 2;
/// The longest URL that is remembered of what was refused, in characters.
const MAX_REMEMBERED_CHARS: usize = 1_024;

/// What became of a payment's declaration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is what is listed.
    Listed,
    /// Its call is counted; another declaration is listed, and this one waits to take its place.
    Waits,
}

/// All entries. One writer; whoever reads may do so beside others.
#[derive(Clone, Debug)]
pub struct Catalogue {
    settings: Settings,
    entries: HashMap<[u8; 32], Entry>,
    /// Their order.
    numbers: BTreeMap<u64, [u8; 32]>,
    /// How many entries there are of a call at an address.
    at: HashMap<(String, String), u32>,
    /// What is not written yet.
    unwritten: BTreeSet<[u8; 32]>,
    refusals: Refusals,
}

impl Catalogue {
    /// A catalogue of what was stored. Rows that cannot be read are taken out.
    pub fn open(settings: Settings, records: &[ListingRecord]) -> Self {
        let mut catalogue = Self {
            settings,
            entries: HashMap::new(),
            numbers: BTreeMap::new(),
            at: HashMap::new(),
            unwritten: BTreeSet::new(),
            refusals: Refusals::default(),
        };
        for record in records {
            match Entry::read(record) {
                Some(entry) if !catalogue.has_twin_of(&entry) => catalogue.insert(record.key, entry),
                Some(_) | None => drop(catalogue.unwritten.insert(record.key)),
            }
        }
        catalogue
    }

    /// Takes in what others have written to the same store, of which these are all rows: what was paid for later than is known
    /// here, and what is gone. What is not written yet here stays as it is.
    pub fn refresh(&mut self, records: &[ListingRecord]) {
        let stored: HashSet<&[u8; 32]> = records.iter().map(|record| &record.key).collect();
        let is_gone = |key: &[u8; 32]| !stored.contains(key) && !self.unwritten.contains(key);
        let gone: Vec<_> = self.entries.keys().filter(|key| is_gone(key)).copied().collect();
        gone.iter().for_each(|key| drop(self.take_out(key)));
        for record in records.iter().filter(|record| !self.unwritten.contains(&record.key)).collect::<Vec<_>>() {
            let is_known = self.entries.get(&record.key).is_some_and(|known| known.paid_at >= record.paid_at);
            if let Some(entry) = Entry::read(record).filter(|_| !is_known) {
                self.take_out(&record.key);
                self.insert(record.key, entry);
            }
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lists what was paid for, or counts another payment for what is listed. `now` in Unix seconds.
    pub fn paid(&mut self, candidate: Candidate, payer: &[u8; 32], now: i64) -> Taken {
        let key = candidate.key;
        if !self.entries.contains_key(&key) {
            self.make_room(&candidate.payee, now);
            let number = self.numbers.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
            self.insert(key, Entry::new(number, candidate.clone(), now));
        }
        self.refusals.forget(&candidate.resource, &candidate.payee);
        let Some(entry) = self.entries.get_mut(&key) else { return Taken::Waits };
        entry.count(payer, now);
        self.unwritten.insert(key);
        if entry.digest == candidate.digest {
            entry.waiting = None;
            entry.accept(candidate.terms);
            return Taken::Listed;
        }
        match entry.waiting {
            Some((digest, since)) if digest == candidate.digest => {
                if now.saturating_sub(since) < CHANGE_SECONDS {
                    return Taken::Waits;
                }
                entry.accept(candidate.terms.clone());
                entry.declare(candidate);
                Taken::Listed
            }
            _ => {
                entry.waiting = Some((candidate.digest, now));
                Taken::Waits
            }
        }
    }

    /// Counts another payment for what is listed as it was declared by this digest; false when it is not, and the whole sale
    /// has to be looked at again.
    pub fn again(
        &mut self,
        key: &[u8; 32],
        digest: [u8; 32],
        payer: &[u8; 32],
        terms: Option<Value>,
        now: i64,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.digest == Key(digest)) else { return false };
        entry.count(payer, now);
        entry.waiting = None;
        if let Some(terms) = terms {
            entry.accept(terms);
        }
        self.unwritten.insert(*key);
        true
    }

    /// Remembers why something was not listed.
    pub fn refused(&mut self, sale: &Sale, why: Unlisted, now: i64) {
        let plain =
            |url: &str| url.chars().take_while(|char| !"?#".contains(*char)).take(MAX_REMEMBERED_CHARS).collect();
        let url = place(sale.url(), sale.template(), true).unwrap_or_else(|_| plain(sale.url()));
        let payee = sale.payee().chars().take(MAX_REMEMBERED_CHARS).collect();
        self.refusals.add(Refused { url, payee, why, at: now });
    }

    /// Takes out what nobody has paid for as long as entries are kept.
    pub fn expire(&mut self, now: i64) {
        let oldest = now.saturating_sub(self.settings.keep_seconds);
        let stale: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.paid_at < oldest).map(|(key, _)| *key).collect();
        stale.into_iter().for_each(|key| self.remove(&key, UnlistedReason::Stale, now));
    }

    /// At most `most` changes that are to be made durable; each is handed out once.
    pub fn changes(&mut self, most: usize) -> Vec<Change> {
        let keys: Vec<_> = self.unwritten.iter().copied().take(most).collect();
        let mut changes = Vec::with_capacity(keys.len());
        for key in keys {
            self.unwritten.remove(&key);
            let record = self.entries.get(&key).and_then(|entry| entry.record(key));
            changes.push(record.map_or(Change::Unlisted { key }, Change::Listing));
        }
        changes
    }

    /// A page of what is listed, in the order of first payments, and how many there are: an entry keeps its place for as long as
    /// it is listed.
    pub fn page(&self, filter: &Filter, offset: usize, limit: usize, now: i64) -> (Vec<Listing>, usize) {
        let meant: Vec<&Entry> = self.in_order().filter(|entry| filter.takes(entry)).collect();
        let page = meant.iter().skip(offset).take(limit).map(|entry| self.listing(entry, now));
        (page.collect(), meant.len())
    }

    /// A page of what answers to a question, the best first, and how many there are. Best is what answers to more of its words;
    /// then what more wallets have paid for (by powers of two, so that one more is nothing); then what answers better; then
    /// what was paid for more often lately. What a seller says of itself never outweighs who pays it.
    pub fn search(
        &self,
        question: &str,
        filter: &Filter,
        (offset, limit): (usize, usize),
        now: i64,
    ) -> (Vec<Listing>, usize) {
        let question = Question::of(question);
        let mut found: Vec<_> = self
            .entries
            .values()
            .filter(|entry| filter.takes(entry))
            .filter_map(|entry| {
                let (words, weight) = entry.index.answers(&question);
                let payers = usize::BITS.saturating_sub(entry.payers().leading_zeros());
                let calls = u64::BITS.saturating_sub(entry.recent_calls(now).leading_zeros());
                (words > 0).then_some((words, payers, weight, calls, Reverse(entry.number), entry))
            })
            .collect();
        found.sort_unstable_by_key(|(words, payers, weight, calls, number, _)| {
            Reverse((*words, *payers, *weight, *calls, *number))
        });
        let page = found.iter().skip(offset).take(limit).map(|(.., entry)| self.listing(entry, now));
        (page.collect(), found.len())
    }

    /// Whether a URL is listed, and why not. [`UnlistedReason::BadUrl`] for what is none.
    pub fn status(&self, url: &str) -> Result<ListingStatus, Unlisted> {
        let resource = place(url, None, true)?;
        let mut states: Vec<ListingState> =
            self.in_order().filter(|entry| covers(&entry.resource, &resource)).map(listed).collect();
        let refused = self.refusals.iter().filter(|refused| covers(&refused.url, &resource));
        for Refused { payee, why, at, .. } in refused {
            match states.iter_mut().find(|state| state.pay_to.as_ref() == Some(payee)) {
                Some(state) => state.refused = Some(why.clone()),
                None => states.push(ListingState {
                    listed: false,
                    call: None,
                    pay_to: Some(payee.clone()).filter(|payee| !payee.is_empty()),
                    refused: Some(why.clone()),
                    at: Some(iso_8601(*at)),
                }),
            }
        }
        if states.is_empty() {
            let why = Some(UnlistedReason::NotPaid.into());
            states.push(ListingState { listed: false, call: None, pay_to: None, refused: why, at: None });
        }
        Ok(ListingStatus { resource, states })
    }

    fn in_order(&self) -> impl Iterator<Item = &Entry> {
        self.numbers.values().filter_map(|key| self.entries.get(key))
    }

    fn listing(&self, entry: &Entry, now: i64) -> Listing {
        entry.listing(self.at.get(&address(entry)).is_some_and(|count| *count > 1), now)
    }

    /// Whether the same stands here already, under another key.
    fn has_twin_of(&self, entry: &Entry) -> bool {
        let of = |entry: &Entry| (entry.resource.clone(), entry.call.clone(), entry.payee.clone());
        let same = self.numbers.get(&entry.number).and_then(|key| self.entries.get(key));
        same.is_some_and(|same| of(same) == of(entry))
    }

    /// Two that several writers have given the same number: the later one comes last.
    fn insert(&mut self, key: [u8; 32], mut entry: Entry) {
        if self.numbers.contains_key(&entry.number) {
            entry.number = self.numbers.last_key_value().map_or(1, |(last, _)| last.saturating_add(1));
        }
        let count = self.at.entry(address(&entry)).or_default();
        *count = count.saturating_add(1);
        self.numbers.insert(entry.number, key);
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &[u8; 32], why: UnlistedReason, now: i64) {
        let Some(entry) = self.take_out(key) else { return };
        self.unwritten.insert(*key);
        self.refusals.add(Refused { url: entry.resource, payee: entry.payee, why: why.into(), at: now });
    }

    fn take_out(&mut self, key: &[u8; 32]) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.numbers.remove(&entry.number);
        let address = address(&entry);
        if let Some(count) = self.at.get_mut(&address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.at.remove(&address);
            }
        }
        Some(entry)
    }

    /// Takes out what is worth least until one more fits: of the payee, if it has as many as it may; then of all. Worth least is
    /// what nobody else pays for, then what was not paid for longest.
    fn make_room(&mut self, payee: &str, now: i64) {
        let of_payee = self.entries.values().filter(|entry| entry.payee == payee).count();
        for _ in self.settings.entries_per_payee..=of_payee {
            self.displace(|entry| entry.payee == payee, now);
        }
        for _ in self.settings.entries..=self.entries.len() {
            self.displace(|_| true, now);
        }
    }

    fn displace(&mut self, may: impl Fn(&Entry) -> bool, now: i64) {
        let worth = |entry: &Entry| (entry.payers().min(ESTABLISHED_PAYERS), entry.paid_at, entry.number);
        let least = self.entries.iter().filter(|(_, entry)| may(entry)).min_by_key(|(_, entry)| worth(entry));
        if let Some(key) = least.map(|(key, _)| *key) {
            self.remove(&key, UnlistedReason::Displaced, now);
        }
    }
}

/// What two payees may both have an entry of.
fn address(entry: &Entry) -> (String, String) {
    (entry.resource.clone(), entry.call.clone())
}

fn listed(entry: &Entry) -> ListingState {
    ListingState {
        listed: true,
        call: Some(entry.call.clone()),
        pay_to: Some(entry.payee.clone()),
        refused: None,
        at: Some(iso_8601(entry.paid_at)),
    }
}
