//! What a browser needs to pay on behalf of a page of another origin (CORS, the fetch standard).

use crate::respond::Body;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

/// What a page may read of an answer besides the few headers that every page may.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("payment-required, payment-response, payment-meter, x-payment-response, retry-after");
/// How long a browser remembers that it may ask, in seconds: as long as Chromium does at most.
const REMEMBERED_SECONDS: HeaderValue = HeaderValue::from_static("7200");
/// What the answer to a preflight depends on.
const VARIES: HeaderValue = HeaderValue::from_static("access-control-request-method, access-control-request-headers");

/// Answers a browser's question whether it may ask: never with a 402, which it could not pay. Allowed is what it asks for,
/// from everywhere, if the route is `open`: a payment is no cookie, so a page can spend nothing that it does not hold.
pub(crate) fn preflight(open: bool, request: &Parts) -> Option<Response<Body>> {
    let headers = &request.headers;
    let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    if request.method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    let mut response = Response::new(Body::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let answer = response.headers_mut();
    answer.insert(VARY, VARIES);
    if open {
        allow(answer);
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED_SECONDS);
    }
    Some(response)
}

/// Lets any page read an answer, and its receipt. What the handler has said of it stands.
pub(crate) fn allow(answer: &mut HeaderMap) {
    if !answer.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    answer.append(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}
