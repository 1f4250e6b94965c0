//! The line between the settler and the chain: nodes that are behind one another, answers that get lost, refusals,
//! transactions that never arrive, arrive late, or arrive twice.

use crate::chain::{FINALITY_SLOTS, SimChain};
use crate::ground::GENESIS;
use crate::virtual_time::now;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use solana_address::Address;
use solana_signature::Signature;
use solana_transaction::TransactionError;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tallybook_settler::{
    Account, Blockhash, Chain, ChainError, Commitment, Failure, Height, Landing, Simulation, Snapshot, Spent, Statuses,
};

/// How often each fault comes, in thousandths of questions. Drawn anew for each world, so that each has a character.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Weather {
    /// The node refuses (429, 5xx) or is not reached.
    pub(crate) refused: u32,
    /// The answer gets lost; what was asked for is done.
    pub(crate) lost: u32,
    /// The node is behind, by up to so many slots.
    pub(crate) behind: u32,
    pub(crate) slots_behind: u64,
    /// The node does not know the newest blockhash.
    pub(crate) unknown_blockhash: u32,
    /// A transaction never arrives.
    pub(crate) dropped: u32,
    /// A transaction arrives much later.
    pub(crate) late: u32,
    /// A transaction arrives twice.
    pub(crate) twice: u32,
    /// The answer takes seconds.
    pub(crate) slow: u32,
}

impl Weather {
    pub(crate) fn of(random: &mut StdRng) -> Self {
        let mut often = || [0, 0, 10, 40, 120][random.random_range(0..5)];
        Self {
            refused: often(),
            lost: often(),
            behind: often(),
            unknown_blockhash: often(),
            twice: often(),
            slow: often(),
            // Some leaders swallow nearly everything.
            dropped: [0, 0, 40, 120, 700][random.random_range(0..5)],
            late: [0, 0, 40, 120, 900][random.random_range(0..5)],
            slots_behind: 20,
        }
    }
}

/// The way to the chain, of everybody who has a clone.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<Mutex<State>>);

struct State {
    chain: SimChain,
    weather: Weather,
    random: StdRng,
}

/// One question: what goes wrong with it.
struct Question {
    /// By how many slots the node that is asked is behind.
    behind: u64,
    pause: u64,
    refused: bool,
    lost: bool,
}

impl Endpoint {
    pub(crate) fn new(chain: SimChain, weather: Weather, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State { chain, weather, random: StdRng::seed_from_u64(seed) })))
    }

    /// The chain itself, without a line in between.
    pub(crate) fn chain<T>(&self, look: impl FnOnce(&mut SimChain) -> T) -> T {
        look(&mut self.lock().chain)
    }

    pub(crate) fn weather(&self) -> Weather {
        self.lock().weather
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Takes back blocks.
    pub(crate) fn roll_back(&self, slots: u64) -> bool {
        let mut state = self.lock();
        let State { chain, random, .. } = &mut *state;
        chain.roll_back(slots, random)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics with the chain")
    }

    async fn ask<T>(&self, answer: impl FnOnce(&mut State, u64) -> T) -> Result<T, ChainError> {
        let question = self.lock().question();
        tokio::time::sleep(Duration::from_millis(question.pause)).await;
        if question.refused {
            return Err(ChainError("429 too many requests".to_owned()));
        }
        let answer = {
            let mut state = self.lock();
            state.chain.catch_up();
            // Time has passed on the way.
            answer(&mut state, SimChain::tip() - question.behind)
        };
        if question.lost {
            tokio::time::sleep(Duration::from_millis(question.pause)).await;
            return Err(ChainError("connection reset".to_owned()));
        }
        Ok(answer)
    }
}

impl State {
    fn chance(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random.random_ratio(thousandths.min(1_000), 1_000)
    }

    fn question(&mut self) -> Question {
        let weather = self.weather;
        let behind = self.chance(weather.behind);
        let slow = self.chance(weather.slow);
        Question {
            behind: if behind { self.random.random_range(1..=weather.slots_behind.max(1)) } else { 0 },
            pause: if slow { self.random.random_range(500..5_000) } else { self.random.random_range(5..80) },
            refused: self.chance(weather.refused),
            lost: self.chance(weather.lost),
        }
    }
}

/// The slot of a bank at a node whose newest block is at `tip`.
const fn bank(tip: u64, commitment: Commitment) -> u64 {
    match commitment {
        Commitment::Processed => tip,
        Commitment::Confirmed => tip - 1,
        Commitment::Finalized => tip - FINALITY_SLOTS,
    }
}

fn commitment_of(slot: u64) -> Commitment {
    if slot <= SimChain::finalized_slot() {
        Commitment::Finalized
    } else if slot <= SimChain::confirmed_slot() {
        Commitment::Confirmed
    } else {
        Commitment::Processed
    }
}

impl Chain for Endpoint {
    async fn accounts(&self, addresses: &[Address], commitment: Commitment) -> Result<Snapshot, ChainError> {
        self.ask(|state, tip| {
            let slot = bank(tip, commitment);
            let account = |address: &Address| state.chain.account(address, slot);
            let accounts = addresses.iter().map(|address| {
                account(address).map(|account| Account {
                    lamports: account.lamports,
                    owner: account.owner,
                    data: account.data,
                })
            });
            Snapshot { slot, accounts: accounts.collect() }
        })
        .await
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        self.ask(|state, tip| {
            let slot = bank(tip, Commitment::Confirmed);
            let (hash, last_valid_height) = state.chain.blockhash(slot);
            Blockhash { hash, last_valid_height }
        })
        .await
    }

    async fn height(&self) -> Result<Height, ChainError> {
        self.ask(|_, tip| {
            let slot = bank(tip, Commitment::Finalized);
            Height { slot, block: SimChain::height_of(slot) }
        })
        .await
    }

    async fn simulate(&self, transaction: &VersionedTransaction) -> Result<Simulation, ChainError> {
        self.ask(|state, _| {
            let weather = state.weather;
            let recent = state.chain.is_recent(transaction.message.recent_blockhash(), SimChain::tip());
            if !recent || state.chance(weather.unknown_blockhash) {
                let failure = Some(Failure(TransactionError::BlockhashNotFound));
                return Simulation { failure, compute_units: 0 };
            }
            let (failure, compute_units) = state.chain.simulate(transaction);
            if let Some(failure) = &failure {
                state.chain.trace.note(format_args!("node: a simulation fails: {failure:?}"));
            }
            Simulation { failure: failure.map(Failure), compute_units }
        })
        .await
    }

    async fn send(&self, transaction: &VersionedTransaction) -> Result<(), ChainError> {
        self.ask(|state, _| {
            let weather = state.weather;
            let at = now()
                + if state.chance(weather.late) {
                    state.random.random_range(2_000..75_000)
                } else {
                    state.random.random_range(300..1_600)
                };
            if state.chance(weather.dropped) {
                return;
            }
            state.chain.take(transaction.clone(), at);
            if state.chance(weather.twice) {
                let again = at + state.random.random_range(0..10_000);
                state.chain.take(transaction.clone(), again);
            }
        })
        .await
    }

    async fn statuses(&self, signatures: &[Signature], history: bool) -> Result<Statuses, ChainError> {
        self.ask(|state, tip| {
            let oldest = if history { 0 } else { tip.saturating_sub(150) };
            let landing = |signature: &Signature| {
                let status = state.chain.status(signature, tip).filter(|status| status.slot >= oldest)?;
                Some(Landing {
                    slot: status.slot,
                    commitment: commitment_of(status.slot),
                    failure: status.failure.map(Failure),
                })
            };
            Statuses { slot: tip, landings: signatures.iter().map(landing).collect() }
        })
        .await
    }

    async fn spent(&self, signature: &Signature) -> Result<Option<Spent>, ChainError> {
        self.ask(|state, tip| {
            let slot = bank(tip, Commitment::Confirmed);
            let status = state.chain.status(signature, slot);
            status.map(|status| Spent { lamports: status.lamports, compute_units: status.compute_units })
        })
        .await
    }

    async fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        self.ask(|_, _| GENESIS).await
    }
}
