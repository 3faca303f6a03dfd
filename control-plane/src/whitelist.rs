//! The whitelist's truth in MySQL, and the copy in Redis that workers read.
//!
//! # A change, and what a crash between any two steps leaves
//!
//! | step | a crash after it leaves | and the next holder of the lock (a change, or the [`Reconciler`] within 5 s) |
//! |---|---|---|
//! | take the lock of the head row | nothing | |
//! | commit the *intent*: version, change id, ids (on a second connection, under the lock) | an intent that Redis does not have | fails it, behind a fence |
//! | one Lua call, conditional on the version that MySQL has | an intent that Redis has | finishes it |
//! | commit entries, head, audit event and outcome; the lock is free | a change that was made | |
//!
//! So MySQL and Redis change in one order, whoever changes them, and at most one change is unfinished at any time.
//! *A fence*: a change whose answer was lost may still lie in a socket somewhere. Before it is failed, all lists are
//! put in place under a higher version, so that it can never be made after it was said to have failed.
//!
//! # When the two disagree
//!
//! Whoever holds the lock compares version and change id of MySQL's head with those of Redis. If they differ (Redis
//! was emptied, restored, lost its last writes in a failover, or is ahead because MySQL was restored) all lists of
//! MySQL are put in place at max(both) + 1, which is written to MySQL too. Two cases are kept apart, because an empty
//! list lets everything through:
//! - MySQL has never had a change and Redis has no whitelist: nothing is known, and nothing is written. Workers do not
//!   start. The first request makes the first version, with its own ids in place from the beginning.
//! - MySQL has never had a change and Redis has a whitelist (an installation older than these tables, or a new
//!   database): MySQL takes over what Redis has.
//!
//! # Expiry
//!
//! The reconciler removes entries that are due as an ordinary change by `system`. It never empties a list, since that
//! would let everything through: the entry that expires last stays, *overdue*, until the list has another one or
//! somebody removes it with `allow_unrestricted`. [`Status`] and a metric show it.

mod change;
mod check;
mod config;
mod convergence;
mod entries;
mod error;
mod finish;
mod head;
mod history;
mod past;
mod plan;
mod push;
mod read;
mod reconciler;
mod record;
mod request;
mod samples;
mod settle;
mod store;

pub use check::{Verdict, Verdicts};
pub use config::Config;
pub use convergence::{Convergence, Holding, Member};
pub use entries::{Entry, EntryPage};
pub use error::{Error, Violation};
pub use past::{Judge, LookedBack};
pub use read::{Copy, List, Status};
pub use reconciler::{Reconciled, Reconciler};
pub use record::{Effect, Kind, Record, RecordPage, State};
pub use request::{Action, Caller, Outcome, OutcomeIds, Request};
pub use samples::Sample;
pub use settle::Repair;
pub use store::{Parts, Store};

pub use reprise_shared::whitelist::{ChangeId, Scope, Version};
