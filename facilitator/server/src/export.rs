//! `GET /admin/vouchers`: the newest voucher of every channel as JSON lines, for a watchtower: what `tallybook vouchers export`
//! writes with the facilitator stopped, while it works.
//!
//! Some pages at a time, so that calls come between, and each line is durable when it is sent. A channel's line is as of its turn:
//! an export is not of one moment, and need not be, since each line stands for itself.

use crate::app::App;
use crate::audit::Act;
use crate::problem::Problem;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;
use tallybook_ledger::Ledger;
use tallybook_rules::Rejection;
use tallybook_settler::Chain;
use tallybook_wire::{Asked, Key, VoucherLine};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// How many may be sent at one time.
pub(crate) const AT_ONCE: usize = 2;
/// How long one may take: who reads slower gets a part, and sees that it is one.
const PATIENCE: Duration = Duration::from_secs(600);
/// Pages of one look at the desk.
const PAGES_AT_ONCE: usize = 8;

/// What is left to be sent.
struct Export<C> {
    app: Arc<App<C>>,
    /// The page that comes next; none after the last.
    next: Option<[u8; 32]>,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

/// All lines, at the wish of an administrator. [`Rejection::ChainUnavailable`] as long as not all pages were read since the
/// start: their channels are not known yet. What is cut short ends without the end that HTTP has for a whole answer.
pub(crate) async fn vouchers<C: Chain>(app: &Arc<App<C>>, by: Option<&str>) -> Result<Response, Problem> {
    const BUSY: Problem = Problem::Full("Two exports are being sent already: retry when one has ended.");
    let _place = Arc::clone(&app.exports).try_acquire_owned().map_err(|_| BUSY)?;
    if !app.first_sight.is_over() {
        return Err(Rejection::ChainUnavailable.into());
    }
    app.record(|| Act::administered(Asked::Export, by)).await?;
    let now = Instant::now();
    let until = now.checked_add(PATIENCE).unwrap_or(now);
    let export = Export { app: Arc::clone(app), next: Some([0; 32]), until, _place };
    let lines = stream::try_unfold(export, |mut export| async move {
        Ok::<_, Rejection>(export.some().await?.map(|lines| (lines, export)))
    });
    let mut response = Body::from_stream(lines).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    let attachment = HeaderValue::from_static("attachment; filename=\"vouchers.jsonl\"");
    headers.insert(header::CONTENT_DISPOSITION, attachment);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl<C: Chain> Export<C> {
    /// The next lines; none after the last.
    async fn some(&mut self) -> Result<Option<Bytes>, Rejection> {
        while let Some(from) = self.next {
            if self.app.draining.is_cancelled() || Instant::now() >= self.until {
                return Err(Rejection::Draining);
            }
            let (lines, next) = self.app.sequencer.insist(move |desk| lines(&desk.ledger, from)).await?;
            self.next = next;
            if !lines.is_empty() {
                return written(&lines).map(Some);
            }
        }
        Ok(None)
    }
}

/// The lines of some pages from this address on, and which page comes next.
fn lines(ledger: &Ledger, from: [u8; 32]) -> (Vec<VoucherLine>, Option<[u8; 32]>) {
    let mut pages = ledger.pages_from(from);
    let mut lines = Vec::new();
    for page in pages.by_ref().take(PAGES_AT_ONCE) {
        let book = ledger.book_of(&page).map(Key);
        let records = ledger.channels_of(&page).filter_map(|channel| channel.record());
        lines.extend(records.map(|record| VoucherLine {
            voucher: record.voucher.into(),
            charged: record.charged,
            page: Some(Key(page)),
            book,
        }));
    }
    (lines, pages.next())
}

fn written(lines: &[VoucherLine]) -> Result<Bytes, Rejection> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).map_err(|_| Rejection::MalformedPayload)?;
        text.push(b'\n');
    }
    Ok(text.into())
}
