//! Plans jobs: turns what is asked for into slices of partitions and lists of ids, so that a replay worker decides
//! nothing by itself and what runs is what was planned.
//!
//! Reading order: [`ask`], [`facts`] (what is looked at), [`plan()`](plan::plan) (pure) with [`wanted`] (which
//! positions), [`label`] (whose records), [`segments`] and [`estimate`]; [`draft`] (what comes out). The I/O stands
//! apart: `gather` with `ledger`, `lists`, `lookups` and `tables`.

pub mod ask;
pub mod draft;
mod error;
pub mod estimate;
pub mod facts;
mod gather;
pub mod ids;
pub mod label;
mod ledger;
mod lists;
mod lookups;
pub mod notes;
pub mod pins;
pub mod plan;
pub mod segments;
mod tables;
#[cfg(test)]
mod tests;
pub mod wanted;

use std::sync::Arc;

use jiff::Timestamp;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::jobs::model::Mode;
use reprise_shared::ledger::{Purger, Reader};
use reprise_shared::mysql::Database;
use reprise_shared::redis::Redis;
use reprise_shared::whitelist::{Head, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use self::error::{Error, Violation};
pub use self::lookups::Resolved;
pub use self::plan::{Limits, Refusal};

use self::ask::{Ask, Replay, Work};
use self::draft::Draft;
use crate::jobs::Config;
use crate::kafka::Kafka;
use crate::whitelist;

/// What plans are made from.
#[derive(Clone)]
pub struct Parts {
    /// Data types, lookups and topics.
    pub catalog: Arc<Catalog>,
    /// Accepted topics, and the tables that lookups read.
    pub database: Database,
    /// The ledger.
    pub redis: Redis,
    /// The logs.
    pub kafka: Kafka,
    /// The whitelist and its history.
    pub whitelist: whitelist::Store,
    /// Limits.
    pub config: Config,
}

/// A plan, as it is kept until a job is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What was asked for.
    pub ask: Ask,
    /// What it comes to.
    pub draft: Draft,
    /// The ids of lookup values.
    pub resolved: Vec<Resolved>,
    /// Why it needs an admin.
    pub needs_admin: Vec<String>,
    /// The whitelist that it was made with.
    pub whitelist_version: Version,
    /// Its data types; of a rebuild, those of the topic.
    pub data_types: Vec<String>,
    /// The hash of these, their lookups and topics.
    pub catalog_hash: String,
}

/// Makes plans. Cheap to clone.
#[derive(Clone)]
pub struct Planner(Arc<Shared>);

struct Shared {
    parts: Parts,
    reader: Reader,
    purger: Purger,
    places: Semaphore,
}

impl Planner {
    /// Makes it; nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        let (reader, purger) = (Reader::new(parts.redis.clone()), Purger::new(parts.redis.clone()));
        let places = Semaphore::new(parts.config.max_plans);
        Self(Arc::new(Shared {
            parts,
            reader,
            purger,
            places,
        }))
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.0.parts.catalog
    }

    /// Returns the limits.
    pub fn config(&self) -> &Config {
        &self.0.parts.config
    }

    /// Makes a plan. Changes nothing. Beyond `jobs.max_plans` at one time, calls wait.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn plan(&self, ask: &Ask) -> Result<Plan, Error> {
        let _place = self.0.places.acquire().await.map_err(|_| Error::Stopped)?;
        if let Some(replay) = ask.replay() {
            self.check_tables(replay).await?;
        }
        let gathered = self.gather(ask).await?;
        let (asked, facts, limits) = (ask.clone(), gathered.facts, self.config().limits());
        // Many ranges are work for a thread of its own.
        let planned = tokio::task::spawn_blocking(move || plan::plan(&asked, &facts, &limits));
        let mut draft = planned.await.map_err(|_| Error::Stopped)??;
        draft.notes.extend(gathered.notes);
        let needs_admin = self.needs_admin(ask, &draft);
        Ok(Plan {
            ask: ask.clone(),
            draft,
            resolved: gathered.resolved,
            needs_admin,
            whitelist_version: gathered.whitelist_version,
            data_types: self.names(&self.types(ask)),
            catalog_hash: self.hash_of(ask),
        })
    }

    /// Returns the whitelist's head, and the database's time.
    ///
    /// # Errors
    /// MySQL does not answer.
    pub async fn head(&self) -> Result<(Head, Timestamp), Error> {
        Ok(self.0.parts.whitelist.head().await?)
    }

    /// Returns the hash of an ask's data types, their lookups and topics.
    pub fn hash_of(&self, ask: &Ask) -> String {
        self.catalog().hash_of(&self.types(ask))
    }

    /// Returns an ask's data types; of a rebuild, those of its topic.
    fn types(&self, ask: &Ask) -> Vec<TypeIndex> {
        let catalog = self.catalog();
        match &ask.work {
            Work::Replay(replay) => {
                let names = replay.data_types.iter();
                names.filter_map(|name| catalog.find_data_type(name)).collect()
            }
            Work::Rebuild(rebuild) => catalog.types_of_topic(&rebuild.topic).map(|(index, _)| index).collect(),
        }
    }

    fn names(&self, types: &[TypeIndex]) -> Vec<String> {
        let catalog = self.catalog();
        types
            .iter()
            .map(|index| catalog.data_type(*index).name.clone())
            .collect()
    }

    fn needs_admin(&self, ask: &Ask, draft: &Draft) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(Replay { mode, clean_first, .. }) = ask.replay() {
            if *mode == Mode::Overwrite {
                reasons.push("OVERWRITE may put older values over newer ones".to_owned());
            }
            if *clean_first {
                reasons.push("clean_first deletes rows".to_owned());
            }
        }
        let (positions, most) = (draft.positions(), self.config().operator_max_positions);
        if positions > most {
            reasons.push(format!(
                "it reads {positions} positions, more than the {most} of jobs.operator_max_positions"
            ));
        }
        reasons
    }
}
