//! Looks after jobs, in every replica: all that it does may be done by several at once, and again.

use std::time::Duration;

use reprise_shared::telemetry::chain;
use reprise_shared::{isolated, jobs};
use tokio_util::sync::CancellationToken;

use super::Jobs;
use crate::metrics;

/// So many jobs are listed at once to be settled.
const MOST_UNSETTLED: u32 = 1_000;
/// So many finished jobs are removed in one go.
const MOST_PURGED: u32 = 20;
/// So many expired plans are removed in one go.
const MOST_PLANS: u32 = 100;

/// Runs for as long as the server does.
pub struct Keeper(Jobs);

impl Keeper {
    /// Makes it.
    pub fn new(jobs: Jobs) -> Self {
        Self(jobs)
    }

    /// Runs until `shutdown`. No fault ends it. Cancel-safe: what is dropped half-way is done by the next run.
    pub async fn run(self, shutdown: CancellationToken) {
        let both = async { tokio::join!(self.settle_again_and_again(), self.keep_again_and_again()) };
        shutdown.run_until_cancelled(both).await;
    }

    async fn settle_again_and_again(&self) {
        loop {
            self.settle().await;
            tokio::time::sleep(self.0.config().settle_every).await;
        }
    }

    async fn keep_again_and_again(&self) {
        loop {
            self.keep(self.0.config().keep_finished).await;
            tokio::time::sleep(self.0.config().keep_every).await;
        }
    }

    /// Moves all jobs to where their tasks brought them.
    async fn settle(&self) {
        let database = &self.0.0.database;
        let mut after = None;
        loop {
            let unsettled = match jobs::unsettled(database.pool(), after, MOST_UNSETTLED).await {
                Ok(unsettled) => unsettled,
                Err(error) => return failed("list unsettled jobs", &error),
            };
            for one in &unsettled {
                match jobs::settle(database, one.id).await {
                    // It was removed meanwhile.
                    Ok(_) | Err(sqlx::Error::RowNotFound) => {}
                    Err(error) => failed("settle a job", &error),
                }
            }
            after = unsettled.last().copied();
            if unsettled.len() < MOST_UNSETTLED as usize {
                return;
            }
        }
    }

    async fn keep(&self, keep_finished: Duration) {
        let database = &self.0.0.database;
        if let Err(error) = Box::pin(self.0.replay_deferred()).await {
            failed("replay deferred intervals", &error);
        }
        if let Err(error) = forget_plans(database.pool()).await {
            failed("forget plans", &error);
        }
        match jobs::census(database.pool()).await {
            Ok(census) => metrics::jobs(&census),
            Err(error) => failed("count jobs", &error),
        }
        let isolated = isolated::tables_of(self.0.planner().catalog());
        match jobs::purge_finished(database, keep_finished, MOST_PURGED, &isolated).await {
            Ok(purged) if purged.jobs > 0 => tracing::info!(jobs = purged.jobs, rows = purged.rows, "removed old jobs"),
            Ok(_) => {}
            Err(error) => failed("remove old jobs", &error),
        }
    }
}

async fn forget_plans(pool: &sqlx::MySqlPool) -> sqlx::Result<()> {
    sqlx::query("/* forget_plans */ DELETE FROM job_plans WHERE expires_at < UTC_TIMESTAMP(3) LIMIT ?")
        .bind(MOST_PLANS)
        .execute(pool)
        .await?;
    Ok(())
}

fn failed(what: &'static str, error: &(dyn std::error::Error + 'static)) {
    metrics::job_keeping_failed(what);
    tracing::warn!(what, error = %chain(error), "could not look after jobs; tried again soon");
}
