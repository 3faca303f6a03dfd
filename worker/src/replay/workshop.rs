//! What all tasks of this worker share.

use std::sync::Arc;

use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::decode::{Limits, Plans};
use reprise_shared::enrich::Lookups;
use reprise_shared::jobs::Worker;
use reprise_shared::matching::TopicPlan;
use reprise_shared::mysql::{Connector, Database};
use reprise_shared::position::TopicName;
use reprise_shared::redis::Redis;
use reprise_shared::supervise::Supervisor;

use super::probe::Probe;
use super::running::Running;
use super::signals::LiveFirst;
use crate::config::Config;
use crate::lookup_changes::Reporter;

/// The parts that tasks are put together from.
pub(super) struct Workshop {
    pub(super) config: Config,
    pub(super) catalog: Arc<Catalog>,
    /// The names of the catalog's types, in its order.
    pub(super) names: Vec<String>,
    pub(super) plans: Arc<Plans>,
    pub(super) topics: Vec<Arc<TopicPlan>>,
    pub(super) database: Database,
    /// Opens the connections that keep leases.
    pub(super) leases: Connector,
    pub(super) redis: Redis,
    pub(super) lookups: Lookups,
    pub(super) lookup_changes: Reporter,
    pub(super) probe: Probe,
    pub(super) live_first: LiveFirst,
    pub(super) running: Running,
    pub(super) worker: Worker,
    pub(super) limits: Limits,
    pub(super) clock: Clock,
    pub(super) supervisor: Supervisor,
}

impl Workshop {
    /// Returns the hash of some data types, with what they use; `None`: this catalog does not have them all.
    pub(super) fn hash_of(&self, names: &[String]) -> Option<String> {
        let found: Option<Vec<TypeIndex>> = names.iter().map(|name| self.catalog.find_data_type(name)).collect();
        found.map(|types| self.catalog.hash_of(&types))
    }

    /// Returns how the records of a topic are told apart.
    pub(super) fn topic(&self, name: &TopicName) -> Option<Arc<TopicPlan>> {
        self.topics.iter().find(|plan| plan.name == *name).cloned()
    }
}
