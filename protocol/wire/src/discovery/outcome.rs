use crate::header;
use core::fmt;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// Facilitator to resource server, with the answer of `/settle`: what became of the payment's extensions. Never handed on to a
/// client. Holds [`ExtensionResponses`].
pub const EXTENSION_RESPONSES: HeaderName = HeaderName::from_static("extension-responses");

/// What became of a payment's extensions.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct ExtensionResponses {
    /// Of [`BAZAAR`](crate::BAZAAR), if the payment carried it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bazaar: Option<ListingOutcome>,
}

impl ExtensionResponses {
    /// The header's value; none when nothing is to be said.
    pub fn header(&self) -> Option<HeaderValue> {
        self.bazaar.as_ref().and_then(|_| header(self).ok())
    }
}

/// Whether what was paid for is listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum ListingOutcome {
    /// It is.
    Success,
    /// It was taken, and is looked at now.
    Processing,
    /// It is not.
    Rejected {
        /// Why: the name of an [`UnlistedReason`], and what to do.
        #[serde(rename = "rejectedReason", default)]
        reason: String,
    },
}

/// Names a reason once, with what to do about it.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $advice:literal;)+) => {
        /// Why a resource is not in the catalogue.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum UnlistedReason {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl UnlistedReason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it means and what to do.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

reasons! {
    /// Nothing was paid for there that declared itself.
    NotPaid = "not_paid", "No payment that was charged here has declared it, as far as is remembered: declare the route, and pay for one call of it through this facilitator.";
    /// The extension has not the form that it must have.
    Malformed = "malformed", "`extensions.bazaar` must be an object with the objects `info` and `schema`.";
    /// The declaration is too large.
    TooLarge = "too_large", "Make the declaration smaller: shorter examples, a smaller schema.";
    /// The URL is none that is listed.
    BadUrl = "bad_url", "The resource must be an http or https URL with a host and without a user name, of at most 1,024 characters.";
    /// Nobody else could reach it.
    PrivateAddress = "private_address", "The resource's host is not one of the public internet: set the server's public address (`base_url`).";
    /// The input is not described as x402 has it.
    BadInput = "bad_input", "`info.input` must be of type `http` with a method (and a `bodyType` where it has a body), or of type `mcp` with a `toolName` and an `inputSchema`.";
    /// The schema points out of itself.
    ExternalReference = "external_reference", "`$ref` and `$id` of the schema must point into the schema itself, with `#`.";
    /// The schema could cost more to check than it may.
    SchemaTooComplex = "schema_too_complex", "The schema is too deep, refers to itself, or grows too large once its references are written out: simplify it.";
    /// The schema is none.
    BadSchema = "bad_schema", "`schema` must be a JSON Schema of draft 2020-12, with patterns that need no look-around and no back-references.";
    /// The declaration is not what its own schema asks for.
    SchemaMismatch = "schema_mismatch", "`info` does not match the declaration's own `schema`.";
    /// The terms of payment are too large to be listed.
    BadTerms = "bad_terms", "The payment's requirements must have scheme, network, amount, asset and payTo, and a small `extra`.";
    /// The catalogue has more to look at than it can.
    Busy = "busy", "The catalogue has too much to look at now: a later payment is looked at again.";
    /// Others have taken its place.
    Displaced = "displaced", "It was paid for less recently than what took its place: a new payment lists it again.";
    /// Nobody has paid for it for long.
    Stale = "stale", "Nobody has paid for it for as long as entries are kept: a new payment lists it again.";
}

impl fmt::Display for UnlistedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why something is not listed, and where that was seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unlisted {
    /// The reason.
    pub reason: UnlistedReason,
    /// The same for people.
    pub message: String,
}

impl Unlisted {
    /// With the place at fault, such as `at /input/method: …`.
    pub fn at(reason: UnlistedReason, detail: impl fmt::Display) -> Self {
        Self { reason, message: format!("{} ({detail})", reason.advice()) }
    }
}

impl From<UnlistedReason> for Unlisted {
    fn from(reason: UnlistedReason) -> Self {
        Self { reason, message: reason.advice().to_owned() }
    }
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl From<Unlisted> for ListingOutcome {
    fn from(unlisted: Unlisted) -> Self {
        Self::Rejected { reason: unlisted.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_header;
    use serde_json::json;

    #[test]
    fn given_an_outcome_when_it_is_written_then_it_is_as_x402_has_it_and_reads_back() {
        let rejected = ListingOutcome::from(Unlisted::from(UnlistedReason::Busy));
        for (outcome, expected) in [
            (ListingOutcome::Success, json!({"bazaar": {"status": "success"}})),
            (ListingOutcome::Processing, json!({"bazaar": {"status": "processing"}})),
            (
                rejected,
                json!({"bazaar": {"status": "rejected", "rejectedReason": format!("busy: {}", UnlistedReason::Busy.advice())}}),
            ),
        ] {
            let responses = ExtensionResponses { bazaar: Some(outcome) };
            assert_eq!(serde_json::to_value(&responses).unwrap(), expected);
            assert_eq!(read_header::<ExtensionResponses>(responses.header().unwrap().as_bytes()).unwrap(), responses);
        }
        assert_eq!(ExtensionResponses::default().header(), None);
    }

    #[test]
    fn given_all_reasons_then_each_has_its_own_name_and_says_what_to_do() {
        let names: std::collections::BTreeSet<_> = UnlistedReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), UnlistedReason::ALL.len());
        for reason in UnlistedReason::ALL {
            assert!(reason.advice().len() > 20 && reason.advice().ends_with('.'), "{reason}");
            assert_eq!(serde_json::to_value(reason).unwrap(), json!(reason.name()));
        }
    }
}
