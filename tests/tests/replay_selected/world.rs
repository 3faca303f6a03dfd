//! A compacted topic of interleaved types: partitions 0 and 2 plain, 1 written in transactions of which some are aborted, 3
//! empty. Live traffic has read it under several versions of the whitelist, and compaction has made gaps since.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reprise_proto::v1::{JobPlan, JobState, ReplayMode, ReplaySpec};
use reprise_shared::jobs::{self, JobId, Slice};
use reprise_shared::position::SourcePosition;
use reprise_tests::feed::{DataType, FeedConfig, FeedRecord, Fund, Made, moment};
use reprise_tests::fleet::{Options, PATIENCE};
use reprise_tests::jobs::{job_of, rows_of};
use reprise_tests::stage::{Stage, ids};
use reprise_tests::wait::wait_for;
use sqlx::AssertSqlSafe;

use crate::listed::{Record, records};

pub(crate) const TYPES: [&str; 3] = ["fund_basic", "fund_risk", "fund_valuation"];
/// Records' times are out of order by at most this many seconds.
pub(crate) const DISORDER: i64 = 30;
const FUNDS: u32 = 400;
/// Records of each phase.
const PHASE: u32 = 500;
/// Funds from here on have basic data, one record each: their key is the fund itself.
const WITH_BASICS: u32 = 300;

/// Data type, partition and offset.
pub(crate) type Place = (String, u32, u64);

pub(crate) struct World {
    pub(crate) stage: Stage,
    /// What is in the topic.
    pub(crate) records: Vec<Record>,
    /// Each version that judged records: whom it let through, and the partitions' ends when it was replaced.
    pub(crate) phases: Vec<(u64, BTreeSet<String>, Vec<u64>)>,
    /// Whom the whitelist lets through now.
    pub(crate) now: BTreeSet<String>,
    /// How many records were sent and not aborted.
    committed: usize,
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let options = Options {
            topic: vec![
                ("cleanup.policy", "compact"),
                ("segment.ms", "100"),
                ("min.cleanable.dirty.ratio", "0.01"),
            ],
            settings: [
                ("ingest.segment_records", "1000"),
                ("ingest.heartbeat", "1s"),
                ("replay.max_tasks", "4"),
                ("replay.live_first.latency_cut", "20s"),
                ("replay.live_first.latency_hold", "60s"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            ..Options::quick()
        };
        let mut stage = Stage::without_workers("selected", options, vec![("jobs.max_slice", "300".to_owned())]).await?;
        stage.fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
        stage.fleet.start_workers(1).await?;
        stage.fleet.start_replay_workers(1).await?;
        let mut world = Self {
            stage,
            records: Vec::new(),
            phases: Vec::new(),
            now: BTreeSet::new(),
            committed: 0,
        };
        for (phase, allowed) in [1..=120, 1..=240, 100..=250].into_iter().enumerate() {
            world.phase(u32::try_from(phase)?, ids(allowed)).await?;
        }
        let now = ids(150..=390);
        world.stage.allow(now.clone()).await?;
        world.now = now.into_iter().collect();
        world.compact().await?;
        Ok(world)
    }

    /// Lets some funds through, and sends records that are judged by that.
    async fn phase(&mut self, phase: u32, allowed: Vec<String>) -> Result<()> {
        let version = self.stage.allow(allowed.clone()).await?;
        let mut by_partition: BTreeMap<i32, Vec<FeedRecord>> = BTreeMap::new();
        for record in made(phase)? {
            let partition = record.partition.context("a partition")?;
            by_partition.entry(partition).or_default().push(record);
        }
        // Every third transaction is aborted.
        let some = by_partition.remove(&1).unwrap_or_default();
        let some = some.chunks(20).enumerate();
        let all: Vec<_> = some.map(|(number, some)| (number % 3 != 1, some.to_vec())).collect();
        let kept = all.iter().filter(|(commit, _)| *commit);
        self.committed += kept.map(|(_, some)| some.len()).sum::<usize>();
        let id = format!("phase-{phase}");
        drop(self.stage.fleet.transactions(&id, all, Vec::new()).await?);
        for records in by_partition.into_values() {
            self.committed += records.len();
            self.stage.fleet.publish_records(records).await?;
        }
        self.caught_up().await?;
        let bounds = self.stage.fleet.bounds().await?;
        let ends = bounds.into_iter().map(|(_, end)| end).collect();
        self.phases.push((version, allowed.into_iter().collect(), ends));
        Ok(())
    }

    /// Waits until live traffic has committed every record. Of what is never delivered, at the log's end, it knows nothing.
    async fn caught_up(&self) -> Result<()> {
        let mut ends = BTreeMap::new();
        for record in records(&self.stage.fleet).await? {
            ends.insert(record.partition, i64::try_from(record.offset)? + 1);
        }
        wait_for("live traffic to commit every record", PATIENCE, async || {
            let positions = self.stage.fleet.positions().await?;
            let is_behind = |(partition, end): (&u32, &i64)| positions[*partition as usize].0 < Some(*end);
            ensure!(
                !ends.iter().any(is_behind),
                "{positions:?}, and the last records end at {ends:?}"
            );
            Ok(())
        })
        .await
    }

    /// Waits until compaction has removed a good part, and ends it.
    async fn compact(&mut self) -> Result<()> {
        let sent = self.committed;
        let mut more = 0_i64;
        wait_for("compaction", PATIENCE, async || {
            more += 1;
            // Only a record that is later by its own time ends a segment.
            for partition in 0..3 {
                let day = jiff::civil::date(2020, 1, 1) + jiff::Span::new().days(3 * more + i64::from(partition));
                let mut last = Made::valuation(Fund(FUNDS), &[(day.to_string().as_str(), 1)]).record;
                last.partition = Some(partition);
                last.timestamp_ms = moment(100_000 + more).as_millisecond();
                self.stage.fleet.publish_records(vec![last]).await?;
            }
            let left = records(&self.stage.fleet).await?.len();
            ensure!(left + 300 < sent, "{left} of {sent} records are left");
            Ok(())
        })
        .await?;
        let settings = [("cleanup.policy", "delete"), ("retention.ms", "-1")];
        self.stage.fleet.configure_topic(&settings).await?;
        self.caught_up().await?;
        self.records = records(&self.stage.fleet).await?;
        // What comes after the last phase was judged by the list of now.
        let bounds = self.stage.fleet.bounds().await?;
        let (kinds, sparse) = (
            self.of_types(),
            bounds.iter().map(|(low, high)| high - low).sum::<u64>(),
        );
        eprintln!(
            "{} records {kinds:?} in {sparse} positions {bounds:?}",
            self.records.len()
        );
        Ok(())
    }

    fn of_types(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for record in &self.records {
            *counts.entry(record.data_type.as_str()).or_default() += 1;
        }
        counts
    }

    /// The version that judged a record, and whom it let through; `None`: it came after the last phase.
    pub(crate) fn judged(&self, record: &Record) -> Option<(u64, &BTreeSet<String>)> {
        let partition = record.partition as usize;
        let mut phases = self.phases.iter();
        let found = phases.find(|(_, _, ends)| record.offset < ends[partition]);
        found.map(|(version, allowed, _)| (*version, allowed))
    }

    /// Plans and creates an isolated job.
    pub(crate) async fn begin(&self, replay: ReplaySpec) -> Result<(String, JobPlan)> {
        let spec = job_of(ReplaySpec {
            mode: ReplayMode::Isolated.into(),
            ..replay
        });
        let (_, plan) = self.stage.jobs.plan(spec.clone()).await?;
        Ok((self.stage.jobs.begin(spec).await?.job_id, plan))
    }

    /// Waits for a job's end and compares the records that it took, and its counts, with those that a rule names.
    pub(crate) async fn check(&self, what: &str, id: &str, types: &[&str], rule: &Rule) -> Result<()> {
        let job = self.stage.jobs.ended(id, PATIENCE).await?;
        ensure!(job.state() == JobState::Succeeded, "{what}: {job:?}");
        let (rows, progress) = (rows_of(&job), job.progress.context("no progress")?);
        let of_types = |record: &&Record| types.contains(&record.data_type.as_str());
        let wanted = self.records.iter().filter(of_types).filter(|record| rule(self, record));
        let wanted: BTreeSet<Place> = wanted.map(place).collect();
        let taken = self.taken(id).await?;
        let (less, more) = (wanted.difference(&taken).next(), taken.difference(&wanted).next());
        ensure!(
            less.is_none() && more.is_none(),
            "{what}: {} records, not {}: first {less:?} and {more:?}",
            taken.len(),
            wanted.len()
        );
        let (mut read, mut skipped) = (0, 0);
        let tasks = jobs::tasks(&self.stage.fleet.pool, JobId::parse(id).context("an id")?, None, 10_000).await?;
        for record in tasks
            .iter()
            .flat_map(|task| self.within(&task.slice).map(move |record| (task, record)))
        {
            read += 1;
            skipped += u64::from(record.1.data_type != record.0.slice.data_type);
        }
        let count = wanted.len() as u64;
        let counted = (progress.records_read, progress.records_skipped, rows.inserted);
        ensure!(
            counted == (read, skipped, count),
            "{what}: {counted:?}, not {:?}",
            (read, skipped, count)
        );
        ensure!(
            progress.records_filtered == read - skipped - count,
            "{what}: {progress:?}"
        );
        ensure!(progress.positions_done == progress.positions, "{what}: {progress:?}");
        eprintln!("{what}: {count} records of {read} read in {} tasks", tasks.len());
        Ok(())
    }

    fn within(&self, slice: &Slice) -> impl Iterator<Item = &Record> {
        let (partition, offsets) = (u32::from(slice.topic_partition.partition.0), slice.start.0..slice.end.0);
        let records = self.records.iter();
        records.filter(move |record| record.partition == partition && offsets.contains(&record.offset))
    }

    /// The records that a job's rows come from.
    async fn taken(&self, id: &str) -> Result<BTreeSet<Place>> {
        let mut taken = BTreeSet::new();
        for data_type in DataType::ALL {
            let sql = format!(
                "SELECT source_position FROM {}_replay WHERE replay_job_id = ?",
                data_type.table()
            );
            let rows: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(id)
                .fetch_all(&self.stage.fleet.pool)
                .await?;
            for row in rows {
                let at = SourcePosition::from_bytes(&row).context("a position")?;
                taken.insert((data_type.name().to_owned(), at.partition().0.into(), at.offset().0));
            }
        }
        Ok(taken)
    }
}

/// Tells whether a record is meant.
pub(crate) type Rule = dyn Fn(&World, &Record) -> bool + Send + Sync;

fn place(record: &Record) -> Place {
    (record.data_type.clone(), record.partition, record.offset)
}

/// Makes the records of a phase: types interleaved, times out of order, and no two of them with one row key.
fn made(phase: u32) -> Result<Vec<FeedRecord>> {
    let mut random = ChaCha8Rng::seed_from_u64(u64::from(phase) + 7);
    let mut records = Vec::new();
    for number in 0..PHASE {
        let sequence = phase * PHASE + number;
        let fund = Fund(1 + random.random_range(0..WITH_BASICS));
        let day = jiff::civil::date(2001, 1, 1) + jiff::Span::new().days(i64::from(sequence));
        let version = i64::from(sequence);
        let mut record = match number % 5 {
            0 if sequence / 5 < FUNDS - WITH_BASICS => Made::basic(Fund(WITH_BASICS + sequence / 5), version).record,
            0..=2 => Made::valuation(fund, &[(day.to_string().as_str(), version)]).record,
            _ => {
                let mut made = Made::risk(fund, version).record;
                let payload = made.payload.map(String::from_utf8).transpose()?;
                made.payload = payload.map(|text| text.replace("2026-03-01", &day.to_string()).into_bytes());
                made
            }
        };
        record.partition = Some(i32::try_from(number % 7 % 3)?);
        let time = i64::from(sequence) + random.random_range(0..DISORDER);
        record.timestamp_ms = moment(time).as_millisecond();
        records.push(record);
    }
    Ok(records)
}
