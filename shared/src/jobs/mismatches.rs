//! What a VERIFY found: one line for each row of the target table that is not as it should be.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlRow};
use sqlx::{QueryBuilder, Row as _};

use super::model::JobId;
use super::names::{named, names};

/// How many rows one statement takes.
const ROWS_AT_A_TIME: usize = 500;

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MismatchKind {
    /// There is none.
    Missing,
    /// It has the version and the position that it should have, and other values.
    Different,
    /// It comes from an older record.
    Older,
}

names!(MismatchKind {
    Missing = "MISSING",
    Different = "DIFFERENT",
    Older = "OLDER",
});

/// A row that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The data type's name.
    pub data_type: String,
    /// SHA-256 of the row's key.
    pub key_digest: [u8; 32],
    /// What is wrong.
    pub kind: MismatchKind,
    /// JSON: column to value.
    pub row_key: String,
    /// JSON: column to expected and stored value.
    pub differences: String,
    /// The source position of the record that the row should come from.
    pub source_position: Vec<u8>,
    /// The stored one; `None` where there is no row.
    pub stored_position: Option<Vec<u8>>,
}

/// Where a page of mismatches goes on: after this data type and key digest.
pub type MismatchCursor = (String, [u8; 32]);

/// Lists what a job found, by data type and key digest; at most `limit`.
pub async fn mismatches(
    pool: &MySqlPool,
    job: JobId,
    after: Option<&MismatchCursor>,
    limit: u32,
) -> sqlx::Result<Vec<Mismatch>> {
    let (data_type, digest) = after.map_or(("", &[][..]), |(data_type, digest)| (data_type.as_str(), &digest[..]));
    let rows = sqlx::query(
        "/* list_mismatches */ SELECT data_type, key_digest, kind, row_key, differences, source_position, \
         stored_position FROM job_mismatches WHERE job_id = ? \
         AND (data_type > ? OR (data_type = ? AND key_digest > ?)) ORDER BY data_type, key_digest LIMIT ?",
    )
    .bind(job.to_string())
    .bind(data_type)
    .bind(data_type)
    .bind(digest)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// Puts findings on record, within the transaction of their batch. Of several about one row that of the newest source
/// position stays. A job keeps at most `limit` of them: what goes beyond is left out (lanes that report at the very
/// same moment may go beyond it by a batch); the counts of lanes still tell of all.
pub async fn report(connection: &mut MySqlConnection, job: JobId, found: &[Mismatch], limit: u64) -> sqlx::Result<()> {
    // One for each row, in the order of the primary key, as all who write here.
    let mut newest: BTreeMap<(&str, &[u8; 32]), &Mismatch> = BTreeMap::new();
    for one in found {
        let kept = newest.entry((&one.data_type, &one.key_digest)).or_insert(one);
        if one.source_position >= kept.source_position {
            *kept = one;
        }
    }
    let all: Vec<&Mismatch> = newest.into_values().collect();
    for some in all.chunks(ROWS_AT_A_TIME) {
        let kept = within_limit(connection, job, some, limit).await?;
        if !kept.is_empty() {
            insert(connection, job, &kept).await?;
        }
    }
    Ok(())
}

/// Leaves out new rows for which there is no room.
async fn within_limit<'a>(
    connection: &mut MySqlConnection,
    job: JobId,
    found: &[&'a Mismatch],
    limit: u64,
) -> sqlx::Result<Vec<&'a Mismatch>> {
    let stored: i64 = sqlx::query_scalar("/* count_mismatches */ SELECT COUNT(*) FROM job_mismatches WHERE job_id = ?")
        .bind(job.to_string())
        .fetch_one(&mut *connection)
        .await?;
    let mut room = limit.saturating_sub(stored.unsigned_abs());
    if room >= found.len() as u64 {
        return Ok(found.to_vec());
    }
    let mut query =
        QueryBuilder::new("/* known_mismatches */ SELECT data_type, key_digest FROM job_mismatches WHERE job_id = ");
    query
        .push_bind(job.to_string())
        .push(" AND (data_type, key_digest) IN (");
    let mut keys = query.separated(", ");
    for one in found {
        keys.push("(").push_bind_unseparated(&one.data_type);
        keys.push_unseparated(", ")
            .push_bind_unseparated(&one.key_digest[..])
            .push_unseparated(")");
    }
    query.push(")");
    let rows = query.build().persistent(false).fetch_all(&mut *connection).await?;
    let known = rows
        .iter()
        .map(|row| Ok((row.try_get("data_type")?, row.try_get("key_digest")?)))
        .collect::<sqlx::Result<BTreeSet<(String, Vec<u8>)>>>()?;
    let mut kept = Vec::new();
    for one in found {
        if known.contains(&(one.data_type.clone(), one.key_digest.to_vec())) {
            kept.push(*one);
        } else if room > 0 {
            room -= 1;
            kept.push(*one);
        }
    }
    Ok(kept)
}

async fn insert(connection: &mut MySqlConnection, job: JobId, found: &[&Mismatch]) -> sqlx::Result<()> {
    let mut query = QueryBuilder::new(
        "/* report_mismatches */ INSERT INTO job_mismatches (job_id, data_type, key_digest, kind, row_key, differences, \
         source_position, stored_position, found_at) ",
    );
    query.push_values(found, |mut row, one| {
        row.push_bind(job.to_string())
            .push_bind(&one.data_type)
            .push_bind(&one.key_digest[..])
            .push_bind(one.kind.as_str())
            .push_bind(&one.row_key)
            .push_bind(&one.differences)
            .push_bind(&one.source_position)
            .push_bind(&one.stored_position)
            .push("UTC_TIMESTAMP(3)");
    });
    // Assigned from left to right: the position that decides comes last.
    query.push(" ON DUPLICATE KEY UPDATE ");
    for column in ["kind", "row_key", "differences", "stored_position", "found_at"] {
        query.push(format!(
            "{column} = IF(VALUES(source_position) >= source_position, VALUES({column}), {column}), "
        ));
    }
    query.push("source_position = GREATEST(source_position, VALUES(source_position))");
    query.build().persistent(false).execute(connection).await?;
    Ok(())
}

fn read(row: &MySqlRow) -> sqlx::Result<Mismatch> {
    let digest: Vec<u8> = row.try_get("key_digest")?;
    Ok(Mismatch {
        data_type: row.try_get("data_type")?,
        key_digest: digest
            .try_into()
            .map_err(|_| sqlx::Error::Decode("a key digest that is not 32 bytes long".into()))?,
        kind: named(row, "kind")?,
        row_key: row.try_get("row_key")?,
        differences: row.try_get("differences")?,
        source_position: row.try_get("source_position")?,
        stored_position: row.try_get("stored_position")?,
    })
}
