//! What must hold in every world, whatever happens.
//!
//! After each step, on chain: no token is made or lost; the page's own invariants; the vault covers what is owed; what was
//! paid out is what the recipients have; what is settled never falls (but when the chain itself takes blocks back), and is
//! never more than what calls may have cost.
//! In the ledger: `settled ≤ charged ≤ signed`; charged at least what was answered for, and at most that with the calls
//! whose outcome nobody saw.
//! In the end: everything that was charged is settled and paid out, everybody has the rest back, and nothing is under way.

use crate::endpoint::Endpoint;
use crate::ground::{AGENTS, Ground, TOKENS, wallet};
use crate::shop::name;
use crate::truth::Truth;
use crate::virtual_time::Process;
use axum::Router;
use axum::body::Body;
use http::Request;
use serde::de::DeserializeOwned;
use solana_signer::Signer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tallybook_chain::{Address, PageView};
use tallybook_facilitator::Config;
use tallybook_rules::{Amount, Page, Status};
use tallybook_store::VoucherStore;
use tallybook_wire::{BatchList, BatchStatus, ChannelStatus, ChannelView, Key, MAX_BODY_BYTES};
use tower::ServiceExt;

pub(crate) struct Laws {
    ground: &'static Ground,
    truth: Truth,
    credit: u64,
    /// The largest amount that was seen settled, by channel.
    settled: BTreeMap<[u8; 32], u64>,
    /// The chain has taken blocks back.
    forked: bool,
    /// What the chain had done when it was looked at last.
    seen: u64,
}

impl Laws {
    pub(crate) fn new(ground: &'static Ground, truth: Truth, config: &Config) -> Self {
        let credit = config.limits.unfinalized_credit;
        Self { ground, truth, credit, settled: BTreeMap::new(), forked: false, seen: 0 }
    }

    /// The chain has taken blocks back: what stands there now is what counts.
    pub(crate) fn forked(&mut self, endpoint: &Endpoint) {
        self.forked = true;
        self.settled.clear();
        let page = endpoint.chain(|chain| chain.page_view());
        self.note_settled(&page);
    }

    fn note_settled(&mut self, page: &PageView) {
        for (at, slot) in (0u8..).zip(&page.slots) {
            if let Some(id) = page.channel_id(at) {
                self.settled.insert(id, slot.settled.get());
            }
        }
    }

    /// The ledger is looked at anew for every channel.
    pub(crate) fn look_at_all(&self) {
        self.truth.lock().channels.values_mut().for_each(|known| known.touched = true);
    }

    pub(crate) fn check_chain(&mut self, endpoint: &Endpoint) -> Result<(), String> {
        let counter = endpoint.chain(|chain| chain.changes);
        if counter == self.seen {
            return Ok(());
        }
        self.seen = counter;
        let (mut page, all) = endpoint.chain(|chain| (chain.page_view(), chain.all_tokens()));
        let minted = TOKENS * AGENTS as u64;
        if all != minted {
            return Err(format!("{all} tokens are there, and {minted} were made"));
        }
        let vault = endpoint.chain(|chain| chain.tokens(&self.ground.book.vault(&self.ground.page)));
        let whole = Page { header: &mut page.header, slots: &mut page.slots };
        let sound = whole.check().and_then(|()| whole.header.check_vault(Amount::new(vault)));
        sound.map_err(|broken| format!("the page: {broken:?}"))?;
        for (leg, paid) in self.ground.book.state.legs().iter().zip(&page.header.paid) {
            let held = endpoint.chain(|chain| chain.tokens(&Address::from(leg.account)));
            if held != paid.get() {
                return Err(format!("a recipient has {held}, and {paid} was paid out to it"));
            }
        }
        for (at, slot) in (0u8..).zip(&page.slots) {
            let Some(id) = page.channel_id(at) else { continue };
            let (settled, deposit) = (slot.settled.get(), slot.deposit.get());
            let before = self.settled.get(&id).copied().unwrap_or_default();
            if settled < before || settled > deposit {
                return Err(format!("{}: settled {settled} after {before}, deposit {deposit}", name(&id)));
            }
            let Some(known) = self.truth.known(&id) else {
                return Err(format!("{} is a channel that nobody opened", name(&id)));
            };
            if settled > known.high {
                return Err(format!("{}: settled {settled}, and calls cost at most {}", name(&id), known.high));
            }
            if known.said_expired && !self.forked {
                return Err(format!("{} was opened by a deposit that was said to have expired", name(&id)));
            }
        }
        self.note_settled(&page);
        Ok(())
    }

    /// Looks at what the ledger says of the channels that were heard of since the last look.
    pub(crate) fn check_ledger(&self, endpoint: &Endpoint, router: &Router, process: &Process) -> Result<(), String> {
        let touched: Vec<[u8; 32]> = {
            let mut state = self.truth.lock();
            let touched = state.channels.iter_mut().filter(|(_, known)| known.touched);
            touched
                .map(|(id, known)| {
                    known.touched = false;
                    *id
                })
                .collect()
        };
        for id in touched {
            let Some(view) = get::<ChannelView>(router, process, &format!("/channels/{}", Key(id))) else { continue };
            let Some(known) = self.truth.known(&id) else { continue };
            let (settled, charged, signed) = (view.settled.get(), view.charged.get(), view.signed.get());
            if !(settled <= charged && charged <= signed && signed <= known.signed) {
                return Err(format!("{}: {view:?}, and {} was signed at most", name(&id), known.signed));
            }
            if charged < known.low || charged > known.high {
                let (low, high) = (known.low, known.high);
                return Err(format!("{}: {charged} is charged; calls were {low} to {high}", name(&id)));
            }
            // A node that is behind may show less for a while to a facilitator that has just begun.
            let page = endpoint.chain(|chain| chain.page_view());
            let in_slot = page.channel_id(view.channel.slot) == Some(id);
            let deposit = page.slots.get(usize::from(view.channel.slot)).filter(|_| in_slot).map(|slot| slot.deposit);
            let deposit = deposit.unwrap_or(view.deposit).max(view.deposit).get();
            if view.status == ChannelStatus::Open && signed > deposit && !self.forked {
                return Err(format!("{}: more was signed than deposited: {view:?}", name(&id)));
            }
        }
        Ok(())
    }

    /// Nobody has a channel.
    pub(crate) fn is_empty(&self, endpoint: &Endpoint) -> bool {
        endpoint.chain(|chain| chain.page_view()).slots.iter().all(|slot| slot.status() == Ok(Status::Free))
    }

    /// Whether everything that is charged is settled and paid out, and nothing is under way.
    pub(crate) fn is_settled(&self, endpoint: &Endpoint, router: &Router, process: &Process) -> Result<bool, String> {
        let page = endpoint.chain(|chain| chain.page_view());
        for (at, slot) in (0u8..).zip(&page.slots) {
            let Some(id) = page.channel_id(at) else { continue };
            let Some(view) = get::<ChannelView>(router, process, &format!("/channels/{}", Key(id))) else {
                return Ok(false);
            };
            // What a fork has taken of the deposit cannot be settled; it was given on credit.
            if slot.settled != view.charged.min(slot.deposit) {
                return Ok(false);
            }
            if slot.settled < view.charged && (!self.forked || view.charged.get() - slot.settled.get() > self.credit) {
                return Err(format!("{}: {view:?} can never be settled", name(&id)));
            }
        }
        let mut legs = self.ground.book.state.legs().iter().enumerate();
        let is_paid = legs.all(|(at, leg)| page.header.owed(at, leg).is_ok_and(Amount::is_zero));
        let batches = get::<BatchList>(router, process, "/batches");
        let under_way = |status: BatchStatus| matches!(status, BatchStatus::Planned | BatchStatus::Sent);
        let ended = batches.is_some_and(|list| !list.batches.iter().any(|batch| under_way(batch.status)));
        Ok(is_paid && ended)
    }

    /// What stands in the end, for people.
    pub(crate) fn state(&self, endpoint: &Endpoint) -> String {
        let page = endpoint.chain(|chain| chain.page_view());
        let channels = (0u8..).zip(&page.slots).filter_map(|(at, slot)| {
            let id = page.channel_id(at)?;
            let known = self.truth.known(&id).map(|known| (known.low, known.high));
            let (deposit, settled, closing_at) = (slot.deposit, slot.settled, slot.closing_at);
            Some(format!(
                "; {} in {at}: {deposit}, settled {settled}, closing {closing_at}, calls {known:?}",
                name(&id)
            ))
        });
        let header = &page.header;
        format!("claimed {}, paid {:?}{}", header.claimed_total, header.paid, channels.collect::<String>())
    }

    /// What must be true when everybody has left.
    pub(crate) fn check_end(&self, endpoint: &Endpoint, store: &mut dyn VoucherStore) -> Result<(), String> {
        let page = endpoint.chain(|chain| chain.page_view());
        let mut charged_of = [0u64; AGENTS];
        let channels = self.truth.lock().channels.clone();
        let mut over = BTreeSet::new();
        for (id, known) in &channels {
            let kept = store.channel(id).map_err(|failure| format!("the store: {failure}"))?;
            let charged = kept.map_or(0, |kept| kept.record.charged.get());
            if charged < known.low || charged > known.high {
                let (low, high) = (known.low, known.high);
                return Err(format!("{}: {charged} is stored; calls were {low} to {high}", name(id)));
            }
            charged_of[known.agent] += charged;
            if kept.is_none_or(|kept| kept.over) {
                over.insert(*id);
            }
        }
        let charged: u64 = charged_of.iter().sum();
        let claimed = page.header.claimed_total.get();
        // What a fork has taken away was given on credit: it may be missing, of each channel once.
        let bearable = if self.forked { self.credit.saturating_mul(channels.len() as u64) } else { 0 };
        if claimed > charged || charged - claimed > bearable {
            return Err(format!("{charged} is charged in all, {claimed} was claimed: {}", self.state(endpoint)));
        }
        for (agent, charged) in charged_of.into_iter().enumerate() {
            let account = self.ground.book.token_account(&wallet(agent).pubkey());
            let paid = TOKENS - endpoint.chain(|chain| chain.tokens(&account));
            if paid > charged || charged - paid > bearable {
                return Err(format!("agent {agent} has paid {paid}, and was charged {charged}"));
            }
        }
        let stored = store.load().map_err(|failure| format!("the store: {failure}"))?;
        if !stored.sending.is_empty() {
            return Err(format!("still under way: {:?}", stored.sending));
        }
        if over.len() != channels.len() && !self.forked {
            return Err("the store does not know that all channels are over".to_owned());
        }
        Ok(())
    }
}

/// Asks the facilitator, beside all others; none when it has nothing to say, or does not answer at once.
fn get<T: DeserializeOwned + Send + 'static>(router: &Router, process: &Process, path: &str) -> Option<T> {
    let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
    let (router, said) = (router.clone(), Arc::new(Mutex::new(None)));
    let tell = Arc::clone(&said);
    process.spawn(async move {
        let Ok(response) = router.oneshot(request).await;
        if response.status().is_success() {
            let body = axum::body::to_bytes(response.into_body(), MAX_BODY_BYTES).await.expect("a short body");
            *tell.lock().unwrap() = serde_json::from_slice(&body).ok();
        }
    });
    process.work();
    let mut said = said.lock().unwrap();
    said.take()
}
