//! From a JSON payload to rows, by a plan that the catalog compiles once.
//!
//! A payload is visited once: [`Decoder::decode`] walks the named pointers beside the JSON, notes the raw text of each
//! named value, and skips the rest. Only when the whole payload has proved to be JSON are values converted, each from
//! its text, so that no number passes through a float and no row of a broken payload gets out.
//!
//! What is a fault of the record, and what of one row:
//! - A payload that is not JSON, or breaks a [limit](Limits), a bad id, a bad `rows`: the record.
//! - A bad field where the record is one row: the record. In an item of `rows`: that row, and the others go on.
//! - A bad field that all rows share (its pointer starts at the record, or it is Kafka's time): the record.
//!
//! How strict conversion is, beyond what [`ColumnType`](crate::catalog::ColumnType) says:
//! - Integers are written without point and exponent: `1.0` and `1e3` are of the wrong type.
//! - Decimals may have an exponent and idle zeros; what counts is whether the value fits exactly. A string must be a
//!   JSON number to the letter. The cell has neither exponent nor idle zeros.
//! - Times need seconds, and an offset as `Z` or `±HH:MM` unless a zone is declared. A local time that the zone has
//!   twice is the first of the two, one that it skips is a fault, and so is second 60. Zeros beyond the declared
//!   fractional digits are no fault. A version is always cut.
//! - JSON columns keep the text of the value as it stands.
//! - A missing or null value of an optional column is NULL. Doubled members are a fault where a pointer names them or
//!   passes through them, and only there.
//! - Pointers also lead into arrays, by index.

mod check;
mod convert;
mod decimal;
mod drafts;
mod matcher;
mod plan;
mod plans;
mod time;
mod trie;
mod value;
mod visit;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::Timestamp;

pub use self::drafts::Drafts;
pub use self::matcher::{FieldMatcher, Matched};
use self::plan::Plan;
pub use self::plan::PlanError;
pub use self::plans::Plans;
use self::trie::{SlotId, Trie};
use self::value::{Excerpt, Named, missing, named, string};
use self::visit::{Found, Slot};
use crate::catalog::DataType;
use crate::fault::{Fault, FaultClass};
use crate::position::{Offset, Partition, TopicGeneration};

/// What a payload may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a payload; above it is [`FaultClass::RecordTooLarge`]. Never more than 4 GiB.
    pub max_payload: usize,
    /// How deeply arrays and objects nest; above it is [`FaultClass::TooDeep`].
    pub max_depth: usize,
    /// Items of `rows`; above it is [`FaultClass::RecordTooLarge`]. Bounds the memory of one record's rows.
    pub max_rows: usize,
}

impl Default for Limits {
    /// 1 MiB, 64 levels, 50,000 rows.
    fn default() -> Self {
        Self {
            max_payload: 1 << 20,
            max_depth: 64,
            max_rows: 50_000,
        }
    }
}

/// What Kafka says of a record.
#[derive(Clone, Copy, Debug)]
pub struct RecordSource<'k> {
    /// The incarnation of its topic.
    pub generation: TopicGeneration,
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in milliseconds since 1970, −1 when it has none.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'k [u8]>,
    /// Whether the key must be the id: the data type's `in_key`, unless that is turned off in the fleet.
    pub in_key: bool,
}

/// The plan of one data type.
#[derive(Clone, Debug)]
pub struct Decoder {
    plan: Plan,
    /// The id's pointer alone.
    id: (Trie, SlotId),
}

impl Decoder {
    /// Compiles a data type, and resolves its zones by this machine's time zone database.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(data_type: &DataType) -> Result<Self, PlanError> {
        let plan = Plan::new(data_type)?;
        let mut trie = Trie::new();
        let slot = trie.insert(&data_type.id);
        Ok(Self { plan, id: (trie, slot) })
    }

    /// Returns the id alone, for the filter of types whose key is not the id. Borrowed when it has no escapes.
    ///
    /// # Errors
    /// When the payload is not JSON or breaks a limit, or the id is missing, doubled or no string.
    pub fn id<'p>(&self, payload: &'p [u8], limits: &Limits) -> Result<Cow<'p, str>, Fault> {
        let payload = check::text(payload, limits)?;
        let (trie, slot) = &self.id;
        let mut found = Found::default();
        found.visit(payload, trie, None, 0)?;
        id_of(found.record(*slot), &self.plan.id.pointer, payload)
    }

    /// Decodes a whole record. `now` is what `max_ahead` is judged by. `out` is overwritten.
    ///
    /// # Errors
    /// A fault of the whole record: it has no rows, and `out` is left empty. Faults of single rows are in
    /// [`Drafts::row_faults`].
    pub fn decode(
        &self,
        source: &RecordSource<'_>,
        payload: &[u8],
        now: Timestamp,
        limits: &Limits,
        out: &mut Drafts,
    ) -> Result<(), Fault> {
        out.clear();
        // Converting borrows the memory for what was found and the rest of the drafts at once.
        let mut found = std::mem::take(&mut out.scratch.found);
        let result = self.decode_into(source, payload, now, limits, &mut found, out);
        out.scratch.found = found;
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn decode_into(
        &self,
        source: &RecordSource<'_>,
        payload: &[u8],
        now: Timestamp,
        limits: &Limits,
        found: &mut Found,
        out: &mut Drafts,
    ) -> Result<(), Fault> {
        let plan = &self.plan;
        let payload = check::text(payload, limits)?;
        found.visit(payload, &plan.record, plan.item.as_ref(), limits.max_rows)?;
        let id = id_of(found.record(plan.id.slot), &plan.id.pointer, payload)?;
        check_key(source, &id)?;
        out.id.push_str(&id);
        if let Some(rows) = &plan.rows {
            check_rows(found.record(rows.slot), &rows.pointer, payload)?;
            if found.too_many {
                let message = format!(
                    "{} has too many elements; expected at most {}",
                    value::Shown(&rows.pointer),
                    limits.max_rows
                );
                return Err(Fault::new(FaultClass::RecordTooLarge, message));
            }
        }
        convert::Conversion {
            plan,
            source,
            payload,
            now,
            found,
        }
        .rows(out)
    }
}

/// Reads the id from what stands at its pointer.
fn id_of<'p>(slot: Slot, pointer: &str, payload: &'p str) -> Result<Cow<'p, str>, Fault> {
    match named(slot, pointer, payload)? {
        Named::Nothing => Err(missing(pointer)),
        Named::Raw(raw) => string(raw).map_err(|mismatch| mismatch.into_fault(pointer, raw)),
    }
}

/// Checks that the Kafka key is the id, where it has to be.
fn check_key(source: &RecordSource<'_>, id: &str) -> Result<(), Fault> {
    if !source.in_key || source.key == Some(id.as_bytes()) {
        return Ok(());
    }
    let message = match source.key {
        Some(key) => {
            let key = String::from_utf8_lossy(key);
            format!(
                "the Kafka key is \"{}\"; expected the id \"{}\"",
                Excerpt(&key),
                Excerpt(id)
            )
        }
        None => format!("there is no Kafka key; expected the id \"{}\"", Excerpt(id)),
    };
    Err(Fault::new(FaultClass::KeyMismatch, message))
}

/// Checks that `rows` points to an array.
fn check_rows(slot: Slot, pointer: &str, payload: &str) -> Result<(), Fault> {
    match slot {
        Slot::Rows => Ok(()),
        Slot::Blocked(kind) => {
            let message = format!("{} leads to {kind}; expected an array", value::Shown(pointer));
            Err(Fault::new(FaultClass::WrongType, message))
        }
        Slot::Absent | Slot::Duplicate | Slot::At { .. } => {
            named(slot, pointer, payload)?;
            Err(missing(pointer))
        }
    }
}
