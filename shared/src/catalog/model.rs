//! The catalog as the pipeline uses it: validated, with names resolved.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::position::TopicName;

/// The catalog's place of a data type. Stable for one catalog only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeIndex(pub usize);

/// The catalog's place of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LookupIndex(pub usize);

/// A whole catalog.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Lookups, by [`LookupIndex`].
    pub lookups: Vec<Lookup>,
    /// Topics that data types read from, each with what happens to unmatched records.
    pub topics: Vec<Topic>,
    /// Data types, by [`TypeIndex`].
    pub data_types: Vec<DataType>,
    /// SHA-256 of the file's meaning (not of its comments or spacing), in hex. Workers show it in their heartbeat.
    pub hash: String,
}

impl Catalog {
    /// Returns a data type.
    pub fn data_type(&self, index: TypeIndex) -> &DataType {
        &self.data_types[index.0]
    }

    /// Returns a lookup.
    pub fn lookup(&self, index: LookupIndex) -> &Lookup {
        &self.lookups[index.0]
    }

    /// Finds a data type by name.
    pub fn find_data_type(&self, name: &str) -> Option<TypeIndex> {
        self.data_types
            .iter()
            .position(|data_type| data_type.name == name)
            .map(TypeIndex)
    }

    /// Returns the data types of one topic, in catalog order.
    pub fn types_of_topic<'a>(&'a self, topic: &'a TopicName) -> impl Iterator<Item = (TypeIndex, &'a DataType)> {
        self.data_types
            .iter()
            .enumerate()
            .filter(move |(_, data_type)| data_type.topic == *topic)
            .map(|(index, data_type)| (TypeIndex(index), data_type))
    }
}

/// A read-through map from a table, kept in a local cache.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Its name in the catalog.
    pub name: String,
    /// The table it reads.
    pub table: String,
    /// The column that holds the id; unique in the table.
    pub key: String,
    /// The column that holds the value.
    pub value: String,
    /// Columns that operators may search by (fund codes, names).
    pub search: Vec<String>,
    /// A cached value is dropped after this long.
    pub ttl: Duration,
    /// A cached value that is used after this long is refreshed in the background; below `ttl`.
    pub refresh_after: Duration,
    /// "There is no such key" is cached for this long.
    pub negative_ttl: Duration,
    /// At most this many keys are cached.
    pub capacity: u64,
    /// Whether the whole table (up to `capacity` rows) is read at start.
    pub preload: bool,
}

/// A topic and what happens to its records that match no data type.
#[derive(Clone, Debug)]
pub struct Topic {
    /// The topic's name.
    pub name: TopicName,
    /// What happens to unmatched records.
    pub unmatched: Unmatched,
}

/// What happens to records that match no data type of their topic. Either way they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// They are skipped.
    Skip,
    /// They become dead letters of class `UNMATCHED` with data type `''`.
    DeadLetter,
}

/// One declared kind of record.
#[derive(Clone, Debug)]
pub struct DataType {
    /// Its name in the catalog, at most 64 of `[a-z0-9_]`.
    pub name: String,
    /// The topic it comes from.
    pub topic: TopicName,
    /// How its records are told from others of the topic; `None` when the topic carries one type.
    pub matcher: Option<Matcher>,
    /// A pointer to the array whose elements are the rows; `None` when the record is one row.
    pub rows: Option<Pointer>,
    /// The id that the whitelist tests. Always relative to the record.
    pub id: Pointer,
    /// The Kafka key is this id, so that the filter needs no decode.
    pub in_key: bool,
    /// The target table.
    pub table: String,
    /// Places in `columns` of the primary key's columns, in key order.
    pub key: Vec<usize>,
    /// Which of two rows with one key is newer.
    pub version: Version,
    /// The columns that come from fields and lookups, in catalog order.
    pub columns: Vec<Column>,
    /// Batch limits.
    pub batch: Batch,
}

impl DataType {
    /// Returns the names of the columns that an insert names, in this order: `columns`, then the version column
    /// (absent for [`VersionSource::Position`]). `Row::cells` hold exactly these. The position column follows them
    /// in the statement and comes from `Row::position`.
    pub fn insert_columns(&self) -> impl Iterator<Item = &str> {
        self.columns
            .iter()
            .map(|column| column.name.as_str())
            .chain(self.version.column.as_deref())
    }

    /// Returns the lookups that the columns need, each once, in ascending order.
    pub fn lookups(&self) -> Vec<LookupIndex> {
        let mut lookups: Vec<_> = self
            .columns
            .iter()
            .filter_map(|column| match column.source {
                ColumnSource::Lookup(lookup) => Some(lookup),
                ColumnSource::Field(_) => None,
            })
            .collect();
        lookups.sort_unstable();
        lookups.dedup();
        lookups
    }
}

/// How the records of a data type are recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// A Kafka header has this value (the last header of that name counts).
    Header {
        /// The header's name.
        name: String,
        /// Its value.
        equals: String,
    },
    /// A string field of the record has this value.
    Field {
        /// Relative to the record.
        pointer: Pointer,
        /// Its value.
        equals: String,
    },
}

/// A JSON pointer (RFC 6901), split and unescaped. Empty: the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pointer(pub Vec<String>);

/// Which value a field's pointer starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Root {
    /// The element of `rows`, or the record when there is no `rows`.
    Item,
    /// The record: the pointer was written with a leading `^`.
    Record,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where the pointer starts.
    pub root: Root,
    /// The path from there.
    pub pointer: Pointer,
}

/// How rows of one key are ordered.
#[derive(Clone, Debug)]
pub struct Version {
    /// Where the version comes from.
    pub source: VersionSource,
    /// The column that stores it; `None` for [`VersionSource::Position`].
    pub column: Option<String>,
    /// The `VARBINARY(16)` column that stores the source position.
    pub position_column: String,
    /// A version further ahead of now than this is a dead letter; `None` for `bigint` and `position`.
    pub max_ahead: Option<Duration>,
}

/// Where a version comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionSource {
    /// A field, of type `datetime` or `bigint`.
    Field {
        /// The field.
        field: Field,
        /// Its type, which is also the column's.
        column_type: ColumnType,
        /// The zone of values that carry none; `None`: such a value is a fault.
        zone: Option<String>,
    },
    /// Kafka's timestamp of the record, stored as `datetime(3)` in UTC.
    RecordTime,
    /// The source position alone.
    Position,
}

/// One column of a row.
#[derive(Clone, Debug)]
pub struct Column {
    /// The column's name in the table.
    pub name: String,
    /// Where its value comes from.
    pub source: ColumnSource,
    /// Its type. Lookup columns are strings, without a length of their own.
    pub column_type: ColumnType,
    /// A missing or null field is written as NULL instead of being a fault.
    pub optional: bool,
    /// Digits beyond the declared scale are rounded half away from zero (decimals), or cut (times), instead of being
    /// a fault.
    pub round: bool,
    /// The zone of date-times that carry none.
    pub zone: Option<String>,
}

/// Where a column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnSource {
    /// A field of the record.
    Field(Field),
    /// A lookup by the record's id.
    Lookup(LookupIndex),
}

/// The types that a column can be declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// A JSON string of at most this many characters (Unicode scalar values).
    String(u32),
    /// A JSON integer from −2³¹ to 2³¹ − 1.
    Int,
    /// A JSON integer from −2⁶³ to 2⁶³ − 1.
    BigInt,
    /// A JSON number, or a string that is one, of at most `precision` digits, `scale` of them after the point.
    Decimal {
        /// Digits in all, 1 to 65.
        precision: u8,
        /// Digits after the point, 0 to 30, at most `precision`.
        scale: u8,
    },
    /// A JSON string `YYYY-MM-DD`, from 0001-01-01 to 9999-12-31.
    Date,
    /// A JSON string in RFC 3339 or ISO 8601 form, or with a space for the `T`; stored in UTC with this many
    /// fractional digits, 0 to 6.
    DateTime(u8),
    /// A JSON `true` or `false`, stored as 1 or 0.
    Bool,
    /// Any JSON value, stored as its text.
    Json,
}

/// Batch limits of a data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// At most this many rows in one statement.
    pub max_rows: usize,
    /// How long a lane that has rows and an idle connection waits for more, at most 10 s.
    pub linger: Duration,
}
