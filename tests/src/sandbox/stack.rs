//! A stack that is up, as its clients see it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reprise_shared::catalog::{self, Catalog};
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::mysql::{self, Database};
use reprise_shared::redis::{Redis, Settings};
use sqlx::mysql::MySqlPool;

use super::api::{self, Jobs, Whitelist};
use super::state::EndpointsFile;
use crate::wait::blocking;

/// The topic of the shipped catalog.
pub(super) const TOPIC: &str = "fund-data";
/// The ingest workers' consumer group.
pub(super) const GROUP: &str = "reprise-ingest";
/// How often the stack's workers send a heartbeat.
pub(super) const HEARTBEAT: Duration = Duration::from_millis(500);

/// Clients of a stack.
pub(super) struct Stack {
    /// Where everything is.
    pub(super) endpoints: EndpointsFile,
    /// The catalog that the workers run.
    pub(super) catalog: Catalog,
    /// The database.
    pub(super) pool: MySqlPool,
    /// Redis, under the keys' prefix.
    pub(super) redis: Redis,
}

/// How far one partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Its number.
    pub(super) partition: u16,
    /// Where the group goes on; `None` before its first commit.
    pub(super) committed: Option<u64>,
    /// The position after its last record.
    pub(super) end: u64,
}

impl Stack {
    /// Reads where the stack in `folder` is. Nothing is connected yet.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let endpoints = EndpointsFile::read(folder)?.context("no stack is up: start one with ./dev up")?;
        Self::at(endpoints, folder)
    }

    /// Makes clients of a stack whose endpoints are known.
    pub(super) fn at(endpoints: EndpointsFile, folder: &Path) -> Result<Self> {
        let config = mysql::Config {
            url: endpoints.mysql.clone().into(),
            max_connections: 4,
            ..mysql::Config::default()
        };
        Ok(Self {
            catalog: catalog::load(&catalog_path(folder)?)?,
            pool: Database::new(&config, Clock::system())?.pool().clone(),
            redis: Redis::open(Settings::new(endpoints.redis.clone()))?,
            endpoints,
        })
    }

    /// Returns the control plane's whitelist, as an operator calls it.
    pub(super) fn whitelist(&self) -> Result<Whitelist> {
        api::whitelist(&self.endpoints)
    }

    /// Returns the control plane's jobs, as an operator calls them.
    pub(super) fn jobs(&self) -> Result<Jobs> {
        api::jobs(&self.endpoints)
    }

    /// Returns the heartbeats of the workers that are there.
    pub(super) async fn workers(&self) -> Result<heartbeat::Fleet> {
        let store = heartbeat::Store::new(self.redis.clone(), HEARTBEAT);
        Ok(store.list(Clock::system().now()).await?)
    }

    /// Returns every partition of the topic, in order.
    pub(super) async fn positions(&self) -> Result<Vec<Position>> {
        let brokers = self.endpoints.kafka.clone();
        blocking("a look at the positions", Duration::from_secs(30), move || {
            positions(&brokers)
        })
        .await
    }
}

fn positions(brokers: &str) -> Result<Vec<Position>> {
    const LIMIT: Duration = Duration::from_secs(5);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", GROUP)
        .create()
        .context("make a Kafka client")?;
    let metadata = consumer
        .fetch_metadata(Some(TOPIC), LIMIT)
        .context("ask for the topic")?;
    let topic = metadata.topics().first().context("no metadata of the topic")?;
    ensure!(!topic.partitions().is_empty(), "there is no topic {TOPIC}");
    let mut list = TopicPartitionList::new();
    for partition in topic.partitions() {
        list.add_partition(TOPIC, partition.id());
    }
    let committed = consumer
        .committed_offsets(list, LIMIT)
        .context("read the committed positions")?;
    let mut positions = Vec::new();
    for element in committed.elements() {
        let (_, end) = consumer
            .fetch_watermarks(TOPIC, element.partition(), LIMIT)
            .context("read a partition's end")?;
        positions.push(Position {
            partition: u16::try_from(element.partition()).context("a partition's number")?,
            committed: match element.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            },
            end: u64::try_from(end).context("a partition's end")?,
        });
    }
    positions.sort_by_key(|position| position.partition);
    Ok(positions)
}

/// Returns `config/catalog.yaml` of the checkout that the stack's folder, or else this process, stands in.
pub(super) fn catalog_path(folder: &Path) -> Result<PathBuf> {
    let here = std::env::current_dir().context("find the current folder")?;
    folder
        .ancestors()
        .chain(here.ancestors())
        .map(|folder| folder.join("config/catalog.yaml"))
        .find(|path| path.is_file())
        .context("there is no config/catalog.yaml above the stack's folder: run this in a checkout of reprise")
}
