//! The operator's page, at `/operator`: where the money is, live, and what an administrator can do about it.
//!
//! Rendered here, whole, so that it works without a script; with one its pieces are replaced as they change. Everything is shown
//! from one [`snapshot`](Snapshot), made every few seconds for all who look, so that a viewer costs next to nothing. Who may see it
//! is in [`access`]. It loads nothing from elsewhere, and tells browsers to refuse whatever would.

mod access;
mod actions;
mod assets;
mod batches;
mod channels;
mod counted;
mod events;
mod figures;
mod form;
mod layout;
mod overview;
mod pages;
mod plot;
mod refused;
mod routes;
mod sign_in;
mod snapshot;
mod trend;

pub(crate) use routes::router;

use crate::app::App;
use crate::config::Config;
use crate::money::Glance;
use crate::{administration, metrics, show as views};
use access::Sessions;
use counted::Counted;
use snapshot::{Snapshot, State};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::AdministrationView;
use tokio::sync::{Semaphore, watch};
use trend::Trend;

/// Batches of the overview.
const BATCHES: u32 = 8;

/// What the page needs between two requests.
#[derive(Debug)]
pub(crate) struct Operator {
    sessions: Sessions,
    /// Places for those who are told what changes.
    viewers: Arc<Semaphore>,
    trend: Mutex<Trend>,
    /// What is shown now; nothing before the first look.
    shown: watch::Sender<Option<Arc<Shown>>>,
}

/// What is shown at one time, and how that is written, once somebody needs it.
#[derive(Default, Debug)]
struct Shown {
    snapshot: Snapshot,
    live: OnceLock<String>,
}

impl Shown {
    /// The pieces of the overview.
    fn live(&self) -> &str {
        self.live.get_or_init(|| overview::pieces(&self.snapshot, clock()).into_string())
    }
}

impl Operator {
    pub(crate) fn new(config: &Config) -> Self {
        let viewers = usize::try_from(config.operator.viewers).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            sessions: Sessions::new(),
            viewers: Arc::new(Semaphore::new(viewers)),
            trend: Mutex::default(),
            shown: watch::Sender::new(None),
        }
    }

    /// Shows at once what an administrator has decided, with everything else as it was.
    pub(crate) fn administered(&self, view: AdministrationView) {
        self.shown.send_if_modified(|shown| {
            let Some(before) = shown else { return false };
            let state = State { administration: view.into(), ..before.snapshot.state };
            let snapshot = Snapshot { state, ..before.snapshot.clone() };
            *shown = Some(Arc::new(Shown { snapshot, live: OnceLock::new() }));
            true
        });
    }

    /// What is shown now.
    fn now(&self) -> Arc<Shown> {
        self.shown.borrow().clone().unwrap_or_default()
    }
}

/// Whether anybody may see the page at all.
fn is_on(config: &Config) -> bool {
    config.admin_token.is_some() || config.operator.proxy_header.is_some() || config.operator.anybody_reads
}

/// Shows what was seen in a look at the money, with all that goes with it.
pub(crate) async fn show<C: Chain>(app: &App<C>, glance: Glance) {
    if !is_on(&app.config) {
        return;
    }
    let counted = Counted::read(&metrics::text());
    let trend = {
        let mut trend = app.operator.trend.lock().unwrap_or_else(PoisonError::into_inner);
        trend.add(&counted, glance.at, Instant::now());
        trend.points()
    };
    let mut rejections: Vec<(String, u64)> = counted.rejections.into_iter().collect();
    rejections.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let batches = views::batches(app, None, Some(BATCHES)).await.map(|listed| listed.batches).unwrap_or_default();
    let (chain_slot, chain_answers) = app.chain_seen();
    let state = State {
        administration: administration::view(app).into(),
        draining: app.draining.is_cancelled(),
        chain_slot,
        chain_at: app.chain_answered_at(),
        chain_answers,
        unread: app.first_sight.unread(),
        batches_under_way: glance.under_way.0,
    };
    let snapshot = Snapshot::of(glance, &app.look());
    let snapshot = Snapshot { state, batches, rejections, trend, ..snapshot };
    app.operator.shown.send_replace(Some(Arc::new(Shown { snapshot, live: OnceLock::new() })));
}
