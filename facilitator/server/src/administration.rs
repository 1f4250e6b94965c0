//! What an administrator may do at any time: stop what is new, and have everything claimed.

use crate::app::App;
use crate::audit::Act;
use std::sync::atomic::Ordering;
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::{AdministrationView, Asked};

/// `GET /admin`.
pub(crate) fn view<C: Chain>(app: &App<C>) -> AdministrationView {
    AdministrationView {
        paused: app.paused.load(Ordering::Relaxed),
        sponsored_lamports: app.allowance().used(clock()),
        sponsored_lamports_per_day: app.config.limits.sponsored_lamports_per_day,
    }
}

/// `POST /admin/pause` and `/admin/resume`. A pause ends with the process.
pub(crate) async fn pause<C: Chain>(app: &App<C>, paused: bool) -> Result<AdministrationView, Rejection> {
    app.paused.store(paused, Ordering::Relaxed);
    tracing::warn!(paused, "an administrator decided whether anything new is taken on");
    app.record(|| Act::administered(if paused { Asked::Pause } else { Asked::Resume })).await?;
    Ok(view(app))
}

/// `POST /admin/settle`: all that is charged is claimed now, whatever `settlement` says.
pub(crate) async fn settle_now<C: Chain>(app: &App<C>) -> Result<AdministrationView, Rejection> {
    app.settle_now.store(true, Ordering::Relaxed);
    app.wake.notify_one();
    tracing::info!("an administrator has everything claimed");
    app.record(|| Act::administered(Asked::SettleNow)).await?;
    Ok(view(app))
}
