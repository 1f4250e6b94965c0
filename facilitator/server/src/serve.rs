//! Connections: taken, ended when their client is too slow, and let end in order.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The pause after a connection could not be taken, as when there are too many open files.
const TAKE_AGAIN: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1 until `closed`; then lets what is under way end. A client that does not send the whole head of a request
/// within `patience`, its first or its next, loses its connection.
pub(crate) async fn serve(listener: TcpListener, router: Router, patience: Duration, closed: CancellationToken) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(patience);
    let connections = TaskTracker::new();
    while let Some(taken) = closed.run_until_cancelled(take(&listener)).await {
        let service = TowerToHyperService::new(router.clone());
        let (connection, closed) = (http.serve_connection(TokioIo::new(taken), service), closed.clone());
        connections.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = closed.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// The next connection.
async fn take(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                // Answers are small and waited for.
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps its delay");
                }
                return connection;
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                tokio::time::sleep(TAKE_AGAIN).await;
            }
        }
    }
}
