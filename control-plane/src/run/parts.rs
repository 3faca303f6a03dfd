//! Puts together what needs more than a line.

use std::sync::Arc;

use reprise_shared::catalog::Catalog;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::mysql::Database;
use reprise_shared::redis::Redis;

use crate::config::Config;
use crate::jobs::{self, Jobs};
use crate::kafka::Kafka;
use crate::planner::{self, Planner};
use crate::{grpc, whitelist};

/// Makes the whitelist's store.
pub(super) fn whitelist_store(
    config: &Config,
    database: &Database,
    redis: &Redis,
    catalog: &Catalog,
    clock: &Clock,
) -> whitelist::Store {
    let names = catalog.data_types.iter().map(|data_type| data_type.name.clone());
    whitelist::Store::new(whitelist::Parts {
        database: database.clone(),
        redis: redis.clone(),
        type_names: names.collect(),
        config: config.whitelist.clone(),
        heartbeat_interval: heartbeat::Store::DEFAULT_INTERVAL,
        clock: clock.clone(),
    })
}

/// Makes what jobs are planned and made with.
pub(super) fn jobs(
    config: &Config,
    catalog: &Arc<Catalog>,
    database: &Database,
    redis: &Redis,
    kafka: &Kafka,
    whitelist: &whitelist::Store,
) -> Jobs {
    let planner = Planner::new(planner::Parts {
        catalog: Arc::clone(catalog),
        database: database.clone(),
        redis: redis.clone(),
        kafka: kafka.clone(),
        whitelist: whitelist.clone(),
        config: config.jobs.clone(),
    });
    Jobs::new(jobs::Parts {
        database: database.clone(),
        planner,
        clock: Clock::system(),
        config: config.jobs.clone(),
        shown: grpc::job::shown,
    })
}
