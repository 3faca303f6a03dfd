//! What stands in the ledger's ZSETs: keys, and members as small JSON that a person with redis-cli can read.
//!
//! A member begins with what identifies it, so that a script finds the one to replace by its first bytes, among those
//! of equal score, and need not parse the others.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Interval;
use crate::position::{Offset, TopicId, TopicPartition};
use crate::redis::KeyPrefix;
use crate::tally::{RecordCounts, RowCounts};
use crate::whitelist::Version;

/// A time in milliseconds since 1970, as Kafka counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl From<jiff::Timestamp> for Millis {
    fn from(time: jiff::Timestamp) -> Self {
        Self(time.as_millisecond())
    }
}

impl Millis {
    /// Returns how long it is from `earlier` to this; zero when it is not earlier.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Names one run: one assignment of one partition to one worker, or one rebuild. Must be unique, for example a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(Arc<str>);

impl RunId {
    /// Wraps an id.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// Returns the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a range's records were read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Live traffic.
    Live,
    /// A rebuild, which read Kafka and wrote only the ledger.
    Rebuild,
}

impl Source {
    /// Returns the kind of coverage that it vouches for.
    pub fn covers_as(self) -> CoverageKind {
        match self {
            Self::Live => CoverageKind::Live,
            Self::Rebuild => CoverageKind::Attested,
        }
    }
}

/// Where one type's records of one segment are, and what became of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The run that processed them.
    pub run: RunId,
    /// The start of the run's segment; with `run` it identifies this range among those of its type.
    pub segment: Offset,
    /// The type's first record.
    pub start: Offset,
    /// The position after its last record.
    pub end: Offset,
    /// Records of the type by outcome.
    pub records: RecordCounts,
    /// Their rows by outcome.
    pub rows: RowCounts,
    /// The earliest time that Kafka gives for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_record: Option<Millis>,
    /// The latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_record: Option<Millis>,
    /// When the segment's first chunk was processed.
    pub first_processed: Millis,
    /// When its last chunk was.
    pub last_processed: Millis,
    /// The whitelist that judged them; a rebuilt range has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whitelist: Option<Version>,
    /// The incarnation of the topic.
    pub topic_id: TopicId,
    /// Where they were read from.
    pub source: Source,
}

impl Range {
    /// Returns the positions.
    pub fn interval(&self) -> Interval {
        Interval::new(self.start, self.end)
    }
}

/// What a coverage member says of its interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageKind {
    /// Live traffic gave every record a durable outcome.
    Live,
    /// Records of a stopped type were passed over and are owed.
    Deferred,
    /// An operator accepted that the interval is missing.
    Lost,
    /// A rebuild of all types found every record.
    Attested,
}

/// One interval of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// What is said of it.
    pub kind: CoverageKind,
    /// The incarnation of the topic.
    pub topic_id: TopicId,
    /// The type that was passed over, for [`CoverageKind::Deferred`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<String>,
    /// The first position.
    pub start: Offset,
    /// The position after the last.
    pub end: Offset,
    /// The earliest time of what the interval was put together from.
    pub first_processed: Millis,
    /// The latest.
    pub last_processed: Millis,
}

impl Coverage {
    /// Returns the positions.
    pub fn interval(&self) -> Interval {
        Interval::new(self.start, self.end)
    }
}

/// Returns the first bytes that the members of one (run, segment) share.
pub(super) fn range_head(run: &RunId, segment: Offset) -> String {
    format!("{{\"run\":{},\"segment\":{segment},", quoted(run.as_str()))
}

/// Returns the first bytes that the members of one kind and topic id (and type) share.
pub(super) fn coverage_head(kind: CoverageKind, topic_id: &TopicId, data_type: Option<&str>) -> String {
    let kind = match kind {
        CoverageKind::Live => "live",
        CoverageKind::Deferred => "deferred",
        CoverageKind::Lost => "lost",
        CoverageKind::Attested => "attested",
    };
    let data_type = data_type.map_or(String::new(), |name| format!("\"data_type\":{},", quoted(name)));
    format!(
        "{{\"kind\":\"{kind}\",\"topic_id\":{},{data_type}",
        quoted(topic_id.as_str())
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Key names under one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: KeyPrefix,
}

impl Keys {
    /// Wraps the prefix.
    pub fn new(prefix: KeyPrefix) -> Self {
        Self { prefix }
    }

    /// Returns the ZSET of one type's ranges in one partition.
    pub fn ranges(&self, data_type: &str, partition: &TopicPartition) -> String {
        format!("{}:offsets:{data_type}:{{{partition}}}", self.prefix)
    }

    /// Returns the ZSET of a partition's coverage.
    pub fn coverage(&self, partition: &TopicPartition) -> String {
        format!("{}:coverage:{{{partition}}}", self.prefix)
    }

    /// Returns the hash that holds, by data type, the position from which on the ranges are whole.
    pub fn indexed_from(&self, partition: &TopicPartition) -> String {
        format!("{}:indexed_from:{{{partition}}}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{Partition, TopicName};

    #[test]
    fn members_begin_with_what_identifies_them() {
        let range = Range {
            run: RunId::new("r-1"),
            segment: Offset(100),
            start: Offset(103),
            end: Offset(180),
            records: RecordCounts {
                processed: 7,
                filtered: 70,
                ..RecordCounts::default()
            },
            rows: RowCounts {
                written: 9,
                ..RowCounts::default()
            },
            first_record: Some(Millis(1)),
            last_record: None,
            first_processed: Millis(3),
            last_processed: Millis(4),
            whitelist: Some(Version(12)),
            topic_id: TopicId::new("AAAAAAAAAAAAAAAAAAAAAQ"),
            source: Source::Live,
        };
        let text = serde_json::to_string(&range).expect("plain data");
        assert!(text.starts_with(&range_head(&range.run, range.segment)), "{text}");
        assert!(text.len() < 512, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Range>(&text).expect("own form"), range);

        for data_type in [None, Some("fund_basic".to_owned())] {
            let coverage = Coverage {
                kind: CoverageKind::Deferred,
                topic_id: TopicId::new("AAAAAAAAAAAAAAAAAAAAAQ"),
                data_type,
                start: Offset(0),
                end: Offset(9),
                first_processed: Millis(3),
                last_processed: Millis(4),
            };
            let text = serde_json::to_string(&coverage).expect("plain data");
            let head = coverage_head(coverage.kind, &coverage.topic_id, coverage.data_type.as_deref());
            assert!(text.starts_with(&format!("{head}\"start\":")), "{text}");
        }
    }

    #[test]
    fn the_keys_of_a_partition_share_its_hash_tag() {
        let keys = Keys::new(KeyPrefix::default());
        let partition = TopicPartition {
            topic: TopicName::new("fund-data"),
            partition: Partition(3),
        };
        assert_eq!(
            keys.ranges("fund_risk", &partition),
            "databus:offsets:fund_risk:{fund-data:3}"
        );
        assert_eq!(keys.coverage(&partition), "databus:coverage:{fund-data:3}");
        assert_eq!(keys.indexed_from(&partition), "databus:indexed_from:{fund-data:3}");
    }
}
