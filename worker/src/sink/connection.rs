//! A lane's own connection, outside any pool.

use reprise_shared::mysql::Connector;
use sqlx::Connection as _;
use sqlx::Executor;
use sqlx::mysql::MySqlConnection;

/// An open connection that belongs to one lane, with what the lane must know about it.
///
/// Dropping it closes the socket for good. That is what makes it safe to drop a future that holds it in the middle of
/// a statement: nobody can ever be handed its open transaction.
#[derive(Debug)]
pub struct LaneConnection {
    pub(super) inner: MySqlConnection,
    /// The server's number for it, for `KILL`.
    pub id: u64,
    /// `max_allowed_packet` of its session, in bytes.
    pub packet: usize,
}

impl LaneConnection {
    /// Opens a connection and asks for its number and packet limit.
    pub async fn open(connector: &Connector) -> Result<Self, sqlx::Error> {
        let mut inner = connector.connect().await?;
        let (id, packet): (u64, u64) =
            sqlx::query_as("/* lane_connection */ SELECT CONNECTION_ID(), @@max_allowed_packet")
                .persistent(false)
                .fetch_one(&mut inner)
                .await?;
        Ok(Self {
            inner,
            id,
            packet: usize::try_from(packet).unwrap_or(usize::MAX),
        })
    }

    /// Rolls back whatever is open.
    pub async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.inner.execute("/* lane */ ROLLBACK").await.map(|_| ())
    }

    /// Asks the server for a sign of life, which also restarts its `wait_timeout`.
    pub async fn ping(&mut self) -> Result<(), sqlx::Error> {
        self.inner.ping().await
    }

    /// Says goodbye and closes.
    pub async fn close(self) -> Result<(), sqlx::Error> {
        self.inner.close().await
    }
}
