//! Serves `/healthz`, `/readyz` and `/metrics`, beside whatever routes a service adds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Readiness;

/// What the server answers from.
pub struct Endpoints {
    /// Answers `/readyz`.
    pub readiness: Readiness,
    /// Answers `/healthz`: `Err` with the reason means that only a restart can help. Called once a request; must not
    /// block.
    pub liveness: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Answers `/metrics` in Prometheus' text format.
    pub render_metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// Further routes of the service.
    pub extra_routes: Router,
}

/// How long requests in progress may take after shutdown.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Serves until shutdown, then closes idle connections and gives requests in progress 2 s.
///
/// Give it a shutdown that comes last: a process that drains has to be seen as alive and not ready.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, endpoints: Endpoints, shutdown: CancellationToken) -> io::Result<()> {
    let server = axum::serve(listener, router(endpoints)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let time_is_up = async {
        shutdown.cancelled().await;
        sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = time_is_up => Ok(()),
    }
}

fn router(endpoints: Endpoints) -> Router {
    let Endpoints {
        readiness,
        liveness,
        render_metrics,
        extra_routes,
    } = endpoints;
    Router::new()
        .route("/healthz", get(healthz).with_state(Arc::from(liveness)))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics).with_state(Arc::from(render_metrics)))
        .merge(extra_routes)
}

async fn healthz(State(liveness): State<Arc<dyn Fn() -> Result<(), String> + Send + Sync>>) -> Response {
    match liveness() {
        Ok(()) => "alive\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not alive: {reason}\n")).into_response(),
    }
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    let status = readiness.status();
    let code = if status.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, status.to_string()).into_response()
}

async fn metrics(State(render): State<Arc<dyn Fn() -> String + Send + Sync>>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        render(),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use parking_lot::Mutex;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("the server listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).expect("a status code");
        format!("{code} {body}")
    }

    #[tokio::test]
    async fn the_three_endpoints_and_the_services_own_routes_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let readiness = Readiness::new();
        let latch = readiness.latch("kafka assigned");
        let death = Arc::new(Mutex::new(None));
        let seen_death = death.clone();
        let endpoints = Endpoints {
            readiness,
            liveness: Box::new(move || seen_death.lock().clone().map_or(Ok(()), Err)),
            render_metrics: Box::new(|| "reprise_things_total 1\n".to_owned()),
            extra_routes: Router::new().route("/debug/lanes", get(|| async { "two\n" })),
        };
        let shutdown = CancellationToken::new();

        let questions = async {
            assert_eq!(ask(address, "/healthz").await, "200 alive\n");
            assert_eq!(
                ask(address, "/readyz").await,
                "503 not ready\nkafka assigned: starting\n"
            );
            latch.ready();
            assert_eq!(ask(address, "/readyz").await, "200 ready\n");
            *death.lock() = Some("poll thread stands still".to_owned());
            assert_eq!(
                ask(address, "/healthz").await,
                "503 not alive: poll thread stands still\n"
            );
            assert_eq!(ask(address, "/metrics").await, "200 reprise_things_total 1\n");
            assert_eq!(ask(address, "/debug/lanes").await, "200 two\n");
            shutdown.cancel();
        };
        let (served, ()) = tokio::join!(serve(listener, endpoints, shutdown.clone()), questions);

        served.expect("the server ends well");
    }
}
