//! The wallet's server over streamable HTTP.

use crate::wallet::WalletServer;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use sha2::{Digest, Sha256};
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Where the server answers.
const PATH: &str = "/mcp";
/// The largest message, in bytes: the longest body that is sent on, and what is around it.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Who may connect.
#[derive(Clone, Default)]
pub struct HttpSettings {
    /// What clients show as a bearer token; needed unless only this machine can connect.
    pub token: Option<String>,
    /// Pages whose scripts may connect, by their origin, `https://app.example.com:443`. Without one no browser may.
    pub origins: Vec<String>,
}

/// Without the token.
impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings").field("origins", &self.origins).finish_non_exhaustive()
    }
}

/// An address that others can reach, and no token: whoever found it would spend the owner's money.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an address that other machines can reach needs a token: name one, or listen on 127.0.0.1")]
pub struct Insecure;

/// Serves `server` over HTTP at `/mcp`, until `stop` is over. Every session pays from the one wallet.
///
/// On loopback, requests whose `Host` is another than this machine's are refused, so that no page reaches the server under a name
/// that it made resolve to it (DNS rebinding). Everywhere, requests with an `Origin` that is not allowed are refused.
///
/// # Errors
/// [`Insecure`], as an [`io::Error`] of kind `InvalidInput`; or what serving fails with.
pub async fn serve_http(
    server: WalletServer,
    listener: TcpListener,
    settings: HttpSettings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let is_local = listener.local_addr()?.ip().is_loopback();
    if !is_local && settings.token.is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, Insecure));
    }
    let config = StreamableHttpServerConfig::default()
        .with_max_request_body_bytes(MAX_MESSAGE_BYTES)
        .with_allowed_origins(settings.origins)
        .enforce_origin_validation();
    // Elsewhere nobody knows by which names this machine goes, and the token keeps pages out.
    let config = if is_local { config } else { config.disable_allowed_hosts() };
    let ended = config.cancellation_token.clone();
    let service = StreamableHttpService::new(move || Ok(server.clone()), Arc::<LocalSessionManager>::default(), config);
    let mut app = Router::new().route_service(PATH, service);
    if let Some(token) = settings.token {
        let expected: Expected = Sha256::digest(token.as_bytes()).into();
        app = app.layer(middleware::from_fn_with_state(expected, authorized));
    }
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            stop.await;
            // Sessions are held open by their clients: they would never end.
            ended.cancel();
        })
        .await
}

/// The token's hash: comparing hashes tells nobody how much of a guess was right.
type Expected = [u8; 32];

async fn authorized(State(expected): State<Expected>, request: Request, next: Next) -> Response {
    let shown: Expected = Sha256::digest(bearer(request.headers())).into();
    if shown == expected {
        return next.run(request).await;
    }
    let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (StatusCode::UNAUTHORIZED, challenge, "show the server's token as Authorization: Bearer").into_response()
}

fn bearer(headers: &HeaderMap) -> &[u8] {
    let shown = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    shown.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default()
}
