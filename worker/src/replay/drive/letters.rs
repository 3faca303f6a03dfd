//! Closes the dead letters of records that yield nothing now, such as one whose array is empty since a decode rule was
//! mended. Letters of records that become rows are closed with their batch; these have none.

use reprise_shared::dead_letters;
use reprise_shared::jobs;
use reprise_shared::mysql::errors;
use reprise_shared::position::Offset;

use super::{Drive, Stop};

/// The lane whose fence this uses.
const LANE: u8 = 0;
/// Letters that one transaction closes.
const MOST_AT_ONCE: usize = 500;

impl Drive {
    /// Closes what is settled below the position that is complete, before the checkpoint moves over it. `false`: MySQL
    /// does not answer now.
    pub(super) async fn close_letters(&self) -> Result<bool, Stop> {
        for some in self.judge.settled_before(self.ahead.position).chunks(MOST_AT_ONCE) {
            match self.close(some).await {
                Ok(true) => self.judge.forget(some),
                Ok(false) => return Err(Stop::Lost),
                Err(error) => {
                    tracing::warn!(error = errors::describe(&error), "close letters: the checkpoint waits");
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Closes some letters. `false`: the task belongs to another owner.
    async fn close(&self, offsets: &[Offset]) -> sqlx::Result<bool> {
        let (claim, now) = (self.claim.clone(), self.workshop.clock.now());
        let offsets = offsets.to_vec();
        let closed = self.workshop.database.tx("close_letters", move |connection| {
            let (claim, offsets) = (claim.clone(), offsets.clone());
            Box::pin(async move {
                if !jobs::lanes::enter(connection, claim.task, LANE, claim.epoch).await? {
                    return Ok::<_, sqlx::Error>(false);
                }
                let job = claim.task.job.to_string();
                let slice = &claim.slice;
                let place = (&slice.topic_id, slice.topic_partition.partition);
                dead_letters::close_processed(connection, &job, &slice.data_type, place, &offsets, now).await?;
                Ok(true)
            })
        });
        closed.await
    }
}
