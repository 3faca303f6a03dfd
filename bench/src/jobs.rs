//! What the figures of replay stand on: a topic that was ingested, a control plane and a replay worker.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::{CancelJobRequest, Job, JobState, ReplayMode, ReplaySpec};
use reprise_tests::control::ControlPlane;
use reprise_tests::fleet::PATIENCE;
use reprise_tests::jobs::{Jobs, everything, job_of};

use crate::drain::drain;
use crate::ground::Ground;

/// How long one job may take.
const LIMIT: Duration = Duration::from_secs(300);
/// How long the ingest worker may take to be through.
pub const THROUGH: Duration = PATIENCE;

/// A control plane beside a topic that was ingested, and a replay worker.
pub struct Bench {
    /// Its servers and workers.
    pub ground: Ground,
    server: ControlPlane,
    jobs: Jobs,
}

impl Bench {
    /// Publishes and ingests the records, and starts the rest.
    pub async fn new(records: u64) -> Result<Self> {
        let mut ground = Ground::new(records).await?;
        drain(&mut ground, records).await?;
        let settings = vec![
            ("catalog", ground.fleet.catalog_path().display().to_string()),
            ("rate_limit.per_second", "0".to_owned()),
        ];
        let server = ControlPlane::start_on(&ground.fleet.isolation, settings).await?;
        server.ready().await?;
        ground.fleet.start_replay_workers(1).await?;
        let jobs = Jobs::of(&server);
        Ok(Self { ground, server, jobs })
    }

    /// Begins a replay of all offsets; of all ids where none is given.
    pub async fn begin(&self, ids: Vec<String>) -> Result<Job> {
        let replay = ReplaySpec {
            ids,
            ..everything(&["fund_valuation"], ReplayMode::Live)
        };
        self.jobs.begin(job_of(replay)).await
    }

    /// Waits until a job ended.
    pub async fn ended(&self, job: &Job) -> Result<Job> {
        self.jobs.ended(&job.job_id, LIMIT).await
    }

    /// Cancels a job that may still run, and returns what became of it.
    pub async fn cancel(&self, job: &Job) -> Result<Job> {
        let request = CancelJobRequest {
            job_id: job.job_id.clone(),
            ..CancelJobRequest::default()
        };
        self.jobs.client.clone().cancel_job(request).await?;
        self.ended(job).await
    }

    /// Stops everything.
    pub async fn stop(mut self) -> Result<()> {
        self.server.stop().await?;
        self.ground.fleet.stop().await
    }
}

/// Returns how long a job that succeeded took from its creation to its end, in seconds.
pub fn seconds(job: &Job) -> Result<f64> {
    ensure!(job.state() == JobState::Succeeded, "{}: {}", job.reason, job.detail);
    lasted(job)
}

/// Returns how long it was from a job's creation to its end, in seconds.
pub fn lasted(job: &Job) -> Result<f64> {
    let begun = job.create_time.context("no time of creation")?;
    let ended = job.finish_time.context("the job has not ended")?;
    Ok((ended.seconds - begun.seconds) as f64 + f64::from(ended.nanos - begun.nanos) / 1e9)
}
