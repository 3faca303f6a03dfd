//! Which server this is: a changed identity means that acknowledged writes may be gone.

use sqlx::mysql::{MySqlConnection, MySqlPool};

use super::errors;

/// A server, as far as it can be told from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `server_uuid` (MySQL), or host name, port and data folder (MariaDB).
    pub id: String,
    /// The server's version.
    pub version: String,
}

/// Asks the server who it is.
pub async fn server_identity(connection: &mut MySqlConnection) -> Result<ServerIdentity, sqlx::Error> {
    const MYSQL: &str = "/* server_identity */ SELECT CAST(@@server_uuid AS CHAR), VERSION()";
    // 1193: MariaDB has no such variable.
    const MARIADB: &str = "/* server_identity */ SELECT CONCAT(@@hostname, ':', @@port, ':', @@datadir), VERSION()";
    let answer: Result<(String, String), _> = sqlx::query_as(MYSQL).fetch_one(&mut *connection).await;
    let (id, version) = match answer {
        Err(error) if errors::number(&error) == Some(1193) => sqlx::query_as(MARIADB).fetch_one(connection).await?,
        other => other?,
    };
    Ok(ServerIdentity { id, version })
}

/// Another server than the last time, found out by this process and told to nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerChange {
    /// The server that was there before.
    pub previous: String,
    /// The server that is there now.
    pub current: String,
    /// When the former was last seen, in UTC, by its own clock.
    pub previous_seen_at: String,
}

/// Compares the server with the one on record and puts it on record. Of several processes one is told of a change.
///
/// Cancel-safe: a change that was put on record and not told stays in the table `database_server`.
pub async fn note_server(pool: &MySqlPool) -> Result<Option<ServerChange>, sqlx::Error> {
    // All on one connection: another one may lead to another server.
    let mut connection = pool.acquire().await?;
    let server = server_identity(&mut connection).await?;
    // Assigned from left to right, so what is read on the right was not yet assigned.
    let changed = sqlx::query(
        "/* note_other_server */ UPDATE database_server SET previous = identity, previous_seen_at = seen_at, \
         changed_at = UTC_TIMESTAMP(3), identity = ?, version = ?, seen_at = UTC_TIMESTAMP(3) \
         WHERE only_row = 1 AND identity <> ?",
    )
    .bind(&server.id)
    .bind(&server.version)
    .bind(&server.id)
    .execute(&mut *connection)
    .await?
    .rows_affected();
    if changed == 0 {
        sqlx::query(
            "/* note_server */ INSERT INTO database_server (only_row, identity, version, seen_at) \
             VALUES (1, ?, ?, UTC_TIMESTAMP(3)) \
             ON DUPLICATE KEY UPDATE version = VALUES(version), seen_at = VALUES(seen_at)",
        )
        .bind(&server.id)
        .bind(&server.version)
        .execute(&mut *connection)
        .await?;
        return Ok(None);
    }
    let (previous, previous_seen_at) = sqlx::query_as(
        "/* previous_server */ SELECT previous, DATE_FORMAT(previous_seen_at, '%Y-%m-%dT%H:%i:%sZ') \
         FROM database_server WHERE only_row = 1",
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Some(ServerChange {
        previous,
        current: server.id,
        previous_seen_at,
    }))
}
