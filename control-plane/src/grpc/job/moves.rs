//! What the requests that move a job have in common.

use reprise_proto::v1::{CancelJobRequest, PauseJobRequest, ResumeJobRequest, RetryJobRequest};

/// A request that moves one job.
pub(super) trait Move: prost::Message {
    /// The name of its call.
    const METHOD: &'static str;

    /// Returns which job is meant.
    fn job_id(&self) -> &str;
    /// Returns the key under which the request counts once.
    fn request_id(&self) -> &str;
    /// Returns which revision of the job is meant; empty for any.
    fn etag(&self) -> &str;
    /// Tells whether the move is only checked.
    fn validate_only(&self) -> bool;
}

macro_rules! moves {
    ($($request:ident => $method:literal,)*) => {$(
        impl Move for $request {
            const METHOD: &'static str = $method;

            fn job_id(&self) -> &str {
                &self.job_id
            }

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn etag(&self) -> &str {
                &self.etag
            }

            fn validate_only(&self) -> bool {
                self.validate_only
            }
        }
    )*};
}

moves! {
    PauseJobRequest => "PauseJob",
    ResumeJobRequest => "ResumeJob",
    CancelJobRequest => "CancelJob",
    RetryJobRequest => "RetryJob",
}
