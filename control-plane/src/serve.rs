//! Connections: accepted, encrypted, bounded in number and age, and ended in order.
//!
//! The library's own server is not used, because it does not ask clients to leave when a connection has an age limit
//! with a grace period, and because its graceful shutdown has no limit.

mod connection;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::util::BoxCloneSyncService;

pub use tls::Tls;

use crate::config::GrpcConfig;
use crate::metrics;

/// What answers calls.
pub type CallService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// After a failed accept (too many open files, mostly) the next one waits this long.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

/// The other side of a connection, in the extensions of each of its calls.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The names in the certificate that it showed, which an authority of ours signed; none: it showed none.
    pub names: Arc<[String]>,
}

/// Serves until `drain` is cancelled. Then no connection is accepted any more, clients are asked to leave, calls in
/// work are answered, and what is left at the limit is cut.
///
/// Not cancel-safe: dropping it cuts all connections.
pub async fn serve(
    listener: TcpListener,
    service: CallService,
    tls: Option<Tls>,
    limits: GrpcConfig,
    drain: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(usize::try_from(limits.max_connections).unwrap_or(1)));
    let limits = Arc::new(limits);
    let mut connections = JoinSet::new();
    loop {
        metrics::connections(connections.len());
        tokio::select! {
            biased;
            () = drain.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                        metrics::connection_refused("limit");
                        tracing::debug!(peer = %address, "connection closed: there are too many");
                        continue;
                    };
                    let accepted = connection::Accepted {
                        stream: prepared(stream),
                        address,
                        tls: tls.as_ref().map(Tls::acceptor),
                    };
                    let served = connection::serve(accepted, service.clone(), Arc::clone(&limits), drain.clone());
                    connections.spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
    drop(listener);
    let limit = limits.shutdown.saturating_sub(limits.shutdown_notice);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limit, ended).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            ?limit,
            "shutdown takes too long: connections are cut"
        );
        connections.shutdown().await;
    }
    metrics::connections(0);
}

fn prepared(stream: TcpStream) -> TcpStream {
    // Without it small answers may wait for 40 ms; a socket that is closed already shows itself soon enough.
    let _ = stream.set_nodelay(true);
    stream
}
