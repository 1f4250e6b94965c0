//! The one place where a refusal becomes an HTTP answer.
//!
//! A payment that is refused is an answer like any other (200, as x402 facilitators do): see [`crate::schemes`]. What comes
//! here is a request that cannot be read, or a service that cannot serve now.

use crate::line::Elsewhere;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tallybook_rules::Rejection;
use tallybook_wire::{Reason, Refusal, body};

/// Why a request gets no proper answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Problem {
    /// By a named rejection.
    Refused(Rejection),
    /// Its book is held by another facilitator on the same database, or by none yet.
    Elsewhere([u8; 32]),
    /// No such route.
    NoRoute,
    /// The route takes another method.
    WrongMethod,
    /// Somebody has as much of the service as it may have; says who, and what to do.
    Full(&'static str),
    /// The body did not arrive in time.
    TooSlow,
    /// Nobody is an administrator here.
    NoAdministration,
    /// Somebody who is none asks for what only administrators may.
    NotAdministrator,
    /// Copies of the store have no place here.
    NoBackups,
    /// A copy of the store failed; the log says why.
    NotCopied,
    /// No catalogue is kept here.
    NoCatalogue,
    /// A question to the catalogue that is none; says what it must be.
    Question(&'static str),
}

/// As much is at work as `limits.requests_in_flight` allows.
pub(crate) const FULL: Problem = Problem::Full("The service is busy: retry after the time that Retry-After names.");

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

impl Problem {
    /// The status, and in how many seconds to come back if that helps.
    pub(crate) fn status(self) -> (StatusCode, Option<HeaderValue>) {
        let soon = Some(HeaderValue::from_static("1"));
        match self {
            Self::Elsewhere(_) => (StatusCode::MISDIRECTED_REQUEST, soon),
            Self::NoRoute | Self::NoCatalogue => (StatusCode::NOT_FOUND, None),
            Self::WrongMethod => (StatusCode::METHOD_NOT_ALLOWED, None),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, None),
            Self::Full(_) => (StatusCode::TOO_MANY_REQUESTS, soon),
            Self::Refused(Rejection::Unauthorized) | Self::NotAdministrator => (StatusCode::UNAUTHORIZED, None),
            Self::NoAdministration | Self::NoBackups => (StatusCode::FORBIDDEN, None),
            Self::NotCopied => (StatusCode::INTERNAL_SERVER_ERROR, None),
            Self::Refused(Rejection::RequestTooLarge) => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::Refused(Rejection::UnknownBook | Rejection::UnknownChannel | Rejection::UnknownPage) => {
                (StatusCode::NOT_FOUND, None)
            }
            Self::Refused(Rejection::SlotFree) => (StatusCode::GONE, None),
            Self::Refused(Rejection::Overloaded) => (StatusCode::TOO_MANY_REQUESTS, soon),
            Self::Refused(
                Rejection::Draining
                | Rejection::ChainUnavailable
                | Rejection::StoreUnavailable
                | Rejection::SettlementPending
                | Rejection::BookFull,
            ) => (StatusCode::SERVICE_UNAVAILABLE, soon),
            Self::Refused(_) | Self::Question(_) => (StatusCode::BAD_REQUEST, None),
        }
    }

    /// Its name and its sentence.
    pub(crate) fn refusal(self) -> Refusal {
        let foreign =
            |name: &str, message: &str| Refusal { error: Reason::from(name.to_owned()), message: message.to_owned() };
        match self {
            Self::Refused(rejection) => rejection.into(),
            Self::Elsewhere(_) => Rejection::StoreUnavailable.into(),
            Self::Full(message) => Refusal { message: message.to_owned(), ..Rejection::Overloaded.into() },
            Self::TooSlow => foreign("too_slow", "The body did not arrive in time: send it at once."),
            Self::NoRoute => foreign(
                "no_route",
                "Ask /supported, /books/{book}/offer, /books/{book}/pages, /verify, /settle, /release, /vouchers, /channels/{id}, /batches, /income, /admin, /admin/vouchers, /operator, /health, /metrics, /discovery/resources, /discovery/search or /discovery/status.",
            ),
            Self::WrongMethod => foreign(
                "wrong_method",
                "POST to /verify, /settle, /release, /vouchers, /books/{book}/pages, /admin/{pause, resume, settle, backup} and /admin/pages/{page}/pay-out; GET everything else.",
            ),
            Self::NoAdministration => {
                foreign("no_administration", "Set `admin_token` in the configuration to administer over HTTP.")
            }
            Self::NoBackups => foreign(
                "no_backups",
                "Set `backup_folder` in the configuration to have a `database` that is a file copied; use pg_dump for PostgreSQL.",
            ),
            Self::NotCopied => {
                foreign("not_copied", "The copy failed, and nothing else did: the facilitator's log says why.")
            }
            Self::NoCatalogue => {
                foreign("no_catalogue", "This facilitator lists nothing: see `[discovery]` in its configuration.")
            }
            Self::Question(message) => foreign("bad_question", message),
            Self::NotAdministrator => {
                foreign("unauthorized", "Send the facilitator's admin token as Authorization: Bearer.")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, retry_after) = self.status();
        let mut response = (status, json(body(&self.refusal()).unwrap_or_default())).into_response();
        if let Self::Elsewhere(book) = self {
            response.extensions_mut().insert(Elsewhere(book));
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// True for what says nothing of the payment, only of the service now.
pub(crate) const fn is_of_service(rejection: Rejection) -> bool {
    matches!(
        rejection,
        Rejection::Overloaded | Rejection::Draining | Rejection::ChainUnavailable | Rejection::StoreUnavailable
    )
}

/// JSON bytes as a body.
pub(crate) fn json(bytes: Vec<u8>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], bytes)
}
