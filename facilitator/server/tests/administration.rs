//! What administrators may, what is recorded for auditors, and what others may make the sponsor pay.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use house::{House, answer};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tallybook_facilitator::{Config, Failure, NoBackup, Token, backup};
use tallybook_ledger::{Change, Expense};
use tallybook_rules::Amount;
use tallybook_store::{SqliteStore, VoucherStore};
use tallybook_wire::{Asked, AuditChain, AuditLine, ForwardRequest, ForwardedVoucher, Key, voucher_hash};

const ADMIN: &str = "an-admin-token-of-many-chars";
const ACCESS: &str = "an-access-token-of-many-chars";

async fn administered() -> House {
    House::with(|config| {
        config.admin_token = Some(Token::new(ADMIN));
        config.audit_log = Some(config.database.path().unwrap().with_file_name("audit.jsonl"));
    })
    .await
}

async fn administer(house: &House, act: &str) -> Value {
    let (status, view) = answer(house.http.post(house.url(act)).bearer_auth(ADMIN)).await;
    assert_eq!(status, 200, "{view}");
    view
}

#[tokio::test]
async fn given_no_admin_token_when_anybody_administers_then_it_is_refused_with_what_to_set() {
    let house = House::with(|config| config.access_token = Some(Token::new(ACCESS))).await;
    for act in ["/admin/pause", "/admin/resume", "/admin/settle"] {
        let (status, refusal) = answer(house.http.post(house.url(act)).bearer_auth(ACCESS)).await;
        assert_eq!((status, &refusal["error"]), (403, &json!("no_administration")));
        assert!(refusal["message"].as_str().unwrap().contains("admin_token"), "{refusal}");
    }
}

#[tokio::test]
async fn given_an_admin_token_when_another_is_shown_then_nothing_is_told_or_done_and_it_opens_the_rest_too() {
    let house = House::with(|config| {
        (config.access_token, config.admin_token) = (Some(Token::new(ACCESS)), Some(Token::new(ADMIN)));
    })
    .await;
    for shown in ["", ACCESS, "an-admin-token-of-many-char"] {
        let (status, refusal) = answer(house.http.get(house.url("/admin")).bearer_auth(shown)).await;
        assert_eq!((status, &refusal["error"]), (401, &json!("unauthorized")), "{shown}");
        assert_eq!(answer(house.http.post(house.url("/admin/pause")).bearer_auth(shown)).await.0, 401);
    }
    assert_eq!(answer(house.http.get(house.url("/income")).bearer_auth(ADMIN)).await.0, 200);
    let (status, view) = answer(house.http.get(house.url("/admin")).bearer_auth(ADMIN)).await;
    assert_eq!((status, &view["paused"]), (200, &json!(false)), "nobody has paused it");
}

#[tokio::test]
async fn given_a_pause_when_calls_come_then_no_new_one_is_taken_and_those_begun_are_charged() {
    let house = administered().await;
    let begun = house.call(0, 500, 500);
    house.post("/verify", &begun).await;
    assert_eq!(administer(&house, "/admin/pause").await["paused"], json!(true));
    let (status, refusal) = house.post("/verify", &house.call(1, 500, 500)).await;
    assert_eq!((status, &refusal["error"]), (503, &json!("draining")));
    assert_eq!(house.post("/settle", &begun).await.1["success"], json!(true));
    assert_eq!(administer(&house, "/admin/resume").await["paused"], json!(false));
    house.pay(1, 500, 500).await;
}

#[tokio::test]
async fn given_claims_that_are_not_due_when_an_administrator_settles_then_they_are_planned_at_once() {
    let house = administered().await;
    house.pay(0, 500, 500).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(house.get("/batches").await.1, json!({"batches": []}), "a tick has passed, and nothing is due");
    administer(&house, "/admin/settle").await;
    let planned = async {
        loop {
            let (_, listed) = house.get("/batches").await;
            if let Some(batch) = listed["batches"].get(0) {
                return batch["claimed"].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), planned).await.unwrap(), json!("500"));
}

/// The lines of a record, which is whole, once there are so many: they are written behind the answers.
async fn record(path: &Path, lines: usize) -> Vec<AuditLine> {
    let text = async {
        loop {
            let text = std::fs::read_to_string(path).unwrap();
            if text.lines().count() >= lines && text.ends_with('\n') {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let text = tokio::time::timeout(Duration::from_secs(10), text).await.unwrap();
    let mut chain = AuditChain::default();
    text.lines().map(|line| chain.check(line).unwrap()).collect()
}

#[tokio::test]
async fn given_a_record_when_payments_and_acts_are_answered_then_each_has_its_line_and_no_signature_stands_in_it() {
    let house = administered().await;
    house.pay(0, 500, 500).await;
    assert_eq!(house.reason("/verify", &house.call(0, 500, 500)).await, "voucher_used");
    let failed = house.call(1, 300, 300);
    house.post("/verify", &failed).await;
    house.post("/release", &failed).await;
    house.post("/release", &failed).await;
    let forwarded = ForwardRequest {
        book: Key(house.chain.book_address.to_bytes()),
        vouchers: vec![ForwardedVoucher { voucher: house.voucher(1, 900).into(), charged: Amount::new(900) }],
        sold: Vec::new(),
    };
    house.post_raw("/vouchers", serde_json::to_vec(&forwarded).unwrap()).await;
    administer(&house, "/admin/pause").await;
    let house = house.restart().await;
    house.pay(0, 700, 200).await;
    let path = house.config.audit_log.clone().unwrap();
    let lines = record(&path, 10).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let number = |amount: Option<Amount>| amount.map(Amount::get);
            let refused = line.refused.as_ref().map_or("", |reason| reason.name());
            (line.asked, number(line.cumulative), number(line.amount), refused)
        })
        .collect();
    assert_eq!(
        told,
        [
            (Asked::Reserve, Some(500), Some(500), ""),
            (Asked::Commit, Some(500), Some(500), ""),
            (Asked::Reserve, Some(500), Some(500), "voucher_used"),
            (Asked::Reserve, Some(300), Some(300), ""),
            (Asked::Release, Some(300), None, ""),
            (Asked::Release, Some(300), None, "no_reservation"),
            (Asked::Forward, Some(900), Some(900), ""),
            (Asked::Pause, None, None, ""),
            (Asked::Reserve, Some(700), Some(200), ""),
            (Asked::Commit, Some(700), Some(200), ""),
        ]
    );
    let voucher: tallybook_wire::Voucher = house.voucher(0, 500).into();
    assert_eq!(lines[1].voucher_hash, Some(voucher_hash(&voucher.signature)), "who holds the voucher finds its line");
    assert_eq!(lines[1].payer, Some(Key([50; 32])));
    assert!(!text.contains(&voucher.signature.to_string()), "a signature stands in the record");
}

#[tokio::test]
async fn given_a_record_that_cannot_be_written_any_more_when_that_is_found_then_the_facilitator_ends() {
    let house = administered().await;
    let path = house.config.audit_log.clone().unwrap();
    std::fs::rename(&path, path.with_extension("moved")).unwrap();
    std::fs::create_dir(&path).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), house.facilitator.stopped()).await.unwrap();
    assert!(matches!(&ended, Err(Failure::Stopped(why)) if why.contains("record of payments")), "{ended:?}");
}

#[tokio::test]
async fn given_two_tokens_while_clients_change_when_either_is_shown_then_it_opens_and_no_third() {
    let both = |one: &str, other: &str| Some(Token::try_from(toml::Value::from(vec![one, other])).unwrap());
    let house = House::with(|config| {
        config.access_token = both(ACCESS, "another-access-token");
        config.admin_token = both("another-admin-token-", ADMIN);
    })
    .await;
    for (shown, income, admin) in [
        (ACCESS, 200, 401),
        ("another-access-token", 200, 401),
        (ADMIN, 200, 200),
        ("another-admin-token-", 200, 200),
        ("an-access-token-of-man", 401, 401),
        ("", 401, 401),
    ] {
        let status = async |path: &str| answer(house.http.get(house.url(path)).bearer_auth(shown)).await.0;
        assert_eq!((status("/income").await, status("/admin").await), (income, admin), "{shown}");
    }
}

#[tokio::test]
async fn given_a_facilitator_at_work_when_it_is_asked_for_a_backup_then_the_copy_has_what_it_answered_for() {
    let house = House::with(|config| {
        config.admin_token = Some(Token::new(ADMIN));
        config.backup_folder = Some(config.database.path().unwrap().parent().unwrap().to_owned());
        config.audit_log = Some(config.database.path().unwrap().with_file_name("audit.jsonl"));
    })
    .await;
    house.pay(0, 500, 500).await;
    assert_eq!(answer(house.http.post(house.url("/admin/backup"))).await.0, 401);
    let copy = administer(&house, "/admin/backup").await;
    house.pay(0, 700, 200).await;
    let file = Path::new(copy["file"].as_str().unwrap());
    assert_eq!(copy["bytes"], json!(std::fs::metadata(file).unwrap().len()));
    assert_eq!(SqliteStore::open(file).unwrap().load().unwrap().channels[0].charged, Amount::new(500));
    let lines = record(&house.config.audit_log.clone().unwrap(), 5).await;
    assert_eq!(lines[2].asked, Asked::Backup);
    // And `tallybook-facilitator backup` asks the one that runs; its folder is gone meanwhile, which harms nobody.
    let config = Config { listen: house.facilitator.local_addr(), ..house.config.clone() };
    std::fs::remove_file(file).unwrap();
    let again = backup(&config).await.unwrap();
    assert!(Path::new(&again.file).is_file());
    let nobody = Config { admin_token: None, ..config.clone() };
    assert!(matches!(backup(&nobody).await, Err(NoBackup::NoToken(_))));
    let stranger = Config { admin_token: Some(Token::new("a-token-of-a-stranger")), ..config.clone() };
    assert!(matches!(backup(&stranger).await, Err(NoBackup::Refused { .. })));
    // When nobody runs, it takes the store itself.
    house.facilitator.shutdown().await.unwrap();
    let alone = backup(&config).await.unwrap();
    assert_eq!(
        SqliteStore::open(Path::new(&alone.file)).unwrap().load().unwrap().channels[0].charged,
        Amount::new(700)
    );
}

#[tokio::test]
async fn given_no_folder_for_backups_when_one_is_asked_for_then_it_is_refused_with_what_to_set() {
    let house = administered().await;
    let (status, refusal) = answer(house.http.post(house.url("/admin/backup")).bearer_auth(ADMIN)).await;
    assert_eq!((status, &refusal["error"]), (403, &json!("no_backups")));
    assert!(refusal["message"].as_str().unwrap().contains("backup_folder"), "{refusal}");
}

#[tokio::test]
async fn given_what_others_made_the_sponsor_pay_today_when_it_starts_again_then_that_still_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = SqliteStore::open(&folder.path().join("vouchers.db")).unwrap();
    let spent = |signature: u8, expense, ago: i64| {
        let (signature, at) = ([signature; 64], tallybook_sequencer::clock() - ago);
        Change::Spent { signature, book: [1; 32], expense, lamports: 10_000, at }
    };
    let day = 86_400;
    store
        .commit(&[
            spent(1, Expense::Deposits, 10),
            spent(2, Expense::Refunds, day - 100),
            spent(3, Expense::Deposits, day + 100),
            spent(4, Expense::Claims, 10),
        ])
        .unwrap();
    let house = House::over(|config| config.admin_token = Some(Token::new(ADMIN)), Box::new(store), folder).await;
    let (_, view) = answer(house.http.get(house.url("/admin")).bearer_auth(ADMIN)).await;
    let limit = house.config.limits.sponsored_lamports_per_day;
    assert_eq!(view, json!({"paused": false, "sponsoredLamports": 20_000, "sponsoredLamportsPerDay": limit}));
}
