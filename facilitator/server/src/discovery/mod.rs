//! The catalogue at work: told of each payment that was charged, asked over HTTP, and written through the one writer.
//!
//! A payment waits for none of that. What it declares is hashed and looked up: a declaration that was looked at before is
//! answered for at once, a new one is handed on and looked at behind the answer. What is handed on has a bound; beyond it a call
//! is not counted, and a new declaration is looked at with a later payment. However many calls there were, an entry is one row
//! every few seconds.

mod keeping;
mod questions;

pub(crate) use keeping::{keep, write_rest};
pub(crate) use questions::{Question, list, search, status};

use crate::config::DiscoverySettings;
use axum::http::HeaderValue;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tallybook_catalogue::{Catalogue, Sale, Settings};
use tallybook_ledger::ListingRecord;
use tallybook_wire::{ExtensionResponses, ListingOutcome, Unlisted, UnlistedReason};
use tokio::sync::{Semaphore, mpsc};

/// So many payments may wait to be looked at.
const WAITING: usize = 1_024;
/// So many declarations are remembered with what was decided; beyond that all are looked at again.
const REMEMBERED: usize = 4_096;
/// So many searches may run at a time: each reads the whole catalogue.
const SEARCHES: usize = 2;

/// The catalogue, and the way to whoever keeps it.
pub(crate) struct Discovery {
    settings: Settings,
    catalogue: RwLock<Catalogue>,
    decided: Mutex<HashMap<[u8; 32], Decided>>,
    keeper: mpsc::Sender<Sighting>,
    /// For the keeper, which takes it once.
    sightings: Mutex<Option<mpsc::Receiver<Sighting>>>,
    searches: Semaphore,
}

/// What was decided on a declaration.
#[derive(Clone)]
enum Decided {
    /// It is what stands in the entry of this key.
    Listed([u8; 32]),
    Refused(Unlisted),
}

/// A payment that was charged and declares what it is for.
struct Sighting {
    sale: Box<Sale>,
    digest: [u8; 32],
    payer: [u8; 32],
    /// In Unix seconds.
    at: i64,
    /// The entry that it is known to be of.
    known: Option<[u8; 32]>,
}

impl Discovery {
    /// Takes up what was stored; none where no catalogue is kept.
    pub(crate) fn open(settings: &DiscoverySettings, stored: &[ListingRecord]) -> Option<Self> {
        let (keeper, sightings) = mpsc::channel(WAITING);
        let enabled = settings.enabled;
        let settings = settings.catalogue();
        enabled.then(|| Self {
            settings,
            catalogue: RwLock::new(Catalogue::open(settings, stored)),
            decided: Mutex::default(),
            keeper,
            sightings: Mutex::new(Some(sightings)),
            searches: Semaphore::new(SEARCHES),
        })
    }

    /// A payment was charged. Says what becomes of the listing of what it bought, if it declares that; `as_listed` takes out of
    /// the requirements what only this call was told.
    pub(crate) fn paid(
        &self,
        request: &[u8],
        payer: [u8; 32],
        at: i64,
        as_listed: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>),
    ) -> Option<HeaderValue> {
        let mut sale = Sale::read(request)?;
        as_listed(sale.requirements_mut());
        ExtensionResponses { bazaar: Some(self.sold(sale, payer, at)) }.header()
    }

    /// The same, for what comes otherwise than by a request to settle.
    pub(crate) fn sold(&self, sale: Sale, payer: [u8; 32], at: i64) -> ListingOutcome {
        let sale = Box::new(sale);
        let digest = sale.digest();
        let decided = lock(&self.decided).get(&digest).cloned();
        match decided {
            Some(Decided::Refused(why)) => why.into(),
            Some(Decided::Listed(key)) => {
                // One that is not counted is not worth a payment that waits.
                drop(self.keeper.try_send(Sighting { sale, digest, payer, at, known: Some(key) }));
                ListingOutcome::Success
            }
            None => match self.keeper.try_send(Sighting { sale, digest, payer, at, known: None }) {
                Ok(()) => ListingOutcome::Processing,
                Err(_) => Unlisted::from(UnlistedReason::Busy).into(),
            },
        }
    }

    fn decide(&self, digest: [u8; 32], decided: Decided) {
        let mut known = lock(&self.decided);
        if known.len() >= REMEMBERED && !known.contains_key(&digest) {
            known.clear();
        }
        known.insert(digest, decided);
    }

    fn forget(&self, digest: &[u8; 32]) {
        lock(&self.decided).remove(digest);
    }

    fn read(&self) -> RwLockReadGuard<'_, Catalogue> {
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Catalogue> {
        self.catalogue.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
