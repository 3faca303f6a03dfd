//! Jobs: made from plans, changed by people, looked after by every replica.
//!
//! What a job is and how it moves is `reprise_shared::jobs`; here are the calls about it, each change in one transaction
//! with its audit event and its answer. Reading order: [`read`], [`create`], [`change`], [`watch`]; [`keeper`] and
//! [`deferred`] need nobody to ask.

pub mod change;
mod config;
pub mod create;
pub mod deferred;
mod error;
pub mod keeper;
pub mod read;
pub mod watch;

use std::sync::Arc;

use reprise_proto::v1;
use reprise_shared::clock::Clock;
use reprise_shared::jobs::Job;
use reprise_shared::mysql::Database;
use sqlx::mysql::MySqlConnection;

use crate::config::Role;
use crate::planner::Planner;
use crate::requests::{self, Begun, RequestKey};

pub use config::Config;
pub use error::Error;

/// Makes the answer's job of one, without its progress.
pub type Shown = fn(&Job) -> v1::Job;

/// What all changes say.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who, and which request.
    pub key: RequestKey,
    /// What the caller may do.
    pub role: Role,
    /// The revision that the job must have; `None`: any.
    pub revision: Option<u64>,
    /// Change nothing.
    pub validate_only: bool,
}

/// What jobs are made and read with.
pub struct Parts {
    /// Where they are.
    pub database: Database,
    /// Plans them.
    pub planner: Planner,
    /// The time.
    pub clock: Clock,
    /// Limits.
    pub config: Config,
    /// Makes the job of answers.
    pub shown: Shown,
}

/// Makes, changes and reads jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs(Arc<Parts>);

impl Jobs {
    /// Makes it; nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Returns who plans.
    pub fn planner(&self) -> &Planner {
        &self.0.planner
    }

    /// Returns the limits.
    pub fn config(&self) -> &Config {
        &self.0.config
    }
}

/// Finds the answer of the same request. A rehearsal is no request.
async fn earlier(connection: &mut MySqlConnection, asked: &Asked) -> Result<Option<v1::Job>, Error> {
    if asked.validate_only {
        return Ok(None);
    }
    match requests::begin(connection, &asked.key).await? {
        Begun::New => Ok(None),
        Begun::Answered(answer) => Ok(Some(answer)),
        Begun::Reused => Err(Error::RequestIdReused),
    }
}

/// Keeps the answer for the same request; a rehearsal ends here, and everything is rolled back.
async fn keep(connection: &mut MySqlConnection, asked: &Asked, answer: v1::Job) -> Result<v1::Job, Error> {
    if asked.validate_only {
        return Err(Error::Rehearsed(Box::new(answer)));
    }
    requests::finish(connection, &asked.key, &answer).await?;
    Ok(answer)
}

/// Turns the end of a rehearsal into its answer.
fn rehearsed(made: Result<v1::Job, Error>) -> Result<v1::Job, Error> {
    match made {
        Err(Error::Rehearsed(answer)) => Ok(*answer),
        made => made,
    }
}

/// Returns a job's etag.
pub fn etag(revision: u64) -> String {
    revision.to_string()
}
