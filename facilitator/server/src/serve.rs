//! Connections: taken, ended when their client is too slow, and let end in order.

use crate::connections::{Connections, Seat};
use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The pause after a connection could not be taken, as when there are too many open files.
const TAKE_AGAIN: Duration = Duration::from_millis(100);
/// How long a connection that has to go may still take to give out its answer.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// What somebody is told for whom there is no seat.
const NO_SEAT: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\n\
    content-type: application/json\r\ncontent-length: 89\r\n\r\n\
    {\"error\":\"overloaded\",\"message\":\"The service is busy: every connection is being served.\"}";

/// From where a request's connection comes: who asks, or a proxy of theirs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves HTTP/1.1 until `closed`; then lets what is under way end. A client that does not send the whole head of a request
/// within `patience`, its first or its next, loses its connection.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    patience: Duration,
    closed: CancellationToken,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let tasks = TaskTracker::new();
    while let Some((taken, from)) = closed.run_until_cancelled(take(&listener, &connections)).await {
        match connections.seat(from.ip()) {
            Some(seat) => {
                let peer = Peer(from.ip());
                drop(tasks.spawn(converse(http.clone(), (taken, peer), seat, router.clone(), closed.clone())));
            }
            // There is room for it in the socket, or nobody reads it.
            None => drop(taken.try_write(NO_SEAT)),
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// One connection, to its end.
async fn converse(
    http: hyper::server::conn::http1::Builder,
    (taken, peer): (TcpStream, Peer),
    seat: Seat,
    router: Router,
    closed: CancellationToken,
) {
    let (seat, router) = (Arc::new(seat), TowerToHyperService::new(router));
    let place = Arc::clone(&seat);
    let service = service_fn(move |mut request: Request<Incoming>| {
        place.busy();
        request.extensions_mut().insert(peer);
        let (place, answer) = (Arc::clone(&place), router.call(request));
        async move {
            let answer = answer.await;
            place.idle();
            answer
        }
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(taken), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closed.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = seat.given_up() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(LAST_ANSWER, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The next connection.
async fn take(listener: &TcpListener, connections: &Connections) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((connection, from)) => {
                // Answers are small and waited for.
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return (connection, from);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                connections.make_room();
                tokio::time::sleep(TAKE_AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_answer_for_whom_there_is_no_seat_when_it_is_read_then_its_length_and_its_json_are_right() {
        let text = std::str::from_utf8(NO_SEAT).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head}\n{}", body.len());
        let refusal: tallybook_wire::Refusal = tallybook_wire::read_body(body.as_bytes()).unwrap();
        assert_eq!(refusal.error, tallybook_rules::Rejection::Overloaded.into());
    }
}
