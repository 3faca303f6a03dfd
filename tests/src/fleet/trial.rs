//! What all fault trials share: a feed in which everything happens, and servers of which some are private.

use anyhow::{Result, ensure};

use super::Fleet;
use crate::env::Servers;
use crate::feed::{BadClass, BadShare, FeedConfig, MultiRow};
use crate::servers::Endpoints;

/// A feed with disorder, repeats, rows by the dozen and some bad records, so that every outcome happens.
pub fn feed_of_all_kinds(records: Option<u64>, seed: u64) -> FeedConfig {
    let classes = [
        BadClass::NotJson,
        BadClass::WrongType,
        BadClass::MissingField,
        BadClass::Tombstone,
        BadClass::Unmatched,
        BadClass::NoItems,
    ];
    FeedConfig {
        seed,
        records,
        funds: 500,
        disorder: 0.05,
        duplicates: 0.05,
        equal_versions: 0.05,
        multi_row: MultiRow {
            multi_row: 0.2,
            same_key: 0.2,
            ..MultiRow::default()
        },
        bad: classes.map(|class| BadShare { class, share: 0.002 }).to_vec(),
        ..FeedConfig::default()
    }
}

/// The shared servers, with some replaced by private ones.
pub async fn endpoints_with(replace: impl FnOnce(&mut Endpoints)) -> Result<Endpoints> {
    let mut endpoints = Servers::shared().await?.endpoints().clone();
    replace(&mut endpoints);
    Ok(endpoints)
}

impl Fleet {
    /// Checks what must hold after any trial with an empty whitelist: tables as the oracle has them, coverage without
    /// a hole, and the sums of every worker that runs.
    pub async fn check_trial(&mut self, config: &FeedConfig) -> Result<()> {
        self.check_all(config, Vec::new()).await?;
        self.check_coverage_is_whole().await?;
        for number in 0..self.workers.len() {
            if self.workers[number].pid().is_some() {
                self.check_accounting(number).await?;
            }
        }
        Ok(())
    }

    /// Checks that a worker kept its partitions all the while.
    pub fn check_kept_partitions(&self, number: usize) -> Result<()> {
        ensure!(
            !self.whole_log(number).contains("partitions revoked"),
            "{} lost partitions\n{}",
            self.names[number],
            self.log_of(number)
        );
        Ok(())
    }
}
