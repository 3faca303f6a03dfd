//! A layer that lets a call through or refuses it, by its head alone.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::HttpBody as _;
use http::request::Parts;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::denials::Denials;
use crate::grpc::error::Error;

/// The future of a call's answer.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// So much of a refused call is taken, in bytes.
const MOST_TAKEN: usize = 64 << 10;
/// And this long is waited for it.
const REST_LIMIT: Duration = Duration::from_millis(100);

/// Judges calls.
pub trait Gate: Send + Sync + 'static {
    /// Lets a call through, or says why not. May leave what it found out in the call's extensions.
    fn admit(&self, call: &mut Parts) -> impl Future<Output = Result<(), Error>> + Send;
}

/// Puts a gate before a service.
pub struct GateLayer<G> {
    gate: Arc<G>,
    denials: Denials,
}

impl<G: Gate> GateLayer<G> {
    /// Wraps a gate, whose refusals are told.
    pub fn new(gate: G, denials: Denials) -> Self {
        Self {
            gate: Arc::new(gate),
            denials,
        }
    }
}

impl<S, G> tower::Layer<S> for GateLayer<G> {
    type Service = Gated<S, G>;

    fn layer(&self, inner: S) -> Gated<S, G> {
        Gated {
            inner,
            gate: Arc::clone(&self.gate),
            denials: self.denials.clone(),
        }
    }
}

/// A service behind a gate.
pub struct Gated<S, G> {
    inner: S,
    gate: Arc<G>,
    denials: Denials,
}

impl<S: Clone, G> Clone for Gated<S, G> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            gate: Arc::clone(&self.gate),
            denials: self.denials.clone(),
        }
    }
}

impl<S, G> Service<Request<Body>> for Gated<S, G>
where
    G: Gate,
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        // The clone takes the readiness's place; the one that was asked is the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let (gate, denials) = (Arc::clone(&self.gate), self.denials.clone());
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match gate.admit(&mut head).await {
                Ok(()) => inner.call(Request::from_parts(head, body)).await,
                Err(error) => {
                    denials.note(&head, error.reason());
                    take_rest(body).await;
                    Ok(refusal(error))
                }
            }
        })
    }
}

/// Reads the rest of a refused call, which is on its way already. Answered before, its stream would be reset under it,
/// and a client with many refused calls would lose its connection: the HTTP/2 library bounds such resets.
async fn take_rest(body: Body) {
    let mut body = pin!(body);
    let take = async {
        let mut left = MOST_TAKEN;
        while let Some(Ok(frame)) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let taken = frame.data_ref().map_or(0, |data| data.len());
            let Some(rest) = left.checked_sub(taken) else { return };
            left = rest;
        }
    };
    // Whoever sends no more is answered all the same.
    let _ = tokio::time::timeout(REST_LIMIT, take).await;
}

/// Returns the answer that tells a refusal.
pub(super) fn refusal(error: Error) -> Response<Body> {
    Status::from(error).into_http()
}
