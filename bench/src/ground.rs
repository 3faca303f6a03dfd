//! What the figures stand on: servers, a topic with the records, and an empty start for every pass.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::admin::AdminOptions;
use reprise_shared::config::KafkaConfig;
use reprise_shared::kafka::client::consumer_config;
use reprise_tests::env;
use reprise_tests::feed::{DataType, DataTypeMix, FeedConfig};
use reprise_tests::fleet::{Fleet, Options};
use reprise_tests::servers::set::Given;
use reprise_tests::servers::{Lifetime, Place, Scale, Server as _, Set};
use reprise_tests::wait::wait_for;
use tempfile::TempDir;

/// Partitions of the topic.
pub const PARTITIONS: u16 = 4;
/// How many funds the records are of.
pub const FUNDS: u32 = 2_000;

/// Servers with the records in Kafka and the basic data of all funds in MySQL.
pub struct Ground {
    /// Topic, database, whitelist and workers.
    pub fleet: Fleet,
    /// What was published.
    pub feed: FeedConfig,
    /// How many records that is.
    pub records: u64,
    /// The servers that were started here.
    pub servers: Set,
    _folder: TempDir,
}

impl Ground {
    /// Starts what the environment does not name (Redis in any case, because its calls are counted) and publishes
    /// valuations: each fund's days in order, the funds mixed.
    pub async fn new(records: u64) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the servers")?;
        let place = Place {
            folder: folder.path().to_owned(),
            lifetime: Lifetime::Bound,
            scale: Scale::Large,
        };
        let given = Given {
            redis: None,
            ..env::given()
        };
        let servers = Set::start(&place, given).await.context("start the servers")?;
        let options = Options {
            partitions: PARTITIONS,
            endpoints: Some(servers.endpoints.clone()),
            ..Options::default()
        };
        let fleet = Fleet::new("bench", options).await?;
        let days = u32::try_from(records.div_ceil(u64::from(FUNDS))).context("count the days")?;
        let feed = FeedConfig {
            records: Some(records),
            funds: FUNDS,
            days,
            partitions: PARTITIONS,
            mix: DataTypeMix::only(DataType::Valuation),
            ..FeedConfig::default()
        };
        fleet.seed(&feed).await?;
        let report = fleet.publish(feed.clone()).await?;
        ensure!(
            report.counts.delivered == records,
            "{} of {records} records were delivered: {:?}",
            report.counts.delivered,
            report.first_error
        );
        Ok(Self {
            fleet,
            feed,
            records,
            servers,
            _folder: folder,
        })
    }

    /// Removes all that a pass left: rows, what MySQL knows of the topic, the ledger, the group.
    pub async fn reset(&self) -> Result<()> {
        self.empty_table().await?;
        self.forget().await
    }

    /// Empties the target table.
    pub async fn empty_table(&self) -> Result<()> {
        sqlx::query("TRUNCATE TABLE t_fund_valuation")
            .execute(&self.fleet.pool)
            .await
            .context("empty the table")?;
        Ok(())
    }

    /// Changes every row, so that writing it again changes it back.
    pub async fn change_rows(&self) -> Result<()> {
        sqlx::query("UPDATE t_fund_valuation SET unit_nav = unit_nav + 1")
            .execute(&self.fleet.pool)
            .await
            .context("change every row")?;
        Ok(())
    }

    /// Makes the topic new to the next worker.
    pub async fn forget(&self) -> Result<()> {
        for statement in [
            "DELETE FROM topic_generations",
            "DELETE FROM partition_starts",
            "DELETE FROM partition_stops",
            "DELETE FROM type_states",
            "DELETE FROM deferred",
            "DELETE FROM leases",
        ] {
            sqlx::query(statement)
                .execute(&self.fleet.pool)
                .await
                .with_context(|| statement.to_owned())?;
        }
        let keys = self.ledger_keys().await?;
        if !keys.is_empty() {
            let mut connection = self.redis().await?;
            let () = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await?;
        }
        self.delete_group().await
    }

    async fn delete_group(&self) -> Result<()> {
        let (admin, group) = (self.fleet.isolation.admin()?, self.fleet.isolation.group());
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(5)));
        wait_for("the group to be gone", Duration::from_secs(60), async || {
            let results = admin.delete_groups(&[&group], &options).await;
            let results = results.map_err(|error| error.to_string())?;
            for result in results {
                match result {
                    Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::GroupIdNotFound)) => {}
                    Err((group, code)) => return Err(format!("{group}: {code}")),
                }
            }
            Ok(())
        })
        .await
    }

    /// Opens a connection to Redis.
    pub async fn redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.fleet.isolation.redis_url())?;
        client
            .get_multiplexed_async_connection()
            .await
            .context("connect to Redis")
    }

    /// Lists the ledger's keys.
    pub async fn ledger_keys(&self) -> Result<Vec<String>> {
        let mut connection = self.redis().await?;
        let mut keys = Vec::new();
        for kind in ["offsets", "coverage"] {
            let pattern = format!("{}:{kind}:*", self.fleet.isolation.key_prefix());
            let found: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut connection).await?;
            keys.extend(found);
        }
        Ok(keys)
    }

    /// Counts the rows of the target table.
    pub async fn rows(&self) -> Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation")
            .fetch_one(&self.fleet.pool)
            .await
            .context("count the rows")?;
        Ok(u64::try_from(count)?)
    }

    /// Returns the processes whose CPU time is told, by name: this one and the servers that were started here.
    pub fn processes(&mut self) -> Vec<(String, i32)> {
        let this = i32::try_from(std::process::id()).ok();
        let servers = [
            ("bench", this),
            ("kafka", self.servers.kafka.as_mut().and_then(|server| server.pid())),
            ("mariadb", self.servers.mariadb.as_mut().and_then(|server| server.pid())),
            ("redis", self.servers.redis.as_mut().and_then(|server| server.pid())),
        ];
        servers
            .into_iter()
            .filter_map(|(name, pid)| Some((name.to_owned(), pid?)))
            .collect()
    }

    /// Makes the client settings that a worker has.
    pub fn consumer_config(&self, group: &str) -> rdkafka::ClientConfig {
        let kafka = KafkaConfig {
            brokers: vec![self.fleet.isolation.kafka_brokers().to_owned()],
            ..KafkaConfig::default()
        };
        let mut config = consumer_config(&kafka, group);
        config
            .set("queued.max.messages.kbytes", (32 * 1_024).to_string())
            .set("queued.min.messages", "50000")
            .set("statistics.interval.ms", "5000");
        config
    }

    /// Adds a worker's process to those whose CPU time is told.
    pub fn name_worker(&mut self, number: usize, pids: &mut Vec<(String, i32)>) -> Result<i32> {
        let pid = self.fleet.workers[number].pid().context("the worker has ended")?;
        pids.push(("worker".to_owned(), pid));
        Ok(pid)
    }
}

/// Metrics by name with labels.
pub type Metrics = BTreeMap<String, f64>;
