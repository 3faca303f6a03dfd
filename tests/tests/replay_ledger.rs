//! What jobs leave behind beside rows: the ledger of a rebuild, and dead letters that are settled.

use anyhow::{Result, ensure};
use reprise_shared::jobs::{Kind, Mode};
use reprise_shared::ledger::{CoverageKind, Interval, Keys, Reader, Source, union};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_shared::redis::Limit;
use reprise_tests::feed::{FeedConfig, FeedRecord, Fund, Made};
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, feed_of_all_kinds, sum_of};
use reprise_tests::oracle::dump_table;

const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];

fn options() -> Options {
    let settings = [
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
        ("replay.poll", "100ms"),
    ];
    Options {
        settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..Options::default()
    }
}

fn partition(fleet: &Fleet, number: u16) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(number),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_attests_the_whole_log_and_finds_the_records_of_every_type() -> Result<()> {
    let config = feed_of_all_kinds(Some(6_000), 71);
    let mut fleet = Fleet::new("rebuild", options()).await?;
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let folded = fleet.check_tables(Some(config), Vec::new()).await?;
    fleet.stop().await?;

    // Redis loses everything that it knew of the topic.
    let keys = Keys::new(fleet.redis.prefix().clone());
    for number in 0..4 {
        let partition = partition(&fleet, number);
        let mut lost = redis::cmd("DEL");
        lost.arg(keys.coverage(&partition));
        for data_type in TYPES {
            lost.arg(keys.ranges(data_type, &partition));
        }
        fleet
            .redis
            .query::<i64>("lose the ledger", Limit::Ordinary, &lost)
            .await?;
    }
    let tables = dump_table(&fleet.pool, "t_fund_valuation").await?;

    fleet.start_replay_workers(1).await?;
    let asked = Asked {
        kind: Kind::Rebuild,
        slice: 700,
        ..Asked::default()
    };
    let job = fleet.replay("", &asked).await?;
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    ensure!(
        sum_of(&progress.written) == 0,
        "a rebuild wrote rows: {:?}",
        progress.written
    );
    ensure!(
        dump_table(&fleet.pool, "t_fund_valuation").await? == tables,
        "a rebuild changed a table"
    );

    let reader = Reader::new(fleet.redis.clone());
    let everything = Interval::new(Offset(0), Offset(1 << 52));
    let bounds = fleet.bounds().await?;
    let mut records = [0_u64; 3];
    for (number, (start, end)) in (0..).zip(bounds) {
        let partition = partition(&fleet, number);
        let coverage = reader
            .coverage(&partition, everything, None, Reader::MAX_PAGE)
            .await?
            .members;
        ensure!(
            coverage.iter().all(|member| member.kind == CoverageKind::Attested),
            "{coverage:?}"
        );
        let covered = union(coverage.iter().map(|member| member.interval()));
        let whole = union([Interval::new(Offset(start), Offset(end))]);
        ensure!(
            covered == whole,
            "{partition} is attested in {covered:?}, not in {whole:?}"
        );
        for (sum, data_type) in records.iter_mut().zip(TYPES) {
            let ranges = reader
                .ranges(data_type, &partition, everything, None, Reader::MAX_PAGE)
                .await?
                .members;
            ensure!(
                ranges
                    .iter()
                    .all(|range| range.source == Source::Rebuild && range.whitelist.is_none()),
                "{ranges:?}"
            );
            *sum += ranges.iter().map(|range| range.records.consumed()).sum::<u64>();
        }
    }
    let expected = TYPES.map(|data_type| folded.counts_of(data_type).records.consumed());
    ensure!(records == expected, "{records:?} records by type, not {expected:?}");
    eprintln!("rebuilt: {records:?} records by type, equal to the oracle");
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_closes_the_letters_of_records_that_become_rows() -> Result<()> {
    let config = FeedConfig {
        records: Some(2_000),
        funds: 100,
        ..FeedConfig::default()
    };
    let mut fleet = Fleet::new("replay-letters", options()).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_replay_workers(1).await?;
    // No fund is known, so every record misses its lookup.
    let first = fleet.replay("fund_valuation", &Asked::default()).await?;
    let missed = fleet.job_succeeds(first, PATIENCE).await?.written;
    ensure!(missed.dead_lettered > 500 && missed.inserted == 0, "{missed:?}");
    let open = "SELECT COUNT(*) FROM dead_letters WHERE state IN ('RETRYING', 'PARKED') AND job_id = ?";
    let all = fleet.pool.clone();
    let count = |job: reprise_shared::jobs::JobId, sql: &'static str| {
        let pool = all.clone();
        async move {
            let found: i64 = sqlx::query_scalar(sql).bind(job.to_string()).fetch_one(&pool).await?;
            anyhow::Ok(found.unsigned_abs())
        }
    };
    let letters = count(first, open).await?;
    ensure!(letters == missed.dead_lettered, "{letters} open letters of {missed:?}");
    fleet.stop().await?;

    fleet.seed(&config).await?;
    fleet.start_replay_workers(1).await?;
    let asked = Asked {
        mode: Mode::Verify,
        ..Asked::default()
    };
    let verify = fleet.replay("fund_valuation", &asked).await?;
    fleet.job_succeeds(verify, PATIENCE).await?;
    ensure!(count(first, open).await? == letters, "a VERIFY closed letters");
    let second = fleet.replay("fund_valuation", &Asked::default()).await?;
    let written = fleet.job_succeeds(second, PATIENCE).await?.written;
    ensure!(written.dead_lettered == 0 && written.inserted > 0, "{written:?}");
    let closed = count(
        second,
        "SELECT COUNT(*) FROM dead_letters WHERE state = 'REDRIVEN' AND job_id = ?",
    )
    .await?;
    ensure!(closed == letters, "{closed} of {letters} letters were closed");
    eprintln!("{closed} letters of records that became rows were closed, exactly");
    fleet.stop().await
}

/// A valuation of a fund with so many rows, and padding that makes it too large for a small limit.
fn padded(fund: u32, days: &[&str]) -> FeedRecord {
    let items: Vec<_> = days.iter().map(|day| (*day, 1)).collect();
    let mut record = Made::valuation(Fund(fund), &items).record;
    let pad = "x".repeat(3_000);
    record.payload = record.payload.map(|payload| {
        let text = String::from_utf8_lossy(&payload);
        format!(r#"{{"pad":"{pad}",{}"#, &text[1..]).into_bytes()
    });
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_closes_the_letters_of_records_that_yield_nothing_now_and_no_others() -> Result<()> {
    let config = FeedConfig::only_funds(20);
    let mut fleet = Fleet::new("replay-empty-letters", options()).await?;
    fleet.seed(&config).await?;
    // All are too large at first. Later: 0 to 9 yield nothing, 10 yields a row, 11 is filtered, 12 is faulty still.
    let mut records: Vec<FeedRecord> = (1..=10).map(|fund| padded(fund, &[])).collect();
    records.push(padded(11, &["2026-01-01"]));
    records.push(padded(12, &[]));
    records.push(padded(13, &["no day"]));
    fleet.publish_records(records).await?;
    fleet.set("ingest.max_record", "2KiB");
    fleet.start_replay_workers(1).await?;
    let first = fleet.replay("fund_valuation", &Asked::default()).await?;
    let written = fleet.job_succeeds(first, PATIENCE).await?.written;
    ensure!(written.dead_lettered == 13, "{written:?}");
    fleet.stop().await?;

    fleet.set("ingest.max_record", "1MiB");
    fleet.start_replay_workers(1).await?;
    let pool = fleet.pool.clone();
    let closed = async || -> Result<Vec<u64>> {
        let sql = "SELECT record_offset FROM dead_letters WHERE state = 'REDRIVEN' ORDER BY record_offset";
        Ok(sqlx::query_scalar(sql).fetch_all(&pool).await?)
    };
    let asked = |mode| Asked {
        mode,
        ids: Some(
            (1..=20)
                .filter(|fund| *fund != 12)
                .map(|fund| Fund(fund).performance_id())
                .collect(),
        ),
        ..Asked::default()
    };
    let verify = fleet.replay("fund_valuation", &asked(Mode::Verify)).await?;
    fleet.job_succeeds(verify, PATIENCE).await?;
    ensure!(
        closed().await?.is_empty(),
        "a VERIFY closed letters: {:?}",
        closed().await?
    );
    let live = fleet.replay("fund_valuation", &asked(Mode::Live)).await?;
    let written = fleet.job_succeeds(live, PATIENCE).await?.written;
    ensure!((written.inserted, written.dead_lettered) == (1, 1), "{written:?}");
    let found = closed().await?;
    ensure!(found == (0..=10).collect::<Vec<u64>>(), "{found:?}");
    eprintln!("letters of {found:?} were closed, those of 11 and 12 are open");
    fleet.stop().await
}
