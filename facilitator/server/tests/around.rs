//! Everything around a call: what is shown, who may ask, and deposits that are refused before the chain is asked.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use house::{House, key};
use serde_json::json;
use solana_hash::Hash;
use solana_keypair::Keypair;
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use std::sync::{Arc, Mutex};
use tallybook_chain::instruction::NewChannel;
use tallybook_chain::{Address, BookView, deposit, transaction};
use tallybook_facilitator::{Config, Token};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_wire::{Channel, ChannelPayload, Deposit, FacilitatorRequest, Key, PaymentPayload, TransactionBytes};

#[tokio::test]
async fn given_a_facilitator_when_asked_what_it_supports_then_it_names_scheme_sponsor_and_cluster() {
    let house = House::new().await;
    let (status, supported) = house.get("/supported").await;
    assert_eq!(status, 200);
    let kind = &supported["kinds"][0];
    assert_eq!((&kind["x402Version"], &kind["scheme"]), (&json!(2), &json!("@tallybook/channel")));
    assert_eq!(kind["extra"]["genesisHash"], json!(Key(house::GENESIS_HASH).to_string()));
    assert_eq!(kind["extra"]["feePayer"], json!(house.offer.extra.fee_payer.to_string()));
}

#[tokio::test]
async fn given_free_slots_when_offers_are_asked_for_then_they_rotate_and_end_with_a_full_book() {
    let house = House::new().await;
    let path = format!("/books/{}/offer", house.chain.book_address);
    let first = house.offer.extra.slot;
    let (_, second) = house.get(&path).await;
    let mut slots = [json!(first), second["extra"]["slot"].clone()];
    slots.sort_by_key(ToString::to_string);
    assert_eq!(slots, [json!(2), json!(3)]);
    assert_eq!(second["extra"]["recentBlockhash"], json!(Key([4; 32]).to_string()));
    house.chain.open(2);
    house.chain.open(3);
    // Who has a channel can pay in a full book too, and needs its terms for that.
    for _ in 0..3 {
        let (status, offer) = house.get(&path).await;
        assert_eq!((status, &offer["payTo"]), (200, &second["payTo"]));
    }
    for book in [Key([7; 32]).to_string(), "nonsense".to_owned()] {
        let (status, refusal) = house.get(&format!("/books/{book}/offer")).await;
        assert_eq!((status, &refusal["error"]), (404, &json!("unknown_book")));
    }
}

#[tokio::test]
async fn given_paths_and_methods_that_do_not_exist_when_asked_then_the_answer_says_what_does() {
    let house = House::new().await;
    for (path, status, name) in [
        ("/", 404, "no_route"),
        ("/verify", 405, "wrong_method"),
        ("/channels/nonsense", 400, "malformed_payload"),
        ("/batches?limit=many", 400, "malformed_payload"),
    ] {
        let (found, refusal) = house.get(path).await;
        assert_eq!((found, &refusal["error"]), (status, &json!(name)), "{path}");
    }
    let unknown = Key([7; 32]);
    let hex = "07".repeat(32);
    for id in [unknown.to_string(), hex] {
        let (found, refusal) = house.get(&format!("/channels/{id}")).await;
        assert_eq!((found, &refusal["error"]), (404, &json!("unknown_channel")));
    }
}

#[tokio::test]
async fn given_a_facilitator_at_work_when_monitors_ask_then_they_see_health_and_metrics() {
    let house = House::new().await;
    house.pay(0, 500, 500).await;
    let (status, health) = house.get("/health").await;
    assert_eq!((status, &health["status"], &health["channels"]), (200, &json!("ok"), &json!(2)));
    assert_eq!(health["unsettled"], json!("500"));
    let metrics = house.http.get(house.url("/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("tallybook_changes_total"), "{metrics}");
    assert!(metrics.contains(r#"route="/settle""#), "{metrics}");
    assert_eq!(house.get("/batches").await.1, json!({"batches": []}));
    // And where the money is, by token, some seconds later at most.
    let mint = format!("{{mint=\"{}\"}}", Address::from(house.chain.book.mint));
    for _ in 0..200 {
        let metrics = house.http.get(house.url("/metrics")).send().await.unwrap().text().await.unwrap();
        let names =
            ["deposited", "charged", "unclaimed", "owed"].map(|sum| format!("tallybook_{sum}_base_units{mint} "));
        if names.iter().all(|name| metrics.contains(name)) && metrics.contains("tallybook_commit_seconds_bucket{le=") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no gauges of money");
}

#[tokio::test]
async fn given_a_facilitator_when_it_is_paused_or_ends_then_it_lives_and_is_not_ready() {
    let house = House::with(|config| config.admin_token = Some(Token::new("an-admin-token-of-24-chars"))).await;
    let asked = async |path: &str| {
        let answer = house.http.get(house.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(asked("/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(asked("/readyz").await, (200, "ready\n".to_owned()));
    let administer = async |act: &str| {
        let request = house.http.post(house.url(&format!("/admin/{act}"))).bearer_auth("an-admin-token-of-24-chars");
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    administer("pause").await;
    assert_eq!(asked("/livez").await.0, 200);
    assert_eq!(asked("/readyz").await, (503, "an administrator has paused it\n".to_owned()));
    administer("resume").await;
    assert_eq!(asked("/readyz").await.0, 200);
}

#[tokio::test]
async fn given_an_access_token_when_it_is_not_shown_then_payments_are_refused_and_nothing_else() {
    let token = "a-token-of-twenty-chars";
    let house = House::with(|config| config.access_token = Some(Token::new(token))).await;
    let call = serde_json::to_vec(&house.call(0, 500, 500)).unwrap();
    for shown in ["", "Bearer ", "Bearer a-token-of-twenty-char", "a-token-of-twenty-chars"] {
        let request = house.http.post(house.url("/verify")).header("authorization", shown);
        let (status, refusal) = house::answer(request.body(call.clone())).await;
        assert_eq!((status, &refusal["error"]), (401, &json!("unauthorized")), "{shown:?}");
    }
    let request = house.http.post(house.url("/verify")).bearer_auth(token);
    assert_eq!(house::answer(request.body(call)).await.0, 200);
    assert_eq!(house.get("/supported").await.0, 200);
}

/// What is logged, in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn given_payments_when_everything_is_logged_then_neither_a_signature_nor_the_token_is() {
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(log.finish());
    let token = "a-token-of-twenty-chars";
    let house = House::with(|config| config.access_token = Some(Token::new(token))).await;
    let call = house.call(0, 500, 500);
    let body = serde_json::to_vec(&call).unwrap();
    for path in ["/verify", "/settle", "/settle", "/release"] {
        let request = house.http.post(house.url(path)).bearer_auth(token).header("payment-signature", "c2lnbmVk");
        assert_eq!(house::answer(request.body(body.clone())).await.0, 200);
    }
    let request = house.http.post(house.url("/verify")).bearer_auth("another-token-altogether");
    assert_eq!(house::answer(request.body(body)).await.0, 401);
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("/settle"), "requests are logged: {logged}");
    let signature = call.payment_payload.payload.voucher().signature.to_string();
    for secret in [signature.as_str(), token, "another-token-altogether", "c2lnbmVk"] {
        assert!(!logged.contains(secret), "{secret} is logged");
    }
}

#[tokio::test]
async fn given_a_client_that_sends_half_a_head_when_it_takes_too_long_then_its_connection_ends_and_others_are_served() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let house = House::with(|config| config.limits.head_seconds = 1).await;
    let mut slow = tokio::net::TcpStream::connect(house.facilitator.local_addr()).await.unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: ").await.unwrap();
    assert_eq!(house.get("/health").await.0, 200);
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), slow.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "still open");
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "and not answered as if it were whole");
}

/// A deposit for slot 2 as a client makes it.
struct Opening {
    channel: Channel,
    amount: u64,
    voucher: SignedVoucher,
    price: u64,
    transaction: Vec<u8>,
}

impl Opening {
    /// Of 5,000, with a first voucher of 500, by the payer whose key stands for a slot.
    fn new(house: &House, payer: u8) -> Self {
        let signer = key(payer).verifying_key().to_bytes();
        let book = BookView { address: house.chain.book_address, state: house.chain.book };
        let address = Address::from(signer);
        let new = NewChannel {
            payer: address,
            source: book.token_account(&address),
            operator: None,
            page: house.chain.page_address,
            slot: 2,
            generation: 1,
            signer,
            deposit: 5_000,
        };
        let channel = Channel {
            payer: Key(signer),
            signer: Key(signer),
            book: Key(book.address.to_bytes()),
            page: Key(new.page.to_bytes()),
            slot: 2,
            generation: 1,
        };
        let sponsor = Address::from(house.offer.extra.fee_payer.0);
        let id = channel.id(&house.chain.state.lock().unwrap().header.page_domain).0;
        let message = deposit::message(&book, &new, &id, &sponsor, Hash::new_from_array([4; 32]));
        let keypair = Keypair::new_from_array(key(payer).to_bytes());
        let transaction = VersionedTransaction {
            signatures: vec![Signature::default(), keypair.sign_message(&message.serialize())],
            message,
        };
        Self {
            channel,
            amount: 5_000,
            voucher: SignedVoucher::sign(&key(payer), id, Amount::new(500)),
            price: 500,
            transaction: transaction::to_bytes(&transaction).unwrap(),
        }
    }

    fn request(&self, house: &House) -> FacilitatorRequest {
        let payload = ChannelPayload::Deposit {
            channel: self.channel,
            voucher: self.voucher.into(),
            deposit: Deposit {
                amount: Amount::new(self.amount),
                transaction: TransactionBytes::new(self.transaction.clone()).unwrap(),
            },
        };
        let requirements = house.requirements(self.price);
        FacilitatorRequest::new(PaymentPayload::new(requirements.clone(), payload), requirements)
    }

    /// Says the same of another channel, voucher included.
    fn rename(&mut self, house: &House, change: impl FnOnce(&mut Channel)) {
        change(&mut self.channel);
        let id = self.channel.id(&house.chain.state.lock().unwrap().header.page_domain).0;
        self.voucher = SignedVoucher::sign(&key(2), id, self.voucher.cumulative);
    }
}

#[tokio::test]
async fn given_deposits_that_do_not_hold_when_asked_for_then_each_is_named_before_the_chain_is_asked() {
    let house = House::new().await;
    let with = |change: &dyn Fn(&mut Opening)| {
        let mut opening = Opening::new(&house, 2);
        change(&mut opening);
        opening.request(&house)
    };
    let voucher = |opening: &mut Opening, signer: u8, cumulative: u64| {
        let id = opening.voucher.channel_id;
        opening.voucher = SignedVoucher::sign(&key(signer), id, Amount::new(cumulative));
    };
    for (request, name) in [
        (with(&|opening| opening.transaction = vec![1, 2, 3]), "malformed_deposit"),
        (with(&|opening| opening.transaction[70] ^= 1), "payer_signature_missing"),
        (with(&|opening| opening.amount = 4_999), "deposit_mismatch"),
        (with(&|opening| opening.amount = 999), "deposit_too_small"),
        (with(&|opening| opening.amount = 1 << 48), "deposit_too_large"),
        (with(&|opening| opening.channel.generation = 2), "deposit_mismatch"),
        (with(&|opening| opening.rename(&house, |channel| channel.generation = 2)), "deposit_mismatch"),
        (with(&|opening| opening.channel.page = Key([7; 32])), "unknown_page"),
        (with(&|opening| opening.channel.book = Key([7; 32])), "requirements_mismatch"),
        (with(&|opening| opening.rename(&house, |channel| channel.slot = 9)), "no_such_slot"),
        (with(&|opening| voucher(opening, 3, 500)), "bad_signature"),
        (with(&|opening| voucher(opening, 2, 499)), "wrong_cumulative"),
        (
            with(&|opening| {
                opening.price = 5_001;
                voucher(opening, 2, 5_001);
            }),
            "deposit_exceeded",
        ),
    ] {
        assert_eq!(house.reason("/verify", &request).await, name);
        assert_eq!(house.reason("/settle", &request).await, name);
    }
    let (_, view) = house.get("/health").await;
    assert_eq!(view["channels"], json!(2));
}

#[tokio::test]
async fn given_a_good_deposit_whose_fate_is_not_known_when_another_wants_the_slot_then_it_is_taken() {
    let house = House::new().await;
    let (first, second) = (Opening::new(&house, 2).request(&house), Opening::new(&house, 3).request(&house));
    for path in ["/verify", "/settle"] {
        let (status, refusal) = house.post(path, &first).await;
        assert_eq!((status, &refusal["error"]), (503, &json!("chain_unavailable")), "{path}");
    }
    assert_eq!(house.reason("/settle", &second).await, "slot_taken");
    let (_, offer) = house.get(&format!("/books/{}/offer", house.chain.book_address)).await;
    assert_eq!(offer["extra"]["slot"], json!(3), "a held slot is not offered");
}

#[tokio::test]
async fn given_a_sponsor_that_pays_for_no_more_when_a_deposit_comes_then_the_quota_is_named_and_the_slot_is_free() {
    let no_deposits: fn(&mut Config) = |config| config.limits.deposits_per_payer_per_hour = 0;
    let no_channels: fn(&mut Config) = |config| config.limits.channels = 2;
    // A deposit may cost 15,000 for signatures and 10,000 for its place in a block.
    let no_lamports: fn(&mut Config) = |config| config.limits.sponsored_lamports_per_day = 24_999;
    for change in [no_deposits, no_channels, no_lamports] {
        let house = House::with(change).await;
        for payer in [2, 3] {
            let request = Opening::new(&house, payer).request(&house);
            assert_eq!(house.reason("/verify", &request).await, "quota_exceeded");
            assert_eq!(house.reason("/settle", &request).await, "quota_exceeded");
        }
    }
}

#[tokio::test]
async fn given_a_refund_when_the_chain_cannot_be_asked_then_the_channel_is_closed_for_good_all_the_same() {
    let house = House::new().await;
    house.pay(0, 500, 500).await;
    let mut request = house.call(0, 500, 500);
    let refund = |voucher: SignedVoucher| ChannelPayload::Refund { voucher: voucher.into(), transaction: None };
    request.payment_payload.payload = refund(house.voucher(0, 400));
    assert_eq!(house.reason("/verify", &request).await, "wrong_cumulative");
    request.payment_payload.payload = refund(house.voucher(0, 500));
    assert_eq!(house.reason("/settle", &request).await, "wrong_authority", "without the signed transaction");
    let (status, _) = house.post("/verify", &request).await;
    assert!(status == 503 || status == 200, "the payer has no token account here, or the chain does not answer");
    assert_eq!(house.reason("/verify", &house.call(0, 900, 400)).await, "channel_closing");
    let house = house.restart().await;
    assert_eq!(house.reason("/verify", &house.call(0, 900, 400)).await, "channel_closing");
}
