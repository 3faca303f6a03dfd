//! Ends a call when its time is up: the time that the caller gave (`grpc-timeout`), or ours.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tower::Service;

use super::gate::{Answer, refusal};
use crate::grpc::error::{Error, ErrorReason};

/// When a call's time is up, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Instant);

/// Gives calls a deadline.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    usual: Duration,
    most: Duration,
}

impl Layer {
    /// `usual` for calls that do not say, and at most `most`.
    pub fn new(usual: Duration, most: Duration) -> Self {
        Self { usual, most }
    }
}

impl<S> tower::Layer<S> for Layer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> WithDeadline<S> {
        WithDeadline { inner, layer: *self }
    }
}

/// A service whose calls have a deadline.
#[derive(Clone, Debug)]
pub struct WithDeadline<S> {
    inner: S,
    layer: Layer,
}

impl<S> Service<Request<Body>> for WithDeadline<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let asked = asked(request.headers());
        let limit = asked.unwrap_or(self.layer.usual).min(self.layer.most);
        let deadline = Instant::now() + limit;
        request.extensions_mut().insert(Deadline(deadline));
        let answer = self.inner.call(request);
        Box::pin(async move {
            timeout_at(deadline, answer).await.unwrap_or_else(|_| {
                let message = format!(
                    "the call took longer than its {limit:?}; a change may have been made or not: try again with the \
                     same request_id, or with more time"
                );
                Ok(refusal(Error::new(ErrorReason::DeadlineExceeded, message)))
            })
        })
    }
}

/// Reads `grpc-timeout`: up to eight digits and a unit. One that cannot be read counts as not there.
fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        let read = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().expect("a header"));
            asked(&headers)
        };
        assert_eq!(read("3S"), Some(Duration::from_secs(3)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        for bad in ["", "S", "3", "3X", "-3S", "123456789S", "+1S", "1.5S"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(asked(&HeaderMap::new()), None);
    }
}
