//! What must hold of a fleet after, and during, whatever was done to it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use reprise_shared::ledger::{CoverageKind, Interval, Reader, union};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};

use super::{Fleet, PATIENCE, sum};
use crate::feed::FeedConfig;
use crate::oracle::Folded;
use crate::wait::wait_for;

impl Fleet {
    /// Waits until every partition is committed up to its end of this moment, while more may arrive.
    pub async fn catches_up_to_now(&self) -> Result<()> {
        let marks = wait_for("the topic's ends", PATIENCE, async || self.positions().await).await?;
        let waited = wait_for("commits up to the ends of a moment ago", PATIENCE, async || {
            let now = self.positions().await.map_err(|error| format!("{error:#}"))?;
            let reached = now.iter().zip(&marks).all(|(now, mark)| now.0.unwrap_or(0) >= mark.1);
            if reached {
                Ok(())
            } else {
                Err(format!("(committed, end) were {marks:?} and are {now:?}"))
            }
        })
        .await;
        waited.with_context(|| self.all_logs())
    }

    /// Waits until everything is committed, and checks what every trial ends with: tables and dead letters equal the
    /// oracle's, and nothing was stopped or deferred.
    pub async fn check_all(&self, seed: &FeedConfig, allowed: Vec<String>) -> Result<Folded> {
        self.caught_up(PATIENCE).await?;
        let folded = self.check_tables(Some(seed.clone()), allowed).await?;
        self.check_letters(&folded).await?;
        for table in ["type_states", "partition_stops", "deferred"] {
            let rows = self.count(table).await?;
            ensure!(rows == 0, "{table} has {rows} rows");
        }
        Ok(folded)
    }

    /// Counts the rows of a table.
    pub async fn count(&self, table: &str) -> Result<i64> {
        let query = format!("SELECT COUNT(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&self.pool)
            .await
            .with_context(|| format!("count the rows of {table}"))
    }

    /// Checks that a worker gave every record of every partition exactly one outcome, and every row one.
    pub async fn check_accounting(&self, number: usize) -> Result<()> {
        let metrics = self.metrics(number).await?;
        for partition in 0..self.options.partitions {
            let partition = partition.to_string();
            let count = |name| sum(&metrics, name, &[("partition", &partition)]);
            let (consumed, outcomes) = (count("reprise_records_consumed_total"), count("reprise_records_total"));
            ensure!(
                consumed == outcomes,
                "partition {partition}: {consumed} records consumed, {outcomes} outcomes"
            );
            let (produced, settled) = (count("reprise_rows_produced_total"), count("reprise_rows_total"));
            ensure!(
                produced == settled,
                "partition {partition}: {produced} rows produced, {settled} settled"
            );
        }
        Ok(())
    }

    /// Returns what live traffic covers, by partition: disjoint, ascending.
    pub async fn coverage(&self) -> Result<Vec<Vec<Interval>>> {
        let reader = Reader::new(self.redis.clone());
        let everything = Interval::new(Offset(0), Offset(1 << 52));
        let mut covered = Vec::new();
        for partition in 0..self.options.partitions {
            let partition = TopicPartition {
                topic: TopicName::new(&self.topic),
                partition: Partition(partition),
            };
            let page = reader.coverage(&partition, everything, None, Reader::MAX_PAGE).await?;
            ensure!(
                page.unreadable == 0 && page.next.is_none(),
                "the coverage of {partition} is not one readable page"
            );
            let live = page.members.iter().filter(|member| member.kind == CoverageKind::Live);
            covered.push(union(live.map(|member| member.interval())));
        }
        Ok(covered)
    }

    /// Checks that coverage is one piece from the beginning to the end of every partition.
    pub async fn check_coverage_is_whole(&self) -> Result<()> {
        let (positions, coverage) = (self.positions().await?, self.coverage().await?);
        for (partition, ((_, end), covered)) in positions.iter().zip(&coverage).enumerate() {
            let end = Offset(u64::try_from(*end)?);
            let whole = union([Interval::new(Offset(0), end)]);
            ensure!(
                *covered == whole,
                "partition {partition} is covered in {covered:?}, not in {whole:?}"
            );
        }
        Ok(())
    }

    /// Checks I3 while no worker runs: the committed position is not above the ledger's coverage, and the ledger's
    /// coverage is not above what MySQL has. Returns how many records each of the two claims.
    pub async fn check_order_of_claims(&self, seed: &FeedConfig) -> Result<(u64, u64)> {
        let positions = self.positions().await?;
        let coverage = self.coverage().await?;
        let mut ends = BTreeMap::new();
        let (mut committed_records, mut covered_records) = (0, 0);
        for (number, ((committed, _), covered)) in (0..).zip(positions.iter().zip(&coverage)) {
            let committed = Offset(u64::try_from(committed.unwrap_or(0))?);
            let end = match covered.as_slice() {
                [] => Offset(0),
                [one] if one.start == Offset(0) => one.end,
                pieces => anyhow::bail!("the coverage of partition {number} has holes: {pieces:?}"),
            };
            ensure!(
                committed <= end,
                "partition {number}: Kafka was told {committed}, the ledger only {end}"
            );
            committed_records += committed.0;
            covered_records += end.0;
            ends.insert(Partition(number), end);
        }
        let folded = self.oracle_below(Some(ends), Some(seed.clone()), Vec::new()).await?;
        folded
            .compare_at_least(&self.pool)
            .await
            .context("MySQL lacks what the ledger covers")?;
        Ok((committed_records, covered_records))
    }

    /// Checks that MySQL has everything below each partition's given position.
    pub async fn check_written_below(&self, ends: &[i64], seed: &FeedConfig) -> Result<()> {
        let ends = (0..)
            .map(Partition)
            .zip(ends.iter().map(|end| Offset(u64::try_from(*end).unwrap_or(0))))
            .collect();
        let folded = self.oracle_below(Some(ends), Some(seed.clone()), Vec::new()).await?;
        folded.compare_at_least(&self.pool).await?;
        Ok(())
    }
}
