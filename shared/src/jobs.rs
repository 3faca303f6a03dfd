//! Jobs and their tasks: what a person asked to have processed again, and the slices that workers run under leases.
//!
//! MySQL holds the truth and its clock decides about leases. What decides is pure: [`states`] is the one table of
//! transitions, `situation` says what a job comes to, `ownership` how a task passes from owner to owner, `candidates`
//! who is tried first; a simulation runs these by the thousand. The other modules put them into transactions.
//!
//! Locks are taken in the order job, tasks, lanes, and along the primary key. A batch takes only its own lane; a
//! checkpoint and a lease take only their task.
//!
//! | who | calls |
//! |---|---|
//! | planner | [`overlapping()`], [`keep_plan()`], [`load_plan()`], [`drop_plan()`], [`create()`] |
//! | people | [`job()`], [`jobs()`], [`tasks()`], [`progress()`], [`missing()`], [`mismatches::mismatches()`], [`ask()`], [`update()`] |
//! | workers | [`claim()`], [`filters::filter()`], [`renew()`], [`lanes`], [`checkpoint()`], [`note_missing()`], [`release()`], [`finish()`], [`fail_task()`] |
//! | anybody | [`settle()`], [`unsettled()`], [`fail()`], [`purge_finished()`], [`census()`] |

mod ask;
mod candidates;
mod census;
mod checkpoint;
mod claim;
mod counts;
mod create;
mod ending;
mod failure;
pub mod filters;
mod job_row;
pub mod lanes;
pub mod mismatches;
mod missing;
pub mod model;
mod names;
mod overlap;
mod ownership;
mod plans;
mod progress;
mod purge;
mod read;
pub mod reasons;
mod settle;
mod situation;
pub mod states;
mod task_row;
mod tasks;

pub use ask::{Refused, ask, update};
pub use census::{Census, census};
pub use checkpoint::{checkpoint, renew};
pub use claim::{Worker, claim};
pub use create::{MAX_LANES, create};
pub use ending::{fail_task, finish, release};
pub use mismatches::{Mismatch, MismatchCursor, MismatchKind};
pub use missing::{missing, note_missing};
pub use model::*;
pub use overlap::{Overlap, overlapping};
pub use plans::{drop_plan, keep_plan, load_plan};
pub use progress::{PartitionProgress, Progress, progress};
pub use purge::{Purged, purge_finished};
pub use read::{Cursor, Job, JobsFilter, job, jobs};
pub use settle::{Unsettled, fail, settle, unsettled};
pub use situation::{CATALOG_PATIENCE, TIME_TO_LET_GO};
pub use states::{Event, JobState, TaskState};
pub use tasks::{Task, tasks};

#[cfg(test)]
mod simulation;
