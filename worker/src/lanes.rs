//! Lanes: per table, a fixed number of ordered queues with a database connection each. A key always goes to the same
//! lane, so its rows are written in turn.
//!
//! A lane collects while its connection is busy and flushes when it is free and something is there: full batches
//! under load, low latency when quiet. Pushing never blocks; what is queued is bounded by the [`Budget`], which the
//! caller asks before.

mod config;
mod lane;
mod queue;
mod settle;

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{Connector, Database, InvalidUrl, Session};
use reprise_shared::position::{Offset, TopicName};
use secrecy::SecretString;

pub use self::config::Config;
use self::config::MOST_LANES;
pub use self::lane::{End, Lane};
use self::queue::{Entry, Queue};
use crate::budget::Budget;
use crate::piece::{Letter, Piece};
pub use crate::sink::control::{StopReason, TypeControl};
use crate::sink::shared::Shared;
use crate::sink::task::Task;
use crate::sink::writer::Writer;

/// Not random: the same key must find the same lane in every run of a test, and nobody outside chooses keys freely
/// enough to gain from knowing it, as a lane is only a queue.
const SEED: u64 = 0x5EED_1A4E;

/// What lanes are made from.
pub struct Setup {
    /// The data types.
    pub catalog: Arc<Catalog>,
    /// The bounds.
    pub config: Config,
    /// Where lanes connect to.
    pub url: SecretString,
    /// The pool, to kill connections from.
    pub database: Database,
    /// Told when pieces are settled.
    pub budget: Arc<Budget>,
    /// The hooks.
    pub control: Arc<dyn TypeControl>,
    /// The clock.
    pub clock: Clock,
    /// The task that is written for: then there are lanes for its type alone, as many as it has.
    pub task: Option<Task>,
}

/// The handle: pushes pieces, closes. Cheap to clone.
#[derive(Clone)]
pub struct Lanes {
    inner: Arc<Inner>,
}

struct Inner {
    hasher: FixedState,
    clock: Clock,
    per_table: usize,
    /// Table by table.
    queues: Vec<Arc<Queue>>,
    /// Per type: its table and its place among the table's queues.
    types: Vec<(usize, usize)>,
    /// Per topic: the table that takes its letters without a type. Their place is the first.
    topics: HashMap<TopicName, usize>,
}

impl Lanes {
    /// Makes the lanes of a catalog. Every [`Lane`] must be run for pieces to be settled; nothing connects before.
    pub fn new(setup: Setup) -> Result<(Self, Vec<Lane>), InvalidUrl> {
        let Setup {
            catalog,
            config,
            url,
            database,
            budget,
            control,
            clock,
            task,
        } = setup;
        let session = Session {
            lock_wait_timeout: config.lock_wait_timeout,
            wait_timeout: config.wait_timeout,
            statement_cache: 256,
        };
        let connector = Connector::new(&url, session)?;
        let per_table = task.as_ref().map_or(config.per_table, |task| usize::from(task.lanes));
        let per_table = per_table.clamp(1, MOST_LANES);
        let tables = Tables::of(&catalog, task.as_ref().map(|task| task.data_type));
        let mut shared = Shared::new(
            catalog,
            config.writer.clone(),
            connector,
            database,
            control,
            clock.clone(),
        );
        if let Some(task) = task {
            shared = shared.for_task(task);
        }
        let shared = Arc::new(shared);
        let mut queues = Vec::new();
        let mut lanes = Vec::new();
        for (name, slots) in tables.names.iter().zip(&tables.slots) {
            for number in (0_u8..).take(per_table) {
                let queue = Arc::new(Queue::new(&shared, slots));
                queues.push(queue.clone());
                let writer = Writer::new(shared.clone(), format!("{name}/{number}"), number);
                lanes.push(Lane::new(shared.clone(), queue, writer, budget.clone(), &config));
            }
        }
        let hasher = FixedState::with_seed(SEED);
        let inner = Inner {
            hasher,
            clock,
            per_table,
            queues,
            types: tables.types,
            topics: tables.topics,
        };
        Ok((Self { inner: Arc::new(inner) }, lanes))
    }

    /// Queues pieces; never blocks. Their chunks expect them and the budget has taken them (one row each, letters
    /// too) already. Pieces of one key pushed by one caller are written in the order of the guard, whatever their
    /// order here.
    pub fn push(&self, pieces: Vec<Piece>) {
        let inner = &*self.inner;
        let mut buckets: Vec<Vec<Entry>> = Vec::new();
        buckets.resize_with(inner.queues.len(), Vec::new);
        let share = pieces.len() / inner.per_table + 8;
        for piece in pieces {
            let (lane, entry) = inner.route(piece);
            let bucket = &mut buckets[lane];
            if bucket.capacity() == 0 {
                bucket.reserve(share);
            }
            bucket.push(entry);
        }
        let now = inner.clock.monotonic();
        for (queue, bucket) in inner.queues.iter().zip(buckets) {
            if !bucket.is_empty() {
                queue.push(bucket, now);
            }
        }
    }

    /// Lets every lane write what is queued, without lingering, and end. Push nothing afterwards.
    pub fn close(&self) {
        for queue in &self.inner.queues {
            queue.close();
        }
    }
}

impl Inner {
    fn route(&self, piece: Piece) -> (usize, Entry) {
        match piece {
            Piece::Row(row) => {
                let (table, slot) = self.types[row.data_type.0];
                let hash = self.hasher.hash_one(&row.row.key);
                // The high bits choose the lane: the batch's hash table uses the low ones.
                let lane = usize::try_from(hash >> 48).unwrap_or_default() % self.per_table;
                (table * self.per_table + lane, Entry::Row { slot, hash, row })
            }
            Piece::Letter(letter) => {
                let (table, slot) = match letter.data_type {
                    Some(data_type) => self.types[data_type.0],
                    None => self.untyped(&letter),
                };
                let Offset(offset) = letter.chunk.record(letter.record).offset;
                let lane = usize::try_from(offset % self.per_table as u64).unwrap_or_default();
                (table * self.per_table + lane, Entry::Letter { slot, letter })
            }
        }
    }

    fn untyped(&self, letter: &Letter) -> (usize, usize) {
        let topic = &letter.chunk.stretch.topic_partition.topic;
        (self.topics.get(topic).copied().unwrap_or_default(), 0)
    }
}

/// The tables of a catalog, in the order in which its types name them.
struct Tables {
    names: Vec<String>,
    /// Per table: the kinds of pieces, the one without a type first.
    slots: Vec<Vec<Option<TypeIndex>>>,
    types: Vec<(usize, usize)>,
    topics: HashMap<TopicName, usize>,
}

impl Tables {
    /// `only`: the one type that there are lanes for. The places of the other types are never asked for then.
    fn of(catalog: &Catalog, only: Option<TypeIndex>) -> Self {
        let mut tables = Self {
            names: Vec::new(),
            slots: Vec::new(),
            types: Vec::new(),
            topics: HashMap::new(),
        };
        for (index, data_type) in catalog.data_types.iter().enumerate() {
            if only.is_some_and(|only| only != TypeIndex(index)) {
                tables.types.push((0, 0));
                continue;
            }
            let table = tables
                .names
                .iter()
                .position(|name| *name == data_type.table)
                .unwrap_or_else(|| {
                    tables.names.push(data_type.table.clone());
                    tables.slots.push(vec![None]);
                    tables.names.len() - 1
                });
            tables.slots[table].push(Some(TypeIndex(index)));
            tables.types.push((table, tables.slots[table].len() - 1));
            tables.topics.entry(data_type.topic.clone()).or_insert(table);
        }
        tables
    }
}
