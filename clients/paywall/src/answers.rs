//! Answers that clients may have lost: the same voucher with the same request gets its answer again, once paid.

use crate::respond::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, response::Parts};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tallybook_rules::Amount;
use tallybook_wire::Voucher;

/// The head and the whole body of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    head: Parts,
    body: Bytes,
}

impl Answer {
    pub(crate) fn new(head: Parts, body: Bytes) -> Self {
        Self { head, body }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        Response::from_parts(self.head.clone(), Body::whole(self.body.clone()))
    }
}

/// What a request asks for: method, path and query, the body, and its price.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(request: &Request<Bytes>, price: Amount) -> Self {
        let mut hash = Sha256::new();
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        hash.update(price.get().to_le_bytes());
        for part in [request.method().as_str().as_bytes(), target.as_bytes(), request.body()] {
            // The length first, so that no two requests run into the same bytes.
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// One served call.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) answer: Arc<Answer>,
    /// What it cost.
    pub(crate) charge: Amount,
    /// As the answer carries it; none while the commit's outcome is not known.
    pub(crate) receipt: Option<HeaderValue>,
}

/// The newest answers, bounded in number and size.
#[derive(Debug)]
pub(crate) struct Answers {
    count: usize,
    /// The largest body that is kept, in bytes.
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Default, Debug)]
struct Kept {
    by_voucher: HashMap<Voucher, Stored>,
    oldest_first: VecDeque<Voucher>,
}

impl Answers {
    pub(crate) fn new(count: usize, max_bytes: usize) -> Self {
        Self { count, max_bytes, kept: Mutex::default() }
    }

    /// How many answers are kept, and how large one may be, in bytes.
    pub(crate) const fn room(&self) -> (usize, usize) {
        (self.count, self.max_bytes)
    }

    /// Whether a body is small enough to be held in memory: of a known size, and at most as large as an answer may be.
    pub(crate) fn fits(&self, body: &impl http_body::Body) -> bool {
        let known = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        known.is_some_and(|bytes| bytes <= self.max_bytes)
    }

    /// The answer that this voucher has paid for, or is paying for, if it was the same request.
    pub(crate) fn of(&self, voucher: &Voucher, fingerprint: Fingerprint) -> Option<Stored> {
        self.lock().by_voucher.get(voucher).filter(|stored| stored.fingerprint == fingerprint).cloned()
    }

    /// Keeps an answer, in the place of an older one if need be.
    pub(crate) fn keep(&self, voucher: Voucher, stored: Stored) {
        let mut kept = self.lock();
        if kept.by_voucher.insert(voucher, stored).is_none() {
            kept.oldest_first.push_back(voucher);
        }
        while kept.oldest_first.len() > self.count {
            if let Some(oldest) = kept.oldest_first.pop_front() {
                kept.by_voucher.remove(&oldest);
            }
        }
    }

    /// The call of a kept answer is paid for.
    pub(crate) fn paid(&self, voucher: &Voucher, fingerprint: Fingerprint, receipt: &HeaderValue) {
        let mut kept = self.lock();
        if let Some(stored) = kept.by_voucher.get_mut(voucher).filter(|stored| stored.fingerprint == fingerprint) {
            stored.receipt = Some(receipt.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
