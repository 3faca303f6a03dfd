//! Puts a new job and its tasks into the store.

use sqlx::QueryBuilder;
use sqlx::mysql::MySqlConnection;

use super::model::{JobId, NewJob, Phase, Slice};
use super::states::{JobState, TaskState};
use super::{filters, missing};
use crate::mysql::times;

/// How many rows one statement inserts: 16 values each, far below the limit of 65,535.
const ROWS_AT_A_TIME: usize = 500;
/// A task has at most so many lanes.
pub const MAX_LANES: u8 = 64;

/// Creates a job with its tasks, lanes and lists, inside the caller's transaction. Repeating it for the same id changes
/// nothing.
///
/// # Errors
/// [`sqlx::Error::InvalidArgument`] for what no plan may contain: an empty slice, a list that does not exist, no lanes
/// or more than [`MAX_LANES`].
pub async fn create(connection: &mut MySqlConnection, id: JobId, job: &NewJob) -> sqlx::Result<()> {
    check(job).map_err(sqlx::Error::InvalidArgument)?;
    if !insert_job(connection, id, job).await? {
        return Ok(());
    }
    for (number, ids) in (0_u32..).zip(&job.filters) {
        filters::insert(connection, id, number, ids).await?;
    }
    missing::insert(connection, id, &job.missing).await?;
    insert_tasks(connection, id, job).await?;
    insert_lanes(connection, id, job).await
}

fn check(job: &NewJob) -> Result<(), String> {
    if !(1..=MAX_LANES).contains(&job.lanes) {
        return Err(format!("{} lanes: there have to be 1 to {MAX_LANES}", job.lanes));
    }
    if u32::try_from(job.slices.len()).is_err() || u32::try_from(job.filters.len()).is_err() {
        return Err("more slices or lists than can be numbered".to_owned());
    }
    for slice in &job.slices {
        if slice.start >= slice.end {
            return Err(format!("slice [{}, {}) is empty", slice.start, slice.end));
        }
        if slice.filter.is_some_and(|list| list as usize >= job.filters.len()) {
            return Err(format!(
                "slice [{}, {}) names a list that does not exist",
                slice.start, slice.end
            ));
        }
    }
    Ok(())
}

/// Inserts the job's row; `false`: it is there already.
async fn insert_job(connection: &mut MySqlConnection, id: JobId, job: &NewJob) -> sqlx::Result<bool> {
    let known: Option<i32> = sqlx::query_scalar("/* known_job */ SELECT 1 FROM jobs WHERE job_id = ?")
        .bind(id.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    if known.is_some() {
        return Ok(false);
    }
    let data_types = serde_json::to_string(&job.data_types).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query(
        "/* create_job */ INSERT INTO jobs (job_id, kind, mode, state, spec, labels, data_types, catalog_hash, \
         whitelist_version, clean_first, allow_partial, priority, max_records_per_second, estimated_records, revision, \
         created_by, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, UTC_TIMESTAMP(3))",
    )
    .bind(id.to_string())
    .bind(job.kind.as_str())
    .bind(job.mode.as_str())
    .bind(JobState::Pending.as_str())
    .bind(&job.spec)
    .bind(&job.labels)
    .bind(data_types)
    .bind(&job.catalog_hash)
    .bind(job.whitelist_version.0)
    .bind(job.clean_first)
    .bind(job.allow_partial)
    .bind(job.priority)
    .bind(job.max_records_per_second)
    .bind(job.estimated_records)
    .bind(&job.created_by)
    .execute(connection)
    .await?;
    Ok(true)
}

async fn insert_tasks(connection: &mut MySqlConnection, id: JobId, job: &NewJob) -> sqlx::Result<()> {
    let phase = if job.clean_first { Phase::Clean } else { Phase::Write };
    let numbered: Vec<(u32, &Slice)> = (0_u32..).zip(&job.slices).collect();
    for slices in numbered.chunks(ROWS_AT_A_TIME) {
        let mut query = QueryBuilder::new(
            "/* create_tasks */ INSERT INTO tasks (job_id, task_number, data_type, topic, topic_id, generation, \
             partition_number, start_position, end_position, filter, record_time_from, record_time_to, state, phase, \
             checkpoint) ",
        );
        query.push_values(slices, |mut row, (number, slice)| {
            row.push_bind(id.to_string())
                .push_bind(*number)
                .push_bind(&slice.data_type)
                .push_bind(slice.topic_partition.topic.as_str())
                .push_bind(slice.topic_id.as_str())
                .push_bind(slice.generation.0)
                .push_bind(slice.topic_partition.partition.0)
                .push_bind(slice.start.0)
                .push_bind(slice.end.0)
                .push_bind(slice.filter)
                .push_bind(slice.record_time_from.map(times::text))
                .push_bind(slice.record_time_to.map(times::text))
                .push_bind(TaskState::Pending.as_str())
                .push_bind(phase.as_str())
                .push_bind(slice.start.0);
        });
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn insert_lanes(connection: &mut MySqlConnection, id: JobId, job: &NewJob) -> sqlx::Result<()> {
    let numbers: Vec<u32> = (0_u32..).zip(&job.slices).map(|(number, _)| number).collect();
    let tasks_at_a_time = (ROWS_AT_A_TIME * 4 / usize::from(job.lanes)).max(1);
    for tasks in numbers.chunks(tasks_at_a_time) {
        let lanes = tasks
            .iter()
            .flat_map(|task| (0..job.lanes).map(move |lane| (*task, lane)));
        let mut query = QueryBuilder::new("/* create_lanes */ INSERT INTO task_lanes (job_id, task_number, lane) ");
        query.push_values(lanes, |mut row, (task, lane)| {
            row.push_bind(id.to_string()).push_bind(task).push_bind(lane);
        });
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}
