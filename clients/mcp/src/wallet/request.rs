//! What a model may ask for: a URL, a method, a few headers and a body, each with a cap.

use super::Shared;
use super::refusal::Refusal;
use http::Method;
use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE,
};
use reqwest::{Body, Request};
use std::collections::{BTreeMap, HashSet};
use url::Url;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 8_192;
/// The most headers, and the longest value of one, in bytes.
const MAX_HEADERS: usize = 32;
const MAX_HEADER_BYTES: usize = 8_192;
/// The longest body, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Whatever else HTTP has (`CONNECT`, `TRACE`) is none of a model's business.
const METHODS: [Method; 6] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// What the owner lets a model ask for.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Headers that a model may set.
    pub(super) headers: HashSet<HeaderName>,
    /// The most of an answer that is handed on, in bytes.
    pub(super) max_answer_bytes: usize,
}

impl Default for Rules {
    fn default() -> Self {
        let harmless = [ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE];
        Self { headers: harmless.into_iter().collect(), max_answer_bytes: 256 << 10 }
    }
}

/// As a tool is asked.
pub(super) struct Asked {
    pub(super) url: String,
    pub(super) method: Option<String>,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Option<String>,
}

impl Asked {
    /// The request, to a host that may be paid and is where hosts may be.
    pub(super) fn request(self, shared: &Shared) -> Result<Request, Refusal> {
        let url = url(&self.url)?;
        shared.agent.check_host(&url).map_err(|error| shared.told(error))?;
        shared.guard.check(&url)?;
        self.build(url, &shared.rules)
    }

    fn build(self, url: Url, rules: &Rules) -> Result<Request, Refusal> {
        let mut request = Request::new(method(self.method.as_deref(), self.body.is_some())?, url);
        *request.headers_mut() = headers(&self.headers, rules)?;
        if let Some(body) = self.body {
            if body.len() > MAX_BODY_BYTES {
                return refuse(format!(
                    "the body has {} bytes, at most {MAX_BODY_BYTES} are sent: send less",
                    body.len()
                ));
            }
            let guessed = || HeaderValue::from_static(media_type(&body));
            request.headers_mut().entry(CONTENT_TYPE).or_insert_with(guessed);
            *request.body_mut() = Some(Body::from(body));
        }
        Ok(request)
    }
}

fn refuse<T>(why: String) -> Result<T, Refusal> {
    Err(Refusal::new(why))
}

fn url(text: &str) -> Result<Url, Refusal> {
    if text.len() > MAX_URL_BYTES {
        return refuse(format!("the url has {} bytes, at most {MAX_URL_BYTES} are taken", text.len()));
    }
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        return refuse(
            "the url is none to ask: write it with its scheme, like https://api.example.com/weather".to_owned(),
        );
    };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("the url has a user name or password in it: leave them out".to_owned());
    }
    Ok(url)
}

fn method(text: Option<&str>, has_body: bool) -> Result<Method, Refusal> {
    let Some(text) = text else { return Ok(if has_body { Method::POST } else { Method::GET }) };
    let method = METHODS.into_iter().find(|method| method.as_str().eq_ignore_ascii_case(text));
    let Some(method) = method else {
        return refuse("the method is none of GET, HEAD, POST, PUT, PATCH and DELETE".to_owned());
    };
    if has_body && (method == Method::GET || method == Method::HEAD) {
        return refuse(format!("{method} takes no body: leave it out, or use POST"));
    }
    Ok(method)
}

fn headers(asked: &BTreeMap<String, String>, rules: &Rules) -> Result<HeaderMap, Refusal> {
    if asked.len() > MAX_HEADERS {
        return refuse(format!("{} headers are too many: at most {MAX_HEADERS}", asked.len()));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in asked {
        let known = name.parse::<HeaderName>().ok().filter(|name| rules.headers.contains(name));
        let Some(name) = known else {
            let mut allowed: Vec<&str> = rules.headers.iter().map(HeaderName::as_str).collect();
            allowed.sort_unstable();
            let name: String = name.chars().take(64).collect();
            return refuse(format!(
                "the header {name:?} is not one that may be set here, which are {}",
                allowed.join(", ")
            ));
        };
        let value = HeaderValue::from_str(value).ok().filter(|value| value.len() <= MAX_HEADER_BYTES);
        let Some(value) = value else {
            return refuse(format!("the header {name} has a value that no header can have, or one that is too long"));
        };
        headers.insert(name, value);
    }
    Ok(headers)
}

/// What a body most likely is, where a model does not say.
fn media_type(body: &str) -> &'static str {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok();
    if is_json { "application/json" } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Option<&str>, headers: &[(&str, &str)], body: Option<&str>) -> Asked {
        Asked {
            url: "https://a.example/x".to_owned(),
            method: method.map(str::to_owned),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.map(str::to_owned),
        }
    }

    fn build(asked: Asked) -> Result<Request, Refusal> {
        asked.build(url("https://a.example/x")?, &Rules::default())
    }

    #[test]
    fn given_a_body_when_nothing_else_is_said_then_it_is_posted_as_what_it_is() {
        let request = build(asked(None, &[], Some("{\"a\": 1}"))).unwrap();
        let of = |request: &Request| {
            (request.method().clone(), request.headers()[CONTENT_TYPE].to_str().unwrap().to_owned())
        };
        assert_eq!(of(&request), (Method::POST, "application/json".to_owned()));
        let request = build(asked(Some("put"), &[("content-type", "text/csv")], Some("a,b"))).unwrap();
        assert_eq!(of(&request), (Method::PUT, "text/csv".to_owned()));
        assert_eq!(build(asked(None, &[], None)).unwrap().method(), Method::GET);
    }

    #[test]
    fn given_what_a_model_may_not_ask_then_it_is_told_what_it_may() {
        let refused = |asked| build(asked).unwrap_err();
        for header in ["Authorization", "Cookie", "Host", "payment-signature", "bad name", "x-forwarded-for"] {
            let refusal = refused(asked(None, &[(header, "x")], None));
            assert!(refusal.why().contains("content-type"), "{refusal:?}");
        }
        assert!(refused(asked(Some("TRACE"), &[], None)).why().contains("POST"));
        assert!(refused(asked(Some("GET"), &[], Some("x"))).why().contains("no body"));
        assert!(refused(asked(None, &[("accept", "a\r\nX: b")], None)).why().contains("value"));
        assert!(refused(asked(None, &[], Some(&"x".repeat(MAX_BODY_BYTES + 1)))).why().contains("at most"));
        for text in ["ftp://a.example/", "a.example", "file:///etc/passwd", "https://u:p@a.example/", "http://"] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
