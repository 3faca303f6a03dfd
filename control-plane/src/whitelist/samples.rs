//! Some of the ids of many changes, in one query.

use std::collections::HashMap;

use reprise_shared::whitelist::ChangeId;
use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Row};

use super::record::{Effect, Record};

/// Some of the ids of one change, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Ids that came onto the list.
    pub added: Vec<String>,
    /// Ids that left it.
    pub removed: Vec<String>,
}

/// Reads at most `most` ids of each effect. Of a large change only the first row of each effect is read.
pub(super) async fn read(pool: &MySqlPool, records: &[Record], most: usize) -> sqlx::Result<HashMap<ChangeId, Sample>> {
    let mut samples: HashMap<ChangeId, Sample> = HashMap::new();
    if records.is_empty() {
        return Ok(samples);
    }
    let marks = vec!["?"; records.len()].join(",");
    let sql = format!(
        "/* whitelist_samples */ SELECT whitelist_change_ids.change_id, whitelist_change_ids.effect, ids \
         FROM whitelist_change_ids JOIN (SELECT change_id, effect, MIN(chunk) AS chunk FROM whitelist_change_ids \
         WHERE change_id IN ({marks}) AND effect IN ('added', 'removed') GROUP BY change_id, effect) AS firsts \
         ON firsts.change_id = whitelist_change_ids.change_id AND firsts.chunk = whitelist_change_ids.chunk"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for record in records {
        query = query.bind(record.change_id.as_str());
    }
    for row in query.fetch_all(pool).await? {
        let (effect, ids): (String, String) = (row.try_get("effect")?, row.try_get("ids")?);
        let mut ids: Vec<String> = serde_json::from_str(&ids).map_err(|error| sqlx::Error::Decode(error.into()))?;
        ids.truncate(most);
        let sample = samples
            .entry(ChangeId::new(row.try_get::<String, _>("change_id")?))
            .or_default();
        if effect == Effect::Added.as_str() {
            sample.added = ids;
        } else {
            sample.removed = ids;
        }
    }
    Ok(samples)
}
