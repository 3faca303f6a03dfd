//! What a task's batches have beside rows: the fence, the way that its job writes, and its counters.

use std::collections::BTreeSet;
use std::sync::Arc;

use reprise_shared::catalog::{DataType, TypeIndex};
use reprise_shared::isolated;
use reprise_shared::jobs::{Mode, TaskId};
use reprise_shared::leases::Epoch;
use reprise_shared::position::Offset;
use tokio_util::sync::CancellationToken;

use super::batch::Wins;
use super::statement::{OnStored, Target, Upsert};
use super::stored::StoredRows;

/// The task that lanes write for. Each of its batches is fenced by its lane's row at its epoch, and counts exactly what
/// it changed.
#[derive(Clone, Debug)]
pub struct Task {
    /// The task.
    pub id: TaskId,
    /// The claim that this is.
    pub epoch: Epoch,
    /// How its job writes.
    pub mode: Mode,
    /// Its data type.
    pub data_type: TypeIndex,
    /// The number of its lanes, which is that of its fence rows.
    pub lanes: u8,
    /// Records of the slice that have open letters: those that become rows now are closed.
    pub open_letters: Arc<BTreeSet<Offset>>,
    /// At most so many mismatches of its job are kept.
    pub max_mismatches: u64,
    /// Cancelled by the first batch that finds another owner's epoch: write nothing more.
    pub lost: CancellationToken,
}

impl Task {
    /// Returns which row of a key is written: an overwriting job goes by the order in the partition.
    pub(crate) fn wins(&self) -> Wins {
        match self.mode {
            Mode::Overwrite => Wins::Later,
            Mode::Live | Mode::Isolated | Mode::Verify | Mode::Repair => Wins::Newer,
        }
    }

    /// Tells whether records and rows that cannot be written become dead letters.
    pub(crate) fn keeps_letters(&self) -> bool {
        keeps_letters(self.mode)
    }

    /// Tells whether rows replace what is stored, also what is newer.
    pub(super) fn replaces(&self) -> bool {
        self.mode == Mode::Overwrite
    }
}

/// Tells whether jobs of a mode write dead letters, and close those of records that are settled.
pub(crate) fn keeps_letters(mode: Mode) -> bool {
    match mode {
        Mode::Live | Mode::Overwrite | Mode::Repair => true,
        Mode::Isolated | Mode::Verify => false,
    }
}

/// A task with the statements of its data type.
#[derive(Debug)]
pub(super) struct TaskSink {
    pub(super) task: Task,
    /// The job as text, as it stands in tables.
    pub(super) job: String,
    /// Locks every key, and writes markers where nothing is stored.
    pub(super) marker: Upsert,
    /// Writes.
    pub(super) upsert: Upsert,
    /// Reads what is stored.
    pub(super) stored: StoredRows,
    /// The data type's name.
    pub(super) data_type: String,
    /// The names of the insert's columns.
    pub(super) names: Vec<String>,
}

impl TaskSink {
    pub(super) fn new(task: Task, data_type: &DataType) -> Self {
        let job = task.id.job.to_string();
        let isolated = (task.mode == Mode::Isolated).then(|| isolated::table_of(&data_type.table));
        let table = isolated.as_deref().unwrap_or(&data_type.table);
        let in_key = isolated.is_some().then_some(job.as_str());
        let statement = |on_stored| {
            let target = Target {
                table,
                job: in_key,
                on_stored,
            };
            Upsert::to(data_type, &target)
        };
        let on_stored = if task.replaces() {
            OnStored::Replace
        } else {
            OnStored::Guard
        };
        Self {
            marker: statement(OnStored::Mark),
            upsert: statement(on_stored),
            stored: StoredRows::new(data_type, table, in_key),
            data_type: data_type.name.clone(),
            names: data_type.insert_columns().map(str::to_owned).collect(),
            task,
            job,
        }
    }
}
