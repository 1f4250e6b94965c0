//! The line between a resource server and its facilitator: requests that never arrive, answers that get lost, a process
//! that dies in between.

use crate::trace::Trace;
use axum::Router;
use axum::body::{Body, Bytes};
use http::{Method, Request};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tallybook_rules::Rejection;
use tallybook_wire::{MAX_BODY_BYTES, Refusal};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tower::ServiceExt;

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NoAnswer {
    /// Nobody listens: nothing was asked.
    NotReached,
    /// It was asked, perhaps: whatever was asked for may be done.
    Lost,
    /// The facilitator cannot do it now.
    Refused(Option<Rejection>),
}

/// The way to whatever process serves now.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<State>>);

/// Who waits for an answer, by number: when the process dies they hear of it in this order. (A runtime that is dropped ends
/// its tasks in an order of its own.)
type Waiting = BTreeMap<u64, oneshot::Sender<(u16, Bytes)>>;

struct State {
    serving: Option<(Router, Handle)>,
    waiting: Waiting,
    asked: u64,
    /// How often a request or an answer gets lost, in thousandths.
    loses: u32,
    random: StdRng,
    trace: Trace,
}

impl Line {
    pub(crate) fn new(loses: u32, seed: u64, trace: Trace) -> Self {
        let random = StdRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(State { serving: None, waiting: Waiting::new(), asked: 0, loses, random, trace })))
    }

    /// Requests go there from now on; none while nobody serves. Whoever waits for another process waits in vain.
    pub(crate) fn lead_to(&self, serving: Option<(Router, Handle)>) {
        let mut state = self.0.lock().unwrap();
        state.serving = serving;
        state.waiting.clear();
    }

    pub(crate) fn set_loses(&self, thousandths: u32) {
        self.0.lock().unwrap().loses = thousandths;
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NoAnswer> {
        self.ask(Method::GET, path, Vec::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, NoAnswer> {
        self.ask(Method::POST, path, serde_json::to_vec(body).expect("our own JSON")).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Vec<u8>) -> Result<T, NoAnswer> {
        let (pause, lost_there, lost_back) = {
            let mut state = self.0.lock().unwrap();
            let loses = state.loses;
            let mut lost = || loses > 0 && state.random.random_ratio(loses, 1_000);
            let (there, back) = (lost(), lost());
            (state.random.random_range(1..20), there, back)
        };
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let Some((router, process)) = self.0.lock().unwrap().serving.clone() else {
            return Err(NoAnswer::NotReached);
        };
        if lost_there {
            return Err(NoAnswer::Lost);
        }
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).expect("a request");
        let (tell, told) = oneshot::channel();
        let number = {
            let mut state = self.0.lock().unwrap();
            state.asked += 1;
            let number = state.asked;
            state.waiting.insert(number, tell);
            number
        };
        let line = self.clone();
        // It is worked on there, whether anybody still waits here or not.
        drop(process.spawn(async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status().as_u16();
            let body = axum::body::to_bytes(response.into_body(), MAX_BODY_BYTES).await.expect("a short body");
            if let Some(tell) = line.0.lock().unwrap().waiting.remove(&number) {
                drop(tell.send((status, body)));
            }
        }));
        // The process has died with it.
        let (status, body) = told.await.map_err(|_| NoAnswer::Lost)?;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        if lost_back {
            return Err(NoAnswer::Lost);
        }
        if (200..300).contains(&status) {
            return Ok(serde_json::from_slice(&body).expect("an answer of the facilitator"));
        }
        let refusal: Option<Refusal> = serde_json::from_slice(&body).ok();
        let rejection = refusal.and_then(|refusal| refusal.error.rejection());
        self.0.lock().unwrap().trace.note(format_args!("line: {path} {status} {rejection:?}"));
        Err(NoAnswer::Refused(rejection))
    }
}
