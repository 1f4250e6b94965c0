//! The facilitator itself, over HTTP and on a real chain: books that grow, channels that are topped up, calls that cost less
//! than their ceiling, and what all of it costs the sponsor.

use crate::world::{DEPOSIT, Neighbour, Payer, TOKENS, World};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use tallybook_chain::instruction::{Addition, Instructions};
use tallybook_chain::transaction::{from_bytes, to_bytes};
use tallybook_chain::{Address, PROGRAM_ID, deposit};
use tallybook_cli::dev_chain::LAMPORTS_PER_SOL;
use tallybook_facilitator::{Config, Facilitator, Token};
use tallybook_rules::Amount;
use tallybook_rules::signing::{SignedVoucher, SigningKey};
use tallybook_settler::Commitment;
use tallybook_wire::{
    Channel, ChannelPayload, Deposit, FacilitatorRequest, Key, Offer, PaymentPayload, PaymentRequirements,
    TransactionBytes,
};

/// What a call costs at most, in base units.
const CEILING: u64 = 500;

const ADMIN: &str = "an administrator's token";

/// A facilitator that serves the world's book.
struct Service {
    facilitator: Facilitator,
    config: Config,
    http: reqwest::Client,
    book: Address,
    _folder: tempfile::TempDir,
}

impl Service {
    async fn start(world: &World) -> Self {
        Self::start_with(world, &[world.book.address], |_| {}).await
    }

    /// One that serves these books, of which [`Self::book`] is the first, with a configuration that is changed some more.
    async fn start_with(world: &World, books: &[Address], change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sponsor = folder.path().join("sponsor.json");
        tallybook_cli::keys::write(&sponsor, &world.sponsor).unwrap();
        let config = format!(
            "listen = '127.0.0.1:0'\ndatabase = '{}'\nrpc_url = '{}'\nsponsor = '{}'\nbooks = [{}]\nincome = '{}'\n\
             [settlement]\nmax_age_seconds = 1\ntick_milliseconds = 100\n[chain]\npoll_milliseconds = 100\n\
             [limits]\ndeposits_per_payer_per_hour = 2",
            folder.path().join("vouchers.db").display(),
            world.chain.rpc_url(),
            sponsor.display(),
            books.iter().map(|book| format!("'{book}'")).collect::<Vec<_>>().join(","),
            world.payee.pubkey(),
        );
        let mut config = Config::from_toml(&config).unwrap();
        change(&mut config);
        Self {
            facilitator: Facilitator::start(config.clone()).await.unwrap(),
            config,
            http: reqwest::Client::new(),
            book: books[0],
            _folder: folder,
        }
    }

    /// Ends, and starts again over the same file.
    async fn restart(self) -> Self {
        self.facilitator.shutdown().await.unwrap();
        Self { facilitator: Facilitator::start(self.config.clone()).await.unwrap(), ..self }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.facilitator.local_addr())
    }

    async fn get(&self, path: &str) -> Value {
        self.http.get(self.url(path)).send().await.unwrap().json().await.unwrap()
    }

    async fn offer(&self) -> Offer {
        serde_json::from_value(self.get(&format!("/books/{}/offer", self.book)).await).unwrap()
    }

    /// Takes vouchers of all channels of a neighbour, as its server hands them over.
    async fn take(&self, world: &World, neighbour: &Neighbour, cumulative: u64) {
        let (_, page) = world.settler().read_page(&neighbour.page, 0, Commitment::Confirmed).await.unwrap();
        let vouchers = neighbour.payers.iter().map(|payer| {
            let voucher: tallybook_wire::Voucher = (*world.row(&page, payer, cumulative).voucher.voucher()).into();
            json!({ "voucher": voucher, "charged": cumulative.to_string() })
        });
        let body = json!({ "book": neighbour.book.address.to_string(), "vouchers": vouchers.collect::<Vec<_>>() });
        let taken = self.post("/vouchers", &body).await;
        assert!(taken["taken"].as_array().is_some_and(|taken| taken.len() == neighbour.payers.len()), "{taken}");
    }

    async fn settle_now(&self) {
        let settle = self.http.post(self.url("/admin/settle")).bearer_auth(ADMIN).send().await.unwrap();
        assert!(settle.status().is_success(), "{settle:?}");
    }

    async fn post(&self, path: &str, body: &impl serde::Serialize) -> Value {
        self.http.post(self.url(path)).json(body).send().await.unwrap().json().await.unwrap()
    }

    /// Asks again until the answer is as it should be.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self).await {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_book_grows_by_a_page_that_its_operator_signs_and_a_closed_page_is_offered_no_more() {
    // Given a book whose only page is full.
    let world = World::start(2, true).await;
    let settler = world.settler();
    let service = Service::start(&world).await;
    world.open(&settler, 2).await;
    service.until("a full book", async |service| service.offer().await.free_slots == Some(0)).await;
    let path = format!("/books/{}/pages", service.book);

    // When the next page is asked for, and handed in again with the operator's signature.
    let asked = service.post(&path, &json!({})).await;
    let mut transaction = from_bytes(&STANDARD.decode(asked["transaction"].as_str().unwrap()).unwrap()).unwrap();
    let keys = transaction.message.static_account_keys();
    let at = keys.iter().position(|key| *key == world.operator.pubkey()).unwrap();
    transaction.signatures[at] = world.operator.sign_message(&transaction.message.serialize());
    let signed = json!({ "transaction": STANDARD.encode(to_bytes(&transaction).unwrap()) });
    let grown = service.post(&path, &signed).await;

    // Then it stands, is offered at once, and the same again is the same answer.
    assert_eq!((&grown["index"], &grown["capacity"]), (&json!(1), &json!(2)), "{grown}");
    assert!(grown["signature"].is_string(), "{grown}");
    let offer = service.offer().await;
    assert_eq!((offer.pages, offer.free_slots), (Some(2), Some(2)));
    assert_eq!(json!(offer.extra.page), grown["page"]);
    assert_eq!(service.post(&path, &signed).await, grown);
    let page: Address = offer.extra.page.0.into();
    let spent = async |service: &Service| service.get("/income").await["books"][0]["spent"]["pages"].clone();
    let rent = world.lamports(&page).await;
    service.until("the rent in the books", async |service| spent(service).await.as_u64() > Some(rent)).await;

    // And when it is closed, it is offered no more.
    let rent_payer = settler.sponsor();
    let close = Instructions::new(PROGRAM_ID).close_page(&world.book, &page, &world.payee.pubkey(), &rent_payer);
    world.send(close, &world.payee).await;
    service.until("the end of the page", async |service| service.offer().await.pages == Some(1)).await;
    assert_eq!(service.offer().await.free_slots, Some(0));
}

/// A channel and its signer, as a client has them.
struct Client<'a> {
    world: &'a World,
    payer: &'a Payer,
    parts: Channel,
    id: Key,
}

impl<'a> Client<'a> {
    async fn of(world: &'a World, payer: &'a Payer) -> Self {
        let page = world.page_view(&world.settler()).await;
        let slot = page.slot(payer.slot).unwrap();
        let parts = Channel {
            payer: Key(slot.payer),
            signer: Key(slot.signer),
            book: Key(world.book.address.to_bytes()),
            page: Key(world.page.to_bytes()),
            slot: payer.slot,
            generation: slot.generation,
        };
        let id = parts.id(&page.header.page_domain);
        Self { world, payer, parts, id }
    }

    fn voucher(&self, cumulative: u64) -> SignedVoucher {
        SignedVoucher::sign(&SigningKey::from_bytes(self.payer.key.secret_bytes()), self.id.0, Amount::new(cumulative))
    }

    /// A call that adds `amount` to the deposit, signed with a blockhash of now.
    async fn top_up(&self, required: &PaymentRequirements, amount: u64, cumulative: u64) -> FacilitatorRequest {
        let owner = self.payer.key.pubkey();
        let addition = Addition {
            funder: owner,
            source: self.world.book.token_account(&owner),
            page: self.world.page,
            slot: self.parts.slot,
            generation: self.parts.generation,
            amount,
        };
        let blockhash: Hash = self.world.settler().latest_blockhash().await.unwrap().hash;
        let sponsor = self.world.sponsor.pubkey();
        let message = deposit::top_up_message(&self.world.book, &addition, &self.id.0, &sponsor, blockhash);
        let signature = self.payer.key.sign_message(&message.serialize());
        let transaction = VersionedTransaction { signatures: vec![Signature::default(), signature], message };
        let payload = ChannelPayload::Deposit {
            channel: self.parts,
            voucher: self.voucher(cumulative).into(),
            deposit: Deposit {
                amount: Amount::new(amount),
                transaction: TransactionBytes::new(to_bytes(&transaction).unwrap()).unwrap(),
            },
        };
        FacilitatorRequest::new(PaymentPayload::new(required.clone(), payload), required.clone())
    }

    fn call(&self, required: &PaymentRequirements, cumulative: u64) -> FacilitatorRequest {
        let payload = ChannelPayload::Voucher { voucher: self.voucher(cumulative).into() };
        FacilitatorRequest::new(PaymentPayload::new(required.clone(), payload), required.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_channel_is_topped_up_once_and_what_its_calls_cost_is_settled_to_the_base_unit() {
    // Given a channel of 10 USDC.
    let world = World::start(2, true).await;
    let payers = world.open(&world.settler(), 1).await;
    let client = Client::of(&world, &payers[0]).await;
    let service = Service::start(&world).await;
    let required = service.offer().await.priced(Amount::new(CEILING), NonZeroU32::new(60).unwrap());
    let held = async || world.tokens(&client.payer.key.pubkey()).await;
    assert_eq!(held().await, TOKENS - DEPOSIT);

    // When a top-up comes with a voucher that does not pay for its call, then it is refused and nothing is sent.
    let wrong = client.top_up(&required, 5_000_000, CEILING + 1).await;
    let refused = service.post("/settle", &wrong).await;
    assert_eq!(refused["errorReason"], json!("wrong_cumulative"), "{refused}");
    assert_eq!(refused["extra"]["channelState"]["chargedCumulativeAmount"], json!("0"));

    // When it comes with the right one, then verifying moves nothing, and settling tops the channel up, once.
    let top_up = client.top_up(&required, 5_000_000, CEILING).await;
    let verified = service.post("/verify", &top_up).await;
    assert_eq!((&verified["isValid"], held().await), (&json!(true), TOKENS - DEPOSIT), "{verified}");
    let settled = service.post("/settle", &top_up).await;
    assert_eq!((&settled["success"], &settled["amount"]), (&json!(true), &json!("5000000")), "{settled}");
    assert_eq!(settled["extra"]["channelState"]["balance"], json!("15000000"));
    assert_eq!(service.post("/settle", &top_up).await, settled, "the same again");
    let service = service.restart().await;
    assert_eq!(service.post("/settle", &top_up).await, settled, "also after a restart");
    assert_eq!(held().await, TOKENS - DEPOSIT - 5_000_000);

    // And its voucher pays for the call, which costs less than its ceiling.
    let call = client.call(&required, CEILING);
    assert_eq!(service.post("/verify", &call).await["isValid"], json!(true));
    let mut cost = call.clone();
    cost.payment_requirements.amount = Amount::new(123);
    let paid = service.post("/settle", &cost).await;
    assert_eq!(paid["extra"]["chargedAmount"], json!("123"), "{paid}");

    // And exactly that is settled, and paid out.
    let paid_out = async |_: &Service| world.tokens(&world.payee.pubkey()).await == 123;
    service.until("the payee's money", paid_out).await;
    let slot = *world.page_view(&world.settler()).await.slot(0).unwrap();
    assert_eq!((slot.settled.get(), slot.deposit.get()), (123, DEPOSIT + 5_000_000));

    // And the facilitator knows what it has cost and brought.
    let book = async |service: &Service| service.get("/income").await["books"][0].clone();
    let counted = async |service: &Service| {
        let spent = book(service).await["spent"].clone();
        ["claims", "deposits"].iter().all(|what| spent[*what].as_u64() > Some(0))
            && book(service).await["paid"] == "123"
    };
    service.until("the accounts", counted).await;
    assert_eq!(book(&service).await["claimed"], json!("123"));

    // And the sponsor pays for two of a payer's top-ups within the hour: the restart has forgotten the first.
    for (amount, reason) in [(1, Value::Null), (2, Value::Null), (3, json!("quota_exceeded"))] {
        let next = client.top_up(&required, amount, 123 + CEILING).await;
        assert_eq!(service.post("/settle", &next).await["errorReason"], reason, "top-up of {amount}");
    }
    assert_eq!(held().await, TOKENS - DEPOSIT - 5_000_003);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_books_of_two_payees_when_both_are_due_then_they_share_a_transaction_and_each_bears_its_part_of_the_cost()
{
    // Given a facilitator of two books, and vouchers of 8 and 2 channels that their servers hand over.
    let world = World::start(2, true).await;
    let (first, second) = (world.neighbour(8).await, world.neighbour(2).await);
    let books = [first.book.address, second.book.address];
    let service = Service::start_with(&world, &books, |config| {
        config.settlement.max_age_seconds = 3_600;
        config.admin_token = Some(Token::new(ADMIN));
    });
    let service = service.await;
    let sponsor = world.lamports(&world.sponsor.pubkey()).await;
    service.take(&world, &first, 1_000).await;
    service.take(&world, &second, 300).await;

    // When everything is to be claimed.
    service.settle_now().await;
    let paid =
        async |_: &Service| (world.tokens(&first.payee).await, world.tokens(&second.payee).await) == (8_000, 600);
    service.until("the payees' money", paid).await;

    // Then what the books are said to have cost is what the sponsor has less, by their rows where they shared.
    let spent = async |service: &Service| {
        let income = service.get("/income").await;
        [0, 1].map(|book: usize| income["books"][book]["spent"]["claims"].as_u64().unwrap())
    };
    service.until("the costs", async |service| spent(service).await.iter().all(|spent| *spent > 0)).await;
    let costs = spent(&service).await;
    assert_eq!(sponsor - world.lamports(&world.sponsor.pubkey()).await, costs.iter().sum::<u64>(), "{costs:?}");
    let batches = service.get("/batches").await["batches"].clone();
    let transactions: Vec<&Value> = batches.as_array().unwrap().iter().map(|batch| &batch["transaction"]).collect();
    assert_eq!(transactions.len(), 2, "{batches}");
    assert_eq!(transactions[0], transactions[1], "{batches}");
    assert!(costs[0] > 3 * costs[1] && costs.iter().sum::<u64>() < 6_000, "{costs:?}");
    let metrics = service.http.get(service.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("tallybook_settlement_priority_lamports_total"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn given_keys_that_pay_for_claims_when_one_has_no_sol_then_another_pays_and_it_pays_again_once_it_has_some() {
    // Given a payee's page, and two keys that pay for claims, of which the page's own has no SOL.
    let world = World::start(2, true).await;
    let payee = world.neighbour(2).await;
    let [empty, other] = [Keypair::new(), Keypair::new()];
    world.mint.fund(&world.chain, &[other.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut keys = [("empty", &empty), ("other", &other)].map(|(name, key)| {
        let file = folder.path().join(name);
        tallybook_cli::keys::write(&file, key).unwrap();
        format!("file:{}", file.display()).parse().unwrap()
    });
    let number = u32::from_le_bytes(*payee.page.as_array()[4..].first_chunk().unwrap());
    keys.rotate_right(usize::try_from(number % 2).unwrap());
    let books = [payee.book.address];
    let service = Service::start_with(&world, &books, |config| {
        config.settlement.max_age_seconds = 3_600;
        config.admin_token = Some(Token::new(ADMIN));
        config.claim_sponsors = keys.to_vec();
    });
    let service = service.await;
    let held = async || {
        let keys = [&world.sponsor, &empty, &other].map(Signer::pubkey);
        futures_util::future::join_all(keys.iter().map(|key| world.lamports(key))).await
    };
    let before = held().await;

    // When its channels are claimed.
    service.take(&world, &payee, 1_000).await;
    service.settle_now().await;
    service.until("the payee's money", async |_| world.tokens(&payee.payee).await == 2_000).await;

    // Then the other key has paid, the sponsor nothing, and it is said that one is out of SOL.
    let after = held().await;
    assert!((after[0], after[1]) == (before[0], 0) && after[2] < before[2], "{before:?}, {after:?}");
    assert_eq!(service.get("/health").await["status"], "degraded");
    let metrics = service.http.get(service.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let gauge = |key: &Keypair| metrics.contains(&format!("tallybook_sponsor_lamports{{address=\"{}\"", key.pubkey()));
    assert!(gauge(&world.sponsor) && gauge(&empty) && gauge(&other), "{metrics}");

    // And once it has some, it pays for its page.
    world.mint.fund(&world.chain, &[empty.pubkey()], LAMPORTS_PER_SOL, Amount::ZERO).await.unwrap();
    service.until("good health", async |service| service.get("/health").await["status"] == "ok").await;
    service.take(&world, &payee, 1_500).await;
    service.settle_now().await;
    service.until("the rest", async |_| world.tokens(&payee.payee).await == 3_000).await;
    let last = held().await;
    assert!(last[1] < LAMPORTS_PER_SOL && last[2] == after[2] && last[0] == before[0], "{last:?}");
}
