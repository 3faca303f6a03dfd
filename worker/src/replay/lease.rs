//! Keeps the lease of a task, on a connection of its own: nothing that the task waits for can delay it.

use std::time::Duration;

use reprise_shared::jobs::{self, Claim};
use reprise_shared::mysql::{Connector, errors};
use sqlx::mysql::MySqlConnection;
use tokio_util::sync::CancellationToken;

/// What a lease is kept by.
pub(super) struct Keeper {
    pub(super) connector: Connector,
    pub(super) claim: Claim,
    pub(super) owner: String,
    pub(super) lease: Duration,
    pub(super) every: Duration,
    /// Cancelled when the task has another owner.
    pub(super) lost: CancellationToken,
}

impl Keeper {
    /// Renews until `over`. While MySQL is away nobody else can claim the task either, so that is waited out; whoever wakes
    /// up too late is told so by the fence. Cancel-safe.
    pub(super) async fn run(self, over: CancellationToken) {
        let mut connection = None;
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The claim is fresh.
        ticks.tick().await;
        loop {
            let renewed = over.run_until_cancelled(async {
                ticks.tick().await;
                tokio::time::timeout(self.every, self.renew(&mut connection)).await
            });
            match renewed.await {
                None => return,
                Some(Ok(Ok(true))) => {}
                Some(Ok(Ok(false))) => {
                    tracing::warn!(task.number = self.claim.task.number, "the lease is another owner's");
                    self.lost.cancel();
                    return;
                }
                Some(Ok(Err(error))) => {
                    tracing::warn!(error = errors::describe(&error), "renew the lease of a task");
                    connection = None;
                }
                Some(Err(_)) => {
                    tracing::warn!("the lease of a task was not renewed in time");
                    connection = None;
                }
            }
        }
    }

    async fn renew(&self, connection: &mut Option<MySqlConnection>) -> sqlx::Result<bool> {
        // Taken out, so that a future that is dropped in the middle of a statement closes the connection.
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.connector.connect().await?,
        };
        let renewed = jobs::renew(&mut open, &self.claim, &self.owner, self.lease).await?;
        *connection = Some(open);
        Ok(renewed)
    }
}
