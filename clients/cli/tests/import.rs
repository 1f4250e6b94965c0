//! `tallybook vouchers import`, as its user runs it, into a real server.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a test says what it expects")]

#[path = "../../../facilitator/store/tests/server/mod.rs"]
mod server;

use serde_json::Value;
use server::Server;
use std::process::{Command, Output};
use tallybook_ledger::{Change, ChannelRecord, Place};
use tallybook_rules::Amount;
use tallybook_rules::signing::SignedVoucher;
use tallybook_store::{SqliteStore, VoucherStore};

fn change(channel: u8, cumulative: u64) -> Change {
    let cumulative = Amount::new(cumulative);
    Change::Channel(ChannelRecord {
        place: Place { page: [9; 32], slot: channel, generation: 2 },
        payer: [1; 32],
        signer: [2; 32],
        voucher: SignedVoucher { channel_id: [channel; 32], cumulative, signature: [3; 64] },
        charged: cumulative,
        last: None,
        unsettled_since: 1,
        leaving_since: 0,
    })
}

fn tallybook(arguments: &[&str], url: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tallybook"));
    let ran = program.args(arguments).env("DATABASE_URL", url).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(!said.contains("pass%3A") && !said.contains(server::PASSWORD), "{said}");
    ran
}

#[test]
fn given_a_facilitators_file_when_imported_then_both_hold_the_same_until_one_goes_on() {
    let server = Server::start();
    let url = server.database();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vouchers.db");
    let file = path.to_str().unwrap();
    let mut store = SqliteStore::open(&path).unwrap();
    store.commit(&[change(1, 100), change(2, 200), Change::Over { channel_id: [2; 32] }]).unwrap();
    let import = ["vouchers", "import", "--from", file, "--to", "env:DATABASE_URL"];
    let in_use = tallybook(&import, &url);
    assert!(!in_use.status.success() && String::from_utf8_lossy(&in_use.stderr).contains("in use"), "{in_use:?}");
    drop(store);

    let json = |arguments: &[&str]| -> Value {
        let ran = tallybook(arguments, &url);
        assert!(ran.status.success(), "{ran:?}");
        serde_json::from_slice(&ran.stdout).unwrap()
    };
    let imported = json(&[&import[..], &["--json"]].concat());
    assert_eq!((&imported["outcome"], &imported["channels"]), (&"imported".into(), &2.into()));
    let checked = json(&[&import[..], &["--check", "--json"]].concat());
    assert_eq!((&checked["outcome"], &checked["checksum"]), (&"same".into(), &imported["checksum"]));
    let twice = tallybook(&import, &url);
    assert!(!twice.status.success() && String::from_utf8_lossy(&twice.stderr).contains("not empty"), "{twice:?}");

    // What a channel that is not over is worth can be taken out of it, too.
    let exported = tallybook(&["vouchers", "export", "env:DATABASE_URL"], &url);
    let lines = String::from_utf8(exported.stdout).unwrap();
    assert!(lines.lines().count() == 1 && lines.contains("\"charged\":\"100\""), "{lines}");

    SqliteStore::open(&path).unwrap().commit(&[change(1, 101)]).unwrap();
    let differs = tallybook(&[&import[..], &["--check"]].concat(), &url);
    assert!(!differs.status.success(), "{differs:?}");
    assert!(String::from_utf8_lossy(&differs.stderr).contains("do not hold the same"), "{differs:?}");

    let none = folder.path().join("none.db");
    let missing =
        tallybook(&["vouchers", "import", "--from", none.to_str().unwrap(), "--to", "env:DATABASE_URL"], &url);
    assert!(!missing.status.success() && !none.exists(), "a missing file is not made");
}
