//! What can happen to a question on its way to a node and back, and plans of it.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::time::Duration;

/// One thing that goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The node never hears of it, and the connection ends.
    LostRequest,
    /// The node does it, and the connection ends before the answer.
    LostAnswer,
    /// It arrives late.
    Delayed(Duration),
    /// The node hears of it twice.
    Duplicated,
    /// It arrives after the next one.
    Reordered,
    /// 429, come back in a second.
    TooMany,
    /// 5xx, from something in between.
    Broken,
    /// Half of the answer.
    Truncated,
    /// A page for people.
    Garbage,
    /// A good answer, with 48 MB more.
    Oversized,
    /// An answer that never ends.
    Endless,
    /// The answer to somebody else's question.
    WrongId,
    /// An answer without a result.
    Empty,
    /// What was answered some time ago, at its slot of then, as by a node that is behind.
    Stale,
    /// Nothing that was asked about has landed, says the node.
    SaysNotFound,
    /// All that was asked about has landed, says the node.
    SaysLanded,
    /// The node takes a transaction, shows it as confirmed for some questions, and then never heard of it.
    ConfirmedThenGone,
    /// The node takes a transaction and drops it.
    Dropped,
    /// The node does not take the blockhash.
    BlockhashExpired,
}

impl Fault {
    /// Those of the line: they can happen to any question.
    pub(crate) const OF_THE_LINE: [Self; 13] = [
        Self::LostRequest,
        Self::LostAnswer,
        Self::Delayed(Duration::from_millis(400)),
        Self::Duplicated,
        Self::Reordered,
        Self::TooMany,
        Self::Broken,
        Self::Truncated,
        Self::Garbage,
        Self::Oversized,
        Self::Endless,
        Self::WrongId,
        Self::Empty,
    ];

    /// Those of a node that does not answer a question of this kind as it should.
    pub(crate) const fn of_node(method: &str) -> &'static [Self] {
        match method.as_bytes() {
            b"getSignatureStatuses" => &[Self::SaysNotFound, Self::SaysLanded, Self::Stale],
            b"sendTransaction" => &[Self::ConfirmedThenGone, Self::Dropped, Self::BlockhashExpired],
            b"simulateTransaction" => &[Self::BlockhashExpired],
            b"getMultipleAccounts" | b"getLatestBlockhash" | b"getEpochInfo" | b"getTransaction" => &[Self::Stale],
            _ => &[],
        }
    }
}

/// Says what happens to the next question of a method.
pub(crate) type Plan = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

/// The first questions of each method suffer these, one after another, and the rest nothing.
pub(crate) fn each_in_turn(faults: Vec<Fault>) -> Plan {
    let mut asked: HashMap<String, usize> = HashMap::new();
    Box::new(move |method| {
        let at = asked.entry(method.to_owned()).or_default();
        *at += 1;
        faults.get(*at - 1).copied()
    })
}

/// The first `times` questions of one method suffer this.
pub(crate) fn on(method: &'static str, fault: Fault, mut times: u32) -> Plan {
    Box::new(move |asked| {
        let hit = asked == method && times > 0;
        times -= u32::from(hit);
        hit.then_some(fault)
    })
}

/// Every so many questions in a thousand suffer something, by a seed.
pub(crate) fn seeded(seed: u64, in_a_thousand: u32) -> Plan {
    let mut random = StdRng::seed_from_u64(seed);
    Box::new(move |method| {
        if random.random_range(0..1_000) >= in_a_thousand {
            return None;
        }
        let of_node = Fault::of_node(method);
        if !of_node.is_empty() && random.random_bool(0.5) {
            return Some(of_node[random.random_range(0..of_node.len())]);
        }
        Some(Fault::OF_THE_LINE[random.random_range(0..Fault::OF_THE_LINE.len())])
    })
}
