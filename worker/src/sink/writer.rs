//! Puts one batch through, whatever the server does meanwhile.
//!
//! An outage of any kind is waited out: back-off is bounded, tries are not. The lane's connection is moved into a
//! local variable for each try, so that a try that is given up, by its deadline or by a hard shutdown, always closes
//! the connection with it.

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::TypeIndex;
use reprise_shared::mysql::errors::{self, Class, Phase};
use reprise_shared::row::Row;
use reprise_shared::tally::RowCounts;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use super::attempt::{Context, Failure, attempt};
use super::batch::Slot;
use super::connection::LaneConnection;
use super::control::StopReason;
use super::metrics::LaneMetrics;
use super::shared::{Shared, TypeState};
use super::stale;
use super::tries::Tries;
use super::work::Work;

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is durable.
    Committed,
    /// Its type is stopped, durably; nothing of the batch was written.
    Stopped,
}

/// A hard shutdown came first and the outcome is unknown, or the task belongs to another owner and nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the batch was abandoned")]
pub struct Abandoned;

/// Writes batches one after the other on one connection.
pub struct Writer {
    shared: Arc<Shared>,
    lane: String,
    number: u8,
    connection: Option<LaneConnection>,
    metrics: LaneMetrics,
    batches: u64,
}

impl Writer {
    /// Makes a writer; connects with the first batch. `lane` names it in logs and metrics, `number` is that of the lane
    /// among those of its table.
    pub fn new(shared: Arc<Shared>, lane: String, number: u8) -> Self {
        Self {
            metrics: LaneMetrics::new(&lane),
            shared,
            lane,
            number,
            connection: None,
            batches: 0,
        }
    }

    /// Writes a batch with its letters, for as long as it takes. Afterwards `work.batch.fates()` tells what became of
    /// each row. Dropping the future closes the lane's connection; the batch may or may not be committed then.
    pub async fn write(&mut self, work: &mut Work, shutdown: &CancellationToken) -> Result<Verdict, Abandoned> {
        let shared = self.shared.clone();
        let config = &shared.config;
        let mut tries = Tries::new(config, shared.clock.monotonic());
        loop {
            if work
                .data_type
                .is_some_and(|data_type| shared.control.is_stopped(data_type))
            {
                return Ok(Verdict::Stopped);
            }
            let Some(mut connection) = self.connected(&mut tries, shutdown).await? else {
                continue;
            };
            tries.prepare(work, connection.packet);
            let state = work.data_type.map(|data_type| &shared.types[data_type.0]);
            let context = Context {
                catalog: &shared.catalog,
                clock: &shared.clock,
                upsert: state.map(|state| &state.upsert),
                breaker: state.map(|state| &state.breaker),
                limit: tries.cap.min(connection.packet / 2),
                task: shared.task.as_ref(),
                lane: self.number,
            };
            let outcome = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Err(Abandoned),
                outcome = tokio::time::timeout(config.batch_deadline, attempt(&mut connection, work, &context)) => outcome,
            };
            match outcome {
                Ok(Ok(())) => {
                    self.committed(work, state, tries.started);
                    self.sample(connection, work, state).await;
                    return Ok(Verdict::Committed);
                }
                Ok(Err(failure)) => {
                    if let Some(reason) = self.failed(failure, connection, work, &mut tries, shutdown).await? {
                        let data_type = work.data_type.expect("only an upsert or a breaker stops a type");
                        self.stop(data_type, reason, shutdown).await?;
                        return Ok(Verdict::Stopped);
                    }
                }
                Err(_) => {
                    let id = connection.id;
                    drop(connection);
                    tracing::warn!(lane = self.lane, connection.id = id, "a batch passed its deadline");
                    self.kill(id).await;
                    self.wait("deadline", &mut tries, shutdown).await?;
                }
            }
        }
    }

    /// Keeps the connection after a committed batch, and looks at the batch again if it is its turn. Whatever goes wrong
    /// with that is nothing to the batch; the connection is dropped then.
    async fn sample(&mut self, mut connection: LaneConnection, work: &Work, state: Option<&TypeState>) {
        let every = self.shared.config.sample_every;
        self.batches += 1;
        if let Some(state) = state
            && self.batches.is_multiple_of(every)
        {
            let slots = (0..work.batch.slots()).map(Slot);
            let rows: Vec<&Row> = slots
                .filter_map(|slot| work.batch.row(slot))
                .map(|pending| &pending.row)
                .take(stale::SAMPLE)
                .collect();
            let count = state.stale.count(&mut connection.inner, &rows);
            match tokio::time::timeout(self.shared.config.command_deadline, count).await {
                Ok(Ok(stale)) => state.metrics.sampled(rows.len(), stale),
                Ok(Err(error)) => {
                    tracing::debug!(lane = self.lane, error = errors::describe(&error), "sample stale rows");
                    return;
                }
                Err(_) => return,
            }
        }
        self.connection = Some(connection);
    }

    /// Keeps an idle connection alive; a dead one is dropped, and the next batch opens another.
    pub async fn ping(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if let Ok(Ok(())) = tokio::time::timeout(self.shared.config.command_deadline, connection.ping()).await {
            self.connection = Some(connection);
        }
    }

    /// Closes the connection politely, within the command deadline.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // Nothing is open on it: a failure only means that the server closes it for us.
            let _ = tokio::time::timeout(self.shared.config.command_deadline, connection.close()).await;
        }
    }

    /// Takes the lane's connection out, opening one if there is none. `None`: that failed, and the wait is over.
    async fn connected(
        &mut self,
        tries: &mut Tries,
        shutdown: &CancellationToken,
    ) -> Result<Option<LaneConnection>, Abandoned> {
        if let Some(connection) = self.connection.take() {
            return Ok(Some(connection));
        }
        let deadline = self.shared.config.command_deadline;
        let opened = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Abandoned),
            opened = tokio::time::timeout(deadline, LaneConnection::open(&self.shared.connector)) => opened,
        };
        let (class, error) = match opened {
            Ok(Ok(connection)) => {
                self.metrics.connected();
                return Ok(Some(connection));
            }
            Ok(Err(error)) => (errors::classify(&error, Phase::Connecting), errors::describe(&error)),
            Err(_) => (Class::Transient, "timed out".to_owned()),
        };
        self.report(class, "cannot connect to MySQL", &error, tries);
        self.wait(class.as_str(), tries, shutdown).await?;
        Ok(None)
    }

    /// Deals with a failed try; returns why the type has to stop, or `None` when the batch is to be tried again.
    async fn failed(
        &mut self,
        failure: Failure,
        connection: LaneConnection,
        work: &Work,
        tries: &mut Tries,
        shutdown: &CancellationToken,
    ) -> Result<Option<(StopReason, String)>, Abandoned> {
        match failure {
            Failure::Driver { error, class } => {
                self.report(class, "a batch is tried again", &errors::describe(&error), tries);
                if class != Class::Unknown && !errors::is_connection_lost(&error) {
                    self.give_back(connection).await;
                } else {
                    drop(connection);
                }
                if class == Class::Deadlock && tries.deadlocks < self.shared.config.quick_deadlock_tries {
                    tries.deadlocks += 1;
                    self.metrics.retried(class.as_str(), self.age(tries));
                    tokio::time::sleep(Duration::from_millis(5).mul_f64(rand::random())).await;
                } else {
                    self.wait(class.as_str(), tries, shutdown).await?;
                }
                Ok(None)
            }
            Failure::Size {
                slots,
                slot,
                bytes,
                certain,
                error,
            } => {
                let packet = connection.packet;
                // The limit may have been changed on the server since: a new connection reads it again.
                drop(connection);
                let place = work.batch.place(slot).unwrap_or(usize::MAX);
                let losses = tries.lost_with(place);
                let too_often = losses >= 2 && tries.packet_reread && bytes > packet / 2;
                if !tries.packet_reread || !(certain || too_often) {
                    tries.packet_reread = true;
                    let message = error.as_ref().map_or_else(String::new, errors::describe);
                    self.report(Class::Size, "a statement may be too large", &message, tries);
                    self.wait(Class::Size.as_str(), tries, shutdown).await?;
                } else if slots > 1 {
                    tries.cap = bytes / 2;
                } else {
                    tries.too_large.insert((place, bytes));
                }
                Ok(None)
            }
            Failure::Fenced => {
                self.give_back(connection).await;
                if let Some(task) = self.shared.task() {
                    tracing::warn!(
                        lane = self.lane,
                        task.number = task.id.number,
                        "the task has another owner"
                    );
                    task.lost.cancel();
                }
                Err(Abandoned)
            }
            Failure::Schema { error } => {
                self.give_back(connection).await;
                Ok(Some((StopReason::Schema, errors::describe(&error))))
            }
            Failure::Breaker { load } => {
                self.give_back(connection).await;
                let detail = format!("{} of {} rows of one batch are dead letters", load.dead, load.all);
                Ok(Some((StopReason::Breaker, detail)))
            }
        }
    }

    /// Keeps a connection whose transaction can be rolled back.
    async fn give_back(&mut self, mut connection: LaneConnection) {
        let deadline = self.shared.config.command_deadline;
        if let Ok(Ok(())) = tokio::time::timeout(deadline, connection.roll_back()).await {
            self.connection = Some(connection);
        }
    }

    async fn stop(
        &self,
        data_type: TypeIndex,
        (reason, detail): (StopReason, String),
        shutdown: &CancellationToken,
    ) -> Result<(), Abandoned> {
        let name = self.shared.catalog.data_type(data_type).name.as_str();
        tracing::error!(
            data_type = name,
            reason = reason.as_str(),
            detail,
            "the sink stops a data type"
        );
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Err(Abandoned),
            () = self.shared.control.stop(data_type, reason, detail) => {}
        }
        self.shared.types[data_type.0].breaker.reset();
        self.metrics.settled();
        Ok(())
    }

    /// Ends a connection on the server, where a statement of it may still hold locks.
    async fn kill(&self, id: u64) {
        let sql = AssertSqlSafe(format!("/* kill_lane_connection */ KILL {id}"));
        let kill = sqlx::raw_sql(sql).execute(self.shared.database.pool());
        match tokio::time::timeout(self.shared.config.command_deadline, kill).await {
            Ok(Ok(_)) => {}
            // 1094: there is no such connection any more.
            Ok(Err(error)) if errors::number(&error) == Some(1094) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    connection.id = id,
                    error = errors::describe(&error),
                    "cannot kill a connection"
                );
            }
            Err(_) => tracing::warn!(connection.id = id, "cannot kill a connection in time"),
        }
    }

    async fn wait(
        &self,
        class: &'static str,
        tries: &mut Tries,
        shutdown: &CancellationToken,
    ) -> Result<(), Abandoned> {
        self.metrics.retried(class, self.age(tries));
        let delay = tries.waits.next_wait();
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Err(Abandoned),
            () = tokio::time::sleep(delay) => Ok(()),
        }
    }

    fn report(&self, class: Class, message: &'static str, error: &str, tries: &Tries) {
        let (lane, class_name, age) = (&self.lane, class.as_str(), self.age(tries).as_secs());
        match class {
            Class::Deadlock => tracing::debug!(lane, class = class_name, error, "{message}"),
            Class::Unknown => tracing::error!(lane, class = class_name, error, age_s = age, "{message}"),
            Class::Transient | Class::Size | Class::Data(_) | Class::Schema => {
                tracing::warn!(lane, class = class_name, error, age_s = age, "{message}");
            }
        }
    }

    fn age(&self, tries: &Tries) -> Duration {
        self.shared.clock.monotonic().saturating_sub(tries.started)
    }

    fn committed(&self, work: &Work, state: Option<&TypeState>, started: Duration) {
        self.metrics.settled();
        let Some(state) = state else {
            return;
        };
        let now = self.shared.clock.monotonic();
        state.breaker.record(now, work.load());
        let mut counts = RowCounts::default();
        counts.dead_lettered = work.batch.rejects().len() as u64;
        counts.written = (0..work.batch.slots())
            .filter(|slot| work.batch.place(Slot(*slot)).is_some())
            .count() as u64;
        counts.superseded = work.batch.rows().len() as u64 - counts.written - counts.dead_lettered;
        state
            .metrics
            .committed(counts, work.letters.len(), now.saturating_sub(started).as_secs_f64());
    }
}
