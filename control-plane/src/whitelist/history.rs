//! Every change that was begun, with its ids and what became of it.

use jiff::Timestamp;
use reprise_shared::whitelist::{ChangeId, Scope, Version};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Row};

use super::record::{Effect, Effects, Group, Kind, Record, State};
use super::request::RequestDigest;
use crate::times::{self, milliseconds};

/// How many ids one row of a change holds: 128 KiB at most, with room for escapes.
const CHUNK: usize = 1_000;
const MAX_FAILURE_CHARACTERS: usize = 1_000;

/// Returns the name of a list as columns hold it.
pub(super) fn scope_name(scope: &Scope) -> &str {
    match scope {
        Scope::Global => "",
        Scope::Type(name) => name,
    }
}

/// Reads the name of a list.
pub(super) fn scope_of(name: String) -> Scope {
    if name.is_empty() {
        Scope::Global
    } else {
        Scope::Type(name)
    }
}

/// Puts a change on record with its ids. Repeatable: what an earlier try of the same transaction left is replaced.
pub(super) async fn insert(connection: &mut MySqlConnection, record: &Record, effects: &Effects) -> sqlx::Result<()> {
    for statement in [
        "/* whitelist_intent */ DELETE FROM whitelist_changes WHERE change_id = ?",
        "/* whitelist_intent */ DELETE FROM whitelist_change_ids WHERE change_id = ?",
    ] {
        sqlx::query(statement)
            .bind(record.change_id.as_str())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "/* whitelist_intent */ INSERT INTO whitelist_changes (change_id, version, base_version, kind, scope, state, \
         failure, principal, request_id, request_digest, method, note, expires_at, added, removed, refreshed, \
         untouched, entries_before, created_at, finished_at) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    )
    .bind(record.change_id.as_str())
    .bind(record.version.map(|version| version.0))
    .bind(record.base_version.0)
    .bind(record.kind.as_str())
    .bind(scope_name(&record.scope))
    .bind(record.state.as_str())
    .bind(cut(&record.failure))
    .bind(&record.principal)
    .bind(&record.request_id)
    .bind(&record.digest.0)
    .bind(&record.method)
    .bind(&record.note)
    .bind(record.expires_at.map(times::text))
    .bind(record.added)
    .bind(record.removed)
    .bind(record.refreshed)
    .bind(record.untouched)
    .bind(record.entries_before)
    .bind(times::text(record.created_at))
    .bind(record.finished_at.map(times::text))
    .execute(&mut *connection)
    .await?;
    insert_ids(connection, &record.change_id, effects).await
}

async fn insert_ids(connection: &mut MySqlConnection, change_id: &ChangeId, effects: &Effects) -> sqlx::Result<()> {
    for (number, chunk) in (0_u32..).zip(chunks(effects)?) {
        sqlx::query(
            "/* whitelist_intent_ids */ INSERT INTO whitelist_change_ids (change_id, chunk, scope, effect, ids) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(change_id.as_str())
        .bind(number)
        .bind(chunk.scope)
        .bind(chunk.effect)
        .bind(chunk.ids)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// One row of a change's ids.
struct Chunk<'a> {
    scope: &'a str,
    effect: &'static str,
    ids: String,
}

fn chunks(effects: &Effects) -> sqlx::Result<Vec<Chunk<'_>>> {
    let mut chunks = Vec::new();
    for group in &effects.0 {
        for ids in group.ids.chunks(CHUNK) {
            chunks.push(Chunk {
                scope: scope_name(&group.scope),
                effect: group.effect.as_str(),
                ids: serde_json::to_string(ids).map_err(|error| sqlx::Error::Encode(error.into()))?,
            });
        }
    }
    Ok(chunks)
}

/// Records what became of a change. One that failed gives its request id back.
pub(super) async fn settle(
    connection: &mut MySqlConnection,
    change_id: &ChangeId,
    state: State,
    failure: &str,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* whitelist_settle */ UPDATE whitelist_changes SET state = ?, failure = ?, \
         request_id = IF(? = 'failed', NULL, request_id), \
         finished_at = IF(? IN ('applied', 'failed'), UTC_TIMESTAMP(3), NULL) WHERE change_id = ?",
    )
    .bind(state.as_str())
    .bind(cut(failure))
    .bind(state.as_str())
    .bind(state.as_str())
    .bind(change_id.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes an earlier heal an intent again, to try it under its old version.
pub(super) async fn reopen(connection: &mut MySqlConnection, change_id: &ChangeId) -> sqlx::Result<()> {
    settle(connection, change_id, State::Intent, "").await
}

/// What is selected of a change.
const COLUMNS: &str = concat!(
    "change_id, version, base_version, kind, scope, state, failure, principal, request_id, request_digest, method, \
     note, added, removed, refreshed, untouched, entries_before, ",
    milliseconds!("expires_at"),
    " AS expires_ms, ",
    milliseconds!("created_at"),
    " AS created_ms, ",
    milliseconds!("finished_at"),
    " AS finished_ms"
);

/// Lists the changes that somebody still has to settle, the oldest first.
pub(super) async fn unfinished(connection: &mut MySqlConnection) -> sqlx::Result<Vec<Record>> {
    let sql = format!(
        "/* whitelist_unfinished */ SELECT {COLUMNS} FROM whitelist_changes WHERE state IN ('intent', 'unknown') \
         ORDER BY version"
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(connection).await?;
    rows.iter().map(record_of).collect()
}

/// Finds a change by its id.
pub(super) async fn find(executor: impl sqlx::MySqlExecutor<'_>, change_id: &ChangeId) -> sqlx::Result<Option<Record>> {
    let sql = format!("/* whitelist_change */ SELECT {COLUMNS} FROM whitelist_changes WHERE change_id = ?");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(change_id.as_str())
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(record_of).transpose()
}

/// Finds a change by its version.
pub(super) async fn find_version(
    executor: impl sqlx::MySqlExecutor<'_>,
    version: Version,
) -> sqlx::Result<Option<Record>> {
    let sql = format!("/* whitelist_version */ SELECT {COLUMNS} FROM whitelist_changes WHERE version = ?");
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(version.0)
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(record_of).transpose()
}

/// Finds what an earlier request with this id did.
pub(super) async fn find_request(
    executor: impl sqlx::MySqlExecutor<'_>,
    principal: &str,
    request_id: &str,
) -> sqlx::Result<Option<Record>> {
    let sql = format!(
        "/* whitelist_request */ SELECT {COLUMNS} FROM whitelist_changes WHERE principal = ? AND request_id = ?"
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(principal)
        .bind(request_id)
        .fetch_optional(executor)
        .await?;
    row.as_ref().map(record_of).transpose()
}

/// Finds the change with the highest version that was ever given out.
pub(super) async fn last(connection: &mut MySqlConnection) -> sqlx::Result<Option<Record>> {
    let sql = format!(
        "/* whitelist_last */ SELECT {COLUMNS} FROM whitelist_changes WHERE version IS NOT NULL \
         ORDER BY version DESC LIMIT 1"
    );
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_optional(connection).await?;
    row.as_ref().map(record_of).transpose()
}

/// Lists changes that have a version below `before`, the newest first.
pub(super) async fn page(
    executor: impl sqlx::MySqlExecutor<'_>,
    before: Version,
    limit: usize,
) -> sqlx::Result<Vec<Record>> {
    let sql = format!(
        "/* whitelist_versions */ SELECT {COLUMNS} FROM whitelist_changes WHERE version < ? \
         ORDER BY version DESC LIMIT ?"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(before.0)
        .bind(limit as u64)
        .fetch_all(executor)
        .await?;
    rows.iter().map(record_of).collect()
}

/// Reads the ids of a change.
pub(super) async fn effects(executor: impl sqlx::MySqlExecutor<'_>, change_id: &ChangeId) -> sqlx::Result<Effects> {
    let rows = sqlx::query(
        "/* whitelist_change_ids */ SELECT scope, effect, ids FROM whitelist_change_ids WHERE change_id = ? \
         ORDER BY chunk",
    )
    .bind(change_id.as_str())
    .fetch_all(executor)
    .await?;
    let groups = rows.iter().map(|row| {
        let ids: String = row.try_get("ids")?;
        Ok(Group {
            scope: scope_of(row.try_get("scope")?),
            effect: named(Effect::ALL, Effect::as_str, row, "effect")?,
            ids: serde_json::from_str(&ids).map_err(|error| sqlx::Error::Decode(error.into()))?,
        })
    });
    groups.collect::<sqlx::Result<_>>().map(Effects)
}

fn record_of(row: &MySqlRow) -> sqlx::Result<Record> {
    let time = |column: &str| -> sqlx::Result<Option<Timestamp>> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(times::from_milliseconds))
    };
    Ok(Record {
        change_id: ChangeId::new(row.try_get::<String, _>("change_id")?),
        version: row.try_get::<Option<u64>, _>("version")?.map(Version),
        base_version: Version(row.try_get("base_version")?),
        kind: named(Kind::ALL, Kind::as_str, row, "kind")?,
        scope: scope_of(row.try_get("scope")?),
        state: named(State::ALL, State::as_str, row, "state")?,
        failure: row.try_get("failure")?,
        principal: row.try_get("principal")?,
        request_id: row.try_get("request_id")?,
        digest: RequestDigest(row.try_get("request_digest")?),
        method: row.try_get("method")?,
        note: row.try_get("note")?,
        expires_at: time("expires_ms")?,
        added: row.try_get("added")?,
        removed: row.try_get("removed")?,
        refreshed: row.try_get("refreshed")?,
        untouched: row.try_get("untouched")?,
        entries_before: row.try_get("entries_before")?,
        created_at: time("created_ms")?.unwrap_or_default(),
        finished_at: time("finished_ms")?,
    })
}

/// Finds a value by its stored name.
fn named<T: Copy, const N: usize>(
    all: [T; N],
    name_of: fn(T) -> &'static str,
    row: &MySqlRow,
    column: &str,
) -> sqlx::Result<T> {
    let name: String = row.try_get(column)?;
    let found = all.into_iter().find(|value| name_of(*value) == name);
    found.ok_or_else(|| sqlx::Error::Decode(format!("{name:?} is no {column} of a whitelist change").into()))
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_FAILURE_CHARACTERS).collect()
}
