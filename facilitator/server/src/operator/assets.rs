//! The style sheet, the script and the mark: files of this binary, asked for again only when they have changed.

use super::plot::MARK;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tallybook_rules::Hasher;
use tallybook_rules::signing::Sha2;
use tallybook_wire::Key;

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asset {
    kind: &'static str,
    text: &'static str,
}

/// How it looks.
pub(super) const STYLE: Asset = Asset { kind: "text/css; charset=utf-8", text: include_str!("page.css") };
/// What keeps it live.
pub(super) const SCRIPT: Asset = Asset { kind: "text/javascript; charset=utf-8", text: include_str!("page.js") };
/// Its icon.
pub(super) const ICON: Asset = Asset { kind: "image/svg+xml", text: MARK.0 };

impl Asset {
    /// The file, or that it is what the browser has.
    pub(super) fn answer(self, headers: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", Key(Sha2::sha256(&[self.text.as_bytes()])));
        let has_it = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response = match has_it {
            true => StatusCode::NOT_MODIFIED.into_response(),
            false => ([(header::CONTENT_TYPE, self.kind)], self.text).into_response(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Base58 in quotes is a header's value.
        headers.extend(HeaderValue::try_from(tag).ok().map(|tag| (header::ETAG, tag)));
        response
    }
}
