//! Signatures are checked together: those who come at one moment share one equation, which takes less than half of the work
//! for each. Nobody waits for others to come: whoever finds nobody checking lets those who are ready go first, once, and then
//! checks all that are there. Whoever is alone then is told without a group, and nothing is allocated for it.

use crate::told::Told;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tallybook_rules::Rejection;
use tallybook_rules::signing::{Checked, SignedVoucher, SignerKey, VerifiedVoucher, verify_all};

/// The most signatures of one equation. A larger group saves hardly more for each, and keeps a processor for longer while
/// others may have nothing to do.
const MOST: usize = 32;
/// How many keys are kept decoded: about 200 bytes each.
const KEYS: usize = 4_096;

/// The signatures that wait to be checked.
#[derive(Debug)]
pub(crate) struct Signatures {
    queue: Mutex<Queue>,
    keys: Keys,
}

#[derive(Debug)]
struct Queue {
    /// Those who come next.
    open: Arc<Group>,
    signed: Vec<(SignedVoucher, SignerKey)>,
    /// How many are checked together now: half as many after a group with a forgery in it, and one more after each without.
    /// So whoever sends forgeries makes the others' checks cost what they cost alone, and not more.
    most: usize,
}

/// What each of a group is told, in the order in which they came.
type Group = Told<Vec<Result<VerifiedVoucher, Rejection>>>;

impl Default for Signatures {
    fn default() -> Self {
        let queue = Queue { open: Arc::default(), signed: Vec::new(), most: MOST };
        Self { queue: Mutex::new(queue), keys: Keys::default() }
    }
}

impl Signatures {
    /// [`SignedVoucher::verify`], in a group.
    pub(crate) async fn check(&self, voucher: SignedVoucher, signer: &[u8; 32]) -> Result<VerifiedVoucher, Rejection> {
        let key = self.keys.of(signer)?;
        let (group, at, leading) = self.join(voucher, key);
        if let Some(mut leading) = leading {
            if !leading.is_full {
                tokio::task::yield_now().await;
            }
            if leading.is_alone() {
                let checked = voucher.verify_by(&key);
                self.lock().grow(checked.is_ok());
                return checked;
            }
            drop(leading);
        }
        let told = group.heard().await.get(at).copied();
        // Nothing was said only if whoever has led has panicked.
        told.unwrap_or_else(|| voucher.verify_by(&key))
    }

    /// [`SignedVoucher::verify`] of many that come at once, each with its signer if that is known.
    pub(crate) fn check_all(
        &self,
        signed: impl Iterator<Item = (SignedVoucher, Result<[u8; 32], Rejection>)>,
    ) -> Vec<Result<VerifiedVoucher, Rejection>> {
        let keyed = signed.map(|(voucher, signer)| Ok((voucher, self.keys.of(&signer?)?)));
        let keyed: Vec<Result<_, Rejection>> = keyed.collect();
        let ready: Vec<_> = keyed.iter().flatten().copied().collect();
        let mut checked = ready.chunks(MOST).flat_map(|some| verify_all(some).vouchers);
        let checked = keyed
            .into_iter()
            .map(|keyed| keyed.and_then(|(voucher, key)| checked.next().unwrap_or_else(|| voucher.verify_by(&key))));
        checked.collect()
    }

    /// Takes a place in the group that is open. The first one leads it, unless the last one that has room finds it full.
    fn join(&self, voucher: SignedVoucher, key: SignerKey) -> (Arc<Group>, usize, Option<Leading<'_>>) {
        let mut queue = self.lock();
        let (group, at) = (Arc::clone(&queue.open), queue.signed.len());
        queue.signed.push((voucher, key));
        let is_full = queue.signed.len() >= queue.most;
        let leads = at == 0 || is_full;
        let leading = leads.then(|| Leading { signatures: self, group: Some(Arc::clone(&group)), is_full });
        (group, at, leading)
    }

    /// Checks a group, unless somebody has: a full one is taken by whoever has filled it.
    fn lead(&self, group: &Arc<Group>) {
        let mut queue = self.lock();
        if !Arc::ptr_eq(&queue.open, group) {
            return;
        }
        queue.open = Arc::default();
        let signed = std::mem::take(&mut queue.signed);
        drop(queue);
        let telling = Telling(group);
        let Checked { vouchers, together } = verify_all(&signed);
        telling.0.tell(vouchers);
        let mut queue = self.lock();
        queue.grow(together);
        // The room that it took is there for the next one.
        if queue.signed.capacity() == 0 {
            queue.signed = signed;
            queue.signed.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Lets the next groups be larger after one without a forgery, and smaller after one with.
    fn grow(&mut self, holds: bool) {
        self.most = if holds { self.most.saturating_add(1).min(MOST) } else { (self.most / 2).max(1) };
    }
}

/// A duty to check a group: done when dropped, so that it is done too when the task of whoever leads is dropped, since
/// others wait for it.
struct Leading<'a> {
    signatures: &'a Signatures,
    /// None once there is nobody else to check for.
    group: Option<Arc<Group>>,
    is_full: bool,
}

impl Leading<'_> {
    /// True when nobody else has come: then the place in the group is given up, and with it the duty.
    fn is_alone(&mut self) -> bool {
        let mut queue = self.signatures.lock();
        let is_open = self.group.as_ref().is_some_and(|group| Arc::ptr_eq(&queue.open, group));
        let is_alone = is_open && queue.signed.len() == 1;
        if is_alone {
            queue.signed.clear();
            self.group = None;
        }
        is_alone
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            self.signatures.lead(group);
        }
    }
}

/// Tells a group at least that nothing is known, when dropped.
struct Telling<'a>(&'a Group);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.tell(Vec::new());
    }
}

/// Keys that were decoded lately, which takes a tenth of a check. Each has a place, in which the last one stays; nobody can
/// choose keys that share another's place.
#[derive(Debug)]
struct Keys {
    seed: RandomState,
    places: Vec<Mutex<Option<SignerKey>>>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { seed: RandomState::new(), places: (0..KEYS).map(|_| Mutex::default()).collect() }
    }
}

impl Keys {
    fn of(&self, signer: &[u8; 32]) -> Result<SignerKey, Rejection> {
        let at = usize::try_from(self.seed.hash_one(signer)).unwrap_or_default() % KEYS;
        let Some(place) = self.places.get(at) else { return SignerKey::decode(signer) };
        let mut kept = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = kept.filter(|key| key.bytes() == signer) {
            return Ok(key);
        }
        let key = SignerKey::decode(signer)?;
        *kept = Some(key);
        Ok(key)
    }
}

#[cfg(test)]
mod tests;
