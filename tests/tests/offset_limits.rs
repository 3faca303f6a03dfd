//! Questions about a ledger of days, and the purge of a ledger of a million ranges: bounded work, exact counts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use redis::aio::MultiplexedConnection;
use reprise_proto::v1::offset_range_service_client::OffsetRangeServiceClient;
use reprise_proto::v1::resolve_offsets_request::Known;
use reprise_proto::v1::*;
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::topics;
use reprise_shared::kafka::describe::{Described, describe_topics};
use reprise_shared::ledger::{Coverage, CoverageKind, Keys, Millis, Range, RunId, Source};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName, TopicPartition};
use reprise_shared::tally::{RecordCounts, RowCounts};
use reprise_tests::control::{ControlPlane, reason};
use reprise_tests::env::Servers;
use reprise_tests::feed::{DataTypeMix, FeedConfig};
use reprise_tests::fleet::{self, Fleet, Options, endpoints_with};
use reprise_tests::kernel::{own_cpu_seconds, stolen_seconds};
use reprise_tests::oracle::visit_topic;
use reprise_tests::servers::Server as _;
use reprise_tests::wait::blocking;
use sqlx::Row as _;
use tonic::Code;
use tonic::transport::Channel;

const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];
const PARTITIONS: u16 = 4;
const HOUR: i64 = 3_600 * 1_000;
const DAY: i64 = 24 * HOUR;
const OLD: u64 = 1_000_000;
const YOUNG: u64 = 600;
/// No call may keep Redis from others for longer.
const LONGEST_CALL: Duration = Duration::from_millis(20);

/// Offsets and times by partition.
type Lines = BTreeMap<u16, Vec<(u64, i64)>>;

type Client = OffsetRangeServiceClient<Channel>;

/// A fleet with a Redis of its own, and a connection to that.
async fn alone(name: &str, redis: &str) -> Result<(Fleet, MultiplexedConnection)> {
    let options = Options {
        partitions: PARTITIONS,
        endpoints: Some(endpoints_with(|all| redis.clone_into(&mut all.redis)).await?),
        ..Options::default()
    };
    let fleet = Fleet::new(name, options).await?;
    let mut config = redis::AsyncConnectionConfig::new();
    config = config.set_response_timeout(Some(Duration::from_secs(30)));
    let client = redis::Client::open(redis)?;
    let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    Ok((fleet, connection))
}

async fn serve(fleet: &Fleet, settings: &[(&'static str, &str)]) -> Result<(ControlPlane, Client)> {
    let mut all = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("rate_limit.per_second", "0".to_owned()),
        ("grpc.deadline", "120s".to_owned()),
    ];
    all.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
    let server = ControlPlane::start_on(&fleet.isolation, all).await?;
    server.ready().await?;
    let client = OffsetRangeServiceClient::new(server.channel());
    Ok((server, client))
}

fn place(fleet: &Fleet, partition: u16) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(partition),
    }
}

/// The topic's id, with all its partitions accepted from 0 on, as the first worker would.
async fn accept(fleet: &Fleet) -> Result<TopicId> {
    let (admin, topic) = (fleet.isolation.admin()?, TopicName::new(&fleet.topic));
    let asked = topic.clone();
    let described = blocking("describe the topic", Duration::from_secs(20), move || {
        Ok(describe_topics(admin.inner(), &[asked], Duration::from_secs(10))?)
    });
    let Some(Described::Topic { id, .. }) = described.await?.remove(&topic) else {
        anyhow::bail!("{topic} is not there");
    };
    let starts: Vec<_> = (0..PARTITIONS)
        .map(|partition| (Partition(partition), Offset(0)))
        .collect();
    let database = reprise_shared::mysql::Database::new(
        &reprise_shared::mysql::Config {
            url: fleet.isolation.mysql_url().into(),
            ..reprise_shared::mysql::Config::default()
        },
        Clock::system(),
    )?;
    topics::accept_new(&database, &topic, &id, &starts).await?;
    Ok(id)
}

/// A range of one record, as a worker writes it.
fn range(topic_id: &TopicId, offset: u64, time: i64) -> Range {
    Range {
        run: RunId::new("0193f0a0-0000-7000-8000-000000000001"),
        segment: Offset(offset),
        start: Offset(offset),
        end: Offset(offset + 1),
        records: RecordCounts {
            processed: 1,
            ..RecordCounts::default()
        },
        rows: RowCounts {
            written: 1,
            ..RowCounts::default()
        },
        first_record: Some(Millis(time)),
        last_record: Some(Millis(time)),
        first_processed: Millis(time + 500),
        last_processed: Millis(time + 900),
        whitelist: Some(reprise_shared::whitelist::Version(7)),
        topic_id: topic_id.clone(),
        source: Source::Live,
    }
}

/// Writes members to a line of the ledger, a thousand a call.
async fn write(connection: &mut MultiplexedConnection, key: &str, ranges: impl Iterator<Item = Range>) -> Result<u64> {
    let (mut written, mut ranges) = (0, ranges.peekable());
    while ranges.peek().is_some() {
        let mut command = redis::cmd("ZADD");
        command.arg(key);
        for range in ranges.by_ref().take(1_000) {
            command.arg(range.start.0).arg(serde_json::to_string(&range)?);
        }
        written += command.query_async::<u64>(connection).await?;
    }
    Ok(written)
}

fn time(milliseconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).expect("below a second"),
    })
}

fn window(start: i64, end: i64) -> TimeWindow {
    TimeWindow {
        start_time: time(start),
        end_time: time(end),
    }
}

/// How many pages Redis has read so far.
async fn pages(connection: &mut MultiplexedConnection) -> Result<u64> {
    calls(connection, "zrangebyscore").await
}

/// How many calls of a command Redis has seen so far.
async fn calls(connection: &mut MultiplexedConnection, command: &str) -> Result<u64> {
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(connection).await?;
    let start = format!("cmdstat_{command}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    Ok(line.and_then(|rest| rest.split(',').next()).map_or(Ok(0), str::parse)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_over_six_days_of_ranges_reads_a_few_pages() -> Result<()> {
    const RANGES: u64 = 35_000;
    let redis = Servers::own().redis().await?;
    let (fleet, mut connection) = alone("six-days", redis.endpoint()).await?;
    // One record of a type every 15 seconds or so, each a range of its own.
    let begin = Clock::system().now().as_millisecond() - 6 * DAY;
    let step = u32::try_from(6 * DAY / i64::try_from(RANGES)?)?;
    let feed = FeedConfig {
        records: Some(RANGES),
        funds: 500,
        step_ms: step,
        start: jiff::Timestamp::from_millisecond(begin)?,
        mix: DataTypeMix {
            basic: 0,
            valuation: 0,
            risk: 1,
        },
        ..FeedConfig::default()
    };
    fleet.publish(feed).await?;
    let topic_id = accept(&fleet).await?;
    let lines = read(&fleet).await?;
    lay_out(&fleet, &mut connection, &topic_id, &lines).await?;
    let (server, mut client) = serve(&fleet, &[]).await?;
    let mut took: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let cpu_before = own_cpu_seconds()?;
    for round in 0..21 {
        let start = begin + 2 * DAY + round * HOUR;
        for basis in [TimeBasis::Record, TimeBasis::Processed] {
            let before = pages(&mut connection).await?;
            let spent = check_hour(&mut client, &lines, start, basis).await?;
            took.entry(basis.as_str_name()).or_default().push(spent);
            let read = pages(&mut connection).await? - before;
            ensure!(read <= 4 * 8, "{read} pages were read");
        }
        let spent = check_list_of_hour(&mut client, &lines, start).await?;
        took.entry("list").or_default().push(spent);
    }
    let cpu = (own_cpu_seconds()? - cpu_before) * 1e3 / 63.0;
    println!("{cpu:.1} ms of this process's CPU for a question, with asking and checking");
    for (what, mut took) in took {
        took.sort_unstable();
        println!(
            "{what} over {RANGES} ranges: median {:?}, longest {:?}",
            took[took.len() / 2],
            took[took.len() - 1]
        );
    }
    server.stop().await
}

/// Writes a range for each record, and whole coverage, as a worker would have.
async fn lay_out(
    fleet: &Fleet,
    connection: &mut MultiplexedConnection,
    topic_id: &TopicId,
    lines: &Lines,
) -> Result<()> {
    let keys = Keys::new(fleet.redis.prefix().clone());
    for (partition, records) in lines {
        let place = place(fleet, *partition);
        let ranges = records.iter().map(|(offset, time)| range(topic_id, *offset, *time));
        write(connection, &keys.ranges("fund_risk", &place), ranges).await?;
        let covered = Coverage {
            kind: CoverageKind::Live,
            topic_id: topic_id.clone(),
            data_type: None,
            start: Offset(0),
            end: Offset(records.last().map_or(0, |(offset, _)| offset + 1)),
            first_processed: Millis(0),
            last_processed: Millis(0),
        };
        let mut command = redis::cmd("ZADD");
        command
            .arg(keys.coverage(&place))
            .arg(0)
            .arg(serde_json::to_string(&covered)?);
        command.exec_async(connection).await?;
    }
    Ok(())
}

/// Resolves an hour, and tells how long the answer took.
async fn check_hour(client: &mut Client, lines: &Lines, start: i64, basis: TimeBasis) -> Result<Duration> {
    let request = ResolveOffsetsRequest {
        data_type: "fund_risk".to_owned(),
        partitions: Vec::new(),
        known: Some(Known::Times(window(start, start + HOUR))),
        time_basis: basis.into(),
    };
    let clock = Clock::system();
    let begun = clock.monotonic();
    let answer = client.resolve_offsets(request).await?.into_inner();
    let spent = clock.monotonic() - begun;
    // The ranges of an hour stand in a row; they were processed from half a second to 0.9 s later.
    let (last, first) = if basis == TimeBasis::Processed {
        (900, 500)
    } else {
        (0, 0)
    };
    for found in answer.resolved {
        let records = &lines[&u16::try_from(found.partition)?];
        let within = |time: &i64| (start - last..start + HOUR - first).contains(time);
        let mut within = records
            .iter()
            .filter(|(_, time)| within(time))
            .map(|(offset, _)| *offset);
        let first = within.next().context("an hour without a record")?;
        let expected = OffsetInterval {
            start: first,
            end: within.next_back().unwrap_or(first) + 1,
        };
        ensure!(
            found.offsets == Some(expected) && found.source() == OffsetSource::Ledger,
            "{found:?}, not {expected:?}"
        );
    }
    Ok(spent)
}

/// Lists the ranges of an hour, and tells how long the answer took.
async fn check_list_of_hour(client: &mut Client, lines: &Lines, start: i64) -> Result<Duration> {
    let request = ListOffsetRangesRequest {
        data_type: "fund_risk".to_owned(),
        times: Some(window(start, start + HOUR)),
        page_size: 1_000,
        ..ListOffsetRangesRequest::default()
    };
    let clock = Clock::system();
    let begun = clock.monotonic();
    let mut listed = 0;
    let mut page_token = String::new();
    loop {
        let request = ListOffsetRangesRequest {
            page_token,
            ..request.clone()
        };
        let page = client.list_offset_ranges(request).await?.into_inner();
        listed += page.ranges.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let spent = clock.monotonic() - begun;
    let expected = lines
        .values()
        .flatten()
        .filter(|(_, time)| (start..start + HOUR).contains(time))
        .count();
    ensure!(listed == expected, "{listed} ranges are listed, not {expected}");
    Ok(spent)
}

/// Reads the topic.
async fn read(fleet: &Fleet) -> Result<Lines> {
    let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
    blocking("read the topic", Duration::from_secs(60), move || {
        let mut lines = Lines::new();
        visit_topic(&brokers, &topic, |record| {
            let at = (record.offset.0, record.time.unwrap_or(-1));
            lines.entry(record.partition.0).or_default().push(at);
        })?;
        Ok(lines)
    })
    .await
}

async fn purge(client: &mut Client, request_id: &str, validate_only: bool) -> Result<(u64, u64), tonic::Status> {
    let request = PurgeOffsetRangesRequest {
        request_id: request_id.to_owned(),
        validate_only,
        ..PurgeOffsetRangesRequest::default()
    };
    let purged = client.purge_offset_ranges(request).await?.into_inner();
    Ok((purged.removed, purged.scanned))
}

/// Returns the audit log's purges: outcome, removed ranges, who and which request.
async fn audited(fleet: &Fleet) -> Result<Vec<(String, Option<u64>, String, Option<String>)>> {
    let rows = sqlx::query(
        "SELECT outcome, after_state, principal, request_id FROM audit_events WHERE target = 'offset_ranges' ORDER BY id",
    );
    let rows = rows.fetch_all(&fleet.pool).await?;
    let read = |row: &sqlx::mysql::MySqlRow| {
        let state: serde_json::Value = serde_json::from_str(row.try_get("after_state")?)?;
        let removed = state["removed"].as_u64();
        Ok((
            row.try_get("outcome")?,
            removed,
            row.try_get("principal")?,
            row.try_get("request_id")?,
        ))
    };
    rows.iter().map(read).collect()
}

/// A call as Redis has it on record.
#[derive(Debug)]
struct Call {
    number: u64,
    /// By the clock, so with the time that Redis waited for a processor.
    took: Duration,
    arguments: Vec<String>,
}

impl Call {
    /// The keys of a script.
    fn keys(&self) -> &[String] {
        let name = self.arguments.first();
        let is_script = name.is_some_and(|name| name.eq_ignore_ascii_case("EVALSHA"));
        let count = self.arguments.get(2).filter(|_| is_script);
        let count = count.and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
        self.arguments.get(3..3 + count).unwrap_or_default()
    }

    /// A step of a purge has a line of ranges first.
    fn is_step(&self) -> bool {
        self.keys().first().is_some_and(|key| key.contains(":offsets:"))
    }

    /// A worker's write has the lines of its ranges after coverage and `indexed_from`.
    fn writes_ranges(&self) -> bool {
        matches!(self.keys(), [coverage, _, ranges, ..] if coverage.contains(":coverage:") && ranges.contains(":offsets:"))
    }
}

/// All calls that Redis has on record, in their order.
async fn recorded(connection: &mut MultiplexedConnection) -> Result<Vec<Call>> {
    let entries: Vec<Vec<redis::Value>> = redis::cmd("SLOWLOG").arg("GET").arg(-1).query_async(connection).await?;
    let mut recorded = Vec::new();
    for mut entry in entries {
        ensure!(entry.len() > 3, "{entry:?}");
        recorded.push(Call {
            arguments: redis::from_redis_value(entry.swap_remove(3))?,
            took: Duration::from_micros(redis::from_redis_value(entry.swap_remove(2))?),
            number: redis::from_redis_value(entry.swap_remove(0))?,
        });
    }
    recorded.sort_unstable_by_key(|call| call.number);
    Ok(recorded)
}

/// Checks that no call was too long, and that live traffic wrote ranges between the first step of a purge and the last.
fn check_calls(recorded: &[Call], stolen: Duration) -> Result<()> {
    let is_step = |call: &Call| call.is_step();
    let first = recorded.iter().position(is_step).context("no step is on record")?;
    let last = recorded.iter().rposition(is_step).context("no step is on record")?;
    let during = &recorded[first..=last];
    let live = during.iter().filter(|call| call.writes_ranges()).count();
    let mut steps: Vec<Duration> = during
        .iter()
        .filter(|call| call.is_step())
        .map(|call| call.took)
        .collect();
    steps.sort_unstable();
    let middle = steps[steps.len() / 2];
    let longest = recorded
        .iter()
        .max_by_key(|call| call.took)
        .context("no call is on record")?;
    // Redis takes its times by the clock. What a call took too long must be time that the hypervisor had taken.
    let over: Duration = recorded.iter().map(|call| call.took.saturating_sub(LONGEST_CALL)).sum();
    eprintln!(
        "{} steps take {middle:?} of Redis (median), {live} writes of live ranges in between; of {} calls the longest took \
         {:?}; {over:?} beyond the limit, {stolen:?} of CPU were stolen",
        steps.len(),
        recorded.len(),
        longest.took
    );
    ensure!(live > 0, "live traffic wrote no ranges while the purge ran");
    ensure!(middle < LONGEST_CALL, "half of the steps took {middle:?} and more");
    ensure!(
        over <= stolen,
        "calls took {over:?} beyond {LONGEST_CALL:?} each, but only {stolen:?} of CPU were stolen; the longest is {longest:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_a_million_ranges_is_exact_while_live_traffic_goes_on() -> Result<()> {
    let redis = Servers::own().redis().await?;
    let (mut fleet, mut connection) = alone("million", redis.endpoint()).await?;
    let feed = FeedConfig {
        records: Some(4_000),
        funds: 200,
        ..FeedConfig::default()
    };
    fleet.seed(&feed).await?;
    fleet.publish(feed.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(fleet::PATIENCE).await?;
    let topic_id = topics::accepted(&fleet.pool, &TopicName::new(&fleet.topic))
        .await?
        .context("not accepted")?
        .topic_id;
    fill(&fleet, &mut connection, &topic_id).await?;
    let stay = members(&fleet, &mut connection).await? - OLD;

    let (server, mut client) = serve(&fleet, &[("offsets.pause", "1ms")]).await?;
    ensure!(
        purge(&mut client, "", true).await?.0 == OLD,
        "the count of what would be removed is wrong"
    );
    ensure!(
        members(&fleet, &mut connection).await? == OLD + stay,
        "counting removed something"
    );
    for (key, value) in [("slowlog-log-slower-than", "0"), ("slowlog-max-len", "100000")] {
        redis::cmd("CONFIG")
            .arg("SET")
            .arg(key)
            .arg(value)
            .exec_async(&mut connection)
            .await?;
    }
    redis::cmd("SLOWLOG").arg("RESET").exec_async(&mut connection).await?;
    let (before, stolen_before) = (calls(&mut connection, "evalsha").await?, stolen_seconds()?);
    let clock = Clock::system();
    let begun = clock.monotonic();
    let live = FeedConfig { seed: 2, ..feed };
    let mut other = client.clone();
    let (purged, lived) = tokio::join!(purge(&mut client, "one", false), async {
        // While it runs: live data is processed, and no second purge begins.
        fleet.publish(live).await?;
        let refused = purge(&mut other, "two", false).await.expect_err("one purge at a time");
        ensure!(
            refused.code() == Code::FailedPrecondition && reason(&refused)? == "WRONG_STATE",
            "{refused:?}"
        );
        fleet.caught_up(fleet::PATIENCE).await?;
        anyhow::Ok(clock.monotonic() - begun)
    });
    let took = clock.monotonic() - begun;
    let (removed, scanned) = purged?;
    println!(
        "{removed} of {scanned} ranges removed in {took:?}; live data was through after {:?}",
        lived?
    );
    let stolen = Duration::from_secs_f64(stolen_seconds()? - stolen_before);
    let made = calls(&mut connection, "evalsha").await? - before;
    check_calls(&recorded(&mut connection).await?, stolen)?;
    ensure!(
        removed == OLD && scanned >= OLD + YOUNG,
        "{removed} of {scanned} were removed"
    );
    ensure!(made >= scanned.div_ceil(300), "{made} calls for {scanned} ranges");
    let left = members(&fleet, &mut connection).await?;
    ensure!(left >= stay, "{left} are left of {stay} and what live traffic added");
    fleet.check_coverage_is_whole().await?;

    check_repeated(&fleet, &mut client, &mut connection, (removed, scanned)).await?;
    server.stop().await?;
    fleet.stop().await
}

/// Writes a million ranges that are old, and some young ones between them, above live's own.
async fn fill(fleet: &Fleet, connection: &mut MultiplexedConnection, topic_id: &TopicId) -> Result<()> {
    let now = Clock::system().now().as_millisecond();
    let keys = Keys::new(fleet.redis.prefix().clone());
    let lines = u64::from(PARTITIONS) * TYPES.len() as u64;
    let mut written = 0;
    for (number, (partition, data_type)) in (0..PARTITIONS)
        .flat_map(|partition| TYPES.map(|data_type| (partition, data_type)))
        .enumerate()
    {
        // The first line takes what does not divide.
        let old = OLD / lines + if number == 0 { OLD % lines } else { 0 };
        let every = old / (YOUNG / lines);
        let ranges = (0..old + YOUNG / lines).map(|place| {
            let age = if place % (every + 1) == every { DAY } else { 7 * DAY };
            range(topic_id, 1_000_000 + 3 * place, now - age)
        });
        written += write(connection, &keys.ranges(data_type, &place(fleet, partition)), ranges).await?;
    }
    ensure!(written == OLD + YOUNG, "{written} members were written");
    Ok(())
}

/// The same call again has the same result, a new one finds nothing, and all of it is on record.
async fn check_repeated(
    fleet: &Fleet,
    client: &mut Client,
    connection: &mut MultiplexedConnection,
    (removed, scanned): (u64, u64),
) -> Result<()> {
    ensure!(
        purge(client, "one", false).await? == (removed, scanned),
        "the same call has another result"
    );
    let (again, looked) = purge(client, "three", false).await?;
    ensure!(
        again == 0 && looked == members(fleet, connection).await?,
        "{again} of {looked} removed"
    );
    let request = PurgeOffsetRangesRequest {
        data_type: "fund_risk".to_owned(),
        request_id: "one".to_owned(),
        ..PurgeOffsetRangesRequest::default()
    };
    let status = client.purge_offset_ranges(request).await.expect_err("another request");
    ensure!(reason(&status)? == "REQUEST_ID_REUSED", "{status:?}");
    let who =
        |outcome: &str, removed, id: &str| (outcome.to_owned(), removed, "anonymous".to_owned(), Some(id.to_owned()));
    let expected = [
        who("unknown", None, "one"),
        who("done", Some(OLD), "one"),
        who("unknown", None, "three"),
        who("done", Some(0), "three"),
    ];
    let audited = audited(fleet).await?;
    ensure!(audited == expected, "{audited:?}");
    Ok(())
}

/// Counts the ranges of all types and partitions.
async fn members(fleet: &Fleet, connection: &mut MultiplexedConnection) -> Result<u64> {
    let keys = Keys::new(fleet.redis.prefix().clone());
    let mut members = 0;
    for partition in 0..PARTITIONS {
        for data_type in TYPES {
            let key = keys.ranges(data_type, &place(fleet, partition));
            members += redis::cmd("ZCARD").arg(key).query_async::<u64>(connection).await?;
        }
    }
    Ok(members)
}
