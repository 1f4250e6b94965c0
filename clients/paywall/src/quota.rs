//! Calls that cost nothing: so many for each client, in a window of time.

use core::fmt;
use http::request::Parts;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most clients that are counted at a time; what is above is not free, so that strangers who invent names cannot fill
/// the memory.
const MAX_CLIENTS: usize = 65_536;

/// Says who asks: the part of a request by which a client is known, such as its address or key. `None` gets nothing free.
type Who = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

/// So many calls of a route are free for each client, in each window of time.
#[derive(Clone)]
pub struct FreeQuota {
    calls: u32,
    window: Duration,
    who: Who,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    /// By a keyed hash of the name, which nobody can aim at: when the window began, and calls in it.
    clients: HashMap<u64, (Instant, u32)>,
    hasher: RandomState,
}

impl fmt::Debug for FreeQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FreeQuota({} in {:?})", self.calls, self.window)
    }
}

impl FreeQuota {
    /// `calls` free calls in each `window` for every client that `who` tells apart. Its window begins with its first call.
    ///
    /// `who` must be something that a client cannot make up anew for each call, or it is free for good: the address of
    /// its connection, or a key that was given to it.
    pub fn new(calls: u32, window: Duration, who: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { calls, window, who: Arc::new(who), counted: Arc::default() }
    }

    /// Takes one of the client's free calls; false when it has none left.
    pub(crate) fn take(&self, request: &Parts, now: Instant) -> bool {
        let Some(who) = (self.who)(request) else { return false };
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let client = counted.hasher.hash_one(&who);
        let is_over = |begun: Instant| now.saturating_duration_since(begun) >= self.window;
        if counted.clients.len() >= MAX_CLIENTS && !counted.clients.contains_key(&client) {
            counted.clients.retain(|_, (begun, _)| !is_over(*begun));
            if counted.clients.len() >= MAX_CLIENTS {
                return false;
            }
        }
        let (begun, calls) = counted.clients.entry(client).or_insert((now, 0));
        if is_over(*begun) {
            (*begun, *calls) = (now, 0);
        }
        let is_free = *calls < self.calls;
        if is_free {
            *calls = calls.saturating_add(1);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(name: &str) -> Parts {
        http::Request::builder().header("x-key", name).body(()).unwrap().into_parts().0
    }

    fn quota(calls: u32) -> FreeQuota {
        let who = |request: &Parts| Some(request.headers.get("x-key")?.to_str().ok()?.to_owned());
        FreeQuota::new(calls, Duration::from_secs(60), who)
    }

    #[test]
    fn given_a_quota_when_two_clients_call_then_each_has_its_own_until_its_window_is_over() {
        let (quota, now) = (quota(2), Instant::now());
        let calls: Vec<bool> = ["a", "a", "b", "a", "b", "b"].map(|who| quota.take(&from(who), now)).to_vec();
        assert_eq!(calls, [true, true, true, false, true, false]);
        assert!(!quota.take(&from("a"), now + Duration::from_secs(59)));
        assert!(quota.take(&from("a"), now + Duration::from_secs(60)));
        assert!(!quota.take(&http::Request::new(()).into_parts().0, now), "nobody gets nothing");
    }

    #[test]
    fn given_strangers_without_number_when_they_call_then_memory_is_bounded_and_known_clients_keep_their_quota() {
        let (quota, now) = (quota(2), Instant::now());
        let free = (0..MAX_CLIENTS + 10).filter(|name| quota.take(&from(&name.to_string()), now)).count();
        assert_eq!(free, MAX_CLIENTS);
        assert!(quota.take(&from("0"), now));
        assert!(quota.take(&from("late"), now + Duration::from_secs(61)), "windows that are over make room");
    }
}
