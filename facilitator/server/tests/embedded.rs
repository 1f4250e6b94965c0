//! What a resource server with a ledger of its own asks for: to take its vouchers, to add a page, to say what was earned.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use base64::{Engine, engine::general_purpose::STANDARD};
use house::{House, OTHER_BOOK, key};
use serde_json::{Value, json};
use solana_transaction::TransactionError;
use tallybook_chain::instruction::Instructions;
use tallybook_chain::transaction::from_bytes;
use tallybook_chain::{BookView, PROGRAM_ID, address};
use tallybook_facilitator::Token;
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_settler::{Failure, Simulation};
use tallybook_store::{FaultyStore, SqliteStore};
use tallybook_wire::{Discoverable, ForwardRequest, ForwardedVoucher, Key, ResourceInfo, Sold};

/// A voucher of a channel, of which calls have cost `charged`.
fn newest(house: &House, slot: u8, signed: u64, charged: u64) -> ForwardedVoucher {
    ForwardedVoucher { voucher: house.voucher(slot, signed).into(), charged: Amount::new(charged) }
}

async fn forward(house: &House, vouchers: &[ForwardedVoucher]) -> (u16, Value) {
    forward_for(house, Key(house.chain.book_address.to_bytes()), vouchers).await
}

async fn forward_for(house: &House, book: Key, vouchers: &[ForwardedVoucher]) -> (u16, Value) {
    let request = ForwardRequest { book, vouchers: vouchers.to_vec(), sold: Vec::new() };
    house.post_raw("/vouchers", serde_json::to_vec(&request).unwrap()).await
}

/// What a channel has paid for, at this path of the server.
fn sold(house: &House, slot: u8, path: &str) -> Sold {
    Sold {
        channel_id: Key(house.id(slot)),
        resource: ResourceInfo { url: format!("https://api.example.com/{path}"), ..ResourceInfo::default() },
        extension: Discoverable::by_query(json!({})).extension("GET", "/").unwrap(),
        requirements: house.requirements(500),
    }
}

#[tokio::test]
async fn given_forwarded_vouchers_when_they_say_what_they_paid_for_then_what_is_new_is_listed_and_nothing_else() {
    let house = House::new().await;
    let book = Key(house.chain.book_address.to_bytes());
    let hand = async |vouchers: Vec<ForwardedVoucher>, sold: Vec<Sold>| {
        let request = ForwardRequest { book, vouchers, sold };
        house.post_raw("/vouchers", serde_json::to_vec(&request).unwrap()).await
    };
    let mut foreign = sold(&house, 0, "foreign");
    foreign.requirements.pay_to = Key([9; 32]);
    let first = vec![newest(&house, 0, 500, 300)];
    // Of a channel without a voucher, of another payee, and the one that was paid for
    let all = vec![sold(&house, 1, "unpaid"), foreign, sold(&house, 0, "paid")];
    assert_eq!(hand(first.clone(), all).await.0, 200);
    // The same again has paid for nothing more
    assert_eq!(hand(first.clone(), vec![sold(&house, 0, "again")]).await.0, 200);
    // A voucher that does not hold has paid for nothing
    let forged = SignedVoucher::sign(&key(0), house.id(1), Amount::new(500));
    let forged = ForwardedVoucher { voucher: forged.into(), charged: Amount::new(500) };
    assert_eq!(hand(vec![forged], vec![sold(&house, 1, "forged")]).await.0, 200);
    assert_eq!(hand(vec![newest(&house, 1, 400, 400)], vec![sold(&house, 1, "last")]).await.0, 200);
    let mut urls = Vec::new();
    for _ in 0..200 {
        let (_, page) = house.get("/discovery/resources").await;
        urls = page["items"].as_array().unwrap().iter().map(|item| item["resource"].clone()).collect();
        if urls.len() >= 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(urls, ["https://api.example.com/paid", "https://api.example.com/last"]);
    let many = vec![sold(&house, 0, "many"); 9];
    assert_eq!(hand(first, many).await.0, 413);
}

/// The errors of an answer, in its order; null for what was taken.
fn errors(answer: &Value) -> Vec<Value> {
    answer["taken"].as_array().unwrap().iter().map(|taken| taken["error"].clone()).collect()
}

#[tokio::test]
async fn given_forwarded_vouchers_when_taken_then_they_are_kept_and_the_same_again_changes_nothing() {
    let house = House::new().await;
    let vouchers = [newest(&house, 0, 500, 300), newest(&house, 1, 400, 400)];
    let (status, answer) = forward(&house, &vouchers).await;
    assert_eq!(status, 200, "{answer}");
    let taken = |slot: u8, charged: &str| json!({"channelId": Key(house.id(slot)), "charged": charged, "settled": "0"});
    assert_eq!(answer, json!({"taken": [taken(0, "300"), taken(1, "400")]}));
    assert_eq!(forward(&house, &vouchers).await.1, answer, "the same again");
    let older = [newest(&house, 0, 200, 200)];
    assert_eq!(forward(&house, &older).await.1, json!({"taken": [taken(0, "300")]}), "what is held is said");
    let house = house.restart().await;
    assert_eq!(house.charged(0).await, "300");
    assert_eq!(forward(&house, &vouchers).await.1, answer);
    assert_eq!(forward(&house, &[]).await.1, json!({"taken": []}));
    let more = [newest(&house, 0, 500, 450)];
    assert_eq!(forward(&house, &more).await.1["taken"][0]["charged"], json!("450"), "the same voucher, used further");
}

#[tokio::test]
async fn given_vouchers_that_do_not_hold_when_forwarded_then_each_is_named_and_the_others_are_taken() {
    let house = House::new().await;
    let forged = SignedVoucher::sign(&key(1), house.id(0), Amount::new(500));
    let unknown = SignedVoucher::sign(&key(0), [7; 32], Amount::new(500));
    let of = |voucher: SignedVoucher| ForwardedVoucher { voucher: voucher.into(), charged: Amount::new(1) };
    let (_, answer) = forward(&house, &[of(forged), newest(&house, 1, 400, 400), of(unknown)]).await;
    assert_eq!(errors(&answer), [json!("bad_signature"), json!(null), json!("unknown_channel")], "{answer}");
    let (_, answer) = forward(&house, &[newest(&house, 1, 500, 501), newest(&house, 0, 10_001, 10)]).await;
    assert_eq!(errors(&answer), [json!("amount_above_signed"), json!("deposit_exceeded")]);
    let other = Key(OTHER_BOOK.to_bytes());
    let (_, answer) = forward_for(&house, other, &[newest(&house, 0, 500, 500)]).await;
    assert_eq!(errors(&answer), [json!("requirements_mismatch")], "a channel of another book");
    assert_eq!((house.charged(0).await, house.charged(1).await), ("0".to_owned(), "400".to_owned()));
    house.chain.request_close(0);
    let (_, answer) = forward(&house, &[newest(&house, 0, 900, 800)]).await;
    assert_eq!(errors(&answer), [json!(null)], "a closing channel can still be claimed");
}

#[tokio::test]
async fn given_requests_beyond_the_caps_when_forwarded_then_they_are_refused_whole() {
    let house = House::new().await;
    let many: Vec<_> = (0..129u8)
        .map(|number| SignedVoucher::sign(&key(0), [number; 32], Amount::new(5)))
        .map(|voucher| ForwardedVoucher { voucher: voucher.into(), charged: Amount::new(5) })
        .collect();
    let (status, refusal) = forward(&house, &many).await;
    assert_eq!((status, &refusal["error"]), (413, &json!("request_too_large")));
    let (status, answer) = forward(&house, &many[..128]).await;
    assert_eq!((status, errors(&answer).len()), (200, 128));
    let (status, refusal) = forward(&house, &[newest(&house, 0, 500, 300), newest(&house, 0, 600, 300)]).await;
    assert_eq!((status, &refusal["error"]), (400, &json!("malformed_payload")), "one channel twice");
    let (status, refusal) = forward_for(&house, Key([7; 32]), &[newest(&house, 0, 500, 300)]).await;
    assert_eq!((status, &refusal["error"]), (404, &json!("unknown_book")));
    assert_eq!(house.post_raw("/vouchers", "vouchers").await.0, 400);
    assert_eq!(house.charged(0).await, "0");
}

#[tokio::test]
async fn given_a_channel_that_was_opened_just_now_when_its_voucher_is_forwarded_then_the_chain_is_looked_at_once() {
    let house = House::with(|config| config.chain.poll_milliseconds = 60_000).await;
    house.chain.open(2);
    let (_, answer) = forward(&house, &[newest(&house, 2, 500, 300), newest(&house, 0, 100, 100)]).await;
    let charged = |at: usize| answer["taken"][at]["charged"].clone();
    assert_eq!((charged(0), charged(1)), (json!("300"), json!("100")), "in the order that they came in: {answer}");
}

#[tokio::test]
async fn given_a_broken_disk_when_vouchers_are_forwarded_then_nothing_is_said_to_be_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("vouchers.db")).unwrap();
    let (store, broken) = FaultyStore::new(store);
    let house = House::over(|_| {}, Box::new(store), folder).await;
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let (status, refusal) = forward(&house, &[newest(&house, 0, 500, 300)]).await;
    assert_eq!((status, &refusal["error"]), (503, &json!("store_unavailable")));
}

#[tokio::test]
async fn given_an_access_token_when_it_is_not_shown_then_nothing_is_taken_built_or_told() {
    let token = "a-token-of-twenty-chars";
    let house = House::with(|config| config.access_token = Some(Token::new(token))).await;
    let pages = format!("/books/{}/pages", house.chain.book_address);
    for request in [
        house.http.post(house.url("/vouchers")).body("{}"),
        house.http.post(house.url(&pages)).body("{}"),
        house.http.get(house.url("/income")),
    ] {
        let (status, refusal) = house::answer(request.try_clone().unwrap()).await;
        assert_eq!((status, &refusal["error"]), (401, &json!("unauthorized")));
        assert_ne!(house::answer(request.bearer_auth(token)).await.0, 401);
    }
}

/// A simulation that goes well, or ends with an error of the fee payer's.
fn simulation(error: Option<TransactionError>) -> Option<Simulation> {
    Some(Simulation { failure: error.map(Failure), compute_units: 50_000 })
}

async fn ask_for_a_page(house: &House, book: &impl std::fmt::Display, transaction: Option<&str>) -> (u16, Value) {
    house.post_raw(&format!("/books/{book}/pages"), json!({ "transaction": transaction }).to_string()).await
}

#[tokio::test]
async fn given_a_book_that_is_nearly_full_when_a_page_is_asked_for_then_its_transaction_is_built_and_nothing_but_it_taken()
 {
    let house = House::new().await;
    let book = house.chain.book_address;
    assert_eq!((house.offer.free_slots, house.offer.pages), (Some(2), Some(1)));
    let (status, standing) = ask_for_a_page(&house, &book, None).await;
    let page = Key(house.chain.page_address.to_bytes());
    assert_eq!((status, standing), (200, json!({"page": page, "index": 0, "capacity": 4})), "there is place enough");
    house.chain.open(2);
    house.chain.open(3);
    house.chain.state.lock().unwrap().simulation = simulation(None);
    let (_, refusal) = ask_for_a_page(&house, &book, Some("AAAA")).await;
    assert_eq!(refusal["error"], json!("no_reservation"), "nothing was prepared");
    let (status, grown) = ask_for_a_page(&house, &book, None).await;
    assert_eq!((status, &grown["index"], &grown["capacity"]), (200, &json!(1), &json!(4)), "{grown}");
    let unsigned = grown["transaction"].as_str().unwrap();
    let bytes = STANDARD.decode(unsigned).unwrap();
    let transaction = from_bytes(&bytes).unwrap();
    let sponsor = tallybook_chain::Address::from(house.offer.extra.fee_payer.0);
    let view = BookView { address: book, state: house.chain.book };
    let add = Instructions::new(PROGRAM_ID).add_page(&view, &view.operator(), &sponsor, 1, 4);
    let instructions = transaction.message.instructions();
    assert_eq!((instructions.len(), &instructions[2].data), (3, &add.data));
    assert_eq!(transaction.message.static_account_keys()[0], sponsor);
    assert_eq!(grown["page"], json!(Key(address::page(&PROGRAM_ID, &book, 1).0.to_bytes())));
    let (_, refusal) = ask_for_a_page(&house, &book, Some(unsigned)).await;
    assert_eq!(refusal["error"], json!("wrong_authority"), "the operator has not signed");
    let mut other = transaction.clone();
    other.message.set_recent_blockhash(solana_hash::Hash::new_from_array([1; 32]));
    let other = STANDARD.encode(tallybook_chain::transaction::to_bytes(&other).unwrap());
    let (_, refusal) = ask_for_a_page(&house, &book, Some(&other)).await;
    assert_eq!(refusal["error"], json!("requirements_mismatch"));
}

#[tokio::test]
async fn given_a_limit_or_a_book_whose_rent_does_not_come_back_when_a_page_is_asked_for_then_it_is_refused_by_name() {
    let house = House::with(|config| config.limits.pages_per_book = 1).await;
    house.chain.open(2);
    house.chain.open(3);
    house.chain.state.lock().unwrap().simulation = simulation(None);
    let (status, refusal) = ask_for_a_page(&house, &house.chain.book_address, None).await;
    assert_eq!((status, &refusal["error"]), (400, &json!("page_limit")));
    let (status, refusal) = ask_for_a_page(&house, &OTHER_BOOK, None).await;
    assert_eq!((status, &refusal["error"]), (400, &json!("idle_close_off")));
    let (status, refusal) = ask_for_a_page(&house, &Key([7; 32]), None).await;
    assert_eq!((status, &refusal["error"]), (404, &json!("unknown_book")));
}

#[tokio::test]
async fn given_a_sponsor_without_sol_when_the_chain_says_so_then_health_is_degraded_until_it_has_some() {
    let house = House::new().await;
    house.chain.open(2);
    house.chain.open(3);
    for (error, health) in [
        (Some(TransactionError::InsufficientFundsForFee), "degraded"),
        (None, "ok"),
        (Some(TransactionError::AccountNotFound), "degraded"),
    ] {
        house.chain.state.lock().unwrap().simulation = simulation(error);
        ask_for_a_page(&house, &house.chain.book_address, None).await;
        assert_eq!(house.get("/health").await.1["status"], json!(health));
    }
}

#[tokio::test]
async fn given_a_leg_of_its_own_when_asked_for_its_income_then_the_facilitator_says_what_it_earned() {
    let house = House::with(|config| config.income = Some(Key([0; 32]))).await;
    let (status, income) = house.get("/income").await;
    assert_eq!(status, 200);
    let book = |income: &Value| income["books"][0].clone();
    assert_eq!(book(&income)["book"], json!(Key(house.chain.book_address.to_bytes())));
    let nothing = json!({"claims": 0, "deposits": 0, "refunds": 0, "pages": 0});
    assert_eq!((&book(&income)["claimed"], &book(&income)["spent"]), (&json!("0"), &nothing));
    assert_eq!(income["books"].as_array().unwrap().len(), 2, "in the order of the configuration");
    {
        let mut state = house.chain.state.lock().unwrap();
        state.header.claimed_total = Amount::new(1_003);
        state.header.paid[0] = Amount::new(400);
        state.slot += 1;
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (_, income) = house.get("/income").await;
    let book = book(&income);
    assert_eq!((&book["claimed"], &book["earned"], &book["paid"]), (&json!("1003"), &json!("1003"), &json!("400")));
    assert_eq!((&book["basisPoints"], &book["decimals"]), (&json!(10_000), &json!(6)));
    let stranger = House::new().await;
    let (_, income) = stranger.get("/income").await;
    assert_eq!((&income["books"][0]["basisPoints"], &income["books"][0]["earned"]), (&json!(0), &json!("0")));
}
