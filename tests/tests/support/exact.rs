//! Jobs over records of which each is a row of its own, so that their counts are known to the last one.

use anyhow::{Result, ensure};
use reprise_shared::jobs::JobId;
use reprise_tests::feed::{FeedConfig, FeedRecord, Fund, Made};
use reprise_tests::fleet::{Fleet, PATIENCE};

pub(crate) const FUNDS: u32 = 200;

/// Makes risk records, each of a key of its own: fund by fund, day by day.
pub(crate) fn records(count: u32, version: i64) -> Vec<FeedRecord> {
    let numbers = 0..count;
    numbers
        .map(|number| Made::risk_on(Fund(1 + number % FUNDS), number / FUNDS, version).record)
        .collect()
}

/// Checks that a job inserted and updated exactly so many rows, and that the tables are the oracle's.
pub(crate) async fn check(fleet: &Fleet, job: JobId, (inserted, updated): (u64, u64)) -> Result<()> {
    let progress = fleet.job_succeeds(job, PATIENCE).await?;
    let written = progress.written;
    ensure!(
        (written.inserted, written.updated) == (inserted, updated),
        "{written:?}, where {inserted} were to be inserted and {updated} updated"
    );
    ensure!(
        progress.read.read == inserted + updated,
        "{} of {} records were read",
        progress.read.read,
        inserted + updated
    );
    fleet
        .check_tables(Some(FeedConfig::only_funds(FUNDS)), Vec::new())
        .await?;
    Ok(())
}
