//! An agent: it opens channels, pays calls, tops up, leaves; and now and then it cheats, or leaves at the worst moment.
//!
//! It knows what its client library would know: its own signatures, what it was answered, and the chain.

use crate::chain::{SimChain, unix_seconds};
use crate::endpoint::Endpoint;
use crate::ground::{TALLYBOOK, TOKENS, wallet};
use crate::line::NoAnswer;
use crate::shop::{Call, Served, Shop, name};
use crate::trace::Trace;
use crate::truth::Truth;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;
use tallybook_chain::instruction::{Addition, NewChannel};
use tallybook_chain::transaction::{compute_unit_limit, to_bytes};
use tallybook_chain::{Address, PageView, deposit};
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_rules::{Amount, Rejection, Slot, Status};
use tallybook_settler::Chain;
use tallybook_wire::{Channel, ChannelPayload, Deposit, Key, Offer, SettleResponse, TransactionBytes, VerifyResponse};

/// What everybody is to do.
#[derive(Clone, Default)]
pub(crate) struct Times {
    phase: Arc<AtomicU8>,
    /// How many agents there are.
    pub(crate) agents: Arc<AtomicUsize>,
    /// Agents that have nothing under way.
    pub(crate) idle: Arc<AtomicUsize>,
    /// Agents whose channels are all over.
    pub(crate) gone: Arc<AtomicUsize>,
}

/// A time in the life of a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Calls, and trouble.
    Busy,
    /// Nobody begins anything.
    Calm,
    /// Everybody leaves.
    Leaving,
}

impl Times {
    pub(crate) fn set(&self, phase: Phase) {
        self.idle.store(0, Ordering::Relaxed);
        self.gone.store(0, Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        [Phase::Busy, Phase::Calm, Phase::Leaving][usize::from(self.phase.load(Ordering::Relaxed))]
    }
}

/// A channel of its own, as the agent sees it.
#[derive(Clone, Copy)]
struct Own {
    id: [u8; 32],
    channel: Channel,
    deposit: u64,
    charged: u64,
    /// It pays no more calls.
    over: bool,
    /// The last voucher that paid for a call, and its price.
    last: Option<(SignedVoucher, u64)>,
}

pub(crate) struct Agent {
    number: usize,
    wallet: Keypair,
    key: SigningKey,
    shop: Shop,
    endpoint: Endpoint,
    truth: Truth,
    trace: Trace,
    times: Times,
    random: StdRng,
    own: Option<Own>,
    offer: Option<Offer>,
}

impl Agent {
    pub(crate) fn new(number: usize, shop: Shop, endpoint: Endpoint, times: Times, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let key = SigningKey::from_bytes(&random.random());
        let (truth, trace) = (shop.truth.clone(), shop.trace.clone());
        Self {
            number,
            wallet: wallet(number),
            key,
            shop,
            endpoint,
            truth,
            trace,
            times,
            random,
            own: None,
            offer: None,
        }
    }

    pub(crate) async fn live(mut self) {
        loop {
            let phase = self.times.phase();
            match phase {
                Phase::Busy => {
                    self.pause(20, 1_000).await;
                    self.act().await;
                }
                Phase::Calm => {
                    self.times.idle.fetch_add(1, Ordering::Relaxed);
                    self.until_not(phase).await;
                }
                Phase::Leaving => {
                    self.leave_all().await;
                    self.times.gone.fetch_add(1, Ordering::Relaxed);
                    // An opening that it has given up may still land.
                    while self.times.phase() == phase {
                        self.pause(1_000, 2_000).await;
                        self.leave_all().await;
                    }
                }
            }
        }
    }

    async fn until_not(&self, phase: Phase) {
        while self.times.phase() == phase {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    async fn pause(&mut self, least: u64, most: u64) {
        let pause = self.random.random_range(least..most);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.trace.note(format_args!("agent {}: {what}", self.number));
    }

    async fn act(&mut self) {
        if self.offer.is_none() {
            self.offer = self.shop.offer().await.ok();
            return;
        }
        let Some(own) = self.own else { return self.open().await };
        if own.over {
            return self.move_on(&own).await;
        }
        match self.random.random_range(0..100) {
            0..70 => self.call(own).await,
            70..78 => self.pay_twice(own).await,
            78..82 => self.replay(own).await,
            82..85 => self.overdraw(own).await,
            85..93 => self.top_up(own).await,
            93..97 => self.ask_for_refund(own).await,
            _ => self.request_close(own.channel.slot, own.channel.generation).await,
        }
    }

    /// A channel that pays no more: closed by its payer, or gone.
    async fn move_on(&mut self, own: &Own) {
        match self.standing(own) {
            None => self.own = None,
            Some(slot) if slot.status() == Ok(Status::Open) => {
                self.request_close(own.channel.slot, own.channel.generation).await;
            }
            // It waits for its grace period, and a new one is opened meanwhile.
            Some(_) => self.own = None,
        }
    }

    // --- calls

    fn sign(&self, own: &Own, cumulative: u64) -> SignedVoucher {
        self.truth.of(&own.id, |known| known.signed = known.signed.max(cumulative));
        SignedVoucher::sign(&self.key, own.id, Amount::new(cumulative))
    }

    /// The next call, at a price that the deposit covers.
    fn next(&mut self, own: &Own) -> Option<Call> {
        let price = self.random.random_range(50..900);
        let cumulative = own.charged + price;
        if cumulative > own.deposit {
            return None;
        }
        let charge = if self.random.random_ratio(1, 3) { self.random.random_range(0..=price) } else { price };
        Some(Call { voucher: self.sign(own, cumulative), price, charge, is_quick: false })
    }

    async fn call(&mut self, own: Own) {
        match self.next(&own) {
            Some(call) => self.make(own, call).await,
            None => self.top_up(own).await,
        }
    }

    async fn make(&mut self, own: Own, call: Call) {
        let Some(offer) = self.offer.clone() else { return };
        let served = self.shop.serve(&offer, call).await;
        self.note(format_args!("{} {} -> {served:?}", name(&own.id), call.voucher.cumulative.get()));
        self.learn(&own, &served);
        if let Served::Answered(_) = served
            && let Some(own) = &mut self.own
        {
            own.last = Some((call.voucher, call.price));
        }
    }

    /// Takes an answer for what it says of the channel.
    fn learn(&mut self, own: &Own, served: &Served) {
        let Some(mine) = self.own.as_mut().filter(|mine| mine.id == own.id) else { return };
        match served {
            Served::Answered(charged) => mine.charged = correct(&self.truth, &own.id, *charged),
            Served::Refused(_, Some(state)) => {
                mine.charged = correct(&self.truth, &own.id, state.charged_cumulative_amount.get());
            }
            Served::Refused(Some(Rejection::ChannelClosing | Rejection::UnknownChannel), None) => mine.over = true,
            Served::Refused(..) | Served::Not | Served::Unknown => {}
        }
    }

    /// Two requests with one voucher, at the same time.
    async fn pay_twice(&mut self, own: Own) {
        let (Some(call), Some(offer)) = (self.next(&own), self.offer.clone()) else { return };
        let call = Call { charge: call.price, is_quick: true, ..call };
        let other = self.shop.clone();
        let (one, two) = tokio::join!(self.shop.serve(&offer, call), other.serve(&offer, call));
        self.note(format_args!("twice {} -> {one:?}, {two:?}", name(&own.id)));
        self.learn(&own, &two);
        self.learn(&own, &one);
    }

    /// A voucher that has paid already.
    async fn replay(&mut self, own: Own) {
        let Some((voucher, price)) = own.last else { return };
        self.make(own, Call { voucher, price, charge: price, is_quick: false }).await;
    }

    /// More than the deposit.
    async fn overdraw(&mut self, own: Own) {
        let price = own.deposit.saturating_sub(own.charged) + self.random.random_range(1..500);
        let voucher = self.sign(&own, own.charged + price);
        self.make(own, Call { voucher, price, charge: price, is_quick: false }).await;
    }

    // --- money in

    async fn open(&mut self) {
        let Some(offer) = self.shop.offer().await.ok() else { return };
        self.offer = Some(offer.clone());
        let page = self.page();
        let (slot, generation) = (offer.extra.slot, offer.extra.generation);
        let free = page.slot(slot).is_ok_and(|at| at.status() == Ok(Status::Free) && at.generation + 1 == generation);
        let amount = self.random.random_range(1_000..12_000u64);
        if !free || self.tokens() < amount {
            return;
        }
        let payer = self.wallet.pubkey();
        let new = NewChannel {
            payer,
            source: self.shop.ground.book.token_account(&payer),
            operator: None,
            page: page.address,
            slot,
            generation,
            signer: self.key.verifying_key().to_bytes(),
            deposit: amount,
        };
        let Ok(id) = deposit::expected_channel_id(&page, &new) else { return };
        let channel = Channel {
            payer: Key(payer.to_bytes()),
            signer: Key(new.signer),
            book: Key(self.shop.ground.book.address.to_bytes()),
            page: Key(page.address.to_bytes()),
            slot,
            generation,
        };
        self.truth.meet(id, self.number);
        let own = Own { id, channel, deposit: amount, charged: 0, over: false, last: None };
        let (blockhash, last_valid) = self.blockhash();
        self.note(format_args!("opens {} in {slot} with {amount}", name(&id)));
        if self.random.random_ratio(1, 6) {
            self.send_own(&[TALLYBOOK.open(&self.shop.ground.book, &new)], blockhash).await;
        } else {
            let sponsor = Address::from(offer.extra.fee_payer.0);
            let message = deposit::message(&self.shop.ground.book, &new, &id, &sponsor, blockhash);
            let price = self.random.random_range(50..900);
            let voucher = self.sign(&own, price);
            self.deposit(&offer, &own, message, amount, Call { voucher, price, charge: price, is_quick: false }).await;
        }
        if self.landed(last_valid, |page| page.channel_id(slot) == Some(id)).await {
            self.truth.count(|counts| counts.openings += 1);
            self.own = Some(own);
        }
    }

    /// Hands a deposit to the facilitator, again and again, until it says what became of it.
    async fn deposit(&mut self, offer: &Offer, own: &Own, message: VersionedMessage, amount: u64, call: Call) {
        let is_opening = self.standing(own).is_none();
        let signature = self.wallet.sign_message(&message.serialize());
        let transaction = VersionedTransaction { signatures: vec![Signature::default(), signature], message };
        let bytes = to_bytes(&transaction).expect("a small transaction");
        let payload = ChannelPayload::Deposit {
            channel: own.channel,
            voucher: call.voucher.into(),
            deposit: Deposit {
                amount: Amount::new(amount),
                transaction: TransactionBytes::new(bytes).expect("a small transaction"),
            },
        };
        let request = self.shop.request(offer, payload, call.price, call.price);
        for _ in 0..self.random.random_range(1..12) {
            let answer: Result<SettleResponse, NoAnswer> = self.shop.line.post("/settle", &request).await;
            match answer {
                Ok(SettleResponse::Settled { .. }) => return self.note(format_args!("{} deposited", name(&own.id))),
                Ok(SettleResponse::Failed { reason, .. }) => {
                    self.note(format_args!("deposit to {}: {reason:?}", name(&own.id)));
                    match reason.rejection() {
                        Some(Rejection::SettlementPending) => {}
                        Some(Rejection::DepositExpired) if is_opening => {
                            return self.truth.of(&own.id, |known| known.said_expired = true);
                        }
                        _ => return,
                    }
                }
                Err(error) => self.note(format_args!("deposit to {}: {error:?}", name(&own.id))),
            }
            self.pause(200, 3_000).await;
        }
    }

    async fn top_up(&mut self, own: Own) {
        let (Some(offer), Some(slot)) = (self.offer.clone(), self.standing(&own)) else { return };
        let (amount, price) = (self.random.random_range(500..5_000u64), self.random.random_range(50..900u64));
        if self.tokens() < amount || own.charged + price > slot.deposit.get() + amount {
            return;
        }
        let funder = self.wallet.pubkey();
        let addition = Addition {
            funder,
            source: self.shop.ground.book.token_account(&funder),
            page: self.page().address,
            slot: own.channel.slot,
            generation: own.channel.generation,
            amount,
        };
        let (blockhash, last_valid) = self.blockhash();
        let before = slot.deposit.get();
        let call = Call { voucher: self.sign(&own, own.charged + price), price, charge: price, is_quick: false };
        self.note(format_args!("tops {} up by {amount}", name(&own.id)));
        if self.random.random_ratio(1, 6) {
            self.send_own(&[TALLYBOOK.top_up(&self.shop.ground.book, &addition)], blockhash).await;
        } else {
            let sponsor = Address::from(offer.extra.fee_payer.0);
            let message = deposit::top_up_message(&self.shop.ground.book, &addition, &own.id, &sponsor, blockhash);
            self.deposit(&offer, &own, message, amount, call).await;
        }
        let more = |page: &PageView| {
            let at = page.slot(own.channel.slot).copied().unwrap_or_default();
            page.channel_id(own.channel.slot) == Some(own.id) && at.deposit.get() >= before + amount
        };
        if self.landed(last_valid, more).await {
            self.truth.count(|counts| counts.top_ups += 1);
        }
        let now = self.standing(&own).map(|slot| slot.deposit.get());
        if let (Some(mine), Some(deposit)) = (&mut self.own, now) {
            mine.deposit = deposit;
        }
        if own.charged + price <= now.unwrap_or_default() {
            self.make(own, call).await;
        }
    }

    // --- the way out

    async fn ask_for_refund(&mut self, own: Own) {
        let Some(offer) = self.offer.clone() else { return };
        self.note(format_args!("wants a refund of {}", name(&own.id)));
        for _ in 0..5 {
            let charged = self.own.filter(|mine| mine.id == own.id).map_or(own.charged, |mine| mine.charged);
            let voucher = self.sign(&own, charged).into();
            let ask = self.shop.request(&offer, ChannelPayload::Refund { voucher, transaction: None }, 1, 1);
            let prepared = match self.shop.line.post("/verify", &ask).await {
                Ok(VerifyResponse::Valid { extra, .. }) => extra.transaction,
                Ok(VerifyResponse::Invalid { reason, extra, .. }) => {
                    self.note(format_args!("refund of {}: {reason:?}", name(&own.id)));
                    let (reason, state) = (reason.rejection(), extra.channel_state);
                    if reason == Some(Rejection::UnknownChannel) {
                        break;
                    }
                    self.learn(&own, &Served::Refused(reason, state));
                    None
                }
                Err(_) => None,
            };
            // From the first asking on it may take no more calls.
            if let Some(mine) = self.own.as_mut().filter(|mine| mine.id == own.id) {
                mine.over = true;
            }
            if let Some(unsigned) = prepared {
                let transaction = Some(self.shop.sign(&unsigned));
                let hand_in = self.shop.request(&offer, ChannelPayload::Refund { voucher, transaction }, 1, 1);
                let answer: Result<SettleResponse, NoAnswer> = self.shop.line.post("/settle", &hand_in).await;
                if let Ok(SettleResponse::Settled { .. }) = answer {
                    self.truth.count(|counts| counts.refunds += 1);
                    self.note(format_args!("{} is refunded", name(&own.id)));
                    return;
                }
            }
            self.pause(300, 4_000).await;
        }
    }

    async fn request_close(&mut self, slot: u8, generation: u32) {
        let book = self.shop.ground.book.address;
        let close = TALLYBOOK.request_close(&book, &self.page().address, &self.wallet.pubkey(), slot, generation);
        self.note(format_args!("requests a close of slot {slot}"));
        self.until_done(close, |at| at.status() != Ok(Status::Open) || at.generation != generation, slot).await;
        if let Some(own) = self.own.as_mut().filter(|own| own.channel.slot == slot && self.random.random_ratio(1, 2)) {
            own.over = true;
        }
    }

    /// Sends an instruction until the slot shows that it is done, or for long enough.
    async fn until_done(&mut self, instruction: Instruction, done: impl Fn(&Slot) -> bool, slot: u8) {
        for _ in 0..8 {
            let (blockhash, _) = self.blockhash();
            self.send_own(std::slice::from_ref(&instruction), blockhash).await;
            for _ in 0..3 {
                self.pause(600, 1_200).await;
                if self.page().slot(slot).is_ok_and(&done) {
                    return;
                }
            }
        }
    }

    /// Leaves every channel that it has on chain, whatever it thinks of it.
    async fn leave_all(&mut self) {
        if let Some(own) = self.own.filter(|own| !own.over && self.standing(own).is_some())
            && self.random.random_ratio(1, 2)
        {
            self.ask_for_refund(own).await;
        }
        self.own = None;
        loop {
            let page = self.page();
            let payer = self.wallet.pubkey().to_bytes();
            let mine = (0u8..).zip(&page.slots).filter(|(_, at)| at.status() != Ok(Status::Free) && at.payer == payer);
            // Every grace period is begun before one is waited for.
            let Some((slot, at)) = mine.min_by_key(|(_, at)| at.closing_at) else { return };
            if at.status() == Ok(Status::Open) {
                self.request_close(slot, at.generation).await;
            } else if at.closing_at <= unix_seconds(SimChain::confirmed_slot()) {
                let row = [(slot, self.wallet.pubkey())];
                let withdraw = TALLYBOOK.withdraw(&self.shop.ground.book, &page.address, &row);
                self.note(format_args!("withdraws slot {slot}"));
                self.until_done(withdraw, |at| at.status() == Ok(Status::Free), slot).await;
                self.truth.count(|counts| counts.withdrawals += 1);
            } else {
                self.pause(5_000, 9_000).await;
            }
        }
    }

    // --- the chain, over a line of its own that is good

    fn page(&self) -> PageView {
        let account = self.endpoint.chain(|chain| {
            chain.catch_up();
            chain.account(&chain.page, SimChain::confirmed_slot())
        });
        PageView::parse(self.shop.ground.page, &account.expect("the page").data).expect("a page")
    }

    /// The slot of a channel; none when the chain does not show it.
    fn standing(&self, own: &Own) -> Option<Slot> {
        let page = self.page();
        let stands = page.channel_id(own.channel.slot) == Some(own.id);
        stands.then(|| *page.slot(own.channel.slot).expect("a slot of the page"))
    }

    fn tokens(&self) -> u64 {
        let account = self.shop.ground.book.token_account(&self.wallet.pubkey());
        self.endpoint.chain(|chain| chain.tokens(&account)).min(TOKENS)
    }

    fn blockhash(&self) -> (Hash, u64) {
        self.endpoint.chain(|chain| chain.blockhash(SimChain::confirmed_slot()))
    }

    /// Waits until the page shows something, or the transaction can land no more.
    async fn landed(&mut self, last_valid: u64, shows: impl Fn(&PageView) -> bool) -> bool {
        loop {
            let final_height = SimChain::height_of(SimChain::finalized_slot());
            if shows(&self.page()) {
                return true;
            }
            if final_height > last_valid {
                return false;
            }
            self.pause(500, 1_500).await;
        }
    }

    /// Sends a transaction that the agent's own wallet pays for; some of them arrive.
    async fn send_own(&mut self, instructions: &[Instruction], blockhash: Hash) {
        let payer = self.wallet.pubkey();
        let instructions = [&[compute_unit_limit(200_000)], instructions].concat();
        let message = Message::new_with_blockhash(&instructions, Some(&payer), &blockhash);
        let transaction = VersionedTransaction::try_new(VersionedMessage::Legacy(message), &[&self.wallet]);
        let transaction = transaction.expect("its own key signs");
        drop(self.endpoint.send(&transaction).await);
    }
}

/// What an answer says is charged: possible, and from now on nothing else is.
fn correct(truth: &Truth, id: &[u8; 32], charged: u64) -> u64 {
    let possible = truth.known(id).map_or(0..=u64::MAX, |known| known.low..=known.high);
    if possible.contains(&charged) {
        truth.of(id, |known| (known.low, known.high) = (charged, charged));
    } else {
        truth.breach(format!("{}: an answer says that {charged} is charged; possible is {possible:?}", name(id)));
    }
    charged
}
