use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tallybook_rules::Amount;

/// How much is taken on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once. When one more comes, who is idle longest gives up its own; while all are being served it is
    /// refused with 503.
    pub connections: u32,
    /// Connections at once from one address. Lower than `connections` only where clients connect by themselves, not through a
    /// proxy.
    pub connections_per_address: u32,
    /// Requests at work at once; more are refused with 429. A quarter is kept for what ends a call that was begun.
    pub requests_in_flight: u32,
    /// Of one payer: its calls and deposits that are being looked at, at once; more are refused with 429.
    pub payer_requests_in_flight: u32,
    /// Of one payer: its calls and deposits in a second, in the long run; 0 for as many as there are.
    pub payer_requests_per_second: u32,
    /// Of one book, which is to say of its payee: its payers' calls and deposits that are being looked at, at once.
    pub book_requests_in_flight: u32,
    /// Of one book: its payers' calls and deposits in a second, in the long run; 0 for as many as there are.
    pub book_requests_per_second: u32,
    /// Deposits and refunds, which wait for the chain, at once; more are refused with 429 while calls go on.
    pub deposits_in_flight: u32,
    /// Decisions that may wait for the writer; more are refused with 429.
    pub queue: u32,
    /// How long a client may take to send the head of a request, or leave its connection idle before the next, in seconds.
    /// Longer than clients keep idle connections, so that they close first.
    pub head_seconds: u32,
    /// How long a client may take to send the body of a request, in seconds; then it is refused with 408.
    pub body_seconds: u32,
    /// How long a request may take from then on, in seconds.
    pub request_seconds: u32,
    /// The longest reservation, in seconds.
    pub reservation_seconds: u32,
    /// Channels; beyond them no deposit is sponsored.
    pub channels: u32,
    /// Pages of one book; beyond them none is added at the sponsor's expense.
    pub pages_per_book: u32,
    /// Deposits, openings and top-ups, that are sponsored for one payer within an hour.
    pub deposits_per_payer_per_hour: u32,
    /// What others may make the sponsor pay within a day, in lamports: fees of deposits and refunds, fees and rent of
    /// pages. Claims are never held back by it.
    pub sponsored_lamports_per_day: u64,
    /// Up to how much of a deposit may be spent before it is final, in base units.
    pub unfinalized_credit: u64,
    /// How long a shutdown waits for calls and batches under way, in seconds.
    pub drain_seconds: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 10_000,
            requests_in_flight: 1_024,
            payer_requests_in_flight: 64,
            payer_requests_per_second: 0,
            book_requests_in_flight: 512,
            book_requests_per_second: 0,
            deposits_in_flight: 256,
            queue: 4_096,
            head_seconds: 100,
            body_seconds: 10,
            request_seconds: 45,
            reservation_seconds: 300,
            channels: 100_000,
            pages_per_book: 8,
            deposits_per_payer_per_hour: 20,
            sponsored_lamports_per_day: 1_000_000_000,
            unfinalized_credit: 10_000_000,
            drain_seconds: 10,
        }
    }
}

impl Limits {
    /// Each key with its value, and the smallest and largest that makes sense.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 19] {
        [
            ("limits.connections", u64::from(self.connections), 1, 1_000_000),
            ("limits.connections_per_address", u64::from(self.connections_per_address), 1, 1_000_000),
            ("limits.payer_requests_in_flight", u64::from(self.payer_requests_in_flight), 1, 100_000),
            ("limits.payer_requests_per_second", u64::from(self.payer_requests_per_second), 0, 1_000_000),
            ("limits.book_requests_in_flight", u64::from(self.book_requests_in_flight), 1, 100_000),
            ("limits.book_requests_per_second", u64::from(self.book_requests_per_second), 0, 1_000_000),
            ("limits.deposits_in_flight", u64::from(self.deposits_in_flight), 1, 100_000),
            ("limits.body_seconds", u64::from(self.body_seconds), 1, 600),
            ("limits.requests_in_flight", u64::from(self.requests_in_flight), 1, 100_000),
            ("limits.queue", u64::from(self.queue), 1, 1_000_000),
            ("limits.head_seconds", u64::from(self.head_seconds), 1, 600),
            ("limits.request_seconds", u64::from(self.request_seconds), 1, 600),
            ("limits.reservation_seconds", u64::from(self.reservation_seconds), 1, 86_400),
            ("limits.channels", u64::from(self.channels), 1, 10_000_000),
            ("limits.pages_per_book", u64::from(self.pages_per_book), 0, 1_000),
            ("limits.deposits_per_payer_per_hour", u64::from(self.deposits_per_payer_per_hour), 0, 1_000_000),
            ("limits.sponsored_lamports_per_day", self.sponsored_lamports_per_day, 0, 1_000_000_000_000),
            ("limits.unfinalized_credit", self.unfinalized_credit, 0, Amount::MAX_DEPOSIT.get()),
            ("limits.drain_seconds", u64::from(self.drain_seconds), 0, 600),
        ]
    }
}
