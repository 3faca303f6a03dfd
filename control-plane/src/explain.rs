//! "Why was this fund not updated?": what became of one record, or of all records of an id in a time window.
//!
//! The record is read where it stands in Kafka (`read`), judged by the workers' own code (`record`), and compared with
//! everything on record about it (`gather`): ledger, whitelist at the version that judged it, dead letters, deferred
//! intervals, and the table's row of the same key. What that comes to is decided in `judge`, in one place and without
//! I/O, and told in words by `words`. Nothing is committed, no group is joined, and no payload leaves this module.

mod config;
mod evidence;
mod find;
mod gather;
mod judge;
mod order;
mod read;
mod record;
mod table;
mod whitelists;
mod window;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::decode::{Limits, PlanError, Plans};
use reprise_shared::enrich::{self, Lookups};
use reprise_shared::ledger;
use reprise_shared::matching::TopicPlan;
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use reprise_shared::redis::{self, Redis};
use reprise_shared::supervise::Supervisor;
use reprise_shared::whitelist::Version;
use sqlx::mysql::MySqlPool;
use tokio::sync::Semaphore;

pub use self::config::Config;
pub use self::judge::Outcome;
pub use self::window::Window;

use self::whitelists::Whitelists;
use crate::kafka::{self, Kafka};
use crate::whitelist;

/// At most this many records are explained by one call.
pub const MOST_RECORDS: usize = 100;

/// Why records cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The topic belongs to no data type.
    #[error("no data type of the catalog reads topic {0}")]
    ForeignTopic(TopicName),
    /// Kafka does not have the topic.
    #[error("kafka has no topic {0}")]
    NoTopic(TopicName),
    /// The topic has fewer partitions.
    #[error("topic {topic} has {partitions} partitions, and no {partition}")]
    NoPartition {
        /// The topic.
        topic: TopicName,
        /// What was asked for.
        partition: Partition,
        /// How many it has.
        partitions: usize,
    },
    /// The record is not there yet.
    #[error("{at} ends at {end}, and has no record at {offset} yet")]
    AboveEnd {
        /// The partition.
        at: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// The last stable offset.
        end: Offset,
    },
    /// There is no record at the offset, though there are some above it, or were.
    #[error("{at} has no record at {offset}")]
    NoRecord {
        /// The partition.
        at: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// The next record.
        next: Option<Offset>,
    },
    /// Kafka was not read up to the record in time.
    #[error("{0} could not be read in time")]
    TooSlow(TopicPartition),
    /// Kafka did not answer.
    #[error("ask kafka")]
    Kafka(#[from] kafka::Error),
    /// Redis did not answer.
    #[error("ask redis")]
    Redis(#[from] redis::Error),
    /// MySQL did not answer.
    #[error("ask mysql")]
    Mysql(#[from] sqlx::Error),
    /// The whitelist's history could not be read.
    #[error("read the whitelist's history")]
    Whitelist(#[from] whitelist::Error),
    /// A lookup could not be read.
    #[error("look a value up")]
    Lookup(#[from] enrich::Error),
    /// The process ends.
    #[error("the process ends")]
    Stopping,
}

impl From<read::Error> for Error {
    fn from(error: read::Error) -> Self {
        Self::Kafka(error.into())
    }
}

/// What became of one record.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Its partition.
    pub at: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Its data type; `None`: no type matched, or it cannot be told any more.
    pub data_type: Option<TypeIndex>,
    /// Its id, where it could be read.
    pub id: Option<String>,
    /// Kafka's time of it.
    pub time: Option<Timestamp>,
    /// What became of it.
    pub outcome: Outcome,
    /// The whitelist that judged it; `None`: none did, or it is not on record.
    pub whitelist: Option<Version>,
    /// The same in words, with what to do about it.
    pub words: String,
    /// The number of its dead letter.
    pub letter: Option<u64>,
}

/// Records and whether there are more.
#[derive(Clone, Debug)]
pub struct Explanations {
    /// By partition and offset; at most [`MOST_RECORDS`].
    pub records: Vec<Explanation>,
    /// Whether there are, or may be, more.
    pub truncated: bool,
}

/// What an explainer asks.
pub struct Parts {
    /// The catalog.
    pub catalog: Arc<Catalog>,
    /// MySQL.
    pub pool: MySqlPool,
    /// Redis.
    pub redis: Redis,
    /// Kafka.
    pub kafka: Kafka,
    /// The whitelist.
    pub whitelist: whitelist::Store,
    /// Limits.
    pub config: Config,
    /// Time.
    pub clock: Clock,
}

/// Explains records. Cheap to clone.
#[derive(Clone)]
pub struct Explainer(Arc<Inner>);

struct Inner {
    plans: Arc<Plans>,
    topics: HashMap<TopicName, Arc<TopicPlan>>,
    limits: Limits,
    pool: MySqlPool,
    ledger: ledger::Reader,
    purger: ledger::Purger,
    kafka: Kafka,
    reader: read::Reader,
    whitelists: Whitelists,
    lookups: Lookups,
    config: Config,
    clock: Clock,
    calls: Semaphore,
}

/// A topic as it is now.
struct Ground {
    topic: TopicName,
    topic_id: TopicId,
    partitions: usize,
    /// The accepted generation; `None`: this incarnation was not accepted yet.
    generation: Option<TopicGeneration>,
    plan: Arc<TopicPlan>,
    /// Names of types whose key is not trusted.
    distrusted: Vec<String>,
}

impl Explainer {
    /// Makes one; nothing is asked yet. Lookups run as tasks of `supervisor`.
    ///
    /// # Errors
    /// When the catalog names a time zone that this machine does not have.
    pub fn new(parts: Parts, supervisor: &Supervisor) -> Result<Self, PlanError> {
        let Parts {
            catalog,
            pool,
            redis,
            kafka,
            whitelist,
            config,
            clock,
        } = parts;
        let type_names = catalog.data_types.iter().map(|data_type| data_type.name.clone());
        let topics = TopicPlan::compile(&catalog).into_iter();
        let lookup_limits = enrich::Limits::default();
        let lookups = Lookups::new(&catalog, pool.clone(), clock.clone(), supervisor.clone(), lookup_limits);
        Ok(Self(Arc::new(Inner {
            topics: topics.map(|plan| (plan.name.clone(), Arc::new(plan))).collect(),
            limits: config.payload(),
            ledger: ledger::Reader::new(redis.clone()),
            purger: ledger::Purger::new(redis),
            reader: read::Reader::new(&kafka, clock.clone()),
            whitelists: Whitelists::new(whitelist, type_names.collect(), config.max_whitelists),
            lookups,
            calls: Semaphore::new(config.max_calls as usize),
            plans: Arc::new(Plans::compile(catalog)?),
            pool,
            kafka,
            config,
            clock,
        })))
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        self.0.plans.catalog()
    }

    /// Explains one record.
    ///
    /// Cancel-safe: nothing is changed anywhere.
    ///
    /// # Errors
    /// There is no such record, or a store does not answer.
    pub async fn at(&self, topic: &TopicName, partition: Partition, offset: Offset) -> Result<Explanation, Error> {
        let _call = self.0.calls.acquire().await.map_err(|_| Error::Stopping)?;
        let ground = self.0.ground(topic).await?;
        if usize::from(partition.0) >= ground.partitions {
            return Err(Error::NoPartition {
                topic: topic.clone(),
                partition,
                partitions: ground.partitions,
            });
        }
        self.0.one(&ground, partition, offset).await
    }

    /// Explains the records of a type and id whose own times lie in a window, by partition and offset.
    ///
    /// Reads Kafka within the configured bounds. Cancel-safe: nothing is changed anywhere.
    ///
    /// # Errors
    /// The topic is not there, or a store does not answer.
    pub async fn of_id(&self, data_type: TypeIndex, id: &str, window: Window) -> Result<Explanations, Error> {
        let _call = self.0.calls.acquire().await.map_err(|_| Error::Stopping)?;
        let topic = self.catalog().data_type(data_type).topic.clone();
        let ground = self.0.ground(&topic).await?;
        self.0.many(&ground, data_type, id, window).await
    }
}
