//! Payments that have a name (x402, `payment-identifier`): the same request with the same payment is done once, and gets the
//! answer that it had.

use crate::answers::{Answer, Fingerprint};
use crate::respond::Body;
use http::Response;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tallybook_wire::{PAYMENT_RESPONSE, PaymentIdentifier, read_header};
use tokio::sync::watch;
use tower::BoxError;

/// What a name is bound to: the payment, and the request that it came with. So nobody who has not seen the payment gets its
/// answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bound([u8; 32]);

impl Bound {
    /// `payment` is what nobody knows who has not seen it; the fingerprint is there for requests whose body is small.
    pub(crate) fn to(payment: &[u8], request: &http::request::Parts, fingerprint: Option<Fingerprint>) -> Self {
        let mut hash = Sha256::new();
        hash.update(payment);
        match fingerprint {
            Some(fingerprint) => hash.update(fingerprint.as_bytes()),
            None => {
                let target = request.uri.path_and_query().map_or("", |target| target.as_str());
                // Neither holds a space.
                hash.update(format!(" {} {target}", request.method));
            }
        }
        Self(hash.finalize().into())
    }
}

/// The named payments of a route: those at work, and the newest that were answered.
#[derive(Debug)]
pub(crate) struct Named {
    /// So many answers are kept.
    count: usize,
    /// The largest body that is kept, in bytes.
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default, Debug)]
struct Kept {
    by_name: HashMap<PaymentIdentifier, Entry>,
    answered: VecDeque<PaymentIdentifier>,
}

#[derive(Debug)]
struct Entry {
    bound: Bound,
    answer: watch::Receiver<Option<Arc<Answer>>>,
}

/// What a name leads to.
#[derive(Debug)]
pub(crate) enum Entered {
    /// It is new: the request may run.
    New(Ticket),
    /// Its answer.
    Again(Arc<Answer>),
    /// It is the name of another payment or request.
    Conflict,
}

impl Named {
    pub(crate) fn new(count: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { count, max_bytes, kept: Mutex::default() })
    }

    /// Enters under a name. While the first request with it is at work, a second one waits for its answer; if that comes
    /// to nothing, the second one is the first.
    pub(crate) async fn enter(self: &Arc<Self>, name: &PaymentIdentifier, bound: Bound) -> Entered {
        loop {
            let mut answer = match self.look(name, bound) {
                Ok(entered) => return entered,
                Err(answer) => answer,
            };
            if let Ok(answer) = answer.wait_for(Option::is_some).await
                && let Some(answer) = answer.as_ref()
            {
                return Entered::Again(Arc::clone(answer));
            }
        }
    }

    /// What there is now; an error is what to wait for.
    fn look(
        self: &Arc<Self>,
        name: &PaymentIdentifier,
        bound: Bound,
    ) -> Result<Entered, watch::Receiver<Option<Arc<Answer>>>> {
        let mut kept = self.lock();
        match kept.by_name.get(name) {
            Some(entry) if entry.bound != bound => Ok(Entered::Conflict),
            Some(entry) => Err(entry.answer.clone()),
            None => {
                let (tell, answer) = watch::channel(None);
                kept.by_name.insert(name.clone(), Entry { bound, answer });
                Ok(Entered::New(Ticket { named: Arc::clone(self), name: name.clone(), tell, is_kept: false }))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to do what a name stands for. Dropped without an answer, the name is free again: nothing was charged, or the
/// answer was too large to be kept.
#[derive(Debug)]
pub(crate) struct Ticket {
    named: Arc<Named>,
    name: PaymentIdentifier,
    tell: watch::Sender<Option<Arc<Answer>>>,
    is_kept: bool,
}

impl Ticket {
    /// Keeps a small answer that was paid for, as it goes out. An error if it breaks off.
    pub(crate) async fn keep(mut self, response: Response<Body>) -> Result<Response<Body>, BoxError> {
        let known = http_body::Body::size_hint(response.body()).exact().and_then(|bytes| usize::try_from(bytes).ok());
        if !is_paid(&response) || known.is_none_or(|bytes| bytes > self.named.max_bytes) {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let answer = Arc::new(Answer::new(head, body.collect().await?.to_bytes()));
        let response = answer.response();
        self.is_kept = true;
        self.tell.send_replace(Some(answer));
        let mut kept = self.named.lock();
        kept.answered.push_back(self.name.clone());
        while kept.answered.len() > self.named.count {
            if let Some(oldest) = kept.answered.pop_front() {
                kept.by_name.remove(&oldest);
            }
        }
        drop(kept);
        Ok(response)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_kept {
            self.named.lock().by_name.remove(&self.name);
        }
    }
}

/// True for an answer with a receipt.
fn is_paid(response: &Response<Body>) -> bool {
    let receipt = response.headers().get(PAYMENT_RESPONSE);
    let receipt = receipt.and_then(|value| read_header::<serde_json::Value>(value.as_bytes()).ok());
    receipt.is_some_and(|receipt| receipt.get("success") == Some(&serde_json::Value::Bool(true)))
}
