//! What all writers of a process share: the bounds, the prepared statements and the breaker of each type.

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::config::{Faults, Validate};
use reprise_shared::mysql::{Connector, Database};

use super::breaker::{self, Breaker};
use super::control::TypeControl;
use super::metrics::TypeMetrics;
use super::stale::StaleSample;
use super::statement::Upsert;
use super::task::{Task, TaskSink};

/// The bounds of a writer.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Config {
    /// A try that takes longer gives its connection up, kills it on the server, and starts again on a new one.
    #[serde(with = "humantime_serde")]
    pub batch_deadline: Duration,
    /// Opening a connection, and each small command beside a batch, may take this long.
    #[serde(with = "humantime_serde")]
    pub command_deadline: Duration,
    /// The first wait after a failed try is at most this long.
    #[serde(with = "humantime_serde")]
    pub backoff_base: Duration,
    /// No wait is longer.
    #[serde(with = "humantime_serde")]
    pub backoff_cap: Duration,
    /// So many deadlocks of a batch are tried again at once.
    pub quick_deadlock_tries: u32,
    /// One batch in so many is looked at again, to count rows that found a newer one stored; 0: none.
    pub sample_every: u64,
    /// When a type counts as faulty.
    pub breaker: breaker::Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_deadline: Duration::from_secs(30),
            command_deadline: Duration::from_secs(5),
            backoff_base: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(30),
            quick_deadlock_tries: 3,
            sample_every: 100,
            breaker: breaker::Limits::default(),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        let (millisecond, seconds) = (Duration::from_millis(1), Duration::from_secs);
        for (key, value, least, most) in [
            ("batch_deadline", self.batch_deadline, 100 * millisecond, seconds(600)),
            (
                "command_deadline",
                self.command_deadline,
                100 * millisecond,
                seconds(60),
            ),
            ("backoff_base", self.backoff_base, millisecond, seconds(60)),
            ("backoff_cap", self.backoff_cap, self.backoff_base, seconds(600)),
            ("breaker.window", self.breaker.window, seconds(1), seconds(600)),
        ] {
            faults.check_range(key, value, least, most);
        }
        faults.check_range("quick_deadlock_tries", self.quick_deadlock_tries, 0, 100);
        faults.check_range("breaker.letters", self.breaker.letters, 1, u64::MAX);
    }
}

/// What all writers of a process share.
pub struct Shared {
    pub(super) catalog: Arc<Catalog>,
    pub(super) config: Config,
    pub(super) connector: Connector,
    pub(super) database: Database,
    pub(super) control: Arc<dyn TypeControl>,
    pub(super) clock: Clock,
    pub(super) types: Vec<TypeState>,
    pub(super) task: Option<TaskSink>,
}

pub(super) struct TypeState {
    pub(super) upsert: Upsert,
    pub(super) stale: StaleSample,
    pub(super) breaker: Breaker,
    pub(super) metrics: TypeMetrics,
}

impl Shared {
    /// Prepares the statements of every type. `connector` opens the lanes' connections; `database` serves to kill
    /// them.
    pub fn new(
        catalog: Arc<Catalog>,
        config: Config,
        connector: Connector,
        database: Database,
        control: Arc<dyn TypeControl>,
        clock: Clock,
    ) -> Self {
        let types = catalog.data_types.iter().map(|data_type| TypeState {
            upsert: Upsert::new(data_type),
            stale: StaleSample::new(data_type),
            breaker: Breaker::new(config.breaker),
            metrics: TypeMetrics::new(&data_type.name),
        });
        Self {
            types: types.collect(),
            task: None,
            catalog,
            config,
            connector,
            database,
            control,
            clock,
        }
    }

    /// Writes for a task from now on.
    #[must_use]
    pub fn for_task(mut self, task: Task) -> Self {
        let data_type = self.catalog.data_type(task.data_type);
        self.task = Some(TaskSink::new(task, data_type));
        self
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Returns the hooks.
    pub fn control(&self) -> &dyn TypeControl {
        &*self.control
    }

    /// Returns the task that is written for.
    pub(crate) fn task(&self) -> Option<&Task> {
        self.task.as_ref().map(|sink| &sink.task)
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns the most rows of one statement of a type.
    pub fn max_rows(&self, data_type: TypeIndex) -> usize {
        self.types[data_type.0].upsert.max_rows()
    }
}
