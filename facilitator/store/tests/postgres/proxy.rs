//! A network between a store and its server, that can fail at one moment.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// What happens to what the store says next, once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// It does not arrive: the connection is cut.
    Unsent,
    /// It arrives, and is done; its answer does not.
    Unanswered,
    /// It is cut in the middle.
    Torn,
}

/// A proxy, until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    next: Arc<Mutex<Option<Fault>>>,
    _runtime: Runtime,
}

impl Proxy {
    pub(crate) fn before(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let next = Arc::new(Mutex::new(None));
        let own = listener.local_addr().unwrap().port();
        let faults = Arc::clone(&next);
        runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&faults)));
            }
        });
        Self { port: own, next, _runtime: runtime }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Has this happen at what is said next.
    pub(crate) fn fail(&self, fault: Fault) {
        *self.next.lock().unwrap() = Some(fault);
    }
}

async fn carry(client: TcpStream, server: TcpStream, faults: Arc<Mutex<Option<Fault>>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Nothing is answered any more.
    let silent = CancellationToken::new();
    let heard = silent.clone();
    let back = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(read) = from_server.read(&mut buffer).await {
            if read == 0 || heard.is_cancelled() || to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(read) = from_client.read(&mut buffer).await {
        let fault = faults.lock().unwrap().take();
        let sent = match fault {
            Some(Fault::Unsent) => 0,
            Some(Fault::Torn) => read / 2,
            Some(Fault::Unanswered) | None => read,
        };
        if fault.is_some() {
            silent.cancel();
        }
        if read == 0 || to_server.write_all(&buffer[..sent]).await.is_err() {
            break;
        }
        if fault.is_some() {
            // The server is given the time to do what it was told.
            tokio::time::sleep(Duration::from_millis(300)).await;
            break;
        }
    }
    back.abort();
}
