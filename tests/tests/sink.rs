//! Lanes and sink on a real server: the guard, the order of writes, deadlines, and what is settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reprise_shared::catalog::LookupIndex;
use reprise_shared::fault::FaultClass;
use reprise_shared::mysql::{Connector, errors};
use reprise_shared::row::Row;
use reprise_shared::tally::RowCounts;
use reprise_tests::kernel::own_cpu_seconds;
use reprise_tests::sink::chunks::{DDL, FUND, Fund, Rig, catalog, rows_of};
use reprise_tests::sink::server::TestDatabase;
use reprise_tests::wait::wait_for;
use reprise_worker::lanes::{Config, End};
use reprise_worker::sink::statement::Upsert;
use sqlx::Executor as _;

/// What the table holds: key, values, version and position in hex.
const DUMP: &str = "SELECT CONCAT_WS('|', code, nav_date, IFNULL(amount, '-'), IFNULL(name, '-'), IFNULL(rating, '-'), \
                    version, HEX(pos)) FROM t_fund ORDER BY code, nav_date";

fn dumped(fund: &Fund<'_>, row: &Row) -> String {
    let hex: String = row
        .position
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let rating = fund.rating.map_or("-".to_owned(), |rating| rating.to_string());
    let (amount, name) = (fund.amount.unwrap_or("-"), fund.name.unwrap_or("-"));
    format!(
        "{}|{}|{amount}|{name}|{rating}|{}|{hex}",
        fund.code, fund.nav_date, fund.version
    )
}

/// Starts small lanes on a database of their own.
async fn small_rig(max_rows: usize) -> Result<(TestDatabase, Rig)> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let (catalog, config) = small(max_rows);
    let rig = Rig::start(&database, catalog, config)?;
    Ok((database, rig))
}

fn small(max_rows: usize) -> (reprise_shared::catalog::Catalog, Config) {
    (catalog(max_rows), Config::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i2_four_writers_in_any_order_end_in_the_fold_of_all_rows() -> Result<()> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let mut random = StdRng::seed_from_u64(7);
    let codes: Vec<String> = (0..25).map(|number| format!("F{number:03}")).collect();
    let names = ["a", "b", "a name that is too long"];
    let funds: Vec<Fund<'_>> = (0..500)
        .map(|_| {
            let mut fund = Fund::new(&codes[random.random_range(0..codes.len())], random.random_range(0..6));
            fund.amount = [None, Some("1.00"), Some("2.50")][random.random_range(0..3)];
            fund.rating = [None, Some(1), Some(-7)][random.random_range(0..3)];
            fund.name = Some(names[usize::from(random.random_range(0..10) == 0) * 2]);
            fund
        })
        .collect();
    let rows: Vec<Row> = funds
        .iter()
        .enumerate()
        .map(|(offset, fund)| fund.row(offset as u64))
        .collect();

    // The fold in plain code: good rows in ascending (version, position), each replacing the one before.
    let mut order: Vec<usize> = (0..rows.len())
        .filter(|at| funds[*at].name.is_none_or(|name| name.len() <= 10))
        .collect();
    order.sort_by_key(|at| (rows[*at].version, rows[*at].position));
    let mut fold = BTreeMap::new();
    for at in order {
        fold.insert(rows[at].key.clone(), dumped(&funds[at], &rows[at]));
    }

    let mut rigs = Vec::new();
    for writer in 0..4 {
        let (catalog, config) = small([7, 16, 64, 100][writer]);
        let rig = Rig::start(&database, catalog, config)?;
        let mut mine = rows.clone();
        mine.shuffle(&mut random);
        for part in mine.chunks(40) {
            rig.push_rows(part.to_vec());
        }
        rigs.push(rig);
    }
    for rig in rigs {
        assert_eq!(rig.close().await, [End::Drained, End::Drained]);
    }
    assert_eq!(database.texts(DUMP).await?, fold.into_values().collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn i2_a_bad_newest_row_lets_the_next_older_one_through() -> Result<()> {
    let (database, rig) = small_rig(100).await?;
    let (good, older) = (Fund::new("A", 5), Fund::new("A", 4));
    let bad = Fund {
        name: Some("far too long a name"),
        ..Fund::new("A", 9)
    };
    let worse = Fund {
        rating: Some(i64::MAX),
        ..Fund::new("A", 8)
    };
    let chunk = rig.push_rows(vec![
        bad.row(0),
        good.row(1),
        worse.row(2),
        older.row(3),
        Fund::new("B", 1).row(4),
    ]);
    rig.complete(&chunk).await;
    assert_eq!(
        rows_of(&chunk),
        RowCounts {
            written: 2,
            superseded: 1,
            dead_lettered: 2
        }
    );
    let expected = [
        dumped(&good, &good.row(1)),
        dumped(&Fund::new("B", 1), &Fund::new("B", 1).row(4)),
    ];
    assert_eq!(database.texts(DUMP).await?, expected);
    let letters = database.texts("SELECT CONCAT(record_offset, ' ', class) FROM dead_letters ORDER BY record_offset");
    assert_eq!(letters.await?, ["0 TOO_LONG", "2 OUT_OF_RANGE"]);
    rig.close().await;
    Ok(())
}

#[tokio::test]
async fn i2_an_equal_pair_applies_again_and_a_lower_one_does_not() -> Result<()> {
    let (database, rig) = small_rig(100).await?;
    let fixed = Fund {
        amount: Some("9.99"),
        ..Fund::new("A", 5)
    };
    for (fund, offset) in [
        (Fund::new("A", 5), 7),
        (fixed, 7),
        (Fund::new("A", 5), 6),
        (Fund::new("A", 4), 8),
    ] {
        let chunk = rig.push_rows(vec![fund.row(offset)]);
        rig.complete(&chunk).await;
    }
    assert_eq!(database.texts(DUMP).await?, [dumped(&fixed, &fixed.row(7))]);
    rig.close().await;
    Ok(())
}

#[tokio::test]
async fn nulls_and_values_take_turns_in_one_prepared_statement() -> Result<()> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let mut connection = Connector::new(&database.url, TestDatabase::session())?
        .connect()
        .await?;
    let upsert = Upsert::new(catalog(4).data_type(FUND));
    let prepared = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.SESSION_STATUS \
                    WHERE VARIABLE_NAME = 'COM_STMT_PREPARE'";
    let reprepared = "SELECT CAST(VARIABLE_VALUE AS SIGNED) FROM information_schema.SESSION_STATUS \
                      WHERE VARIABLE_NAME = 'COM_STMT_REPREPARE'";
    let mut counts = Vec::new();
    let mut expected = Vec::new();
    for version in 1..=6 {
        let null = |number: i64| (version + number) % 2 == 0;
        let funds = [0, 1, 2, 3].map(|number| Fund {
            code: ["A", "B", "C", "D"][number as usize],
            amount: (!null(number)).then_some("12345678.25"),
            name: null(number).then_some("ä"),
            rating: (!null(number)).then_some(-2_147_483_648),
            ..Fund::new("A", version)
        });
        let rows: Vec<_> = funds.iter().map(|fund| fund.row(version as u64)).collect();
        let arguments = upsert.bind(rows.iter(), 0)?;
        sqlx::query_with(upsert.sql(4), arguments)
            .execute(&mut connection)
            .await?;
        expected = funds.iter().zip(&rows).map(|(fund, row)| dumped(fund, row)).collect();
        assert_eq!(database.texts(DUMP).await?, expected);
        let now: (i64, i64) = (
            sqlx::raw_sql(prepared)
                .fetch_one(&mut connection)
                .await
                .and_then(|row| sqlx::Row::try_get(&row, 0))?,
            sqlx::raw_sql(reprepared)
                .fetch_one(&mut connection)
                .await
                .and_then(|row| sqlx::Row::try_get(&row, 0))?,
        );
        counts.push(now);
    }
    assert_eq!(expected.len(), 4);
    assert!(
        counts.iter().all(|count| *count == counts[0]),
        "prepared again: {counts:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b8_sorted_writers_never_deadlock_and_unsorted_ones_do() -> Result<()> {
    let database = TestDatabase::shared().await?;
    let mut deadlocks = Vec::new();
    for sorted in [true, false] {
        database.run(format!("DROP TABLE IF EXISTS t_fund; {DDL}")).await?;
        let upsert = Arc::new(Upsert::new(catalog(200).data_type(FUND)));
        let mut writers = tokio::task::JoinSet::new();
        for seed in 0..4 {
            let (url, upsert) = (database.url.clone(), upsert.clone());
            writers.spawn(async move {
                let mut connection = Connector::new(&url, TestDatabase::session())?.connect().await?;
                let mut random = StdRng::seed_from_u64(seed);
                let mut deadlocks = 0;
                for batch in 0..40 {
                    let mut numbers: Vec<u32> = rand::seq::index::sample(&mut random, 1_000, 200)
                        .iter()
                        .map(|n| n as u32)
                        .collect();
                    numbers.shuffle(&mut random);
                    if sorted {
                        numbers.sort_unstable();
                    }
                    let codes: Vec<String> = numbers.iter().map(|number| format!("{number:05}")).collect();
                    let rows: Vec<Row> = codes.iter().map(|code| Fund::new(code, batch).row(seed)).collect();
                    let arguments = upsert.bind(rows.iter(), 0)?;
                    match sqlx::query_with(upsert.sql(200), arguments)
                        .execute(&mut connection)
                        .await
                    {
                        Ok(_) => {}
                        Err(error) if errors::number(&error) == Some(1213) => deadlocks += 1,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok::<_, anyhow::Error>(deadlocks)
            });
        }
        let all: Result<Vec<i32>> = writers.join_all().await.into_iter().collect();
        deadlocks.push(all?.into_iter().sum::<i32>());
    }
    println!(
        "deadlocks in 160 batches of 200 rows: sorted {}, unsorted {}",
        deadlocks[0], deadlocks[1]
    );
    assert_eq!(deadlocks[0], 0);
    assert!(deadlocks[1] > 0);
    Ok(())
}

#[tokio::test]
async fn rows_and_letters_settle_and_lookup_keys_are_published() -> Result<()> {
    let (database, rig) = small_rig(8).await?;
    let codes: Vec<String> = (0..100).map(|number| format!("K{number}")).collect();
    let chunk = rig.push_rows(
        codes
            .iter()
            .enumerate()
            .map(|(at, code)| Fund::new(code, 1).row(at as u64))
            .collect(),
    );
    let letter = rig.push_letter(500, Some(FUND), FaultClass::NotJson);
    let unmatched = rig.push_letter(501, None, FaultClass::Unmatched);
    for chunk in [&chunk, &letter, &unmatched] {
        rig.complete(chunk).await;
    }
    assert_eq!(rows_of(&chunk).written, 100);
    assert_eq!(letter.tallies()[0].1.records.dead_lettered, 1);
    let stored =
        database.texts("SELECT CONCAT(data_type, '/', class, '/', state) FROM dead_letters ORDER BY record_offset");
    assert_eq!(stored.await?, ["fund/NOT_JSON/PARKED", "/UNMATCHED/PARKED"]);
    let mut published: Vec<String> = rig
        .hooks
        .lookups()
        .into_iter()
        .map(|(lookup, key)| {
            assert_eq!(lookup, LookupIndex(0));
            key
        })
        .collect();
    published.sort();
    let mut codes = codes;
    codes.sort();
    assert_eq!(published, codes);
    let budget = rig.budget.clone();
    assert_eq!(rig.close().await, [End::Drained, End::Drained]);
    assert_eq!(budget.in_flight().0, 0);
    Ok(())
}

/// The hazard: a future that is dropped in the middle must never leave an open transaction to anybody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_batch_past_its_deadline_loses_its_connection_on_both_sides_and_is_written_later() -> Result<()> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let (catalog, mut config) = small(8);
    config.per_table = 1;
    config.lock_wait_timeout = Duration::from_secs(50);
    config.writer.batch_deadline = Duration::from_millis(300);
    config.writer.backoff_cap = Duration::from_millis(200);
    let rig = Rig::start(&database, catalog, config)?;
    let first = rig.push_rows(vec![Fund::new("A", 1).row(0)]);
    rig.complete(&first).await;

    let mut blocker = Connector::new(&database.url, TestDatabase::session())?
        .connect()
        .await?;
    blocker.execute("BEGIN").await?;
    blocker
        .execute("UPDATE t_fund SET rating = 77 WHERE code = 'A'")
        .await?;
    let (own, schema): (u64, String) = sqlx::query_as("SELECT CONNECTION_ID(), DATABASE()")
        .fetch_one(&mut blocker)
        .await?;
    let blocked = format!(
        "SELECT CAST(ID AS CHAR) FROM information_schema.PROCESSLIST WHERE DB = '{schema}' AND ID <> {own} AND INFO LIKE '/* upsert%'"
    );
    let second = rig.push_rows(vec![Fund::new("A", 2).row(1), Fund::new("B", 2).row(2)]);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 3 {
        seen.extend(database.texts(blocked.clone()).await?);
    }
    let left = database.texts(blocked.clone()).await?;
    assert!(
        left.len() <= 1,
        "given up connections still run on the server: {left:?}"
    );
    assert!(!second.is_complete());
    blocker.execute("COMMIT").await?;
    rig.complete(&second).await;
    assert_eq!(rows_of(&second).written, 2);
    let expected = [("A", 1), ("B", 2)].map(|(code, at)| dumped(&Fund::new(code, 2), &Fund::new(code, 2).row(at)));
    assert_eq!(database.texts(DUMP).await?, expected);
    rig.close().await;
    Ok(())
}

#[tokio::test]
async fn a_hard_shutdown_abandons_what_waits_and_leaves_no_transaction() -> Result<()> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    database
        .run("INSERT INTO t_fund VALUES ('A', '2024-03-07', 1, 'a', 1, 0, '')")
        .await?;
    let (catalog, mut config) = small(8);
    config.per_table = 1;
    config.lock_wait_timeout = Duration::from_secs(50);
    let rig = Rig::start(&database, catalog, config)?;
    let mut blocker = Connector::new(&database.url, TestDatabase::session())?
        .connect()
        .await?;
    blocker.execute("BEGIN").await?;
    blocker
        .execute("UPDATE t_fund SET rating = 77 WHERE code = 'A'")
        .await?;
    let chunk = rig.push_rows(vec![Fund::new("A", 2).row(1)]);
    let waiting =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND INFO LIKE '/* upsert%'";
    while database.number(waiting).await? == 0 {}
    rig.shutdown.cancel();
    assert_eq!(rig.close().await, [End::Abandoned]);
    assert!(!chunk.is_complete());
    Ok(())
}

/// Eight rows with keys of their own.
fn eight(prefix: &str) -> Vec<Row> {
    (0..8)
        .map(|at| Fund::new(&format!("{prefix}{at}"), 1).row(at))
        .collect()
}

#[tokio::test]
async fn a_lane_rests_after_each_batch_until_it_is_closed_or_shut_down() -> Result<()> {
    const REST: Duration = Duration::from_millis(300);
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let (catalog, mut config) = small(4);
    config.per_table = 1;
    let rig = Rig::start(&database, catalog.clone(), config.clone())?;
    rig.hooks.rest(REST);
    let clock = reprise_shared::clock::Clock::system();
    let begun = clock.monotonic();
    rig.complete(&rig.push_rows(eight("F"))).await;
    assert_eq!(rig.hooks.batches(), 2, "batches of four rows at most");
    assert!(clock.monotonic() - begun >= REST, "no rest between two batches");

    let long = Duration::from_secs(3_600);
    rig.hooks.rest(long);
    rig.complete(&rig.push_rows(vec![Fund::new("A", 1).row(9)])).await;
    rig.shutdown.cancel();
    assert_eq!(rig.close().await, [End::Abandoned]);

    let rig = Rig::start(&database, catalog, config)?;
    rig.hooks.rest(long);
    rig.complete(&rig.push_rows(vec![Fund::new("B", 1).row(10)])).await;
    let last = rig.push_rows(vec![Fund::new("C", 1).row(11)]);
    assert_eq!(rig.close().await, [End::Drained]);
    assert!(last.is_complete());
    Ok(())
}

#[tokio::test]
async fn a_lanes_batches_have_no_more_rows_than_they_may_until_it_is_closed() -> Result<()> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let (catalog, mut config) = small(4);
    config.per_table = 1;
    let rig = Rig::start(&database, catalog, config)?;
    rig.hooks.at_most(2);
    rig.complete(&rig.push_rows(eight("F"))).await;
    assert_eq!(rig.hooks.batches(), 4, "batches of two rows");

    // The lane is in its first rest when it is closed; what is left is written in batches as large as their type allows.
    rig.hooks.rest(Duration::from_secs(3_600));
    let hooks = rig.hooks.clone();
    let last = rig.push_rows(eight("G"));
    wait_for("a batch", Duration::from_secs(20), async || match hooks.batches() {
        5 => Ok(()),
        batches => Err(format!("{batches} batches")),
    })
    .await?;
    assert_eq!(rig.close().await, [End::Drained]);
    assert!(last.is_complete());
    assert_eq!(hooks.batches(), 7, "two rows, and then four and two");
    Ok(())
}

/// Figures, not a test: 300,000 rows through lanes against a bare loop of the same statements.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement; run it alone with optimisation"]
async fn lanes_against_a_bare_loop() -> Result<()> {
    const ROWS: u64 = 300_000;
    let database = TestDatabase::shared().await?;
    let rows: Vec<Row> = (0..ROWS)
        .map(|at| Fund::new(&format!("F{:06}", at * 7_919 % ROWS), 1).row(at))
        .collect();
    for round in 0..3 {
        database.run(format!("DROP TABLE IF EXISTS t_fund; {DDL}")).await?;
        let (bare, bare_cpu) = bare_loop(&database, rows.clone()).await?;
        database.run(format!("DROP TABLE IF EXISTS t_fund; {DDL}")).await?;
        let (lanes, lanes_cpu) = through_lanes(&database, rows.clone()).await?;
        println!(
            "round {round}: bare {bare:.0} rows/s {bare_cpu:.2} CPU-s/M, lanes {lanes:.0} rows/s {lanes_cpu:.2} CPU-s/M, ratio {:.2}",
            lanes / bare
        );
    }
    Ok(())
}

async fn bare_loop(database: &TestDatabase, rows: Vec<Row>) -> Result<(f64, f64)> {
    let upsert = Arc::new(Upsert::new(catalog(1_000).data_type(FUND)));
    let halves: [Vec<Row>; 2] = {
        let (even, odd): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.position.offset().0 % 2 == 0);
        [even, odd]
    };
    let clock = reprise_shared::clock::Clock::system();
    let (start, cpu) = (clock.monotonic(), own_cpu_seconds()?);
    let mut writers = tokio::task::JoinSet::new();
    for half in halves {
        let (url, upsert) = (database.url.clone(), upsert.clone());
        writers.spawn(async move {
            let mut connection = Connector::new(&url, TestDatabase::session())?.connect().await?;
            for batch in half.chunks(1_000) {
                let arguments = upsert.bind(batch.iter(), 100_000)?;
                sqlx::query_with(upsert.sql(batch.len()), arguments)
                    .execute(&mut connection)
                    .await?;
            }
            Ok::<_, anyhow::Error>(half.len())
        });
    }
    let written: usize = writers.join_all().await.into_iter().sum::<Result<usize>>()?;
    let million = written as f64 / 1e6;
    Ok((
        written as f64 / (clock.monotonic() - start).as_secs_f64(),
        (own_cpu_seconds()? - cpu) / million,
    ))
}

async fn through_lanes(database: &TestDatabase, rows: Vec<Row>) -> Result<(f64, f64)> {
    let (catalog, config) = small(1_000);
    let rig = Rig::start(database, catalog, config)?;
    let count = rows.len();
    let offsets: Vec<u64> = (0..512).collect();
    let mut prepared = Vec::new();
    let mut rows = rows.into_iter().peekable();
    while rows.peek().is_some() {
        prepared.push((
            rig.chunk(&offsets, Some(FUND)),
            rows.by_ref().take(512).collect::<Vec<_>>(),
        ));
    }
    let clock = reprise_shared::clock::Clock::system();
    let (start, cpu) = (clock.monotonic(), own_cpu_seconds()?);
    for (chunk, rows) in prepared {
        while rig.budget.in_flight().0 > 50_000 {
            let _ = tokio::time::timeout(Duration::from_millis(1), rig.budget.changed()).await;
        }
        rig.push_decoded(&chunk, rows);
    }
    rig.close().await;
    let million = count as f64 / 1e6;
    Ok((
        count as f64 / (clock.monotonic() - start).as_secs_f64(),
        (own_cpu_seconds()? - cpu) / million,
    ))
}
