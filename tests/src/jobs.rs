//! Jobs, as a caller of the control plane runs them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::job_spec::Work;
use reprise_proto::v1::replay_spec::Records;
use reprise_proto::v1::{
    CreateJobRequest, GetJobRequest, Job, JobPlan, JobSpec, JobState, ListMismatchesRequest, Mismatch, OffsetInterval,
    PartitionOffsets, PlanJobRequest, ReplayMode, ReplayOffsets, ReplaySpec, ReplayTimes, RowCounts, TimeBasis,
    TimeWindow,
};
use tonic::transport::Channel;

use crate::control::ControlPlane;
use crate::wait::wait_for;

/// Plans jobs, creates them and waits for their end. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    /// The service's client.
    pub client: JobServiceClient<Channel>,
}

impl Jobs {
    /// Calls a control plane.
    pub fn of(server: &ControlPlane) -> Self {
        Self {
            client: JobServiceClient::new(server.channel()),
        }
    }

    /// Plans a job.
    pub async fn plan(&self, spec: JobSpec) -> Result<(String, JobPlan)> {
        let request = PlanJobRequest { spec: Some(spec) };
        let planned = self.client.clone().plan_job(request).await?.into_inner();
        Ok((planned.plan_token, planned.plan.context("no plan")?))
    }

    /// Plans a job and creates it.
    pub async fn begin(&self, spec: JobSpec) -> Result<Job> {
        let (plan_token, _) = self.plan(spec).await?;
        let request = CreateJobRequest {
            plan_token,
            ..CreateJobRequest::default()
        };
        let created = self.client.clone().create_job(request).await?.into_inner();
        created.job.context("no job")
    }

    /// Looks at a job.
    pub async fn get(&self, job_id: &str) -> Result<Job> {
        let request = GetJobRequest {
            job_id: job_id.to_owned(),
        };
        let got = self.client.clone().get_job(request).await?.into_inner();
        got.job.context("no job")
    }

    /// Waits until a job is as wanted.
    pub async fn until(&self, job_id: &str, limit: Duration, wanted: impl Fn(&Job) -> bool) -> Result<Job> {
        wait_for("the job", limit, async || {
            let job = self.get(job_id).await?;
            ensure!(wanted(&job), "{job:?}");
            Ok(job)
        })
        .await
    }

    /// Waits until a job has ended.
    pub async fn ended(&self, job_id: &str, limit: Duration) -> Result<Job> {
        self.until(job_id, limit, |job| job.finish_time.is_some()).await
    }

    /// Plans a job, creates it and waits until it succeeded.
    pub async fn run(&self, spec: JobSpec, limit: Duration) -> Result<Job> {
        let job = self.begin(spec).await?;
        let job = self.ended(&job.job_id, limit).await?;
        ensure!(job.state() == JobState::Succeeded, "{job:?}");
        Ok(job)
    }

    /// Lists what a VERIFY found, up to a thousand.
    pub async fn mismatches(&self, job_id: &str) -> Result<Vec<Mismatch>> {
        let request = ListMismatchesRequest {
            job_id: job_id.to_owned(),
            page_size: 1_000,
            ..ListMismatchesRequest::default()
        };
        let listed = self.client.clone().list_mismatches(request).await?.into_inner();
        Ok(listed.mismatches)
    }
}

/// Everything that Kafka has of some data types.
pub fn everything(data_types: &[&str], mode: ReplayMode) -> ReplaySpec {
    ReplaySpec {
        data_types: data_types.iter().map(|name| (*name).to_owned()).collect(),
        mode: mode.into(),
        records: Some(Records::Times(ReplayTimes {
            window: Some(since_ever()),
            time_basis: TimeBasis::Record.into(),
            max_disorder: None,
        })),
        ..ReplaySpec::default()
    }
}

/// Some offsets of partitions of the only topic: partition, start and end.
pub fn offsets_of(asked: &[(u32, u64, u64)]) -> Records {
    let partitions = asked.iter().map(|(partition, start, end)| PartitionOffsets {
        topic: String::new(),
        partition: *partition,
        offsets: Some(OffsetInterval {
            start: *start,
            end: *end,
        }),
    });
    Records::Offsets(ReplayOffsets {
        partitions: partitions.collect(),
    })
}

/// A time window in milliseconds since 1970.
pub fn times_of(start: i64, end: i64, basis: TimeBasis) -> ReplayTimes {
    let time = |milliseconds: i64| prost_types::Timestamp {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).unwrap_or_default(),
    };
    ReplayTimes {
        window: Some(TimeWindow {
            start_time: Some(time(start)),
            end_time: Some(time(end)),
        }),
        time_basis: basis.into(),
        max_disorder: None,
    }
}

/// The window from 1970 on.
pub fn since_ever() -> TimeWindow {
    TimeWindow {
        start_time: Some(prost_types::Timestamp::default()),
        end_time: None,
    }
}

/// A job of a replay, without limits.
pub fn job_of(replay: ReplaySpec) -> JobSpec {
    JobSpec {
        work: Some(Work::Replay(replay)),
        ..JobSpec::default()
    }
}

/// Returns what a job did to rows.
pub fn rows_of(job: &Job) -> RowCounts {
    let progress = job.progress.as_ref();
    progress.and_then(|progress| progress.rows).unwrap_or_default()
}
