//! How much of the service one payer, or one payee's book, may have at a time: none of them can starve the others.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rate is measured over this long: so much may come at once.
const WINDOW: Duration = Duration::from_secs(1);
/// Beyond so many entries those that count nothing any more are dropped. Rates are counted only for verified payments, so that
/// there are at most as many entries as channels.
const TIDY_BEYOND: usize = 16_384;

/// What everybody of one kind has of the service now.
#[derive(Debug)]
pub(crate) struct Shares {
    at_once: u32,
    /// What one request uses of its time; nothing where rates are not limited.
    each: Duration,
    of: Mutex<HashMap<[u8; 32], Share>>,
}

/// What one has.
#[derive(Clone, Copy, Default, Debug)]
struct Share {
    at_once: u32,
    /// Up to when its rate is used.
    used_until: Option<Instant>,
}

impl Share {
    fn is_nothing(&self, now: Instant) -> bool {
        self.at_once == 0 && self.used_until.is_none_or(|until| until <= now)
    }
}

/// One request of somebody, at work.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    shares: &'a Shares,
    who: [u8; 32],
}

impl Shares {
    /// At most `at_once` requests at work, and `per_second` of them in the long run (0 for as many as there are).
    pub(crate) fn new(at_once: u32, per_second: u32) -> Self {
        Self { at_once, each: WINDOW.checked_div(per_second).unwrap_or_default(), of: Mutex::default() }
    }

    /// A turn, unless it has as many as it may have, or has used its rate up.
    pub(crate) fn turn(&self, who: [u8; 32], now: Instant) -> Option<Turn<'_>> {
        let mut of = self.lock();
        if of.len() > TIDY_BEYOND && !of.contains_key(&who) {
            of.retain(|_, share| !share.is_nothing(now));
        }
        let share = of.entry(who).or_default();
        let used = share.used_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let is_within = share.at_once < self.at_once && used.saturating_add(self.each) <= WINDOW;
        is_within.then(|| {
            share.at_once = share.at_once.saturating_add(1);
            Turn { shares: self, who }
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Share>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Counts it: what was asked for was really theirs. (A stranger who names somebody does not use up their rate.)
    pub(crate) fn count(&self, now: Instant) {
        if self.shares.each.is_zero() {
            return;
        }
        if let Some(share) = self.shares.lock().get_mut(&self.who) {
            let from = share.used_until.map_or(now, |until| until.max(now));
            share.used_until = from.checked_add(self.shares.each);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut of = self.shares.lock();
        if let Some(share) = of.get_mut(&self.who) {
            share.at_once = share.at_once.saturating_sub(1);
            if share.is_nothing(Instant::now()) {
                of.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_somebody_with_all_turns_when_another_comes_then_it_is_served_and_nothing_is_kept_afterwards() {
        let (shares, now) = (Shares::new(2, 0), Instant::now());
        let turns: Vec<Turn<'_>> = [(); 2].iter().filter_map(|()| shares.turn([1; 32], now)).collect();
        assert_eq!(turns.len(), 2);
        assert!(shares.turn([1; 32], now).is_none());
        assert!(shares.turn([2; 32], now).is_some());
        drop(turns);
        assert!(shares.lock().is_empty());
    }

    #[test]
    fn given_a_rate_when_it_is_used_up_then_it_comes_back_with_time_and_strangers_do_not_use_it() {
        let (shares, begun) = (Shares::new(100, 4), Instant::now());
        let strangers = (0..100).filter(|_| shares.turn([1; 32], begun).is_some()).count();
        assert_eq!(strangers, 100, "what is not theirs is not counted");
        let used = |now: Instant| shares.turn([1; 32], now).map(|turn| turn.count(now)).is_some();
        assert_eq!((0..10).filter(|_| used(begun)).count(), 4);
        assert_eq!((0..10).filter(|_| used(begun + Duration::from_millis(500))).count(), 2);
        assert_eq!((0..10).filter(|_| used(begun + Duration::from_secs(60))).count(), 4);
    }
}
