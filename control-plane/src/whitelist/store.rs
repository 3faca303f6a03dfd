//! The store: one handle for everything that can be asked of the whitelist.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::mysql::{Database, errors};
use reprise_shared::redis::Redis;
use reprise_shared::whitelist::{Version, Writer};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::change::{Step, Work, rehearse, step};
use super::config::Config;
use super::error::Error;
use super::history;
use super::record::State;
use super::request::{Caller, Outcome, Request};
use super::settle::{Repair, Settlement, settle};

/// How many things one call puts right before it gives up: an unfinished change, a heal, and some for others' doing.
const MAX_ROUNDS: usize = 8;
/// The server's number for a wait for a row lock that took too long.
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// What a store is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    /// MySQL; its pool needs two connections for each change, and some for readers.
    pub database: Database,
    /// Redis.
    pub redis: Redis,
    /// The catalog's data types.
    pub type_names: Vec<String>,
    /// Limits.
    pub config: Config,
    /// How often workers send heartbeats.
    pub heartbeat_interval: Duration,
    /// The time that heartbeats are judged by.
    pub clock: Clock,
}

/// The whitelist. Cheap to clone; replicas of the control plane each have one.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
}

/// What all clones of a store share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: Database,
    pub(super) writer: Writer,
    pub(super) heartbeats: heartbeat::Store,
    pub(super) type_names: Vec<String>,
    pub(super) config: Config,
    pub(super) clock: Clock,
    /// One change at a time in this process: each takes two connections, so many at once could take them all and wait
    /// for each other.
    turn: Mutex<()>,
}

impl Store {
    /// Makes a store. Nothing is asked yet.
    pub fn new(parts: Parts) -> Self {
        let writer = Writer::new(parts.redis.clone(), parts.config.max_notice_ids);
        let heartbeats = heartbeat::Store::new(parts.redis, parts.heartbeat_interval);
        Self {
            shared: Arc::new(Shared {
                database: parts.database,
                writer,
                heartbeats,
                type_names: parts.type_names,
                config: parts.config,
                clock: parts.clock,
                turn: Mutex::new(()),
            }),
        }
    }

    /// Tells whether the catalog has a data type.
    pub fn knows(&self, data_type: &str) -> bool {
        self.shared.type_names.iter().any(|name| name == data_type)
    }

    /// Finds all faults of a request that can be seen without looking at the lists.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all of them.
    pub fn check_request(&self, caller: &Caller, request: &Request) -> Result<(), Error> {
        let shared = &self.shared;
        request.check(caller, &shared.type_names, &shared.config, shared.clock.now())
    }

    /// Makes a change, or says what it would do (`validate_only`).
    ///
    /// Returns when MySQL and Redis have it; workers are told by then and follow within milliseconds, or one poll
    /// period. Ends within [`Config::change_deadline`] and [`Config::commit_grace`].
    ///
    /// Dropping the future leaves nothing half-made: the reconciler finishes the change or fails it.
    ///
    /// # Errors
    /// See [`Error`]. Except for [`Error::Unknown`], and [`Error::Database`] while it was being written, nothing was
    /// changed.
    pub async fn change(&self, caller: &Caller, mut request: Request) -> Result<Outcome, Error> {
        let shared = &self.shared;
        self.check_request(caller, &request)?;
        // What the column holds, so that the same expiry compares as the same.
        request.expires_at = request
            .expires_at
            .map(|time| Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time));
        let work = Work::new(caller.clone(), request);
        if work.request.validate_only {
            return self.rehearse(work).await;
        }
        if let Some(outcome) = self.earlier(&work).await? {
            return Ok(outcome);
        }
        shared.run(work).await
    }

    /// Answers a repeated request without the lock, so that it is answered also while Redis is away.
    async fn earlier(&self, work: &Work) -> Result<Option<Outcome>, Error> {
        let Some(request_id) = &work.request.request_id else {
            return Ok(None);
        };
        let pool = self.shared.database.pool();
        let Some(record) = history::find_request(pool, &work.caller.principal, request_id).await? else {
            return Ok(None);
        };
        if record.digest != work.digest {
            return Err(Error::RequestIdReused(request_id.clone()));
        }
        if record.state != State::Applied {
            return Ok(None);
        }
        let effects = history::effects(pool, &record.change_id).await?;
        let max_ids = self.shared.config.max_reported_ids;
        Ok(Some(Outcome::of(&record, &effects, max_ids, true)))
    }

    async fn rehearse(&self, work: Work) -> Result<Outcome, Error> {
        let (shared, work) = (Arc::clone(&self.shared), Arc::new(work));
        let rehearsal = self.shared.database.tx("whitelist_validate", move |connection| {
            let (shared, work) = (Arc::clone(&shared), Arc::clone(&work));
            Box::pin(async move { rehearse(&shared, &work, connection).await })
        });
        rehearsal.await
    }
}

impl Shared {
    /// Makes a change.
    pub(super) async fn run(self: &Arc<Self>, work: Work) -> Result<Outcome, Error> {
        let deadline = Instant::now() + self.config.change_deadline;
        let work = Arc::new(work);
        let _turn = timeout_at(deadline, self.turn.lock()).await.map_err(|_| Error::Busy)?;
        for _ in 0..MAX_ROUNDS {
            let (shared, again) = (Arc::clone(self), Arc::clone(&work));
            let round = self.database.tx("whitelist_change", move |connection| {
                let (shared, work) = (Arc::clone(&shared), Arc::clone(&again));
                Box::pin(async move { step(&shared, &work, deadline, connection).await })
            });
            match timeout_at(deadline + self.config.commit_grace, round).await {
                Ok(Ok(Step::Done(outcome))) => return Ok(outcome),
                Ok(Ok(Step::Again)) => {}
                Ok(Ok(Step::Refused(error))) => return Err(error),
                Ok(Err(error)) => return Err(interrupted(&work, error)),
                Err(_) if work.intended.load(Ordering::Relaxed) => {
                    return Err(unknown(&work, "MySQL did not answer in time".to_owned()));
                }
                Err(_) => return Err(Error::Busy),
            }
        }
        Err(Error::Busy)
    }

    /// Settles what can be settled, until MySQL and Redis agree, and says what was done.
    pub(super) async fn settle(self: &Arc<Self>, floor: Version) -> Result<Vec<Repair>, Error> {
        let deadline = Instant::now() + self.config.change_deadline;
        let _turn = timeout_at(deadline, self.turn.lock()).await.map_err(|_| Error::Busy)?;
        let limit = Instant::now() + self.config.settle_limit;
        let mut repairs = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let shared = Arc::clone(self);
            let round = self.database.tx("whitelist_reconcile", move |connection| {
                let shared = Arc::clone(&shared);
                Box::pin(async move { settle(&shared, connection, deadline, floor).await })
            });
            match timeout_at(limit, round).await {
                Ok(Ok(Settlement::Repaired(repair))) => repairs.push(repair),
                Ok(Ok(Settlement::Agree { .. } | Settlement::Empty { .. })) => return Ok(repairs),
                Ok(Ok(Settlement::Unable { reason, .. })) => return Err(Error::CannotHeal(reason)),
                Ok(Err(error)) if is_lock_wait(&error) => return Err(Error::Busy),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(Error::Busy),
            }
        }
        Ok(repairs)
    }
}

/// Judges an error of MySQL by whether the change may have been made by then.
fn interrupted(work: &Work, error: Error) -> Error {
    if work.intended.load(Ordering::Relaxed) {
        return unknown(work, reprise_shared::telemetry::chain(&error).to_string());
    }
    if is_lock_wait(&error) { Error::Busy } else { error }
}

fn is_lock_wait(error: &Error) -> bool {
    matches!(error, Error::Database(error) if errors::number(error) == Some(LOCK_WAIT_TIMEOUT))
}

fn unknown(work: &Work, reason: String) -> Error {
    Error::Unknown {
        change_id: work.change_id.clone(),
        reason,
    }
}
