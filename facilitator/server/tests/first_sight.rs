//! A start with more pages than are read at once: what is answered before all of them were read.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use house::{House, StillChain, config};
use serde_json::json;
use std::time::Duration;
use tallybook_facilitator::Facilitator;
use tallybook_ledger::{Change, ChannelRecord, LastCall, Place};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_store::{MemoryStore, SqliteStore, VoucherStore};
use tallybook_wire::{ForwardRequest, ForwardedVoucher, Key};

/// A book of 103 pages, of which only the oldest, number 0, stands: it is not among the first hundred that are read. The
/// channel in slot 0 has paid 400 by a voucher of 400; the node does not give several pages at once.
async fn house() -> House {
    let mut chain = StillChain::new();
    chain.book.next_page = 103;
    (0..3).for_each(|slot| drop(chain.open(slot).to_vec()));
    chain.state.lock().unwrap().hides_several = true;
    start(chain, true).await
}

async fn start(chain: StillChain, is_whole: bool) -> House {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &chain.book_address);
    // Nothing is taken on a deposit that is not known to be final.
    config.limits.unfinalized_credit = 0;
    let mut store = SqliteStore::open(config.database.path().unwrap()).unwrap();
    let (voucher, slot) = {
        let state = chain.state.lock().unwrap();
        let at = state.slots[0];
        let id = tallybook_rules::signing::channel_id(&state.header.page_domain, 0, 1, &at.payer, &at.signer);
        (SignedVoucher::sign(&house::key(0), id, Amount::new(400)), at)
    };
    let stored = if is_whole { voucher } else { SignedVoucher { cumulative: Amount::new(401), ..voucher } };
    let last = LastCall { cumulative: stored.cumulative, signature: stored.signature, charge: Some(stored.cumulative) };
    store
        .commit(&[Change::Channel(ChannelRecord {
            place: Place { page: chain.page_address.to_bytes(), slot: 0, generation: 1 },
            payer: slot.payer,
            signer: slot.signer,
            voucher: stored,
            charged: stored.cumulative,
            last: Some(last),
            unsettled_since: 1,
            leaving_since: 0,
        })])
        .unwrap();
    let facilitator = Facilitator::start_with(config.clone(), chain.clone(), Box::new(store)).await.unwrap();
    // The offer of a house whose first page is read: this one has none to offer yet.
    let offer = House::over(|_| {}, Box::new(MemoryStore::default()), tempfile::tempdir().unwrap()).await.offer;
    House { chain, folder, config, facilitator, http: reqwest::Client::new(), offer }
}

/// `unreadPages` of `/health`.
async fn unread(house: &House) -> serde_json::Value {
    let (status, health) = house.get("/health").await;
    assert_eq!(status, 200);
    health["unreadPages"].clone()
}

#[tokio::test]
async fn given_pages_that_were_not_read_yet_when_somebody_pays_then_its_own_page_is_read_first() {
    let house = house().await;
    assert_eq!(unread(&house).await, json!(3));
    // What was closed on chain meanwhile is known before anything is taken.
    house.chain.request_close(1);
    let stranger = house.call(2, 100, 100);
    let (status, answer) = house.post("/verify", &stranger).await;
    assert_eq!((status, &answer["error"]), (503, &json!("chain_unavailable")), "not known, and not unknown: {answer}");
    let (status, answer) = house.get(&format!("/channels/{}", Key(house.id(2)))).await;
    assert_eq!((status, &answer["error"]), (503, &json!("chain_unavailable")), "{answer}");
    let forwarded = ForwardedVoucher { voucher: house.voucher(2, 100).into(), charged: Amount::new(100) };
    let forward =
        ForwardRequest { book: Key(house.chain.book_address.to_bytes()), vouchers: vec![forwarded], sold: Vec::new() };
    let (status, answer) = house.post_raw("/vouchers", serde_json::to_vec(&forward).unwrap()).await;
    assert_eq!((status, &answer["taken"][0]["error"]), (200, &json!("chain_unavailable")), "{answer}");

    house.pay(0, 500, 100).await;
    assert_eq!(house.charged(0).await, "500", "it goes on where it was");
    assert_eq!(unread(&house).await, json!(3), "only its own page was read");
    assert_eq!(house.reason("/verify", &house.call(1, 100, 100)).await, "channel_closing");
    house.pay(2, 100, 100).await;
    house.facilitator.shutdown().await.unwrap();
}

#[tokio::test]
async fn given_pages_that_were_not_read_yet_when_the_node_gives_them_then_what_none_shows_is_unknown() {
    let house = house().await;
    assert_eq!(unread(&house).await, json!(3));
    house.chain.state.lock().unwrap().hides_several = false;
    while !unread(&house).await.is_null() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    house.pay(2, 100, 100).await;
    let nobody = Key([8; 32]);
    let (status, answer) = house.get(&format!("/channels/{nobody}")).await;
    assert_eq!((status, &answer["error"]), (404, &json!("unknown_channel")), "{answer}");
    let (status, offer) = house.get(&format!("/books/{}/offer", house.chain.book_address)).await;
    assert_eq!((status, &offer["freeSlots"]), (200, &json!(1)), "{offer}");
    house.facilitator.shutdown().await.unwrap();
}

#[tokio::test]
async fn given_a_damaged_voucher_in_a_page_that_was_not_read_yet_when_it_is_read_then_the_facilitator_ends() {
    let mut chain = StillChain::new();
    chain.book.next_page = 103;
    chain.open(0);
    let house = start(chain, false).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), house.facilitator.stopped()).await.unwrap();
    assert!(ended.unwrap_err().to_string().contains("damaged"));
}
