//! The entries of the lists.

use std::collections::HashMap;

use jiff::Timestamp;
use reprise_shared::whitelist::{Content, Head, Scope, Version};
use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlRow};
use sqlx::{Arguments, AssertSqlSafe, Row};

use super::history::{scope_name, scope_of};
use super::plan::{Current, Remark};
use super::record::Record;
use crate::times::{self, milliseconds};

/// How many ids one statement names: well below the limits of placeholders and packets.
const STEP: usize = 1_000;

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id that is let through.
    pub id: String,
    /// Who added it.
    pub added_by: String,
    /// When, by the database's clock.
    pub added_at: Timestamp,
    /// Why.
    pub note: String,
    /// When it is removed again.
    pub expires_at: Option<Timestamp>,
}

/// A page of entries, in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Where the next page begins: list those after this id. `None` at the end.
    pub next_after: Option<String>,
    /// The whitelist's version when the page was read.
    pub version: Version,
}

/// Reads what a plan needs: the list's size, and the entries that `ids` name, or all.
pub(super) async fn current(
    connection: &mut MySqlConnection,
    scope: &Scope,
    ids: Option<&[String]>,
) -> sqlx::Result<Current> {
    let entries = size(&mut *connection, scope).await?;
    let mut named = HashMap::new();
    let mut take = |rows: Vec<MySqlRow>| -> sqlx::Result<()> {
        for row in rows {
            let expires: Option<i64> = row.try_get("expires_ms")?;
            let remark = Remark {
                note: row.try_get("note")?,
                expires_at: expires.map(times::from_milliseconds),
            };
            named.insert(row.try_get("entry_id")?, remark);
        }
        Ok(())
    };
    const SELECT: &str = concat!(
        "/* whitelist_named */ SELECT entry_id, note, ",
        milliseconds!("expires_at"),
        " AS expires_ms FROM whitelist_entries WHERE scope = ?"
    );
    match ids {
        None => take(
            sqlx::query(SELECT)
                .bind(scope_name(scope))
                .fetch_all(connection)
                .await?,
        )?,
        Some(ids) => {
            for ids in ids.chunks(STEP) {
                let sql = format!("{SELECT} AND entry_id IN ({})", marks(ids.len(), "?"));
                let mut query = sqlx::query(AssertSqlSafe(sql)).bind(scope_name(scope));
                for id in ids {
                    query = query.bind(id);
                }
                take(query.fetch_all(&mut *connection).await?)?;
            }
        }
    }
    Ok(Current { entries, named })
}

/// Returns how many entries a list has.
pub(super) async fn size(executor: impl sqlx::MySqlExecutor<'_>, scope: &Scope) -> sqlx::Result<u64> {
    let size = sqlx::query_scalar("/* whitelist_size */ SELECT entries FROM whitelist_lists WHERE scope = ?")
        .bind(scope_name(scope))
        .fetch_optional(executor)
        .await?;
    Ok(size.unwrap_or(0))
}

/// Returns how many entries each list has that ever held something.
pub(super) async fn sizes(executor: impl sqlx::MySqlExecutor<'_>) -> sqlx::Result<Vec<(Scope, u64)>> {
    let rows = sqlx::query("/* whitelist_sizes */ SELECT scope, entries FROM whitelist_lists ORDER BY scope")
        .fetch_all(executor)
        .await?;
    rows.iter()
        .map(|row| Ok((scope_of(row.try_get("scope")?), row.try_get("entries")?)))
        .collect()
}

/// Returns how many entries all lists have.
pub(super) async fn total(executor: impl sqlx::MySqlExecutor<'_>) -> sqlx::Result<u64> {
    sqlx::query_scalar("/* whitelist_total */ SELECT CAST(COALESCE(SUM(entries), 0) AS UNSIGNED) FROM whitelist_lists")
        .fetch_one(executor)
        .await
}

/// Reads all lists, for Redis.
pub(super) async fn content(connection: &mut MySqlConnection, head: Head) -> sqlx::Result<Content> {
    let mut content = Content::new(head);
    let rows = sqlx::query("/* whitelist_content */ SELECT scope, entry_id FROM whitelist_entries")
        .fetch_all(connection)
        .await?;
    for row in rows {
        content
            .list_mut(scope_of(row.try_get("scope")?))
            .insert(row.try_get("entry_id")?);
    }
    Ok(content)
}

/// Puts entries on a list, as `record` says. Those that are there keep who added them and when, and take its note
/// and expiry.
pub(super) async fn put(
    connection: &mut MySqlConnection,
    scope: &Scope,
    ids: &[String],
    record: &Record,
) -> sqlx::Result<()> {
    let (added_at, expires_at) = (times::text(record.created_at), record.expires_at.map(times::text));
    for ids in ids.chunks(STEP) {
        let sql = format!(
            "/* whitelist_put */ INSERT INTO whitelist_entries (scope, entry_id, added_by, added_at, note, expires_at) \
             VALUES {} ON DUPLICATE KEY UPDATE note = VALUES(note), expires_at = VALUES(expires_at)",
            marks(ids.len(), "(?,?,?,?,?,?)")
        );
        let mut arguments = MySqlArguments::default();
        for id in ids {
            let mut bind = || -> Result<(), sqlx::error::BoxDynError> {
                arguments.add(scope_name(scope))?;
                arguments.add(id)?;
                arguments.add(&record.principal)?;
                arguments.add(&added_at)?;
                arguments.add(&record.note)?;
                arguments.add(&expires_at)
            };
            bind().map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(sql), arguments)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Takes entries off a list.
pub(super) async fn remove(connection: &mut MySqlConnection, scope: &Scope, ids: &[String]) -> sqlx::Result<()> {
    for ids in ids.chunks(STEP) {
        let sql = format!(
            "/* whitelist_remove */ DELETE FROM whitelist_entries WHERE scope = ? AND entry_id IN ({})",
            marks(ids.len(), "?")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(scope_name(scope));
        for id in ids {
            query = query.bind(id);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// Records a list's new size and version.
pub(super) async fn set_size(
    connection: &mut MySqlConnection,
    scope: &Scope,
    entries: u64,
    version: Version,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "/* whitelist_set_size */ INSERT INTO whitelist_lists (scope, entries, version, changed_at) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE entries = VALUES(entries), version = VALUES(version), \
         changed_at = VALUES(changed_at)",
    )
    .bind(scope_name(scope))
    .bind(entries)
    .bind(version.0)
    .bind(times::text(now))
    .execute(connection)
    .await?;
    Ok(())
}

/// Lists which lists have due entries.
pub(super) async fn due_scopes(executor: impl sqlx::MySqlExecutor<'_>) -> sqlx::Result<Vec<Scope>> {
    let names: Vec<String> = sqlx::query_scalar(
        "/* whitelist_due_lists */ SELECT scope FROM whitelist_lists WHERE EXISTS (SELECT 1 FROM whitelist_entries \
         WHERE whitelist_entries.scope = whitelist_lists.scope AND expires_at <= UTC_TIMESTAMP(3))",
    )
    .fetch_all(executor)
    .await?;
    Ok(names.into_iter().map(scope_of).collect())
}

/// Lists the due entries of a list in the order of their expiry.
pub(super) async fn due(
    executor: impl sqlx::MySqlExecutor<'_>,
    scope: &Scope,
    limit: usize,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "/* whitelist_due */ SELECT entry_id FROM whitelist_entries WHERE scope = ? AND expires_at <= UTC_TIMESTAMP(3) \
         ORDER BY expires_at, entry_id LIMIT ?",
    )
    .bind(scope_name(scope))
    .bind(limit as u64)
    .fetch_all(executor)
    .await
}

/// Counts due entries that are still there, of all lists.
pub(super) async fn overdue(executor: impl sqlx::MySqlExecutor<'_>) -> sqlx::Result<u64> {
    let count: i64 = sqlx::query_scalar(
        "/* whitelist_overdue */ SELECT COUNT(*) FROM whitelist_lists JOIN whitelist_entries \
         ON whitelist_entries.scope = whitelist_lists.scope AND expires_at <= UTC_TIMESTAMP(3)",
    )
    .fetch_one(executor)
    .await?;
    Ok(count.unsigned_abs())
}

/// What is selected of an entry.
const COLUMNS: &str = concat!(
    "entry_id, added_by, note, ",
    milliseconds!("added_at"),
    " AS added_ms, ",
    milliseconds!("expires_at"),
    " AS expires_ms"
);

/// Reads one page of the entries of a list whose ids begin with `prefix`.
pub(super) async fn page(
    executor: impl sqlx::MySqlExecutor<'_>,
    scope: &Scope,
    prefix: &str,
    after: &str,
    limit: usize,
) -> sqlx::Result<Vec<Entry>> {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '%' | '_' | '|') {
            pattern.push('|');
        }
        pattern.push(character);
    }
    pattern.push('%');
    let sql = format!(
        "/* whitelist_page */ SELECT {COLUMNS} FROM whitelist_entries WHERE scope = ? AND entry_id > ? \
         AND entry_id LIKE ? ESCAPE '|' ORDER BY entry_id LIMIT ?"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(scope_name(scope))
        .bind(after)
        .bind(pattern)
        .bind(limit as u64)
        .fetch_all(executor)
        .await?;
    rows.iter().map(entry).collect()
}

/// Reads the entries of a list that `ids` name, by id.
pub(super) async fn named(
    connection: &mut MySqlConnection,
    scope: &Scope,
    ids: &[String],
) -> sqlx::Result<HashMap<String, Entry>> {
    let mut found = HashMap::new();
    for ids in ids.chunks(STEP) {
        let marks = marks(ids.len(), "?");
        let sql = format!(
            "/* whitelist_check */ SELECT {COLUMNS} FROM whitelist_entries WHERE scope = ? AND entry_id IN ({marks})"
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(scope_name(scope));
        for id in ids {
            query = query.bind(id);
        }
        for row in query.fetch_all(&mut *connection).await? {
            let entry = entry(&row)?;
            found.insert(entry.id.clone(), entry);
        }
    }
    Ok(found)
}

fn entry(row: &MySqlRow) -> sqlx::Result<Entry> {
    let expires: Option<i64> = row.try_get("expires_ms")?;
    Ok(Entry {
        id: row.try_get("entry_id")?,
        added_by: row.try_get("added_by")?,
        added_at: times::from_milliseconds(row.try_get("added_ms")?),
        note: row.try_get("note")?,
        expires_at: expires.map(times::from_milliseconds),
    })
}

/// Returns `mark` so many times, with commas.
fn marks(count: usize, mark: &str) -> String {
    vec![mark; count].join(",")
}
