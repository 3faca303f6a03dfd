//! What a purge finds although no catalog names it any more, and what it leaves of coverage.

use std::time::Duration;

use anyhow::{Result, ensure};
use reprise_proto::v1::PurgeOffsetRangesRequest;
use reprise_proto::v1::offset_range_service_client::OffsetRangeServiceClient;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::topics;
use reprise_shared::ledger::{
    ChunkTally, Coverage, CoverageKind, Identity, Interval, Limits, Marker, Millis, PartitionLedger, Reader, RunId,
    Source, TypeTally, Writer,
};
use reprise_shared::mysql::{self, Database};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName, TopicPartition};
use reprise_shared::tally::{RecordCounts, RowCounts};
use reprise_shared::whitelist::Version;
use reprise_tests::control::ControlPlane;
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options};
use reprise_tests::wait::wait_for;

/// Long ago, for every age that can be asked for.
const LONG_AGO: Millis = Millis(1_000);
const TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

fn interval(start: u64, end: u64) -> Interval {
    Interval::new(Offset(start), Offset(end))
}

/// Writes what a worker does that processed `within` of one type.
async fn processed(fleet: &Fleet, data_type: &str, partition: &TopicPartition, within: Interval) -> Result<()> {
    let identity = Identity {
        partition: partition.clone(),
        topic_id: TopicId::new(TOPIC_ID),
        run: RunId::new(format!("run-{within:?}")),
        source: Source::Live,
    };
    let mut ledger = PartitionLedger::new(identity, [data_type.to_owned()].into(), Limits::default());
    let tally = TypeTally {
        records: RecordCounts::default(),
        rows: RowCounts::default(),
        start: within.start,
        end: within.end,
        first_record: Some(LONG_AGO),
        last_record: Some(LONG_AGO),
    };
    ledger.add(&ChunkTally {
        start: within.start,
        end: within.end,
        whitelist: Version(1),
        first_processed: LONG_AGO,
        last_processed: LONG_AGO,
        types: [(Some(TypeIndex(0)), tally)].into(),
    })?;
    let update = ledger.pending(LONG_AGO).expect("an open segment");
    for written in Writer::new(fleet.redis.clone(), 1).write(&[update]).await {
        written?;
    }
    Ok(())
}

/// Accepts a topic with one partition, as a worker does that reads it for the first time.
async fn accept(fleet: &Fleet, topic: &TopicName) -> Result<()> {
    let config = mysql::Config {
        url: fleet.isolation.mysql_url().into(),
        ..mysql::Config::default()
    };
    let database = Database::new(&config, Clock::system())?;
    let starts = [(Partition(0), Offset(0))];
    topics::accept_new(&database, topic, &TopicId::new(TOPIC_ID), &starts).await?;
    Ok(())
}

/// Purges by the API, after a rehearsal that has to count the same. Returns ranges and intervals removed.
async fn purge(server: &ControlPlane, data_type: &str) -> Result<(u64, u64)> {
    let mut client = OffsetRangeServiceClient::new(server.channel());
    let mut answers = Vec::new();
    for validate_only in [true, false] {
        let request = PurgeOffsetRangesRequest {
            data_type: data_type.to_owned(),
            validate_only,
            ..PurgeOffsetRangesRequest::default()
        };
        let purged = client.purge_offset_ranges(request).await?.into_inner();
        answers.push((purged.removed, purged.coverage_removed));
    }
    ensure!(answers[0] == answers[1], "{answers:?}");
    Ok(answers[1])
}

async fn control(fleet: &Fleet) -> Result<ControlPlane> {
    let catalog = fleet.catalog_path().display().to_string();
    let server = ControlPlane::start_on(&fleet.isolation, vec![("catalog", catalog)]).await?;
    server.ready().await?;
    Ok(server)
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_types_and_topics_that_left_the_catalog_are_purged() -> Result<()> {
    let fleet = Fleet::new("left-catalog", Options::default()).await?;
    let (known, gone) = (TopicName::new(&fleet.topic), TopicName::new("left-with-its-type"));
    let mut places = Vec::new();
    for topic in [known, gone] {
        accept(&fleet, &topic).await?;
        let partition = Partition(0);
        places.push(TopicPartition { topic, partition });
    }
    let ranges = [
        ("fund_risk", &places[0]),
        ("fund_gone", &places[0]),
        ("fund_gone", &places[1]),
    ];
    for (data_type, partition) in ranges {
        processed(&fleet, data_type, partition, interval(0, 100)).await?;
    }
    let server = control(&fleet).await?;
    ensure!(
        purge(&server, "fund_risk").await? == (1, 0),
        "not that of the asked type alone"
    );
    let removed = purge(&server, "").await?;
    ensure!(removed == (2, 0), "{removed:?} were removed");
    let reader = Reader::new(fleet.redis.clone());
    for (data_type, partition) in ranges {
        let left = reader
            .ranges(data_type, partition, interval(0, 1_000), None, 10)
            .await?;
        ensure!(left.members.is_empty(), "{data_type} in {partition}: {left:?}");
    }
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn coverage_goes_only_where_it_lies_wholly_below_the_start_of_the_log() -> Result<()> {
    let options = Options {
        partitions: 1,
        ..Options::default()
    };
    let fleet = Fleet::new("below-the-log", options).await?;
    let topic = TopicName::new(&fleet.topic);
    accept(&fleet, &topic).await?;
    let partition = TopicPartition {
        topic,
        partition: Partition(0),
    };
    for (start, end) in [(0, 10), (12, 20), (40, 60), (70, 80)] {
        processed(&fleet, "fund_risk", &partition, interval(start, end)).await?;
    }
    let marker = Marker::new(fleet.redis.clone());
    for (start, end) in [(20, 30), (49, 51)] {
        let lost = Coverage {
            kind: CoverageKind::Lost,
            topic_id: TopicId::new(TOPIC_ID),
            data_type: None,
            start: Offset(start),
            end: Offset(end),
            first_processed: LONG_AGO,
            last_processed: LONG_AGO,
        };
        marker.mark(&partition, &lost).await?;
    }
    let feed = FeedConfig {
        records: Some(100),
        ..FeedConfig::default()
    };
    fleet.publish(feed).await?;
    let server = control(&fleet).await?;
    ensure!(purge(&server, "").await? == (4, 0), "the log begins at 0 still");
    fleet.delete_records(0, 50).await?;
    ensure!(purge(&server, "fund_risk").await? == (0, 0), "coverage is of no type");
    // The broker tells of its new start in a moment.
    let removed = wait_for(
        "the log to begin later",
        Duration::from_secs(20),
        async || match purge(&server, "").await {
            Ok((0, 0)) => Err("nothing was removed".to_owned()),
            Ok(removed) => Ok(removed),
            Err(error) => Err(format!("{error:#}")),
        },
    )
    .await?;
    ensure!(removed == (0, 3), "{removed:?} were removed");
    let reader = Reader::new(fleet.redis.clone());
    let page = reader.coverage(&partition, interval(0, 1_000), None, 100).await?;
    let left: Vec<Interval> = page.members.iter().map(Coverage::interval).collect();
    ensure!(
        left == [interval(40, 60), interval(49, 51), interval(70, 80)],
        "{left:?}"
    );
    server.stop().await
}
