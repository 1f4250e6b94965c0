//! Calls under way: what connects the 402 that the middleware sees with the payment that the scheme is asked for.
//!
//! x402-reqwest hands a scheme the entries of `accepts` and nothing else. So the middleware writes the number of the call into
//! our entries before they get there, and keeps the call with the request for as long as that lives: a request that is given
//! up takes its call, and the channel that it holds, along.

use http::{HeaderMap, Method};
use reqwest::Request;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tallybook_agent::{Agent, Chain, Payment};
use tallybook_wire::{Accept, PaymentRequired};
use url::Url;
use x402_types::scheme::client::X402Error;

/// The member of `extra` that carries a [`Handle`]. It never leaves this process.
pub(super) const HANDLE: &str = "tallybookCall";

/// Which call, and which entry of its `accepts`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Handle {
    call: u64,
    entry: usize,
}

impl Handle {
    pub(super) fn read(value: &Value) -> Option<Self> {
        let entry = value.get(1)?.as_u64().and_then(|entry| usize::try_from(entry).ok())?;
        Some(Self { call: value.get(0)?.as_u64()?, entry })
    }
}

/// A request that was answered with a 402 of ours.
pub(super) struct Carried<C> {
    number: u64,
    calls: Arc<Calls<C>>,
    method: Method,
    url: Url,
    headers: HeaderMap,
    required: PaymentRequired,
    payment: Mutex<Option<Payment<C>>>,
}

impl<C> fmt::Debug for Carried<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").field("number", &self.number).finish_non_exhaustive()
    }
}

impl<C> Drop for Carried<C> {
    fn drop(&mut self) {
        lock(&self.calls.known).by_number.remove(&self.number);
    }
}

/// The calls under way, by number.
pub(super) struct Calls<C> {
    known: Mutex<Known<C>>,
}

struct Known<C> {
    next: u64,
    by_number: HashMap<u64, Weak<Carried<C>>>,
}

impl<C> Default for Calls<C> {
    fn default() -> Self {
        Self { known: Mutex::new(Known { next: 0, by_number: HashMap::new() }) }
    }
}

impl<C> fmt::Debug for Calls<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As much of a request as is kept before it is sent.
pub(super) struct Head {
    method: Method,
    url: Url,
    headers: HeaderMap,
}

impl Head {
    pub(super) fn of(request: &Request) -> Self {
        Self { method: request.method().clone(), url: request.url().clone(), headers: request.headers().clone() }
    }
}

impl<C> Calls<C> {
    /// Keeps a call for as long as what is returned lives.
    pub(super) fn begin(self: &Arc<Self>, head: Head, required: PaymentRequired) -> Arc<Carried<C>> {
        let mut known = lock(&self.known);
        known.next = known.next.wrapping_add(1);
        let call = Arc::new(Carried {
            number: known.next,
            calls: Arc::clone(self),
            method: head.method,
            url: head.url,
            headers: head.headers,
            required,
            payment: Mutex::default(),
        });
        known.by_number.insert(call.number, Arc::downgrade(&call));
        call
    }

    /// A call that is still wanted.
    pub(super) fn get(&self, handle: Handle) -> Option<Arc<Carried<C>>> {
        lock(&self.known).by_number.get(&handle.call)?.upgrade()
    }
}

impl<C> Carried<C> {
    /// Writes the call's number into our entries of the 402's JSON.
    pub(super) fn mark(&self, required: &mut Value) {
        let entries = required.get_mut("accepts").and_then(Value::as_array_mut);
        for (entry, accept) in entries.into_iter().flatten().enumerate() {
            if matches!(self.required.accepts.get(entry), Some(Accept::Channel(_)))
                && let Some(extra) = accept.get_mut("extra").and_then(Value::as_object_mut)
            {
                extra.insert(HANDLE.to_owned(), json!([self.number, entry]));
            }
        }
    }

    /// Takes out the payment that was made for the call.
    pub(super) fn take(&self) -> Option<Payment<C>> {
        lock(&self.payment).take()
    }
}

impl<C: Chain> Carried<C> {
    /// Makes the payment for the entry that was chosen: what goes into the header.
    pub(super) async fn pay(&self, agent: &Agent<C>, handle: Handle) -> Result<String, X402Error> {
        let mut required = self.required.clone();
        required.accepts = self.required.accepts.get(handle.entry).cloned().into_iter().collect();
        let paid = agent.pay(self.method.clone(), self.url.clone(), self.headers.clone(), &required);
        let payment = paid.await.map_err(|error| X402Error::SigningError(error.to_string()))?;
        let header = payment.header().to_str().map(str::to_owned);
        let header = header.map_err(|error| X402Error::SigningError(error.to_string()))?;
        *lock(&self.payment) = Some(payment);
        Ok(header)
    }
}
