//! The trace that a request came on (W3C Trace Context): the facilitator is asked on the same one, so that one trace follows one
//! voucher. The headers are handed on as they are; whoever records spans here does that around the paywall.

use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// `00-` trace `-` span `-` flags, in hex: 55 bytes. Later versions may append.
const MAX_TRACEPARENT_BYTES: usize = 128;
/// As much as the standard asks everybody to hand on.
const MAX_TRACESTATE_BYTES: usize = 512;

tokio::task_local! {
    static TRACE: Option<Trace>;
}

/// What a request says of its trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

impl Trace {
    /// The trace of a request, if it has one and only one; what is too long is left out.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let only = |name: HeaderName, most: usize| {
            let mut values = headers.get_all(name).iter();
            let value = values.next().filter(|value| value.len() <= most)?;
            values.next().is_none().then(|| value.clone())
        };
        let parent = only(TRACEPARENT, MAX_TRACEPARENT_BYTES)?;
        Some(Self { parent, state: only(TRACESTATE, MAX_TRACESTATE_BYTES) })
    }
}

/// Does something on a trace.
pub(crate) async fn on<T>(trace: Option<Trace>, work: impl Future<Output = T>) -> T {
    TRACE.scope(trace, work).await
}

/// The headers that go to the facilitator: none outside of a trace.
pub(crate) fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(Some(Trace { parent, state })) = TRACE.try_with(Clone::clone) {
        headers.insert(TRACEPARENT, parent);
        headers.extend(state.map(|state| (TRACESTATE, state)));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn given_a_request_on_a_trace_when_something_is_asked_then_it_is_on_the_same_and_nothing_else_is() {
        let parent = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let mut headers_of_request = HeaderMap::new();
        headers_of_request.insert(TRACEPARENT, parent.clone());
        headers_of_request.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let handed_on = on(Trace::of(&headers_of_request), async { headers() }).await;
        assert_eq!(handed_on, headers_of_request);
        assert!(headers().is_empty());
        // Two of them, or one that is too long, are none.
        headers_of_request.append(TRACEPARENT, parent);
        assert!(Trace::of(&headers_of_request).is_none());
        headers_of_request.insert(TRACEPARENT, HeaderValue::from_str(&"0".repeat(129)).unwrap());
        assert!(Trace::of(&headers_of_request).is_none());
    }
}
