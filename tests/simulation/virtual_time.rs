//! Time and chance of one world.
//!
//! The product reads clocks and timers of the standard library and of Tokio, and dies from the operating system. All of
//! them come down to two functions of the C library, which this binary defines itself, as libfaketime and madsim do: on a
//! thread that has a world they answer from it, on every other thread the system answers. So the real code runs unchanged,
//! and the same seed is the same run.
#![expect(unsafe_code, reason = "two functions of the C library are answered here, for the threads of worlds alone")]

use libc::{c_int, c_long, c_uint, c_void, size_t, ssize_t, timespec};
use std::cell::Cell;
use std::future::Future;
use tokio::runtime::{Builder, Handle, Runtime};

/// When every world begins, in Unix seconds.
pub(crate) const BEGIN_SECONDS: i64 = 1_800_000_000;
/// The monotonic clock is elsewhere, so that mixing the two up is seen.
const UPTIME_SECONDS: i64 = 50_000;

thread_local! {
    /// Milliseconds since the world began; none on a thread without a world.
    static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    /// By how many seconds the wall clock is wrong.
    static SKEW: Cell<i64> = const { Cell::new(0) };
    /// The state of the dice.
    static DICE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Gives the current thread a world's time and chance, for good.
pub(crate) fn enter(seed: u64) {
    NOW.set(Some(0));
    SKEW.set(0);
    DICE.set(Some(seed));
}

/// Milliseconds since this thread's world began.
pub(crate) fn now() -> u64 {
    NOW.get().expect("a thread with a world")
}

/// Lets time pass.
pub(crate) fn pass(milliseconds: u64) {
    NOW.set(Some(now() + milliseconds));
}

/// Sets the wall clock wrong by so many seconds; what runs does not notice but for the hour.
pub(crate) fn set_skew(seconds: i64) {
    SKEW.set(seconds);
}

/// The C library's clocks.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut timespec) -> c_int {
    let Some(now) = NOW.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the system's own call, with the arguments that came.
        let result = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return if result == 0 { 0 } else { -1 };
    };
    let since = if clock == libc::CLOCK_REALTIME { BEGIN_SECONDS + SKEW.get() } else { UPTIME_SECONDS };
    let seconds = since + i64::try_from(now / 1_000).unwrap_or(i64::MAX);
    let nanoseconds = c_long::try_from(now % 1_000 * 1_000_000).unwrap_or(0);
    // SAFETY: whoever calls has room for a time there.
    unsafe { time.write(timespec { tv_sec: seconds, tv_nsec: nanoseconds }) };
    0
}

/// The C library's dice: the keys of hash maps, and with them every jitter, come from here.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let Some(mut state) = DICE.try_with(Cell::get).ok().flatten() else {
        // SAFETY: the system's own call, with the arguments that came.
        let result = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return ssize_t::try_from(result).unwrap_or(-1);
    };
    for at in 0..length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // SAFETY: whoever calls has room for so many bytes there.
        unsafe { buffer.cast::<u8>().add(at).write((mixed >> 56).to_le_bytes()[0]) };
    }
    DICE.set(Some(state));
    ssize_t::try_from(length).unwrap_or(-1)
}

/// Something that runs in the world, and ends as a whole when it is dropped: a process. Nothing in it goes on but in
/// [`Process::work`], so that whoever drives decides the order.
pub(crate) struct Process(Runtime);

impl Process {
    pub(crate) fn start() -> Self {
        Self(Builder::new_current_thread().enable_time().build().expect("a runtime without a network"))
    }

    pub(crate) fn handle(&self) -> Handle {
        self.0.handle().clone()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.0.spawn(task));
    }

    /// Fires the timers that are due, and runs all that can go on, until nothing can. It never waits: time stands still.
    pub(crate) fn work(&self) {
        self.0.block_on(async {
            // Between two turns of this task every task that is ready runs, and then the timers are looked at.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        });
    }
}
