//! The steps of the live path over records in memory, one at a time, so that callgrind can count each alone.
//!
//! Everything up to the step is prepared first; `measured` is the step, and what callgrind collects.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use reprise_shared::catalog::{self, Catalog, LookupIndex, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::decode::{Decoder, Drafts, Limits, RecordSource};
use reprise_shared::matching::TopicPlan;
use reprise_shared::mysql::{self, Database};
use reprise_shared::position::{Offset, Partition, TopicGeneration, TopicId, TopicName, TopicPartition};
use reprise_shared::row::Row;
use reprise_shared::whitelist::{ChangeId, Content, Head, Scope, Snapshot, Version};
use reprise_tests::feed::{DataType, DataTypeMix, Feed, FeedConfig, FeedRecord, Fund};
use reprise_worker::budget::Budget;
use reprise_worker::chunk::{Chunk, RecordIndex, Stretch};
use reprise_worker::lanes::{self, Lanes, StopReason, TypeControl};
use reprise_worker::piece::{PendingRow, Piece};
use reprise_worker::sink::batch::Batch;
use reprise_worker::sink::statement::Upsert;
use reprise_worker::source::builder::{Builder, Delivered};
use reprise_worker::source::intake::{Intake, Open};
use reprise_worker::source::partition::{Epoch, Partitions};
use reprise_worker::types::{self, Types};

use crate::ceiling::type_index;
use crate::ground::FUNDS;

/// Rows of one batch.
const BATCH: usize = 1_000;

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Step {
    /// Type by header and whitelist by key, for records of which 99 in 100 are not let through.
    Filter,
    /// The same for records that are all let through: their bytes are copied into chunks.
    Keep,
    /// JSON to a row.
    Decode,
    /// Rows to their lanes, and into batches in key order.
    Lane,
    /// Batches to the arguments of their statements.
    Encode,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Filter, Self::Keep, Self::Decode, Self::Lane, Self::Encode];

    /// Returns the name, also on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Keep => "keep",
            Self::Decode => "decode",
            Self::Lane => "lane",
            Self::Encode => "encode",
        }
    }
}

/// The arguments of `step`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which one.
    step: Step,
    /// Over how many records.
    #[arg(long, default_value_t = 100_000)]
    records: u64,
}

/// Runs one step.
pub fn run(arguments: &Arguments) -> Result<()> {
    let bench = Bench::new(arguments.records)?;
    match arguments.step {
        Step::Filter => bench.take(FUNDS / 100),
        Step::Keep => bench.take(0),
        Step::Decode => bench.decode(),
        Step::Lane => bench.lane(),
        Step::Encode => bench.encode(),
    }
}

/// Returns how long the filter takes for each of two sizes of whitelist, in turns, the one that begins changing from
/// pair to pair; so many pairs, after one of each that warms the memory up. The same funds pass, as many as the first
/// size.
pub fn filter_pairs(records: u64, sizes: [u32; 2], pairs: usize) -> Result<Vec<[Duration; 2]>> {
    let (bench, clock) = (Bench::new(records)?, Clock::system());
    let time = |ids| {
        let mut intake = bench.intake(sizes[0], ids);
        let begun = clock.monotonic();
        black_box(intake());
        clock.monotonic().saturating_sub(begun)
    };
    // Warms the memory up.
    black_box(sizes.map(time));
    let pair = |place: usize| {
        if place.is_multiple_of(2) {
            return sizes.map(time);
        }
        let [few, many] = sizes;
        let (many, few) = (time(many), time(few));
        [few, many]
    };
    Ok((0..pairs).map(pair).collect())
}

/// Callgrind collects what happens in here.
#[inline(never)]
fn measured<R>(work: &mut dyn FnMut() -> R) -> R {
    black_box(work())
}

struct Bench {
    catalog: Arc<Catalog>,
    data_type: TypeIndex,
    records: Vec<FeedRecord>,
    types: Types,
    plan: Arc<TopicPlan>,
    stretch: Arc<Stretch>,
    database: Database,
    budget: Arc<Budget>,
}

impl Bench {
    fn new(records: u64) -> Result<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml");
        let catalog = Arc::new(catalog::load(path.as_ref())?);
        let data_type = type_index(&catalog, "fund_valuation")?;
        let feed = Feed::new(FeedConfig {
            records: Some(records),
            funds: FUNDS,
            days: 500,
            mix: DataTypeMix::only(DataType::Valuation),
            ..FeedConfig::default()
        })?;
        // Neither of these connects before it is asked to.
        let database = Database::new(&mysql::Config::default(), Clock::system())?;
        let pool = database.pool().clone();
        let (types, _keeper) = types::new(
            Arc::clone(&catalog),
            pool,
            Partitions::default(),
            Duration::from_secs(5),
        );
        let topic = TopicName::new("fund-data");
        let plan = TopicPlan::compile(&catalog)
            .into_iter()
            .find(|plan| plan.name == topic)
            .context("the shipped catalog has the topic")?;
        let stretch = Stretch {
            topic_partition: TopicPartition {
                topic,
                partition: Partition(0),
            },
            topic_id: TopicId::new("AAAAAAAAAAAAAAAAAAAAAA"),
            generation: TopicGeneration(1),
            abandoned: AtomicBool::new(false),
        };
        Ok(Self {
            catalog,
            data_type,
            records: feed.collect(),
            types,
            plan: Arc::new(plan),
            stretch: Arc::new(stretch),
            database,
            budget: Arc::new(Budget::new(usize::MAX, usize::MAX)),
        })
    }

    /// Takes all records into chunks, with so many of the feed's funds whitelisted, and so many ids in all; 0 is an
    /// empty list.
    fn intake(&self, funds: u32, ids: u32) -> impl FnMut() -> Vec<Arc<Chunk>> {
        let names: Vec<String> = self
            .catalog
            .data_types
            .iter()
            .map(|data_type| data_type.name.clone())
            .collect();
        let mut content = Content::new(Head {
            version: Version(1),
            change_id: ChangeId::new("bench"),
        });
        let ids = (1..=funds).chain(FUNDS + 1..).take(ids as usize);
        let list = content.list_mut(Scope::Global);
        list.extend(ids.map(|number| Fund(number).performance_id()));
        let whitelist = Arc::new(Snapshot::new(&names, content));
        let mut intake = Intake::new(self.types.clone(), Limits::default().max_payload);
        let mut open = Open {
            partition: self.stretch.topic_partition.clone(),
            epoch: Epoch(1),
            stretch: Arc::clone(&self.stretch),
            plan: Arc::clone(&self.plan),
            expected: Offset(0),
            builder: None,
        };
        move || {
            let mut chunks = Vec::new();
            for (offset, record) in self.records.iter().enumerate() {
                if open.builder.as_ref().is_some_and(Builder::is_full)
                    && let Some(builder) = open.builder.take()
                {
                    chunks.push(builder.seal(Arc::clone(&open.stretch), 0, Arc::clone(&self.budget)));
                }
                if open.builder.is_none() {
                    open.builder = Some(Builder::new(open.expected, Arc::clone(&whitelist), Duration::ZERO));
                }
                let delivered = Delivered {
                    offset: Offset(offset as u64),
                    timestamp: record.timestamp_ms,
                    key: Some(&record.key),
                    payload: record.payload.as_deref(),
                    headers: &[],
                };
                intake.take(&mut open, delivered, |each| {
                    for (name, value) in record.headers {
                        each(name.as_bytes(), Some(value.as_bytes()));
                    }
                });
            }
            let last = open.builder.take();
            chunks.extend(last.map(|builder| builder.seal(Arc::clone(&open.stretch), 0, Arc::clone(&self.budget))));
            chunks
        }
    }

    fn take(&self, ids: u32) -> Result<()> {
        let mut intake = self.intake(ids, ids);
        black_box(measured(&mut intake));
        Ok(())
    }

    /// Decodes all chunks: per row, its chunk and its record.
    fn rows(&self, chunks: &[Arc<Chunk>]) -> impl FnMut() -> Vec<PendingRow> {
        let decoder = Decoder::new(self.catalog.data_type(self.data_type));
        let (now, limits) = (Clock::system().now(), Limits::default());
        let (mut drafts, mut rows) = (Drafts::default(), Vec::new());
        move || {
            let decoder = decoder.as_ref().expect("the shipped catalog compiles");
            let mut pending = Vec::with_capacity(self.records.len());
            for chunk in chunks {
                for (index, record) in chunk.records() {
                    let source = RecordSource {
                        generation: TopicGeneration(1),
                        partition: Partition(0),
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key,
                        in_key: true,
                    };
                    let payload = record.payload.unwrap_or_default();
                    let decoded = decoder.decode(&source, payload, now, &limits, &mut drafts);
                    decoded.expect("the feed's good records decode");
                    let code = std::str::from_utf8(&record.key.unwrap_or_default()[4..]).unwrap_or_default();
                    drafts
                        .complete(|_| code, &mut rows)
                        .expect("a code has no trailing spaces");
                    pending.extend(rows.drain(..).map(|row| self.pending(row, chunk, index)));
                }
            }
            pending
        }
    }

    fn pending(&self, row: Row, chunk: &Arc<Chunk>, record: RecordIndex) -> PendingRow {
        PendingRow {
            row,
            data_type: self.data_type,
            chunk: Arc::clone(chunk),
            record,
        }
    }

    fn decode(&self) -> Result<()> {
        let chunks = self.intake(0, 0)();
        black_box(measured(&mut self.rows(&chunks)));
        Ok(())
    }

    fn lane(&self) -> Result<()> {
        let mut rows = self.rows(&self.intake(0, 0)())();
        // The lanes are not run, so the same rows go into batches a second time, as a lane would put them there.
        let again: Vec<PendingRow> = rows
            .iter()
            .map(|row| self.pending(row.row.clone(), &row.chunk, row.record))
            .collect();
        let mut again = again.into_iter();
        let (lanes, _unused) = Lanes::new(lanes::Setup {
            catalog: Arc::clone(&self.catalog),
            config: lanes::Config::default(),
            url: mysql::Config::default().url,
            database: self.database.clone(),
            budget: Arc::clone(&self.budget),
            control: Arc::new(Nobody),
            clock: Clock::system(),
            task: None,
        })?;
        black_box(measured(&mut || {
            let mut batches = Vec::new();
            let mut row = 0;
            while !rows.is_empty() {
                let some = rows.split_off(rows.len().saturating_sub(512));
                lanes.push(some.into_iter().map(Piece::Row).collect());
            }
            while again.len() > 0 {
                let mut batch = Batch::with_capacity(BATCH);
                for pending in again.by_ref().take(BATCH) {
                    row += 1;
                    // Any number that is different for each key: the lane has the hash from the row's routing.
                    batch.push(u64::wrapping_mul(row, 0x9E37_79B9_7F4A_7C15), pending);
                }
                batch.seal();
                batches.push(batch);
            }
            batches
        }));
        Ok(())
    }

    fn encode(&self) -> Result<()> {
        let rows = self.rows(&self.intake(0, 0)())();
        let upsert = Upsert::new(self.catalog.data_type(self.data_type));
        measured(&mut || {
            for batch in rows.chunks(BATCH) {
                let bytes = batch.iter().map(|pending| upsert.row_bytes(&pending.row)).sum();
                black_box(upsert.bind(batch.iter().map(|pending| &pending.row), bytes))?;
            }
            anyhow::Ok(())
        })
    }
}

/// Lanes that are not run ask nobody.
struct Nobody;

impl TypeControl for Nobody {
    fn is_stopped(&self, _data_type: TypeIndex) -> bool {
        false
    }

    fn stop<'a>(&'a self, _data_type: TypeIndex, _reason: StopReason, _detail: String) -> BoxFuture<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn lookup_written(&self, _lookup: LookupIndex, _keys: Vec<String>) {}

    fn most_rows(&self) -> usize {
        usize::MAX
    }

    fn rest_after(&self, _took: Duration) -> Duration {
        Duration::ZERO
    }
}
