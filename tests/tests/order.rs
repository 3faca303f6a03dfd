//! I2: any order and any number of readings end in the same tables.

use anyhow::{Result, ensure};
use reprise_tests::feed::{Expectation, FeedConfig, FeedRecord, MultiRow};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, sum};
use reprise_tests::oracle::{checksum, dump_table};
use sqlx::Row;

const FUNDS: u32 = 2;
const TABLES: [&str; 3] = ["t_fund_basic_info", "t_fund_valuation", "t_ai_risk"];

async fn checksums(fleet: &Fleet) -> Result<Vec<String>> {
    let mut sums = Vec::new();
    for table in TABLES {
        sums.push(checksum(&dump_table(&fleet.pool, table).await?));
    }
    Ok(sums)
}

fn reading(topic: &str) -> Options {
    Options {
        reads: Some(topic.to_owned()),
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_one_worker_three_workers_and_a_second_reading_end_in_the_same_tables() -> Result<()> {
    let config = FeedConfig {
        records: Some(30_000),
        funds: 300,
        days: 10,
        disorder: 0.2,
        duplicates: 0.1,
        equal_versions: 0.1,
        multi_row: MultiRow {
            multi_row: 0.3,
            items: 8,
            same_key: 0.3,
        },
        ..FeedConfig::default()
    };
    let mut one = Fleet::new("order-one", Options::default()).await?;
    one.seed(&config).await?;
    one.publish(config.clone()).await?;
    one.start_workers(1).await?;
    one.caught_up(PATIENCE).await?;
    one.check_tables(Some(config.clone()), Vec::new()).await?;
    let expected = checksums(&one).await?;
    one.stop().await?;

    // Other workers, group, ledger and database; the partitions are read beside each other by three.
    let mut three = Fleet::new("order-three", reading(&one.topic)).await?;
    three.seed(&config).await?;
    for _ in 0..3 {
        three.start_worker()?;
    }
    three.caught_up(PATIENCE).await?;
    three.check_tables(Some(config.clone()), Vec::new()).await?;
    ensure!(checksums(&three).await? == expected, "three workers made other tables");
    three.stop().await?;

    // Once more, by a group that knows nothing, over the full tables.
    for table in ["topic_generations", "partition_starts"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DELETE FROM {table}")))
            .execute(&one.pool)
            .await?;
    }
    let mut again = Options {
        settings: vec![("mysql.url".to_owned(), one.isolation.mysql_url())],
        ..reading(&one.topic)
    };
    again.settings.push(("ingest.tick".to_owned(), "200ms".to_owned()));
    let mut again = Fleet::new("order-again", again).await?;
    again.start_workers(2).await?;
    again.caught_up(PATIENCE).await?;
    let consumed = sum(&again.metrics(0).await?, "reprise_records_consumed_total", &[])
        + sum(&again.metrics(1).await?, "reprise_records_consumed_total", &[]);
    ensure!(consumed >= 30_000.0, "the second reading consumed {consumed}");
    ensure!(checksums(&one).await? == expected, "a second reading changed tables");
    again.stop().await
}

fn record(data_type: &'static str, partition: i32, payload: String) -> FeedRecord {
    let mut record = FeedRecord::empty();
    record.key = b"0P00000001".to_vec();
    record.headers = match data_type {
        "fund_risk" => &[("data-type", "fund_risk")],
        _ => &[("data-type", "fund_valuation")],
    };
    record.payload = Some(payload.into_bytes());
    record.timestamp_ms = 1_709_803_800_000;
    record.partition = Some(partition);
    record.expectation = Expectation::Skipped;
    record
}

fn risk(partition: i32, day: u8, level: i32, second: u8) -> FeedRecord {
    let payload = format!(
        r#"{{"performanceId":"0P00000001","alertDate":"2024-03-{day:02}","riskLevel":{level},"riskScore":1.5,"sourceTime":"2024-03-07T09:30:{second:02}.000Z"}}"#
    );
    record("fund_risk", partition, payload)
}

fn valuation(partition: i32, day: u8, items: &[(i32, u8)]) -> FeedRecord {
    let items: Vec<String> = items
        .iter()
        .map(|(nav, second)| {
            format!(r#"{{"date":"2024-03-{day:02}","unitNav":{nav},"sourceTime":"2024-03-07T09:30:{second:02}.000Z"}}"#)
        })
        .collect();
    let payload = format!(r#"{{"performanceId":"0P00000001","items":[{}]}}"#, items.join(","));
    record("fund_valuation", partition, payload)
}

async fn levels(fleet: &Fleet) -> Result<Vec<i32>> {
    let rows = sqlx::query("SELECT risk_level FROM t_ai_risk ORDER BY alert_date")
        .fetch_all(&fleet.pool)
        .await?;
    rows.iter().map(|row| Ok(row.try_get("risk_level")?)).collect()
}

async fn navs(fleet: &Fleet) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT CAST(unit_nav AS CHAR) AS nav FROM t_fund_valuation ORDER BY nav_date")
        .fetch_all(&fleet.pool)
        .await?;
    rows.iter().map(|row| Ok(row.try_get("nav")?)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_the_newest_version_wins_and_then_the_highest_position() -> Result<()> {
    let options = Options {
        settings: vec![("lanes.writer.sample_every".to_owned(), "1".to_owned())],
        ..Options::default()
    };
    let mut fleet = Fleet::new("order-ties", options).await?;
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    fleet.start_workers(1).await?;
    // One after the other, each in batches of its own: day 1 gets an older version later, day 2 an equal one in a
    // lower and day 3 in a higher partition, day 4 an equal one at a later offset of the same partition.
    let rounds = [
        vec![
            risk(1, 1, 10, 30),
            risk(2, 2, 20, 30),
            risk(1, 3, 30, 30),
            risk(0, 4, 40, 30),
        ],
        vec![
            risk(3, 1, 11, 29),
            risk(1, 2, 21, 30),
            risk(2, 3, 31, 30),
            risk(0, 4, 41, 30),
        ],
    ];
    for round in rounds {
        fleet.publish_records(round).await?;
        fleet.caught_up(PATIENCE).await?;
    }
    ensure!(levels(&fleet).await? == [10, 20, 31, 41], "{:?}", levels(&fleet).await?);
    let metrics = fleet.metrics(0).await?;
    let stale = sum(&metrics, "reprise_sink_sampled_stale_rows_total", &[]);
    let sampled = sum(&metrics, "reprise_sink_sampled_rows_total", &[]);
    ensure!(
        (stale, sampled) == (2.0, 8.0),
        "{stale} of {sampled} sampled rows are stale"
    );
    // Two rows of one key in one record: the newer version, then the later row.
    let records = vec![
        valuation(0, 1, &[(1, 31), (2, 30)]),
        valuation(0, 2, &[(1, 30), (2, 31)]),
        valuation(0, 3, &[(1, 30), (2, 30)]),
    ];
    fleet.publish_records(records).await?;
    fleet.caught_up(PATIENCE).await?;
    let found = navs(&fleet).await?;
    ensure!(found == ["1.00000000", "2.00000000", "2.00000000"], "{found:?}");
    fleet
        .check_tables(Some(FeedConfig::only_funds(FUNDS)), Vec::new())
        .await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_a_row_that_the_server_refuses_lets_the_next_older_one_through() -> Result<()> {
    let mut fleet = Fleet::new("order-refused", Options::default()).await?;
    fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
    sqlx::query("ALTER TABLE t_ai_risk ADD CONSTRAINT level CHECK (risk_level < 90)")
        .execute(&fleet.pool)
        .await?;
    // All before the worker starts, so that they share a batch. The two newest rows of day 2 are bad.
    fleet
        .publish_records(vec![
            risk(0, 1, 1, 10),
            risk(0, 1, 2, 20),
            risk(0, 1, 99, 30),
            risk(1, 2, 98, 31),
            risk(1, 2, 97, 30),
            risk(1, 2, 3, 29),
            risk(1, 2, 4, 28),
            risk(2, 3, 5, 20),
        ])
        .await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let found = levels(&fleet).await?;
    ensure!(found == [2, 3, 5], "{found:?}\n{}", fleet.log_of(0));
    let letters = sqlx::query("SELECT partition_number, record_offset FROM dead_letters ORDER BY 1, 2")
        .fetch_all(&fleet.pool)
        .await?;
    let letters: Vec<(u16, u64)> = letters
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_>>()?;
    ensure!(letters == [(0, 2), (1, 0), (1, 1)], "{letters:?}");
    fleet.stop().await
}
