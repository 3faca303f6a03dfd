//! What was passed over while a data type was stopped becomes jobs, one for each interval, and is owed until they succeed.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::resume_ingest_request::Target;
use reprise_proto::v1::*;
use reprise_shared::ingest_state::deferred;
use reprise_shared::jobs::{self, JobId, JobState, Mode};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName, TopicPartition};
use reprise_tests::control::ControlPlane;
use reprise_tests::feed::{DataTypeMix, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, sum};
use reprise_tests::wait::wait_for;
use tonic::transport::Channel;

type Client = FleetServiceClient<Channel>;

const TYPE: &str = "fund_risk";

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 100,
        mix: DataTypeMix {
            basic: 1,
            valuation: 4,
            risk: 4,
        },
        ..FeedConfig::default()
    }
}

async fn server(fleet: &Fleet) -> Result<ControlPlane> {
    let settings = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("jobs.keep_every", "100ms".to_owned()),
    ];
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    Ok(server)
}

async fn owed(client: &mut Client) -> Result<Vec<OwedInterval>> {
    let types = client
        .list_data_types(ListDataTypesRequest::default())
        .await?
        .into_inner();
    let found = types.data_types.into_iter().find(|data_type| data_type.name == TYPE);
    Ok(found.context("no such type")?.owed)
}

/// Stops the type, passes records over, and lets it go on.
async fn pass_over(fleet: &Fleet, client: &mut Client) -> Result<()> {
    client
        .pause_ingest(PauseIngestRequest {
            data_type: TYPE.to_owned(),
            reason: "bad upstream".to_owned(),
            ..PauseIngestRequest::default()
        })
        .await?;
    wait_for("the worker to follow", PATIENCE, async || {
        let metrics = fleet.metrics(0).await?;
        let stopped = sum(&metrics, "reprise_type_stopped", &[("data_type", TYPE)]);
        ensure!(stopped > 0.0, "it goes on");
        Ok(())
    })
    .await?;
    fleet.publish(feed(2, 2_000)).await?;
    fleet.caught_up(PATIENCE).await?;
    let growing = owed(client).await?;
    ensure!(
        growing.len() == 4 && growing.iter().all(|one| one.growing && one.job_id.is_empty()),
        "{growing:?}"
    );
    let resumed = client
        .resume_ingest(ResumeIngestRequest {
            target: Some(Target::DataType(TYPE.to_owned())),
            reason: "mended".to_owned(),
            ..ResumeIngestRequest::default()
        })
        .await?
        .into_inner();
    let still = resumed.data_type.context("no data type")?.owed;
    ensure!(still.len() == 4, "{still:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_what_was_passed_over_becomes_one_job_each_and_is_owed_until_they_succeed() -> Result<()> {
    let mut options = Options::quick();
    options
        .settings
        .push(("ingest.type_states_poll".to_owned(), "300ms".to_owned()));
    let mut fleet = Fleet::new("owed", options).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, 1_000)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    // Two replicas see the same intervals.
    let (one, other) = (server(&fleet).await?, server(&fleet).await?);
    let mut client = Client::new(one.channel());
    pass_over(&fleet, &mut client).await?;

    let with_jobs = wait_for("a job for each interval", PATIENCE, async || {
        let owed = owed(&mut client.clone()).await?;
        ensure!(
            owed.iter().all(|one| !one.growing && !one.job_id.is_empty()),
            "{owed:?}"
        );
        Ok(owed)
    })
    .await?;
    ensure!(with_jobs.len() == 4, "{with_jobs:?}");
    let found = jobs::jobs(&fleet.pool, &jobs::JobsFilter::default(), None, 100).await?;
    ensure!(found.len() == 4, "{} jobs", found.len());
    for interval in &with_jobs {
        let id = JobId::parse(&interval.job_id).context("no id")?;
        let job = found.iter().find(|job| job.id == id).context("no such job")?;
        ensure!(
            job.mode == Mode::Live && job.created_by == "reprise" && job.data_types == [TYPE],
            "{job:?}"
        );
        let tasks = jobs::tasks(&fleet.pool, id, None, 100).await?;
        let slice = &tasks.first().context("no task")?.slice;
        ensure!(tasks.len() == 1, "{tasks:?}");
        ensure!(
            (slice.start.0, slice.end.0, u32::from(slice.topic_partition.partition.0))
                == (interval.start, interval.end, interval.partition),
            "{slice:?} for {interval:?}"
        );
    }
    let audited: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit_events WHERE method = 'deferred intervals'")
        .fetch_one(&fleet.pool)
        .await?;
    ensure!(audited == 4, "{audited} events");

    // One succeeds, one fails: the one is owed no more, the other still is.
    let state = async |place: usize, state: JobState| -> Result<()> {
        sqlx::query("UPDATE jobs SET state = ?, finished_at = UTC_TIMESTAMP(3) WHERE job_id = ?")
            .bind(state.as_str())
            .bind(&with_jobs[place].job_id)
            .execute(&fleet.pool)
            .await?;
        Ok(())
    };
    state(0, JobState::Succeeded).await?;
    state(1, JobState::Failed).await?;
    wait_for("the interval to be settled", PATIENCE, async || {
        let owed = owed(&mut client.clone()).await?;
        ensure!(owed == with_jobs[1..], "{owed:?}");
        Ok(())
    })
    .await?;
    one.stop().await?;
    other.stop().await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_what_went_with_a_former_topic_ends_as_missing_and_stays_owed() -> Result<()> {
    let mut fleet = Fleet::new("owed-gone", Options::quick()).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, 500)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let partition = TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(2),
    };
    let (start, end) = (Offset(3), Offset(9));
    let former = TopicId::new("AAAAAAAAAAAAAAAAAAAAAA");
    deferred::cover(&fleet.pool, TYPE, &partition, &former, start, end, "OPERATOR").await?;
    let id = deferred::open(&fleet.pool, 10).await?[0].id;
    deferred::close(&fleet.pool, id, end).await?;
    let server = server(&fleet).await?;
    let pool = fleet.pool.clone();
    let job = wait_for("the job to end", PATIENCE, async || {
        let found = jobs::jobs(&pool, &jobs::JobsFilter::default(), None, 10).await?;
        let job = found.into_iter().next().context("no job yet")?;
        ensure!(job.state.is_final(), "{job:?}");
        Ok(job)
    })
    .await?;
    ensure!(job.state == JobState::Partial, "{job:?}");
    let missing = jobs::missing(&fleet.pool, job.id).await?;
    ensure!(
        missing.len() == 1
            && (missing[0].start, missing[0].end) == (start, end)
            && missing[0].reason == jobs::MissingReason::Recreated,
        "{missing:?}"
    );
    let mut client = Client::new(server.channel());
    let owed = owed(&mut client).await?;
    ensure!(owed.len() == 1 && owed[0].job_id == job.id.to_string(), "{owed:?}");
    server.stop().await?;
    fleet.stop().await
}
