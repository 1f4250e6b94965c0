//! Secrets go in and never come out: not in logs at their loudest, not in metrics, not in what is answered.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what it expects"
)]

mod house;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use house::{House, answer};
use std::io;
use std::sync::{Arc, Mutex};
use tallybook_facilitator::Token;
use tallybook_rules::signing::SigningKey;
use tracing_subscriber::fmt::MakeWriter;

/// Everything that is logged.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Said {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The ways in which bytes come to stand in a text.
fn spellings(bytes: &[u8]) -> Vec<String> {
    let list = format!("{bytes:?}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let (tight, inner) = (list.replace(' ', ""), list.trim_matches(['[', ']']).to_owned());
    vec![bs58::encode(bytes).into_string(), STANDARD.encode(bytes), hex.to_uppercase(), hex, tight, inner]
}

#[tokio::test]
async fn given_secrets_when_everything_is_logged_and_everything_goes_wrong_then_none_is_told_to_anybody() {
    let said = Said::default();
    let loudest = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(said.clone());
    loudest.try_init().unwrap();
    let (access, admin) = ("access-token-that-is-a-secret", "admin-token-that-is-a-secret");
    let house = House::with(|config| {
        (config.access_token, config.admin_token) = (Some(Token::new(access)), Some(Token::new(admin)));
    })
    .await;
    let voucher = house.voucher(0, 500);
    let mut told = String::new();
    for (path, request) in [
        ("/verify", house.call(0, 500, 500)),
        ("/settle", house.call(0, 500, 500)),
        ("/verify", house.call(0, 500, 500)),
        ("/settle", house.call(0, 9_900, 400)),
        ("/release", house.call(1, 500, 500)),
    ] {
        let body = serde_json::to_vec(&request).unwrap();
        for token in [access, admin, "another-token-altogether"] {
            let (_, said) = answer(house.http.post(house.url(path)).bearer_auth(token).body(body.clone())).await;
            told.push_str(&said.to_string());
        }
        let (_, refusal) = answer(house.http.post(house.url(path)).bearer_auth(access).body(body[1..].to_vec())).await;
        told.push_str(&refusal.to_string());
    }
    for path in ["/admin", "/income", "/health", "/supported", "/batches", "/nowhere"] {
        let response = house.http.get(house.url(path)).bearer_auth(admin).send().await.unwrap();
        told.push_str(&response.text().await.unwrap());
    }
    told.push_str(&house.http.get(house.url("/metrics")).send().await.unwrap().text().await.unwrap());
    told.push_str(&format!("{:?}", house.config));
    house.facilitator.shutdown().await.unwrap();

    let logged = String::from_utf8(said.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("TRACE") && logged.contains("/verify"), "nothing was logged: the test sees nothing");
    let sponsor = SigningKey::from_bytes(&[5; 32]);
    let mut secrets =
        [&sponsor.to_bytes()[..], &sponsor.to_keypair_bytes()].into_iter().flat_map(spellings).collect::<Vec<_>>();
    secrets.extend([access.to_owned(), admin.to_owned()]);
    for secret in &secrets {
        assert!(!logged.contains(secret.as_str()), "a secret was logged");
        assert!(!told.contains(secret.as_str()), "a secret was told");
    }
    for signature in spellings(&voucher.signature) {
        assert!(!logged.contains(&signature), "a voucher's signature was logged: with it anybody can claim");
    }
}
