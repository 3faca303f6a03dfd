//! What is asked of a job, after its fields were checked. It is kept with the job, as JSON for those who read it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reprise_shared::jobs::model::Mode;
use reprise_shared::ledger::Interval;
use reprise_shared::position::{Offset, Partition, TopicName};
use reprise_shared::whitelist::Version;
use serde::{Deserialize, Serialize};

use crate::offsets::window::{Basis, Window};

/// A whole ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What is done.
    pub work: Work,
    /// Records a second; `None`: no limit of its own.
    pub max_records_per_second: Option<u64>,
    /// Higher goes first.
    pub priority: i16,
    /// Missing positions are passed over.
    pub allow_partial: bool,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Ask {
    /// Returns the replay, if it is one.
    pub fn replay(&self) -> Option<&Replay> {
        match &self.work {
            Work::Replay(replay) => Some(replay),
            Work::Rebuild(_) => None,
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Records go through the pipeline again.
    Replay(Replay),
    /// The ledger is written anew.
    Rebuild(Rebuild),
}

/// A replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The data types, each once.
    pub data_types: Vec<String>,
    /// Which records.
    pub records: Records,
    /// Only these ids, each once; none and no lookup values: what the whitelist lets through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Only the ids of these values, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookup_values: Vec<LookupValues>,
    /// Let everything through.
    #[serde(default)]
    pub ignore_whitelist: bool,
    /// How it writes.
    #[serde(with = "ModeName")]
    pub mode: Mode,
    /// Delete first.
    #[serde(default)]
    pub clean_first: bool,
}

impl Replay {
    /// Tells whether it names ids, by themselves or by values.
    pub fn names_ids(&self) -> bool {
        !self.ids.is_empty() || !self.lookup_values.is_empty()
    }

    /// Tells whether it compares the table with what live traffic should have written.
    pub fn compares(&self) -> bool {
        matches!(self.mode, Mode::Verify | Mode::Repair)
    }
}

/// Which records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Records {
    /// Those of some offsets.
    Offsets(Vec<PartitionOffsets>),
    /// Those of a time window.
    Times(Times),
    /// Those that were filtered at this version or later, and pass now.
    CatchUp {
        /// The version.
        since: Version,
    },
}

/// Offsets of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionOffsets {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: Partition,
    /// The first offset.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
}

impl PartitionOffsets {
    /// Returns the positions.
    pub fn interval(&self) -> Interval {
        Interval::new(self.start, self.end)
    }
}

/// A time window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The first moment.
    pub start: Timestamp,
    /// The moment after the last; `None`: open.
    pub end: Option<Timestamp>,
    /// Whether the records' own times are meant, and each record is judged by its own; otherwise when they were
    /// processed.
    pub by_record: bool,
    /// How much older than those before it a record may be, in milliseconds.
    pub max_disorder_ms: Option<u64>,
}

impl Times {
    /// Returns the window in whole milliseconds.
    pub fn window(&self) -> Window {
        Window::new(Some(self.start), self.end)
    }

    /// Returns which time is meant.
    pub fn basis(&self) -> Basis {
        if self.by_record {
            Basis::Record
        } else {
            Basis::Processed
        }
    }

    /// Returns the assumed disorder.
    pub fn max_disorder(&self) -> Option<Duration> {
        self.max_disorder_ms.map(Duration::from_millis)
    }
}

/// Values of a lookup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupValues {
    /// The lookup.
    pub lookup: String,
    /// The values.
    pub values: Vec<String>,
}

/// A rebuild of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuild {
    /// The topic.
    pub topic: TopicName,
    /// Only these positions; none: everything up to the committed positions.
    pub partitions: Vec<PartitionOffsets>,
}

/// The names of modes.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "SCREAMING_SNAKE_CASE")]
enum ModeName {
    Live,
    Overwrite,
    Isolated,
    Verify,
    Repair,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_is_kept_as_json_that_people_can_read() {
        let ask = Ask {
            work: Work::Replay(Replay {
                data_types: vec!["fund_risk".to_owned()],
                records: Records::Times(Times {
                    start: "2026-01-02T03:04:05Z".parse().expect("a time"),
                    end: None,
                    by_record: true,
                    max_disorder_ms: Some(60_000),
                }),
                ids: vec!["a".to_owned()],
                lookup_values: Vec::new(),
                ignore_whitelist: false,
                mode: Mode::Repair,
                clean_first: false,
            }),
            max_records_per_second: None,
            priority: 5,
            allow_partial: true,
            labels: BTreeMap::new(),
        };
        let text = serde_json::to_string(&ask).expect("plain data");
        assert_eq!(
            text,
            r#"{"work":{"replay":{"data_types":["fund_risk"],"records":{"times":{"start":"2026-01-02T03:04:05Z","end":null,"by_record":true,"max_disorder_ms":60000}},"ids":["a"],"ignore_whitelist":false,"mode":"REPAIR","clean_first":false}},"max_records_per_second":null,"priority":5,"allow_partial":true}"#
        );
        assert_eq!(serde_json::from_str::<Ask>(&text).expect("its own form"), ask);
    }
}
