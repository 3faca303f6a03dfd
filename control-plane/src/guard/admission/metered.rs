//! A request's body that is read on beyond a small message only with a further place.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;

use super::{Layer, Place};

type Waiting = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A body that counts what is read of it.
pub(super) struct Metered {
    body: Body,
    place: Place,
    large: Arc<Semaphore>,
    waiting: Option<Waiting>,
    /// Bytes that may be read without a further place.
    left: u64,
}

impl Metered {
    pub(super) fn new(body: Body, layer: &Layer, place: Place) -> Self {
        Self {
            body,
            place,
            large: Arc::clone(&layer.large),
            waiting: None,
            left: layer.small,
        }
    }

    /// Waits, in turn, for the further place, which the call then keeps.
    fn poll_large(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.place.0.large.get().is_some() {
            return Poll::Ready(());
        }
        let large = &self.large;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(Arc::clone(large).acquire_owned()));
        // Nobody closes the semaphore; were it closed, the message is read all the same.
        if let Ok(permit) = ready!(waiting.as_mut().poll(context)) {
            let _ = self.place.0.large.set(permit);
        }
        self.waiting = None;
        Poll::Ready(())
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let metered = self.get_mut();
        if metered.left == 0 {
            ready!(metered.poll_large(context));
        }
        let frame = ready!(Pin::new(&mut metered.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
            metered.left = metered.left.saturating_sub(taken);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
