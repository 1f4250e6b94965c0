//! Who is connected: so many in all, and from one address. When a seat is wanted and none is free, whoever has been idle
//! longest gives up theirs; a client that is being served keeps it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Open files beside connections: the store, the node, logs.
const OTHER_FILES: u64 = 256;

/// The connections of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    most_of_one: usize,
    open: Mutex<Open>,
}

#[derive(Default, Debug)]
struct Open {
    count: usize,
    /// Rises with everybody that becomes idle, so that the smallest number is who is idle longest.
    next: u64,
    idle: BTreeMap<u64, IpAddr>,
    of: HashMap<IpAddr, Address>,
}

/// The connections of one address.
#[derive(Default, Debug)]
struct Address {
    count: usize,
    idle: BTreeMap<u64, CancellationToken>,
}

/// A place of a connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    address: IpAddr,
    /// Its number among the idle; 0 while it is served.
    number: AtomicU64,
    given_up: CancellationToken,
}

impl Connections {
    /// At most `most`, and `most_of_one` from one address.
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, open: Mutex::default() })
    }

    /// A seat for somebody who has asked for nothing yet; `None` when all are being served.
    pub(crate) fn seat(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let mut open = self.lock();
        let of_one = open.of.get(&address).map_or(0, |of| of.count);
        if of_one >= self.most_of_one {
            let oldest = open.of.get(&address).and_then(|of| of.idle.keys().next().copied())?;
            open.end(oldest, address);
        } else if open.count >= self.most {
            open.end_oldest()?;
        }
        let seat = Seat {
            connections: Arc::clone(self),
            address,
            number: AtomicU64::new(0),
            given_up: CancellationToken::new(),
        };
        open.count = open.count.saturating_add(1);
        let of = open.of.entry(address).or_default();
        of.count = of.count.saturating_add(1);
        open.is_idle(&seat);
        Some(seat)
    }

    /// Ends whoever is idle longest: for when the system has no room for another one.
    pub(crate) fn make_room(&self) {
        // With nobody idle there is no room to be made.
        self.lock().end_oldest();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn end_oldest(&mut self) -> Option<()> {
        let (number, address) = self.idle.first_key_value().map(|(number, address)| (*number, *address))?;
        self.end(number, address);
        Some(())
    }

    /// Takes the seat of an idle connection away, and tells it so.
    fn end(&mut self, number: u64, address: IpAddr) {
        self.idle.remove(&number);
        if let Some(given_up) = self.of.get_mut(&address).and_then(|of| of.idle.remove(&number)) {
            given_up.cancel();
            self.free(address);
        }
    }

    fn free(&mut self, address: IpAddr) {
        self.count = self.count.saturating_sub(1);
        if let Some(of) = self.of.get_mut(&address) {
            of.count = of.count.saturating_sub(1);
            if of.count == 0 {
                self.of.remove(&address);
            }
        }
    }

    fn is_idle(&mut self, seat: &Seat) {
        self.next = self.next.saturating_add(1);
        seat.number.store(self.next, Ordering::Relaxed);
        self.idle.insert(self.next, seat.address);
        if let Some(of) = self.of.get_mut(&seat.address) {
            of.idle.insert(self.next, seat.given_up.clone());
        }
    }

    fn is_busy(&mut self, seat: &Seat) {
        let number = seat.number.swap(0, Ordering::Relaxed);
        self.idle.remove(&number);
        if let Some(of) = self.of.get_mut(&seat.address) {
            of.idle.remove(&number);
        }
    }
}

impl Seat {
    /// Its connection is being served.
    pub(crate) fn busy(&self) {
        self.connections.lock().is_busy(self);
    }

    /// Its connection waits for its client, to ask or to take its answer.
    pub(crate) fn idle(&self) {
        let mut open = self.connections.lock();
        if !self.given_up.is_cancelled() {
            open.is_idle(self);
        }
    }

    /// Ready when somebody else has the seat.
    pub(crate) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if !self.given_up.is_cancelled() {
            open.is_busy(self);
            open.free(self.address);
        }
    }
}

/// Lets the process have as many files open as it may have connections, as far as the system allows; beyond that connections
/// that are idle end early.
pub(crate) fn open_files(connections: u32) {
    let wanted = u64::from(connections).saturating_add(OTHER_FILES);
    match rlimit::increase_nofile_limit(wanted) {
        Ok(allowed) if allowed >= wanted => {}
        Ok(allowed) => {
            tracing::warn!(allowed, wanted, "fewer files may be open than limits.connections needs: ulimit -n")
        }
        Err(error) => tracing::warn!(%error, wanted, "how many files may be open cannot be set"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[test]
    fn given_a_full_house_when_somebody_comes_then_who_is_idle_longest_goes_and_who_is_served_stays() {
        let connections = Connections::new(3, 3);
        let seats: Vec<Seat> = [(); 3].iter().filter_map(|()| connections.seat(HERE)).collect();
        seats[0].busy();
        seats[1].busy();
        seats[1].idle();
        let next = connections.seat(THERE).unwrap();
        let gone = |seats: &[Seat]| seats.iter().map(|seat| seat.given_up.is_cancelled()).collect::<Vec<_>>();
        assert_eq!(gone(&seats), [false, false, true]);
        next.busy();
        let last = connections.seat(THERE).unwrap();
        assert_eq!(gone(&seats), [false, true, true]);
        last.busy();
        assert!(connections.seat(HERE).is_none(), "all are served");
        seats[1].idle();
        assert!(connections.seat(HERE).is_none(), "who has given up its seat has none to give");
        drop((seats, next, last));
        let open = connections.lock();
        assert_eq!((open.count, open.idle.len(), open.of.len()), (0, 0, 0));
    }

    #[test]
    fn given_an_address_with_all_its_seats_when_it_comes_again_then_it_gives_up_its_own_and_nobody_elses() {
        let connections = Connections::new(10, 2);
        let other = connections.seat(THERE).unwrap();
        let seats: Vec<Seat> = [(); 5].iter().filter_map(|()| connections.seat(HERE)).collect();
        let left = seats.iter().filter(|seat| !seat.given_up.is_cancelled()).count();
        assert_eq!((seats.len(), left, other.given_up.is_cancelled()), (5, 2, false));
        seats.iter().for_each(Seat::busy);
        assert!(connections.seat(HERE).is_none());
        assert!(connections.seat(THERE).is_some());
    }
}
