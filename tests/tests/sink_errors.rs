//! Every class of error, provoked on real servers: what is retried, what is dead-lettered, what stops a type.

use std::time::Duration;

use anyhow::Result;
use reprise_shared::catalog::Catalog;
use reprise_shared::mysql::Connector;
use reprise_shared::tally::RowCounts;
use reprise_tests::env::Servers;
use reprise_tests::servers::Server as _;
use reprise_tests::sink::chunks::{DDL, FUND, Fund, Rig, catalog, rows_of};
use reprise_tests::sink::server::TestDatabase;
use reprise_worker::chunk::Chunk;
use reprise_worker::lanes::{Config, StopReason};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::Executor as _;

const LETTERS: &str = "SELECT CONCAT(record_offset, ' ', class) FROM dead_letters ORDER BY record_offset";
const UPSERTS: &str =
    "SELECT CAST(ID AS CHAR) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND INFO LIKE '/* upsert%'";

fn quick() -> (Catalog, Config) {
    let mut config = Config {
        per_table: 1,
        lock_wait_timeout: Duration::from_secs(1),
        ..Config::default()
    };
    config.writer.backoff_cap = Duration::from_millis(300);
    (catalog(64), config)
}

async fn ready() -> Result<(TestDatabase, Rig)> {
    let database = TestDatabase::shared().await?;
    database.run(DDL).await?;
    let (catalog, config) = quick();
    let rig = Rig::start(&database, catalog, config)?;
    Ok((database, rig))
}

fn codes(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("F{number:04}")).collect()
}

fn assert_all_written(chunk: &Chunk, rows: u64) {
    assert_eq!(
        rows_of(chunk),
        RowCounts {
            written: rows,
            ..RowCounts::default()
        }
    );
}

#[tokio::test]
async fn every_kind_of_bad_value_is_dead_lettered_alone() -> Result<()> {
    let database = TestDatabase::shared().await?;
    let ddl = DDL.replace("rating INT NULL", "rating INT NOT NULL, CHECK (rating < 100)");
    database
        .run("CREATE TABLE t_parent (name VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY)")
        .await?;
    database.run("INSERT INTO t_parent VALUES ('a')").await?;
    database
        .run(
            ddl.replace(
                "PRIMARY KEY (code",
                "FOREIGN KEY (name) REFERENCES t_parent (name), PRIMARY KEY (code",
            )
            .replace(
                "name VARCHAR(10) NULL",
                "name VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL",
            ),
        )
        .await?;
    let (catalog, config) = quick();
    let rig = Rig::start(&database, catalog, config)?;
    let codes = codes(60);
    let rows = codes.iter().enumerate().map(|(at, code)| {
        let mut fund = Fund::new(code, 1);
        match at {
            3 => fund.name = Some("longer than ten"),
            10 => fund.amount = Some("123456789.00"),
            17 => fund.nav_date = "2024-02-30",
            25 => fund.rating = None,
            31 => fund.rating = Some(100),
            44 => fund.name = Some("orphan"),
            58 => fund.amount = Some("words"),
            59 => fund.rating = Some(1 << 40),
            _ => {}
        }
        fund.row(at as u64)
    });
    let chunk = rig.push_rows(rows.collect());
    rig.complete(&chunk).await;
    assert_eq!(
        rows_of(&chunk),
        RowCounts {
            written: 52,
            superseded: 0,
            dead_lettered: 8
        }
    );
    let expected = [
        "3 TOO_LONG",
        "10 OUT_OF_RANGE",
        "17 BAD_TIME",
        "25 NULL_VALUE",
        "31 CONSTRAINT",
        "44 CONSTRAINT",
        "58 BAD_VALUE",
        "59 OUT_OF_RANGE",
    ];
    assert_eq!(database.texts(LETTERS).await?, expected);
    assert_eq!(database.number("SELECT COUNT(*) FROM t_fund").await?, 52);
    assert!(rig.hooks.stopped().is_empty());
    rig.close().await;
    Ok(())
}

#[tokio::test]
async fn a_missing_table_column_or_default_stops_the_type_and_dead_letters_nothing() -> Result<()> {
    let wrong = [
        "DROP TABLE t_fund",
        "ALTER TABLE t_fund DROP COLUMN rating",
        "ALTER TABLE t_fund ADD COLUMN more INT NOT NULL",
        "ALTER TABLE t_fund ADD UNIQUE (name)",
    ];
    for sql in wrong {
        let (database, rig) = ready().await?;
        database.run(sql).await?;
        let chunk = rig.push_rows(vec![Fund::new("A", 1).row(0), Fund::new("B", 1).row(1)]);
        rig.complete(&chunk).await;
        let stopped = rig.hooks.stopped();
        if sql.contains("UNIQUE") {
            // The upsert turns the other key's duplicate into an update; only the check at start can see this one.
            assert!(stopped.is_empty());
            continue;
        }
        assert_eq!(stopped.len(), 1, "{sql}");
        assert_eq!((stopped[0].0, stopped[0].1), (FUND, StopReason::Schema), "{sql}");
        assert_eq!(chunk.tallies()[0].1.records.deferred, 2);
        assert_eq!(database.number("SELECT COUNT(*) FROM dead_letters").await?, 0);
        rig.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn a_flood_of_bad_rows_is_a_fault_and_stops_the_type() -> Result<()> {
    let (database, rig) = ready().await?;
    let codes = codes(400);
    let bad = |at: usize| {
        Fund {
            name: Some("longer than ten"),
            ..Fund::new(&codes[at], 1)
        }
        .row(at as u64)
    };
    let chunk = rig.push_rows((0..400).map(bad).collect());
    rig.complete(&chunk).await;
    assert_eq!(rig.hooks.stopped()[0].1, StopReason::Breaker);
    let letters = database.number("SELECT COUNT(*) FROM dead_letters").await?;
    assert!(letters < 100, "{letters}");
    let tally = &chunk.tallies()[0].1;
    assert_eq!(tally.rows.dead_lettered as i64, letters);
    assert_eq!(tally.records.deferred, 400 - tally.rows.dead_lettered);
    rig.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_deadlock_is_tried_again() -> Result<()> {
    let (database, rig) = ready().await?;
    let chunk = rig.push_rows(vec![Fund::new("A", 1).row(0), Fund::new("B", 1).row(1)]);
    rig.complete(&chunk).await;
    database.run("CREATE TABLE t_weight (id INT PRIMARY KEY)").await?;
    let mut other = Connector::new(&database.url, TestDatabase::session())?
        .connect()
        .await?;
    other.execute("BEGIN").await?;
    // The server rolls back whoever changed less: that must be the lane.
    other
        .execute("INSERT INTO t_weight SELECT seq FROM seq_1_to_1000")
        .await?;
    other.execute("UPDATE t_fund SET rating = 1 WHERE code = 'B'").await?;
    let chunk = rig.push_rows(vec![Fund::new("A", 2).row(2), Fund::new("B", 2).row(3)]);
    while database.texts(UPSERTS).await?.is_empty() {}
    other.execute("UPDATE t_fund SET rating = 1 WHERE code = 'A'").await?;
    assert!(!chunk.is_complete());
    other.execute("COMMIT").await?;
    rig.complete(&chunk).await;
    assert_all_written(&chunk, 2);
    rig.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_lock_waits_and_killed_connections_are_waited_out() -> Result<()> {
    let (database, rig) = ready().await?;
    let chunk = rig.push_rows(vec![Fund::new("A", 1).row(0)]);
    rig.complete(&chunk).await;
    let mut other = Connector::new(&database.url, TestDatabase::session())?
        .connect()
        .await?;
    other.execute("BEGIN").await?;
    other.execute("UPDATE t_fund SET rating = 1 WHERE code = 'A'").await?;
    let chunk = rig.push_rows(vec![Fund::new("A", 2).row(1)]);
    // The first statement ends by 1205 after a second, and comes back.
    let mut killed = 0;
    let mut gaps = 0;
    while gaps == 0 || killed < 2 {
        let running = database.texts(UPSERTS).await?;
        match running.first() {
            None => gaps += 1,
            Some(id) if gaps > 0 => {
                if database.run(format!("KILL {id}")).await.is_ok() {
                    killed += 1;
                }
            }
            Some(_) => {}
        }
    }
    assert!(!chunk.is_complete());
    other.execute("COMMIT").await?;
    rig.complete(&chunk).await;
    assert_all_written(&chunk, 1);
    assert_eq!(database.number("SELECT COUNT(*) FROM dead_letters").await?, 0);
    rig.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i4_a_server_that_is_killed_frozen_or_read_only_costs_time_and_no_record() -> Result<()> {
    let mut server = Servers::own().mariadb().await?;
    let root = TestDatabase::on(server.endpoint()).await?;
    root.run(DDL).await?;
    root.run("CREATE USER app@'%'; GRANT ALL ON `sink\\_%`.* TO app@'%'")
        .await?;
    let url = SecretString::from(root.url.expose_secret().replace("root@", "app@"));
    let app = TestDatabase {
        url,
        database: root.database.clone(),
    };
    let (catalog, mut config) = quick();
    config.writer.batch_deadline = Duration::from_secs(1);
    config.writer.command_deadline = Duration::from_secs(1);
    let rig = Rig::start(&app, catalog, config)?;
    let chunk = rig.push_rows(vec![Fund::new("A", 1).row(0)]);
    rig.complete(&chunk).await;

    root.run("SET GLOBAL read_only = 1").await?;
    let chunk = rig.push_rows(vec![Fund::new("A", 2).row(1)]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!chunk.is_complete());
    root.run("SET GLOBAL read_only = 0").await?;
    rig.complete(&chunk).await;
    assert_all_written(&chunk, 1);

    server.pause()?;
    let chunk = rig.push_rows(vec![Fund::new("A", 3).row(2)]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!chunk.is_complete());
    server.resume()?;
    rig.complete(&chunk).await;
    assert_all_written(&chunk, 1);

    server.kill()?;
    let codes = codes(500);
    let chunk = rig.push_rows(
        codes
            .iter()
            .enumerate()
            .map(|(at, code)| Fund::new(code, 4).row(3 + at as u64))
            .collect(),
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!chunk.is_complete());
    server.start_again().await?;
    rig.complete(&chunk).await;
    assert_all_written(&chunk, 500);
    let root = reprise_shared::mysql::Database::new(
        &reprise_shared::mysql::Config {
            url: root.url.clone(),
            ..Default::default()
        },
        reprise_shared::clock::Clock::system(),
    )?;
    let letters: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM dead_letters")
        .fetch_one(root.pool())
        .await?;
    assert_eq!(letters, 0);
    assert!(rig.hooks.stopped().is_empty());
    rig.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_statements_stay_below_the_packet_limit_and_a_row_that_fits_into_none_is_dead_lettered() -> Result<()> {
    let mut server = Servers::own().mariadb().await?;
    "max_allowed_packet=1M".clone_into(&mut server.options);
    server.restart().await?;
    let database = TestDatabase::on(server.endpoint()).await?;
    database.run(DDL.replace("name VARCHAR(10)", "name LONGTEXT")).await?;
    let (catalog, config) = quick();
    let rig = Rig::start(&database, catalog, config)?;
    let (large, beyond) = ("x".repeat(300_000), "x".repeat(1_100_000));
    let codes = codes(10);
    let rows = codes.iter().enumerate().map(|(at, code)| {
        let name = if at == 4 { &beyond } else { &large };
        Fund {
            name: Some(name),
            ..Fund::new(code, 1)
        }
        .row(at as u64)
    });
    let chunk = rig.push_rows(rows.collect());
    rig.complete(&chunk).await;
    assert_eq!(
        rows_of(&chunk),
        RowCounts {
            written: 9,
            superseded: 0,
            dead_lettered: 1
        }
    );
    assert_eq!(database.texts(LETTERS).await?, ["4 ROW_TOO_LARGE"]);

    // The limit is raised: the next such row makes the lane read it again, and fits.
    database.run("SET GLOBAL max_allowed_packet = 4194304").await?;
    let chunk = rig.push_rows(vec![
        Fund {
            name: Some(&beyond),
            ..Fund::new("Z", 1)
        }
        .row(20),
    ]);
    rig.complete(&chunk).await;
    assert_all_written(&chunk, 1);
    rig.close().await;
    Ok(())
}
