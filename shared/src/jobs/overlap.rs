//! Which unfinished jobs a plan would run beside.

use sqlx::mysql::{MySqlPool, MySqlRow};
use sqlx::{QueryBuilder, Row as _};

use super::model::{JobId, Slice};
use super::names::named;
use super::settle;
use super::states::JobState;
use crate::mysql::positions::topic_partition;
use crate::position::{Offset, TopicPartition};

/// An unfinished job on the same records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Which job.
    pub job: JobId,
    /// Its state.
    pub state: JobState,
    /// Its data type; empty: all types of the topic.
    pub data_type: String,
    /// The partition.
    pub topic_partition: TopicPartition,
    /// The first position that it still has to do there.
    pub start: Offset,
    /// The position after the last one.
    pub end: Offset,
}

/// Finds unfinished jobs that still have to do positions of these slices, of the same types. Of each job, all that is
/// left between the first and the last position of a type and partition counts as one interval.
pub async fn overlapping(pool: &MySqlPool, slices: &[Slice]) -> sqlx::Result<Vec<Overlap>> {
    let mut topics: Vec<&str> = slices
        .iter()
        .map(|slice| slice.topic_partition.topic.as_str())
        .collect();
    topics.sort_unstable();
    topics.dedup();
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::new(
        "/* overlapping_jobs */ SELECT j.job_id, j.state, t.data_type, t.topic, t.partition_number, \
         MIN(t.checkpoint) AS first_start, MAX(t.end_position) AS last_end \
         FROM jobs j JOIN tasks t ON t.job_id = j.job_id \
         WHERE j.state IN ('PENDING', 'RUNNING', 'PAUSING', 'PAUSED', 'CANCELLING') AND t.state <> 'DONE' \
         AND t.topic IN (",
    );
    let mut names = query.separated(", ");
    for topic in topics {
        names.push_bind(topic);
    }
    query.push(
        ") GROUP BY j.job_id, j.state, t.data_type, t.topic, t.partition_number \
         ORDER BY j.job_id, t.data_type, t.topic, t.partition_number",
    );
    let rows = query.build().persistent(false).fetch_all(pool).await?;
    let found = rows.iter().map(read).collect::<sqlx::Result<Vec<_>>>()?;
    Ok(found
        .into_iter()
        .filter(|one| slices.iter().any(|slice| overlaps(one, slice)))
        .collect())
}

fn read(row: &MySqlRow) -> sqlx::Result<Overlap> {
    Ok(Overlap {
        job: settle::parse(row.try_get("job_id")?)?,
        state: named(row, "state")?,
        data_type: row.try_get("data_type")?,
        topic_partition: topic_partition(row)?,
        start: Offset(row.try_get("first_start")?),
        end: Offset(row.try_get("last_end")?),
    })
}

fn overlaps(one: &Overlap, slice: &Slice) -> bool {
    let is_same_type = one.data_type == slice.data_type || one.data_type.is_empty() || slice.data_type.is_empty();
    is_same_type && one.topic_partition == slice.topic_partition && one.start < slice.end && slice.start < one.end
}
