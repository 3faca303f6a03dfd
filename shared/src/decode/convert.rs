//! From the values that a visit found to drafts of rows.

use jiff::Timestamp;

use super::RecordSource;
use super::drafts::{Draft, Drafts, Gap};
use super::plan::{ColumnPlan, FieldPlan, KeyPlan, Plan, VersionPlan};
use super::time::Moment;
use super::value::{Mismatch, Named, Raw, integer, missing, named, string};
use super::visit::Found;
use crate::catalog::Root;
use crate::fault::{Fault, FaultClass};
use crate::position::{RowNumber, SourcePosition};
use crate::row::{Cell, CellWriter};

/// One record whose payload was visited.
pub(super) struct Conversion<'c> {
    pub(super) plan: &'c Plan,
    pub(super) source: &'c RecordSource<'c>,
    pub(super) payload: &'c str,
    pub(super) now: Timestamp,
    pub(super) found: &'c Found,
}

/// A fault, and whether all rows of the record share it.
struct RowFault {
    root: Root,
    fault: Fault,
}

/// The fault of something that all rows share.
fn shared(fault: Fault) -> RowFault {
    RowFault {
        root: Root::Record,
        fault,
    }
}

impl FieldPlan {
    fn fault(&self, fault: Fault) -> RowFault {
        RowFault { root: self.root, fault }
    }
}

impl<'c> Conversion<'c> {
    /// Converts every row.
    pub(super) fn rows(&self, out: &mut Drafts) -> Result<(), Fault> {
        let items = if self.plan.rows.is_some() {
            self.found.items()
        } else {
            1
        };
        for (item, number) in (0..items).zip(0..) {
            let (cells, keys) = (out.cells.len(), out.keys.len());
            let (cell_gaps, key_gaps) = (out.cell_gaps.len(), out.key_gaps.len());
            match self.row(item, out) {
                Ok(version) => {
                    let source = self.source;
                    let row = RowNumber(number);
                    out.rows.push(Draft {
                        version,
                        position: SourcePosition::new(source.generation, source.partition, source.offset, row),
                        cells: cells..out.cells.len(),
                        key: keys..out.keys.len(),
                        cell_gaps: cell_gaps..out.cell_gaps.len(),
                        key_gaps: key_gaps..out.key_gaps.len(),
                    });
                }
                Err(RowFault {
                    root: Root::Record,
                    fault,
                }) => return Err(fault),
                Err(RowFault {
                    root: Root::Item,
                    fault,
                }) => {
                    out.cells.truncate(cells);
                    out.keys.truncate(keys);
                    out.cell_gaps.truncate(cell_gaps);
                    out.key_gaps.truncate(key_gaps);
                    out.row_faults.push((RowNumber(number), fault));
                }
            }
        }
        Ok(())
    }

    /// Converts one row and returns its version.
    fn row(&self, item: usize, out: &mut Drafts) -> Result<i64, RowFault> {
        out.scratch.starts.clear();
        for column in &self.plan.columns {
            out.scratch.starts.push(out.cells.len());
            match column {
                ColumnPlan::Lookup(lookup) => out.cell_gaps.push(Gap {
                    at: out.cells.len(),
                    lookup: *lookup,
                }),
                ColumnPlan::Field {
                    field,
                    value_type,
                    optional,
                    in_key,
                } => {
                    let raw = match self.named(field, item)? {
                        Named::Raw(raw) => raw,
                        Named::Nothing if *optional => {
                            out.cells.push(Cell::Null);
                            continue;
                        }
                        Named::Nothing => return Err(field.fault(missing(&field.pointer))),
                    };
                    let start = out.cells.len();
                    value_type
                        .push(raw, &mut out.scratch.text, &mut out.cells)
                        .and_then(|()| {
                            if *in_key {
                                no_trailing_space(&out.cells, start)
                            } else {
                                Ok(())
                            }
                        })
                        .map_err(|mismatch| field.fault(mismatch.into_fault(&field.pointer, raw)))?;
                }
            }
        }
        self.key(out);
        self.version(item, out)
    }

    fn named(&self, field: &FieldPlan, item: usize) -> Result<Named<'c>, RowFault> {
        let slot = match field.root {
            Root::Record => self.found.record(field.slot),
            Root::Item => self.found.item(item, field.slot),
        };
        named(slot, &field.pointer, self.payload).map_err(|fault| field.fault(fault))
    }

    /// Encodes the key from the cells of the row at hand.
    fn key(&self, out: &mut Drafts) {
        for column in &self.plan.key {
            match *column {
                KeyPlan::Lookup(lookup) => out.key_gaps.push(Gap {
                    at: out.keys.len(),
                    lookup,
                }),
                KeyPlan::Cell(column) => match out.cells.cell_at(out.scratch.starts[column]) {
                    Some(Cell::Int(value)) => out.keys.push_int(value),
                    Some(Cell::Text(text)) => out.keys.push_text(text),
                    // The plan refuses optional columns in a key.
                    Some(Cell::Null) | None => {}
                },
                KeyPlan::Decimal {
                    column,
                    precision,
                    scale,
                } => {
                    if let Some(Cell::Text(text)) = out.cells.cell_at(out.scratch.starts[column]) {
                        out.keys.push_decimal(text, precision, scale);
                    }
                }
            }
        }
    }

    /// Pushes the cell of the version and returns its number.
    fn version(&self, item: usize, out: &mut Drafts) -> Result<i64, RowFault> {
        match &self.plan.version {
            VersionPlan::Position => Ok(0),
            VersionPlan::RecordTime => self.record_time(out).map_err(shared),
            VersionPlan::BigInt { field } => {
                let raw = self.version_text(field, item)?;
                let version =
                    integer(raw.text).map_err(|mismatch| field.fault(mismatch.into_fault(&field.pointer, raw)))?;
                out.cells.push(Cell::Int(version));
                Ok(version)
            }
            VersionPlan::DateTime { field, date_time } => {
                let raw = self.version_text(field, item)?;
                let moment = string(raw)
                    .and_then(|text| {
                        date_time
                            .read(&text)
                            .map_err(|expected| Mismatch::new(FaultClass::BadTime, expected))
                    })
                    .and_then(|moment| match self.is_ahead(moment) {
                        true => Err(Mismatch::new(
                            FaultClass::VersionAhead,
                            "a time no further ahead than max_ahead",
                        )),
                        false => Ok(moment),
                    })
                    .map_err(|mismatch| field.fault(mismatch.into_fault(&field.pointer, raw)))?;
                out.cells.push(Cell::Text(moment.as_str()));
                Ok(moment.microseconds)
            }
        }
    }

    fn version_text(&self, field: &FieldPlan, item: usize) -> Result<Raw<'c>, RowFault> {
        match self.named(field, item)? {
            Named::Raw(raw) => Ok(raw),
            Named::Nothing => Err(field.fault(missing(&field.pointer))),
        }
    }

    fn record_time(&self, out: &mut Drafts) -> Result<i64, Fault> {
        let timestamp = self.source.timestamp;
        if timestamp < 0 {
            return Err(Fault::new(
                FaultClass::MissingField,
                "the record has no Kafka timestamp; expected one",
            ));
        }
        let Some(moment) = Moment::from_milliseconds(timestamp) else {
            let message = format!("the Kafka timestamp is {timestamp}; expected a time in the years 1970 to 9999");
            return Err(Fault::new(FaultClass::BadTime, message));
        };
        if self.is_ahead(moment) {
            let message =
                format!("the Kafka timestamp is {timestamp}; expected a time no further ahead than max_ahead");
            return Err(Fault::new(FaultClass::VersionAhead, message));
        }
        out.cells.push(Cell::Text(moment.as_str()));
        Ok(timestamp)
    }

    /// Tells whether a version lies further ahead of now than allowed.
    fn is_ahead(&self, moment: Moment) -> bool {
        self.plan
            .max_ahead
            .is_some_and(|ahead| moment.microseconds > self.now.as_microsecond().saturating_add(ahead))
    }
}

/// MySQL ignores spaces at the end of a key, so two keys that we tell apart could be one to it.
fn no_trailing_space(cells: &CellWriter, start: usize) -> Result<(), Mismatch> {
    match cells.cell_at(start) {
        Some(Cell::Text(text)) if text.ends_with(' ') => Err(Mismatch::new(
            FaultClass::TrailingSpace,
            "no spaces at the end of a key",
        )),
        _ => Ok(()),
    }
}
