//! Stopping data types, and letting data types and partitions go on, by the control plane and real workers.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::resume_ingest_request::Target;
use reprise_proto::v1::resume_partition::From as Begin;
use reprise_proto::v1::*;
use reprise_shared::ingest_state::{deferred, topics};
use reprise_shared::ledger::{CoverageKind, Interval, Reader};
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicName, TopicPartition};
use reprise_tests::control::{ControlPlane, refused};
use reprise_tests::feed::{DataTypeMix, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, Stop, sum};
use reprise_tests::wait::wait_for;
use tonic::Code;
use tonic::transport::Channel;

type Client = FleetServiceClient<Channel>;

const TYPE: &str = "fund_risk";

fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 200,
        mix: DataTypeMix {
            basic: 1,
            valuation: 4,
            risk: 4,
        },
        ..FeedConfig::default()
    }
}

fn options() -> Options {
    let mut options = Options::quick();
    options
        .settings
        .push(("ingest.type_states_poll".to_owned(), "500ms".to_owned()));
    options
}

async fn with_control_plane(fleet: &Fleet) -> Result<(ControlPlane, Client)> {
    let catalog = fleet.catalog_path().display().to_string();
    let server = ControlPlane::start_on(&fleet.isolation, vec![("catalog", catalog)]).await?;
    server.ready().await?;
    let client = Client::new(server.channel());
    Ok((server, client))
}

fn pause(why: &str, request_id: &str) -> PauseIngestRequest {
    PauseIngestRequest {
        data_type: TYPE.to_owned(),
        reason: why.to_owned(),
        request_id: request_id.to_owned(),
        ..PauseIngestRequest::default()
    }
}

fn resume_type() -> ResumeIngestRequest {
    ResumeIngestRequest {
        target: Some(Target::DataType(TYPE.to_owned())),
        reason: "mended".to_owned(),
        ..ResumeIngestRequest::default()
    }
}

fn resume_at(fleet: &Fleet, partition: u32, from: Begin) -> ResumeIngestRequest {
    ResumeIngestRequest {
        target: Some(Target::Partition(ResumePartition {
            topic: fleet.topic.clone(),
            partition,
            from: Some(from),
        })),
        reason: "looked at".to_owned(),
        ..ResumeIngestRequest::default()
    }
}

/// Waits until the worker shows the type as stopped, or not.
async fn shows(fleet: &Fleet, stopped: bool) -> Result<()> {
    let waited = wait_for("the worker to follow", PATIENCE, async || {
        let metrics = fleet.metrics(0).await?;
        let shown = sum(&metrics, "reprise_type_stopped", &[("data_type", TYPE)]) > 0.0;
        ensure!(shown == stopped, "stopped: {shown}");
        Ok(())
    });
    waited.await.with_context(|| fleet.log_of(0))
}

/// Records of the type so far: processed, and deferred.
async fn outcomes(fleet: &Fleet) -> Result<(f64, f64)> {
    let metrics = fleet.metrics(0).await?;
    let of = |outcome| {
        sum(
            &metrics,
            "reprise_records_total",
            &[("data_type", TYPE), ("outcome", outcome)],
        )
    };
    Ok((of("processed"), of("deferred")))
}

/// Resumes the type, after calls that are refused or only rehearsed.
async fn resume_with_care(fleet: &Fleet, client: &mut Client, etag: &str) -> Result<()> {
    let late = ResumeIngestRequest {
        etag: "running".to_owned(),
        ..resume_type()
    };
    let status = client.resume_ingest(late).await.expect_err("another etag");
    refused(&status, Code::Aborted, "ETAG_MISMATCH", "ListDataTypes")?;
    let rehearsed = ResumeIngestRequest {
        validate_only: true,
        ..resume_type()
    };
    client.resume_ingest(rehearsed).await?;
    ensure!(
        fleet.type_states().await?[TYPE].stopped,
        "validate_only changed something"
    );
    let current = ResumeIngestRequest {
        etag: etag.to_owned(),
        ..resume_type()
    };
    let resumed = client.resume_ingest(current).await?.into_inner();
    ensure!(resumed.data_type.context("no data type")?.state() == DataTypeState::Running);
    shows(fleet, false).await?;
    let status = client.resume_ingest(resume_type()).await.expect_err("it goes on");
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "is not stopped")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_type_that_somebody_stopped_goes_on_and_what_it_passed_over_is_owed() -> Result<()> {
    let mut fleet = Fleet::new("ctl-type", options()).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.start_workers(1).await?;
    fleet.publish(feed(1, 3_000)).await?;
    fleet.caught_up(PATIENCE).await?;
    let (server, mut client) = with_control_plane(&fleet).await?;

    let paused = client.pause_ingest(pause("bad upstream", "p-1")).await?.into_inner();
    let told = paused.data_type.clone().context("no data type")?;
    ensure!(
        !paused.already_stopped && told.state() == DataTypeState::Stopped,
        "{paused:?}"
    );
    ensure!(
        (told.stop_reason.as_str(), told.stop_detail.as_str()) == ("OPERATOR", "bad upstream"),
        "{told:?}"
    );
    let again = client.pause_ingest(pause("bad upstream", "p-1")).await?.into_inner();
    ensure!(again == paused, "{again:?}");
    let status = client
        .pause_ingest(pause("another reason", "p-1"))
        .await
        .expect_err("reused");
    refused(&status, Code::InvalidArgument, "REQUEST_ID_REUSED", "use a new one")?;
    ensure!(
        client
            .pause_ingest(pause("later", ""))
            .await?
            .into_inner()
            .already_stopped
    );
    shows(&fleet, true).await?;

    let before = outcomes(&fleet).await?;
    fleet.publish(feed(2, 3_000)).await?;
    fleet.caught_up(PATIENCE).await?;
    let stopped = outcomes(&fleet).await?;
    ensure!(stopped.0 == before.0 && stopped.1 > before.1, "{before:?} {stopped:?}");
    let at_resume: Vec<u64> = fleet
        .positions()
        .await?
        .into_iter()
        .map(|(_, end)| u64::try_from(end))
        .collect::<Result<_, _>>()?;

    resume_with_care(&fleet, &mut client, &told.etag).await?;

    fleet.publish(feed(3, 3_000)).await?;
    fleet.caught_up(PATIENCE).await?;
    let after = outcomes(&fleet).await?;
    ensure!(after.1 == stopped.1 && after.0 > stopped.0, "{stopped:?} {after:?}");
    let closed = wait_for("the intervals to be closed", PATIENCE, async || {
        let intervals = deferred::intervals(&fleet.pool, &fleet.topic).await?;
        ensure!(!intervals.iter().any(|interval| interval.open), "{intervals:?}");
        Ok(intervals)
    })
    .await?;
    ensure!(!closed.is_empty(), "nothing is owed");
    for interval in &closed {
        let end = at_resume[usize::from(interval.partition)];
        ensure!(
            interval.data_type == TYPE && interval.end.0 <= end,
            "{interval:?}, the end was {end}"
        );
    }
    server.stop().await?;
    fleet.stop().await
}

/// Calls that name something else than what is missing.
async fn refused_resumes(fleet: &Fleet, client: &mut Client, (start, end): (u64, u64)) -> Result<()> {
    let status = client
        .resume_ingest(resume_at(
            fleet,
            1,
            Begin::AcceptMissing(MissingOffsets { start, end: end - 1 }),
        ))
        .await
        .expect_err("not what is missing");
    refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        "is not what is missing",
    )?;
    let status = client
        .resume_ingest(resume_at(fleet, 1, Begin::Offset(start)))
        .await
        .expect_err("below the log");
    refused(
        &status,
        Code::InvalidArgument,
        "INVALID_FIELDS",
        "the log of the partition is",
    )?;
    let status = client
        .resume_ingest(resume_at(fleet, 0, Begin::Offset(0)))
        .await
        .expect_err("it runs");
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "is not stopped")?;
    let status = client
        .resume_ingest(ResumeIngestRequest::default())
        .await
        .expect_err("nothing is said");
    refused(&status, Code::InvalidArgument, "INVALID_FIELDS", "target is required")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_stopped_partition_goes_on_after_exactly_what_is_missing() -> Result<()> {
    let mut fleet = Fleet::new("ctl-cut", options()).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, 4_000)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    let at = fleet.positions().await?[1].0.context("a committed offset")?;
    fleet.publish(feed(2, 4_000)).await?;
    fleet.delete_records(1, at + 137).await?;
    let worker = fleet.start_worker()?;
    let (start, end) = (u64::try_from(at)?, u64::try_from(at + 137)?);
    let stop: Stop = ("LOG_START_AHEAD".to_owned(), Some((start, end)));
    fleet.stopped(worker, &BTreeMap::from([(1, stop)])).await?;
    let (server, mut client) = with_control_plane(&fleet).await?;

    let lag = client.get_lag(GetLagRequest::default()).await?.into_inner();
    let stopped: Vec<_> = lag
        .partitions
        .iter()
        .filter(|partition| partition.state() == PartitionState::Stopped)
        .collect();
    ensure!(
        stopped.len() == 1 && stopped[0].missing == Some(MissingOffsets { start, end }),
        "{lag:?}"
    );
    refused_resumes(&fleet, &mut client, (start, end)).await?;
    ensure!(fleet.stops().await?.len() == 1, "a refused call let it go on");

    let accepted = Begin::AcceptMissing(MissingOffsets { start, end });
    client.resume_ingest(resume_at(&fleet, 1, accepted)).await?;
    fleet.caught_up(PATIENCE).await.with_context(|| fleet.log_of(worker))?;
    ensure!(fleet.stops().await?.is_empty(), "the stop is still on record");
    let partition = TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(1),
    };
    let everything = Interval::new(Offset(0), Offset(1 << 52));
    let page = Reader::new(fleet.redis.clone())
        .coverage(&partition, everything, None, Reader::MAX_PAGE)
        .await?;
    let lost: Vec<_> = page
        .members
        .iter()
        .filter(|member| member.kind == CoverageKind::Lost)
        .map(|member| (member.start.0, member.end.0))
        .collect();
    ensure!(lost == [(start, end)], "{lost:?}");
    let log_end = u64::try_from(fleet.positions().await?[1].1)?;
    let covered = &fleet.coverage().await?[1];
    let expected = [
        Interval::new(Offset(0), Offset(start)),
        Interval::new(Offset(end), Offset(log_end)),
    ];
    ensure!(*covered == expected, "{covered:?}");
    server.stop().await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i9_a_recreated_topic_goes_on_as_the_next_generation() -> Result<()> {
    let mut fleet = Fleet::new("ctl-recreated", options()).await?;
    fleet.seed(&feed(1, 0)).await?;
    fleet.publish(feed(1, 2_000)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    fleet.delete_topic().await?;
    fleet.create_topic().await?;
    fleet.publish(feed(2, 2_000)).await?;
    let worker = fleet.start_worker()?;
    let stop: Stop = ("TOPIC_RECREATED".to_owned(), None);
    let all: BTreeMap<u16, Stop> = (0..4).map(|partition| (partition, stop.clone())).collect();
    fleet.stopped(worker, &all).await?;
    let (server, mut client) = with_control_plane(&fleet).await?;

    let nothing = Begin::AcceptMissing(MissingOffsets { start: 0, end: 1 });
    let status = client
        .resume_ingest(resume_at(&fleet, 0, nothing))
        .await
        .expect_err("nothing is known");
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "name the offset")?;
    for partition in 0..4 {
        client
            .resume_ingest(resume_at(&fleet, partition, Begin::Offset(0)))
            .await?;
    }
    fleet.caught_up(PATIENCE).await.with_context(|| fleet.log_of(worker))?;
    let accepted = topics::accepted(&fleet.pool, &TopicName::new(&fleet.topic)).await?;
    ensure!(accepted.context("no topic")?.generation == TopicGeneration(1));
    let newest: Vec<u8> = sqlx::query_scalar("SELECT MAX(source_position) FROM t_ai_risk")
        .fetch_one(&fleet.pool)
        .await?;
    ensure!(newest.starts_with(&[0, 1]), "no row is of the new topic: {newest:?}");
    ensure!(
        wait_for("ready again", Duration::from_secs(60), async || {
            let (code, text) = fleet.readyz(worker).await?;
            ensure!(code == 200, "{text}");
            Ok(())
        })
        .await
        .is_ok()
    );
    server.stop().await?;
    fleet.stop().await
}
