//! Where jobs of mode ISOLATED write: beside each target table one with the same columns and the job's id first in its
//! primary key. The migration command makes them; at run time nobody needs the right to.

use std::collections::BTreeSet;

use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Executor};

use crate::catalog::Catalog;
use crate::mysql::{errors, quote};

/// There is no such table.
const NO_TABLE: u16 = 1146;

/// The column that comes first: the job that wrote the row.
pub const JOB_COLUMN: &str = "replay_job_id";

/// Returns the table that isolated rows of a table go to.
pub fn table_of(table: &str) -> String {
    format!("{table}_replay")
}

/// Returns the tables that isolated rows of a catalog's types go to.
pub fn tables_of(catalog: &Catalog) -> BTreeSet<String> {
    let types = catalog.data_types.iter();
    types.map(|data_type| table_of(&data_type.table)).collect()
}

/// Removes rows of a job from one of [`tables_of`], at most `limit`, and returns how many. Where the table was never made,
/// there are none.
///
/// # Errors
/// The driver's.
pub async fn remove_rows(pool: &MySqlPool, table: &str, job: &str, limit: u32) -> sqlx::Result<u64> {
    let sql = format!(
        "/* purge_isolated */ DELETE FROM {} WHERE {JOB_COLUMN} = ? LIMIT ?",
        quote(table)
    );
    let removed = sqlx::query(AssertSqlSafe(sql))
        .bind(job)
        .bind(limit)
        .execute(pool)
        .await;
    match removed {
        Ok(removed) => Ok(removed.rows_affected()),
        Err(error) if errors::number(&error) == Some(NO_TABLE) => Ok(0),
        Err(error) => Err(error),
    }
}

/// What became of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// It was made.
    Now,
    /// It is there, with all columns of its target.
    Before,
    /// Columns that the target got since were added.
    Completed,
    /// There is no target table to make it after.
    NoTarget,
}

/// Makes what is missing for every target table of a catalog, and returns what became of each table. Safe to run again,
/// also after it was interrupted; not by several at once, so hold a [`MigrationLock`](crate::mysql::MigrationLock).
///
/// # Errors
/// The driver's; nothing else is wrong with a table then than that it is not there or not complete.
pub async fn make_tables(pool: &MySqlPool, catalog: &Catalog) -> sqlx::Result<Vec<(String, Made)>> {
    let mut done: Vec<(String, Made)> = Vec::new();
    for data_type in &catalog.data_types {
        let table = table_of(&data_type.table);
        if done.iter().all(|(known, _)| *known != table) {
            let key: Vec<&str> = data_type
                .key
                .iter()
                .map(|place| data_type.columns[*place].name.as_str())
                .collect();
            let made = make(pool, &data_type.table, &table, &key).await?;
            done.push((table, made));
        }
    }
    Ok(done)
}

async fn make(pool: &MySqlPool, target: &str, table: &str, key: &[&str]) -> sqlx::Result<Made> {
    let wanted = columns(pool, target).await?;
    if wanted.is_empty() {
        return Ok(Made::NoTarget);
    }
    let mut found = columns(pool, table).await?;
    let is_new = found.is_empty();
    if is_new {
        let sql = format!(
            "/* make_isolated_table */ CREATE TABLE IF NOT EXISTS {} LIKE {}",
            quote(table),
            quote(target)
        );
        pool.execute(AssertSqlSafe(sql)).await?;
        found = columns(pool, table).await?;
    }
    let name = |(name, _): &(String, String)| name.clone();
    let mut changes: Vec<String> = Vec::new();
    if !found.iter().any(|column| column.0 == JOB_COLUMN) {
        let key: Vec<String> = [JOB_COLUMN].iter().chain(key).map(|column| quote(column)).collect();
        changes.push(format!(
            "ADD COLUMN {} CHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL FIRST, DROP PRIMARY KEY, \
             ADD PRIMARY KEY ({})",
            quote(JOB_COLUMN),
            key.join(",")
        ));
    }
    let missing = wanted
        .iter()
        .filter(|column| !found.iter().any(|known| name(known) == name(column)));
    let added = missing.clone().count();
    changes.extend(missing.map(|(column, column_type)| format!("ADD COLUMN {} {column_type} NULL", quote(column))));
    if !changes.is_empty() {
        let sql = format!(
            "/* complete_isolated_table */ ALTER TABLE {} {}",
            quote(table),
            changes.join(", ")
        );
        pool.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(match (is_new, added) {
        (true, _) => Made::Now,
        (false, 0) => Made::Before,
        (false, _) => Made::Completed,
    })
}

/// Returns the columns of a table in their order, with their types; none when there is no such table.
async fn columns(pool: &MySqlPool, table: &str) -> sqlx::Result<Vec<(String, String)>> {
    sqlx::query_as(
        "/* columns_of_table */ SELECT CAST(COLUMN_NAME AS CHAR), CAST(COLUMN_TYPE AS CHAR) \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
    )
    .bind(table)
    .fetch_all(pool)
    .await
}
