//! Limits of jobs.

use std::time::Duration;

use reprise_shared::config::{Faults, Validate};
use serde::{Deserialize, Serialize};

use crate::planner::Limits;

/// How large jobs may be, and how they are looked after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// A plan is kept for this long. 1 h.
    #[serde(with = "humantime_serde")]
    pub plan_ttl: Duration,
    /// Plans that are made at one time; further calls wait. 4.
    pub max_plans: usize,
    /// A request names at most this many ids, and its values come to no more. 10,000.
    pub max_ids: usize,
    /// A request names at most this many partitions. 1,000.
    pub max_partitions: usize,
    /// A task reads at most this many positions. 200,000.
    pub max_slice: u64,
    /// A job has at most this many tasks. 10,000.
    pub max_tasks: u32,
    /// The lists of ids of a job hold at most this many together. 500,000, as many as the whitelist may have.
    pub max_filter_ids: u64,
    /// A plan looks at no more versions of the whitelist than this. 200.
    pub max_versions: usize,
    /// A plan reads at most this many ranges of the ledger. 500,000.
    pub max_ranges: usize,
    /// A job of more positions than this needs the role admin. 50,000,000.
    pub operator_max_positions: u64,
    /// Each task writes over this many connections. 2.
    pub task_lanes: u8,
    /// Callers that follow jobs at one time; further ones are refused. 1,000.
    pub max_watchers: usize,
    /// A job that somebody follows is looked at this often. 1 s.
    #[serde(with = "humantime_serde")]
    pub watch_every: Duration,
    /// How often jobs are moved to the state that their tasks came to. 250 ms: with the time that owners have to let go, a pause
    /// takes effect within two seconds.
    #[serde(with = "humantime_serde")]
    pub settle_every: Duration,
    /// How often what changes slowly is looked after: deferred intervals, old plans and jobs. 5 s.
    #[serde(with = "humantime_serde")]
    pub keep_every: Duration,
    /// Finished jobs are kept for this long. 30 days.
    #[serde(with = "humantime_serde")]
    pub keep_finished: Duration,
}

impl Config {
    /// Returns what a plan may come to.
    pub fn limits(&self) -> Limits {
        Limits {
            max_slice: self.max_slice,
            max_tasks: self.max_tasks,
            max_filter_ids: self.max_filter_ids,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            plan_ttl: seconds(3_600),
            max_plans: 4,
            max_ids: 10_000,
            max_partitions: 1_000,
            max_slice: 200_000,
            max_tasks: 10_000,
            max_filter_ids: 500_000,
            max_versions: 200,
            max_ranges: 500_000,
            operator_max_positions: 50_000_000,
            task_lanes: 2,
            max_watchers: 1_000,
            watch_every: seconds(1),
            settle_every: Duration::from_millis(250),
            keep_every: seconds(5),
            keep_finished: seconds(30 * 24 * 3_600),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        for (key, value, least, most) in [
            ("max_plans", self.max_plans as u64, 1, 100),
            ("max_ids", self.max_ids as u64, 1, 100_000),
            ("max_partitions", self.max_partitions as u64, 1, 10_000),
            ("max_slice", self.max_slice, 100, 10_000_000),
            ("max_tasks", self.max_tasks.into(), 1, 100_000),
            ("max_filter_ids", self.max_filter_ids, 1, 5_000_000),
            ("max_versions", self.max_versions as u64, 1, 10_000),
            ("max_ranges", self.max_ranges as u64, 1, 10_000_000),
            ("operator_max_positions", self.operator_max_positions, 0, u64::MAX),
            ("task_lanes", self.task_lanes.into(), 1, 64),
            ("max_watchers", self.max_watchers as u64, 1, 100_000),
        ] {
            faults.check_range(key, value, least, most);
        }
        for (key, value, least, most) in [
            ("plan_ttl", self.plan_ttl, 10_000, 86_400_000),
            ("watch_every", self.watch_every, 100, 60_000),
            ("settle_every", self.settle_every, 50, 60_000),
            ("keep_every", self.keep_every, 100, 600_000),
            ("keep_finished", self.keep_finished, 1_000, 3_650 * 86_400_000),
        ] {
            let bound = Duration::from_millis;
            faults.check_range(key, value, bound(least), bound(most));
        }
    }
}
