//! A service in front of another one, with a fault in what it says.

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What was asked.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The body, where it is JSON.
    pub(crate) json: Value,
}

/// What is answered, to be spoilt.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The body; where it is JSON, what `json` says is sent instead.
    pub(crate) body: Bytes,
    pub(crate) json: Value,
}

/// What is wrong with it.
pub(crate) type Fault = Box<dyn FnMut(&Asked, &mut Answer) + Send>;

/// The service. It ends with this.
pub(crate) struct Proxy {
    url: String,
    served: JoinHandle<()>,
}

struct Behind {
    client: reqwest::Client,
    target: String,
    fault: Mutex<Fault>,
}

impl Proxy {
    pub(crate) async fn before(target: &str, fault: Fault) -> Result<Self> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let behind = Arc::new(Behind { client, target: target.to_owned(), fault: Mutex::new(fault) });
        let app = Router::new().fallback(pass).with_state(behind);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let served = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Ok(Self { url, served })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn pass(State(behind): State<Arc<Behind>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let url = format!("{}{}", behind.target, head.uri.path_and_query().unwrap());
    let mut headers = head.headers.clone();
    headers.remove("host");
    let sent =
        behind.client.request(head.method.clone(), url).headers(headers).body(body.clone()).send().await.unwrap();
    let (status, mut headers) = (sent.status(), sent.headers().clone());
    headers.remove("content-length");
    headers.remove("transfer-encoding");
    let answered = sent.bytes().await.unwrap();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    let asked = Asked { method: head.method, path: head.uri.path().to_owned(), headers: head.headers, json };
    let said: Value = serde_json::from_slice(&answered).unwrap_or_default();
    let mut answer = Answer { status, headers, body: answered, json: said.clone() };
    behind.fault.lock().unwrap()(&asked, &mut answer);
    let body = if answer.json == said { answer.body } else { answer.json.to_string().into() };
    let mut response = Response::new(Body::from(body));
    (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
    response
}
