//! Which server this is: a changed identity means that acknowledged writes may be gone.

use sqlx::mysql::MySqlConnection;

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
