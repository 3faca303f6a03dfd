//! Metrics and a span for each call. A panic in a call is its own failure and no other call's.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use http::{Request, Response};
use reprise_shared::clock::Clock;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::Instrument as _;

use super::gate::{Answer, refusal};
use super::roles;
use crate::grpc::error::Error;
use crate::metrics;

/// Watches calls.
#[derive(Clone, Debug)]
pub struct Layer(Clock);

impl Layer {
    /// Takes the clock that calls are timed by.
    pub fn new(clock: Clock) -> Self {
        Self(clock)
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched {
            inner,
            clock: self.0.clone(),
        }
    }
}

/// A service whose calls are watched.
#[derive(Clone, Debug)]
pub struct Watched<S> {
    inner: S,
    clock: Clock,
}

impl<S> Service<Request<Body>> for Watched<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        // What callers write must not become a label: there would be no end of them.
        let method = roles::find(request.uri().path()).map_or("unknown", |(method, _)| method);
        let span = tracing::info_span!("call", rpc.method = method);
        let clock = self.clock.clone();
        let began = clock.monotonic();
        let answer = self.inner.call(request);
        let watched = async move {
            // Whatever the call owned is dropped with it and never looked at again.
            let answer = match AssertUnwindSafe(answer).catch_unwind().await {
                Ok(Ok(answer)) => answer,
                Err(_panic) => {
                    tracing::error!("a call panicked");
                    refusal(Error::internal())
                }
            };
            let code = Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code());
            let took = clock.monotonic().saturating_sub(began);
            metrics::call_ended(method, code, took);
            tracing::debug!(rpc.code = ?code, ?took, "call ended");
            Ok(answer)
        };
        Box::pin(watched.instrument(span))
    }
}
