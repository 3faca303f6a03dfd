//! The ledger on a real Redis: what the scripts leave there is what the pure model says, also when calls are repeated,
//! runs overlap, and other members stand between.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::heartbeat::{Heartbeat, Role, Store, Whitelist};
use reprise_shared::ledger::{
    ChunkTally, Coverage, CoverageKind, Identity, Interval, Keys, Limits, Marker, Millis, PartitionLedger, PurgeStep,
    Purger, Reader, RunId, Source, TypeTally, Update, Writer, holes, union,
};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName, TopicPartition};
use reprise_shared::redis::Redis;
use reprise_shared::tally::{RecordCounts, RowCounts};
use reprise_shared::whitelist::{Status, Version};
use reprise_tests::env::Servers;
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;

#[path = "support/redis.rs"]
mod support;
use support::{OwnServer, command, open};

const ALL: Interval = Interval {
    start: Offset(0),
    end: Offset(1 << 40),
};

struct Bench {
    server: OwnServer,
    redis: Redis,
    writer: Writer,
    reader: Reader,
    partition: TopicPartition,
}

impl Bench {
    async fn start() -> Result<Self> {
        let server = Servers::own().redis().await?;
        let redis = open(server.endpoint());
        Ok(Self {
            writer: Writer::new(redis.clone(), 64),
            reader: Reader::new(redis.clone()),
            partition: TopicPartition {
                topic: TopicName::new("fund-data"),
                partition: Partition(3),
            },
            redis,
            server,
        })
    }

    fn run(&self, name: &str, topic_id: &str) -> PartitionLedger {
        let identity = Identity {
            partition: self.partition.clone(),
            topic_id: TopicId::new(topic_id),
            run: RunId::new(name),
            source: Source::Live,
        };
        let names = ["fund_basic", "fund_valuation", "fund_risk"].map(str::to_owned);
        PartitionLedger::new(identity, names.into(), Limits::default())
    }

    async fn write(&self, update: &Update) -> Result<()> {
        for result in self.writer.write(std::slice::from_ref(update)).await {
            result?;
        }
        Ok(())
    }

    async fn coverage(&self) -> Result<Vec<Coverage>> {
        Ok(self.reader.coverage(&self.partition, ALL, None, 10_000).await?.members)
    }

    async fn state(&self) -> Result<String> {
        let keys = Keys::new(self.redis.prefix().clone());
        let mut state = String::new();
        for key in ["fund_basic", "fund_valuation", "fund_risk"]
            .map(|name| keys.ranges(name, &self.partition))
            .into_iter()
            .chain([keys.coverage(&self.partition)])
        {
            state += &format!(
                "{:?}\n",
                command(&self.server, &["ZRANGE", &key, "0", "-1", "WITHSCORES"]).await?
            );
        }
        Ok(state)
    }

    async fn counted(&self, name: &str) -> Result<u64> {
        let redis::Value::BulkString(text) = command(&self.server, &["INFO", "commandstats"]).await? else {
            anyhow::bail!("INFO is text");
        };
        let text = String::from_utf8(text)?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        Ok(line.and_then(|rest| rest.split(',').next()).map_or(Ok(0), str::parse)?)
    }
}

fn tally(start: u64, end: u64) -> TypeTally {
    TypeTally {
        records: RecordCounts {
            processed: end - start,
            ..RecordCounts::default()
        },
        rows: RowCounts {
            written: end - start,
            ..RowCounts::default()
        },
        start: Offset(start),
        end: Offset(end),
        first_record: Some(Millis(1_700_000_000_000)),
        last_record: Some(Millis(1_700_000_000_999)),
    }
}

fn chunk(start: u64, end: u64, at: i64) -> ChunkTally {
    let (third, two) = ((end - start) / 3, 2 * (end - start) / 3);
    let parts = [(start, start + third), (start + third, start + two), (start + two, end)];
    let types = parts.iter().enumerate().filter(|(_, (from, to))| from < to);
    ChunkTally {
        start: Offset(start),
        end: Offset(end),
        whitelist: Version(7),
        first_processed: Millis(at),
        last_processed: Millis(at),
        types: types
            .map(|(index, (from, to))| (Some(TypeIndex(index)), tally(*from, *to)))
            .collect(),
    }
}

/// What a run sends that processed `[start, end)` and nothing else.
fn update(bench: &Bench, run: &str, topic_id: &str, start: u64, end: u64) -> Update {
    let mut ledger = bench.run(run, topic_id);
    ledger.add(&chunk(start, end, 1_000)).expect("in order");
    ledger.pending(Millis(1_000)).expect("an open segment")
}

fn intervals(members: &[Coverage], topic_id: &str, kind: CoverageKind) -> Vec<Interval> {
    let of = |member: &&Coverage| member.topic_id.as_str() == topic_id && member.kind == kind;
    members.iter().filter(of).map(Coverage::interval).collect()
}

#[tokio::test]
async fn a_segment_that_grows_is_replaced_and_the_same_update_twice_changes_nothing() -> Result<()> {
    let bench = Bench::start().await?;
    let mut ledger = bench.run("run-1", "topic-1");
    for (number, start) in (0..3_000).step_by(300).enumerate() {
        ledger.add(&chunk(start, start + 300, 1_000 * number as i64))?;
        let update = ledger.pending(Millis(1_000 * number as i64)).expect("open");
        bench.write(&update).await?;
        let once = bench.state().await?;
        bench.write(&update).await?;
        assert_eq!(bench.state().await?, once);
        ledger.written(&update);
    }
    let ranges = bench
        .reader
        .ranges("fund_risk", &bench.partition, ALL, None, 10)
        .await?;
    assert_eq!((ranges.members.len(), ranges.unreadable), (1, 0));
    assert_eq!(ranges.members[0].interval(), Interval::new(Offset(200), Offset(3_000)));
    assert_eq!(ranges.members[0].records.processed, 1_000);
    assert_eq!(ranges.members[0].whitelist, Some(Version(7)));
    assert_eq!(
        intervals(&bench.coverage().await?, "topic-1", CoverageKind::Live),
        [Interval::new(Offset(0), Offset(3_000))]
    );
    assert_eq!(ledger.durable_end(), Some(Offset(3_000)));
    Ok(())
}

#[tokio::test]
async fn two_runs_that_overlap_after_a_crash_are_both_kept_and_their_coverage_is_united() -> Result<()> {
    let bench = Bench::start().await?;
    for (run, start, end) in [("a", 0, 300), ("b", 0, 150), ("c", 150, 600)] {
        bench.write(&update(&bench, run, "topic-1", start, end)).await?;
    }
    let ranges = bench
        .reader
        .ranges("fund_basic", &bench.partition, ALL, None, 10)
        .await?
        .members;
    let runs: Vec<_> = ranges
        .iter()
        .map(|range| (range.run.as_str(), range.start.0, range.end.0))
        .collect();
    assert_eq!(runs, [("a", 0, 100), ("b", 0, 50), ("c", 150, 300)]);
    assert_eq!(
        intervals(&bench.coverage().await?, "topic-1", CoverageKind::Live),
        [Interval::new(Offset(0), Offset(600))]
    );
    Ok(())
}

#[tokio::test]
async fn coverage_is_the_union_for_any_order_of_writes_and_other_kinds_and_topics_stay_apart() -> Result<()> {
    let bench = Bench::start().await?;
    let marker = Marker::new(bench.redis.clone());
    let mut random = ChaCha8Rng::seed_from_u64(42);
    let mut written = [Vec::new(), Vec::new()];
    let mut marked = Vec::new();
    for number in 0..400 {
        let start = random.random_range(0..3_000);
        let end = start + random.random_range(1..60);
        let interval = Interval::new(Offset(start), Offset(end));
        if number % 5 == 0 {
            let kind = [CoverageKind::Lost, CoverageKind::Attested][number / 5 % 2];
            let lost = Coverage {
                kind,
                topic_id: TopicId::new("topic-0"),
                data_type: None,
                start: interval.start,
                end: interval.end,
                first_processed: Millis(1),
                last_processed: Millis(2),
            };
            marker.mark(&bench.partition, &lost).await?;
            marked.retain(|(of, known): &(CoverageKind, Interval)| *of != kind || known.start != interval.start);
            marked.push((kind, interval));
        } else {
            let topic = random.random_range(0..2);
            bench
                .write(&update(
                    &bench,
                    &format!("run-{number}"),
                    &format!("topic-{topic}"),
                    start,
                    end,
                ))
                .await?;
            written[topic].push(interval);
        }
        if number % 40 == 39 {
            let members = bench.coverage().await?;
            for (topic, written) in written.iter().enumerate() {
                let found = intervals(&members, &format!("topic-{topic}"), CoverageKind::Live);
                assert_eq!(found, union(written.iter().copied()), "after {number} writes");
            }
            for kind in [CoverageKind::Lost, CoverageKind::Attested] {
                let mut expected: Vec<_> = marked.iter().filter(|(of, _)| *of == kind).map(|(_, at)| *at).collect();
                expected.sort_unstable();
                assert_eq!(intervals(&members, "topic-0", kind), expected);
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_redis_lost_before_the_oldest_segment_sent_stays_a_hole() -> Result<()> {
    let bench = Bench::start().await?;
    let mut ledger = bench.run("run-1", "topic-1");
    for minute in 0..4_i64 {
        let start = 300 * minute as u64;
        ledger.add(&chunk(start, start + 300, minute * 61_000))?;
        let update = ledger.pending(Millis(minute * 61_000 + 500)).expect("open");
        bench.write(&update).await?;
        ledger.written(&update);
    }
    command(&bench.server, &["FLUSHALL"]).await?;
    let update = ledger.pending(Millis(3 * 61_000 + 1_500)).expect("open");
    bench.write(&update).await?;
    let covered = intervals(&bench.coverage().await?, "topic-1", CoverageKind::Live);
    // The third segment was sealed a second ago and is sent again; the first two are gone for good.
    assert_eq!(covered, [Interval::new(Offset(600), Offset(1_200))]);
    let asked = Interval::new(Offset(0), Offset(1_200));
    assert_eq!(holes(asked, covered), [Interval::new(Offset(0), Offset(600))]);
    Ok(())
}

#[tokio::test]
async fn pages_show_every_member_once_and_what_reaches_in_from_before() -> Result<()> {
    let bench = Bench::start().await?;
    for number in 0..30 {
        // Three runs each begin at the same place.
        let start = number / 3 * 100;
        bench
            .write(&update(
                &bench,
                &format!("run-{number:02}"),
                "topic-1",
                start,
                start + 90,
            ))
            .await?;
    }
    for limit in [1, 2, 3, 4, 7, 100] {
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let page = bench
                .reader
                .ranges("fund_basic", &bench.partition, ALL, cursor, limit)
                .await?;
            assert!(page.members.len() <= limit);
            seen.extend(page.members.iter().map(|range| range.run.as_str().to_owned()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let expected: Vec<_> = (0..30).map(|number| format!("run-{number:02}")).collect();
        assert_eq!(seen, expected, "pages of {limit}");
    }
    let within = Interval::new(Offset(110), Offset(201));
    let page = bench
        .reader
        .ranges("fund_basic", &bench.partition, within, None, 100)
        .await?;
    let starts: Vec<_> = page.members.iter().map(|range| range.start.0).collect();
    assert_eq!(starts, [100, 100, 100, 200, 200, 200]);
    Ok(())
}

#[tokio::test]
async fn b7_a_million_offsets_stay_below_64_kib_and_a_tick_is_one_call_per_partition() -> Result<()> {
    const PER_TICK: u64 = 5_000;
    let bench = Bench::start().await?;
    let mut ledger = bench.run("0193f0a0-0000-7000-8000-000000000001", "AAAAAAAAAAAAAAAAAAAAAQ");
    let mut ticks = 0;
    bench.write(&update(&bench, "warm-up", "other", 0, 3)).await?;
    let before = bench.counted("evalsha").await?;
    for start in (3..1_000_003).step_by(PER_TICK as usize) {
        let at = 1_700_000_000_000 + ticks * 1_000;
        for part in (start..start + PER_TICK).step_by(500) {
            ledger.add(&chunk(part, part + 500, at))?;
        }
        let update = ledger.pending(Millis(at)).expect("open");
        bench.write(&update).await?;
        ledger.written(&update);
        ticks += 1;
    }
    let calls = bench.counted("evalsha").await? - before;
    let keys = Keys::new(bench.redis.prefix().clone());
    let mut bytes = 0;
    for key in ["fund_basic", "fund_valuation", "fund_risk"]
        .map(|name| keys.ranges(name, &bench.partition))
        .into_iter()
        .chain([keys.coverage(&bench.partition)])
    {
        let redis::Value::Int(size) = command(&bench.server, &["MEMORY", "USAGE", &key, "SAMPLES", "0"]).await? else {
            anyhow::bail!("{key} is missing");
        };
        bytes += size;
    }
    println!("1,000,000 offsets at 5,000/s, 3 types: {bytes} bytes of Redis memory, {calls} calls in {ticks} ticks");
    assert!(bytes <= 64 * 1024, "{bytes} bytes");
    assert!(calls <= 2 * ticks as u64);
    Ok(())
}

#[tokio::test]
async fn a_purge_goes_in_bounded_steps_and_first_raises_indexed_from() -> Result<()> {
    let bench = Bench::start().await?;
    let purger = Purger::new(bench.redis.clone());
    for number in 0..50_u64 {
        let mut ledger = bench.run(&format!("run-{number}"), "topic-1");
        // Every fourth is young.
        ledger.add(&chunk(
            number * 10,
            number * 10 + 9,
            if number % 4 == 3 { 9_000 } else { 1_000 },
        ))?;
        bench.write(&ledger.pending(Millis(9_000)).expect("open")).await?;
    }
    let limits = PurgeStep {
        max_scan: 7,
        max_deletes: 4,
    };
    let (mut cursor, mut removed, mut steps) = (None, 0, 0);
    loop {
        let step = purger
            .step("fund_basic", &bench.partition, Millis(5_000), cursor, limits)
            .await?;
        assert!(step.scanned <= 7 && step.removed <= 4);
        removed += step.removed;
        steps += 1;
        cursor = step.next;
        if cursor.is_none() {
            break;
        }
    }
    let left = bench
        .reader
        .ranges("fund_basic", &bench.partition, ALL, None, 100)
        .await?
        .members;
    assert_eq!((removed, left.len()), (38, 12), "in {steps} steps");
    assert!(left.iter().all(|range| range.last_processed == Millis(9_000)));
    assert_eq!(purger.indexed_from("fund_basic", &bench.partition).await?, Offset(493));
    assert_eq!(purger.indexed_from("fund_risk", &bench.partition).await?, Offset(0));
    Ok(())
}

#[tokio::test]
async fn one_step_removes_thousands_and_leaves_what_only_looks_old() -> Result<()> {
    const OLD: u64 = 2_500;
    let bench = Bench::start().await?;
    let key = Keys::new(bench.redis.prefix().clone()).ranges("fund_basic", &bench.partition);
    let redis = redis::Client::open(bench.server.endpoint())?;
    let mut redis = redis.get_multiplexed_async_connection().await?;
    // Texts of others, and a run whose name looks like what is searched for, in front of its own numbers.
    let mut young = bench.run(r#"","end":3,"last_processed":1,""#, "topic-1");
    young.add(&chunk(0, 9, 9_000))?;
    bench.write(&young.pending(Millis(9_000)).expect("open")).await?;
    let foreign = ["nothing of ours", r#"{"last_processed":1}"#, r#"{"end":5}"#];
    let old = (0..OLD).map(|at| {
        format!(
            r#"{{"start":{at},"end":{},"first_processed":0,"last_processed":1}}"#,
            at + 1
        )
    });
    let mut command = redis::cmd("ZADD");
    command.arg(&key);
    for (start, member) in foreign.map(str::to_owned).into_iter().chain(old).enumerate() {
        command.arg(start).arg(member);
    }
    command.exec_async(&mut redis).await?;

    let purger = Purger::new(bench.redis.clone());
    let limits = PurgeStep {
        max_scan: 10_000,
        max_deletes: 10_000,
    };
    let step = purger
        .step("fund_basic", &bench.partition, Millis(5_000), None, limits)
        .await?;
    assert_eq!((step.scanned, step.removed, step.next), (OLD + 4, OLD, None));
    let mut command = redis::cmd("ZRANGE");
    command.arg(&key).arg(0).arg(-1);
    let left: Vec<String> = command.query_async(&mut redis).await?;
    assert_eq!(left.len(), 4, "{left:?}");
    assert_eq!(purger.indexed_from("fund_basic", &bench.partition).await?, Offset(OLD));
    Ok(())
}

fn is_outage(result: &Result<(), reprise_shared::redis::Error>) -> bool {
    result.as_ref().is_err_and(reprise_shared::redis::Error::is_outage)
}

#[tokio::test]
async fn i3_a_redis_that_is_away_refuses_and_takes_everything_when_it_is_back() -> Result<()> {
    let mut bench = Bench::start().await?;
    let mut ledger = bench.run("run-1", "topic-1");
    ledger.add(&chunk(0, 300, 1_000))?;
    bench.server.kill()?;
    let update = ledger.pending(Millis(1_000)).expect("open");
    let results = bench.writer.write(&[update.clone(), update.clone()]).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(is_outage));
    assert_eq!(ledger.durable_end(), None);
    bench.server.start_again().await?;
    bench.server.pause()?;
    assert!(
        bench.writer.write(&[update]).await.iter().all(is_outage),
        "no answer in time"
    );
    bench.server.resume()?;
    ledger.add(&chunk(300, 600, 2_000))?;
    let update = ledger.pending(Millis(2_000)).expect("open");
    wait_for("Redis to be back", Duration::from_secs(10), async || {
        bench.write(&update).await
    })
    .await?;
    assert_eq!(
        intervals(&bench.coverage().await?, "topic-1", CoverageKind::Live),
        [Interval::new(Offset(0), Offset(600))]
    );
    Ok(())
}

#[tokio::test]
async fn heartbeats_are_listed_until_they_expire_and_forgotten_later() -> Result<()> {
    let bench = Bench::start().await?;
    let store = Store::new(bench.redis.clone(), Duration::from_millis(100));
    let sent_at = jiff::Timestamp::from_second(1_700_000_000)?;
    let heartbeat = |worker: &str| Heartbeat {
        worker: worker.to_owned(),
        role: Role::Ingest,
        host: "host-1".to_owned(),
        pid: 7,
        started: sent_at,
        sent_at,
        catalog_hash: "abc".to_owned(),
        whitelist: Whitelist {
            status: Status::Ok,
            applied: Some(Version(3)),
            oldest_in_flight: None,
            age_ms: Some(4),
        },
        partitions: vec![],
        partitions_left_out: 0,
    };
    let lasting = Store::new(bench.redis.clone(), Duration::from_secs(60));
    for worker in ["b", "c"] {
        lasting.send(heartbeat(worker)).await?;
    }
    store.send(heartbeat("a")).await?;
    lasting.leave("c").await?;
    let index = format!("{}:workers", bench.redis.prefix());
    wait_for(
        "only the lasting one to be listed",
        Duration::from_secs(10),
        async || {
            let listed = store.list(sent_at).await?;
            ensure!(listed.workers == [heartbeat("b")], "{listed:?}");
            Ok(())
        },
    )
    .await?;
    assert_eq!(command(&bench.server, &["ZCARD", &index]).await?, redis::Value::Int(2));
    store
        .list(sent_at.checked_add(jiff::SignedDuration::from_secs(62))?)
        .await?;
    assert_eq!(command(&bench.server, &["ZCARD", &index]).await?, redis::Value::Int(1));
    Ok(())
}
