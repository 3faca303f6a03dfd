//! Jobs by the control plane, with no worker that runs them: what is made, moved, refused, followed, and on record.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::*;
use reprise_shared::clock::Clock;
use reprise_shared::jobs::{self, JobId};
use reprise_shared::mysql::{self, Database};
use reprise_tests::control::{ControlPlane, refused};
use reprise_tests::feed::{DataTypeMix, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use reprise_tests::wait::wait_for;
use sqlx::Row as _;
use tonic::Code;
use tonic::transport::Channel;

type Client = JobServiceClient<Channel>;

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 50,
        mix: DataTypeMix {
            basic: 1,
            valuation: 4,
            risk: 4,
        },
        ..FeedConfig::default()
    }
}

struct World {
    fleet: Fleet,
    server: ControlPlane,
    client: Client,
}

/// A topic that ingest has read, and a control plane with short periods.
async fn world(name: &str, records: u64, settings: &[(&'static str, &str)]) -> Result<World> {
    let mut fleet = Fleet::new(name, Options::quick()).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, records)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let mut all = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("jobs.keep_every", "200ms".to_owned()),
        ("jobs.settle_every", "100ms".to_owned()),
        ("jobs.watch_every", "100ms".to_owned()),
    ];
    all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let server = ControlPlane::start_on(&fleet.isolation, all).await?;
    server.ready().await?;
    fleet.whitelist_is_known().await?;
    let client = Client::new(server.channel());
    Ok(World { fleet, server, client })
}

impl World {
    async fn end(mut self) -> Result<()> {
        self.server.stop().await?;
        self.fleet.stop().await
    }

    async fn token(&mut self) -> Result<String> {
        let planned = self.client.plan_job(everything(&["fund_risk"])).await?.into_inner();
        Ok(planned.plan_token)
    }

    async fn created(&mut self) -> Result<Job> {
        let plan_token = self.token().await?;
        let request = CreateJobRequest {
            plan_token,
            ..CreateJobRequest::default()
        };
        let created = self.client.create_job(request).await?.into_inner();
        created.job.context("no job")
    }

    async fn audited(&self, method: &str) -> Result<Vec<(String, String, String)>> {
        let rows =
            sqlx::query("SELECT target, before_state, after_state FROM audit_events WHERE method = ? ORDER BY id")
                .bind(format!("JobService/{method}"))
                .fetch_all(&self.fleet.pool)
                .await?;
        rows.iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
            .collect()
    }

    fn database(&self) -> Result<Database> {
        let config = mysql::Config {
            url: self.fleet.isolation.mysql_url().into(),
            max_connections: 4,
            ..mysql::Config::default()
        };
        Ok(Database::new(&config, Clock::system())?)
    }
}

/// Asks for all offsets of data types in all four partitions.
fn everything(data_types: &[&str]) -> PlanJobRequest {
    let partitions = (0..4).map(|partition| PartitionOffsets {
        topic: String::new(),
        partition,
        offsets: Some(OffsetInterval {
            start: 0,
            end: 1_000_000,
        }),
    });
    planned(ReplaySpec {
        data_types: data_types.iter().map(ToString::to_string).collect(),
        records: Some(replay_spec::Records::Offsets(ReplayOffsets {
            partitions: partitions.collect(),
        })),
        ..ReplaySpec::default()
    })
}

fn planned(replay: ReplaySpec) -> PlanJobRequest {
    PlanJobRequest {
        spec: Some(JobSpec {
            work: Some(job_spec::Work::Replay(replay)),
            ..JobSpec::default()
        }),
    }
}

fn pause(job: &Job) -> PauseJobRequest {
    PauseJobRequest {
        job_id: job.job_id.clone(),
        ..PauseJobRequest::default()
    }
}

fn id_of(job: &Job) -> Result<JobId> {
    JobId::parse(&job.job_id).context("no id")
}

/// A job is made once of a plan, and the same request is answered the same.
async fn made_once(world: &mut World) -> Result<Job> {
    let plan_token = world.token().await?;
    let rehearsal = CreateJobRequest {
        plan_token: plan_token.clone(),
        validate_only: true,
        ..CreateJobRequest::default()
    };
    let rehearsed = world
        .client
        .create_job(rehearsal)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(
        rehearsed.job_id.is_empty() && rehearsed.state() == JobState::Pending,
        "{rehearsed:?}"
    );
    let listed = world.client.list_jobs(ListJobsRequest::default()).await?.into_inner();
    ensure!(listed.jobs.is_empty(), "a rehearsal made {listed:?}");

    let request = CreateJobRequest {
        plan_token: plan_token.clone(),
        request_id: "create-1".to_owned(),
        validate_only: false,
    };
    // Two at once, and again: one job, one answer.
    let (mut one, mut other) = (world.client.clone(), world.client.clone());
    let (one, other) = tokio::join!(one.create_job(request.clone()), other.create_job(request.clone()));
    let (one, other) = (one?.into_inner(), other?.into_inner());
    let again = world.client.create_job(request.clone()).await?.into_inner();
    ensure!(one == other && one == again, "{one:?} {other:?} {again:?}");
    let taken = CreateJobRequest {
        request_id: "create-2".to_owned(),
        ..request.clone()
    };
    let status = world.client.create_job(taken).await.expect_err("the plan was taken");
    refused(&status, Code::NotFound, "NOT_FOUND", "plan again")?;
    let reused = CreateJobRequest {
        plan_token: world.token().await?,
        ..request
    };
    let status = world.client.create_job(reused).await.expect_err("another request");
    refused(&status, Code::InvalidArgument, "REQUEST_ID_REUSED", "use a new one")?;
    let audited = world.audited("CreateJob").await?;
    ensure!(audited.len() == 1 && audited[0].1 == "null", "{audited:?}");
    one.job.context("no job")
}

/// Looks at a job and its tasks.
async fn check_shown(world: &mut World, job: &Job) -> Result<()> {
    let got = world
        .client
        .get_job(GetJobRequest {
            job_id: job.job_id.clone(),
        })
        .await?
        .into_inner();
    let whole = got.job.context("no job")?;
    let progress = whole.progress.clone().context("no progress")?;
    ensure!(whole.spec.is_some() && progress.task_count == 4, "{whole:?}");
    let tasks = world
        .client
        .list_tasks(ListTasksRequest {
            job_id: job.job_id.clone(),
            page_size: 3,
            ..ListTasksRequest::default()
        })
        .await?
        .into_inner();
    ensure!(tasks.tasks.len() == 3 && !tasks.next_page_token.is_empty(), "{tasks:?}");
    ensure!(
        tasks.tasks.iter().all(|task| task.state() == TaskState::Pending),
        "{tasks:?}"
    );
    Ok(())
}

/// Pauses a job, after calls that are refused or only rehearsed.
async fn pause_with_care(world: &mut World, job: &Job) -> Result<()> {
    let rehearsed = PauseJobRequest {
        validate_only: true,
        ..pause(job)
    };
    let rehearsed = world
        .client
        .pause_job(rehearsed)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(rehearsed.state() == JobState::Paused, "{rehearsed:?}");
    let late = PauseJobRequest {
        etag: "77".to_owned(),
        ..pause(job)
    };
    let status = world.client.pause_job(late).await.expect_err("another etag");
    refused(&status, Code::Aborted, "ETAG_MISMATCH", "GetJob")?;
    let current = PauseJobRequest {
        etag: job.etag.clone(),
        request_id: "p".to_owned(),
        ..pause(job)
    };
    let paused = world.client.pause_job(current.clone()).await?.into_inner();
    ensure!(world.client.pause_job(current).await?.into_inner() == paused);
    ensure!(paused.job.context("no job")?.state() == JobState::Paused);
    let status = world.client.pause_job(pause(job)).await.expect_err("it is paused");
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "is PAUSED")?;
    Ok(())
}

/// Takes a paused job through the moves that follow.
async fn move_on(world: &mut World, job: &Job) -> Result<()> {
    let update = UpdateJobRequest {
        job_id: job.job_id.clone(),
        priority: Some(7),
        max_records_per_second: Some(100),
        ..UpdateJobRequest::default()
    };
    let updated = world
        .client
        .update_job(update)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(
        (updated.priority, updated.max_records_per_second) == (7, 100),
        "{updated:?}"
    );
    let resume = ResumeJobRequest {
        job_id: job.job_id.clone(),
        ..ResumeJobRequest::default()
    };
    let resumed = world
        .client
        .resume_job(resume)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(resumed.state() == JobState::Pending);
    let cancel = CancelJobRequest {
        job_id: job.job_id.clone(),
        ..CancelJobRequest::default()
    };
    let cancelled = world
        .client
        .cancel_job(cancel.clone())
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(
        cancelled.state() == JobState::Cancelled && cancelled.finish_time.is_some(),
        "{cancelled:?}"
    );
    let status = world.client.cancel_job(cancel).await.expect_err("it has ended");
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "is CANCELLED")?;
    let retry = RetryJobRequest {
        job_id: job.job_id.clone(),
        ..RetryJobRequest::default()
    };
    let retried = world
        .client
        .retry_job(retry)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(retried.state() == JobState::Pending && retried.job_id == job.job_id);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_job_is_made_once_moved_by_the_table_and_everything_is_on_record() -> Result<()> {
    let mut world = world("jobs-moves", 2_000, &[]).await?;
    let job = made_once(&mut world).await?;
    check_shown(&mut world, &job).await?;
    pause_with_care(&mut world, &job).await?;
    move_on(&mut world, &job).await?;
    for (method, count) in [
        ("PauseJob", 1),
        ("UpdateJob", 1),
        ("ResumeJob", 1),
        ("CancelJob", 1),
        ("RetryJob", 1),
    ] {
        let audited = world.audited(method).await?;
        ensure!(audited.len() == count, "{method}: {audited:?}");
        ensure!(audited[0].0 == format!("jobs/{}", job.job_id), "{audited:?}");
    }
    let found = world
        .client
        .list_jobs(ListJobsRequest {
            states: vec![JobState::Pending.into()],
            ..ListJobsRequest::default()
        })
        .await?
        .into_inner();
    ensure!(found.jobs.len() == 1 && found.jobs[0].job_id == job.job_id, "{found:?}");
    world.end().await
}

/// Reads a stream to its end and returns the states it showed.
async fn states(mut stream: tonic::Streaming<WatchJobResponse>) -> Result<Vec<JobState>> {
    let mut states = Vec::new();
    while let Some(seen) = stream.message().await? {
        states.push(seen.job.context("no job")?.state());
    }
    Ok(states)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_every_change_and_the_end_also_after_it_was_cut_off() -> Result<()> {
    let mut world = world("jobs-watch", 500, &[("jobs.max_watchers", "3")]).await?;
    let job = world.created().await?;
    let ask = WatchJobRequest {
        job_id: job.job_id.clone(),
    };
    let mut first = world.client.watch_job(ask.clone()).await?.into_inner();
    let begun = first.message().await?.context("no snapshot")?.job.context("no job")?;
    ensure!(
        begun.state() == JobState::Pending && begun.progress.is_some(),
        "{begun:?}"
    );
    world.client.pause_job(pause(&job)).await?;
    let paused = first.message().await?.context("no snapshot")?.job.context("no job")?;
    ensure!(paused.state() == JobState::Paused, "{paused:?}");
    // Two more, and no fourth.
    let second = world.client.watch_job(ask.clone()).await?.into_inner();
    let third = world.client.watch_job(ask.clone()).await?.into_inner();
    let status = world.client.watch_job(ask.clone()).await.expect_err("too many");
    refused(&status, Code::ResourceExhausted, "TOO_MANY_WATCHERS", "GetJob")?;
    drop(first);
    let cancel = CancelJobRequest {
        job_id: job.job_id.clone(),
        ..CancelJobRequest::default()
    };
    world.client.cancel_job(cancel).await?;
    for stream in [second, third] {
        let seen = states(stream).await?;
        ensure!(seen.last() == Some(&JobState::Cancelled), "{seen:?}");
        ensure!(seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
    }
    // Whoever comes back later sees the end at once.
    let back = wait_for("a place among the followers", PATIENCE, async || {
        let mut client = world.client.clone();
        client
            .watch_job(ask.clone())
            .await
            .map_err(|status| status.message().to_owned())
    });
    ensure!(states(back.await?.into_inner()).await? == [JobState::Cancelled]);
    let nobody = WatchJobRequest {
        job_id: JobId::random().to_string(),
    };
    let status = world.client.watch_job(nobody).await.expect_err("no such job");
    refused(&status, Code::NotFound, "NOT_FOUND", "there is no job")?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_told_when_its_server_goes_and_another_one_goes_on() -> Result<()> {
    let mut world = world("jobs-watch-cut", 500, &[]).await?;
    let job = world.created().await?;
    let ask = WatchJobRequest {
        job_id: job.job_id.clone(),
    };
    let mut followed = world.client.watch_job(ask.clone()).await?.into_inner();
    followed.message().await?.context("no snapshot")?;
    let catalog = world.fleet.catalog_path().display().to_string();
    let other = ControlPlane::start_on(&world.fleet.isolation, vec![("catalog", catalog)]).await?;
    other.ready().await?;
    world.server.ask_to_stop();
    let status = followed.message().await.expect_err("the server goes");
    ensure!(status.code() == Code::Unavailable, "{status:?}");
    let mut client = Client::new(other.channel());
    let cancel = CancelJobRequest {
        job_id: job.job_id.clone(),
        ..CancelJobRequest::default()
    };
    client.cancel_job(cancel).await?;
    let seen = states(client.watch_job(ask).await?.into_inner()).await?;
    ensure!(seen == [JobState::Cancelled], "{seen:?}");
    other.stop().await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_catalog_is_gone_is_planned_anew() -> Result<()> {
    let mut world = world("jobs-anew", 500, &[]).await?;
    let job = world.created().await?;
    let failed = jobs::fail(
        &world.database()?,
        id_of(&job)?,
        jobs::reasons::CATALOG_CHANGED,
        "for the test",
    )
    .await?;
    ensure!(failed == jobs::JobState::Failed, "{failed:?}");
    let retry = RetryJobRequest {
        job_id: job.job_id.clone(),
        request_id: "again".to_owned(),
        ..RetryJobRequest::default()
    };
    let anew = world
        .client
        .retry_job(retry.clone())
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(
        anew.job_id != job.job_id && anew.state() == JobState::Pending,
        "{anew:?}"
    );
    let labels = anew.spec.clone().context("no spec")?.labels;
    ensure!(labels.get("retry-of") == Some(&job.job_id), "{labels:?}");
    let again = world
        .client
        .retry_job(retry)
        .await?
        .into_inner()
        .job
        .context("no job")?;
    ensure!(again == anew, "{again:?}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_jobs_and_expired_plans_are_removed() -> Result<()> {
    let settings = [("jobs.keep_finished", "1s"), ("jobs.plan_ttl", "10s")];
    let mut world = world("jobs-purge", 500, &settings).await?;
    let job = world.created().await?;
    let cancel = CancelJobRequest {
        job_id: job.job_id.clone(),
        ..CancelJobRequest::default()
    };
    world.client.cancel_job(cancel).await?;
    let token = world.token().await?;
    sqlx::query("UPDATE job_plans SET expires_at = UTC_TIMESTAMP(3) - INTERVAL 1 SECOND")
        .execute(&world.fleet.pool)
        .await?;
    let pool = world.fleet.pool.clone();
    wait_for("jobs and plans to be removed", Duration::from_secs(30), async || {
        let left: i64 = sqlx::query_scalar(
            "SELECT (SELECT COUNT(*) FROM jobs) + (SELECT COUNT(*) FROM tasks) + (SELECT COUNT(*) FROM job_plans)",
        )
        .fetch_one(&pool)
        .await
        .map_err(|error| error.to_string())?;
        if left == 0 { Ok(()) } else { Err(format!("{left} rows")) }
    })
    .await?;
    let request = CreateJobRequest {
        plan_token: token,
        ..CreateJobRequest::default()
    };
    let status = world.client.create_job(request).await.expect_err("it expired");
    refused(&status, Code::NotFound, "NOT_FOUND", "expired")?;
    world.end().await
}
