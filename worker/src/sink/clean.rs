//! Deletes the rows that records left, by their positions: what a job does first that is to begin from nothing.
//!
//! A row is deleted when its stored position has exactly a record's generation, partition and offset. What live traffic
//! wrote since has another position, so it stays.

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::backoff::Backoff;
use reprise_shared::catalog::DataType;
use reprise_shared::jobs::{self, WriteCounts};
use reprise_shared::mysql::errors::{self, Class, Phase};
use reprise_shared::mysql::{Connector, quote};
use reprise_shared::position::{Offset, RowNumber, SourcePosition};
use sqlx::mysql::MySqlArguments;
use sqlx::{Arguments, AssertSqlSafe};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::attempt::{Failure, run, unrelated};
use super::connection::LaneConnection;
use super::control::{StopReason, TypeControl};
use super::task::Task;
use super::writer::Abandoned;
use crate::chunk::Stretch;

/// The lane whose fence and counters deletions use.
const LANE: u8 = 0;

/// What a cleaner is made from.
pub struct Setup {
    /// The task.
    pub task: Task,
    /// Told of a fault.
    pub control: Arc<dyn TypeControl>,
    /// Opens its connection.
    pub connector: Connector,
    /// One try may take this long.
    pub deadline: Duration,
    /// Waits between tries.
    pub backoff: Backoff,
    /// Records of one transaction at most; at least 1.
    pub records: usize,
}

/// Deletes on one connection of its own.
pub struct Cleaner {
    setup: Setup,
    head: String,
    condition: String,
    connection: Option<LaneConnection>,
}

impl Cleaner {
    /// Makes a cleaner for one type; connects with the first deletion.
    pub fn new(setup: Setup, data_type: &DataType) -> Self {
        let position = quote(&data_type.version.position_column);
        Self {
            setup,
            head: format!(
                "/* clean_{} */ DELETE FROM {} WHERE ",
                data_type.name,
                quote(&data_type.table)
            ),
            condition: format!("({position} BETWEEN ? AND ?)"),
            connection: None,
        }
    }

    /// Returns how many records one transaction may have now.
    pub fn most_records(&self) -> usize {
        self.setup.records.min(self.setup.control.most_rows())
    }

    /// Deletes the rows of some records of one partition, in one transaction, for as long as it takes, and rests as lanes
    /// do. Deleting twice deletes nothing more, so the count of deleted rows is exact. Dropping the future closes the connection.
    ///
    /// # Errors
    /// A hard shutdown came first, or the task belongs to another owner.
    pub async fn delete(
        &mut self,
        stretch: &Stretch,
        offsets: &[Offset],
        shutdown: &CancellationToken,
    ) -> Result<(), Abandoned> {
        let mut waits = self.setup.backoff.waits();
        let begun = Instant::now();
        while !offsets.is_empty() {
            let tried = tokio::time::timeout(self.setup.deadline, self.attempt(stretch, offsets));
            let tried = shutdown.run_until_cancelled(tried).await.ok_or(Abandoned)?;
            let message = match tried {
                Ok(Ok(())) => break,
                Ok(Err(Failure::Fenced)) => {
                    self.setup.task.lost.cancel();
                    return Err(Abandoned);
                }
                Ok(Err(Failure::Schema { error })) => {
                    let detail = errors::describe(&error);
                    let stopping = self
                        .setup
                        .control
                        .stop(self.setup.task.data_type, StopReason::Schema, detail);
                    shutdown.run_until_cancelled(stopping).await.ok_or(Abandoned)?;
                    return Err(Abandoned);
                }
                Ok(Err(Failure::Driver { error, .. })) => errors::describe(&error),
                Ok(Err(failure @ (Failure::Size { .. } | Failure::Breaker { .. }))) => format!("{failure:?}"),
                Err(_) => "it took too long".to_owned(),
            };
            tracing::warn!(error = message, "a deletion is tried again");
            let pause = tokio::time::sleep(waits.next_wait());
            shutdown.run_until_cancelled(pause).await.ok_or(Abandoned)?;
        }
        let rest = self.setup.control.rest_after(begun.elapsed());
        if !rest.is_zero() {
            // What was deleted is deleted, whether it is told to stop now or not.
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(rest)).await;
        }
        Ok(())
    }

    async fn attempt(&mut self, stretch: &Stretch, offsets: &[Offset]) -> Result<(), Failure> {
        // Taken out, so that whatever fails closes the connection and rolls back.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => LaneConnection::open(&self.setup.connector).await.map_err(unrelated)?,
        };
        let task = &self.setup.task;
        run(&mut connection, "/* clean */ BEGIN").await?;
        let entered = jobs::lanes::enter(&mut connection.inner, task.id, LANE, task.epoch).await;
        if !entered.map_err(unrelated)? {
            return Err(Failure::Fenced);
        }
        let mut arguments = MySqlArguments::default();
        for offset in offsets {
            for row in [RowNumber(0), RowNumber(u32::MAX)] {
                let partition = stretch.topic_partition.partition;
                let position = SourcePosition::new(stretch.generation, partition, *offset, row);
                let added = arguments.add(position.as_bytes().as_slice());
                added.map_err(|error| unrelated(sqlx::Error::Encode(error)))?;
            }
        }
        let conditions = vec![self.condition.as_str(); offsets.len()].join(" OR ");
        let sql = AssertSqlSafe(format!("{}{conditions}", self.head));
        let deleted = sqlx::query_with(sql, arguments)
            .execute(&mut connection.inner)
            .await
            .map_err(|error| match errors::classify(&error, Phase::Running) {
                Class::Schema => Failure::Schema { error },
                _ => unrelated(error),
            })?;
        let counts = WriteCounts {
            deleted: deleted.rows_affected(),
            ..WriteCounts::default()
        };
        let counted = jobs::lanes::count(&mut connection.inner, task.id, LANE, &counts).await;
        counted.map_err(unrelated)?;
        run(&mut connection, "/* clean */ COMMIT").await?;
        self.connection = Some(connection);
        Ok(())
    }
}
