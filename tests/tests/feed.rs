//! The feed and the oracle on real servers: what the one says, the other finds.
//!
//! `KAFKA_BROKERS` and `MYSQL_URL` name the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::Context;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use reprise_shared::position::{Offset, Partition, RowNumber};
use reprise_tests::feed::{
    BasicSeed, Destination, Expectation, Feed, FeedConfig, FeedRecord, Pace, Place, Report, publish,
};
use reprise_tests::oracle::{CompareError, Folded, Letter, Oracle, Rules, checksum, dump_table};
use sqlx::{AssertSqlSafe, MySqlPool, QueryBuilder};

const RECORDS: u64 = 20_000;

#[expect(
    clippy::disallowed_methods,
    reason = "this is where these tests learn of their servers"
)]
fn server(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("read {name}"))
}

/// A topic of its own, deleted at the end.
struct Topic {
    brokers: String,
    name: String,
    admin: AdminClient<DefaultClientContext>,
}

impl Topic {
    async fn create() -> anyhow::Result<Self> {
        let brokers = server("KAFKA_BROKERS")?;
        let name = format!("feed-{}", uuid::Uuid::now_v7());
        let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
        let topic = NewTopic::new(&name, 4, TopicReplication::Fixed(1))
            .set("max.message.bytes", "4194304")
            .set("retention.ms", "-1");
        for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("create {topic}: {code}"))?;
        }
        Ok(Self { brokers, name, admin })
    }

    fn destination(&self) -> Destination {
        Destination {
            brokers: self.brokers.clone(),
            topic: self.name.clone(),
            keep_places: true,
        }
    }

    async fn publish(&self, feed: Feed) -> anyhow::Result<Report> {
        let destination = self.destination();
        let publishing = move || publish(feed, &destination, None, |_| ControlFlow::Continue(()));
        tokio::task::spawn_blocking(publishing).await?
    }

    async fn read(&self) -> anyhow::Result<Oracle> {
        let (brokers, name) = (self.brokers.clone(), self.name.clone());
        tokio::task::spawn_blocking(move || Oracle::read_topic(&brokers, &name)).await?
    }

    async fn delete(self) -> anyhow::Result<()> {
        self.admin.delete_topics(&[&self.name], &AdminOptions::new()).await?;
        Ok(())
    }
}

/// A database of its own with the three tables, dropped at the end.
struct Database {
    pool: MySqlPool,
    name: String,
}

impl Database {
    async fn create() -> anyhow::Result<Self> {
        let url = reprise_tests::env::mysql_server()?;
        let name = format!("feed_{}", uuid::Uuid::now_v7().simple());
        let outside = MySqlPool::connect(&url).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")))
            .execute(&outside)
            .await?;
        let options: sqlx::mysql::MySqlConnectOptions = url.parse()?;
        let pool = MySqlPool::connect_with(options.database(&name)).await?;
        let guard = "source_time DATETIME(3) NOT NULL, source_position VARBINARY(16) NOT NULL";
        let id = "CHARACTER SET ascii COLLATE ascii_bin NOT NULL";
        for table in [
            format!(
                "CREATE TABLE t_fund_basic_info (performance_id VARCHAR(32) {id} PRIMARY KEY, \
                 fund_code VARCHAR(16) {id}, fund_name VARCHAR(200) NOT NULL, fund_type VARCHAR(50), \
                 currency VARCHAR(3), inception_date DATE, {guard})"
            ),
            format!(
                "CREATE TABLE t_fund_valuation (fund_code VARCHAR(16) {id}, nav_date DATE NOT NULL, \
                 unit_nav DECIMAL(20,8) NOT NULL, accumulated_nav DECIMAL(20,8), {guard}, \
                 PRIMARY KEY (fund_code, nav_date))"
            ),
            format!(
                "CREATE TABLE t_ai_risk (fund_code VARCHAR(16) {id}, alert_date DATE NOT NULL, \
                 risk_level INT NOT NULL, risk_score DECIMAL(10,4) NOT NULL, volatility DECIMAL(12,8), \
                 message VARCHAR(500), {guard}, PRIMARY KEY (fund_code, alert_date))"
            ),
        ] {
            sqlx::query(AssertSqlSafe(table)).execute(&pool).await?;
        }
        Ok(Self { pool, name })
    }

    /// Writes folded rows as they are.
    async fn fill(&self, folded: &Folded) -> anyhow::Result<()> {
        for (table, rows) in &folded.tables {
            for rows in rows.values().collect::<Vec<_>>().chunks(500) {
                let mut statement = QueryBuilder::new(format!("INSERT INTO `{table}` "));
                statement.push_values(rows, |mut values, row| {
                    for cell in &row.cells {
                        values.push_bind(cell);
                    }
                    values.push_bind(&row.version);
                    values.push("UNHEX(");
                    values.push_bind_unseparated(&row.position);
                    values.push_unseparated(")");
                });
                statement.build().execute(&self.pool).await?;
            }
        }
        Ok(())
    }

    async fn execute(&self, statement: &'static str) -> anyhow::Result<()> {
        sqlx::query(statement).execute(&self.pool).await?;
        Ok(())
    }

    async fn drop(self) -> anyhow::Result<()> {
        sqlx::query(AssertSqlSafe(format!("DROP DATABASE `{}`", self.name)))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn every_switch() -> FeedConfig {
    FeedConfig {
        records: Some(RECORDS),
        funds: 200,
        ..FeedConfig::default()
    }
    .with_every_switch()
}

fn now() -> jiff::Timestamp {
    "2024-04-01T00:00:00Z".parse().expect("a time")
}

/// Counts by data type and partition: processed, skipped and dead-lettered records, rows, dead-lettered rows.
type Tally = BTreeMap<(String, Partition), [u64; 5]>;

/// What the feed expects of the records at their places.
fn expected(records: impl Iterator<Item = FeedRecord>, places: &[Option<Place>]) -> (Tally, BTreeSet<Letter>) {
    let (mut tally, mut letters) = (Tally::new(), BTreeSet::new());
    for (record, place) in records.zip(places) {
        let place = place.expect("every record was delivered");
        let partition = Partition::from_kafka(place.partition).expect("a partition");
        let offset = Offset::from_kafka(place.offset).expect("an offset");
        let header = record.headers.last().map_or("", |(_, value)| value);
        let data_type = if header == "fund_unknown" { "" } else { header }.to_owned();
        let counts = tally.entry((data_type.clone(), partition)).or_default();
        let letter = match record.expectation {
            Expectation::Skipped => {
                counts[1] += 1;
                None
            }
            Expectation::DeadLettered(class) => {
                counts[2] += 1;
                Some((RowNumber::RECORD, class))
            }
            Expectation::Processed { rows, letter } => {
                counts[0] += 1;
                counts[3] += u64::from(rows);
                counts[4] += u64::from(letter.is_some());
                letter.map(|(row, class)| (RowNumber(row), class))
            }
        };
        letters.extend(letter.map(|(row, class)| Letter {
            data_type,
            partition,
            offset,
            row,
            class,
        }));
    }
    (tally, letters)
}

fn found(folded: &Folded) -> Tally {
    let counts = folded.counts.iter().map(|(place, counts)| {
        let records = counts.records;
        assert_eq!((records.filtered, records.deferred), (0, 0));
        let counts = [
            records.processed,
            records.skipped,
            records.dead_lettered,
            counts.rows,
            counts.dead_lettered_rows,
        ];
        (place.clone(), counts)
    });
    counts.collect()
}

#[tokio::test]
async fn the_oracle_finds_in_the_topic_what_the_feed_expects_and_compares_it_with_mysql() -> anyhow::Result<()> {
    let topic = Topic::create().await?;
    let config = every_switch();
    let feed = Feed::new(config.clone())?;
    let report = topic.publish(feed.clone()).await?;
    assert_eq!(
        (report.counts.delivered, report.counts.failed),
        (RECORDS, 0),
        "{:?}",
        report.first_error
    );

    let oracle = topic.read().await?;
    assert_eq!(oracle.len() as u64, RECORDS);
    let seed = BasicSeed::new(&config);
    let lookup = seed.lookup();
    let rules = Rules {
        seed: Some(seed),
        ..Rules::new(&lookup, now())
    };
    let folded = oracle.fold(&rules);
    let (tally, letters) = expected(feed, &report.places);
    // A record that both place differently shows here by name, the counts only say that there is one.
    let surprises: Vec<_> = folded.letters.symmetric_difference(&letters).take(5).collect();
    assert!(surprises.is_empty(), "{surprises:?}");
    assert_eq!(found(&folded), tally);
    assert!(folded.tables.values().all(|table| !table.is_empty()));

    let database = Database::create().await?;
    database.fill(&folded).await?;
    folded.compare(&database.pool).await?;
    for table in folded.tables.keys() {
        let dump = dump_table(&database.pool, table).await?;
        assert_eq!(checksum(&dump), checksum(&folded.dump(table)), "{table}");
    }

    database
        .execute("UPDATE t_fund_valuation SET unit_nav = unit_nav + 1 LIMIT 12")
        .await?;
    database.execute("DELETE FROM t_ai_risk LIMIT 1").await?;
    match folded.compare(&database.pool).await {
        Err(CompareError::Different(differences)) => {
            assert_eq!(differences.tables["t_fund_valuation"].different, 12);
            assert_eq!(differences.tables["t_ai_risk"].missing, 1);
            assert_eq!(differences.shown.len(), 10);
        }
        other => panic!("the damage was not found: {other:?}"),
    }
    database.drop().await?;
    topic.delete().await
}

#[tokio::test]
async fn the_basic_data_can_be_published_or_written_first() -> anyhow::Result<()> {
    let config = FeedConfig {
        funds: 2_500,
        ..FeedConfig::default()
    };
    let seed = BasicSeed::new(&config);
    let empty = BTreeMap::new();
    let database = Database::create().await?;
    seed.insert(&database.pool, "t_fund_basic_info").await?;
    let rules = Rules {
        seed: Some(seed),
        ..Rules::new(&empty, now())
    };
    let folded = Oracle::default().fold(&rules);
    folded.compare(&database.pool).await?;
    assert_eq!(folded.lookup(), seed.lookup());
    database.drop().await?;

    let topic = Topic::create().await?;
    let destination = topic.destination();
    let publishing = move || {
        let records: Box<dyn Iterator<Item = FeedRecord>> = Box::new(seed.records());
        publish(records, &destination, None, |_| ControlFlow::Continue(()))
    };
    let report = tokio::task::spawn_blocking(publishing).await??;
    assert_eq!(report.counts.delivered, 2_500);
    let published = topic.read().await?.fold(&Rules::new(&empty, now()));
    assert_eq!(published.lookup(), seed.lookup());
    topic.delete().await
}

#[tokio::test]
async fn a_pace_is_kept_and_the_caller_can_break_off() -> anyhow::Result<()> {
    let topic = Topic::create().await?;
    let destination = topic.destination();
    let feed = Feed::new(FeedConfig::default())?;
    let start = tokio::time::Instant::now();
    let publishing = move || {
        let elapsed = || start.elapsed();
        let pace = Pace {
            per_second: 1_000,
            elapsed: &elapsed,
        };
        let done = |sent| {
            if sent < 500 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        publish(feed, &destination, Some(pace), |progress| done(progress.sent))
    };
    let report = tokio::task::spawn_blocking(publishing).await??;
    assert!(start.elapsed() >= Duration::from_millis(490), "{:?}", start.elapsed());
    assert_eq!(report.counts.delivered, report.counts.sent);
    assert!((500..600).contains(&report.counts.sent), "{:?}", report.counts);
    topic.delete().await
}

#[tokio::test]
#[ignore = "measures speed, which says something in an optimised build only"]
async fn a_feed_is_generated_and_published_fast() -> anyhow::Result<()> {
    const RECORDS: u64 = 1_000_000;
    let feed = Feed::new(FeedConfig {
        records: Some(RECORDS),
        ..FeedConfig::default()
    })?;
    let start = tokio::time::Instant::now();
    let (mut generated, mut record, mut bytes) = (feed.clone(), FeedRecord::empty(), 0);
    while generated.next_into(&mut record) {
        bytes += record.size();
    }
    let generated_per_second = RECORDS as f64 / start.elapsed().as_secs_f64();
    let topic = Topic::create().await?;
    let destination = Destination {
        keep_places: false,
        ..topic.destination()
    };
    let start = tokio::time::Instant::now();
    let publishing = move || publish(feed, &destination, None, |_| ControlFlow::Continue(()));
    let report = tokio::task::spawn_blocking(publishing).await??;
    let published_per_second = RECORDS as f64 / start.elapsed().as_secs_f64();
    println!("{bytes} bytes; {generated_per_second:.0}/s generated, {published_per_second:.0}/s published");
    assert_eq!(report.counts.delivered, RECORDS);
    let start = tokio::time::Instant::now();
    let oracle = topic.read().await?;
    println!(
        "{:.0}/s read by the oracle",
        oracle.len() as f64 / start.elapsed().as_secs_f64()
    );
    let lookup = BasicSeed::new(&FeedConfig::default()).lookup();
    let start = tokio::time::Instant::now();
    oracle.fold(&Rules::new(&lookup, now()));
    println!("{:.0}/s folded", oracle.len() as f64 / start.elapsed().as_secs_f64());
    assert!(generated_per_second >= 300_000.0);
    topic.delete().await
}
