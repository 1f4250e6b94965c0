//! What an agent remembers of prices, so that it can pay with the first request.

use crate::error::AgentError;
use http::Method;
use reqwest::Request;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tallybook_wire::{PaymentRequirements, ResourceInfo};

/// Where a price was asked for: calls of one route are expected to cost the same, whatever their query.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Route {
    /// The scheme, `host:port`, and path.
    place: String,
    method: Method,
    host: String,
    authority: String,
    path: String,
}

impl Route {
    /// The route of a request, or [`AgentError::NoHost`].
    pub(crate) fn of(request: &Request) -> Result<Self, AgentError> {
        let url = request.url();
        let host = url.host_str().ok_or_else(|| AgentError::NoHost(url.clone()))?.to_owned();
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.clone(),
        };
        Ok(Self {
            place: format!("{}://{authority}{}", url.scheme(), url.path()),
            method: request.method().clone(),
            path: url.path().to_owned(),
            host,
            authority,
        })
    }

    /// The host without its port.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The path without its query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The method.
    pub(crate) const fn method(&self) -> &Method {
        &self.method
    }

    /// `host:port`, or the host alone at the usual port.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

/// What a 402 said.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// How to pay.
    pub(crate) offer: Arc<PaymentRequirements>,
    /// The server lets payments have names: what it said of that (x402, `payment-identifier`).
    pub(crate) naming: Option<Arc<Value>>,
    /// What the server declares to catalogues, to go back with the next payment.
    pub(crate) declared: Option<Declared>,
}

/// What a 402 says of what is sold, for facilitators that list it (x402, `bazaar`).
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) resource: ResourceInfo,
    pub(crate) extension: Value,
}

/// What was asked for last on each route.
#[derive(Default, Debug)]
pub(crate) struct Remembered {
    asked: HashMap<Route, Asked>,
}

impl Remembered {
    /// So many routes are remembered. A server that has more is asked for the price again now and then.
    const MAX_ROUTES: usize = 4_096;

    pub(crate) fn get(&self, route: &Route) -> Option<&Asked> {
        self.asked.get(route)
    }

    /// What goes back with one payment after each 402: later ones need not carry it.
    pub(crate) fn take_declared(&mut self, route: &Route) -> Option<Declared> {
        self.asked.get_mut(route)?.declared.take()
    }

    pub(crate) fn insert(&mut self, route: &Route, asked: Asked) {
        if self.asked.len() >= Self::MAX_ROUTES && !self.asked.contains_key(route) {
            self.asked.clear();
        }
        self.asked.insert(route.clone(), asked);
    }
}
