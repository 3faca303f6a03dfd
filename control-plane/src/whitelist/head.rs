//! The head row: whoever holds its lock may change the whitelist, here and in Redis.

use jiff::Timestamp;
use reprise_shared::whitelist::{ChangeId, Head, Version};
use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlRow};

use crate::times::{self, milliseconds};

/// Takes the lock, which lasts as long as the transaction, and returns the head and the database's time.
pub(super) async fn lock(connection: &mut MySqlConnection) -> sqlx::Result<(Head, Timestamp)> {
    let row = sqlx::query("/* whitelist_lock */ SELECT version, change_id FROM whitelist_head WHERE id = 1 FOR UPDATE")
        .fetch_one(&mut *connection)
        .await?;
    // Asked after the lock was had: the lock's own statement began before it waited.
    let now = sqlx::query_scalar(concat!(
        "/* whitelist_time */ SELECT ",
        milliseconds!("UTC_TIMESTAMP(3)")
    ))
    .fetch_one(connection)
    .await?;
    Ok((head_of(&row)?, times::from_milliseconds(now)))
}

/// Reads the head and the database's time without the lock.
pub(super) async fn look(executor: impl sqlx::MySqlExecutor<'_>) -> sqlx::Result<(Head, Timestamp)> {
    let row = sqlx::query(concat!(
        "/* whitelist_head */ SELECT version, change_id, ",
        milliseconds!("UTC_TIMESTAMP(3)"),
        " AS now_ms FROM whitelist_head WHERE id = 1"
    ))
    .fetch_one(executor)
    .await?;
    Ok((head_of(&row)?, times::from_milliseconds(row.try_get("now_ms")?)))
}

/// Moves the head; only with its lock.
pub(super) async fn set(connection: &mut MySqlConnection, head: &Head, now: Timestamp) -> sqlx::Result<()> {
    sqlx::query(
        "/* whitelist_move_head */ UPDATE whitelist_head SET version = ?, change_id = ?, changed_at = ? WHERE id = 1",
    )
    .bind(head.version.0)
    .bind(head.change_id.as_str())
    .bind(times::text(now))
    .execute(connection)
    .await?;
    Ok(())
}

fn head_of(row: &MySqlRow) -> sqlx::Result<Head> {
    Ok(Head {
        version: Version(row.try_get("version")?),
        change_id: ChangeId::new(row.try_get::<String, _>("change_id")?),
    })
}
