//! Behind the answers: looks at what was declared, counts, and writes down.

use super::{Decided, Discovery, Sighting, lock};
use crate::app::App;
use crate::metrics;
use std::sync::Arc;
use std::time::Duration;
use tallybook_catalogue::{Taken, judge};
use tallybook_sequencer::clock;
use tallybook_settler::Chain;
use tallybook_wire::UnlistedReason;

/// How often what has changed is written down.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// How often it is read what other facilitators on the same database have listed.
const READ_EVERY: Duration = Duration::from_secs(30);
/// The most rows of one write.
const ROWS_AT_ONCE: usize = 256;

/// Keeps the catalogue, until it is stopped.
pub(crate) async fn keep<C: Chain>(app: Arc<App<C>>) {
    let Some(discovery) = &app.discovery else { return };
    let Some(mut sightings) = lock(&discovery.sightings).take() else { return };
    let mut writing = tokio::time::interval(WRITE_EVERY);
    writing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reading = tokio::time::interval(READ_EVERY);
    reading.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            Some(sighting) = sightings.recv() => discovery.see(sighting).await,
            _ = writing.tick() => {
                discovery.write().expire(clock());
                discovery.write_some(&app).await;
            }
            _ = reading.tick(), if app.line.is_some() => discovery.read_others(&app).await,
        }
    }
}

/// Writes down what is left, before the process ends.
pub(crate) async fn write_rest<C: Chain>(app: &App<C>) {
    let Some(discovery) = &app.discovery else { return };
    while discovery.write_some(app).await {}
}

impl Discovery {
    /// Counts a payment for what is listed; looks at everything else.
    async fn see(&self, sighting: Sighting) {
        let Sighting { sale, digest, payer, at, known } = sighting;
        if let Some(key) = known {
            if self.write().again(&key, digest, &payer, sale.terms(), at) {
                return;
            }
            self.forget(&digest);
        }
        let settings = self.settings;
        // Its cost has a bound, but not one that others should wait for.
        let judged = tokio::task::spawn_blocking(move || {
            let judged = judge(&sale, &settings);
            (sale, judged)
        });
        let Ok((sale, judged)) = judged.await else {
            tracing::error!("a declaration could not be looked at: it is not listed");
            return self.decide(digest, Decided::Refused(UnlistedReason::BadSchema.into()));
        };
        match judged {
            Ok(candidate) => {
                let key = *candidate.key();
                if self.write().paid(candidate, &payer, at) == Taken::Listed {
                    self.decide(digest, Decided::Listed(key));
                }
            }
            Err(why) => {
                tracing::debug!(%why, payee = sale.payee(), "what was paid for is not listed");
                metrics::unlisted(why.reason.name());
                self.write().refused(&sale, why.clone(), at);
                self.decide(digest, Decided::Refused(why));
            }
        }
    }

    /// Takes in what others have written. Nothing is listed here meanwhile, so that what is written here is in it.
    async fn read_others<C: Chain>(&self, app: &App<C>) {
        while self.write_some(app).await {}
        if let Ok(listings) = app.sequencer.ask_beside(|store| store.listings()).await {
            self.write().refresh(&listings);
        }
    }

    /// Makes some of what has changed durable; false when there was nothing, or the store has failed.
    async fn write_some<C: Chain>(&self, app: &App<C>) -> bool {
        let changes = self.write().changes(ROWS_AT_ONCE);
        if changes.is_empty() {
            return false;
        }
        let written = app.sequencer.insist(move |desk| changes.into_iter().for_each(|change| desk.write(change)));
        written.await.is_ok()
    }
}
