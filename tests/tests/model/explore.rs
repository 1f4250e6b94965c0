//! Every state that can be reached, each once, the nearest first: so that a property that breaks is shown by a shortest way
//! to it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Something with states. What can happen in each, and what must hold, is its own.
pub(crate) trait Model {
    type State: Clone;
    type Action: Copy + Debug;

    /// All that tells a state from another one.
    fn fingerprint(&self, state: &Self::State) -> impl Hash;

    /// All that may be tried. What a rule refuses is tried too.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    /// Does it; `None` when it was refused or changed nothing. Asserts what must hold of this step.
    fn next(&self, state: &Self::State, action: Self::Action) -> Option<Self::State>;

    /// Asserts what must hold in a state, and of its future.
    fn check(&self, state: &Self::State);
}

/// How much was seen.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    /// Steps to the state that is farthest away.
    pub(crate) depth: usize,
    /// How often each kind of action has changed something.
    pub(crate) taken: BTreeMap<String, usize>,
}

/// How a state was reached first: from which one, by what.
type Ways<A> = Vec<Option<(usize, A)>>;

/// Visits every state that can be reached from `start`. A property that breaks panics, after the way to it was printed.
pub(crate) fn explore<M: Model>(model: &M, start: M::State) -> Explored {
    let mut seen = HashSet::from([digest(&model.fingerprint(&start))]);
    let mut ways: Ways<M::Action> = vec![None];
    let mut waiting = VecDeque::from([(0usize, 0usize, start)]);
    let mut explored = Explored { states: 0, transitions: 0, depth: 0, taken: BTreeMap::new() };
    while let Some((at, depth, state)) = waiting.pop_front() {
        explored.states += 1;
        explored.depth = depth;
        told(&ways, at, None, || model.check(&state));
        for action in model.actions(&state) {
            let Some(next) = told(&ways, at, Some(action), || model.next(&state, action)) else { continue };
            explored.transitions += 1;
            let kind = format!("{action:?}");
            let kind = kind.split(['(', ' ']).next().unwrap_or_default().to_owned();
            *explored.taken.entry(kind).or_default() += 1;
            if seen.insert(digest(&model.fingerprint(&next))) {
                waiting.push_back((ways.len(), depth + 1, next));
                ways.push(Some((at, action)));
            }
        }
    }
    explored
}

/// Runs what may find a fault; then says how it came to it.
fn told<A: Copy + Debug, T>(ways: &Ways<A>, at: usize, last: Option<A>, run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|fault| {
        let mut trail: Vec<A> = last.into_iter().collect();
        let mut at = at;
        while let Some((from, action)) = ways[at] {
            trail.push(action);
            at = from;
        }
        trail.reverse();
        println!("a property does not hold after {trail:#?}");
        resume_unwind(fault)
    })
}

/// 128 bits of a fingerprint: that two states share them by chance is not to be expected within any run.
fn digest(fingerprint: &impl Hash) -> (u64, u64) {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        fingerprint.hash(&mut hasher);
        hasher.finish()
    };
    (half(1), half(2))
}
