//! Positions that a job should have read and could not.

use sqlx::mysql::{MySqlConnection, MySqlPool};
use sqlx::{QueryBuilder, Row as _};

use super::model::{Claim, JobId, Missing};
use super::names::named;
use super::task_row;
use crate::mysql::Database;
use crate::mysql::positions::topic_partition;
use crate::position::Offset;

/// How many rows one statement inserts.
const ROWS_AT_A_TIME: usize = 500;

/// Reads what is missing of a job, by data type, partition and start. Intervals that touch are one.
pub async fn missing(pool: &MySqlPool, job: JobId) -> sqlx::Result<Vec<Missing>> {
    let rows = sqlx::query(
        "/* job_missing */ SELECT data_type, topic, partition_number, start_position, end_position, reason \
         FROM job_missing WHERE job_id = ? ORDER BY data_type, topic, partition_number, start_position",
    )
    .bind(job.to_string())
    .fetch_all(pool)
    .await?;
    let intervals = rows.iter().map(|row| {
        Ok(Missing {
            data_type: row.try_get("data_type")?,
            topic_partition: topic_partition(row)?,
            start: Offset(row.try_get("start_position")?),
            end: Offset(row.try_get("end_position")?),
            reason: named(row, "reason")?,
        })
    });
    intervals.collect::<sqlx::Result<_>>().map(merged)
}

/// Puts missing positions of the caller's task on record. `false`: the task is not the caller's any more, and nothing
/// was written.
///
/// The checkpoint moves to `go_on_at` if it already stands at or behind the interval's start; otherwise work before
/// the interval may still be in flight, and the owner's next checkpoint moves it.
pub async fn note_missing(
    database: &Database,
    claim: &Claim,
    missing: &Missing,
    go_on_at: Offset,
) -> sqlx::Result<bool> {
    let (claim, missing) = (claim.clone(), missing.clone());
    let noted = database.tx("note_missing", move |connection| {
        let (claim, missing) = (claim.clone(), missing.clone());
        Box::pin(async move {
            let Some(mut task) = task_row::lock_one(connection, claim.task).await? else {
                return Ok(false);
            };
            if !task.ownership.is_owned_at(claim.epoch) {
                return Ok(false);
            }
            insert(connection, claim.task.job, std::slice::from_ref(&missing)).await?;
            if task.ownership.checkpoint >= missing.start {
                let (epoch, read) = (task.ownership.epoch, task.ownership.read);
                task.ownership.advance(epoch, go_on_at, read);
                task_row::write(connection, task.id, epoch, &task.ownership).await?;
            }
            Ok(true)
        })
    });
    noted.await
}

/// Stores missing positions. Noted again, an interval keeps its longer end.
pub(super) async fn insert(connection: &mut MySqlConnection, job: JobId, missing: &[Missing]) -> sqlx::Result<()> {
    for missing in missing.chunks(ROWS_AT_A_TIME) {
        let mut query = QueryBuilder::new(
            "/* insert_missing */ INSERT INTO job_missing (job_id, data_type, topic, partition_number, \
             start_position, end_position, reason, found_at) ",
        );
        query.push_values(missing, |mut row, one| {
            row.push_bind(job.to_string())
                .push_bind(&one.data_type)
                .push_bind(one.topic_partition.topic.as_str())
                .push_bind(one.topic_partition.partition.0)
                .push_bind(one.start.0)
                .push_bind(one.end.0)
                .push_bind(one.reason.as_str())
                .push("UTC_TIMESTAMP(3)");
        });
        query.push(" ON DUPLICATE KEY UPDATE end_position = GREATEST(end_position, VALUES(end_position))");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Joins intervals of one type, partition and reason that touch or overlap. They come by type, partition and start.
fn merged(intervals: Vec<Missing>) -> Vec<Missing> {
    let mut merged: Vec<Missing> = Vec::new();
    for next in intervals {
        match merged.last_mut() {
            Some(last)
                if last.data_type == next.data_type
                    && last.topic_partition == next.topic_partition
                    && last.reason == next.reason
                    && next.start <= last.end =>
            {
                last.end = last.end.max(next.end);
            }
            _ => merged.push(next),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::super::model::MissingReason;
    use super::*;
    use crate::position::{Partition, TopicName, TopicPartition};

    fn interval(data_type: &str, partition: u16, start: u64, end: u64, reason: MissingReason) -> Missing {
        Missing {
            data_type: data_type.to_owned(),
            topic_partition: TopicPartition {
                topic: TopicName::new("t"),
                partition: Partition(partition),
            },
            start: Offset(start),
            end: Offset(end),
            reason,
        }
    }

    #[test]
    fn intervals_that_touch_are_one() {
        use MissingReason::{Expired, Truncated};
        let found = merged(vec![
            interval("a", 0, 0, 10, Expired),
            interval("a", 0, 10, 20, Expired),
            interval("a", 0, 15, 18, Expired),
            interval("a", 0, 20, 30, Truncated),
            interval("a", 0, 31, 40, Truncated),
            interval("a", 1, 40, 50, Truncated),
            interval("b", 1, 50, 60, Truncated),
        ]);
        let expected = vec![
            interval("a", 0, 0, 20, Expired),
            interval("a", 0, 20, 30, Truncated),
            interval("a", 0, 31, 40, Truncated),
            interval("a", 1, 40, 50, Truncated),
            interval("b", 1, 50, 60, Truncated),
        ];
        assert_eq!(found, expected);
    }
}
