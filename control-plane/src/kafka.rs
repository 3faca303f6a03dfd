//! What the services ask Kafka: topics, ends of logs, offsets of times, committed positions.
//!
//! One client for all of them, which reads no record, joins no group and commits nothing, so the broker lists no group
//! because of it. Its calls block, so each runs on a blocking thread; a caller stops waiting after `ingest.kafka_call`,
//! and at most [`PARALLEL`] calls are inside the library at one time, also those that nobody waits for any more.

mod first_record;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as Mark, TopicPartitionList};
use reprise_shared::config::KafkaConfig;
use reprise_shared::kafka::client::{consumer_config, worker_of};
use reprise_shared::kafka::describe::{self, Described, describe_topics};
use reprise_shared::ledger::{Interval, Millis};
use reprise_shared::position::{Offset, Partition, TopicId, TopicName};
use tokio::sync::Semaphore;

use crate::config::IngestGroup;

/// So many calls are inside the library at one time.
pub const PARALLEL: usize = 8;
/// How long the thread that serves the client's events waits for one.
const EVENTS: Duration = Duration::from_millis(500);

/// Why Kafka gave no answer. All are transient but [`Error::Client`], [`Error::Thread`] and [`Error::TopicMissing`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client's settings are refused.
    #[error("make the client")]
    Client(#[source] KafkaError),
    /// The system refused a thread.
    #[error("start the client's thread")]
    Thread(#[source] io::Error),
    /// No answer in time.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// Which call.
        what: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// A call failed.
    #[error("{what}")]
    Call {
        /// Which call.
        what: &'static str,
        /// Why.
        #[source]
        source: KafkaError,
    },
    /// A topic could not be described.
    #[error("describe the topic {topic}")]
    Describe {
        /// Which topic.
        topic: TopicName,
        /// Why.
        #[source]
        source: describe::Error,
    },
    /// The topic does not exist.
    #[error("the topic {0} does not exist")]
    TopicMissing(TopicName),
    /// The answer lacks what was asked for.
    #[error("the answer to {0} is not whole")]
    Incomplete(&'static str),
}

/// A topic as the broker knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: usize,
}

/// Asks Kafka. Cheap to clone; the client ends with the last clone.
#[derive(Clone)]
pub struct Kafka(Arc<Shared>);

struct Shared {
    consumer: Arc<BaseConsumer<Context>>,
    closed: Arc<AtomicBool>,
    permits: Arc<Semaphore>,
    limit: Duration,
    config: KafkaConfig,
    group: String,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Release);
    }
}

impl Kafka {
    /// Makes the client; nothing is asked yet.
    ///
    /// # Errors
    /// When its settings are refused, or the system refuses a thread.
    pub fn open(config: &KafkaConfig, ingest: &IngestGroup) -> Result<Self, Error> {
        let client = consumer_config(config, &ingest.group).create_with_context(Context);
        let consumer: Arc<BaseConsumer<Context>> = Arc::new(client.map_err(Error::Client)?);
        let closed = Arc::new(AtomicBool::new(false));
        // Logs and errors wait in the client until somebody takes them. The thread also drops the client, which blocks.
        let (served, ended) = (Arc::clone(&consumer), Arc::clone(&closed));
        std::thread::Builder::new()
            .name("kafka-events".to_owned())
            .spawn(move || {
                while !ended.load(Ordering::Acquire) {
                    if let Some(Err(error)) = served.poll(EVENTS) {
                        tracing::debug!(%error, "kafka client");
                    }
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self(Arc::new(Shared {
            consumer,
            closed,
            permits: Arc::new(Semaphore::new(PARALLEL)),
            limit: ingest.kafka_call,
            config: config.clone(),
            group: ingest.group.clone(),
        })))
    }

    /// Returns how Kafka is reached.
    pub fn config(&self) -> &KafkaConfig {
        &self.0.config
    }

    /// Returns the group of the ingest workers.
    pub fn group(&self) -> &str {
        &self.0.group
    }

    /// Returns how long a call is waited for.
    pub fn call_limit(&self) -> Duration {
        self.0.limit
    }

    /// Looks a topic up.
    ///
    /// # Errors
    /// [`Error::TopicMissing`] when there is none, or why Kafka gave no answer.
    pub async fn topic(&self, name: &TopicName) -> Result<Topic, Error> {
        let (asked, limit) = (name.clone(), self.0.limit);
        let described = self
            .call("describe a topic", move |consumer| {
                let mut described =
                    describe_topics(consumer.client(), std::slice::from_ref(&asked), limit).map_err(|source| {
                        Error::Describe {
                            topic: asked.clone(),
                            source,
                        }
                    })?;
                Ok(described.remove(&asked))
            })
            .await?;
        match described {
            Some(Described::Topic { id, partitions }) => Ok(Topic { id, partitions }),
            Some(Described::Missing) | None => Err(Error::TopicMissing(name.clone())),
        }
    }

    /// Returns each partition's log: its start and its last stable offset, in the order asked.
    ///
    /// # Errors
    /// Why Kafka gave no answer.
    pub async fn logs(&self, topic: &TopicName, partitions: &[Partition]) -> Result<Vec<Interval>, Error> {
        const WHAT: &str = "ask for the ends of logs";
        let (topic, partitions, limit) = (topic.clone(), partitions.to_vec(), self.0.limit);
        self.call(WHAT, move |consumer| {
            let log = |partition: &Partition| {
                let (low, high) = consumer
                    .fetch_watermarks(topic.as_str(), partition.to_kafka(), limit)
                    .map_err(|source| Error::Call { what: WHAT, source })?;
                let ends = Offset::from_kafka(low).zip(Offset::from_kafka(high));
                ends.map(|(start, end)| Interval::new(start, end))
                    .ok_or(Error::Incomplete(WHAT))
            };
            partitions.iter().map(log).collect()
        })
        .await
    }

    /// Returns, for each partition, the first offset whose record's own time is `time` or later; `None`: there is none.
    /// Later records may have earlier times. The offset may also be that of a transaction's marker, which counts with
    /// the broker's time, or of an aborted record: it is never above that of the first such record, but may be below.
    ///
    /// # Errors
    /// Why Kafka gave no answer.
    pub async fn offsets_at(
        &self,
        topic: &TopicName,
        partitions: &[Partition],
        time: Millis,
    ) -> Result<Vec<Option<Offset>>, Error> {
        const WHAT: &str = "ask for the offsets of a time";
        // Kafka reads -1 and -2 as its ends, and knows no time before 1970.
        let asked = list(topic, partitions, Mark::Offset(time.0.max(0)), WHAT)?;
        let limit = self.0.limit;
        let answer = self
            .call(WHAT, move |consumer| {
                consumer
                    .offsets_for_times(asked, limit)
                    .map_err(|source| Error::Call { what: WHAT, source })
            })
            .await?;
        read(&answer, topic, partitions, WHAT)
    }

    /// Returns each partition's position that the ingest workers' group committed; `None`: it has none.
    ///
    /// # Errors
    /// Why Kafka gave no answer.
    pub async fn committed(&self, topic: &TopicName, partitions: &[Partition]) -> Result<Vec<Option<Offset>>, Error> {
        const WHAT: &str = "ask for committed positions";
        let asked = list(topic, partitions, Mark::Invalid, WHAT)?;
        let limit = self.0.limit;
        let answer = self
            .call(WHAT, move |consumer| {
                consumer
                    .committed_offsets(asked, limit)
                    .map_err(|source| Error::Call { what: WHAT, source })
            })
            .await?;
        read(&answer, topic, partitions, WHAT)
    }

    /// Returns the ids of the workers that are members of the ingest workers' group now.
    ///
    /// # Errors
    /// Why Kafka gave no answer.
    pub async fn members(&self) -> Result<Vec<String>, Error> {
        const WHAT: &str = "ask for the members of the group";
        let (group, limit) = (self.0.group.clone(), self.0.limit);
        self.call(WHAT, move |consumer| {
            let groups = consumer
                .fetch_group_list(Some(&group), limit)
                .map_err(|source| Error::Call { what: WHAT, source })?;
            let members = groups.groups().iter().filter(|found| found.name() == group);
            let members = members.flat_map(|found| found.members());
            Ok(members.map(|member| worker_of(member.client_id()).to_owned()).collect())
        })
        .await
    }

    /// Runs a blocking call. Cancel-safe in that the call still runs to its end.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl FnOnce(&BaseConsumer<Context>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = Arc::clone(&self.0);
        let limit = shared.limit;
        let worked = async move {
            let permit = Arc::clone(&shared.permits).acquire_owned().await;
            let permit = permit.map_err(|_| Error::Incomplete(what))?;
            let consumer = Arc::clone(&shared.consumer);
            let worked = tokio::task::spawn_blocking(move || {
                let answer = call(&consumer);
                drop(permit);
                answer
            });
            // It panicked, or the runtime ends.
            worked.await.map_err(|_| Error::Incomplete(what))?
        };
        let timed_out = |_| Error::TimedOut { what, limit };
        tokio::time::timeout(limit, worked).await.map_err(timed_out)?
    }
}

fn list(
    topic: &TopicName,
    partitions: &[Partition],
    mark: Mark,
    what: &'static str,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition_offset(topic.as_str(), partition.to_kafka(), mark)
            .map_err(|source| Error::Call { what, source })?;
    }
    Ok(list)
}

/// Reads an answer. An element that failed may still hold what was asked with, so each is checked.
fn read(
    answer: &TopicPartitionList,
    topic: &TopicName,
    partitions: &[Partition],
    what: &'static str,
) -> Result<Vec<Option<Offset>>, Error> {
    let offset = |partition: &Partition| {
        let element = answer.find_partition(topic.as_str(), partition.to_kafka());
        let element = element.ok_or(Error::Incomplete(what))?;
        element.error().map_err(|source| Error::Call { what, source })?;
        Ok(match element.offset() {
            Mark::Offset(offset) => Offset::from_kafka(offset),
            _ => None,
        })
    };
    partitions.iter().map(offset).collect()
}

/// Passes the client's logs on.
struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "kafka client"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, message, "kafka client");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Context {}
