//! What a stack says of its records: a worker's counters, and the ledger.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use reprise_shared::ledger::{Coverage, CoverageKind, Interval, Range, Reader, holes, union};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_shared::tally::{RecordCounts, RowCounts};

use super::stack::{Stack, TOPIC};
use crate::fleet::{scrape, sum};

/// Members of the ledger that are read at a time.
const PAGE: usize = 5_000;

/// One worker's counters since it started.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(BTreeMap<String, f64>);

impl Counters {
    /// Reads the counters of the stack's worker.
    pub(super) async fn read(stack: &Stack) -> Result<Self> {
        ensure!(
            stack.endpoints.ingest_http.len() == 1,
            "the stack has not one ingest worker"
        );
        Ok(Self(scrape(&stack.endpoints.ingest_http[0]).await?))
    }

    fn sum(&self, name: &str, partition: Option<u16>, data_type: Option<&str>, outcome: Option<&str>) -> u64 {
        let partition = partition.map(|partition| partition.to_string());
        let labels: Vec<(&str, &str)> = [
            ("topic", Some(TOPIC)),
            ("partition", partition.as_deref()),
            ("data_type", data_type),
            ("outcome", outcome),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
        // A counter is a whole number far below 2^53.
        sum(&self.0, name, &labels) as u64
    }

    /// Records as Kafka delivered them; of one partition or all.
    pub(super) fn consumed(&self, partition: Option<u16>) -> u64 {
        self.sum("reprise_records_consumed_total", partition, None, None)
    }

    /// Records by outcome.
    pub(super) fn records(&self, partition: Option<u16>, data_type: Option<&str>) -> RecordCounts {
        let count = |outcome| self.sum("reprise_records_total", partition, data_type, Some(outcome));
        RecordCounts {
            processed: count("processed"),
            filtered: count("filtered"),
            skipped: count("skipped"),
            deferred: count("deferred"),
            dead_lettered: count("dead_lettered"),
        }
    }

    /// Rows that records yielded.
    pub(super) fn produced(&self) -> u64 {
        self.sum("reprise_rows_produced_total", None, None, None)
    }

    /// Rows by outcome.
    pub(super) fn rows(&self, partition: Option<u16>, data_type: Option<&str>) -> RowCounts {
        let count = |outcome| self.sum("reprise_rows_total", partition, data_type, Some(outcome));
        RowCounts {
            written: count("written"),
            superseded: count("superseded"),
            dead_lettered: count("dead_lettered"),
        }
    }
}

/// One partition's part of the ledger.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// The ranges of each data type of the catalog, ascending.
    pub(super) ranges: BTreeMap<String, Vec<Range>>,
    /// What is covered, ascending.
    pub(super) coverage: Vec<Coverage>,
}

impl Ledger {
    /// Reads everything of one partition.
    pub(super) async fn read(stack: &Stack, partition: u16) -> Result<Self> {
        let reader = Reader::new(stack.redis.clone());
        let topic = TopicName::new(TOPIC);
        let all = Interval::new(Offset(0), Offset(1 << 53));
        let partition = TopicPartition {
            topic: topic.clone(),
            partition: Partition(partition),
        };
        let mut ledger = Self::default();
        for (_, data_type) in stack.catalog.types_of_topic(&topic) {
            let ranges = ledger.ranges.entry(data_type.name.clone()).or_default();
            let mut cursor = None;
            loop {
                let page = reader.ranges(&data_type.name, &partition, all, cursor, PAGE).await?;
                ranges.extend(page.members);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
        }
        let mut cursor = None;
        loop {
            let page = reader.coverage(&partition, all, cursor, PAGE).await?;
            ledger.coverage.extend(page.members);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(ledger);
            }
        }
    }

    /// Returns the intervals in which every record has a durable outcome by live traffic, disjoint and ascending.
    pub(super) fn covered(&self) -> Vec<Interval> {
        let live = self.coverage.iter().filter(|part| part.kind == CoverageKind::Live);
        union(live.map(Coverage::interval))
    }

    /// Returns what lacks of `[0, end)`.
    pub(super) fn holes(&self, end: u64) -> Vec<Interval> {
        holes(Interval::new(Offset(0), Offset(end)), self.covered())
    }

    /// Returns the sums over the ranges of each data type in the newest run, and how many runs there are in all.
    pub(super) fn newest_run(&self) -> (BTreeMap<&str, (RecordCounts, RowCounts)>, usize) {
        // A run's id is a v7 UUID, so the newest is the greatest.
        let runs: std::collections::BTreeSet<_> = self.ranges.values().flatten().map(|range| &range.run).collect();
        let newest = runs.last().copied();
        let sums = self.ranges.iter().map(|(data_type, ranges)| {
            let mut sums = (RecordCounts::default(), RowCounts::default());
            for range in ranges.iter().filter(|range| Some(&range.run) == newest) {
                sums.0 += range.records;
                sums.1 += range.rows;
            }
            (data_type.as_str(), sums)
        });
        (sums.collect(), runs.len())
    }
}
