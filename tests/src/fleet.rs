//! A fleet of real worker processes on real servers, on a topic, a database and a key prefix of its own.

mod checks;
mod jobs;
mod kafka;
mod letters;
mod load;
mod observe;
mod oracle;
mod raw;
mod transactions;
mod trial;

pub use jobs::{Asked, sum_of};
pub use kafka::Stop;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{self, Database};
use reprise_shared::redis::{KeyPrefix, Redis, Settings};
use reprise_shared::whitelist::{self, Change, ChangeId, Content, Edit, Expect, Head, Scope, Version};
use sqlx::mysql::MySqlPool;
use tempfile::TempDir;

use crate::cluster::{Service, Spec, binary};
use crate::env::{Isolation, Servers};
use crate::feed::{BasicSeed, Destination, Feed, FeedConfig, Report, publish};
use crate::servers::process::Lifetime;
use crate::servers::{Endpoints, ports};
use crate::wait::{blocking, wait_for};

pub use self::load::Load;
pub use self::observe::{scrape, sum};
pub use self::trial::{endpoints_with, feed_of_all_kinds};
pub use letters::{FoundLetter, FoundState, LetterKey, keys_of};
pub use raw::RawRecord;

/// How long a test waits for what takes a moment on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How a fleet differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// Partitions of the topic.
    pub partitions: u16,
    /// Settings of the topic, beside unlimited retention and 4 MiB messages.
    pub topic: Vec<(&'static str, &'static str)>,
    /// Worker settings, by their keys.
    pub settings: Vec<(String, String)>,
    /// Replacements in the shipped catalog's text.
    pub catalog: Vec<(String, String)>,
    /// A topic that another fleet made, instead of one of its own.
    pub reads: Option<String>,
    /// The servers; those that all tests share by default.
    pub endpoints: Option<Endpoints>,
}

impl Options {
    /// Workers that notice a new or deleted topic, and say so, within a second.
    pub fn quick() -> Self {
        let settings = [
            ("ingest.heartbeat", "1s"),
            ("kafka.properties.topic.metadata.refresh.interval.ms", "1000"),
        ];
        Self {
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..Self::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: 4,
            topic: Vec::new(),
            settings: Vec::new(),
            catalog: Vec::new(),
            reads: None,
            endpoints: None,
        }
    }
}

/// Workers and what they work on.
pub struct Fleet {
    /// The fleet's own part of the servers.
    pub isolation: Isolation,
    /// The topic of all shipped types.
    pub topic: String,
    /// The database.
    pub pool: MySqlPool,
    /// Redis, under the fleet's prefix.
    pub redis: Redis,
    /// Its workers, running or not.
    pub workers: Vec<Service>,
    /// What they are called, in the same order.
    names: Vec<String>,
    options: Options,
    folder: TempDir,
}

impl Fleet {
    /// Makes topic, schema and demo tables, and an initialised, empty whitelist. No worker runs yet.
    pub async fn new(name: &str, options: Options) -> Result<Self> {
        let isolation = match &options.endpoints {
            Some(endpoints) => Isolation::on(name, endpoints.clone()).await?,
            None => Isolation::new(name).await?,
        };
        let mut settings = vec![("retention.ms", "-1"), ("max.message.bytes", "4194304")];
        settings.extend(options.topic.iter().copied());
        let topic = match &options.reads {
            Some(topic) => topic.clone(),
            None => {
                isolation
                    .create_topic("fund-data", options.partitions, &settings)
                    .await?
            }
        };
        let config = mysql::Config {
            url: isolation.mysql_url().into(),
            max_connections: 4,
            ..mysql::Config::default()
        };
        let pool = Database::new(&config, Clock::system())?.pool().clone();
        mysql::migrate(&pool).await.context("migrate")?;
        mysql::migrate_demo(&pool).await.context("make the demo tables")?;
        let redis = Redis::open(Settings {
            prefix: KeyPrefix::new(isolation.key_prefix())?,
            ..Settings::new(isolation.redis_url())
        })?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let fleet = Self {
            isolation,
            topic,
            pool,
            redis,
            workers: Vec::new(),
            names: Vec::new(),
            options,
            folder,
        };
        fleet.write_catalog()?;
        fleet.set_whitelist(&[]).await?;
        Ok(fleet)
    }

    fn write_catalog(&self) -> Result<()> {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml");
        let mut text = std::fs::read_to_string(shipped).context("read the shipped catalog")?;
        text = text.replace("fund-data", &self.topic);
        for (from, to) in &self.options.catalog {
            ensure!(
                text.contains(from.as_str()),
                "the shipped catalog does not contain {from:?}"
            );
            text = text.replace(from.as_str(), to);
        }
        std::fs::write(self.catalog_path(), text).context("write the catalog")
    }

    /// Returns where the fleet's catalog lies.
    pub fn catalog_path(&self) -> PathBuf {
        self.folder.path().join("catalog.yaml")
    }

    /// Returns where the workers' logs lie.
    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// Sets the global list, whatever it was.
    pub async fn set_whitelist(&self, ids: &[String]) -> Result<Version> {
        let writer = whitelist::Writer::new(self.redis.clone(), 1_000);
        let change_id = ChangeId::new(uuid::Uuid::now_v7().to_string());
        let answer = match writer.head().await? {
            None => {
                let mut content = Content::new(Head {
                    version: Version(1),
                    change_id,
                });
                content.global.extend(ids.iter().cloned());
                writer.replace(&content, Expect::Missing).await?
            }
            Some(head) => {
                let change = Change {
                    id: change_id,
                    scope: Scope::Global,
                    edit: Edit::Replace(ids.to_vec()),
                };
                writer.apply(&change, head.version, head.version.next()).await?
            }
        };
        match answer {
            whitelist::Answer::Applied { version, .. } => Ok(version),
            other => bail!("the whitelist was not set: {other:?}"),
        }
    }

    /// Changes a worker setting for the workers that are started from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.options.settings.push((key.to_owned(), value.to_owned()));
    }

    /// Puts the global list into a Redis that lost it, at a version of one's choice.
    pub async fn put_whitelist(&self, ids: &[String], version: Version) -> Result<()> {
        let change_id = ChangeId::new(uuid::Uuid::now_v7().to_string());
        let mut content = Content::new(Head { version, change_id });
        content.global.extend(ids.iter().cloned());
        let writer = whitelist::Writer::new(self.redis.clone(), 1_000);
        match writer.replace(&content, Expect::Missing).await? {
            whitelist::Answer::Applied { .. } => Ok(()),
            other => bail!("the whitelist was not put: {other:?}"),
        }
    }

    /// Empties the fleet's Redis; only for a private one.
    pub async fn flush_redis(&self) -> Result<()> {
        let private = self.options.endpoints.as_ref().map(|endpoints| &endpoints.redis);
        let shared = Servers::shared().await?.endpoints();
        ensure!(
            private.is_some_and(|private| *private != shared.redis),
            "only a private Redis may be emptied"
        );
        let mut connection = redis::Client::open(self.isolation.redis_url())?
            .get_multiplexed_async_connection()
            .await?;
        redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .context("empty Redis")
    }

    /// Starts an ingest worker and returns its place in `workers`; it need not be ready yet.
    pub fn start_worker(&mut self) -> Result<usize> {
        self.start_one("ingest")
    }

    /// Starts a replay worker and returns its place in `workers`; it need not be ready yet.
    pub fn start_replay_worker(&mut self) -> Result<usize> {
        self.start_one("replay")
    }

    fn start_one(&mut self, role: &str) -> Result<usize> {
        let number = self.workers.len();
        let name = format!("{role}-{number}");
        let [port] = ports::free::<1>()?;
        let isolation = &self.isolation;
        let mut settings: BTreeMap<String, String> = [
            ("catalog", self.catalog_path().display().to_string()),
            ("kafka.brokers", isolation.kafka_brokers().to_owned()),
            ("mysql.url", isolation.mysql_url()),
            ("redis.url", isolation.redis_url().to_owned()),
            ("redis.key_prefix", isolation.key_prefix()),
            ("http.listen", format!("127.0.0.1:{port}")),
            ("ingest.group", isolation.group()),
            ("role", role.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        settings.extend(self.options.settings.iter().cloned());
        // The names of the client's properties have dots of their own.
        let variable = |key: &str| match key.strip_prefix("kafka.properties.") {
            Some(property) => format!("REPRISE_KAFKA__PROPERTIES__{}", property.to_uppercase()),
            None => format!("REPRISE_{}", key.replace('.', "__").to_uppercase()),
        };
        let environment = settings
            .iter()
            .filter(|(key, _)| key.contains('.'))
            .map(|(key, value)| (variable(key).into(), value.into()));
        let arguments = settings
            .iter()
            .filter(|(key, _)| !key.contains('.'))
            .flat_map(|(key, value)| ["--set".into(), format!("{key}={value}").into()]);
        let mut worker = Service::new(Spec {
            name: name.clone(),
            binary: binary("reprise-worker")?,
            arguments: arguments.collect(),
            environment: environment.collect(),
            logs: self.logs(),
            http: format!("http://127.0.0.1:{port}"),
            lifetime: Lifetime::Bound,
        });
        worker.start()?;
        self.workers.push(worker);
        self.names.push(name);
        Ok(number)
    }

    /// Starts workers and waits until each is ready.
    pub async fn start_workers(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let number = self.start_worker()?;
            self.workers[number]
                .ready(PATIENCE)
                .await
                .with_context(|| self.log_of(number))?;
        }
        Ok(())
    }

    /// Starts replay workers and waits until each is ready. Returns the place of the first.
    pub async fn start_replay_workers(&mut self, count: usize) -> Result<usize> {
        let first = self.workers.len();
        for _ in 0..count {
            let number = self.start_replay_worker()?;
            self.workers[number]
                .ready(PATIENCE)
                .await
                .with_context(|| self.log_of(number))?;
        }
        Ok(first)
    }

    /// Returns a worker's whole log, over all its starts.
    pub fn whole_log(&self, number: usize) -> String {
        std::fs::read_to_string(self.logs().join(format!("{}.log", self.names[number]))).unwrap_or_default()
    }

    /// Returns the end of a worker's log, for messages.
    pub fn log_of(&self, number: usize) -> String {
        let text = self.whole_log(number);
        let from = text.len().saturating_sub(6_000);
        let from = (from..text.len())
            .find(|place| text.is_char_boundary(*place))
            .unwrap_or(0);
        format!("log of {}:\n{}", self.names[number], &text[from..])
    }

    /// Returns the ends of the logs of all workers.
    pub fn all_logs(&self) -> String {
        let logs: Vec<_> = (0..self.workers.len()).map(|number| self.log_of(number)).collect();
        logs.join("\n")
    }

    /// Publishes a feed and waits for its delivery.
    pub async fn publish(&self, config: FeedConfig) -> Result<Report> {
        let destination = self.destination();
        blocking("publish", Duration::from_secs(600), move || {
            publish(Feed::new(config)?, &destination, None, |_| {
                std::ops::ControlFlow::Continue(())
            })
        })
        .await
    }

    /// Returns where feeds of this fleet go.
    pub fn destination(&self) -> Destination {
        let brokers = self.isolation.kafka_brokers().to_owned();
        Destination {
            brokers,
            topic: self.topic.clone(),
            keep_places: false,
        }
    }

    /// Writes the basic data of a feed's funds into MySQL, so that lookups hit.
    pub async fn seed(&self, config: &FeedConfig) -> Result<()> {
        BasicSeed::new(config).insert(&self.pool, "t_fund_basic_info").await
    }

    /// Returns committed positions and ends of all partitions, in order.
    pub async fn positions(&self) -> Result<Vec<(Option<i64>, i64)>> {
        let (brokers, group) = (self.isolation.kafka_brokers().to_owned(), self.isolation.group());
        let (topic, partitions) = (self.topic.clone(), self.options.partitions);
        blocking("look at positions", Duration::from_secs(20), move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("group.id", group)
                .set("isolation.level", "read_committed")
                .create()?;
            let limit = Duration::from_secs(5);
            let mut list = TopicPartitionList::new();
            for partition in 0..partitions {
                list.add_partition(&topic, i32::from(partition));
            }
            let committed = consumer.committed_offsets(list, limit)?;
            committed
                .elements()
                .iter()
                .map(|element| {
                    let (_, high) = consumer.fetch_watermarks(&topic, element.partition(), limit)?;
                    let committed = match element.offset() {
                        rdkafka::Offset::Offset(offset) => Some(offset),
                        _ => None,
                    };
                    Ok((committed, high))
                })
                .collect()
        })
        .await
    }

    /// Waits until everything in the topic is committed.
    pub async fn caught_up(&self, limit: Duration) -> Result<()> {
        let waited = wait_for("committed positions at the end of the topic", limit, async || {
            let positions = self.positions().await.map_err(|error| format!("{error:#}"))?;
            let behind: Vec<_> = positions
                .iter()
                .filter(|(committed, end)| committed.unwrap_or(0) < *end)
                .collect();
            if behind.is_empty() {
                Ok(())
            } else {
                Err(format!("(committed, end): {positions:?}"))
            }
        })
        .await;
        waited.with_context(|| self.all_logs())
    }

    /// Stops every running worker in order and checks that each ended with code 0.
    pub async fn stop(&mut self) -> Result<()> {
        for number in 0..self.workers.len() {
            if self.workers[number].pid().is_some() {
                self.workers[number].signal(nix::sys::signal::Signal::SIGTERM)?;
                let code = self.workers[number].wait(crate::cluster::STOP_LIMIT).await?;
                ensure!(
                    code == Some(0),
                    "{} ended with {code:?}\n{}",
                    self.names[number],
                    self.log_of(number)
                );
            }
        }
        Ok(())
    }
}
