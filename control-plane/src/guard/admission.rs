//! Refuses calls beyond what the server can work on at one time, at once and cheaply, instead of making all slow.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tower::Service;

use super::gate::{Answer, refusal};
use crate::grpc::error::{Error, ErrorReason};
use crate::metrics;

/// A refused caller is asked to wait this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Bounds the calls in work.
#[derive(Clone, Debug)]
pub struct Layer {
    places: Arc<Semaphore>,
    most: usize,
}

impl Layer {
    /// Allows so many calls at one time.
    pub fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(most)),
            most,
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
        let Layer { places, most } = &self.layer;
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            metrics::call_refused("OVERLOADED");
            let message = format!("the server works on {most} calls already; try again in a moment");
            let error = Error::new(ErrorReason::Overloaded, message).retry_after(RETRY_AFTER);
            return Box::pin(async { Ok(refusal(error)) });
        };
        let place = Place::new(place);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(place);
            answer
        })
    }
}

/// A call's place among those in work, also while it is dropped because its caller went away.
struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::call_began();
        Self(permit)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        metrics::call_left();
    }
}
