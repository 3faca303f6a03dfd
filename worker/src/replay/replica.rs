//! How far a replica of the database is behind.

use std::time::Duration;

use sqlx::Row;
use sqlx::mysql::MySqlPool;

/// Counts as the delay of a replica that does not replicate: the server says NULL then.
const STANDS_STILL: Duration = Duration::from_secs(3_600);

/// Asks a replica; zero when the server is no replica.
pub(super) async fn lag(pool: &MySqlPool) -> sqlx::Result<Duration> {
    let status = sqlx::raw_sql("SHOW REPLICA STATUS").fetch_all(pool).await?;
    let Some(first) = status.first() else {
        return Ok(Duration::ZERO);
    };
    // MariaDB keeps the column's old name.
    let seconds = first
        .try_get_unchecked::<Option<u64>, _>("Seconds_Behind_Source")
        .or_else(|_| first.try_get_unchecked::<Option<u64>, _>("Seconds_Behind_Master"))?;
    Ok(seconds.map_or(STANDS_STILL, Duration::from_secs))
}
