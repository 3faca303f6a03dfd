//! Letters that resolve themselves: those of a lookup whose key exists by now.

use jiff::Timestamp;
use sqlx::mysql::{MySqlArguments, MySqlExecutor};
use sqlx::{Arguments, AssertSqlSafe, Row as _};

use super::State;
use crate::catalog::Lookup;
use crate::mysql::quote;
use crate::position::{Offset, Partition, TopicId};

/// A letter whose lookup key exists now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvable {
    /// Its number.
    pub id: u64,
    /// Its data type's name.
    pub data_type: String,
    /// Where its record is: topic id.
    pub topic_id: TopicId,
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: Offset,
    /// The key that was missing.
    pub lookup_key: String,
}

/// Finds letters of one lookup that are `RETRYING` and whose key exists in the lookup's table now, oldest first, at
/// most `limit`, behind the letter with number `after` (0: from the first). One query, on the index over (state, lookup, key).
pub async fn find_resolvable(
    executor: impl MySqlExecutor<'_>,
    lookup: &Lookup,
    after: u64,
    limit: u32,
) -> Result<Vec<Resolvable>, sqlx::Error> {
    let sql = format!(
        "/* find_resolvable_dead_letters */ SELECT l.id, l.data_type, l.topic_id, l.partition_number, \
         l.record_offset, l.lookup_key FROM dead_letters l \
         WHERE l.state = 'RETRYING' AND l.lookup_name = ? AND l.id > ? \
         AND EXISTS (SELECT 1 FROM {table} t WHERE t.{key} = l.lookup_key AND t.{value} IS NOT NULL) \
         ORDER BY l.id LIMIT ?",
        table = quote(&lookup.table),
        key = quote(&lookup.key),
        value = quote(&lookup.value),
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(&lookup.name)
        .bind(after)
        .bind(limit)
        .fetch_all(executor)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Resolvable {
                id: row.try_get("id")?,
                data_type: row.try_get("data_type")?,
                topic_id: TopicId::new(row.try_get::<String, _>("topic_id")?),
                partition: Partition(row.try_get("partition_number")?),
                offset: Offset(row.try_get("record_offset")?),
                lookup_key: row.try_get("lookup_key")?,
            })
        })
        .collect()
}

/// Moves open letters (`RETRYING` or `PARKED`) to another state; returns how many of `ids` were open. At most 1,000
/// ids a call are sensible.
pub async fn close(
    executor: impl MySqlExecutor<'_>,
    ids: &[u64],
    state: State,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "/* close_dead_letters */ UPDATE dead_letters SET state = ?, updated_at = ? \
         WHERE id IN ({}) AND state IN ('RETRYING', 'PARKED')",
        vec!["?"; ids.len()].join(",")
    );
    let mut arguments = MySqlArguments::default();
    arguments.add(state.as_str()).map_err(sqlx::Error::Encode)?;
    arguments
        .add(now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
        .map_err(sqlx::Error::Encode)?;
    for id in ids {
        arguments.add(*id).map_err(sqlx::Error::Encode)?;
    }
    Ok(sqlx::query_with(AssertSqlSafe(sql), arguments)
        .execute(executor)
        .await?
        .rows_affected())
}

/// Parks `LOOKUP_MISS` letters that were first stored before `horizon`; returns how many. At most 10,000 a call.
pub async fn park_misses_before(
    executor: impl MySqlExecutor<'_>,
    horizon: Timestamp,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    let parked = sqlx::query(
        "/* park_dead_letters */ UPDATE dead_letters SET state = 'PARKED', updated_at = ? \
         WHERE state = 'RETRYING' AND created_at < ? ORDER BY id LIMIT 10000",
    )
    .bind(now.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
    .bind(horizon.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string())
    .execute(executor)
    .await?;
    Ok(parked.rows_affected())
}

/// Counts `RETRYING` letters by data type.
pub async fn open_misses(executor: impl MySqlExecutor<'_>) -> Result<Vec<(String, u64)>, sqlx::Error> {
    let rows = sqlx::query(
        "/* open_lookup_misses */ SELECT data_type, COUNT(*) AS letters FROM dead_letters \
         WHERE state = 'RETRYING' GROUP BY data_type",
    )
    .fetch_all(executor)
    .await?;
    rows.iter()
        .map(|row| {
            let letters = u64::try_from(row.try_get::<i64, _>("letters")?).unwrap_or_default();
            Ok((row.try_get("data_type")?, letters))
        })
        .collect()
}
