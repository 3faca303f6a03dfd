//! Says in our words what the library says in its own: that a request's message is too large (which it calls
//! OUT_OF_RANGE), and that a method is declared and not there.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::gate::{Answer, refusal};
use crate::grpc::error::{Error, ErrorReason};
use crate::metrics;

/// How the library's message begins.
const LIBRARY_SAYS: &str = "Error, decoded message length too large";

/// Rewrites the library's answers.
#[derive(Clone, Copy, Debug)]
pub struct Layer;

impl<S> tower::Layer<S> for Layer {
    type Service = Reworded<S>;

    fn layer(&self, inner: S) -> Reworded<S> {
        Reworded(inner)
    }
}

/// A service that says it in our words.
#[derive(Clone, Debug)]
pub struct Reworded<S>(S);

impl<S> Service<Request<Body>> for Reworded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let answer = self.0.call(request);
        Box::pin(async move { answer.await.map(rewritten) })
    }
}

fn rewritten(answer: Response<Body>) -> Response<Body> {
    match Status::from_header_map(answer.headers()).and_then(|status| in_our_words(&status)) {
        Some(error) => {
            metrics::call_refused(error.reason().reason());
            refusal(error)
        }
        None => answer,
    }
}

fn in_our_words(status: &Status) -> Option<Error> {
    if status.code() == Code::OutOfRange {
        let sizes = status.message().strip_prefix(LIBRARY_SAYS)?.trim_start_matches(": ");
        let message = format!("the request's message is too large ({sizes}): send it in parts");
        return Some(Error::new(ErrorReason::MessageTooLarge, message));
    }
    (status.code() == Code::Unimplemented && status.details().is_empty()).then(|| {
        let message = "this method is not part of this version of the server";
        Error::new(ErrorReason::NotImplemented, message)
    })
}
