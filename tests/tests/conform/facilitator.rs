use crate::proxy::{Answer, Asked, Fault, Proxy};
use crate::{Wallet, conform, expect_broken, stage};
use anyhow::Result;
use http::StatusCode;
use serde_json::{Value, json};
use tallybook_cli::conform::report::{Outcome, Report};
use tallybook_cli::demo::Stage;
use tallybook_cli::keys;

/// Checks the facilitator of a stage through a proxy with this fault, with money.
async fn checked(stage: &Stage, fault: Fault) -> Result<Report> {
    let (proxy, wallet) = (Proxy::before(&stage.facilitator(), fault).await?, Wallet::at(&stage.ground).await?);
    let operator = wallet.file("operator.json");
    keys::write(operator.as_ref(), &stage.ground.operator)?;
    let token = wallet.file("token");
    write_secret(&token, "s3cret")?;
    let book = stage.ground.book.address.to_string();
    let mut words = vec!["facilitator", proxy.url(), "--book", &book, "--pay", "--operator", &operator];
    words.extend(["--access-token", &token]);
    words.extend(wallet.options.iter().map(String::as_str));
    conform(&words).await
}

/// A file that only its owner may read.
fn write_secret(path: &str, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// As a facilitator with an access token answers.
fn with_token(asked: &Asked, answer: &mut Answer) {
    let guarded = ["/verify", "/settle", "/release", "/vouchers"].contains(&asked.path.as_str());
    if guarded && asked.headers.get("authorization").is_none_or(|shown| shown != "Bearer s3cret") {
        answer.status = StatusCode::UNAUTHORIZED;
        answer.json = json!({ "error": "unauthorized", "message": "" });
    }
}

fn is_voucher(asked: &Asked) -> bool {
    asked.json["paymentPayload"]["payload"]["type"] == "voucher"
}

fn is_deposit(asked: &Asked) -> bool {
    asked.json["paymentPayload"]["payload"]["type"] == "deposit"
}

/// Says that a payment holds which was refused for this reason.
fn accepts(reason: &'static str) -> Fault {
    Box::new(move |asked, answer| {
        if answer.json["invalidReason"] == reason {
            answer.json = json!({ "isValid": true, "payer": asked.json["paymentRequirements"]["payTo"] });
        }
        if answer.json["errorReason"] == reason {
            answer.json["success"] = true.into();
            answer.json["payer"] = asked.json["paymentRequirements"]["payTo"].clone();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn given_our_facilitator_when_checked_then_everything_is_as_specified() -> Result<()> {
    let stage = stage().await?;
    // With money, through a door that wants a token
    let report = checked(&stage, Box::new(with_token)).await?;
    assert_eq!((report.broken_names(), report.not_done), (vec![], 0), "{report}");
    assert!(report.held > 70, "{report}");
    // And without any of it, then it is said what was left out
    let report = conform(&["facilitator", &stage.facilitator()]).await?;
    assert!(report.conforms(), "{report}");
    let left_out = report.checks.iter().filter(|check| check.outcome == Outcome::NotDone);
    assert_eq!(left_out.count(), 3, "{report}");
    // And nobody there is an error, not a report
    assert!(conform(&["facilitator", "http://127.0.0.1:9"]).await.is_err());
    stage.shut_down().await
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_facilitator_with_a_fault_when_checked_without_money_then_it_is_found() -> Result<()> {
    let stage = stage().await?;
    let book = stage.ground.book.address.to_string();
    let faults: Vec<(&str, &str, Fault)> = vec![
        (
            "GET /supported",
            "no sponsor",
            at("/supported", |json| drop(json.pointer_mut("/kinds/0/extra").map(|extra| extra["feePayer"].take()))),
        ),
        (
            "its program is the pinned one",
            "another program",
            at("/supported", |json| json["kinds"][0]["extra"]["programId"] = json!("11111111111111111111111111111111")),
        ),
        ("its sponsor is among the signers", "no signers", at("/supported", |json| json["signers"] = json!({}))),
        ("GET /health", "another word", at("/health", |json| json["status"] = json!("fine"))),
        (
            "the offer's terms",
            "another sponsor",
            Box::new(|asked, answer| {
                if asked.path.ends_with("/offer") && answer.status.is_success() {
                    answer.json["extra"]["feePayer"] = answer.json["payTo"].clone();
                }
            }),
        ),
        (
            "GET /books/{book}/offer",
            "an amount as a number",
            Box::new(|asked, answer| {
                if asked.path.ends_with("/offer") && answer.status.is_success() {
                    answer.json["extra"]["minDeposit"] = 1.into();
                }
            }),
        ),
        ("a channel that there is not", "200", named("unknown_channel", |answer| answer.status = StatusCode::OK)),
        (
            "POST /settle: a body that is no JSON",
            "500",
            named("malformed_payload", |answer| answer.status = StatusCode::INTERNAL_SERVER_ERROR),
        ),
        (
            "POST /release: x402Version 99",
            "another name",
            named("unsupported_scheme", |answer| answer.json["error"] = json!("bad_version")),
        ),
        (
            "POST /verify: a body above 65,536 bytes",
            "taken",
            named("request_too_large", |answer| answer.status = StatusCode::OK),
        ),
        ("POST /verify: a channel that there is not", "taken", accepts("unknown_channel")),
        ("POST /settle: a channel that there is not", "taken", accepts("unknown_channel")),
        ("POST /verify: another network", "taken", accepts("invalid_network")),
        ("POST /verify: accepted is for another price than required", "taken", accepts("wrong_price")),
        ("POST /verify: accepted is for another payee than required", "taken", accepts("requirements_mismatch")),
        ("POST /settle: it cost more than was accepted", "taken", accepts("charge_above_ceiling")),
        ("POST /release: no such reservation", "released", at("/release", |json| json["released"] = true.into())),
    ];
    for (name, fault, spoil) in faults {
        let proxy = Proxy::before(&stage.facilitator(), spoil).await?;
        let report = conform(&["facilitator", proxy.url(), "--book", &book]).await?;
        expect_broken(&report, &[name], fault);
    }
    stage.shut_down().await
}

/// A fault in what this path answers.
fn at(path: &'static str, mut spoil: impl FnMut(&mut Value) + Send + 'static) -> Fault {
    Box::new(move |asked, answer| {
        if asked.path == path {
            spoil(&mut answer.json);
        }
    })
}

/// A fault in refusals of this name.
fn named(name: &'static str, mut spoil: impl FnMut(&mut Answer) + Send + 'static) -> Fault {
    Box::new(move |_, answer| {
        if answer.json["error"] == name {
            spoil(answer);
        }
    })
}

/// A fault in the answers to payments of a kind, beside the access token that it wants.
fn paying(mut spoil: impl FnMut(&Asked, &mut Answer) + Send + 'static) -> Fault {
    Box::new(move |asked, answer| {
        with_token(asked, answer);
        if answer.status.is_success() {
            spoil(asked, answer);
        }
    })
}

/// Faults by what finds them, and in words.
type Faults = Vec<(&'static [&'static str], &'static str, Fault)>;

/// Takes what must be refused.
fn too_kind() -> Faults {
    vec![
        (&["POST /verify without the access token"], "no token is asked for", Box::new(|_, _| ())),
        (&["POST /verify: a second call meanwhile"], "two calls at once", accepts("channel_busy")),
        (
            &["POST /settle without a reservation", "POST /settle after the release"],
            "commits what was not reserved",
            accepts("no_reservation"),
        ),
        (&["POST /verify: a voucher that has paid"], "pays twice", accepts("voucher_used")),
        (
            &["POST /verify: signed by another key", "POST /verify: a signature with s + L"],
            "verifies nothing",
            accepts("bad_signature"),
        ),
        (&["POST /verify: more than the deposit"], "gives credit", accepts("deposit_exceeded")),
        (
            &["POST /verify: a deposit, the payer has not signed"],
            "opens for nobody",
            accepts("payer_signature_missing"),
        ),
        (&["a channel that leaves takes no more calls"], "goes on", accepts("channel_closing")),
    ]
}

/// Says something else than what was done.
fn untrue() -> Faults {
    let charged = "/extra/channelState/chargedCumulativeAmount";
    let (mut commits, mut deposits) = (0, 0);
    vec![
        (
            &["POST /settle: the same again"],
            "charges the same commit twice",
            paying(move |asked, answer| {
                if asked.path == "/settle" && is_voucher(asked) && answer.json["success"] == true {
                    commits += 1;
                    if commits == 2 {
                        *answer.json.pointer_mut(charged).unwrap() = json!("20");
                    }
                }
            }),
        ),
        (
            &["the correction of more than charged + amount"],
            "no voucher is shown",
            paying(|_, answer| {
                if answer.json["invalidReason"] == "wrong_cumulative" {
                    answer.json["extra"]["voucherState"] = Value::Null;
                }
            }),
        ),
        (
            &["the correction of more than charged + amount"],
            "claims more than was signed",
            paying(move |_, answer| {
                if answer.json["invalidReason"] == "wrong_cumulative" && answer.json.pointer(charged).is_some() {
                    *answer.json.pointer_mut(charged).unwrap() = json!("11");
                }
            }),
        ),
        (
            &["POST /settle below the ceiling"],
            "charges the ceiling",
            paying(move |asked, answer| {
                if asked.json["paymentPayload"]["accepted"]["amount"] != asked.json["paymentRequirements"]["amount"]
                    && answer.json["success"] == true
                {
                    *answer.json.pointer_mut(charged).unwrap() = json!("20");
                }
            }),
        ),
        (&["POST /release again"], "releases what is not there", at("/release", |json| json["released"] = true.into())),
        (
            &["POST /settle: the same deposit again"],
            "another transaction",
            paying(move |asked, answer| {
                if asked.path == "/settle" && is_deposit(asked) {
                    deposits += 1;
                    if deposits == 2 {
                        answer.json["transaction"] =
                            json!("1111111111111111111111111111111111111111111111111111111111111111");
                    }
                }
            }),
        ),
        (
            &["GET /channels/{id}", "a released call is not charged"],
            "charges the deposit's call at once",
            Box::new(|asked, answer| {
                if asked.path.starts_with("/channels/") && answer.status.is_success() {
                    answer.json["charged"] = json!("7");
                }
            }),
        ),
        (
            &["the closing transaction"],
            "something else to sign",
            paying(|asked, answer| {
                // The deposit's own transaction is no refund
                if asked.json["paymentPayload"]["payload"]["type"] == "refund" && answer.json["isValid"] == true {
                    answer.json["extra"]["transaction"] = json!("AQ==");
                }
            }),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_facilitator_with_a_fault_when_checked_with_money_then_it_is_found() -> Result<()> {
    let stage = stage().await?;
    for (names, fault, spoil) in too_kind().into_iter().chain(untrue()) {
        let report = checked(&stage, spoil).await;
        match report {
            Ok(report) => expect_broken(&report, names, fault),
            Err(error) => panic!("{fault}: {error:#}"),
        }
    }
    stage.shut_down().await
}
