//! What is known of workers, data types and partitions: from heartbeats in Redis, and stops in MySQL.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use reprise_shared::catalog::{Catalog, LookupIndex};
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::ingest_state::deferred::{self, Owed};
use reprise_shared::ingest_state::stops::{self, PartitionStop, TypeState};
use reprise_shared::lookup_changes::Change;
use reprise_shared::mysql::{AsDriverError, Database};
use reprise_shared::position::{Partition, TopicName, TopicPartition};
use reprise_shared::redis::{self, Redis};
use reprise_shared::telemetry::chain;
use serde_json::{Value, json};

use crate::audit;

/// At most so many owed intervals are looked at.
pub const MOST_OWED: u32 = 10_000;
/// At most so many stopped partitions are looked at.
const MOST_STOPS: u32 = 10_000;

/// Why nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis did not answer.
    #[error("ask redis")]
    Redis(#[from] redis::Error),
    /// MySQL did not answer.
    #[error("ask mysql")]
    Mysql(#[from] sqlx::Error),
}

impl AsDriverError for Error {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Mysql(error) => Some(error),
            Self::Redis(_) => None,
        }
    }
}

/// Asks Redis and MySQL. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    catalog: Arc<Catalog>,
    database: Database,
    redis: Redis,
    heartbeats: heartbeat::Store,
    clock: Clock,
}

/// How far a partition is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// Its stop, if it is stopped.
    pub stop: Option<PartitionStop>,
    /// The worker that has it, and what that says of it.
    pub worker: Option<(String, heartbeat::Partition)>,
}

impl Lag {
    /// Returns the offsets between the committed position and the end.
    pub fn offsets(&self) -> Option<u64> {
        let (_, told) = self.worker.as_ref()?;
        Some(told.end?.saturating_sub(told.committed?))
    }
}

impl Fleet {
    /// Makes it; nothing is asked yet.
    pub fn new(catalog: Arc<Catalog>, database: Database, redis: Redis, clock: Clock) -> Self {
        // The interval matters to those who send.
        let heartbeats = heartbeat::Store::new(redis.clone(), heartbeat::Store::DEFAULT_INTERVAL);
        Self {
            catalog,
            database,
            redis,
            heartbeats,
            clock,
        }
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Lists the workers that were heard of lately, by id.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn workers(&self) -> Result<heartbeat::Fleet, Error> {
        Ok(self.heartbeats.list(self.clock.now()).await?)
    }

    /// Returns each data type's state, where it is not simply running, by name.
    ///
    /// # Errors
    /// When MySQL does not answer.
    pub async fn type_states(&self) -> Result<HashMap<String, TypeState>, Error> {
        let states = stops::type_states(self.database.pool()).await?;
        Ok(states
            .into_iter()
            .map(|state| (state.data_type.clone(), state))
            .collect())
    }

    /// Returns what is owed of each data type, by name; at most [`MOST_OWED`] intervals of all together.
    ///
    /// # Errors
    /// When MySQL does not answer.
    pub async fn owed(&self) -> Result<HashMap<String, Vec<Owed>>, Error> {
        let mut by_type: HashMap<String, Vec<Owed>> = HashMap::new();
        for owed in deferred::owed_of(self.database.pool(), None, MOST_OWED).await? {
            by_type.entry(owed.interval.data_type.clone()).or_default().push(owed);
        }
        Ok(by_type)
    }

    /// Lists the partitions of one topic, or of all, that a worker has or that are stopped, by topic and number.
    ///
    /// # Errors
    /// When Redis or MySQL does not answer.
    pub async fn lags(&self, topic: Option<&TopicName>) -> Result<Vec<Lag>, Error> {
        let (workers, stopped) = tokio::join!(self.workers(), stops::partition_stops(self.database.pool(), MOST_STOPS));
        Ok(lags(workers?, stopped?, topic))
    }

    /// Makes all workers forget keys of a lookup, or all when none are given. Returns how many listened. The audit
    /// event is written first and becomes visible when Redis took the call, or says that it failed.
    ///
    /// # Errors
    /// When Redis or MySQL did not take it. Workers may have forgotten the keys then, which does no harm.
    pub async fn refresh_lookup(
        &self,
        lookup: LookupIndex,
        keys: Vec<String>,
        principal: String,
        request_id: String,
    ) -> Result<u64, Error> {
        let name = self.catalog.lookup(lookup).name.clone();
        let mut event = audit::Event {
            principal,
            method: "FleetService/RefreshLookup".to_owned(),
            target: format!("lookups/{name}"),
            before: Value::Null,
            after: json!({ "all": keys.is_empty(), "keys": keys.len() }),
            outcome: audit::Outcome::Done,
            reason: String::new(),
            request_id: Some(request_id).filter(|id| !id.is_empty()),
        };
        let change = Change {
            lookup: name,
            all: keys.is_empty(),
            keys,
        };
        let work = Arc::new((event.clone(), change, self.redis.clone()));
        let refreshed = self.database.tx("refresh_lookup", move |connection| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (event, change, redis) = &*work;
                audit::record(connection, event).await?;
                Ok(change.publish(redis).await?)
            })
        });
        let refreshed: Result<u64, Error> = refreshed.await;
        if let Err(Error::Redis(error)) = &refreshed {
            event.outcome = audit::Outcome::Failed;
            event.reason = chain(error).to_string();
            audit::record_all(&self.database, vec![event]).await?;
        }
        refreshed
    }
}

/// Puts together what workers tell and what is stopped. While a partition moves, two workers may tell of it: the one
/// that was heard of last counts.
fn lags(fleet: heartbeat::Fleet, stopped: Vec<(TopicPartition, PartitionStop)>, topic: Option<&TopicName>) -> Vec<Lag> {
    let mut all: BTreeMap<TopicPartition, (Option<Timestamp>, Lag)> = BTreeMap::new();
    let empty = |partition: TopicPartition| {
        let lag = Lag {
            partition,
            stop: None,
            worker: None,
        };
        (None, lag)
    };
    for worker in fleet.workers {
        for told in worker.partitions {
            let partition = TopicPartition {
                topic: TopicName::new(&told.topic),
                partition: Partition(told.partition),
            };
            let (heard, lag) = all.entry(partition.clone()).or_insert_with(|| empty(partition));
            if heard.is_none_or(|heard| heard < worker.sent_at) {
                *heard = Some(worker.sent_at);
                lag.worker = Some((worker.worker.clone(), told));
            }
        }
    }
    for (partition, stop) in stopped {
        let (_, lag) = all.entry(partition.clone()).or_insert_with(|| empty(partition));
        lag.stop = Some(stop);
    }
    let lags = all.into_values().map(|(_, lag)| lag);
    lags.filter(|lag| topic.is_none_or(|topic| lag.partition.topic == *topic))
        .collect()
}

/// Changes with every stop and start of a data type.
pub fn etag(state: Option<&TypeState>) -> String {
    match state {
        Some(state) => format!(
            "{}-{}-{}",
            u8::from(state.stopped),
            u8::from(state.in_key_off),
            state.changed_at.as_millisecond()
        ),
        None => "running".to_owned(),
    }
}
