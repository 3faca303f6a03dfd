//! The plan of one data type: which pointers to look for, and what becomes of the value at each.

use jiff::tz::TimeZone;

use super::decimal::DecimalType;
use super::time::DateTimeType;
use super::trie::{SlotId, Trie};
use super::value::ValueType;
use crate::catalog::{
    Column, ColumnSource, ColumnType, DataType, Field, LookupIndex, Pointer, Root, Version, VersionSource,
};

/// `serde_json` walks at most 128 levels; a pointer of `rows` and one of an item follow each other.
const MAX_STEPS: usize = 50;

/// Why a data type cannot be compiled. A catalog that was validated yields none of these, but for zones that this
/// machine does not know.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A declared zone is not in this machine's time zone database.
    #[error("data type {data_type}, column {column}: zone {zone} is not known here")]
    UnknownZone {
        /// The data type.
        data_type: String,
        /// The column.
        column: String,
        /// The zone as declared.
        zone: String,
        /// What the time zone database said.
        #[source]
        source: jiff::Error,
    },
    /// A pointer has too many steps.
    #[error("data type {data_type}: pointer {pointer} has more than {MAX_STEPS} steps")]
    PointerTooLong {
        /// The data type.
        data_type: String,
        /// The pointer.
        pointer: String,
    },
    /// A key column cannot be one: it is optional, of type `json`, or does not exist.
    #[error("data type {data_type}: column {column} cannot be part of the key")]
    KeyColumn {
        /// The data type.
        data_type: String,
        /// The column's name, or its place when there is no such column.
        column: String,
    },
    /// The version has a type other than `datetime` and `bigint`.
    #[error("data type {data_type}: its version is neither a datetime nor a bigint")]
    VersionType {
        /// The data type.
        data_type: String,
    },
}

/// A field, found.
#[derive(Clone, Debug)]
pub(super) struct FieldPlan {
    pub(super) root: Root,
    pub(super) slot: SlotId,
    /// The pointer as people write it.
    pub(super) pointer: String,
}

/// One column.
#[derive(Clone, Debug)]
pub(super) enum ColumnPlan {
    Field {
        field: FieldPlan,
        value_type: ValueType,
        optional: bool,
        in_key: bool,
    },
    Lookup(LookupIndex),
}

/// How a key column is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum KeyPlan {
    /// The cell of this column as it is.
    Cell(usize),
    /// The cell of this column, a decimal.
    Decimal {
        column: usize,
        precision: u8,
        scale: u8,
    },
    Lookup(LookupIndex),
}

/// The version.
#[derive(Clone, Debug)]
pub(super) enum VersionPlan {
    DateTime { field: FieldPlan, date_time: DateTimeType },
    BigInt { field: FieldPlan },
    RecordTime,
    Position,
}

/// A whole data type.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) record: Trie,
    /// The pointers of items, when the data type has `rows`.
    pub(super) item: Option<Trie>,
    pub(super) rows: Option<FieldPlan>,
    pub(super) id: FieldPlan,
    pub(super) columns: Vec<ColumnPlan>,
    pub(super) key: Vec<KeyPlan>,
    pub(super) version: VersionPlan,
    /// In microseconds.
    pub(super) max_ahead: Option<i64>,
}

impl Plan {
    pub(super) fn new(data_type: &DataType) -> Result<Self, PlanError> {
        let mut builder = Builder {
            data_type,
            record: Trie::new(),
            item: data_type.rows.as_ref().map(|_| Trie::new()),
        };
        let id = builder.field(&Field {
            root: Root::Record,
            pointer: data_type.id.clone(),
        })?;
        let id = FieldPlan {
            pointer: text(&data_type.id),
            ..id
        };
        let rows = match &data_type.rows {
            Some(pointer) => {
                let shown = builder.shown(pointer, "")?;
                Some(FieldPlan {
                    root: Root::Record,
                    slot: builder.record.insert_rows(pointer),
                    pointer: shown,
                })
            }
            None => None,
        };
        let columns = (0..)
            .zip(&data_type.columns)
            .map(|(place, column)| builder.column(place, column));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let key = data_type
            .key
            .iter()
            .map(|&place| builder.key(place))
            .collect::<Result<Vec<_>, _>>()?;
        let version = builder.version(&data_type.version)?;
        let max_ahead = data_type
            .version
            .max_ahead
            .map(|ahead| i64::try_from(ahead.as_micros()).unwrap_or(i64::MAX));
        let Builder { record, item, .. } = builder;
        Ok(Self {
            record,
            item,
            rows,
            id,
            columns,
            key,
            version,
            max_ahead,
        })
    }
}

struct Builder<'d> {
    data_type: &'d DataType,
    record: Trie,
    item: Option<Trie>,
}

impl Builder<'_> {
    fn field(&mut self, field: &Field) -> Result<FieldPlan, PlanError> {
        let (root, trie) = match (&mut self.item, field.root) {
            (Some(item), Root::Item) => (Root::Item, item),
            _ => (Root::Record, &mut self.record),
        };
        let slot = trie.insert(&field.pointer);
        let pointer = self.shown(&field.pointer, if field.root == Root::Record { "^" } else { "" })?;
        Ok(FieldPlan { root, slot, pointer })
    }

    fn shown(&self, pointer: &Pointer, prefix: &str) -> Result<String, PlanError> {
        let shown = format!("{prefix}{}", text(pointer));
        if pointer.0.len() > MAX_STEPS {
            return Err(PlanError::PointerTooLong {
                data_type: self.data_type.name.clone(),
                pointer: shown,
            });
        }
        Ok(shown)
    }

    fn column(&mut self, place: usize, column: &Column) -> Result<ColumnPlan, PlanError> {
        let field = match &column.source {
            ColumnSource::Lookup(lookup) => return Ok(ColumnPlan::Lookup(*lookup)),
            ColumnSource::Field(field) => self.field(field)?,
        };
        let value_type = match column.column_type {
            ColumnType::String(length) => ValueType::String {
                max_characters: length as usize,
            },
            ColumnType::Int => ValueType::Int,
            ColumnType::BigInt => ValueType::BigInt,
            ColumnType::Decimal { precision, scale } => ValueType::Decimal(DecimalType {
                precision,
                scale,
                round: column.round,
            }),
            ColumnType::Date => ValueType::Date,
            ColumnType::DateTime(digits) => {
                let zone = self.zone(&column.name, column.zone.as_deref())?;
                ValueType::DateTime(DateTimeType {
                    digits,
                    cut: column.round,
                    zone,
                })
            }
            ColumnType::Bool => ValueType::Bool,
            ColumnType::Json => ValueType::Json,
        };
        let in_key = self.data_type.key.contains(&place);
        Ok(ColumnPlan::Field {
            field,
            value_type,
            optional: column.optional,
            in_key,
        })
    }

    fn key(&self, place: usize) -> Result<KeyPlan, PlanError> {
        let refused = |column: String| PlanError::KeyColumn {
            data_type: self.data_type.name.clone(),
            column,
        };
        let column = self
            .data_type
            .columns
            .get(place)
            .ok_or_else(|| refused(place.to_string()))?;
        match (&column.source, column.column_type) {
            (ColumnSource::Lookup(lookup), _) => Ok(KeyPlan::Lookup(*lookup)),
            (ColumnSource::Field(_), ColumnType::Json) => Err(refused(column.name.clone())),
            (ColumnSource::Field(_), _) if column.optional => Err(refused(column.name.clone())),
            (ColumnSource::Field(_), ColumnType::Decimal { precision, scale }) => Ok(KeyPlan::Decimal {
                column: place,
                precision,
                scale,
            }),
            (ColumnSource::Field(_), _) => Ok(KeyPlan::Cell(place)),
        }
    }

    fn version(&mut self, version: &Version) -> Result<VersionPlan, PlanError> {
        let (field, column_type, zone) = match &version.source {
            VersionSource::Field {
                field,
                column_type,
                zone,
            } => (self.field(field)?, column_type, zone),
            VersionSource::RecordTime => return Ok(VersionPlan::RecordTime),
            VersionSource::Position => return Ok(VersionPlan::Position),
        };
        match *column_type {
            ColumnType::BigInt => Ok(VersionPlan::BigInt { field }),
            ColumnType::DateTime(digits) => {
                let column = version.column.as_deref().unwrap_or("version");
                let zone = self.zone(column, zone.as_deref())?;
                Ok(VersionPlan::DateTime {
                    field,
                    date_time: DateTimeType {
                        digits,
                        cut: true,
                        zone,
                    },
                })
            }
            _ => Err(PlanError::VersionType {
                data_type: self.data_type.name.clone(),
            }),
        }
    }

    fn zone(&self, column: &str, zone: Option<&str>) -> Result<Option<TimeZone>, PlanError> {
        let Some(zone) = zone else {
            return Ok(None);
        };
        match TimeZone::get(zone) {
            Ok(zone) => Ok(Some(zone)),
            Err(source) => Err(PlanError::UnknownZone {
                data_type: self.data_type.name.clone(),
                column: column.to_owned(),
                zone: zone.to_owned(),
                source,
            }),
        }
    }
}

/// Writes a pointer as RFC 6901 has it.
pub(super) fn text(pointer: &Pointer) -> String {
    pointer
        .0
        .iter()
        .map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1")))
        .collect()
}
