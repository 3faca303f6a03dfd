//! Types that stop alone, workers that refuse to start, and workers that end in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_shared::catalog;
use reprise_shared::clock::Clock;
use reprise_shared::ingest_state::deferred::{self, Interval};
use reprise_shared::ingest_state::stops;
use reprise_shared::ledger::{self, Reader};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName, TopicPartition};
use reprise_tests::feed::{DataType, DataTypeMix, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, sum};
use reprise_tests::oracle::{Oracle, dump_table};
use reprise_tests::wait::{blocking, wait_for};
use reprise_worker::source::partition::Partitions;
use reprise_worker::types;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

const STOPPED: &str = "fund_risk";

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

async fn sql(fleet: &Fleet, statement: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&fleet.pool)
        .await
        .context(statement.to_owned())?;
    Ok(())
}

async fn is_stopped(fleet: &Fleet, reason: &str) -> Result<String> {
    wait_for("the type to be stopped", PATIENCE, async || {
        let states = fleet.type_states().await.map_err(|error| format!("{error:#}"))?;
        match states.get(STOPPED) {
            Some(state) if state.stopped && state.reason == reason => Ok(state.detail.clone()),
            _ => Err(format!("{states:?}")),
        }
    })
    .await
    .with_context(|| fleet.log_of(0))
}

/// The first offset from `from` on and the last one of the stopped type, by partition.
async fn extent(fleet: &Fleet, from: &[i64]) -> Result<BTreeMap<u16, (u64, u64)>> {
    let (brokers, topic, from) = (
        fleet.isolation.kafka_brokers().to_owned(),
        fleet.topic.clone(),
        from.to_vec(),
    );
    blocking("read the topic", Duration::from_secs(60), move || {
        let oracle = Oracle::read_topic(&brokers, &topic)?;
        let mut extents = BTreeMap::new();
        for record in oracle.records() {
            let (partition, offset) = (record.partition.0, record.offset.0);
            let is_later = i64::try_from(offset)? >= from[usize::from(partition)];
            if record.data_type == Some(STOPPED.as_bytes()) && is_later {
                extents.entry(partition).or_insert((offset, offset)).1 = offset;
            }
        }
        Ok(extents)
    })
    .await
}

/// Checks that one open interval a partition covers everything that was not written, and nothing that is not
/// committed.
async fn check_deferred(fleet: &Fleet, extents: &BTreeMap<u16, (u64, u64)>) -> Result<Vec<Interval>> {
    let intervals = deferred::intervals(&fleet.pool, &fleet.topic).await?;
    let ends = fleet.positions().await?;
    for (partition, (first, last)) in extents {
        let of_one: Vec<_> = intervals
            .iter()
            .filter(|interval| interval.partition == *partition)
            .collect();
        ensure!(of_one.len() == 1, "partition {partition}: {of_one:?}");
        let committed = u64::try_from(ends[usize::from(*partition)].1)?;
        let (start, end) = (of_one[0].start.0, of_one[0].end.0);
        eprintln!("partition {partition}: records [{first}, {last}], deferred [{start}, {end}), committed {committed}");
        ensure!(of_one[0].open && of_one[0].data_type == STOPPED, "{of_one:?}");
        ensure!(start <= *first, "a record below the interval was not written");
        ensure!(*last < end && end <= committed, "the interval ends elsewhere");
    }
    Ok(intervals)
}

fn check_accounting(metrics: &BTreeMap<String, f64>) -> Result<f64> {
    let consumed = sum(metrics, "reprise_records_consumed_total", &[]);
    let outcomes = sum(metrics, "reprise_records_total", &[]);
    ensure!(
        consumed == outcomes && consumed > 0.0,
        "consumed {consumed}, outcomes {outcomes}"
    );
    Ok(sum(
        metrics,
        "reprise_records_total",
        &[("outcome", "deferred"), ("data_type", STOPPED)],
    ))
}

async fn ends(fleet: &Fleet) -> Result<Vec<i64>> {
    Ok(fleet.positions().await?.iter().map(|(_, end)| *end).collect())
}

async fn check_others(fleet: &Fleet, seed: FeedConfig) -> Result<()> {
    let folded = fleet.oracle(Some(seed), Vec::new()).await?;
    for table in ["t_fund_basic_info", "t_fund_valuation"] {
        ensure!(
            folded.dump(table) == dump_table(&fleet.pool, table).await?,
            "{table} differs from the oracle"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_type_whose_table_lost_a_column_stops_alone_and_is_owed() -> Result<()> {
    let mut fleet = Fleet::new("stop-schema", Options::default()).await?;
    let config = feed(1, 6_000);
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.check_tables(Some(config.clone()), Vec::new()).await?;
    let written = ends(&fleet).await?;
    let count = async |fleet: &Fleet| -> Result<i64> {
        Ok(sqlx::query_scalar("SELECT COUNT(*) FROM t_ai_risk")
            .fetch_one(&fleet.pool)
            .await?)
    };
    let rows = count(&fleet).await?;

    sql(&fleet, "ALTER TABLE t_ai_risk DROP COLUMN risk_score").await?;
    fleet.publish(feed(2, 6_000)).await?;
    let detail = is_stopped(&fleet, "SCHEMA").await?;
    eprintln!("stopped: {detail}");
    fleet.caught_up(PATIENCE).await?;
    let extents = extent(&fleet, &written).await?;
    check_deferred(&fleet, &extents).await?;
    check_others(&fleet, config.clone()).await?;
    let deferred_first = check_accounting(&fleet.metrics(0).await?)?;
    ensure!(count(&fleet).await? == rows && fleet.count_letters().await? == 0);
    ensure!(fleet.type_states().await?.len() == 1, "another type stopped");

    // The next worker defers without a try, also after the column is back: a person resumes the type.
    fleet.stop().await?;
    sql(
        &fleet,
        "ALTER TABLE t_ai_risk ADD COLUMN risk_score DECIMAL(10, 4) NOT NULL",
    )
    .await?;
    fleet.publish(feed(3, 6_000)).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let extents = extent(&fleet, &written).await?;
    check_deferred(&fleet, &extents).await?;
    check_others(&fleet, config).await?;
    let metrics = fleet.metrics(1).await?;
    let deferred_second = check_accounting(&metrics)?;
    ensure!(count(&fleet).await? == rows, "a stopped type was written");
    let produced = sum(&metrics, "reprise_rows_produced_total", &[("data_type", STOPPED)]);
    ensure!(produced == 0.0, "{produced} rows of a stopped type were made");
    let folded = fleet.oracle(None, Vec::new()).await?;
    let all = folded.counts_of(STOPPED).records.consumed() as f64;
    eprintln!("deferred {deferred_first} and {deferred_second} of {all} records");
    let first = fleet_records(&fleet, &written).await?;
    ensure!(
        deferred_first + deferred_second == all - first,
        "{first} were written before"
    );
    fleet.stop().await
}

/// Counts the records of the stopped type below some positions.
async fn fleet_records(fleet: &Fleet, below: &[i64]) -> Result<f64> {
    let reader = Reader::new(fleet.redis.clone());
    let mut processed = 0;
    for (partition, end) in (0..).zip(below) {
        let at = TopicPartition {
            topic: TopicName::new(&fleet.topic),
            partition: Partition(partition),
        };
        let within = ledger::Interval::new(Offset(0), Offset(u64::try_from(*end)? + (1 << 40)));
        let page = reader.ranges(STOPPED, &at, within, None, Reader::MAX_PAGE).await?;
        processed += page.members.iter().map(|range| range.records.processed).sum::<u64>();
    }
    Ok(processed as f64)
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_a_type_of_which_everything_is_refused_stops_instead_of_dead_lettering() -> Result<()> {
    let mut fleet = Fleet::new("stop-breaker", Options::default()).await?;
    let config = feed(1, 6_000);
    fleet.seed(&config).await?;
    sql(
        &fleet,
        "ALTER TABLE t_ai_risk ADD CONSTRAINT refuse_all CHECK (risk_level < -1)",
    )
    .await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    let detail = is_stopped(&fleet, "BREAKER").await?;
    eprintln!("stopped: {detail}");
    fleet.caught_up(PATIENCE).await?;
    check_others(&fleet, config.clone()).await?;
    let deferred = check_accounting(&fleet.metrics(0).await?)?;
    let letters = fleet.letters().await?;
    let of_type = fleet
        .oracle(Some(config), Vec::new())
        .await?
        .counts_of(STOPPED)
        .records
        .consumed();
    eprintln!("{} letters, {deferred} deferred of {of_type} records", letters.len());
    ensure!(
        letters
            .iter()
            .all(|letter| letter.key.0 == STOPPED && letter.key.4 == "CONSTRAINT")
    );
    ensure!(deferred > 0.0 && letters.len() as f64 + deferred == of_type as f64);
    // What is neither a letter nor written lies in an interval.
    let intervals = deferred::intervals(&fleet.pool, &fleet.topic).await?;
    let stored: std::collections::BTreeSet<_> = letters.iter().map(|letter| (letter.key.1, letter.key.2)).collect();
    for (partition, (first, last)) in extent(&fleet, &[0; 4]).await? {
        let interval = intervals.iter().find(|interval| interval.partition == partition);
        let interval = interval.with_context(|| format!("partition {partition} has no interval"))?;
        ensure!(last < interval.end.0, "{interval:?} ends before {last}");
        ensure!(
            interval.start.0 <= first || stored.contains(&(partition, first)),
            "{interval:?} begins after {first}"
        );
    }
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_refuses_tables_that_do_not_fit_and_an_old_schema() -> Result<()> {
    let mut fleet = Fleet::new("refuse", Options::default()).await?;
    for change in [
        "ALTER TABLE t_ai_risk ADD UNIQUE INDEX second_one (alert_date, fund_code)",
        "DROP TABLE t_fund_valuation",
        "ALTER TABLE t_fund_basic_info MODIFY performance_id VARCHAR(32) CHARACTER SET ascii \
         COLLATE ascii_general_ci NOT NULL",
    ] {
        sql(&fleet, change).await?;
    }
    let number = fleet.start_worker()?;
    let code = fleet.workers[number].wait(PATIENCE).await?;
    let log = fleet.log_of(number);
    ensure!(code.is_some_and(|code| code != 0), "ended with {code:?}\n{log}");
    for fault in ["second_one", "t_fund_valuation", "t_fund_basic_info.performance_id"] {
        ensure!(log.contains(fault), "{fault} is not named\n{log}");
    }
    eprintln!("{log}");

    sql(&fleet, "DELETE FROM _sqlx_migrations ORDER BY version DESC LIMIT 1").await?;
    let number = fleet.start_worker()?;
    let code = fleet.workers[number].wait(PATIENCE).await?;
    let log = fleet.log_of(number);
    ensure!(code.is_some_and(|code| code != 0), "ended with {code:?}\n{log}");
    ensure!(log.contains("lacks migration"), "the old schema is not named\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i3_sigterm_under_load_ends_in_order_and_nothing_is_read_twice() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(25);
    let mut fleet = Fleet::new("shutdown", Options::default()).await?;
    let config = feed(1, 400_000);
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    let read = |positions: &[(Option<i64>, i64)]| -> i64 { positions.iter().map(|at| at.0.unwrap_or(0)).sum() };
    wait_for("a first commit", PATIENCE, async || match fleet.positions().await {
        Ok(positions) if read(&positions) > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let clock = Clock::system();
    let begun = clock.monotonic();
    fleet.workers[0].signal(Signal::SIGTERM)?;
    let code = fleet.workers[0].wait(LIMIT).await?;
    let took = clock.monotonic().saturating_sub(begun);
    let positions = fleet.positions().await?;
    ensure!(code == Some(0), "ended with {code:?}\n{}", fleet.log_of(0));
    let (committed, total) = (read(&positions), positions.iter().map(|at| at.1).sum::<i64>());
    eprintln!("ended after {took:?} with {committed} of {total} records committed");
    ensure!(committed < total, "everything was read before the signal: no load");

    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let consumed = sum(&fleet.metrics(1).await?, "reprise_records_consumed_total", &[]);
    ensure!(
        consumed == (total - committed) as f64,
        "{consumed} records read by the next worker, {} were left",
        total - committed
    );
    // Each record was counted once, over both runs.
    let reader = Reader::new(fleet.redis.clone());
    let mut counted = 0;
    for (partition, (_, end)) in (0..).zip(fleet.positions().await?) {
        let at = TopicPartition {
            topic: TopicName::new(&fleet.topic),
            partition: Partition(partition),
        };
        let within = ledger::Interval::new(Offset(0), Offset(u64::try_from(end)?));
        for data_type in DataType::ALL {
            let page = reader
                .ranges(data_type.name(), &at, within, None, Reader::MAX_PAGE)
                .await?;
            counted += page.members.iter().map(|range| range.records.consumed()).sum::<u64>();
        }
    }
    ensure!(
        i64::try_from(counted)? == total,
        "{counted} records counted, {total} published"
    );
    fleet.check_tables(Some(config), Vec::new()).await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once() -> Result<()> {
    let mut fleet = Fleet::new("shutdown-twice", Options::default()).await?;
    let config = feed(1, 5_000);
    fleet.seed(&config).await?;
    fleet.start_workers(1).await?;
    // Nothing can be written while this lock is held, so the orderly stop has to wait.
    let mut locking = fleet.pool.acquire().await?.detach();
    sqlx::raw_sql("LOCK TABLES t_fund_valuation WRITE, t_ai_risk WRITE")
        .execute(&mut locking)
        .await?;
    fleet.publish(config).await?;
    let waiting =
        async |fleet: &Fleet| -> Result<f64> { Ok(sum(&fleet.metrics(0).await?, "reprise_in_flight_rows", &[])) };
    wait_for("rows that wait", PATIENCE, async || match waiting(&fleet).await {
        Ok(rows) if rows > 0.0 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    fleet.workers[0].signal(Signal::SIGTERM)?;
    wait_for("the orderly stop to begin", PATIENCE, async || {
        if fleet.log_of(0).contains("shutting down in order") {
            Ok(())
        } else {
            Err("no word of it in the log")
        }
    })
    .await?;
    ensure!(fleet.workers[0].pid().is_some(), "it has ended already");
    let clock = Clock::system();
    let begun = clock.monotonic();
    fleet.workers[0].signal(Signal::SIGTERM)?;
    let code = fleet.workers[0].wait(Duration::from_secs(3)).await?;
    eprintln!(
        "ended {:?} after the second signal with {code:?}",
        clock.monotonic().saturating_sub(begun)
    );
    ensure!(code == Some(1), "ended with {code:?}\n{}", fleet.log_of(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distrusted_key_stays_so_until_an_operator_trusts_it_again() -> Result<()> {
    const QUICK: Duration = Duration::from_millis(50);
    let fleet = Fleet::new("distrust", Options::default()).await?;
    let catalog = Arc::new(catalog::load(&fleet.catalog_path())?);
    let data_type = catalog.find_data_type(STOPPED).context("no such type")?;
    let (types, keeper) = types::new(Arc::clone(&catalog), fleet.pool.clone(), Partitions::default(), QUICK);
    // MySQL knows the type, and nothing against its key.
    stops::stop_type(&fleet.pool, STOPPED, "OPERATOR", "for a while").await?;
    let mut connection = fleet.pool.acquire().await?;
    stops::resume_type(&mut connection, STOPPED, false).await?;
    let partition = TopicPartition {
        topic: TopicName::new(&fleet.topic),
        partition: Partition(0),
    };
    let look = async || types.admit(&partition, &TopicId::new("id"), Offset(0)).await;
    look().await?;
    ensure!(types.trusts_key(data_type), "distrusted from the beginning");

    // Nobody has written it yet when MySQL is looked at again.
    types.key_disagrees(data_type);
    look().await?;
    ensure!(!types.trusts_key(data_type), "trusted again by an older look at MySQL");
    let shutdown = CancellationToken::new();
    let _guard = shutdown.clone().drop_guard();
    let follow = async {
        wait_for("MySQL to have it", PATIENCE, async || {
            let states = fleet.type_states().await.map_err(|error| format!("{error:#}"))?;
            if states.get(STOPPED).is_some_and(|state| state.in_key_off) {
                Ok(())
            } else {
                Err(format!("{states:?}"))
            }
        })
        .await?;
        ensure!(!types.trusts_key(data_type), "trusted while MySQL says otherwise");
        stops::resume_type(&mut connection, STOPPED, true).await?;
        wait_for("the key to be trusted again", PATIENCE, async || {
            if types.trusts_key(data_type) {
                Ok(())
            } else {
                Err("distrusted")
            }
        })
        .await
    };
    tokio::select! {
        () = keeper.run(shutdown) => anyhow::bail!("the keeper ended"),
        followed = follow => followed,
    }
}
