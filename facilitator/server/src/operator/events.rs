//! What is live, sent to whoever looks: rendered once for all of them.

use super::Shown;
use super::refused::Refused;
use crate::app::App;
use crate::problem::Problem;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long somebody is told without being asked again who they are: a browser comes back by itself.
const PATIENCE: Duration = Duration::from_secs(300);

/// Somebody who looks.
struct Viewer {
    shown: watch::Receiver<Option<Arc<Shown>>>,
    until: Instant,
    draining: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// `GET /operator/events`: what is shown now, and whenever it changes.
pub(super) fn events<C>(app: &App<C>) -> Result<Response, Refused> {
    const FULL: Problem = Problem::Full("As many pages are live as operator.viewers allows: this one stands still.");
    let _place = Arc::clone(&app.operator.viewers).try_acquire_owned().map_err(|_| FULL)?;
    let mut shown = app.operator.shown.subscribe();
    shown.mark_changed();
    let now = Instant::now();
    let until = now.checked_add(PATIENCE).unwrap_or(now);
    let viewer = Viewer { shown, until, draining: app.draining.clone(), _place };
    let events = stream::unfold(viewer, |mut viewer| async move {
        let shown = viewer.next().await?;
        Some((Ok::<_, Infallible>(Event::default().event("pieces").data(shown.live())), viewer))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    // A proxy that gathers answers would hold them back.
    let gathering = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(gathering, HeaderValue::from_static("no"));
    Ok(response)
}

impl Viewer {
    /// What is shown next; none when it is time to come back, or the facilitator ends.
    async fn next(&mut self) -> Option<Arc<Shown>> {
        loop {
            tokio::select! {
                () = self.draining.cancelled() => return None,
                () = tokio::time::sleep_until(self.until) => return None,
                changed = self.shown.changed() => changed.ok()?,
            }
            let shown = self.shown.borrow_and_update().clone();
            if shown.is_some() {
                return shown;
            }
        }
    }
}
