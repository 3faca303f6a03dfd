//! The stream of a job that is followed.

use std::pin::Pin;

use futures::stream;
use reprise_proto::v1::WatchJobResponse;
use tonic::Status;

use super::show;
use crate::grpc::error::{Error, ErrorReason};
use crate::jobs::watch::Follower;

/// Snapshots up to the end.
pub(super) type Stream = Pin<Box<dyn futures::Stream<Item = Result<WatchJobResponse, Status>> + Send>>;

/// Makes the stream of a follower.
pub(super) fn stream(follower: Follower) -> Stream {
    Box::pin(stream::unfold(Some(follower), |follower| async move {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(seen)) => {
                let job = Some(show::whole(&seen.snapshot, seen.rate));
                Some((Ok(WatchJobResponse { job }), Some(follower)))
            }
            Ok(None) => None,
            Err(cut) => {
                let message = format!("{cut}: this server shuts down, or the job was removed; call again");
                let error = Error::new(ErrorReason::StoreAway, message);
                Some((Err(error.into()), None))
            }
        }
    }))
}
