use crate::Voucher;
use core::fmt;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tallybook_rules::Rejection;

/// The extension of x402 by which a client names its payment, so that a request that is sent twice is done once.
pub const PAYMENT_IDENTIFIER: &str = "payment-identifier";

/// The name that a client gave its payment: 16 to 128 letters, digits, `-` and `_` (x402, `payment-identifier`).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PaymentIdentifier(String);

impl PaymentIdentifier {
    /// The shortest and the longest name, in characters.
    pub const CHARS: core::ops::RangeInclusive<usize> = 16..=128;

    /// Reads a name; [`Rejection::MalformedPayload`] for any other text.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if Self::CHARS.contains(&text.len()) && text.bytes().all(is_good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Rejection::MalformedPayload)
        }
    }

    /// The name of the call that a voucher pays for: the same for as long as the same voucher is sent, and told by nobody
    /// who has not seen it.
    pub fn of(voucher: &Voucher) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tallybook:payment-identifier:v1");
        hash.update(voucher.signature.as_bytes());
        let hex: String = hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("tallybook_{hex}"))
    }

    /// What a 402 says of it: [`PAYMENT_IDENTIFIER`] in `extensions`.
    pub fn declaration(required: bool) -> Value {
        json!({
            "info": { "required": required },
            "schema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "properties": {
                    "required": { "type": "boolean" },
                    "id": {
                        "type": "string",
                        "minLength": Self::CHARS.start(),
                        "maxLength": Self::CHARS.end(),
                        "pattern": "^[A-Za-z0-9_-]+$",
                    },
                },
                "required": ["required"],
            },
        })
    }

    /// The declaration of a 402 with this name added, as a client gives it back.
    pub fn echo(&self, declaration: &Value) -> Value {
        let mut echo = declaration.clone();
        if let Some(info) = echo.get_mut("info").and_then(Value::as_object_mut) {
            info.insert("id".to_owned(), Value::from(self.0.as_str()));
        }
        echo
    }

    /// The name in a payment's `extensions`, if it has one; [`Rejection::MalformedPayload`] for one that is none.
    pub fn read(extensions: Option<&Map<String, Value>>) -> Result<Option<Self>, Rejection> {
        let extension = extensions.and_then(|extensions| extensions.get(PAYMENT_IDENTIFIER));
        match extension.and_then(|extension| extension.get("info")).and_then(|info| info.get("id")) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Self::parse(text).map(Some),
            Some(_) => Err(Rejection::MalformedPayload),
        }
    }
}

impl fmt::Display for PaymentIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use tallybook_rules::Amount;

    #[test]
    fn given_a_name_when_it_is_read_then_only_16_to_128_plain_characters_are_one() {
        for good in ["a".repeat(16), "Z".repeat(128), "pay_7d5d747be160e280504c099d984bcfe0".to_owned()] {
            assert_eq!(PaymentIdentifier::parse(&good).unwrap().to_string(), good);
        }
        for bad in ["a".repeat(15), "a".repeat(129), "0123456789 abcdef".to_owned(), "0123456789äbcdef".to_owned()] {
            assert_eq!(PaymentIdentifier::parse(&bad), Err(Rejection::MalformedPayload), "{bad}");
        }
    }

    #[test]
    fn given_a_declaration_when_a_client_echoes_it_then_its_name_is_found_and_nothing_else_has_changed() {
        let voucher =
            Voucher { channel_id: Key([1; 32]), max_claimable_amount: Amount::new(5), signature: [7; 64].into() };
        let name = PaymentIdentifier::of(&voucher);
        let declaration = PaymentIdentifier::declaration(true);
        let mut echo = name.echo(&declaration);
        let extensions = Map::from_iter([(PAYMENT_IDENTIFIER.to_owned(), echo.clone())]);
        assert_eq!(PaymentIdentifier::read(Some(&extensions)), Ok(Some(name)));
        echo["info"].as_object_mut().unwrap().remove("id");
        assert_eq!(echo, declaration);
    }

    #[test]
    fn given_a_payment_when_its_name_is_missing_or_no_text_then_it_says_so() {
        let of = |extension: Value| Map::from_iter([(PAYMENT_IDENTIFIER.to_owned(), extension)]);
        assert_eq!(PaymentIdentifier::read(None), Ok(None));
        assert_eq!(PaymentIdentifier::read(Some(&Map::new())), Ok(None));
        assert_eq!(PaymentIdentifier::read(Some(&of(json!({"info": {"required": false}})))), Ok(None));
        for bad in [json!({"info": {"id": 5}}), json!({"info": {"id": "short"}})] {
            assert_eq!(PaymentIdentifier::read(Some(&of(bad))), Err(Rejection::MalformedPayload));
        }
    }
}
