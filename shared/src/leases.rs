//! Leases: the right to do something alone until a time, by the database's clock.
//!
//! A lease tells processes apart that are alive; it does not stop a former holder that was frozen. What it guards must
//! bear being done twice, or carry the epoch as a fence.

use std::time::Duration;

use sqlx::mysql::MySqlPool;

/// Which holder in a row this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Takes or renews a lease; `None` while another holds it. `holder` names this process and must be unique.
pub async fn hold(pool: &MySqlPool, name: &str, holder: &str, ttl: Duration) -> sqlx::Result<Option<Epoch>> {
    let microseconds = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
    let renewed = sqlx::query(
        "/* hold_lease */ UPDATE leases SET epoch = IF(holder = ?, epoch, epoch + 1), holder = ?, \
         expires_at = DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND) \
         WHERE name = ? AND (holder = ? OR expires_at < UTC_TIMESTAMP(3))",
    )
    .bind(holder)
    .bind(holder)
    .bind(microseconds)
    .bind(name)
    .bind(holder)
    .execute(pool)
    .await?
    .rows_affected();
    if renewed == 0 {
        let taken = sqlx::query(
            "/* new_lease */ INSERT IGNORE INTO leases (name, holder, epoch, expires_at) \
             VALUES (?, ?, 1, DATE_ADD(UTC_TIMESTAMP(3), INTERVAL ? MICROSECOND))",
        )
        .bind(name)
        .bind(holder)
        .bind(microseconds)
        .execute(pool)
        .await?
        .rows_affected();
        if taken == 0 {
            return Ok(None);
        }
    }
    let epoch: Option<u64> =
        sqlx::query_scalar("/* lease_epoch */ SELECT epoch FROM leases WHERE name = ? AND holder = ?")
            .bind(name)
            .bind(holder)
            .fetch_optional(pool)
            .await?;
    Ok(epoch.map(Epoch))
}

/// Gives a lease back early, so that another need not wait for its end.
pub async fn release(pool: &MySqlPool, name: &str, holder: &str) -> sqlx::Result<()> {
    sqlx::query("/* release_lease */ UPDATE leases SET expires_at = UTC_TIMESTAMP(3) WHERE name = ? AND holder = ?")
        .bind(name)
        .bind(holder)
        .execute(pool)
        .await?;
    Ok(())
}
