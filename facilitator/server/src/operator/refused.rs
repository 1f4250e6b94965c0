//! Refusals as pages: a name, a sentence, a way back.

use super::access::{Role, Visitor};
use super::layout::{Place, page};
use crate::problem::Problem;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;
use tallybook_rules::Rejection;
use tallybook_wire::Network;

/// Why somebody does not get what they asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// Nobody can sign in here.
    NoPage,
    /// Who asks for a page is not signed in: they are led to where they can.
    NotSignedIn,
    /// Who acts is no administrator.
    NotAdministrator,
    /// A form that was not made for who sends it: by another site, or before they signed in.
    ForeignForm,
    /// Not the admin token.
    WrongToken,
    /// For a reason that the rest of the service has too.
    Problem(Problem),
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<Rejection> for Refused {
    fn from(rejection: Rejection) -> Self {
        Self::Problem(rejection.into())
    }
}

impl Refused {
    /// Status, name and sentence.
    fn told(self) -> (StatusCode, String, String) {
        let own = |status, name: &str, sentence: &str| (status, name.to_owned(), sentence.to_owned());
        match self {
            Self::NoPage => own(
                StatusCode::FORBIDDEN,
                "no_administration",
                "Nobody can sign in here: set admin_token, or operator.proxy_header, in the configuration.",
            ),
            Self::NotSignedIn => own(StatusCode::UNAUTHORIZED, "not_signed_in", "Sign in first."),
            Self::NotAdministrator => {
                own(StatusCode::FORBIDDEN, "not_administrator", "Only an administrator may do this: sign in as one.")
            }
            Self::ForeignForm => own(
                StatusCode::FORBIDDEN,
                "foreign_form",
                "Nothing was done: the form was not made for you, or you have signed in anew since. Load the page again.",
            ),
            Self::WrongToken => own(StatusCode::FORBIDDEN, "wrong_token", "That is not the admin token."),
            Self::Problem(problem) => {
                let refusal = problem.refusal();
                (problem.status().0, refusal.error.name().to_owned(), refusal.message)
            }
        }
    }

    /// As an answer to somebody.
    pub(super) fn answer(self, visitor: &Visitor, network: &Network) -> Response {
        if self == Self::NotSignedIn {
            return Redirect::to("/operator/sign-in").into_response();
        }
        let (status, name, sentence) = self.told();
        let body = html! {
            h1 { "Not done" }
            p.outcome role="alert" { (sentence) }
            p.note { "Reason: " code { (name) } }
            p.more { a href=(if visitor.role > Role::Stranger { "/operator" } else { "/operator/sign-in" }) { "Back" } }
        };
        (status, page("Not done", Place::Elsewhere, visitor, network, body)).into_response()
    }

    /// The sentence, to be shown in a page that goes on.
    pub(super) fn sentence(self) -> (StatusCode, String) {
        let (status, _, sentence) = self.told();
        (status, sentence)
    }
}
