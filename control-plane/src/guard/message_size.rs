//! Says in our words, with the usual code, that a request's message is too large: the library answers OUT_OF_RANGE.

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

/// Rewrites the library's answer.
#[derive(Clone, Copy, Debug)]
pub struct Layer;

impl<S> tower::Layer<S> for Layer {
    type Service = MessageSize<S>;

    fn layer(&self, inner: S) -> MessageSize<S> {
        MessageSize(inner)
    }
}

/// A service that says it in our words.
#[derive(Clone, Debug)]
pub struct MessageSize<S>(S);

impl<S> Service<Request<Body>> for MessageSize<S>
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
    let status = Status::from_header_map(answer.headers());
    match status {
        Some(status) if status.code() == Code::OutOfRange && status.message().starts_with(LIBRARY_SAYS) => {
            metrics::call_refused("MESSAGE_TOO_LARGE");
            let sizes = status
                .message()
                .trim_start_matches(LIBRARY_SAYS)
                .trim_start_matches(": ");
            let message = format!("the request's message is too large ({sizes}): send it in parts");
            refusal(Error::new(ErrorReason::MessageTooLarge, message))
        }
        _ => answer,
    }
}
