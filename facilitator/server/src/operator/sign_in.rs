//! Signing in with the admin token, and out again.

use super::access::{COOKIE, Role, Visitor, cookie};
use super::form::{Fields, from_elsewhere};
use super::layout::{Place, page};
use super::refused::Refused;
use crate::app::App;
use crate::audit::Act;
use crate::metrics;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use tallybook_rules::Rejection;
use tallybook_sequencer::clock;
use tallybook_wire::Asked;

/// `GET /operator/sign-in`.
pub(super) fn ask<C>(app: &App<C>, visitor: &Visitor) -> Response {
    if visitor.role == Role::Administrator {
        return Redirect::to("/operator").into_response();
    }
    page("Sign in", Place::Elsewhere, visitor, &app.network, body(app, None)).into_response()
}

fn body<C>(app: &App<C>, problem: Option<&str>) -> Markup {
    html! {
        section.sign-in aria-labelledby="sign-in-title" {
            h1 id="sign-in-title" { "Sign in" }
            @if app.config.admin_token.is_some() {
                form method="post" action="/operator/sign-in" {
                    // For who keeps passwords, which are kept by name.
                    input type="text" name="username" value="administrator" autocomplete="username" hidden;
                    label for="token" { "Admin token" }
                    input id="token" name="token" type="password" required autocomplete="current-password"
                        aria-describedby="token-note" aria-invalid=[problem.map(|_| "true")];
                    @if let Some(problem) = problem { p.outcome role="alert" { (problem) } }
                    button.primary type="submit" { "Sign in" }
                }
                p.note id="token-note" {
                    "The " code { "admin_token" } " of the configuration. You stay signed in for "
                    (app.config.operator.session_minutes) " minutes, or until the facilitator is started again."
                }
            } @else {
                p { "Sign in at the proxy in front of this facilitator, as somebody whom its configuration names." }
            }
        }
    }
}

/// `POST /operator/sign-in`: begins a session for who shows the admin token.
pub(super) async fn sign_in<C>(
    app: &App<C>,
    visitor: &Visitor,
    headers: &HeaderMap,
    body_bytes: &[u8],
) -> Result<Response, Refused> {
    if from_elsewhere(headers) {
        return Err(Refused::ForeignForm);
    }
    let token = app.config.admin_token.as_ref().ok_or(Refused::NoPage)?;
    if !token.is(Fields::read(body_bytes)?.get("token").as_bytes()) {
        let (_, sentence) = Refused::WrongToken.sentence();
        metrics::wrong_admin_token();
        tracing::warn!("somebody has tried to sign in with a wrong token");
        let answer = page("Sign in", Place::Elsewhere, visitor, &app.network, body(app, Some(&sentence)));
        return Ok((StatusCode::FORBIDDEN, answer).into_response());
    }
    app.record(|| Act::administered(Asked::SignIn, None)).await?;
    tracing::info!("an administrator has signed in");
    let seconds = i64::from(app.config.operator.session_minutes).saturating_mul(60);
    let now = clock();
    let id = app.operator.sessions.begin(now.saturating_add(seconds), now);
    with_cookie(headers, &id, seconds)
}

/// `POST /operator/sign-out`.
pub(super) fn sign_out<C>(app: &App<C>, headers: &HeaderMap) -> Result<Response, Refused> {
    if let Some(id) = cookie(headers) {
        app.operator.sessions.end(id);
    }
    with_cookie(headers, "", 0)
}

/// Back to the page, with the session in a cookie that scripts do not see and other sites do not send.
fn with_cookie(headers: &HeaderMap, id: &str, seconds: i64) -> Result<Response, Refused> {
    let is_secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes() == b"https");
    let secure = if is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={id}; Path=/operator; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    let cookie = HeaderValue::try_from(cookie).map_err(|_| Rejection::MalformedPayload)?;
    let mut response = Redirect::to("/operator").into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
