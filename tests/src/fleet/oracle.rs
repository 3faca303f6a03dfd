//! The oracle of a fleet's topic, and the tables compared with it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use reprise_shared::clock::Clock;
use reprise_shared::position::{Offset, Partition};

use super::Fleet;
use crate::feed::{BasicSeed, FeedConfig, Fund};
use crate::oracle::{Folded, Oracle, Rules};
use crate::wait::blocking;

impl Fleet {
    /// Folds the topic in plain code: what the tables must hold when all basic data was seeded from `seed` and the
    /// given ids are allowed (all when the list is empty).
    pub async fn oracle(&self, seed: Option<FeedConfig>, allowed: Vec<String>) -> Result<Folded> {
        self.fold(None, seed, Vec::new(), allowed).await
    }

    /// As [`Self::oracle`], when the lookup knows some more funds than the seeded ones.
    pub async fn oracle_knowing(&self, more: &[u32], seed: FeedConfig, allowed: Vec<String>) -> Result<Folded> {
        self.fold(None, Some(seed), more.to_vec(), allowed).await
    }

    /// Folds the records below some positions, or all.
    pub(super) async fn oracle_below(
        &self,
        ends: Option<BTreeMap<Partition, Offset>>,
        seed: Option<FeedConfig>,
        allowed: Vec<String>,
    ) -> Result<Folded> {
        self.fold(ends, seed, Vec::new(), allowed).await
    }

    async fn fold(
        &self,
        ends: Option<BTreeMap<Partition, Offset>>,
        seed: Option<FeedConfig>,
        more: Vec<u32>,
        allowed: Vec<String>,
    ) -> Result<Folded> {
        let (brokers, topic) = (self.isolation.kafka_brokers().to_owned(), self.topic.clone());
        blocking("fold the topic", Duration::from_secs(600), move || {
            let mut oracle = Oracle::read_topic(&brokers, &topic)?;
            if let Some(ends) = ends {
                oracle.truncate(&ends);
            }
            let allowed: std::collections::BTreeSet<String> = allowed.into_iter().collect();
            let lets = |id: &str| allowed.is_empty() || allowed.contains(id);
            let basic = seed.as_ref().map(BasicSeed::new);
            let mut lookup = basic.as_ref().map(|basic| basic.lookup()).unwrap_or_default();
            lookup.extend(
                more.iter()
                    .map(|fund| (Fund(*fund).performance_id(), Fund(*fund).fund_code())),
            );
            let now = Clock::system().now();
            let rules = Rules {
                allowed: &lets,
                seed: basic,
                ..Rules::new(&lookup, now)
            };
            Ok(oracle.fold(&rules))
        })
        .await
    }

    /// Checks that the tables equal the oracle, row for row.
    pub async fn check_tables(&self, seed: Option<FeedConfig>, allowed: Vec<String>) -> Result<Folded> {
        let folded = self.oracle(seed, allowed).await?;
        folded.compare(&self.pool).await?;
        Ok(folded)
    }
}
