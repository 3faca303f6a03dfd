//! Refuses calls beyond what the server can work on at one time, at once and cheaply, instead of making all slow.
//! Nobody knows yet who calls, and the refusal says nothing against the caller: it is counted in the metrics, and not
//! on record as a denial.
//!
//! A call holds its [`Place`] until its work ends: a change that goes on without its caller goes on holding it. Calls
//! with a large message take one of few further places before the message is read on, so that the memory of all calls
//! together is bounded.

mod metered;

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tower::Service;

use self::metered::Metered;
use super::gate::{Answer, refusal};
use crate::config::GrpcConfig;
use crate::grpc::error::{Error, ErrorReason};
use crate::metrics;

/// A refused caller is asked to wait this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Bounds the calls in work.
#[derive(Clone, Debug)]
pub struct Layer {
    places: Arc<Semaphore>,
    most: usize,
    large: Arc<Semaphore>,
    /// A message of more bytes is large.
    small: u64,
}

impl Layer {
    /// Allows as many calls, and calls with a large message, at one time as the limits say.
    pub fn new(limits: &GrpcConfig) -> Self {
        let places = |most| usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places(limits.max_calls))),
            most: places(limits.max_calls),
            large: Arc::new(Semaphore::new(places(limits.max_bulk_calls))),
            small: limits.max_message.as_u64(),
        }
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service with bounded calls in work.
#[derive(Clone, Debug)]
pub struct Admission<S> {
    inner: S,
    layer: Layer,
}

impl<S> Service<Request<Body>> for Admission<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let Layer { places, most, .. } = &self.layer;
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            metrics::call_refused("OVERLOADED");
            let message = format!("the server works on {most} calls already; try again in a moment");
            let error = Error::new(ErrorReason::Overloaded, message).retry_after(RETRY_AFTER);
            return Box::pin(async { Ok(refusal(error)) });
        };
        let place = Place::new(place);
        let mut request = request.map(|body| Body::new(Metered::new(body, &self.layer, place.clone())));
        request.extensions_mut().insert(place.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            answer
        })
    }
}

/// A call's place among those in work, until the last clone is dropped. It is in the extensions of the request.
#[derive(Clone)]
pub struct Place(Arc<Held>);

struct Held {
    #[expect(dead_code, reason = "held for its drop")]
    call: OwnedSemaphorePermit,
    /// A further place, once the message turned out to be large.
    large: OnceLock<OwnedSemaphorePermit>,
}

impl Place {
    fn new(call: OwnedSemaphorePermit) -> Self {
        metrics::call_began();
        let large = OnceLock::new();
        Self(Arc::new(Held { call, large }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        metrics::call_left();
    }
}
