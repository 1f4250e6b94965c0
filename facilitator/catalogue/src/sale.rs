//! What a payment says of what it bought.

use serde::Deserialize;
use serde_json::{Map, Value};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use tallybook_wire::{Version, is_route_template};

/// How the extension's name stands in JSON: a request without it is not read at all.
const NAME: &[u8] = b"\"bazaar\"";

/// A request to settle a payment, as far as it says what is sold: what any scheme of x402 has in common. Nothing of it is
/// checked yet, but that it is of version 2 and carries the extension.
#[derive(Clone, PartialEq, Debug)]
pub struct Sale {
    /// `paymentPayload.resource`.
    pub(crate) resource: Map<String, Value>,
    /// `paymentPayload.extensions.bazaar`.
    pub(crate) extension: Value,
    /// `paymentRequirements`; its `amount` as it was accepted, which for a metered call is the ceiling.
    pub(crate) requirements: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    x402_version: u64,
    payment_payload: Payload,
    payment_requirements: Map<String, Value>,
}

#[derive(Deserialize)]
struct Payload {
    resource: Option<Map<String, Value>>,
    extensions: Option<Extensions>,
    accepted: Option<Accepted>,
}

#[derive(Deserialize)]
struct Extensions {
    bazaar: Option<Value>,
}

#[derive(Deserialize)]
struct Accepted {
    amount: Option<Value>,
}

impl Sale {
    /// Reads a request that was settled; none where it does not declare what it is for.
    pub fn read(body: &[u8]) -> Option<Self> {
        if !body.windows(NAME.len()).any(|window| window == NAME) {
            return None;
        }
        let request: Request = serde_json::from_slice(body).ok()?;
        let Payload { resource, extensions, accepted } = request.payment_payload;
        let extension = extensions?.bazaar?;
        let mut requirements = request.payment_requirements;
        if let Some(amount) = accepted.and_then(|accepted| accepted.amount) {
            requirements.insert("amount".to_owned(), amount);
        }
        (request.x402_version == Version::NUMBER).then(|| Self {
            resource: resource.unwrap_or_default(),
            extension,
            requirements,
        })
    }

    /// What a payment bought that came otherwise than by a request of its own: `resource` as x402 has it, the extension, and
    /// what was required.
    pub const fn of(resource: Map<String, Value>, extension: Value, requirements: Map<String, Value>) -> Self {
        Self { resource, extension, requirements }
    }

    /// What was required of the payment, for its scheme to take out what only one call was told.
    pub const fn requirements_mut(&mut self) -> &mut Map<String, Value> {
        &mut self.requirements
    }

    /// Who was paid; empty where that is not said.
    pub fn payee(&self) -> &str {
        self.requirements.get("payTo").and_then(Value::as_str).unwrap_or_default()
    }

    /// The URL as it came.
    pub(crate) fn url(&self) -> &str {
        self.resource.get("url").and_then(Value::as_str).unwrap_or_default()
    }

    /// The template of its path, if it has one that can be used; else the path itself is meant.
    pub(crate) fn template(&self) -> Option<&str> {
        self.extension.get("routeTemplate").and_then(Value::as_str).filter(|text| is_route_template(text))
    }

    /// Tells declarations apart: the same for all calls of one route that declare the same, whatever their query and the parts
    /// of their path that vary.
    pub fn digest(&self) -> [u8; 32] {
        let url = self.url();
        let end = match self.template() {
            Some(_) => url.match_indices('/').nth(2).map(|(at, _)| at),
            None => url.find(['?', '#']),
        };
        let place = url.get(..end.unwrap_or(url.len())).unwrap_or(url);
        let described: Vec<String> = ["description", "mimeType", "serviceName", "tags", "iconUrl"]
            .into_iter()
            .map(|name| self.resource.get(name).map(Value::to_string).unwrap_or_default())
            .collect();
        let extension = self.without_path().to_string();
        // Each part with its length, so that none runs over into the next.
        let mut parts: Vec<&[u8]> = vec![b"tallybook:declaration:v1"];
        let texts = [self.payee(), place, &extension].into_iter().chain(described.iter().map(String::as_str));
        let texts: Vec<&str> = texts.collect();
        let lengths: Vec<[u8; 8]> =
            texts.iter().map(|text| u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes()).collect();
        for (text, length) in texts.iter().zip(&lengths) {
            parts.push(length);
            parts.push(text.as_bytes());
        }
        Sha2::sha256(&parts)
    }

    /// The extension without what this one call had in its path.
    fn without_path(&self) -> Value {
        let mut extension = self.extension.clone();
        if let Some(input) = extension.pointer_mut("/info/input").and_then(Value::as_object_mut) {
            input.remove("pathParams");
        }
        extension
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(url: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut request = json!({
            "x402Version": 2,
            "paymentPayload": {
                "resource": {"url": url, "description": "Weather"},
                "accepted": {"amount": "500"},
                "payload": {"anything": [1]},
                "extensions": {"bazaar": {"info": {"input": {"type": "http", "method": "GET"}}, "schema": {}}},
            },
            "paymentRequirements": {"scheme": "exact", "payTo": "P", "amount": "120"},
        });
        change(&mut request);
        serde_json::to_vec(&request).unwrap()
    }

    #[test]
    fn given_a_request_when_it_is_read_then_its_price_is_what_was_accepted_and_no_declaration_is_no_sale() {
        let sale = Sale::read(&request("https://a.example.com/w", |_| ())).unwrap();
        assert_eq!((sale.url(), sale.payee()), ("https://a.example.com/w", "P"));
        assert_eq!(sale.requirements["amount"], "500");
        assert_eq!(Sale::read(&request("x", |request| request["x402Version"] = json!(1))), None);
        assert_eq!(
            Sale::read(&request("x", |request| request["paymentPayload"]["extensions"]["bazaar"] = json!(null))),
            None
        );
        assert_eq!(Sale::read(&request("x", |request| request["paymentPayload"]["extensions"] = json!(null))), None);
        for nonsense in [&b"\"bazaar\""[..], b"{\"bazaar\":1}", b"", b"[\"bazaar\"]"] {
            assert_eq!(Sale::read(nonsense), None);
        }
    }

    #[test]
    fn given_calls_of_one_route_then_their_digest_is_one_and_another_payee_or_declaration_has_another() {
        let digest = |url: &str, change: &dyn Fn(&mut Value)| Sale::read(&request(url, change)).unwrap().digest();
        let same = digest("https://a.example.com/w?city=1", &|_| ());
        assert_eq!(same, digest("https://a.example.com/w?city=2#x", &|_| ()));
        assert_ne!(same, digest("https://a.example.com/v", &|_| ()));
        assert_ne!(
            same,
            digest("https://a.example.com/w", &|request: &mut Value| request["paymentRequirements"]["payTo"] =
                json!("Q"))
        );
        assert_ne!(
            same,
            digest(
                "https://a.example.com/w",
                &|request: &mut Value| request["paymentPayload"]["resource"]["description"] = json!("W")
            )
        );
        let template = |request: &mut Value, path: &str| {
            let bazaar = &mut request["paymentPayload"]["extensions"]["bazaar"];
            bazaar["routeTemplate"] = json!("/users/:id");
            bazaar["info"]["input"]["pathParams"] = json!({"id": path});
        };
        let seven = digest("https://a.example.com/users/7", &|request: &mut Value| template(request, "7"));
        let eight = Sale::read(&request("https://a.example.com/users/8?q", |request| template(request, "8"))).unwrap();
        assert_eq!(seven, eight.digest());
    }
}
