//! Questions about offsets agree with the topic itself: which were processed when, and what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_proto::v1::offset_range_service_client::OffsetRangeServiceClient;
use reprise_proto::v1::resolve_offsets_request::Known;
use reprise_proto::v1::*;
use reprise_shared::ingest_state::{deferred, topics};
use reprise_shared::ledger::{Coverage, CoverageKind, Interval, Keys, Marker, Millis, Range, Reader, RunId, holes};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName, TopicPartition};
use reprise_shared::redis::Limit;
use reprise_tests::control::{ControlPlane, PATIENCE, reason};
use reprise_tests::feed::{Feed, FeedConfig};
use reprise_tests::fleet::{self, Fleet, Options, feed_of_all_kinds};
use reprise_tests::oracle::visit_topic;
use reprise_tests::wait::{blocking, wait_for};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];
const PARTITIONS: u16 = 4;
const RECORDS: u64 = 32_000;

type Client = OffsetRangeServiceClient<Channel>;

/// Ranges by data type.
type ByType = BTreeMap<&'static str, Vec<OffsetRange>>;

/// The topic as Kafka has it: offsets and times of each type's records, and of all, by partition.
#[derive(Default)]
struct Topic {
    typed: BTreeMap<(u32, String), Vec<(u64, i64)>>,
    all: BTreeMap<u32, Vec<(u64, i64)>>,
}

impl Topic {
    async fn read(fleet: &Fleet) -> Result<Self> {
        let (brokers, topic) = (fleet.isolation.kafka_brokers().to_owned(), fleet.topic.clone());
        blocking("read the topic", Duration::from_secs(60), move || {
            let mut read = Self::default();
            visit_topic(&brokers, &topic, |record| {
                let partition = u32::from(record.partition.0);
                let at = (record.offset.0, record.time.unwrap_or(-1));
                read.all.entry(partition).or_default().push(at);
                let data_type = record.data_type.map(String::from_utf8_lossy).unwrap_or_default();
                if TYPES.contains(&&*data_type) {
                    read.typed
                        .entry((partition, data_type.into_owned()))
                        .or_default()
                        .push(at);
                }
            })?;
            Ok(read)
        })
        .await
    }

    fn records(&self, partition: u32, data_type: &str) -> &[(u64, i64)] {
        self.typed
            .get(&(partition, data_type.to_owned()))
            .map_or(&[], Vec::as_slice)
    }

    fn end(&self, partition: u32) -> u64 {
        self.all[&partition].last().map_or(0, |(offset, _)| offset + 1)
    }

    /// Returns where the first record with a time at or after one lies.
    fn first_at(&self, partition: u32, time: i64) -> Option<u64> {
        let mut all = self.all[&partition].iter();
        all.find(|(_, at)| *at >= time).map(|(offset, _)| *offset)
    }

    fn times(&self) -> (i64, i64) {
        let times = || self.all.values().flatten().map(|(_, time)| *time);
        (times().min().unwrap_or(0), times().max().unwrap_or(0))
    }
}

/// A fleet whose worker is killed and started again in the middle of a feed with unordered times, and its control
/// plane.
async fn processed(name: &str) -> Result<(Fleet, ControlPlane)> {
    let options = Options {
        settings: [
            ("ingest.segment_records", "1000"),
            ("ingest.session_timeout", "6s"),
            ("ingest.drain", "4s"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into(),
        partitions: PARTITIONS,
        ..Options::default()
    };
    let mut fleet = Fleet::new(name, options).await?;
    let feed = |seed| FeedConfig {
        step_ms: 100,
        ..feed_of_all_kinds(Some(RECORDS / 2), seed)
    };
    fleet.seed(&feed(1)).await?;
    fleet.publish_records(unordered(feed(1))?).await?;
    let worker = fleet.start_worker()?;
    fleet.workers[worker].ready(fleet::PATIENCE).await?;
    let is_begun = |(committed, _): &(Option<i64>, i64)| committed.is_some_and(|committed| committed > 0);
    wait_for("commits in every partition", fleet::PATIENCE, async || {
        let positions = fleet.positions().await?;
        ensure!(positions.iter().all(is_begun), "{positions:?}");
        Ok(())
    })
    .await?;
    // It dies over some records, and others come only then.
    let mut some = unordered(feed(2))?;
    let others = some.split_off(some.len() / 2);
    fleet.publish_records(some).await?;
    fleet.workers[worker].kill()?;
    fleet.publish_records(others).await?;
    let positions = fleet.positions().await?;
    let is_amid = |&(committed, end): &(Option<i64>, i64)| is_begun(&(committed, end)) && committed < Some(end);
    ensure!(
        positions.iter().all(is_amid),
        "the worker was not killed in the middle: {positions:?}"
    );
    fleet.workers[worker].start()?;
    fleet.workers[worker].ready(fleet::PATIENCE).await?;
    fleet.caught_up(fleet::PATIENCE).await?;
    fleet.stop().await?;
    let settings = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("rate_limit.per_second", "0".to_owned()),
    ];
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    Ok((fleet, server))
}

fn unordered(config: FeedConfig) -> Result<Vec<reprise_tests::feed::FeedRecord>> {
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    let records = Feed::new(config)?.map(|mut record| {
        record.timestamp_ms += match random.random_range(0..100) {
            0 => random.random_range(-3_000_000..0),
            _ => random.random_range(-20_000..20_000),
        };
        record
    });
    Ok(records.collect())
}

fn time(milliseconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).expect("below a second"),
    })
}

fn milliseconds(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000)
}

fn window(start: i64, end: i64) -> TimeWindow {
    TimeWindow {
        start_time: time(start),
        end_time: time(end),
    }
}

fn positions(range: &OffsetRange) -> (u64, u64) {
    let offsets = range.offsets.as_ref().expect("every range has positions");
    (offsets.start, offsets.end)
}

/// Returns the first and the last time of a range.
fn times(times: Option<&TimeWindow>) -> Option<(i64, i64)> {
    let times = times?;
    Some((
        milliseconds(times.start_time.as_ref()),
        milliseconds(times.end_time.as_ref()) - 1,
    ))
}

async fn list(client: &mut Client, mut request: ListOffsetRangesRequest) -> Result<Vec<OffsetRange>> {
    let mut ranges = Vec::new();
    loop {
        let page = client.list_offset_ranges(request.clone()).await?.into_inner();
        ensure!(
            page.ranges.len() <= usize::try_from(request.page_size)?,
            "a page is too long"
        );
        ranges.extend(page.ranges);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(ranges);
        }
    }
}

fn ask(data_type: &str, page_size: i32) -> ListOffsetRangesRequest {
    ListOffsetRangesRequest {
        data_type: data_type.to_owned(),
        page_size,
        ..ListOffsetRangesRequest::default()
    }
}

/// Checks each range against the topic, and that none is missing.
fn check_ranges(topic: &Topic, data_type: &str, ranges: &[OffsetRange]) -> Result<()> {
    for range in ranges {
        let (start, end) = positions(range);
        let records = topic.records(range.partition, data_type).iter();
        let within: Vec<_> = records.filter(|(offset, _)| (start..end).contains(offset)).collect();
        ensure!(
            within.len() as u64 == range.records,
            "{range:?} has {} records",
            within.len()
        );
        let sum = range.processed + range.filtered + range.skipped + range.deferred + range.dead_lettered;
        ensure!(sum == range.records, "the counts of {range:?} come to {sum}");
        let ends = (
            within.first().map(|(offset, _)| *offset),
            within.last().map(|(offset, _)| offset + 1),
        );
        ensure!(ends == (Some(start), Some(end)), "{range:?} is not tight: {ends:?}");
        let of = || within.iter().map(|(_, time)| *time);
        ensure!(
            times(range.record_times.as_ref()) == of().min().zip(of().max()),
            "{range:?} has other record times"
        );
    }
    for partition in 0..u32::from(PARTITIONS) {
        for (offset, _) in topic.records(partition, data_type) {
            let mut here = ranges.iter().filter(|range| range.partition == partition);
            ensure!(
                here.any(|range| (positions(range).0..positions(range).1).contains(offset)),
                "no range has {data_type} at {partition}:{offset}"
            );
        }
    }
    Ok(())
}

fn touches(found: Option<(i64, i64)>, (start, end): (i64, i64)) -> bool {
    found.is_some_and(|(first, last)| first < end && last >= start)
}

/// Returns the positions from the first to the last of some ranges.
fn hull<'a>(ranges: impl Iterator<Item = &'a OffsetRange>) -> Option<(u64, u64)> {
    ranges
        .map(positions)
        .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
}

async fn resolve(
    client: &mut Client,
    data_type: &str,
    known: Known,
    partitions: Vec<u32>,
) -> Result<Vec<ResolvedOffsets>> {
    let request = ResolveOffsetsRequest {
        data_type: data_type.to_owned(),
        partitions,
        known: Some(known),
        ..ResolveOffsetsRequest::default()
    };
    Ok(client.resolve_offsets(request).await?.into_inner().resolved)
}

/// Checks that every record of a window lies in the positions that were told for it.
fn check_none_is_missed(topic: &Topic, data_type: &str, resolved: &ResolvedOffsets, asked: (i64, i64)) -> Result<()> {
    let offsets = resolved.offsets.as_ref().context("no positions")?;
    for (offset, time) in topic.records(resolved.partition, data_type) {
        let inside = (offsets.start..offsets.end).contains(offset);
        ensure!(
            inside || !(asked.0..asked.1).contains(time),
            "{data_type} at {}:{offset} of time {time} is not in {resolved:?}",
            resolved.partition
        );
    }
    Ok(())
}

/// Asks which ranges and times there are of some positions.
async fn check_by_offsets(
    client: &mut Client,
    (data_type, ranges): (&str, &[OffsetRange]),
    partition: u32,
    offsets: OffsetInterval,
    page_size: i32,
) -> Result<()> {
    let OffsetInterval { start, end } = offsets;
    let request = ListOffsetRangesRequest {
        partitions: vec![partition],
        offsets: Some(offsets),
        ..ask(data_type, page_size)
    };
    let overlaps =
        |range: &&OffsetRange| range.partition == partition && positions(range).0 < end && positions(range).1 > start;
    let expected: Vec<_> = ranges.iter().filter(overlaps).cloned().collect();
    ensure!(
        list(client, request).await? == expected,
        "{data_type} in {partition}:[{start}, {end})"
    );
    let found = resolve(client, data_type, Known::Offsets(offsets), vec![partition]).await?;
    let found = times(found[0].times.as_ref());
    let all = || expected.iter().filter_map(|range| times(range.record_times.as_ref()));
    let expected = all()
        .map(|(first, _)| first)
        .min()
        .zip(all().map(|(_, last)| last).max());
    ensure!(
        found == expected,
        "times of {data_type} in {partition}:[{start}, {end}): {found:?}, not {expected:?}"
    );
    Ok(())
}

/// One random window, asked in every way, on a ledger that is whole.
async fn check_window(
    topic: &Topic,
    client: &mut Client,
    random: &mut ChaCha8Rng,
    data_type: &str,
    ranges: &[OffsetRange],
) -> Result<()> {
    let partition = random.random_range(0..u32::from(PARTITIONS));
    let page_size = random.random_range(1..60);
    // By offset.
    let start = random.random_range(0..topic.end(partition));
    let end = start + random.random_range(1..3_000);
    let offsets = OffsetInterval { start, end };
    check_by_offsets(client, (data_type, ranges), partition, offsets, page_size).await?;
    // By time.
    let (first, last) = topic.times();
    let start = random.random_range(first - 5_000..last + 5_000);
    let asked = (start, start + random.random_range(1..300_000));
    let request = ListOffsetRangesRequest {
        times: Some(window(asked.0, asked.1)),
        time_basis: TimeBasis::Record.into(),
        ..ask(data_type, page_size)
    };
    let in_time = |range: &&OffsetRange| touches(times(range.record_times.as_ref()), asked);
    let expected: Vec<_> = ranges.iter().filter(in_time).cloned().collect();
    ensure!(list(client, request).await? == expected, "{data_type} in {asked:?}");
    let resolved = resolve(client, data_type, Known::Times(window(asked.0, asked.1)), Vec::new()).await?;
    ensure!(resolved.len() == usize::from(PARTITIONS), "{resolved:?}");
    for resolved in &resolved {
        check_none_is_missed(topic, data_type, resolved, asked)?;
        let here = expected.iter().filter(|range| range.partition == resolved.partition);
        let (hull, first) = (hull(here), topic.first_at(resolved.partition, asked.0));
        let nothing = first.unwrap_or(topic.end(resolved.partition));
        let (start, end) = hull.unwrap_or((nothing, nothing));
        ensure!(
            resolved.offsets == Some(OffsetInterval { start, end }),
            "{resolved:?}, not [{start}, {end})"
        );
        let source = if first.is_some() {
            OffsetSource::Ledger
        } else {
            OffsetSource::Broker
        };
        ensure!(resolved.source() == source, "{resolved:?}, not from {source:?}");
    }
    Ok(())
}

/// By the time of processing, each range is found at its own.
async fn check_processing_times(client: &mut Client, data_type: &str, ranges: &[OffsetRange]) -> Result<()> {
    for range in ranges.iter().step_by(10) {
        let (first, last) = times(range.processing_times.as_ref()).context("no times of processing")?;
        let request = ResolveOffsetsRequest {
            data_type: data_type.to_owned(),
            partitions: vec![range.partition],
            known: Some(Known::Times(window(first, last + 1))),
            time_basis: TimeBasis::Processed.into(),
        };
        let resolved = client.resolve_offsets(request).await?.into_inner().resolved;
        let processed = |other: &&OffsetRange| {
            other.partition == range.partition && touches(times(other.processing_times.as_ref()), (first, last + 1))
        };
        let expected = hull(ranges.iter().filter(processed)).map(|(start, end)| OffsetInterval { start, end });
        ensure!(resolved[0].offsets == expected, "{resolved:?}, not {expected:?}");
        ensure!(resolved[0].source() == OffsetSource::Ledger, "{resolved:?}");
    }
    Ok(())
}

fn place(fleet: &Fleet, partition: u16) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(partition),
    }
}

/// Cuts the `nth` segment out of a partition's ledger, as if Redis had lost it, and returns its positions.
async fn cut(fleet: &Fleet, topic_id: &TopicId, partition: u16, nth: usize) -> Result<Interval> {
    let asked = place(fleet, partition);
    let everything = Interval::new(Offset(0), Offset(1 << 50));
    let reader = Reader::new(fleet.redis.clone());
    let mut ranges = Vec::new();
    for data_type in TYPES {
        let page = reader
            .ranges(data_type, &asked, everything, None, Reader::MAX_PAGE)
            .await?;
        let here = page.members.into_iter().filter(|range| range.topic_id == *topic_id);
        ranges.extend(here.map(|range| (range.segment, range.interval())));
    }
    let segments: BTreeSet<Offset> = ranges.iter().map(|(segment, _)| *segment).collect();
    let segments: Vec<Offset> = segments.into_iter().collect();
    ensure!(segments.len() > nth + 2, "only {} segments", segments.len());
    let mut hole = Interval::new(segments[nth], segments[nth + 1]);
    // Ranges of two runs overlap after a crash. None stays with a part of it in the hole.
    while let Some((_, wider)) = ranges.iter().find(|(_, range)| {
        let overlaps = range.start < hole.end && range.end > hole.start;
        overlaps && (range.start < hole.start || range.end > hole.end)
    }) {
        hole = Interval::new(hole.start.min(wider.start), hole.end.max(wider.end));
    }
    let keys = Keys::new(fleet.redis.prefix().clone());
    let query = async |name: &str, arguments: Vec<String>| -> Result<redis::Value> {
        let mut command = redis::cmd(name);
        command.arg(arguments);
        Ok(fleet.redis.query("cut the ledger", Limit::Bulk, &command).await?)
    };
    for data_type in TYPES {
        let key = keys.ranges(data_type, &asked);
        let members = query("ZRANGE", vec![key.clone(), "0".to_owned(), "-1".to_owned()]).await?;
        for member in redis::from_redis_value::<Vec<String>>(members)? {
            let range: Range = serde_json::from_str(&member)?;
            if range.topic_id == *topic_id && range.start < hole.end && range.end > hole.start {
                query("ZREM", vec![key.clone(), member]).await?;
            }
        }
    }
    let live = reader
        .coverage(&asked, everything, None, Reader::MAX_PAGE)
        .await?
        .members;
    let key = keys.coverage(&asked);
    query("DEL", vec![key.clone()]).await?;
    for member in live {
        for piece in holes(member.interval(), [hole]) {
            let kept = Coverage {
                start: piece.start,
                end: piece.end,
                topic_id: topic_id.clone(),
                ..member.clone()
            };
            let member = serde_json::to_string(&kept)?;
            query("ZADD", vec![key.clone(), piece.start.to_string(), member]).await?;
        }
    }
    Ok(hole)
}

/// Puts a range of a former topic of the same name into each line, with a time that every window of the test holds.
async fn add_former(fleet: &Fleet) -> Result<()> {
    let reader = Reader::new(fleet.redis.clone());
    let keys = Keys::new(fleet.redis.prefix().clone());
    for (partition, data_type) in (0..PARTITIONS).flat_map(|partition| TYPES.map(|data_type| (partition, data_type))) {
        let asked = place(fleet, partition);
        let everything = Interval::new(Offset(0), Offset(1 << 50));
        let mut page = reader.ranges(data_type, &asked, everything, None, 1).await?;
        let former = Range {
            run: RunId::new("0000-former"),
            end: Offset(1 << 40),
            first_record: Some(Millis(0)),
            last_record: Some(Millis(i64::MAX / 1_000)),
            topic_id: TopicId::new("AAAAAAAAAAAAAAAAAAAAAQ"),
            ..page.members.remove(0)
        };
        let mut command = redis::cmd("ZADD");
        command
            .arg(keys.ranges(data_type, &asked))
            .arg(former.start.0)
            .arg(serde_json::to_string(&former)?);
        fleet
            .redis
            .query::<i64>("add a former range", Limit::Ordinary, &command)
            .await?;
    }
    Ok(())
}

/// Asks windows by offset that meet a hole: what is left on record is told as it is, nothing stands for what is lost,
/// and the audit says what that is.
async fn check_windows_on(
    hole: Interval,
    fleet: &Fleet,
    client: &mut Client,
    random: &mut ChaCha8Rng,
    (topic, partition, left): (&Topic, u32, &ByType),
) -> Result<()> {
    let whole = OffsetInterval {
        start: hole.start.0,
        end: hole.end.0,
    };
    let mut windows = vec![whole];
    for _ in 0..8 {
        let start = random.random_range(whole.start.saturating_sub(1_500)..whole.end);
        let end = random.random_range(whole.start.max(start) + 1..whole.end + 1_500);
        let end = end.min(topic.end(partition));
        windows.push(OffsetInterval { start, end });
    }
    for window in windows {
        for (data_type, left) in left {
            check_by_offsets(client, (data_type, left), partition, window, 7).await?;
        }
        let (told, is_whole) = audit(client, fleet, partition, Some(window)).await?;
        let lost = (
            window.start.max(whole.start),
            window.end.min(whole.end),
            CoverageState::Hole,
            String::new(),
        );
        ensure!(told.contains(&lost) && !is_whole, "{lost:?} is not in {told:?}");
    }
    // Wholly inside there is nothing to tell.
    for (data_type, left) in left {
        let overlaps = |range: &&OffsetRange| range.partition == partition && positions(range).0 < whole.end;
        let inside = left
            .iter()
            .filter(overlaps)
            .find(|range| positions(range).1 > whole.start);
        ensure!(inside.is_none(), "{inside:?} stands in the hole {hole:?}");
        let found = resolve(client, data_type, Known::Offsets(whole), vec![partition]).await?;
        ensure!(found[0].offsets == Some(whole) && found[0].times.is_none(), "{found:?}");
    }
    Ok(())
}

type Told = Vec<(u64, u64, CoverageState, String)>;

async fn audit(
    client: &mut Client,
    fleet: &Fleet,
    partition: u32,
    offsets: Option<OffsetInterval>,
) -> Result<(Told, bool)> {
    let request = AuditCoverageRequest {
        topic: fleet.topic.clone(),
        partitions: vec![partition],
        offsets,
        ..AuditCoverageRequest::default()
    };
    let mut answer = client.audit_coverage(request).await?.into_inner();
    ensure!(
        answer.partitions.len() == 1 && answer.next_page_token.is_empty(),
        "{answer:?}"
    );
    let found = answer.partitions.remove(0);
    let told = found.intervals.iter().map(|interval| {
        let offsets = interval.offsets.unwrap_or_default();
        (offsets.start, offsets.end, interval.state(), interval.data_type.clone())
    });
    Ok((told.collect(), found.whole))
}

/// Checks that each partition has ranges of the worker that was killed, and of the one that went on.
fn check_runs(by_type: &ByType) -> Result<()> {
    for partition in 0..u32::from(PARTITIONS) {
        let here = by_type.values().flatten().filter(|range| range.partition == partition);
        let runs: BTreeSet<&str> = here.map(|range| range.run_id.as_str()).collect();
        ensure!(
            runs.len() >= 2,
            "partition {partition} has ranges of one run only: {runs:?}"
        );
    }
    Ok(())
}

/// Cuts some holes into the ledger, and takes the ranges that went with them out of those that are expected.
async fn cut_holes(fleet: &Fleet, by_type: &mut ByType) -> Result<Vec<(u32, Interval)>> {
    let topic_id = topics::accepted(&fleet.pool, &TopicName::new(&fleet.topic))
        .await?
        .context("not accepted")?
        .topic_id;
    let mut holes = Vec::new();
    for (partition, nth) in [(0, 2), (0, 5), (1, 0), (2, 3)] {
        let hole = cut(fleet, &topic_id, partition, nth).await?;
        for ranges in by_type.values_mut() {
            ranges.retain(|range| {
                let (start, end) = positions(range);
                range.partition != u32::from(partition) || end <= hole.start.0 || start >= hole.end.0
            });
        }
        holes.push((u32::from(partition), hole));
    }
    eprintln!("holes: {holes:?}");
    Ok(holes)
}

/// Asks windows by time on a ledger with holes: what it lost is asked of the broker, and nothing is missed.
async fn check_times_on_holes(topic: &Topic, client: &mut Client, random: &mut ChaCha8Rng) -> Result<()> {
    let (first, last) = topic.times();
    let mut sources = BTreeMap::<_, usize>::new();
    for number in 0..300 {
        let data_type = TYPES[number % TYPES.len()];
        let start = random.random_range(first - 5_000..last + 5_000);
        let asked = (start, start + random.random_range(1..300_000));
        let ranges = list(
            client,
            ListOffsetRangesRequest {
                times: Some(window(asked.0, asked.1)),
                ..ask(data_type, 1_000)
            },
        );
        let ranges = ranges.await?;
        for resolved in resolve(client, data_type, Known::Times(window(asked.0, asked.1)), Vec::new()).await? {
            check_none_is_missed(topic, data_type, &resolved, asked).with_context(|| format!("window {number}"))?;
            let here = ranges.iter().filter(|range| range.partition == resolved.partition);
            let (hull, offsets) = (hull(here), resolved.offsets.unwrap_or_default());
            *sources
                .entry((resolved.partition, resolved.source().as_str_name()))
                .or_default() += 1;
            if resolved.source() == OffsetSource::Ledger && !(offsets.start == offsets.end && hull.is_none()) {
                ensure!(hull == Some((offsets.start, offsets.end)), "{resolved:?}, not {hull:?}");
            }
        }
    }
    eprintln!("sources by partition, with holes in 0, 1 and 2: {sources:?}");
    let broker = OffsetSource::Broker.as_str_name();
    ensure!(
        sources.get(&(0, broker)) > sources.get(&(3, broker)),
        "holes were not noticed: {sources:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_agree_with_the_topic_for_a_thousand_windows() -> Result<()> {
    let (fleet, server) = processed("offset-ranges").await?;
    let topic = Topic::read(&fleet).await?;
    add_former(&fleet).await?;
    let mut client = OffsetRangeServiceClient::new(server.channel());
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut by_type = ByType::new();
    for data_type in TYPES {
        let ranges = list(&mut client, ask(data_type, 7)).await?;
        check_ranges(&topic, data_type, &ranges)?;
        check_processing_times(&mut client, data_type, &ranges).await?;
        println!("{data_type}: {} ranges", ranges.len());
        by_type.insert(data_type, ranges);
    }
    check_runs(&by_type)?;
    for number in 0..1_000 {
        let data_type = TYPES[number % TYPES.len()];
        check_window(&topic, &mut client, &mut random, data_type, &by_type[data_type])
            .await
            .with_context(|| format!("window {number}"))?;
    }

    let holes = cut_holes(&fleet, &mut by_type).await?;
    for (partition, hole) in holes {
        check_windows_on(hole, &fleet, &mut client, &mut random, (&topic, partition, &by_type))
            .await
            .with_context(|| format!("{hole:?} in partition {partition}"))?;
    }
    check_times_on_holes(&topic, &mut client, &mut random).await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_exactly_the_holes_and_tells_expired_from_missing() -> Result<()> {
    use CoverageState::{Covered, Hole};
    let (fleet, server) = processed("offset-audit").await?;
    let topic = Topic::read(&fleet).await?;
    let mut client = OffsetRangeServiceClient::new(server.channel());
    let none = String::new;
    for partition in 0..u32::from(PARTITIONS) {
        let whole = (vec![(0, topic.end(partition), Covered, none())], true);
        ensure!(
            audit(&mut client, &fleet, partition, None).await? == whole,
            "partition {partition} is not whole"
        );
    }
    let topic_id = topics::accepted(&fleet.pool, &TopicName::new(&fleet.topic))
        .await?
        .context("not accepted")?
        .topic_id;
    let (one, two) = (cut(&fleet, &topic_id, 0, 2).await?, cut(&fleet, &topic_id, 0, 5).await?);
    let end = topic.end(0);
    let holed = vec![
        (0, one.start.0, Covered, none()),
        (one.start.0, one.end.0, Hole, none()),
        (one.end.0, two.start.0, Covered, none()),
        (two.start.0, two.end.0, Hole, none()),
        (two.end.0, end, Covered, none()),
    ];
    let told = audit(&mut client, &fleet, 0, None).await?;
    ensure!(told == (holed, false), "{told:?}");
    let asked = OffsetInterval {
        start: one.end.0 - 1,
        end: 1 << 40,
    };
    let told = audit(&mut client, &fleet, 0, Some(asked)).await?.0;
    ensure!(told[0] == (asked.start, one.end.0, Hole, none()), "{told:?}");
    ensure!(told.last().is_some_and(|last| last.1 == end), "{told:?}");

    check_expired(&mut client, &fleet, &topic_id, (one, two), end).await?;
    check_audit_pages(&mut client, &fleet).await?;
    server.stop().await
}

async fn check_expired(
    client: &mut Client,
    fleet: &Fleet,
    topic_id: &TopicId,
    (one, two): (Interval, Interval),
    end: u64,
) -> Result<()> {
    use CoverageState::{Covered, Deferred, Expired, Hole, Lost};
    let none = String::new;
    // A part of the second hole was accepted as lost, and a type was stopped for a while.
    let lost = Coverage {
        kind: CoverageKind::Lost,
        topic_id: topic_id.clone(),
        data_type: None,
        start: two.start,
        end: Offset(two.start.0 + 5),
        first_processed: Millis(1),
        last_processed: Millis(1),
    };
    Marker::new(fleet.redis.clone()).mark(&place(fleet, 0), &lost).await?;
    deferred::cover(
        &fleet.pool,
        "fund_risk",
        &place(fleet, 0),
        topic_id,
        Offset(3),
        Offset(9),
        "TEST",
    )
    .await?;
    let former = TopicId::new("AAAAAAAAAAAAAAAAAAAAAQ");
    deferred::cover(
        &fleet.pool,
        "fund_basic",
        &place(fleet, 0),
        &former,
        Offset(3),
        Offset(9),
        "TEST",
    )
    .await?;
    // Kafka deletes what the first hole held.
    fleet.delete_records(0, i64::try_from(one.end.0 + 1)?).await?;
    let told = audit(client, fleet, 0, Some(OffsetInterval { start: 0, end })).await?;
    let expected = vec![
        (0, one.start.0, Covered, none()),
        (3, 9, Deferred, "fund_risk".to_owned()),
        (one.start.0, one.end.0, Expired, none()),
        (one.end.0, two.start.0, Covered, none()),
        (two.start.0, lost.end.0, Lost, none()),
        (lost.end.0, two.end.0, Hole, none()),
        (two.end.0, end, Covered, none()),
    ];
    ensure!(told == (expected, false), "{told:?}");
    let told = audit(client, fleet, 0, None).await?.0;
    ensure!(told[0] == (one.end.0 + 1, two.start.0, Covered, none()), "{told:?}");
    Ok(())
}

async fn check_audit_pages(client: &mut Client, fleet: &Fleet) -> Result<()> {
    let mut request = AuditCoverageRequest {
        topic: fleet.topic.clone(),
        page_size: 3,
        ..AuditCoverageRequest::default()
    };
    let first = client.audit_coverage(request.clone()).await?.into_inner();
    request.page_token = first.next_page_token;
    let second = client.audit_coverage(request).await?.into_inner();
    let partitions = first.partitions.iter().chain(&second.partitions);
    let partitions: Vec<_> = partitions.map(|found| (found.partition, found.whole)).collect();
    ensure!(
        partitions == [(0, false), (1, true), (2, true), (3, true)],
        "{partitions:?}"
    );
    ensure!(second.next_page_token.is_empty(), "there is no third page");
    Ok(())
}

/// Returns the fields that a refusal names.
fn named(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|request| request.field_violations.clone());
    let violations = violations.unwrap_or_default().into_iter();
    violations.map(|violation| violation.field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_every_fault_named() -> Result<()> {
    let fleet = Fleet::new("offset-faults", Options::default()).await?;
    let catalog = vec![("catalog", fleet.catalog_path().display().to_string())];
    let server = ControlPlane::start_on(&fleet.isolation, catalog).await?;
    server.ready().await?;
    let mut client = OffsetRangeServiceClient::new(server.channel());
    let backwards = OffsetInterval { start: 9, end: 9 };
    let status = client
        .list_offset_ranges(ListOffsetRangesRequest {
            data_type: "nothing".to_owned(),
            partitions: vec![70_000],
            offsets: Some(backwards),
            times: Some(window(2, 1)),
            time_basis: 7,
            page_size: -1,
            page_token: "?".to_owned(),
        })
        .await
        .expect_err("all is wrong");
    let fields = [
        "page_size",
        "page_token",
        "data_type",
        "partitions[0]",
        "offsets",
        "times",
        "time_basis",
    ];
    ensure!(
        status.code() == Code::InvalidArgument && named(&status) == fields,
        "{status:?}"
    );

    let status = client
        .resolve_offsets(ResolveOffsetsRequest {
            data_type: "fund_risk".to_owned(),
            partitions: vec![1, 99],
            known: Some(Known::Offsets(backwards)),
            time_basis: -1,
        })
        .await
        .expect_err("all is wrong");
    ensure!(
        named(&status) == ["time_basis", "offsets", "partitions", "partitions[1]"],
        "{status:?}"
    );
    ensure!(status.message().contains("partitions"), "{status:?}");
    let status = client
        .resolve_offsets(ResolveOffsetsRequest::default())
        .await
        .expect_err("nothing is given");
    ensure!(named(&status) == ["data_type", "times"], "{status:?}");

    check_faults_of_audit_and_purge(&mut client).await?;
    // A topic that is not there is no fault of the request.
    fleet.delete_topic().await?;
    let request = AuditCoverageRequest {
        topic: fleet.topic.clone(),
        ..AuditCoverageRequest::default()
    };
    let status = client.audit_coverage(request).await.expect_err("the topic is gone");
    ensure!(
        status.code() == Code::NotFound && reason(&status)? == "NOT_FOUND",
        "{status:?}"
    );
    let listed = client.list_offset_ranges(ask("fund_risk", 10)).await?.into_inner();
    ensure!(listed.ranges.is_empty(), "{listed:?}");
    tokio::time::timeout(PATIENCE, server.stop()).await?
}

async fn check_faults_of_audit_and_purge(client: &mut Client) -> Result<()> {
    let backwards = OffsetInterval { start: 9, end: 9 };
    let request = AuditCoverageRequest {
        topic: "other".to_owned(),
        offsets: Some(backwards),
        page_size: -5,
        ..AuditCoverageRequest::default()
    };
    let status = client.audit_coverage(request).await.expect_err("all is wrong");
    ensure!(named(&status) == ["page_size", "topic", "offsets"], "{status:?}");

    let status = client
        .purge_offset_ranges(PurgeOffsetRangesRequest {
            data_type: "nothing".to_owned(),
            older_than: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            request_id: "two words".to_owned(),
            validate_only: true,
        })
        .await
        .expect_err("all is wrong");
    ensure!(
        named(&status) == ["data_type", "older_than", "request_id"],
        "{status:?}"
    );
    Ok(())
}
