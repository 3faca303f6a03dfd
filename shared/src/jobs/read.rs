//! Jobs, for those who ask.

use jiff::Timestamp;
use sqlx::mysql::{MySql, MySqlExecutor, MySqlPool, MySqlRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _};

use super::model::{JobId, Kind, Mode};
use super::names::named;
use super::settle;
use super::states::JobState;
use super::task_row::time;
use crate::milliseconds;
use crate::mysql::times;
use crate::whitelist::Version;

/// A job as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Which one.
    pub id: JobId,
    /// What it does.
    pub kind: Kind,
    /// How it writes.
    pub mode: Mode,
    /// Its state.
    pub state: JobState,
    /// Why it failed, in one word; empty otherwise.
    pub reason: String,
    /// What happened, for a person.
    pub detail: String,
    /// JSON: what was asked.
    pub spec: String,
    /// JSON: an object of strings.
    pub labels: String,
    /// The names of its data types.
    pub data_types: Vec<String>,
    /// The hash of these types, their lookups and topics.
    pub catalog_hash: String,
    /// The whitelist that its lists were made from.
    pub whitelist_version: Version,
    /// Deletes before it writes.
    pub clean_first: bool,
    /// Ends as PARTIAL where positions are missing.
    pub allow_partial: bool,
    /// Higher goes first.
    pub priority: i16,
    /// Records a second of all of its tasks together.
    pub max_records_per_second: Option<u64>,
    /// How many records of its types it is expected to read.
    pub estimated_records: u64,
    /// Goes up with each change of the above.
    pub revision: u64,
    /// Who asked for it.
    pub created_by: String,
    /// When, by the database's clock, as all of these.
    pub created_at: Timestamp,
    /// When the first worker began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Where a page of jobs goes on: after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When it was created.
    pub created_at: Timestamp,
    /// Its id.
    pub id: JobId,
}

impl Job {
    /// Returns where the page after this job begins.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id,
        }
    }
}

/// Which jobs are listed; what is left out or empty matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobsFilter {
    /// In one of these states.
    pub states: Vec<JobState>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// In this mode.
    pub mode: Option<Mode>,
    /// With this data type among others.
    pub data_type: Option<String>,
    /// Asked for by this principal.
    pub created_by: Option<String>,
    /// With all of these labels.
    pub labels: Vec<(String, String)>,
}

const COLUMNS: &str = concat!(
    "job_id, kind, mode, state, reason, detail, spec, labels, data_types, catalog_hash, whitelist_version, clean_first, \
     allow_partial, priority, max_records_per_second, estimated_records, revision, created_by, ",
    milliseconds!("created_at"),
    " AS created_ms, ",
    milliseconds!("started_at"),
    " AS started_ms, ",
    milliseconds!("finished_at"),
    " AS finished_ms"
);

/// Finds a job; `None`: there is none, or it is being purged.
pub async fn job(executor: impl MySqlExecutor<'_>, id: JobId) -> sqlx::Result<Option<Job>> {
    let sql = format!("/* get_job */ SELECT {COLUMNS} FROM jobs WHERE job_id = ? AND purged_at IS NULL");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id.to_string())
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists jobs, the newest first; at most `limit`.
pub async fn jobs(pool: &MySqlPool, filter: &JobsFilter, after: Option<Cursor>, limit: u32) -> sqlx::Result<Vec<Job>> {
    let mut query = QueryBuilder::<MySql>::new(format!(
        "/* list_jobs */ SELECT {COLUMNS} FROM jobs WHERE purged_at IS NULL"
    ));
    if !filter.states.is_empty() {
        query.push(" AND state IN (");
        let mut states = query.separated(", ");
        for state in &filter.states {
            states.push_bind(state.as_str());
        }
        query.push(")");
    }
    for (condition, value) in [
        (" AND kind = ", filter.kind.map(Kind::as_str)),
        (" AND mode = ", filter.mode.map(Mode::as_str)),
        (" AND created_by = ", filter.created_by.as_deref()),
    ] {
        if let Some(value) = value {
            query.push(condition).push_bind(value);
        }
    }
    if let Some(data_type) = &filter.data_type {
        query
            .push(" AND JSON_CONTAINS(data_types, JSON_QUOTE(")
            .push_bind(data_type)
            .push("))");
    }
    for (key, value) in &filter.labels {
        query
            .push(" AND JSON_CONTAINS(labels, JSON_OBJECT(")
            .push_bind(key)
            .push(", ")
            .push_bind(value)
            .push("))");
    }
    if let Some(after) = after {
        let created_at = times::text(after.created_at);
        query.push(" AND (created_at < ").push_bind(created_at.clone());
        query.push(" OR (created_at = ").push_bind(created_at);
        query.push(" AND job_id < ").push_bind(after.id.to_string()).push("))");
    }
    query
        .push(" ORDER BY created_at DESC, job_id DESC LIMIT ")
        .push_bind(limit);
    let rows = query.build().persistent(false).fetch_all(pool).await?;
    rows.iter().map(read).collect()
}

fn read(row: &MySqlRow) -> sqlx::Result<Job> {
    let data_types: String = row.try_get("data_types")?;
    Ok(Job {
        id: settle::parse(row.try_get("job_id")?)?,
        kind: named(row, "kind")?,
        mode: named(row, "mode")?,
        state: named(row, "state")?,
        reason: row.try_get("reason")?,
        detail: row.try_get("detail")?,
        spec: row.try_get("spec")?,
        labels: row.try_get("labels")?,
        data_types: serde_json::from_str(&data_types).map_err(|error| sqlx::Error::Decode(error.into()))?,
        catalog_hash: row.try_get("catalog_hash")?,
        whitelist_version: Version(row.try_get("whitelist_version")?),
        clean_first: row.try_get("clean_first")?,
        allow_partial: row.try_get("allow_partial")?,
        priority: row.try_get("priority")?,
        max_records_per_second: row.try_get("max_records_per_second")?,
        estimated_records: row.try_get("estimated_records")?,
        revision: row.try_get("revision")?,
        created_by: row.try_get("created_by")?,
        created_at: times::from_milliseconds(row.try_get("created_ms")?),
        started_at: time(row, "started_ms")?,
        finished_at: time(row, "finished_ms")?,
    })
}
