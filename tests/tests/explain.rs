//! ExplainRecord on records that a real worker processed: one of every outcome, by position, and by id and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use reprise_control_plane::whitelist::Version;
use reprise_proto::v1::explain_record_request::Records;
use reprise_proto::v1::*;
use reprise_shared::ingest_state::{deferred, stops};
use reprise_tests::control::{ControlPlane, reason};
use reprise_tests::feed::{DATA_TYPE_HEADER, DataType, FeedConfig, Fund, Made, moment};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use reprise_tests::wait::{blocking, wait_for};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use DataType::{Basic, Risk, Valuation};
use RecordOutcome::{DeadLettered, Deferred, Expired, Filtered, Missing, Pending, Skipped, Stale, Superseded, Written};

#[path = "support/explain.rs"]
mod support;
use support::{Client, allow, ask, ask_one, control, of_id, position, send, whitelist};

/// The records' fund that the whitelist does not have.
const FILTERED: Fund = Fund(90);
/// The one that the lookup does not have.
const UNKNOWN: Fund = Fund(91);

/// The broker's groups of this test.
async fn groups(fleet: &Fleet) -> Result<BTreeSet<String>> {
    let (brokers, prefix) = (fleet.isolation.kafka_brokers().to_owned(), fleet.isolation.group());
    blocking("list groups", Duration::from_secs(20), move || {
        let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
        let list = consumer.fetch_group_list(None, Duration::from_secs(10))?;
        let names = list.groups().iter().map(|group| group.name().to_owned());
        Ok(names.filter(|name| name.starts_with(&prefix)).collect())
    })
    .await
}

/// What must be said of one record.
struct Expected {
    place: (u32, u64),
    /// Its type and fund, where a search by id must find it.
    of: Option<(DataType, Fund)>,
    outcome: RecordOutcome,
    version: Option<Version>,
    words: Vec<String>,
    letter: bool,
}

fn expect(place: (u32, u64), of: (DataType, Fund), outcome: RecordOutcome, words: &[&str]) -> Expected {
    Expected {
        place,
        of: Some(of),
        outcome,
        version: None,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        letter: outcome == RecordOutcome::DeadLettered,
    }
}

impl Expected {
    fn by(self, version: Version) -> Self {
        Self {
            version: Some(version),
            ..self
        }
    }

    fn check(&self, topic: &str, told: &RecordExplanation) -> Result<()> {
        let (partition, offset) = self.place;
        let place = RecordPosition {
            topic: topic.to_owned(),
            partition,
            offset,
        };
        ensure!(told.position == Some(place), "another record");
        ensure!(told.outcome() == self.outcome, "{:?} expected", self.outcome);
        let version = self.version.map(|version| version.0);
        ensure!(told.whitelist_version == version, "judged by {version:?}");
        ensure!(
            told.dead_letter_id.is_empty() != self.letter,
            "dead letter: {}",
            self.letter
        );
        for words in &self.words {
            let words = words.replace("TOPIC", topic);
            ensure!(told.explanation.contains(&words), "{words:?} is not said");
        }
        if let Some((data_type, fund)) = self.of.filter(|_| self.outcome != RecordOutcome::Expired) {
            let found = (told.data_type.as_str(), told.id.as_str());
            let is_known = self.words.iter().all(|words| !words.contains("Kafka has deleted it"));
            let id = if is_known { fund.performance_id() } else { String::new() };
            let data_type = if is_known || self.letter { data_type.name() } else { "" };
            ensure!(found == (data_type, id.as_str()), "{data_type} {id} expected");
        }
        Ok(())
    }
}

/// What the worker meets first.
fn first_records() -> Vec<Made> {
    let broken = || Some(r#"{"performanceId":"0P00000004", a payload of no concern"#.to_owned());
    let days = [("2026-03-01", 60), ("2026-02-31", 60), ("2026-03-02", 60)];
    vec![
        Made::basic(Fund(1), 100).at(0),
        Made::basic(Fund(2), 500).at(1),
        Made::basic(Fund(3), 100).at(2),
        Made::basic(FILTERED, 100).at(3),
        Made::new(Basic, Fund(1), None).at(4),
        Made::basic(Fund(1), 100).without_type().at(5),
        Made::new(Basic, Fund(4), broken()).at(6),
        Made::valuation(UNKNOWN, &[("2026-03-01", 60)]).at(7),
        Made::valuation(Fund(1), &days).at(8),
        Made::valuation(Fund(1), &[]).at(9),
        Made::basic(Fund(6), 100).at(10),
        Made::new(Basic, Fund(7), broken()).into_partition(1).at(0),
        Made::basic(Fund(7), 100).into_partition(1).at(1),
    ]
}

/// What must be said of them.
fn first_expected(version: Version) -> Vec<Expected> {
    let filtered = format!("version {version} of the whitelist, and the global list did not have");
    let rows = ["Of its 3 rows: 2 written, 1 dead-lettered", "of class BAD_TIME"];
    let deleted = ["begins at 2", "[0, 2) of fund_basic", "1 processed"];
    let newer = held(400, 0, 12);
    let untyped = expect((0, 5), (Basic, Fund(1)), Skipped, &["no data type of topic TOPIC"]);
    vec![
        expect((0, 0), (Basic, Fund(1)), Written, &["t_fund_basic_info holds its row"]).by(version),
        expect((0, 1), (Basic, Fund(2)), Written, &[]).by(version),
        expect((0, 2), (Basic, Fund(3)), Superseded, &[&newer, "later than"]).by(version),
        expect((0, 3), (Basic, FILTERED), Filtered, &[&filtered, "AddWhitelistEntries"]).by(version),
        expect((0, 4), (Basic, Fund(1)), Skipped, &["tombstone"]),
        Expected { of: None, ..untyped },
        expect((0, 6), (Basic, Fund(4)), DeadLettered, &["of class NOT_JSON"]).by(version),
        expect((0, 7), (Valuation, UNKNOWN), DeadLettered, &["of class LOOKUP_MISS"]).by(version),
        expect((0, 8), (Valuation, Fund(1)), DeadLettered, &rows).by(version),
        expect((0, 9), (Valuation, Fund(1)), Written, &["has no rows"]).by(version),
        expect((0, 10), (Basic, Fund(6)), Missing, &["has no row of its key", "Replay"]).by(version),
        expect(
            (1, 0),
            (Basic, Fund(7)),
            DeadLettered,
            &["Kafka has deleted it", "NOT_JSON"],
        ),
        expect((1, 1), (Basic, Fund(7)), Expired, &deleted),
    ]
}

/// What it meets under the next version of the whitelist.
fn later_records() -> Vec<Made> {
    vec![
        Made::basic(Fund(2), 300).at(-5),
        Made::basic(Fund(3), 400).at(12),
        Made::valuation(Fund(2), &[("2026-03-03", 90), ("2026-03-04", 90)]).at(13),
        Made::valuation(Fund(2), &[("2026-03-03", 80)]).at(14),
        Made::basic(Fund(1), 50).into_partition(1).at(20),
    ]
}

/// What must be said of them, and of one that comes when its type is stopped, and of one that comes too late.
fn later_expected(version: Version) -> Vec<Expected> {
    let stored = "was stored already when";
    let (here, there, near) = (held(500, 0, 1), held(100, 0, 0), held(90, 0, 13));
    vec![
        expect((0, 11), (Basic, Fund(2)), Stale, &[&here, stored]).by(version),
        expect((0, 12), (Basic, Fund(3)), Written, &[]).by(version),
        expect((0, 13), (Valuation, Fund(2)), Written, &["Of its 2 rows: 2 written"]).by(version),
        expect((0, 14), (Valuation, Fund(2)), Superseded, &[&near, "cannot be told"]).by(version),
        expect((0, 15), (Risk, Fund(1)), Deferred, &["(OPERATOR)", "ResumeIngest"]).by(version),
        expect((0, 16), (Basic, Fund(1)), Pending, &["position 16", "ends at 17"]),
        expect((1, 2), (Basic, Fund(1)), Stale, &[&there, stored]).by(version),
    ]
}

/// Names a newer row by its version, in seconds after the feeds' start, and its place.
fn held(seconds: i64, partition: u16, offset: u64) -> String {
    let version = moment(seconds).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string();
    format!("{version} UTC, from topic TOPIC (generation 0) partition {partition} offset {offset}")
}

/// Processes one record of every outcome, in two partitions, and returns what must be said of each.
async fn every_outcome(fleet: &mut Fleet) -> Result<Vec<Expected>> {
    let config = FeedConfig {
        funds: 4,
        ..FeedConfig::default()
    };
    fleet.seed(&config).await?;
    let store = whitelist(fleet)?;
    let first = allow(&store, (1..=8).map(Fund).chain([UNKNOWN])).await?;
    fleet.start_workers(1).await?;
    send(fleet, first_records()).await?;
    fleet.caught_up(PATIENCE).await?;
    // A new version seals the segments, so the ledger tells what was processed before and after.
    let second = allow(&store, [Fund(89)]).await?;
    fleet.whitelist_applied(second, PATIENCE).await?;
    send(fleet, later_records()).await?;
    fleet.caught_up(PATIENCE).await?;
    stops::stop_type(&fleet.pool, Risk.name(), "OPERATOR", "by a test").await?;
    wait_for(
        "the type to be passed over",
        PATIENCE,
        async || match deferred::intervals(&fleet.pool, &fleet.topic).await {
            Ok(intervals) if intervals.len() == 2 => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    send(fleet, vec![Made::risk(Fund(1), 100).at(15)]).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.stop().await?;
    sqlx::query("DELETE FROM t_fund_basic_info WHERE performance_id = ?")
        .bind(Fund(6).performance_id())
        .execute(&fleet.pool)
        .await?;
    send(fleet, vec![Made::basic(Fund(1), 600).at(16)]).await?;
    fleet.delete_records(1, 2).await?;
    Ok([first_expected(first), later_expected(second)]
        .into_iter()
        .flatten()
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_is_told_by_position_and_by_id_and_time() -> Result<()> {
    let options = Options {
        partitions: 2,
        catalog: vec![("unmatched: dead_letter".to_owned(), "unmatched: skip".to_owned())],
        ..Options::default()
    };
    let mut fleet = Fleet::new("explain", options).await?;
    let expected = every_outcome(&mut fleet).await?;
    let (control, client) = control(&fleet, &[]).await?;
    let topic = fleet.topic.clone();
    let before = (fleet.positions().await?, groups(&fleet).await?);

    let mut faults = Vec::new();
    let mut by_id: BTreeMap<(DataType, Fund), Vec<RecordExplanation>> = BTreeMap::new();
    for record in &expected {
        let (partition, offset) = record.place;
        let told = ask_one(&client, &topic, partition, offset).await?;
        eprintln!("{partition}/{offset} {:?}: {}", told.outcome(), told.explanation);
        if let Err(fault) = record.check(&topic, &told) {
            faults.push(format!("{partition}/{offset} {fault}: {told:?}"));
        }
        ensure!(
            !told.explanation.contains("no concern") && !told.explanation.contains("4711"),
            "{told:?}"
        );
        if let Some(of) = record.of.filter(|_| partition == 0 || offset >= 2) {
            by_id.entry(of).or_default().push(told);
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));

    for ((data_type, fund), records) in &by_id {
        let answer = ask(&client, of_id(*data_type, *fund, (-1_000, 1_000))).await?;
        let (expired, found): (Vec<_>, Vec<_>) = answer
            .records
            .into_iter()
            .partition(|record| record.outcome() == RecordOutcome::Expired);
        ensure!(
            found == *records && !answer.truncated,
            "{data_type:?} {fund:?}:\n{found:#?}\n{records:#?}"
        );
        let deleted = usize::from(*data_type == DataType::Basic);
        ensure!(expired.len() == deleted, "what Kafka deleted: {expired:?}");
        // Each alone, by its own time.
        for record in records {
            let time = record.record_time.context("every record has a time")?;
            let second = time.seconds - moment(0).as_second();
            let answer = ask(&client, of_id(*data_type, *fund, (second, second + 1))).await?;
            ensure!(answer.records.contains(record), "{record:?} is not in {answer:?}");
            let others = answer.records.iter().filter(|found| found.record_time != Some(time));
            ensure!(
                others.clone().all(|found| found.outcome() == RecordOutcome::Expired),
                "{answer:?}"
            );
        }
        let nothing = ask(&client, of_id(*data_type, *fund, (500, 600))).await?;
        ensure!(nothing == ExplainRecordResponse::default(), "{nothing:?}");
    }
    ensure!(by_id.len() == 10, "{:?}", by_id.keys());

    let after = (fleet.positions().await?, groups(&fleet).await?);
    ensure!(before == after, "the live group was touched: {before:?}, {after:?}");
    ensure!(before.1 == BTreeSet::from([fleet.isolation.group()]), "{:?}", before.1);
    control.stop().await
}

/// Publishes, in partition 0: an aborted record, its marker, a committed one, its marker, and one that stays open until
/// the producer is dropped.
async fn transactions(fleet: &Fleet) -> Result<BaseProducer> {
    let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
    let id = fleet.isolation.topic_prefix();
    blocking("publish in transactions", Duration::from_secs(60), move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", id)
            .create()?;
        let limit = Duration::from_secs(20);
        let send = || -> Result<()> {
            let made = Made::basic(Fund(1), 100).record;
            let headers = OwnedHeaders::new().insert(Header {
                key: DATA_TYPE_HEADER,
                value: Some(made.data_type.name()),
            });
            let record = BaseRecord::to(&topic).partition(0).key(&made.key).headers(headers);
            let payload = made.payload.context("it has a payload")?;
            producer.send(record.payload(&payload)).map_err(|(error, _)| error)?;
            producer.flush(limit).context("deliver")
        };
        producer.init_transactions(limit)?;
        producer.begin_transaction()?;
        send()?;
        producer.abort_transaction(limit)?;
        producer.begin_transaction()?;
        send()?;
        producer.commit_transaction(limit)?;
        producer.begin_transaction()?;
        send()?;
        Ok(producer)
    })
    .await
}

fn check_error(status: &Status, code: Code, name: &str, words: &str) -> Result<()> {
    ensure!(status.code() == code && reason(status)? == name, "{status:?}");
    ensure!(
        status.message().contains(words),
        "{words:?} is not said: {}",
        status.message()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_record_the_answer_says_what_there_is() -> Result<()> {
    let options = Options {
        partitions: 1,
        ..Options::default()
    };
    let fleet = Fleet::new("explain-gaps", options).await?;
    let (control, client) = control(&fleet, &[]).await?;
    let topic = fleet.topic.clone();
    let open = transactions(&fleet).await?;
    let refused = async |topic: &str, partition, offset, words: &str| -> Result<()> {
        let Err(status) = ask(&client, position(topic, partition, offset)).await else {
            anyhow::bail!("{partition}/{offset} was explained, {words:?} expected");
        };
        eprintln!("{partition}/{offset}: {}", status.message());
        check_error(&status, Code::NotFound, "NOT_FOUND", words)
    };
    refused(&topic, 0, 0, "the next one is at 2").await?;
    refused(&topic, 0, 1, "the next one is at 2").await?;
    let told = ask_one(&client, &topic, 0, 2).await?;
    eprintln!("2: {}", told.explanation);
    ensure!(told.outcome() == RecordOutcome::Pending, "{told:?}");
    ensure!(told.explanation.contains("No ingest worker has accepted"), "{told:?}");
    refused(&topic, 0, 3, "there is none up to the log's end").await?;
    // The record of the open transaction is no record yet.
    refused(&topic, 0, 4, "its log ends at 4").await?;
    refused(&topic, 0, 1_000_000, "its log ends at 4").await?;
    refused(&topic, 1, 0, "has 1 partitions, counted from 0").await?;
    refused("nobodys", 0, 0, "no data type of the catalog reads topic \"nobodys\"").await?;
    drop(open);
    fleet.delete_topic().await?;
    refused(&topic, 0, 0, "Kafka has no topic").await?;
    control.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_a_search_reads_and_answers_no_more_than_it_may() -> Result<()> {
    let options = Options {
        partitions: 1,
        ..Options::default()
    };
    let fleet = Fleet::new("explain-limits", options).await?;
    let records = (0..300).map(|number| Made::basic(Fund(1 + number % 2), number.into()).at(number.into()));
    send(&fleet, records.collect()).await?;
    let offsets = |answer: &ExplainRecordResponse| -> Vec<u64> {
        let places = answer.records.iter().filter_map(|record| record.position.as_ref());
        places.map(|place| place.offset).collect()
    };
    let (all, client) = control(&fleet, &[]).await?;
    let answer = ask(&client, of_id(DataType::Basic, Fund(1), (0, 300))).await?;
    ensure!(
        answer.truncated && offsets(&answer) == (0..200).step_by(2).collect::<Vec<_>>(),
        "{answer:?}"
    );
    let answer = ask(&client, of_id(DataType::Basic, Fund(1), (0, 200))).await?;
    ensure!(!answer.truncated && answer.records.len() == 100, "{answer:?}");
    let answer = ask(&client, of_id(DataType::Basic, Fund(2), (100, 110))).await?;
    ensure!(
        !answer.truncated && offsets(&answer) == [101, 103, 105, 107, 109],
        "{answer:?}"
    );
    all.stop().await?;

    let (few, client) = control(&fleet, &[("explain.max_records", "10")]).await?;
    let answer = ask(&client, of_id(DataType::Basic, Fund(1), (0, 300))).await?;
    ensure!(answer.truncated && offsets(&answer) == [0, 2, 4, 6, 8], "{answer:?}");
    few.stop().await?;
    let (small, client) = control(&fleet, &[("explain.max_bytes", "1KiB")]).await?;
    let answer = ask(&client, of_id(DataType::Basic, Fund(1), (0, 300))).await?;
    ensure!(
        answer.truncated && (1..=20).contains(&answer.records.len()),
        "{answer:?}"
    );
    small.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_request_is_named_at_once() -> Result<()> {
    let server = ControlPlane::start("explain-bad", Vec::new()).await?;
    server.ready().await?;
    let client = Client::new(server.channel());
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let id = |data_type: &str, id: &str, start_time, end_time| {
        Some(Records::Id(RecordsOfId {
            data_type: data_type.to_owned(),
            id: id.to_owned(),
            times: Some(TimeWindow { start_time, end_time }),
        }))
    };
    let bad_position = RecordPosition {
        topic: String::new(),
        partition: 70_000,
        offset: u64::MAX,
    };
    let no_times = RecordsOfId {
        data_type: "nothing".to_owned(),
        ..RecordsOfId::default()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (records, expected) in [
        (None, names(&["records"])),
        (
            Some(Records::Position(bad_position)),
            names(&["position.topic", "position.partition", "position.offset"]),
        ),
        (
            Some(Records::Id(no_times)),
            names(&["id.data_type", "id.id", "id.times.start_time", "id.times.end_time"]),
        ),
        (
            id("", "a\u{7}b", time(i64::MAX), time(0)),
            names(&["id.data_type", "id.id", "id.times.start_time"]),
        ),
        (id("fund_basic", "a", time(5), time(5)), names(&["id.times.end_time"])),
    ] {
        let answer = ask(&client, ExplainRecordRequest { records }).await;
        let Err(status) = answer else {
            anyhow::bail!("{expected:?} was not refused");
        };
        check_error(
            &status,
            Code::InvalidArgument,
            "INVALID_FIELDS",
            "the request is not valid",
        )?;
        let details = status.get_error_details();
        let violations = &details.bad_request().context("field violations")?.field_violations;
        let named: Vec<String> = violations.iter().map(|violation| violation.field.clone()).collect();
        ensure!(named == expected, "{named:?}, {expected:?} expected");
    }
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_compaction_removed_is_said_to_be_gone() -> Result<()> {
    let options = Options {
        partitions: 1,
        topic: vec![
            ("cleanup.policy", "compact"),
            ("segment.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.01"),
        ],
        ..Options::default()
    };
    let fleet = Fleet::new("explain-compacted", options).await?;
    let (control, client) = control(&fleet, &[]).await?;
    send(&fleet, vec![Made::basic(Fund(2), 1), Made::basic(Fund(1), 1)]).await?;
    let mut second = 0;
    let status = wait_for("compaction", PATIENCE, async || {
        // Only a record that is later by its own time ends a segment.
        second += 1;
        send(&fleet, vec![Made::basic(Fund(1), 1).at(second)]).await?;
        match ask(&client, position(&fleet.topic, 0, 1)).await {
            Err(status) if status.code() == Code::NotFound => Ok(status),
            other => anyhow::bail!("{other:?}"),
        }
    })
    .await?;
    eprintln!("{}", status.message());
    check_error(&status, Code::NotFound, "NOT_FOUND", "compaction removed it")?;
    // Compaction goes on, and what was next a moment ago may be gone as well.
    wait_for("the next record", PATIENCE, async || {
        let status = ask(&client, position(&fleet.topic, 0, 1))
            .await
            .expect_err("it is gone");
        let details = status.get_error_details();
        let next: u64 = details.error_info().context("error info")?.metadata["next_offset"].parse()?;
        let told = ask_one(&client, &fleet.topic, 0, next).await?;
        ensure!(told.id == Fund(1).performance_id() && next > 1, "{told:?}");
        Ok(())
    })
    .await?;
    // What is before the gap is still there.
    ensure!(ask_one(&client, &fleet.topic, 0, 0).await?.id == Fund(2).performance_id());
    control.stop().await
}
