//! Lookup misses resolve themselves: when the missing key exists, the stored record goes through decode again and its
//! rows and the letter's new state are one transaction.
//!
//! One worker at a time does this, under a lease. Two would do no harm: the guard makes writing a row twice the same
//! as once, and a letter is closed once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reprise_shared::catalog::{Catalog, TypeIndex};
use reprise_shared::clock::Clock;
use reprise_shared::dead_letters::{self, Resolvable, State, StoredRecord};
use reprise_shared::decode::{Drafts, Limits, Plans, RecordSource};
use reprise_shared::enrich::{self, Lookups};
use reprise_shared::fault::{Fault, FaultClass};
use reprise_shared::filter::{Verdict, judge};
use reprise_shared::ingest_state::topics;
use reprise_shared::leases;
use reprise_shared::mysql::Database;
use reprise_shared::mysql::errors::{self, Phase};
use reprise_shared::position::TopicName;
use reprise_shared::row::Row;
use reprise_shared::telemetry::chain;
use reprise_shared::whitelist;
use sqlx::mysql::MySqlConnection;
use tokio_util::sync::CancellationToken;

use crate::sink::statement::Upsert;
use crate::types::Types;

const LEASE: &str = "lookup_misses";
/// Letters looked at in one round and lookup.
const ROUND: u32 = 500;
/// One statement of resolved rows holds at most so many bytes.
const STATEMENT_BYTES: usize = 4 << 20;

/// Why a letter could not be resolved this time. It is tried again in the next round.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("use the database")]
    Mysql(#[from] sqlx::Error),
    #[error("load lookups")]
    Lookup(#[from] enrich::Error),
}

impl reprise_shared::mysql::AsDriverError for Error {
    fn as_driver_error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Mysql(error) => Some(error),
            Self::Lookup(_) => None,
        }
    }
}

/// What became of a letter's record.
enum Resolution {
    Rows(Vec<Row>),
    Filtered,
    Faulty(Fault),
    /// Its topic is not the accepted one, or its type is stopped: it stays as it is.
    Later,
}

/// Resolves lookup misses of ingest.
pub struct Resolver {
    /// The declared types.
    pub catalog: Arc<Catalog>,
    /// The compiled catalog.
    pub plans: Arc<Plans>,
    /// The state of all types.
    pub types: Types,
    /// Lookups.
    pub lookups: Lookups,
    /// The whitelist of the moment decides.
    pub whitelist: whitelist::Handle,
    /// Letters and rows.
    pub database: Database,
    /// Limits of one payload.
    pub limits: Limits,
    /// Time.
    pub clock: Clock,
    /// This worker, for the lease.
    pub worker_id: String,
    /// The time between rounds.
    pub interval: Duration,
    /// Letters that are older are parked.
    pub park_after: Duration,
    /// More open letters than this stop their type.
    pub max_open: u64,
}

impl Resolver {
    /// Works until shutdown. Cancel-safe: a transaction that is dropped is rolled back.
    pub async fn run(self, shutdown: CancellationToken) {
        let upserts: Arc<[Upsert]> = self.catalog.data_types.iter().map(Upsert::new).collect();
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let round = shutdown.run_until_cancelled(self.round(&upserts)).await;
            if let Some(Err(error)) = round {
                tracing::warn!(error = %chain(&error), "resolve lookup misses");
            }
        }
        if let Err(error) = leases::release(self.database.pool(), LEASE, &self.worker_id).await {
            tracing::debug!(%error, "release the lease on lookup misses");
        }
    }

    async fn round(&self, upserts: &Arc<[Upsert]>) -> Result<(), Error> {
        let pool = self.database.pool();
        if leases::hold(pool, LEASE, &self.worker_id, self.interval * 3)
            .await?
            .is_none()
        {
            return Ok(());
        }
        for lookup in &self.catalog.lookups {
            let mut after = 0;
            loop {
                let letters = dead_letters::find_resolvable(pool, lookup, after, ROUND).await?;
                let Some(last) = letters.last() else { break };
                after = last.id;
                tracing::info!(
                    lookup.name = lookup.name,
                    letters = letters.len(),
                    "resolving lookup misses"
                );
                for letter in &letters {
                    self.settle(letter, upserts).await?;
                }
            }
        }
        self.tidy().await
    }

    /// Resolves one letter. A row that MySQL refuses parks its letter, so that it does not hold up the others; only an
    /// outage ends the round.
    async fn settle(&self, letter: &Resolvable, upserts: &Arc<[Upsert]>) -> Result<(), Error> {
        match self.resolve(letter, upserts).await {
            Err(Error::Mysql(error)) if !errors::classify(&error, Phase::Running).is_retryable() => {
                tracing::warn!(letter.id, %error, "a lookup miss is refused by MySQL and is parked");
                let now = self.clock.now();
                dead_letters::close(self.database.pool(), &[letter.id], State::Parked, now).await?;
                Ok(())
            }
            other => other,
        }
    }

    /// Parks misses that are too old, and stops types that have too many: then it is not a late key but a fault.
    async fn tidy(&self) -> Result<(), Error> {
        let pool = self.database.pool();
        let now = self.clock.now();
        let age = jiff::SignedDuration::try_from(self.park_after).unwrap_or(jiff::SignedDuration::MAX);
        let horizon = now.checked_sub(age).unwrap_or(Timestamp::MIN);
        dead_letters::park_misses_before(pool, horizon, now).await?;
        for (name, open) in dead_letters::open_misses(pool).await? {
            let Some(data_type) = self.catalog.find_data_type(&name) else {
                continue;
            };
            if open > self.max_open && !self.types.is_stopped(data_type) {
                let detail = format!("{open} open lookup misses; at most {} are kept", self.max_open);
                self.types.stop(data_type, "LOOKUP_MISSES", &detail).await;
            }
        }
        Ok(())
    }

    async fn resolve(&self, letter: &Resolvable, upserts: &Arc<[Upsert]>) -> Result<(), Error> {
        let Some(data_type) = self.catalog.find_data_type(&letter.data_type) else {
            return Ok(());
        };
        let pool = self.database.pool();
        let record = dead_letters::get_record(pool, &letter.topic_id, letter.partition, letter.offset).await?;
        let now = self.clock.now();
        let Some(record) = record else {
            return Ok(dead_letters::close(pool, &[letter.id], State::Parked, now)
                .await
                .map(|_| ())?);
        };
        let rows = match self.decode(letter, data_type, &record).await? {
            Resolution::Rows(rows) => rows,
            Resolution::Filtered => {
                dead_letters::close(pool, &[letter.id], State::Discarded, now).await?;
                return Ok(());
            }
            Resolution::Faulty(fault) => {
                tracing::info!(letter.id, %fault, "a lookup miss has another fault and is parked");
                dead_letters::close(pool, &[letter.id], State::Parked, now).await?;
                return Ok(());
            }
            Resolution::Later => return Ok(()),
        };
        let (upserts, rows, id) = (Arc::clone(upserts), Arc::new(rows), letter.id);
        self.database
            .tx("resolve_lookup_miss", move |connection| {
                let (upserts, rows) = (Arc::clone(&upserts), Arc::clone(&rows));
                Box::pin(async move {
                    write(connection, &upserts[data_type.0], &rows).await?;
                    dead_letters::close(connection, &[id], State::Redriven, now).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn decode(
        &self,
        letter: &Resolvable,
        data_type: TypeIndex,
        record: &StoredRecord,
    ) -> Result<Resolution, Error> {
        let topic = TopicName::new(&record.topic);
        let accepted = topics::accepted(self.database.pool(), &topic).await?;
        let current = accepted.filter(|accepted| accepted.topic_id == letter.topic_id);
        let (Some(accepted), Some(whitelist), false) =
            (current, self.whitelist.current(), self.types.is_stopped(data_type))
        else {
            return Ok(Resolution::Later);
        };
        let source = RecordSource {
            generation: accepted.generation,
            partition: letter.partition,
            offset: letter.offset,
            timestamp: record.timestamp().unwrap_or(-1),
            key: record.key.as_deref(),
            in_key: self.types.trusts_key(data_type),
        };
        let payload = record.payload.as_deref().unwrap_or_default();
        let mut drafts = Drafts::default();
        let decoder = self.plans.decoder(data_type);
        if let Err(fault) = decoder.decode(&source, payload, self.clock.now(), &self.limits, &mut drafts) {
            return Ok(Resolution::Faulty(fault));
        }
        if judge(&whitelist, data_type, drafts.id().as_bytes()) == Verdict::Filtered {
            return Ok(Resolution::Filtered);
        }
        let mut values = Vec::new();
        for &lookup in self.plans.lookups(data_type) {
            self.lookups.invalidate(lookup, [drafts.id()]);
            match self.lookups.resolve(lookup, &[drafts.id()]).await?.pop().flatten() {
                Some(value) => values.push((lookup, value)),
                None => return Ok(Resolution::Later),
            }
        }
        let value = |wanted| {
            values
                .iter()
                .find(|(lookup, _)| *lookup == wanted)
                .map_or("", |(_, value)| value.as_ref())
        };
        let mut rows = Vec::new();
        if let Err(fault) = drafts.complete(value, &mut rows) {
            return Ok(Resolution::Faulty(fault));
        }
        if !drafts.row_faults().is_empty() {
            let message = "some of its rows are faulty; redrive it to store a letter for each";
            return Ok(Resolution::Faulty(Fault::new(FaultClass::BadValue, message)));
        }
        Ok(Resolution::Rows(newest(rows)))
    }
}

/// Keeps the newest row of each key, in key order, as a batch does.
fn newest(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| {
        a.key
            .cmp(&b.key)
            .then((b.version, b.position).cmp(&(a.version, a.position)))
    });
    rows.dedup_by(|later, first| later.key == first.key);
    rows
}

async fn write(connection: &mut MySqlConnection, upsert: &Upsert, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut rest = rows;
    while !rest.is_empty() {
        let count = upsert.fitting(
            rest.iter().map(|row| upsert.row_bytes(row)),
            rest.len(),
            STATEMENT_BYTES,
        );
        let (part, after) = rest.split_at(count);
        let arguments = upsert.bind(part.iter(), part.iter().map(|row| upsert.row_bytes(row)).sum())?;
        sqlx::query_with(upsert.sql(count), arguments)
            .execute(&mut *connection)
            .await?;
        rest = after;
    }
    Ok(())
}
