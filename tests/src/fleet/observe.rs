//! What workers say of themselves: counters, readiness, heartbeats.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::whitelist::{self, Version};

use super::{Fleet, PATIENCE};
use crate::wait::wait_for;

impl Fleet {
    /// Returns which whitelist version each worker says it applies.
    pub async fn applied_whitelists(&self) -> Result<Vec<Option<u64>>> {
        let store = heartbeat::Store::new(self.redis.clone(), heartbeat::Store::DEFAULT_INTERVAL);
        let fleet = store.list(Clock::system().now()).await?;
        Ok(fleet
            .workers
            .iter()
            .map(|beat| beat.whitelist.applied.map(|version| version.0))
            .collect())
    }

    /// Waits until every worker, and at least one, says that it applies a whitelist version.
    pub async fn whitelist_applied(&self, version: Version, limit: Duration) -> Result<()> {
        wait_for("all workers to apply the whitelist", limit, async || {
            let applied = self.applied_whitelists().await.map_err(|error| format!("{error:#}"))?;
            if !applied.is_empty() && applied.iter().all(|applied| *applied == Some(version.0)) {
                Ok(())
            } else {
                Err(format!("{applied:?}, {version:?} wanted"))
            }
        })
        .await
    }

    /// Waits until a control plane has put what it found in Redis on record: until then, the next version is on its way,
    /// and what was planned with the one before it holds no more.
    pub async fn whitelist_is_known(&self) -> Result<()> {
        let writer = whitelist::Writer::new(self.redis.clone(), 1_000);
        wait_for("one version of the whitelist", PATIENCE, async || {
            let held = writer.head().await?.map(|head| head.version.0);
            let version: u64 = sqlx::query_scalar("SELECT version FROM whitelist_head")
                .fetch_one(&self.pool)
                .await?;
            ensure!(held == Some(version), "version {version} on record, {held:?} in Redis");
            Ok(())
        })
        .await
    }

    /// Reads a worker's counters: name with labels → value.
    pub async fn metrics(&self, number: usize) -> Result<BTreeMap<String, f64>> {
        scrape(self.workers[number].http()).await
    }

    /// Returns why a worker says that it is not ready; `None`: it is ready.
    pub async fn not_ready(&self, number: usize) -> Result<Option<String>> {
        let answer = reqwest::get(format!("{}/readyz", self.workers[number].http())).await?;
        let ready = answer.status().is_success();
        let text = answer.text().await?;
        Ok((!ready).then_some(text))
    }
}

/// Reads the counters of the worker that serves at `http`: name with labels → value.
pub async fn scrape(http: &str) -> Result<BTreeMap<String, f64>> {
    let url = format!("{http}/metrics");
    let text = reqwest::get(url).await?.error_for_status()?.text().await?;
    Ok(text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect())
}

/// Sums counters by name prefix and a set of labels that must be present.
pub fn sum(metrics: &BTreeMap<String, f64>, name: &str, labels: &[(&str, &str)]) -> f64 {
    metrics
        .iter()
        .filter(|(full, _)| {
            let (base, rest) = full.split_once('{').unwrap_or((full, ""));
            base == name
                && labels
                    .iter()
                    .all(|(key, value)| rest.contains(&format!("{key}=\"{value}\"")))
        })
        .map(|(_, value)| value)
        .sum()
}
