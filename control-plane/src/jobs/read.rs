//! What can be asked of jobs without changing them.

use std::time::Duration;

use reprise_shared::jobs::{self, Job, JobId, Missing, Overlap, Progress};

use super::{Error, Jobs};
use crate::planner::Plan;

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The job.
    pub job: Job,
    /// How far it is.
    pub progress: Progress,
    /// What it could not read.
    pub missing: Vec<Missing>,
}

impl Jobs {
    /// Returns how a job stands. What it shows of one that ended does not change any more.
    ///
    /// # Errors
    /// [`Error::NoSuchJob`], or MySQL does not answer.
    pub async fn snapshot(&self, id: JobId) -> Result<Snapshot, Error> {
        let pool = self.0.database.pool();
        // The job first: what is read after it was seen in a final state is its last.
        let job = jobs::job(pool, id).await?.ok_or(Error::NoSuchJob(id))?;
        Ok(Snapshot {
            progress: jobs::progress(pool, id).await?,
            missing: jobs::missing(pool, id).await?,
            job,
        })
    }

    /// Returns how long a job has been read, or was: from its first worker to its end or to now.
    pub fn running_for(&self, job: &Job) -> Option<Duration> {
        let end = job.finished_at.unwrap_or_else(|| self.0.clock.now());
        Duration::try_from(end.duration_since(job.started_at?)).ok()
    }

    /// Lists jobs, the newest first.
    ///
    /// # Errors
    /// MySQL does not answer.
    pub async fn list(
        &self,
        filter: &jobs::JobsFilter,
        after: Option<jobs::Cursor>,
        limit: u32,
    ) -> Result<Vec<Job>, Error> {
        Ok(jobs::jobs(self.0.database.pool(), filter, after, limit).await?)
    }

    /// Lists a job's tasks after a number.
    ///
    /// # Errors
    /// [`Error::NoSuchJob`], or MySQL does not answer.
    pub async fn tasks(&self, id: JobId, after: Option<u32>, limit: u32) -> Result<Vec<jobs::Task>, Error> {
        let pool = self.0.database.pool();
        jobs::job(pool, id).await?.ok_or(Error::NoSuchJob(id))?;
        Ok(jobs::tasks(pool, id, after, limit).await?)
    }

    /// Lists what a job found wrong.
    ///
    /// # Errors
    /// [`Error::NoSuchJob`], or MySQL does not answer.
    pub async fn mismatches(
        &self,
        id: JobId,
        after: Option<&jobs::MismatchCursor>,
        limit: u32,
    ) -> Result<Vec<jobs::Mismatch>, Error> {
        let pool = self.0.database.pool();
        jobs::job(pool, id).await?.ok_or(Error::NoSuchJob(id))?;
        Ok(jobs::mismatches::mismatches(pool, id, after, limit).await?)
    }

    /// Finds unfinished jobs on the positions of a plan.
    ///
    /// # Errors
    /// MySQL does not answer.
    pub async fn overlaps(&self, plan: &Plan) -> Result<Vec<Overlap>, Error> {
        let slices: Vec<jobs::Slice> = plan.draft.slices.iter().cloned().map(jobs::Slice::from).collect();
        Ok(jobs::overlapping(self.0.database.pool(), &slices).await?)
    }
}
