//! What a facilitator is told of what was sold: by the server itself, whatever its client has echoed. Otherwise whoever pays
//! could have something else listed under the payee's name.

use crate::sale::Sale;
use serde_json::{Map, Value, json};
use tallybook_wire::{BAZAAR, Discoverable, FacilitatorRequest, PaymentPayload, ResourceInfo};

impl Sale {
    /// Puts the server's own word in the place of the client's.
    pub(crate) fn declare(&self, payment: &mut PaymentPayload) {
        match self.declaration() {
            Some(declaration) => put(payment, Some((self.listed_at(), declaration))),
            None => put(payment, None),
        }
    }

    /// What is sold, where others can reach it: what has a name that is no address is listed at the server's own.
    fn listed_at(&self) -> ResourceInfo {
        let resource = self.resource();
        match self.base_url() {
            Some(url) if !resource.url.starts_with("http") => ResourceInfo { url, ..resource },
            Some(_) | None => resource,
        }
    }

    /// The same in a payment of any scheme.
    pub(crate) fn declare_in(&self, payment: &mut Value) {
        let Some(payment) = payment.as_object_mut() else { return };
        if let Some(extensions) = payment.get_mut("extensions").and_then(Value::as_object_mut) {
            extensions.remove(BAZAAR);
        }
        let Some(declaration) = self.declaration() else { return };
        payment.insert("resource".to_owned(), json!(self.listed_at()));
        let extensions = payment.entry("extensions").or_insert_with(|| json!({}));
        if !extensions.is_object() {
            *extensions = json!({});
        }
        if let Some(extensions) = extensions.as_object_mut() {
            extensions.insert(BAZAAR.to_owned(), declaration);
        }
    }
}

/// What a payment that comes without a route says of what it buys.
pub(crate) fn declare_tool(payment: &mut PaymentPayload, sold: Option<(ResourceInfo, &Discoverable)>) {
    let declared = sold.and_then(|(mut resource, declared)| {
        declared.describe(&mut resource);
        Some((resource, declared.extension("POST", "/")?))
    });
    put(payment, declared);
}

fn put(payment: &mut PaymentPayload, declared: Option<(ResourceInfo, Value)>) {
    if let Some(extensions) = &mut payment.extensions {
        extensions.remove(BAZAAR);
    }
    payment.resource = None;
    if let Some((resource, declaration)) = declared {
        payment.resource = Some(resource);
        payment.extensions.get_or_insert_with(Map::new).insert(BAZAAR.to_owned(), declaration);
    }
}

/// A request without what only a charge is for: nothing is listed before it was paid for.
pub(crate) fn bare(request: &FacilitatorRequest) -> Option<FacilitatorRequest> {
    let payment = &request.payment_payload;
    if payment.resource.is_none() && payment.extensions.is_none() {
        return None;
    }
    let bare = PaymentPayload::new(payment.accepted.clone(), payment.payload.clone());
    Some(FacilitatorRequest::new(bare, request.payment_requirements.clone()))
}
