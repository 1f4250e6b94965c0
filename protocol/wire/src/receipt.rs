//! Signed offers and receipts: the extension `offer-receipt` of x402, as JWS (RFC 7515) signed with Ed25519 (RFC 8037).
//!
//! A signature says which key made the statement. Whether that key speaks for the server is for its reader to know: it is
//! the payee's or the operator's of the book, both of which stand on chain, or one that the server's domain names.

use crate::{Key, Network, Signature, read_header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use core::fmt;
use ed25519_dalek::{Signature as Ed25519, Signer, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tallybook_rules::Rejection;
use tallybook_rules::signing::SigningKey;

/// The extension's name in `extensions`.
pub const OFFER_RECEIPT: &str = "offer-receipt";
/// The longest signed statement that is read, in characters.
pub const MAX_STATEMENT_CHARS: usize = 8_192;
/// The version of what is signed.
const VERSION: u8 = 1;
/// Marks an Ed25519 key in a `did:key` (multicodec `ed25519-pub`, as a varint).
const ED25519_MULTICODEC: [u8; 2] = [0xed, 0x01];

/// The terms of one entry of `accepts`, as a server commits to them. Members stand in the order of their names, so that what
/// is signed is canonical JSON (RFC 8785).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OfferTerms {
    /// The price, in base units.
    pub amount: String,
    /// The token.
    pub asset: String,
    /// The cluster.
    pub network: String,
    /// Who is paid.
    pub pay_to: String,
    /// What is sold.
    pub resource_url: String,
    /// The scheme.
    pub scheme: String,
    /// 1.
    pub version: u8,
}

impl OfferTerms {
    /// Those of an entry of `accepts`; none of one that misses a member.
    pub fn of(accept: &Value, resource_url: &str) -> Option<Self> {
        let member = |name: &str| accept.get(name)?.as_str().map(str::to_owned);
        Some(Self {
            amount: member("amount")?,
            asset: member("asset")?,
            network: member("network")?,
            pay_to: member("payTo")?,
            resource_url: resource_url.to_owned(),
            scheme: member("scheme")?,
            version: VERSION,
        })
    }
}

/// What a server confirms of a call that was paid and served. Members in the order of their names, as in [`OfferTerms`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// When it was written, in Unix seconds.
    pub issued_at: u64,
    /// The cluster.
    pub network: Network,
    /// Who paid.
    pub payer: Key,
    /// What was bought.
    pub resource_url: String,
    /// The transaction, where the call had one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<Signature>,
    /// 1.
    pub version: u8,
}

impl Receipt {
    /// A receipt of today's version.
    pub const fn new(
        network: Network,
        payer: Key,
        resource_url: String,
        transaction: Option<Signature>,
        issued_at: u64,
    ) -> Self {
        Self { issued_at, network, payer, resource_url, transaction, version: VERSION }
    }
}

/// A key that offers and receipts are signed with.
#[derive(Clone)]
pub struct ReceiptKey {
    key: SigningKey,
    /// The head of every statement, in base64url.
    head: String,
}

/// Without the key.
impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiptKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl ReceiptKey {
    /// Signs under the name `did:key:…`, which is the public key itself.
    pub fn new(key: SigningKey) -> Self {
        let name = did_key(&key.verifying_key().to_bytes());
        let id = format!("did:key:{name}#{name}");
        Self::named(key, &id)
    }

    /// Signs under another name, such as `did:web:api.example.com#key-1`, for readers who look it up there. The public key
    /// goes along.
    pub fn named(key: SigningKey, id: &str) -> Self {
        let public = URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes());
        let head = json!({"alg": "EdDSA", "jwk": {"crv": "Ed25519", "kty": "OKP", "x": public}, "kid": id});
        Self { key, head: URL_SAFE_NO_PAD.encode(head.to_string()) }
    }

    /// The public key.
    pub fn public(&self) -> Key {
        Key(self.key.verifying_key().to_bytes())
    }

    /// Commits to terms.
    pub fn sign_offer(&self, terms: &OfferTerms) -> Statement {
        self.sign(terms)
    }

    /// Confirms a paid call.
    pub fn sign_receipt(&self, receipt: &Receipt) -> Statement {
        self.sign(receipt)
    }

    fn sign(&self, payload: &impl Serialize) -> Statement {
        // Structs of strings and numbers are always JSON.
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload).unwrap_or_default());
        let signed = format!("{}.{payload}", self.head);
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes()).to_bytes());
        Statement { format: Format::Jws, signature: format!("{signed}.{signature}") }
    }
}

/// A signed offer or receipt, as it travels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// `jws`.
    pub format: Format,
    /// The statement itself with its signature: JWS compact serialization.
    pub signature: String,
}

/// How a statement is signed: of the extension's two ways, the one that works with Solana's keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JWS.
    Jws,
}

/// What a statement says, and whose key said it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stated<T> {
    /// What.
    pub what: T,
    /// The key that the signature holds for.
    pub by: Key,
    /// The key's name, as the statement says. A `did:key` is checked against `by`; any other has to be looked up.
    pub id: String,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: String,
    jwk: Option<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
}

impl Statement {
    /// The receipt that a settlement's answer carries, as it stands in a `PAYMENT-RESPONSE` header.
    pub fn in_response(header: &[u8]) -> Option<Self> {
        let mut answer: Value = read_header(header).ok()?;
        let receipt = answer.pointer_mut(&format!("/extensions/{OFFER_RECEIPT}/info/receipt"))?.take();
        serde_json::from_value(receipt).ok()
    }

    /// Reads an offer.
    ///
    /// [`Rejection::MalformedPayload`] for what is no statement of this version, [`Rejection::BadSignature`] for one that its
    /// key did not sign.
    pub fn offer(&self) -> Result<Stated<OfferTerms>, Rejection> {
        let stated: Stated<OfferTerms> = self.open()?;
        if stated.what.version == VERSION { Ok(stated) } else { Err(Rejection::MalformedPayload) }
    }

    /// Reads a receipt; errors as [`Statement::offer`].
    pub fn receipt(&self) -> Result<Stated<Receipt>, Rejection> {
        let stated: Stated<Receipt> = self.open()?;
        if stated.what.version == VERSION { Ok(stated) } else { Err(Rejection::MalformedPayload) }
    }

    fn open<T: DeserializeOwned>(&self) -> Result<Stated<T>, Rejection> {
        if self.signature.len() > MAX_STATEMENT_CHARS {
            return Err(Rejection::RequestTooLarge);
        }
        let (signed, signature) = self.signature.rsplit_once('.').ok_or(Rejection::MalformedPayload)?;
        let (head, payload) = signed.split_once('.').ok_or(Rejection::MalformedPayload)?;
        let head: Head = json_of(head)?;
        let by = head.key()?;
        let signature: [u8; 64] = bytes_of(signature)?.try_into().map_err(|_| Rejection::MalformedPayload)?;
        VerifyingKey::from_bytes(&by.0)
            .and_then(|key| key.verify_strict(signed.as_bytes(), &Ed25519::from_bytes(&signature)))
            .map_err(|_| Rejection::BadSignature)?;
        Ok(Stated { what: json_of(payload)?, by, id: head.kid })
    }
}

impl Head {
    /// The key: the one that its name spells or that goes along, and no other where both are there.
    fn key(&self) -> Result<Key, Rejection> {
        if self.alg != "EdDSA" {
            return Err(Rejection::MalformedPayload);
        }
        let along = self.jwk.as_ref().map(Jwk::key).transpose()?;
        match (spelled_key(&self.kid)?, along) {
            (Some(spelled), Some(along)) if spelled != along => Err(Rejection::BadSignature),
            (Some(key), _) | (None, Some(key)) => Ok(key),
            (None, None) => Err(Rejection::MalformedPayload),
        }
    }
}

impl Jwk {
    fn key(&self) -> Result<Key, Rejection> {
        if self.kty != "OKP" || self.crv != "Ed25519" {
            return Err(Rejection::MalformedPayload);
        }
        bytes_of(&self.x)?.try_into().map(Key).map_err(|_| Rejection::MalformedPayload)
    }
}

/// The key that a `did:key` spells; none for other names.
fn spelled_key(id: &str) -> Result<Option<Key>, Rejection> {
    let Some(rest) = id.strip_prefix("did:key:z") else { return Ok(None) };
    let name = rest.split('#').next().unwrap_or_default();
    let mut bytes = [0; 34];
    let length = bs58::decode(name).onto(&mut bytes).map_err(|_| Rejection::MalformedPayload)?;
    match bytes.strip_prefix(&ED25519_MULTICODEC).and_then(|key| key.try_into().ok()) {
        Some(key) if length == bytes.len() => Ok(Some(Key(key))),
        _ => Err(Rejection::MalformedPayload),
    }
}

/// `z…`: a key in the multibase and multicodec of `did:key`.
fn did_key(key: &[u8; 32]) -> String {
    let mut bytes = ED25519_MULTICODEC.to_vec();
    bytes.extend_from_slice(key);
    format!("z{}", bs58::encode(bytes).into_string())
}

fn bytes_of(text: &str) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Rejection::MalformedPayload)
}

fn json_of<T: DeserializeOwned>(text: &str) -> Result<T, Rejection> {
    serde_json::from_slice(&bytes_of(text)?).map_err(|_| Rejection::MalformedPayload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn receipt() -> Receipt {
        let network = Network::of_genesis(&[3; 32]);
        Receipt::new(network, Key([5; 32]), "https://api.example.com/weather".to_owned(), None, 1_764_000_000)
    }

    #[test]
    fn given_a_receipt_when_it_is_read_then_it_says_what_was_signed_and_by_whom() {
        for signer in [ReceiptKey::new(key()), ReceiptKey::named(key(), "did:web:api.example.com#key-1")] {
            let stated = signer.sign_receipt(&receipt()).receipt().unwrap();
            assert_eq!((stated.what, stated.by), (receipt(), signer.public()));
        }
    }

    /// The test vector of the did:key specification for Ed25519.
    #[test]
    fn given_a_key_of_the_specification_when_it_is_spelled_then_it_is_the_specifications_name() {
        let name = "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
        let key = spelled_key(&format!("did:key:{name}#{name}")).unwrap().unwrap();
        assert_eq!(did_key(&key.0), name);
    }

    #[test]
    fn given_a_statement_when_anything_in_it_is_another_then_it_is_refused() {
        let statement = ReceiptKey::new(key()).sign_receipt(&receipt());
        let with = |at: usize, part: &str| {
            let mut parts: Vec<&str> = statement.signature.split('.').collect();
            parts[at] = part;
            Statement { format: Format::Jws, signature: parts.join(".") }.receipt()
        };
        let other = ReceiptKey::new(SigningKey::from_bytes(&[8; 32])).sign_receipt(&receipt()).signature;
        let other: Vec<&str> = other.split('.').collect();
        assert_eq!(with(0, other[0]), Err(Rejection::BadSignature), "another key");
        assert_eq!(with(2, other[2]), Err(Rejection::BadSignature), "another signature");
        let dearer = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Receipt { issued_at: 1, ..receipt() }).unwrap());
        assert_eq!(with(1, &dearer), Err(Rejection::BadSignature), "another payload");
        let name = did_key(&key().verifying_key().to_bytes());
        let none = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":"did:key:{name}"}}"#));
        assert_eq!(with(0, &none), Err(Rejection::MalformedPayload), "no signature wanted");
        let two = json!({
            "alg": "EdDSA", "kid": format!("did:key:{name}"),
            "jwk": {"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([8; 32])},
        });
        assert_eq!(with(0, &URL_SAFE_NO_PAD.encode(two.to_string())), Err(Rejection::BadSignature), "two keys");
        for garbage in ["", ".", "..", "a.b", "a.b.c"] {
            let statement = Statement { format: Format::Jws, signature: garbage.to_owned() };
            assert!(statement.receipt().is_err(), "{garbage}");
        }
        let long = Statement { format: Format::Jws, signature: "a".repeat(MAX_STATEMENT_CHARS + 1) };
        assert_eq!(long.receipt(), Err(Rejection::RequestTooLarge));
    }

    fn sorted(json: &str) -> String {
        let members: std::collections::BTreeMap<String, Value> = serde_json::from_str(json).unwrap();
        serde_json::to_string(&members).unwrap()
    }

    #[test]
    fn given_terms_when_they_are_signed_then_the_bytes_are_in_the_order_of_their_names() {
        let accept = json!({
            "scheme": "exact", "network": "solana:abc", "amount": "10", "asset": "A", "payTo": "P", "maxTimeoutSeconds": 60,
        });
        let terms = OfferTerms::of(&accept, "https://a.example/x").unwrap();
        let text = serde_json::to_string(&terms).unwrap();
        assert_eq!(text, sorted(&text));
        assert_eq!(ReceiptKey::new(key()).sign_offer(&terms).offer().unwrap().what, terms);
        let text = serde_json::to_string(&receipt()).unwrap();
        assert_eq!(text, sorted(&text));
        assert_eq!(OfferTerms::of(&json!({"scheme": "exact"}), "x"), None);
    }
}
