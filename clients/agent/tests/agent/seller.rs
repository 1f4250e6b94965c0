//! A seller on a real socket: an honest paywall and facilitator in one, and the faults that a test tells it to have.

use crate::meter::{Meter, Plan};
use crate::world::{MINT, PAYEE, SPONSOR, Shared, signed};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tallybook_chain::instruction::{Addition, NewChannel};
use tallybook_chain::{deposit, transaction::from_bytes};
use tallybook_rules::signing::SignedVoucher;
use tallybook_rules::{Amount, Opening, Rejection};
use tallybook_wire::*;

/// What the seller does wrong with the next paid request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Charges, and closes the connection without an answer.
    Drop,
    /// Charges, and a proxy says 504.
    Gateway,
    /// Charges, says 504, and keeps no answer.
    GatewayAndForget,
    /// Says that the channel is busy.
    Busy,
    /// Says that the reservation has expired.
    Expired,
    /// Charges so much, says 504, and keeps no answer.
    CheapAndForgotten(u64),
    /// Says that the facilitator is down.
    Down,
    /// The handler says 404; nothing is charged.
    NotFound,
    /// The handler says 500; nothing is charged.
    Broken,
    /// Claims that so much was charged and signed, under a signature of its own making.
    Claim(u64),
    /// Claims that so much was charged, and shows the newest voucher that it has.
    ClaimUnderOldVoucher(u64),
    /// Refuses the payment for this reason.
    Refuse(Rejection),
    /// Somebody takes the offered slot first.
    Race,
    /// Serves without a receipt.
    NoReceipt,
    /// Charges less than the price.
    Discount(u64),
    /// Takes that long.
    Slow(Duration),
    /// Says that it refunded, and does not.
    PretendRefund,
    /// Opens or tops up the channel on chain, and closes the connection.
    DropAfterOpening,
}

#[derive(Clone, Copy)]
pub struct Entry {
    pub signer: [u8; 32],
    pub charged: Amount,
    /// The voucher with the largest cumulative, and the cumulative that paid for the last call.
    pub newest: Option<SignedVoucher>,
    pub last: Option<Amount>,
}

pub struct Books {
    pub price: u64,
    pub offer: Extra,
    pub faults: VecDeque<Fault>,
    pub channels: HashMap<Key, Entry>,
    answers: HashMap<(Signature, String), Amount>,
    /// Requests in all, and those that were served.
    pub requests: u32,
    pub served: u32,
    /// Calls that are being handled now, and the most at a time.
    pub at_once: (u32, u32),
    /// Calls wait for each other, if they are that many.
    pub rendezvous: Option<Arc<tokio::sync::Barrier>>,
    /// Additions to deposits that landed, and what is refused with them.
    pub top_ups: HashSet<TransactionBytes>,
    pub refuses_top_ups: Option<Rejection>,
    /// The stream under way, and how streams go.
    pub meter: Option<Meter>,
    pub plan: Plan,
    /// Every voucher that was ever seen.
    pub vouchers: Vec<Voucher>,
}

#[derive(Clone)]
pub struct Seller {
    pub world: Shared,
    pub url: String,
    books: Arc<Mutex<Books>>,
}

pub type Answer = (u16, Option<SettleResponse>, Option<PaymentRequired>);

impl Seller {
    pub async fn start(world: Shared) -> Self {
        let extra = {
            let world = world.lock();
            Extra {
                book: world.book_address().to_bytes().into(),
                book_id: 0,
                page: world.page_address().to_bytes().into(),
                slot: 2,
                generation: 1,
                fee_payer: Key(SPONSOR),
                withdraw_delay: world.book.grace_seconds,
                min_deposit: world.book.min_deposit,
                token_program: world.book.token_program.into(),
                decimals: 6,
                metered: false,
                recent_blockhash: None,
                channel_state: None,
                voucher_state: None,
                other: Default::default(),
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let books = Books {
            price: 500,
            offer: extra,
            faults: VecDeque::new(),
            channels: HashMap::new(),
            answers: HashMap::new(),
            requests: 0,
            served: 0,
            at_once: (0, 0),
            rendezvous: None,
            top_ups: HashSet::new(),
            refuses_top_ups: None,
            meter: None,
            plan: Plan::default(),
            vouchers: Vec::new(),
        };
        let seller = Self { world, url, books: Arc::new(Mutex::new(books)) };
        let router = Router::new().fallback(answer).with_state(seller.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        seller
    }

    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.books().faults.extend(faults);
    }

    pub fn charged(&self) -> u64 {
        self.books().channels.values().map(|entry| entry.charged.get()).sum()
    }

    pub fn required(&self, error: Option<Rejection>, about: Option<(ChannelState, Option<VoucherState>)>) -> Answer {
        let books = self.books();
        let mut extra = books.offer.clone();
        extra.channel_state = about.map(|(state, _)| state);
        extra.voucher_state = about.and_then(|(_, voucher)| voucher);
        let requirements = PaymentRequirements {
            scheme: Scheme,
            network: Network::devnet(),
            amount: Amount::new(books.price),
            asset: Key(MINT),
            pay_to: Key(PAYEE),
            max_timeout_seconds: 60.try_into().unwrap(),
            extra,
            other: Default::default(),
        };
        let required = PaymentRequired::new(ResourceInfo::default(), requirements, error.map(Reason::from));
        (402, None, Some(required))
    }

    /// What is known of a channel, for [`Self::restore`].
    pub fn back_up(&self, id: Key) -> Entry {
        self.books().channels[&id]
    }

    /// All that was learnt of a channel since is forgotten, or found again.
    pub fn restore(&self, id: Key, backup: Entry) {
        let mut books = self.books();
        books.answers.clear();
        books.channels.insert(id, backup);
    }

    /// Sees what the chain has settled of a channel, as every ledger does.
    pub fn look_at(&self, id: Key) {
        let view = self.world.lock().page_view();
        let slot = (0..8).find(|slot| view.channel_id(*slot) == Some(id.0)).unwrap();
        let settled = view.slots[usize::from(slot)].settled;
        let mut books = self.books();
        let entry = books.channels.get_mut(&id).unwrap();
        entry.charged = entry.charged.max(settled);
    }

    pub fn state(&self, id: Key) -> (ChannelState, Option<VoucherState>) {
        let books = self.books();
        let entry = &books.channels[&id];
        let state = ChannelState {
            channel_id: id,
            balance: Amount::ZERO,
            total_claimed: Amount::ZERO,
            charged_cumulative_amount: entry.charged,
        };
        let voucher = entry.newest.map(|voucher| VoucherState {
            signed_max_claimable: voucher.cumulative,
            signature: voucher.signature.into(),
        });
        (state, voucher)
    }

    pub fn settled(&self, id: Key, charged: Amount) -> Answer {
        let (mut state, _) = self.state(id);
        state.charged_cumulative_amount = charged;
        let extra = AnswerExtra { channel_state: Some(state), ..AnswerExtra::default() };
        let settled = SettleResponse::Settled {
            transaction: None,
            network: Network::devnet(),
            payer: Key([0; 32]),
            amount: None,
            extra,
        };
        (200, Some(settled), None)
    }

    pub fn failed(&self, status: u16, reason: Rejection) -> Answer {
        let failed = SettleResponse::Failed {
            reason: reason.into(),
            transaction: None,
            network: Network::devnet(),
            payer: None,
            extra: AnswerExtra::default(),
        };
        (status, Some(failed), None)
    }

    /// Opens the channel as the facilitator and the program would.
    fn open(&self, channel: &Channel, deposit: &Deposit) -> Result<Key, Rejection> {
        let transaction = from_bytes(deposit.transaction.as_bytes()).unwrap();
        let mut world = self.world.lock();
        let view = world.page_view();
        let id = channel.id(&world.header.page_domain);
        if view.channel_id(channel.slot) == Some(id.0) {
            return Ok(id);
        }
        let new = NewChannel {
            payer: channel.payer.0.into(),
            source: world.book_view().token_account(&channel.payer.0.into()),
            operator: None,
            page: view.address,
            slot: channel.slot,
            generation: channel.generation,
            signer: channel.signer.0,
            deposit: deposit.amount.get(),
        };
        deposit::expected_channel_id(&view, &new)?;
        // Given the same facts, the sponsor builds the same message; and the payer has signed it.
        let blockhash = solana_hash::Hash::new_from_array(transaction.message.recent_blockhash().to_bytes());
        let expected = deposit::message(&world.book_view(), &new, &id.0, &SPONSOR.into(), blockhash);
        assert_eq!(transaction.message, expected);
        assert_eq!(signed(&transaction), [false, true], "only the sponsor has not signed");
        let opening = Opening {
            payer: channel.payer.0,
            signer: channel.signer.0,
            generation: channel.generation,
            deposit: deposit.amount,
        };
        let (now, min_deposit) = (world.now, world.book.min_deposit);
        world.page().open(channel.slot, &opening, min_deposit, now)?;
        world.held -= deposit.amount.get();
        world.deposits += 1;
        drop(world);
        let entry = Entry { signer: channel.signer.0, charged: Amount::ZERO, newest: None, last: None };
        self.books().channels.entry(id).or_insert(entry);
        Ok(id)
    }

    /// Adds to the channel's deposit as the facilitator and the program would.
    fn top_up(&self, channel: &Channel, id: Key, deposit: &Deposit) -> Result<(), Rejection> {
        if let Some(reason) = self.books().refuses_top_ups {
            return Err(reason);
        }
        let transaction = from_bytes(deposit.transaction.as_bytes()).unwrap();
        if !self.books().top_ups.insert(deposit.transaction.clone()) {
            return Ok(());
        }
        let mut world = self.world.lock();
        let addition = Addition {
            funder: channel.payer.0.into(),
            source: world.book_view().token_account(&channel.payer.0.into()),
            page: world.page_address(),
            slot: channel.slot,
            generation: channel.generation,
            amount: deposit.amount.get(),
        };
        let blockhash = solana_hash::Hash::new_from_array(transaction.message.recent_blockhash().to_bytes());
        let expected = deposit::top_up_message(&world.book_view(), &addition, &id.0, &SPONSOR.into(), blockhash);
        assert_eq!(transaction.message, expected);
        assert_eq!(signed(&transaction), [false, true], "only the sponsor has not signed");
        world.page().top_up(channel.slot, channel.generation, deposit.amount)?;
        world.held -= deposit.amount.get();
        Ok(())
    }

    /// A channel that was opened past this seller is found on chain.
    fn look_on_chain(&self, id: Key) {
        let view = self.world.lock().page_view();
        if let Some(slot) = (0..8).find(|slot| view.channel_id(*slot) == Some(id.0)) {
            let signer = view.slots[usize::from(slot)].signer;
            let entry = Entry { signer, charged: Amount::ZERO, newest: None, last: None };
            self.books().channels.entry(id).or_insert(entry);
        }
    }

    fn refund(&self, voucher: &Voucher) -> Answer {
        let id = voucher.channel_id;
        let Some(charged) = self.books().channels.get(&id).map(|entry| entry.charged) else {
            return self.required(Some(Rejection::UnknownChannel), None);
        };
        if voucher.max_claimable_amount != charged {
            // Where the channel stands is told to calls; not everybody tells it to a refund.
            return self.required(Some(Rejection::WrongCumulative), None);
        }
        let mut world = self.world.lock();
        let view = world.page_view();
        let slot = (0..8).find(|slot| view.channel_id(*slot) == Some(id.0)).unwrap();
        let (generation, now) = (view.slots[usize::from(slot)].generation, world.now);
        world.page().claim(slot, charged, now).unwrap();
        let returned = world.page().refund(slot, generation, charged).unwrap();
        world.held += returned.amount.get();
        drop(world);
        let settled = self.settled(id, charged);
        self.books().channels.remove(&id);
        settled
    }

    /// An opening or a top-up, told apart by the instruction.
    fn take_deposit(&self, channel: &Channel, deposit: &Deposit, voucher: &Voucher) -> Result<(), Rejection> {
        const TOP_UP: u8 = 4;
        let transaction = from_bytes(deposit.transaction.as_bytes()).unwrap();
        if transaction.message.instructions()[2].data[0] == TOP_UP {
            return self.top_up(channel, voucher.channel_id, deposit);
        }
        if voucher.max_claimable_amount.get() != self.books().price {
            return Err(Rejection::WrongCumulative);
        }
        assert_eq!(self.open(channel, deposit)?, voucher.channel_id);
        Ok(())
    }

    async fn pay(&self, payment: PaymentPayload, place: String) -> Answer {
        let voucher = *payment.payload.voucher();
        let fault = {
            let mut books = self.books();
            books.vouchers.push(voucher);
            books.faults.pop_front()
        };
        match fault {
            Some(Fault::Busy) => return self.failed(409, Rejection::ChannelBusy),
            Some(Fault::Expired) => return self.failed(409, Rejection::NoReservation),
            Some(Fault::Down) => return self.failed(503, Rejection::FacilitatorUnavailable),
            Some(Fault::NotFound) => return (404, None, None),
            Some(Fault::Broken) => return (500, None, None),
            Some(Fault::Refuse(reason)) => return self.required(Some(reason), None),
            Some(Fault::Slow(time)) => tokio::time::sleep(time).await,
            Some(Fault::Claim(charged)) => {
                let voucher =
                    VoucherState { signed_max_claimable: Amount::new(charged), signature: Signature([7; 64]) };
                return self.claim(&payment, charged, Some(voucher));
            }
            Some(Fault::ClaimUnderOldVoucher(charged)) => {
                let (_, shown) = self.state(voucher.channel_id);
                return self.claim(&payment, charged, shown);
            }
            Some(Fault::Race) => {
                let mut world = self.world.lock();
                let ChannelPayload::Deposit { channel, .. } = &payment.payload else { panic!("no deposit") };
                world.occupy(channel.slot);
            }
            _ => {}
        }
        if payment.accepted.amount.get() != self.books().price {
            return self.required(Some(Rejection::WrongPrice), None);
        }
        if let ChannelPayload::Refund { voucher, .. } = &payment.payload {
            if fault == Some(Fault::PretendRefund) {
                return self.settled(voucher.channel_id, voucher.max_claimable_amount);
            }
            let closed = self.refund(voucher);
            assert!(fault != Some(Fault::Drop), "the connection breaks here");
            return closed;
        }
        if let ChannelPayload::Deposit { channel, deposit, .. } = &payment.payload {
            if let Err(reason) = self.take_deposit(channel, deposit, &voucher) {
                return self.required(Some(reason), None);
            }
            assert!(fault != Some(Fault::DropAfterOpening), "the connection breaks here");
        }
        let charged = match self.charge(&voucher, &place, fault).await {
            Ok(charged) => charged,
            Err(answer) => return *answer,
        };
        match fault {
            Some(Fault::Drop) => panic!("the connection breaks here"),
            Some(Fault::Gateway | Fault::GatewayAndForget | Fault::CheapAndForgotten(_)) => (504, None, None),
            Some(Fault::NoReceipt) => (200, None, None),
            _ => self.settled(voucher.channel_id, charged),
        }
    }

    async fn charge(&self, voucher: &Voucher, place: &str, fault: Option<Fault>) -> Result<Amount, Box<Answer>> {
        let id = voucher.channel_id;
        let price = self.books().price;
        self.look_on_chain(id);
        if !self.books().channels.contains_key(&id) {
            return Err(Box::new(self.required(Some(Rejection::UnknownChannel), None)));
        }
        let key = (voucher.signature, place.to_owned());
        if let Some(charged) = self.books().answers.get(&key) {
            return Ok(*charged);
        }
        let (signer, charged, last) = {
            let books = self.books();
            let entry = &books.channels[&id];
            (entry.signer, entry.charged, entry.last)
        };
        let signed = SignedVoucher::from(*voucher).verify(&signer).expect("the agent signs well");
        if voucher.max_claimable_amount.get() != charged.get() + price {
            let is_used = last == Some(voucher.max_claimable_amount);
            let reason = if is_used { Rejection::VoucherUsed } else { Rejection::WrongCumulative };
            return Err(Box::new(self.required(Some(reason), Some(self.state(id)))));
        }
        if place.contains("/stream") {
            self.books().channels.get_mut(&id).unwrap().newest = Some(*signed.voucher());
            return Ok(charged);
        }
        let at_once = {
            let mut books = self.books();
            books.at_once.0 += 1;
            books.at_once.0
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let rendezvous = self.books().rendezvous.clone();
        if let Some(barrier) = rendezvous {
            barrier.wait().await;
        }
        let mut books = self.books();
        books.at_once = (books.at_once.0 - 1, books.at_once.1.max(at_once));
        books.served += 1;
        let discount = match fault {
            Some(Fault::Discount(discount)) => discount,
            Some(Fault::CheapAndForgotten(cost)) => price - cost,
            _ => 0,
        };
        let entry = books.channels.get_mut(&id).unwrap();
        assert_eq!(entry.charged, charged, "one call at a time on a channel");
        entry.charged = Amount::new(voucher.max_claimable_amount.get() - discount);
        entry.last = Some(voucher.max_claimable_amount);
        if entry.newest.is_none_or(|newest| newest.cumulative <= voucher.max_claimable_amount) {
            entry.newest = Some(*signed.voucher());
        }
        let charged = entry.charged;
        if !matches!(fault, Some(Fault::GatewayAndForget | Fault::CheapAndForgotten(_))) {
            books.answers.insert(key, charged);
        }
        Ok(charged)
    }

    fn claim(&self, payment: &PaymentPayload, charged: u64, shown: Option<VoucherState>) -> Answer {
        let state = ChannelState {
            channel_id: payment.payload.voucher().channel_id,
            balance: Amount::ZERO,
            total_claimed: Amount::ZERO,
            charged_cumulative_amount: Amount::new(charged),
        };
        self.required(Some(Rejection::WrongCumulative), Some((state, shown)))
    }
}

async fn answer(State(seller): State<Seller>, request: Request) -> Response {
    seller.books().requests += 1;
    let place = format!("{} {}", request.method(), request.uri());
    if place.contains("/free") {
        return Response::new(Body::from("free"));
    }
    if request.headers().contains_key(PAYMENT_METER) {
        return seller.meter(request.into_parts().0.headers).await;
    }
    let voucher = request.headers().get(PAYMENT_SIGNATURE).map(|value| {
        let payment: PaymentPayload = read_header(value.as_bytes()).unwrap();
        *payment.payload.voucher()
    });
    let (status, receipt, required) = match request.headers().get(PAYMENT_SIGNATURE) {
        None => seller.required(None, None),
        Some(value) => seller.pay(read_header(value.as_bytes()).unwrap(), place.clone()).await,
    };
    if let Some(voucher) = voucher.filter(|_| status == 200 && place.contains("/stream")) {
        return seller.stream(&voucher);
    }
    let mut response = Response::builder().status(status);
    if let Some(receipt) = receipt {
        response = response.header(PAYMENT_RESPONSE, header(&receipt).unwrap());
    }
    if let Some(required) = required {
        response = response.header(PAYMENT_REQUIRED, header(&required).unwrap());
    }
    response.body(Body::from("paid for")).unwrap()
}
