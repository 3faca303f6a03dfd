//! Requests with an id are done once and answered the same, whichever replica gets them, also at the same time.
//!
//! [`begin`] and [`finish`] stand at the two ends of the transaction of the change. Whoever comes second waits for
//! the first one's transaction and then finds its answer. A change that is no single transaction bears repetition: it
//! looks with [`find`] before, and begins and finishes in the transaction that puts its end on record. The whitelist's
//! changes have their own history for this.

use std::fmt::Write as _;

use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::Row;
use sqlx::mysql::{MySqlConnection, MySqlPool, MySqlRow};

/// A request is remembered this long.
const REMEMBERED_DAYS: u32 = 7;
/// Each new request removes at most so many old ones.
const MOST_FORGOTTEN: u32 = 20;

/// Which request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Who sent it.
    pub principal: String,
    /// Its id; empty: it is like no other.
    pub request_id: String,
    /// The method, as `Service/Method`.
    pub method: String,
    /// SHA-256 of its message, in hex.
    digest: String,
}

impl RequestKey {
    /// Names a request.
    pub fn new(principal: String, method: &str, request_id: &str, message: &impl Message) -> Self {
        let mut digest = String::with_capacity(64);
        for byte in Sha256::digest(message.encode_to_vec()) {
            // Writing to a string cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Self {
            principal,
            request_id: request_id.to_owned(),
            method: method.to_owned(),
            digest,
        }
    }
}

/// What is known of a request before its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun<A> {
    /// Nothing: make the change.
    New,
    /// It was made, with this answer.
    Answered(A),
    /// The id was used for another request.
    Reused,
}

/// Begins a request within the transaction of its change.
pub async fn begin<A: Message + Default>(
    connection: &mut MySqlConnection,
    request: &RequestKey,
) -> sqlx::Result<Begun<A>> {
    if request.request_id.is_empty() {
        return Ok(Begun::New);
    }
    // Waits for a transaction that has the same id.
    let inserted = sqlx::query(
        "/* begin_request */ INSERT IGNORE INTO requests (principal, request_id, method, digest, answer, created_at) \
         VALUES (?, ?, ?, ?, '', UTC_TIMESTAMP(3))",
    )
    .bind(&request.principal)
    .bind(&request.request_id)
    .bind(&request.method)
    .bind(&request.digest)
    .execute(&mut *connection)
    .await?;
    if inserted.rows_affected() > 0 {
        sqlx::query(
            "/* forget_requests */ DELETE FROM requests WHERE created_at < UTC_TIMESTAMP(3) - INTERVAL ? DAY LIMIT ?",
        )
        .bind(REMEMBERED_DAYS)
        .bind(MOST_FORGOTTEN)
        .execute(connection)
        .await?;
        return Ok(Begun::New);
    }
    let row = sqlx::query(
        "/* earlier_request */ SELECT method, digest, answer FROM requests WHERE principal = ? AND request_id = ? \
         FOR UPDATE",
    )
    .bind(&request.principal)
    .bind(&request.request_id)
    .fetch_one(connection)
    .await?;
    compare(&row, request)
}

/// Looks for an earlier request outside of any transaction.
pub async fn find<A: Message + Default>(pool: &MySqlPool, request: &RequestKey) -> sqlx::Result<Begun<A>> {
    if request.request_id.is_empty() {
        return Ok(Begun::New);
    }
    let row = sqlx::query(
        "/* find_request */ SELECT method, digest, answer FROM requests WHERE principal = ? AND request_id = ?",
    )
    .bind(&request.principal)
    .bind(&request.request_id)
    .fetch_optional(pool)
    .await?;
    row.map_or(Ok(Begun::New), |row| compare(&row, request))
}

fn compare<A: Message + Default>(row: &MySqlRow, request: &RequestKey) -> sqlx::Result<Begun<A>> {
    let (method, digest): (String, String) = (row.try_get("method")?, row.try_get("digest")?);
    if method != request.method || digest != request.digest {
        return Ok(Begun::Reused);
    }
    let answer: Vec<u8> = row.try_get("answer")?;
    let answer = A::decode(answer.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Begun::Answered(answer))
}

/// Keeps the answer, within the same transaction.
pub async fn finish(connection: &mut MySqlConnection, request: &RequestKey, answer: &impl Message) -> sqlx::Result<()> {
    if request.request_id.is_empty() {
        return Ok(());
    }
    sqlx::query("/* finish_request */ UPDATE requests SET answer = ? WHERE principal = ? AND request_id = ?")
        .bind(answer.encode_to_vec())
        .bind(&request.principal)
        .bind(&request.request_id)
        .execute(connection)
        .await?;
    Ok(())
}
