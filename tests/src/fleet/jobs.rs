//! Jobs on a fleet: made straight in the store, watched to their end, and held against the oracle.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reprise_shared::catalog;
use reprise_shared::clock::Clock;
use reprise_shared::jobs::{
    self, Event, Job, JobId, JobState, Kind, Missing, Mode, NewJob, Progress, Slice, WriteCounts,
};
use reprise_shared::kafka::describe::{Described, describe_topics};
use reprise_shared::mysql::{self, Database};
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use reprise_shared::whitelist::Version;

use super::Fleet;
use crate::env::Isolation;
use crate::feed::{BasicSeed, FeedConfig};
use crate::oracle::{Folded, Oracle, Rules};
use crate::wait::{Seen, blocking, wait_for};

const LIMIT: Duration = Duration::from_secs(20);

/// What a job is to do.
#[derive(Clone, Debug)]
pub struct Asked {
    /// How it writes.
    pub mode: Mode,
    /// What it does.
    pub kind: Kind,
    /// The ids that pass; `None`: all.
    pub ids: Option<Vec<String>>,
    /// Slices of at most so many offsets.
    pub slice: u64,
    /// The job's limit.
    pub per_second: Option<u64>,
    /// Whether missing positions are passed over.
    pub allow_partial: bool,
    /// Whether it deletes first.
    pub clean_first: bool,
    /// Lanes of each task.
    pub lanes: u8,
    /// Higher goes first.
    pub priority: i16,
    /// Record times that pass.
    pub times: (Option<jiff::Timestamp>, Option<jiff::Timestamp>),
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            mode: Mode::Live,
            kind: Kind::Replay,
            ids: None,
            slice: 200_000,
            per_second: None,
            allow_partial: false,
            clean_first: false,
            lanes: 2,
            priority: 0,
            times: (None, None),
        }
    }
}

/// Adds up what rows came to, in a job that does not only compare.
pub fn sum_of(written: &WriteCounts) -> u64 {
    written.inserted + written.updated + written.unchanged + written.stale + written.superseded + written.dead_lettered
}

impl Fleet {
    /// Returns a client of the fleet's database.
    pub fn database(&self) -> Result<Database> {
        let config = mysql::Config {
            url: self.isolation.mysql_url().into(),
            max_connections: 4,
            ..mysql::Config::default()
        };
        Ok(Database::new(&config, Clock::system())?)
    }

    /// Returns the topic's id.
    pub async fn topic_id(&self) -> Result<TopicId> {
        let (brokers, topic) = (self.isolation.kafka_brokers().to_owned(), TopicName::new(&self.topic));
        blocking("describe the topic", LIMIT, move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("group.id", "reprise-tests")
                .create()?;
            let described = describe_topics(consumer.client(), std::slice::from_ref(&topic), LIMIT)?;
            match described.get(&topic) {
                Some(Described::Topic { id, .. }) => Ok(id.clone()),
                other => bail!("the topic is {other:?}"),
            }
        })
        .await
    }

    /// Returns the log's bounds of each partition, up to the last stable offset.
    pub async fn bounds(&self) -> Result<Vec<(u64, u64)>> {
        let (brokers, topic) = (self.isolation.kafka_brokers().to_owned(), self.topic.clone());
        let partitions = self.options.partitions;
        blocking("look at watermarks", LIMIT, move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("group.id", "reprise-tests")
                .set("isolation.level", "read_committed")
                .create()?;
            (0..partitions)
                .map(|partition| {
                    let (low, high) = consumer.fetch_watermarks(&topic, i32::from(partition), LIMIT)?;
                    Ok((u64::try_from(low)?, u64::try_from(high)?))
                })
                .collect()
        })
        .await
    }

    /// Makes the slices of one type over whole partitions, of at most `most` offsets each.
    pub async fn slices(&self, data_type: &str, most: u64) -> Result<Vec<Slice>> {
        let bounds = self.bounds().await?;
        let mut slices = Vec::new();
        for (partition, (low, high)) in (0..).zip(bounds) {
            let mut start = low;
            while start < high {
                let end = high.min(start + most);
                slices.push(self.slice(data_type, partition, start..end).await?);
                start = end;
            }
        }
        Ok(slices)
    }

    /// Makes a slice of one type.
    pub async fn slice(&self, data_type: &str, partition: u16, offsets: std::ops::Range<u64>) -> Result<Slice> {
        Ok(Slice {
            data_type: data_type.to_owned(),
            topic_partition: TopicPartition {
                topic: TopicName::new(&self.topic),
                partition: Partition(partition),
            },
            topic_id: self.topic_id().await?,
            generation: TopicGeneration(0),
            start: Offset(offsets.start),
            end: Offset(offsets.end),
            filter: None,
            record_time_from: None,
            record_time_to: None,
        })
    }

    /// Creates a job of one type over everything that is in the topic.
    pub async fn replay(&self, data_type: &str, asked: &Asked) -> Result<JobId> {
        let slices = self.slices(data_type, asked.slice).await?;
        self.replay_slices(slices, asked).await
    }

    /// Creates a job of slices of one type.
    pub async fn replay_slices(&self, mut slices: Vec<Slice>, asked: &Asked) -> Result<JobId> {
        let catalog = catalog::load(&self.catalog_path()).context("load the fleet's catalog")?;
        let names: BTreeSet<String> = match asked.kind {
            Kind::Replay => slices.iter().map(|slice| slice.data_type.clone()).collect(),
            Kind::Rebuild => catalog
                .data_types
                .iter()
                .map(|data_type| data_type.name.clone())
                .collect(),
        };
        let types: Option<Vec<_>> = names.iter().map(|name| catalog.find_data_type(name)).collect();
        for slice in &mut slices {
            slice.filter = asked.ids.as_ref().map(|_| 0);
            (slice.record_time_from, slice.record_time_to) = asked.times;
        }
        let job = NewJob {
            kind: asked.kind,
            mode: asked.mode,
            spec: "{}".to_owned(),
            labels: "{}".to_owned(),
            catalog_hash: catalog.hash_of(&types.context("a type that the catalog does not have")?),
            data_types: names.into_iter().collect(),
            whitelist_version: Version(1),
            clean_first: asked.clean_first,
            allow_partial: asked.allow_partial,
            priority: asked.priority,
            max_records_per_second: asked.per_second,
            estimated_records: 0,
            created_by: "a test".to_owned(),
            slices,
            filters: asked.ids.iter().cloned().collect(),
            missing: Vec::new(),
            lanes: asked.lanes,
        };
        let id = JobId::random();
        self.database()?
            .tx("create_job", move |connection| {
                let job = job.clone();
                Box::pin(async move { jobs::create(connection, id, &job).await })
            })
            .await?;
        Ok(id)
    }

    /// Returns a job.
    pub async fn job(&self, id: JobId) -> Result<Job> {
        jobs::job(&self.pool, id).await?.context("the job is gone")
    }

    /// Waits until a job ended, settling it as a control plane does, and returns it.
    pub async fn job_ends(&self, id: JobId, limit: Duration) -> Result<Job> {
        let database = self.database()?;
        let waited = wait_for("the job's end", limit, async || {
            let state = match jobs::settle(&database, id).await {
                Ok(state) => state,
                Err(error) => return Seen::NotYet(format!("{error:#}")),
            };
            if state.is_final() {
                return Seen::Ready(());
            }
            match jobs::progress(&self.pool, id).await {
                Ok(progress) => Seen::NotYet(format!("{state:?}: {progress:?}")),
                Err(error) => Seen::NotYet(format!("{state:?}: {error:#}")),
            }
        });
        waited.await.with_context(|| self.all_logs())?;
        self.job(id).await
    }

    /// Waits until a job succeeded, and returns how far it came.
    pub async fn job_succeeds(&self, id: JobId, limit: Duration) -> Result<Progress> {
        let job = self.job_ends(id, limit).await?;
        ensure!(
            job.state == JobState::Succeeded,
            "the job ended {:?}: {} {}\n{}",
            job.state,
            job.reason,
            job.detail,
            self.all_logs()
        );
        self.progress(id).await
    }

    /// Returns how many transactions of a job's lanes were committed.
    pub async fn batches(&self, id: JobId) -> Result<u64> {
        let query = "SELECT CAST(SUM(batches) AS UNSIGNED) FROM task_lanes WHERE job_id = ?";
        Ok(sqlx::query_scalar(query)
            .bind(id.to_string())
            .fetch_one(&self.pool)
            .await?)
    }

    /// Returns how far a job is.
    pub async fn progress(&self, id: JobId) -> Result<Progress> {
        Ok(jobs::progress(&self.pool, id).await?)
    }

    /// Waits until a job has read so many records more.
    pub async fn job_reads(&self, id: JobId, records: u64, limit: Duration) -> Result<()> {
        let before = self.progress(id).await?.read.read;
        let waited = wait_for("the job to read", limit, async || {
            let progress = self.progress(id).await.map_err(|error| format!("{error:#}"))?;
            if progress.read.read >= before + records || progress.tasks_done == progress.tasks {
                Ok(())
            } else {
                Err(format!("{before} were read, now {progress:?}"))
            }
        });
        waited.await.with_context(|| self.all_logs())
    }

    /// Asks something of a job, as a person does.
    pub async fn ask(&self, id: JobId, event: Event) -> Result<JobState> {
        let database = self.database()?;
        let answer = database.tx("ask_job", move |connection| {
            Box::pin(async move { jobs::ask(connection, id, event, None).await })
        });
        match answer.await? {
            Ok(job) => Ok(job.state),
            Err(refused) => bail!("{event:?} was refused: {refused:?}"),
        }
    }

    /// Takes a job's limit of records a second away.
    pub async fn unlimit(&self, id: JobId) -> Result<()> {
        let database = self.database()?;
        let answer = database.tx("unlimit", move |connection| {
            Box::pin(async move { jobs::update(connection, id, None, None, Some(None)).await })
        });
        answer
            .await?
            .map(|_| ())
            .map_err(|refused| anyhow::anyhow!("refused: {refused:?}"))
    }

    /// Waits for a state of a job, settling it as a control plane does.
    pub async fn job_is(&self, id: JobId, state: JobState, limit: Duration) -> Result<()> {
        let database = self.database()?;
        let waited = wait_for("the job's state", limit, async || {
            let found = jobs::settle(&database, id)
                .await
                .map_err(|error| format!("{error:#}"))?;
            if found == state {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
        waited.await.with_context(|| self.all_logs())
    }

    /// Returns what is missing of a job: partition, start, end and reason.
    pub async fn missing(&self, id: JobId) -> Result<Vec<(u16, u64, u64, &'static str)>> {
        let missing: Vec<Missing> = jobs::missing(&self.pool, id).await?;
        Ok(missing
            .iter()
            .map(|one| {
                (
                    one.topic_partition.partition.0,
                    one.start.0,
                    one.end.0,
                    one.reason.as_str(),
                )
            })
            .collect())
    }

    /// Lists the broker's consumer groups that this fleet or any replay might have made. Live groups of other tests, which
    /// may have a replay in their names, are none of them.
    pub async fn groups(&self) -> Result<Vec<String>> {
        let brokers = self.isolation.kafka_brokers().to_owned();
        let own = self.isolation.group();
        blocking("list groups", LIMIT, move || {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("group.id", "reprise-tests")
                .create()?;
            let groups = consumer.fetch_group_list(None, LIMIT)?;
            let names = groups.groups().iter().map(|group| group.name().to_owned());
            let is_ours = |name: &String| {
                name.starts_with(&own) || (name.contains("replay") && !name.starts_with(Isolation::PREFIX))
            };
            Ok(names.filter(is_ours).collect())
        })
        .await
    }

    /// Folds the records of one type that lie in some slices, as if nothing else was in the topic.
    pub async fn oracle_of(&self, slices: &[Slice], asked: &Asked, seed: FeedConfig) -> Result<(Folded, u64)> {
        let (brokers, topic) = (self.isolation.kafka_brokers().to_owned(), self.topic.clone());
        let (slices, ids, times) = (slices.to_vec(), asked.ids.clone(), asked.times);
        blocking("fold the slices", Duration::from_secs(600), move || {
            let mut oracle = Oracle::read_topic(&brokers, &topic)?;
            let mut read = 0_u64;
            oracle.retain(|record| {
                let Some(slice) = slices.iter().find(|slice| {
                    slice.topic_partition.partition == record.partition
                        && (slice.start..slice.end).contains(&record.offset)
                }) else {
                    return false;
                };
                read += 1;
                record.data_type == Some(slice.data_type.as_bytes())
            });
            let after = times.0.map_or(i64::MIN, jiff::Timestamp::as_millisecond);
            let before = times.1.map_or(i64::MAX, jiff::Timestamp::as_millisecond);
            oracle.retain(|record| {
                let time = record.time.unwrap_or(-1);
                record.payload.is_none() || (after..before).contains(&time)
            });
            let ids: Option<BTreeSet<String>> = ids.map(|ids| ids.into_iter().collect());
            let lets = |id: &str| ids.as_ref().is_none_or(|ids| ids.contains(id));
            let basic = BasicSeed::new(&seed);
            let lookup = basic.lookup();
            let rules = Rules {
                allowed: &lets,
                seed: Some(basic),
                ..Rules::new(&lookup, Clock::system().now())
            };
            Ok((oracle.fold(&rules), read))
        })
        .await
    }
}
