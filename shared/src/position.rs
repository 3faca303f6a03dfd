//! Where a record stands in Kafka, as types that cannot be swapped by accident.
//!
//! A *position* is the next offset to read, so an interval `[start, end)` never depends on offsets being dense.
//! A [`SourcePosition`] orders any two rows of one data type: it breaks ties between equal versions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A Kafka topic's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Wraps a topic name as the catalog or the broker gave it.
    pub fn new(name: impl AsRef<str>) -> Self {
        Self(Arc::from(name.as_ref()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A partition number of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u16);

impl Partition {
    /// Converts from Kafka's signed number; `None` when it is negative or above 65,535, which a source position
    /// cannot hold.
    pub fn from_kafka(number: i32) -> Option<Self> {
        u16::try_from(number).ok().map(Self)
    }

    /// Converts to Kafka's signed number.
    pub fn to_kafka(self) -> i32 {
        i32::from(self.0)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition in it.
    pub partition: Partition,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.topic, self.partition)
    }
}

/// An offset of a record, or a position between records, in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// Converts from Kafka's signed number; `None` for its negative special values.
    pub fn from_kafka(number: i64) -> Option<Self> {
        u64::try_from(number).ok().map(Self)
    }

    /// Converts to Kafka's signed number. An offset above `i64::MAX` cannot come from Kafka and is capped there.
    pub fn to_kafka(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Returns the position right after the record at this offset.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Counts the incarnations of a topic that were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicGeneration(pub u16);

/// Kafka's id of a topic, in Kafka's own base64 form (22 characters). A re-created topic has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(Arc<str>);

impl TopicId {
    /// Wraps the base64 form.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// Returns the base64 form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The number of a row within its record, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowNumber(pub u32);

impl RowNumber {
    /// Stands for the whole record in dead letters: a fault left it without rows.
    pub const RECORD: Self = Self(u32::MAX);
}

/// 16 bytes, big-endian: topic generation u16, partition u16, offset u64, row number u32. Byte order is row order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourcePosition([u8; 16]);

impl SourcePosition {
    /// Packs the four parts.
    pub fn new(generation: TopicGeneration, partition: Partition, offset: Offset, row: RowNumber) -> Self {
        let mut bytes = [0; 16];
        bytes[0..2].copy_from_slice(&generation.0.to_be_bytes());
        bytes[2..4].copy_from_slice(&partition.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&offset.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&row.0.to_be_bytes());
        Self(bytes)
    }

    /// Returns the packed bytes, as they stand in the position column.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Reads a stored position; `None` when it is not 16 bytes long (a backfilled row or a marker).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the generation part.
    pub fn generation(&self) -> TopicGeneration {
        TopicGeneration(u16::from_be_bytes([self.0[0], self.0[1]]))
    }

    /// Returns the partition part.
    pub fn partition(&self) -> Partition {
        Partition(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    /// Returns the offset part.
    pub fn offset(&self) -> Offset {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[4..12]);
        Offset(u64::from_be_bytes(bytes))
    }

    /// Returns the row number part.
    pub fn row(&self) -> RowNumber {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.0[12..16]);
        RowNumber(u32::from_be_bytes(bytes))
    }
}

impl fmt::Debug for SourcePosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "g{}/p{}/o{}/r{}",
            self.generation().0,
            self.partition(),
            self.offset(),
            self.row().0
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn byte_order_is_the_order_of_the_parts(a: (u16, u16, u64, u32), b: (u16, u16, u64, u32)) {
            let pack = |(g, p, o, r)| SourcePosition::new(TopicGeneration(g), Partition(p), Offset(o), RowNumber(r));
            prop_assert_eq!(pack(a).cmp(&pack(b)), a.cmp(&b));
            prop_assert_eq!(pack(a).as_bytes().cmp(pack(b).as_bytes()), a.cmp(&b));
        }

        #[test]
        fn parts_come_back(g: u16, p: u16, o: u64, r: u32) {
            let position = SourcePosition::new(TopicGeneration(g), Partition(p), Offset(o), RowNumber(r));
            let back = SourcePosition::from_bytes(position.as_bytes()).expect("16 bytes");
            prop_assert_eq!((back.generation().0, back.partition().0, back.offset().0, back.row().0), (g, p, o, r));
        }
    }
}
