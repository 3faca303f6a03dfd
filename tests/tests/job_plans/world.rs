//! A topic whose records were judged by three versions of the whitelist, and what the tasks of a plan let through of it.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::*;
use reprise_shared::jobs::{self, JobId};
use reprise_shared::whitelist::Version;
use reprise_tests::control::ControlPlane;
use reprise_tests::feed::{DataTypeMix, Feed, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use tonic::Status;
use tonic::transport::Channel;

use crate::listed::{Record, records};

type Client = JobServiceClient<Channel>;

pub(crate) const TYPES: [&str; 3] = ["fund_basic", "fund_risk", "fund_valuation"];

pub(crate) fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 40,
        step_ms: 100,
        mix: DataTypeMix {
            basic: 1,
            valuation: 4,
            risk: 4,
        },
        ..FeedConfig::default()
    }
}

/// A feed whose records' times are out of order.
pub(crate) async fn publish(fleet: &Fleet, seed: u64, records: u64) -> Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let later = i64::try_from(seed * records * 100)?;
    let records = Feed::new(feed(seed, records))?.map(|mut record| {
        record.timestamp_ms += later + random.random_range(-20_000..20_000);
        record
    });
    fleet.publish_records(records.collect()).await?;
    fleet.caught_up(PATIENCE).await
}

/// A topic whose records were judged by three versions of the whitelist.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) server: ControlPlane,
    pub(crate) client: Client,
    pub(crate) records: Vec<Record>,
    /// The ends of the partitions at each version, with whom it let through; in order.
    pub(crate) phases: Vec<(Version, Vec<u64>, BTreeSet<String>)>,
    pub(crate) now: BTreeSet<String>,
}

pub(crate) fn ids(numbers: std::ops::Range<usize>, all: &[String]) -> Vec<String> {
    all[numbers].to_vec()
}

pub(crate) async fn world(name: &str) -> Result<World> {
    let options = Options {
        settings: [("ingest.segment_records", "1000"), ("ingest.heartbeat", "1s")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Options::default()
    };
    let mut fleet = Fleet::new(name, options).await?;
    fleet.seed(&feed(1, 0)).await?;
    let settings = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("rate_limit.per_second", "0".to_owned()),
        ("jobs.max_slice", "400".to_owned()),
        ("jobs.keep_every", "200ms".to_owned()),
    ];
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    fleet.start_workers(1).await?;
    let all: Vec<String> = sqlx::query_scalar("SELECT performance_id FROM t_fund_basic_info ORDER BY performance_id")
        .fetch_all(&fleet.pool)
        .await?;
    let mut world = World {
        client: Client::new(server.channel()),
        fleet,
        server,
        records: Vec::new(),
        phases: Vec::new(),
        now: BTreeSet::new(),
    };
    world.whitelist(&ids(0..10, &all), &[]).await?;
    world.phase(1).await?;
    world.whitelist(&ids(10..20, &all), &[]).await?;
    world.phase(2).await?;
    world.whitelist(&[], &ids(5..15, &all)).await?;
    world.phase(3).await?;
    world.whitelist(&ids(18..30, &all), &[]).await?;
    world.records = records(&world.fleet).await?;
    Ok(world)
}

impl World {
    /// Changes the whitelist and waits until the worker judges by it.
    pub(crate) async fn whitelist(&mut self, added: &[String], removed: &[String]) -> Result<()> {
        let mut client = WhitelistServiceClient::new(self.server.channel());
        let after = if removed.is_empty() {
            let request = AddWhitelistEntriesRequest {
                ids: added.to_vec(),
                ..AddWhitelistEntriesRequest::default()
            };
            client.add_whitelist_entries(request).await?.into_inner().whitelist
        } else {
            let request = RemoveWhitelistEntriesRequest {
                ids: removed.to_vec(),
                ..RemoveWhitelistEntriesRequest::default()
            };
            client.remove_whitelist_entries(request).await?.into_inner().whitelist
        };
        let version = Version(after.context("no list")?.version);
        self.fleet.whitelist_applied(version, PATIENCE).await?;
        self.now.extend(added.iter().cloned());
        self.now.retain(|id| !removed.contains(id));
        self.phases.push((version, Vec::new(), self.now.clone()));
        Ok(())
    }

    pub(crate) async fn phase(&mut self, seed: u64) -> Result<()> {
        publish(&self.fleet, seed, 3_000).await?;
        let ends = self
            .fleet
            .positions()
            .await?
            .into_iter()
            .map(|(_, end)| u64::try_from(end));
        let ends = ends.collect::<Result<_, _>>()?;
        self.phases.last_mut().context("no version")?.1 = ends;
        Ok(())
    }

    /// The version that judged a record, and whom it let through.
    pub(crate) fn judged(&self, record: &Record) -> Option<&(Version, Vec<u64>, BTreeSet<String>)> {
        let partition = record.partition as usize;
        let mut phases = self.phases.iter();
        phases.find(|(_, ends, _)| ends.get(partition).is_some_and(|end| record.offset < *end))
    }

    pub(crate) async fn plan(&mut self, spec: JobSpec) -> Result<(String, JobPlan)> {
        let planned = self
            .client
            .plan_job(PlanJobRequest { spec: Some(spec) })
            .await?
            .into_inner();
        Ok((planned.plan_token, planned.plan.context("no plan")?))
    }

    /// Plans what must be refused.
    pub(crate) async fn plan_refused(&mut self, spec: JobSpec) -> Result<Status> {
        let planned = self.client.plan_job(PlanJobRequest { spec: Some(spec) }).await;
        planned.err().context("the plan was made")
    }

    pub(crate) async fn create(&mut self, plan_token: String) -> Result<Job, Status> {
        let request = CreateJobRequest {
            plan_token,
            ..CreateJobRequest::default()
        };
        let created = self.client.create_job(request).await?.into_inner();
        created.job.ok_or_else(|| Status::internal("no job"))
    }

    /// Creates the job of a plan and returns how often its tasks let each record through.
    pub(crate) async fn let_through(&mut self, token: String) -> Result<BTreeMap<(String, u32, u64), usize>> {
        let job = self.create(token).await?;
        let id = JobId::parse(&job.job_id).context("no id")?;
        let pool = &self.fleet.pool;
        let tasks = jobs::tasks(pool, id, None, 100_000).await?;
        let mut lists: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for filter in tasks.iter().filter_map(|task| task.slice.filter) {
            if let Entry::Vacant(place) = lists.entry(filter) {
                let ids = jobs::filters::filter(pool, id, filter).await?;
                ensure!(!ids.is_empty(), "an empty list lets nobody through and is no task's");
                place.insert(ids.into_iter().collect());
            }
        }
        let mut counts = BTreeMap::new();
        for task in &tasks {
            let slice = &task.slice;
            ensure!(slice.end.0 - slice.start.0 <= 400, "{slice:?} is too long");
            let from = slice.record_time_from.map_or(i64::MIN, |time| time.as_millisecond());
            let to = slice.record_time_to.map_or(i64::MAX, |time| time.as_millisecond());
            for record in &self.records {
                let is_read = record.partition == u32::from(slice.topic_partition.partition.0)
                    && (slice.start.0..slice.end.0).contains(&record.offset)
                    && record.data_type == slice.data_type;
                let passes = slice.filter.is_none_or(|filter| lists[&filter].contains(&record.id));
                if is_read && passes && (from..to).contains(&record.time) {
                    *counts.entry(key(record)).or_default() += 1;
                }
            }
        }
        let cancel = CancelJobRequest {
            job_id: job.job_id,
            ..CancelJobRequest::default()
        };
        self.client.cancel_job(cancel).await?;
        Ok(counts)
    }

    /// Plans, creates, and compares with what a rule lets through; returns the plan.
    pub(crate) async fn check(
        &mut self,
        what: &str,
        spec: JobSpec,
        rule: impl Fn(&Self, &Record) -> bool,
    ) -> Result<JobPlan> {
        let types = match &spec.work {
            Some(job_spec::Work::Replay(replay)) => replay.data_types.clone(),
            _ => Vec::new(),
        };
        let (token, plan) = self.plan(spec).await?;
        let found = self.let_through(token).await?;
        let expected = self.records.iter().filter(|record| types.contains(&record.data_type));
        let expected: BTreeMap<_, _> = expected
            .filter(|record| rule(self, record))
            .map(|record| (key(record), 1))
            .collect();
        let differing = expected.iter().find(|(key, count)| found.get(*key) != Some(*count));
        let more = found.iter().find(|(key, _)| !expected.contains_key(*key));
        ensure!(
            differing.is_none() && more.is_none(),
            "{what}: {} records instead of {}, first {differing:?} and {more:?}; {plan:?}",
            found.len(),
            expected.len()
        );
        eprintln!(
            "{what}: {} records, {} tasks, estimate {}, not covered {}",
            found.len(),
            plan.task_count,
            plan.estimated_records,
            plan.uncovered_positions
        );
        Ok(plan)
    }

    pub(crate) async fn end(mut self) -> Result<()> {
        self.server.stop().await?;
        self.fleet.stop().await
    }
}

pub(crate) fn key(record: &Record) -> (String, u32, u64) {
    (record.data_type.clone(), record.partition, record.offset)
}

pub(crate) fn spec(replay: ReplaySpec) -> JobSpec {
    JobSpec {
        work: Some(job_spec::Work::Replay(replay)),
        ..JobSpec::default()
    }
}

pub(crate) fn replay(data_types: &[&str], records: replay_spec::Records) -> ReplaySpec {
    ReplaySpec {
        data_types: data_types.iter().map(ToString::to_string).collect(),
        records: Some(records),
        ..ReplaySpec::default()
    }
}

pub(crate) fn offsets(asked: &[(u32, u64, u64)]) -> replay_spec::Records {
    let partitions = asked.iter().map(|(partition, start, end)| PartitionOffsets {
        topic: String::new(),
        partition: *partition,
        offsets: Some(OffsetInterval {
            start: *start,
            end: *end,
        }),
    });
    replay_spec::Records::Offsets(ReplayOffsets {
        partitions: partitions.collect(),
    })
}

pub(crate) fn time(milliseconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: milliseconds.div_euclid(1_000),
        nanos: i32::try_from(milliseconds.rem_euclid(1_000) * 1_000_000).expect("below a second"),
    })
}

pub(crate) fn times(start: i64, end: i64, basis: TimeBasis) -> replay_spec::Records {
    replay_spec::Records::Times(ReplayTimes {
        window: Some(TimeWindow {
            start_time: time(start),
            end_time: time(end),
        }),
        time_basis: basis.into(),
        max_disorder: None,
    })
}
