//! Calls over real HTTP and a real file: paid, refused by name, kept over a restart.
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
use serde_json::{Value, json};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_store::{FaultyStore, SqliteStore};
use tallybook_wire::{ChannelPayload, FacilitatorRequest, Key, Network};

#[tokio::test]
async fn given_an_open_channel_when_a_call_is_paid_then_it_is_charged_once() {
    let house = House::new().await;
    let call = house.call(0, 500, 500);
    let (_, verified) = house.post("/verify", &call).await;
    assert_eq!(verified["isValid"], json!(true));
    assert_eq!(verified["payer"], json!(Key([50; 32]).to_string()));
    assert_eq!(verified["extra"]["channelState"]["chargedCumulativeAmount"], json!("0"));
    let (_, settled) = house.post("/settle", &call).await;
    assert_eq!(settled["success"], json!(true));
    assert_eq!(settled["extra"]["chargedAmount"], json!("500"));
    assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], json!("500"));
    assert_eq!(house.post("/settle", &call).await, (200, settled), "the same again");
    house.pay(0, 700, 200).await;
    assert_eq!(house.charged(0).await, "700");
}

#[tokio::test]
async fn given_a_ceiling_when_the_call_costs_less_then_that_is_charged_also_after_a_restart_and_never_more() {
    let house = House::new().await;
    let call = house.call(0, 500, 500);
    house.post("/verify", &call).await;
    let cost = |amount: u64| {
        let mut request = call.clone();
        request.payment_requirements.amount = Amount::new(amount);
        request
    };
    assert_eq!(house.reason("/verify", &cost(120)).await, "wrong_price", "only a settlement may name the cost");
    assert_eq!(house.reason("/settle", &cost(501)).await, "charge_above_ceiling");
    let (_, settled) = house.post("/settle", &cost(120)).await;
    assert_eq!(settled["extra"]["chargedAmount"], json!("120"), "{settled}");
    assert_eq!(settled["extra"]["channelState"]["chargedCumulativeAmount"], json!("120"));
    assert_eq!(settled["extra"]["voucherState"]["signedMaxClaimable"], json!("500"));
    let house = house.restart().await;
    assert_eq!(house.post("/settle", &cost(120)).await, (200, settled.clone()), "the same again");
    assert_eq!(house.post("/settle", &cost(130)).await, (200, settled), "what it cost then, not what is said now");
    house.pay(0, 320, 200).await;
    assert_eq!(house.charged(0).await, "320");
    let free = house.call(0, 420, 100);
    house.post("/verify", &free).await;
    let mut nothing = free.clone();
    nothing.payment_requirements.amount = Amount::ZERO;
    let (_, settled) = house.post("/settle", &nothing).await;
    assert_eq!((&settled["success"], &settled["extra"]["chargedAmount"]), (&json!(true), &json!("0")));
    assert_eq!(house.charged(0).await, "320");
}

#[tokio::test]
async fn given_a_payment_of_a_kind_that_nobody_takes_when_posted_then_it_is_refused_by_the_reference_s_name() {
    let house = House::new().await;
    let good = serde_json::to_value(house.call(0, 500, 500)).unwrap();
    let other = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp";
    for (path, value, reason) in [
        ("/x402Version", json!(1), "invalid_x402_version"),
        ("/x402Version", json!(3), "invalid_x402_version"),
        ("/paymentRequirements/scheme", json!("exact"), "unsupported_scheme"),
        ("/paymentRequirements/scheme", json!("@tallybook/channel2"), "unsupported_scheme"),
        ("/paymentRequirements/network", json!(other), "invalid_network"),
        ("/paymentRequirements/network", json!("solana-devnet"), "invalid_network"),
    ] {
        let mut request = good.clone();
        *request.pointer_mut(path).unwrap() = value;
        let (status, verified) = house.post_raw("/verify", request.to_string()).await;
        assert_eq!((status, &verified["isValid"], &verified["invalidReason"]), (200, &json!(false), &json!(reason)));
        let (status, settled) = house.post_raw("/settle", request.to_string()).await;
        assert_eq!((status, &settled["success"], &settled["errorReason"]), (200, &json!(false), &json!(reason)));
        assert_eq!(settled["network"], request["paymentRequirements"]["network"]);
        let (status, refusal) = house.post_raw("/release", request.to_string()).await;
        assert_eq!((status, &refusal["error"]), (400, &json!("unsupported_scheme")));
    }
    let (_, supported) = house.get("/supported").await;
    let kinds = supported["kinds"].as_array().unwrap();
    assert_eq!(
        (kinds.len(), &kinds[0]["scheme"]),
        (1, &json!("@tallybook/channel")),
        "exact is off unless it is set up"
    );
}

#[tokio::test]
async fn given_requests_that_cannot_be_read_when_posted_then_each_is_named_with_status_and_advice() {
    let house = House::new().await;
    let good = serde_json::to_value(house.call(0, 500, 500)).unwrap();
    let changed = |path: &str, value: Value| {
        let mut request = good.clone();
        *request.pointer_mut(path).unwrap() = value;
        request.to_string()
    };
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("paymentPayload");
    let cases = [
        (String::new(), 400, "malformed_payload"),
        ("voucher".to_owned(), 400, "malformed_payload"),
        ("[]".to_owned(), 400, "malformed_payload"),
        (without.to_string(), 400, "malformed_payload"),
        ("x".repeat(65_537), 413, "request_too_large"),
        (changed("/x402Version", json!("2")), 400, "malformed_payload"),
        (changed("/paymentPayload/accepted/scheme", json!("exact")), 400, "unsupported_scheme"),
        (changed("/paymentPayload/payload/type", json!("gift")), 400, "malformed_payload"),
        (changed("/paymentPayload/payload/voucher/channelId", json!("0OIl")), 400, "malformed_payload"),
        (changed("/paymentPayload/payload/voucher/maxClaimableAmount", json!("-5")), 400, "malformed_payload"),
        (changed("/paymentPayload/payload/voucher/maxClaimableAmount", json!(500)), 400, "malformed_payload"),
        (changed("/paymentPayload/payload/voucher/signature", json!("1")), 400, "malformed_payload"),
        (changed("/paymentRequirements/maxTimeoutSeconds", json!(0)), 400, "malformed_payload"),
    ];
    for path in ["/verify", "/settle", "/release"] {
        for (body, status, name) in &cases {
            let (found, refusal) = house.post_raw(path, body.clone()).await;
            assert_eq!((found, &refusal["error"]), (*status, &json!(name)), "{path} {body:.80}");
            assert!(refusal["message"].as_str().unwrap().ends_with('.'));
        }
    }
    assert_eq!(house.charged(0).await, "0");
}

#[tokio::test]
async fn given_payments_that_do_not_hold_when_verified_then_each_is_named_and_nothing_is_charged() {
    let house = House::new().await;
    house.pay(0, 500, 500).await;
    let with = |change: fn(&mut FacilitatorRequest)| {
        let mut request = house.call(0, 1_000, 500);
        change(&mut request);
        request
    };
    let both = |request: &mut FacilitatorRequest, change: fn(&mut tallybook_wire::PaymentRequirements)| {
        change(&mut request.payment_requirements);
        change(&mut request.payment_payload.accepted);
    };
    let mut other_network = house.call(0, 1_000, 500);
    both(&mut other_network, |required| required.network = Network::mainnet());
    let mut other_book = house.call(0, 1_000, 500);
    both(&mut other_book, |required| required.extra.book = Key([7; 32]));
    let mut other_payee = house.call(0, 1_000, 500);
    both(&mut other_payee, |required| required.pay_to = Key([7; 32]));
    let mut other_sponsor = house.call(0, 1_000, 500);
    both(&mut other_sponsor, |required| required.extra.fee_payer = Key([7; 32]));
    let mut foreign_channel = house.call(0, 1_000, 500);
    both(&mut foreign_channel, |required| {
        required.extra.book = Key(house::OTHER_BOOK.to_bytes());
        required.pay_to = Key([78; 32]);
    });
    assert_eq!(house.reason("/settle", &foreign_channel).await, "requirements_mismatch");
    let voucher = |voucher: SignedVoucher| {
        let mut request = house.call(0, 1_000, 500);
        request.payment_payload.payload = ChannelPayload::Voucher { voucher: voucher.into() };
        request
    };
    let unknown = SignedVoucher::sign(&key(0), [7; 32], Amount::new(1_000));
    let stolen = SignedVoucher::sign(&key(1), house.id(0), Amount::new(1_000));
    for (request, name) in [
        (other_network, "invalid_network"),
        (other_book, "unknown_book"),
        (other_payee, "requirements_mismatch"),
        (other_sponsor, "requirements_mismatch"),
        (foreign_channel, "requirements_mismatch"),
        (with(|request| request.payment_payload.accepted.asset = Key([7; 32])), "requirements_mismatch"),
        (with(|request| request.payment_payload.accepted.amount = Amount::new(1)), "wrong_price"),
        (voucher(unknown), "unknown_channel"),
        (voucher(stolen), "bad_signature"),
        (house.call(0, 500, 500), "voucher_used"),
        (house.call(0, 400, 400), "wrong_cumulative"),
        (house.call(0, 1_001, 500), "wrong_cumulative"),
        (house.call(0, 500, 0), "voucher_used"),
        (house.call(0, 10_001, 9_501), "deposit_exceeded"),
    ] {
        assert_eq!(house.reason("/verify", &request).await, name);
    }
    house.post("/verify", &house.call(0, 1_000, 500)).await;
    assert_eq!(house.reason("/verify", &house.call(0, 1_000, 500)).await, "channel_busy");
    assert_eq!(house.charged(0).await, "500");
}

#[tokio::test]
async fn given_a_wrong_amount_when_refused_then_the_answer_says_where_the_channel_stands() {
    let house = House::new().await;
    house.pay(0, 500, 500).await;
    for cumulative in [500, 700] {
        let (_, answer) = house.post("/verify", &house.call(0, cumulative, 500)).await;
        let extra = &answer["extra"];
        assert_eq!(extra["channelState"]["balance"], json!("10000"));
        assert_eq!(extra["channelState"]["chargedCumulativeAmount"], json!("500"));
        assert_eq!(extra["voucherState"]["signedMaxClaimable"], json!("500"));
        let newest = tallybook_wire::Signature(house.voucher(0, 500).signature);
        assert_eq!(extra["voucherState"]["signature"], json!(newest.to_string()));
    }
}

#[tokio::test]
async fn given_no_reservation_when_settled_then_nothing_is_charged_and_a_release_does_no_harm() {
    let house = House::new().await;
    let call = house.call(0, 500, 500);
    assert_eq!(house.reason("/settle", &call).await, "no_reservation");
    assert_eq!(house.post("/release", &call).await, (200, json!({"released": false})));
    house.post("/verify", &call).await;
    assert_eq!(house.post("/release", &call).await, (200, json!({"released": true})));
    assert_eq!(house.post("/release", &call).await, (200, json!({"released": false})));
    assert_eq!(house.reason("/settle", &call).await, "no_reservation");
    assert_eq!(house.charged(0).await, "0");
    house.pay(0, 500, 500).await;
}

#[tokio::test]
async fn given_a_reservation_for_a_second_when_the_clock_turns_at_once_then_it_holds_for_its_second() {
    let house = House::new().await;
    for round in 0..30 {
        // Given a reservation for one second, made when a second of the clock is nearly over
        let second = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_millis();
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(1_950 - second) % 1_000)).await;
        let mut call = house.call(0, 500, 500);
        call.payment_requirements.max_timeout_seconds = std::num::NonZeroU32::MIN;
        call.payment_payload.accepted.max_timeout_seconds = std::num::NonZeroU32::MIN;
        let begun = std::time::Instant::now();
        let (_, reserved) = house.post("/verify", &call).await;
        assert_eq!(reserved["isValid"], json!(true), "round {round}: {reserved}");
        // When the next second has begun, then the channel is still busy
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let reason = house.reason("/verify", &house.call(0, 500, 500)).await;
        if begun.elapsed() < std::time::Duration::from_secs(1) {
            assert_eq!(reason, "channel_busy");
            return;
        }
        house.post("/release", &call).await;
    }
    panic!("this machine takes more than a second for two requests");
}

#[tokio::test]
async fn given_a_payer_who_leaves_when_the_watcher_sees_it_then_the_channel_takes_no_more() {
    let house = House::new().await;
    house.pay(0, 500, 500).await;
    house.chain.request_close(0);
    let id = Key(house.id(0));
    let mut status = json!("open");
    for _ in 0..100 {
        status = house.get(&format!("/channels/{id}")).await.1["status"].clone();
        if status == json!("closing") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(status, json!("closing"));
    assert_eq!(house.reason("/verify", &house.call(0, 1_000, 500)).await, "channel_closing");
    assert_eq!(house.charged(0).await, "500");
    let (_, list) = house.get("/batches").await;
    assert_eq!(list["batches"][0]["rows"], json!(1), "claimed at once: {list}");
}

#[tokio::test]
async fn given_a_node_that_lags_behind_when_it_is_asked_then_what_was_seen_before_stands() {
    let house = House::new().await;
    house.chain.request_close(0);
    house.chain.state.lock().unwrap().slot = 1;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    house.pay(0, 500, 500).await;
}

#[tokio::test]
async fn given_a_restart_when_asked_again_then_every_answered_voucher_is_there_and_reservations_are_not() {
    let house = House::new().await;
    house.pay(0, 500, 500).await;
    let open_call = house.call(1, 300, 300);
    house.post("/verify", &open_call).await;
    let house = house.restart().await;
    assert_eq!(house.charged(0).await, "500");
    let (_, settled) = house.post("/settle", &house.call(0, 500, 500)).await;
    assert_eq!(settled["success"], json!(true), "the same voucher, the same answer");
    assert_eq!(house.reason("/settle", &open_call).await, "no_reservation");
    house.pay(1, 300, 300).await;
    house.pay(0, 900, 400).await;
}

#[tokio::test]
async fn given_a_disk_that_fails_when_a_call_is_settled_then_it_is_not_answered_and_the_facilitator_ends() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vouchers.db");
    let (store, broken) = FaultyStore::new(SqliteStore::open(&file).unwrap());
    let house = House::over(|_| {}, Box::new(store), folder).await;
    house.pay(0, 500, 500).await;
    let call = house.call(0, 900, 400);
    house.post("/verify", &call).await;
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let (status, refusal) = house.post("/settle", &call).await;
    assert_eq!((status, &refusal["error"]), (503, &json!("store_unavailable")));
    let House { facilitator, config, .. } = house;
    let ended = facilitator.stopped().await.unwrap_err();
    assert!(ended.to_string().contains("input/output error"), "{ended}");
    let mut store = SqliteStore::open(config.database.path().unwrap()).unwrap();
    let stored = tallybook_store::VoucherStore::load(&mut store).unwrap();
    assert_eq!(stored.channels[0].charged, Amount::new(500));
}

#[tokio::test]
async fn given_calls_under_way_when_shut_down_then_they_are_finished_and_nothing_new_is_taken() {
    let house = House::with(|config| config.limits.drain_seconds = 30).await;
    let call = house.call(0, 500, 500);
    house.post("/verify", &call).await;
    house.facilitator.drain_token().cancel();
    let mut answer = json!({});
    for _ in 0..100 {
        answer = house.get("/health").await.1;
        if answer["status"] == json!("draining") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(answer["status"], json!("draining"));
    let (status, refusal) = house.post("/verify", &house.call(1, 500, 500)).await;
    assert_eq!((status, &refusal["error"]), (503, &json!("draining")));
    let (_, settled) = house.post("/settle", &call).await;
    assert_eq!(settled["success"], json!(true));
    house.facilitator.shutdown().await.unwrap();
    let mut store = SqliteStore::open(house.config.database.path().unwrap()).unwrap();
    let stored = tallybook_store::VoucherStore::load(&mut store).unwrap();
    assert_eq!(stored.channels[0].charged, Amount::new(500));
}
