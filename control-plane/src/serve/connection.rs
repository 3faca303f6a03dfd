//! One connection, from its handshake to its end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::{CallService, Peer, tls};
use crate::config::GrpcConfig;
use crate::metrics;

/// No age that a person would set is longer.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// A connection that nothing was read from yet.
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<TlsAcceptor>,
}

/// Serves one connection until either side ends it.
pub(super) async fn serve(accepted: Accepted, service: CallService, limits: Arc<GrpcConfig>, drain: CancellationToken) {
    let Accepted { stream, address, tls } = accepted;
    let Some(acceptor) = tls else {
        let peer = Peer {
            address,
            names: Arc::default(),
        };
        return calls(stream, peer, service, &limits, drain).await;
    };
    match timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let names = tls::names_of_peer(stream.get_ref().1);
            calls(stream, Peer { address, names }, service, &limits, drain).await;
        }
        Ok(Err(error)) => {
            metrics::connection_refused("handshake");
            tracing::debug!(peer = %address, %error, "tls handshake failed");
        }
        Err(_) => {
            metrics::connection_refused("handshake");
            tracing::debug!(peer = %address, "tls handshake took too long");
        }
    }
}

/// Serves the calls of a connection. At its age limit or at `drain` its client is asked to leave; calls in work may
/// end, for the grace period in the first case.
async fn calls<S>(stream: S, peer: Peer, service: CallService, limits: &GrpcConfig, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let address = peer.address;
    let answer = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        service.clone().oneshot(request.map(Body::new))
    });
    let mut connection = pin!(builder(limits).serve_connection(TokioIo::new(stream), answer));
    let now = Instant::now();
    let old = now + limits.max_connection_age;
    let mut leave = pin!(until_old_or(old, &drain));
    let mut asked_to_leave = false;
    let mut cut = pin!(sleep_until(now + FOR_EVER));
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %address, %error, "connection ended");
                }
                return;
            }
            () = leave.as_mut(), if !asked_to_leave => {
                asked_to_leave = true;
                connection.as_mut().graceful_shutdown();
                cut.as_mut().reset(Instant::now() + limits.connection_grace);
                if drain.is_cancelled() {
                    // The shutdown's own limit counts.
                    cut.as_mut().reset(now + FOR_EVER);
                }
            }
            () = cut.as_mut() => {
                tracing::debug!(peer = %address, "connection cut: it is too old");
                return;
            }
        }
    }
}

async fn until_old_or(old: Instant, drain: &CancellationToken) {
    tokio::select! {
        () = sleep_until(old) => {}
        () = drain.cancelled() => {}
    }
}

fn builder(limits: &GrpcConfig) -> http2::Builder<TokioExecutor> {
    let bounded = |bytes: u64| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .keep_alive_interval(limits.keepalive_every)
        .keep_alive_timeout(limits.keepalive_timeout)
        .max_header_list_size(bounded(limits.max_headers.as_u64()));
    builder
}
