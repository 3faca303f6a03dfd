//! The counts of rows as `task_lanes` keeps them.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::model::WriteCounts;

/// Selects the sums over the lanes of what is grouped.
pub(super) const SUMS: &str = "CAST(COALESCE(SUM(rows_inserted), 0) AS UNSIGNED) AS rows_inserted, \
    CAST(COALESCE(SUM(rows_updated), 0) AS UNSIGNED) AS rows_updated, \
    CAST(COALESCE(SUM(rows_unchanged), 0) AS UNSIGNED) AS rows_unchanged, \
    CAST(COALESCE(SUM(rows_stale), 0) AS UNSIGNED) AS rows_stale, \
    CAST(COALESCE(SUM(rows_superseded), 0) AS UNSIGNED) AS rows_superseded, \
    CAST(COALESCE(SUM(rows_dead_lettered), 0) AS UNSIGNED) AS rows_dead_lettered, \
    CAST(COALESCE(SUM(rows_deleted), 0) AS UNSIGNED) AS rows_deleted, \
    CAST(COALESCE(SUM(rows_missing), 0) AS UNSIGNED) AS rows_missing, \
    CAST(COALESCE(SUM(rows_different), 0) AS UNSIGNED) AS rows_different, \
    CAST(COALESCE(SUM(rows_older), 0) AS UNSIGNED) AS rows_older";

/// Reads what [`SUMS`] selected.
pub(super) fn write_counts(row: &MySqlRow) -> sqlx::Result<WriteCounts> {
    Ok(WriteCounts {
        inserted: row.try_get("rows_inserted")?,
        updated: row.try_get("rows_updated")?,
        unchanged: row.try_get("rows_unchanged")?,
        stale: row.try_get("rows_stale")?,
        superseded: row.try_get("rows_superseded")?,
        dead_lettered: row.try_get("rows_dead_lettered")?,
        deleted: row.try_get("rows_deleted")?,
        missing: row.try_get("rows_missing")?,
        different: row.try_get("rows_different")?,
        older: row.try_get("rows_older")?,
    })
}
