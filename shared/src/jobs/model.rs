//! What jobs and tasks are made of.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use super::names::names;
use crate::leases::Epoch;
use crate::position::{Offset, TopicGeneration, TopicId, TopicPartition};
use crate::whitelist::Version;

/// Names a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub Uuid);

impl JobId {
    /// Makes a new one; later ones sort after earlier ones.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }

    /// Reads the hyphenated form.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::parse_str(text).ok().map(Self)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.hyphenated())
    }
}

/// Names a task: its job and its number there, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The number.
    pub number: u32,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Reads Kafka and puts records through the pipeline again.
    Replay,
    /// Reads Kafka and writes only the ledger.
    Rebuild,
}

names!(Kind {
    Replay = "REPLAY",
    Rebuild = "REBUILD",
});

/// How a replay writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Guarded: a newer stored row stays.
    Live,
    /// Unguarded: what is replayed replaces what is stored.
    Overwrite,
    /// Into the type's table for isolated rows, with the job's id in the key.
    Isolated,
    /// Writes nothing but what it finds.
    Verify,
    /// Writes what [`Mode::Verify`] would report.
    Repair,
}

names!(Mode {
    Live = "LIVE",
    Overwrite = "OVERWRITE",
    Isolated = "ISOLATED",
    Verify = "VERIFY",
    Repair = "REPAIR",
});

/// Where a task is in a job that cleans first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Deletes the rows that the slice's records left.
    Clean,
    /// Writes.
    Write,
}

names!(Phase {
    Clean = "CLEAN",
    Write = "WRITE",
});

/// The slice of one task: one data type of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The data type's name; empty: all types of the topic ([`Kind::Rebuild`]).
    pub data_type: String,
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The topic's id; another one is another topic.
    pub topic_id: TopicId,
    /// The topic's generation, which is part of the rows' positions.
    pub generation: TopicGeneration,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
    /// Which of the job's id lists passes; `None`: every id passes. The whitelist has no say: a plan turns it into a
    /// list where it applies.
    pub filter: Option<u32>,
    /// Only records from this time on (Kafka's timestamp).
    pub record_time_from: Option<Timestamp>,
    /// Only records before this time.
    pub record_time_to: Option<Timestamp>,
}

/// Positions that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Missing {
    /// The data type's name.
    pub data_type: String,
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The first missing offset.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
    /// Why.
    pub reason: MissingReason,
}

/// Why positions are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MissingReason {
    /// Kafka's retention deleted them.
    Expired,
    /// The log ends before them: the broker lost data.
    Truncated,
    /// The topic was deleted and created again.
    Recreated,
}

names!(MissingReason {
    Expired = "EXPIRED",
    Truncated = "TRUNCATED",
    Recreated = "RECREATED",
});

/// A job as it is created.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What it does.
    pub kind: Kind,
    /// How it writes.
    pub mode: Mode,
    /// JSON: what was asked, for those who read it.
    pub spec: String,
    /// JSON: an object of strings.
    pub labels: String,
    /// The names of its data types; of all types of the topic for [`Kind::Rebuild`].
    pub data_types: Vec<String>,
    /// The hash of these types, their lookups and topics: only workers that agree claim its tasks.
    pub catalog_hash: String,
    /// The whitelist that its filters were made from.
    pub whitelist_version: Version,
    /// Delete before writing.
    pub clean_first: bool,
    /// End as PARTIAL where positions are missing, instead of failing.
    pub allow_partial: bool,
    /// Higher goes first.
    pub priority: i16,
    /// Records a second of all of its tasks together; `None`: no limit of its own.
    pub max_records_per_second: Option<u64>,
    /// How many records of its types it is expected to read.
    pub estimated_records: u64,
    /// Who asked.
    pub created_by: String,
    /// The slices.
    pub slices: Vec<Slice>,
    /// The id lists that slices name by their place.
    pub filters: Vec<Vec<String>>,
    /// What is known to be missing already.
    pub missing: Vec<Missing>,
    /// Lanes of each task, 1 to 64: fixed, since each has a row that fences it.
    pub lanes: u8,
}

/// A task that a worker owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// Its slice.
    pub slice: Slice,
    /// What its job does.
    pub kind: Kind,
    /// How its job writes.
    pub mode: Mode,
    /// Whether its job cleans first; then `phase` says what comes next.
    pub clean_first: bool,
    /// Missing positions are passed over and put on record, instead of failing the job.
    pub allow_partial: bool,
    /// Where it is in a job that cleans first.
    pub phase: Phase,
    /// Where to read on: everything before it has its outcome.
    pub checkpoint: Offset,
    /// What was read up to the checkpoint, in this phase: the owner goes on counting from here.
    pub read: ReadCounts,
    /// The epoch of this claim: what fences the owner before.
    pub epoch: Epoch,
    /// Claims since the checkpoint moved last, this one included.
    pub attempts: u32,
    /// Lanes.
    pub lanes: u8,
    /// The job's limit, of all of its tasks together.
    pub max_records_per_second: Option<u64>,
}

/// What the owner of a task is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Go on.
    Run {
        /// This task's share of the job's limit, in records a second.
        max_records_per_second: Option<u64>,
    },
    /// Finish the batches in flight, write the checkpoint and release the task.
    LetGo,
    /// Another owns the task, or it ended: write nothing more.
    Lost,
}

/// What a task read from its start up to its checkpoint, in its phase. Exact: it is written together with the
/// checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Records of any type.
    pub read: u64,
    /// Of the type, and not let through: by id or by time.
    pub filtered: u64,
    /// Of other types, and tombstones.
    pub skipped: u64,
    /// Bytes of keys and payloads.
    pub bytes: u64,
}

/// What became of rows. `inserted`, `updated` and `deleted` are exact also across crashes; the others may count work
/// that was done again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteCounts {
    /// There was no row.
    pub inserted: u64,
    /// An older row, or other values of the same version and position, were replaced.
    pub updated: u64,
    /// The same row was there already.
    pub unchanged: u64,
    /// A newer row stays.
    pub stale: u64,
    /// Replaced by a newer row of the same batch.
    pub superseded: u64,
    /// Became dead letters.
    pub dead_lettered: u64,
    /// Deleted by `clean_first`.
    pub deleted: u64,
    /// VERIFY: there is no row.
    pub missing: u64,
    /// VERIFY: same version and position, other values.
    pub different: u64,
    /// VERIFY: an older row is stored.
    pub older: u64,
}
