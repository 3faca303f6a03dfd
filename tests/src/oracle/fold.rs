//! Folds records into tables: per key the row with the greatest (version, source position) stays.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::Timestamp;
use reprise_shared::fault::FaultClass;
use reprise_shared::position::{Offset, Partition, RowNumber, TopicGeneration};
use reprise_shared::tally::RecordCounts;

use super::judge::{Outcome, judge, shape_of};
use super::shape::SHAPES;
use super::topic::TopicRecord;
use crate::feed::BasicSeed;

/// Under which circumstances the pipeline ran.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Whether the whitelist lets an id through.
    pub allowed: &'a dyn Fn(&str) -> bool,
    /// The lookup `performance_id → fund_code`.
    pub lookup: &'a BTreeMap<String, String>,
    /// The topic's generation.
    pub generation: TopicGeneration,
    /// The time at which versions are judged.
    pub now: Timestamp,
    /// The rows that were in `t_fund_basic_info` before.
    pub seed: Option<BasicSeed>,
}

impl<'a> Rules<'a> {
    /// Makes the rules of an empty whitelist, a first generation and no earlier rows.
    pub fn new(lookup: &'a BTreeMap<String, String>, now: Timestamp) -> Self {
        Self {
            allowed: &|_| true,
            lookup,
            generation: TopicGeneration(0),
            now,
            seed: None,
        }
    }
}

/// One row: everything as the text that MySQL prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The columns of the catalog, in its order; `None` for NULL.
    pub cells: Vec<Option<String>>,
    /// The version as a `DATETIME(3)`; the order of the texts is the order of the times.
    pub version: String,
    /// The source position in capital hex; the order of the texts is the order of the bytes.
    pub position: String,
}

/// A table: key → row.
pub type Table = BTreeMap<Vec<String>, Row>;

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    /// The data type; empty for an unmatched record.
    pub data_type: String,
    /// Where its record stands.
    pub partition: Partition,
    /// Where its record stands.
    pub offset: Offset,
    /// The row, or [`RowNumber::RECORD`].
    pub row: RowNumber,
    /// Why.
    pub class: FaultClass,
}

/// The counts of one data type in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records by outcome.
    pub records: RecordCounts,
    /// Rows that are written or superseded.
    pub rows: u64,
    /// Rows that are dead letters while their record goes on.
    pub dead_lettered_rows: u64,
}

/// What a topic folds to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Each table by its name; those of all data types are there.
    pub tables: BTreeMap<&'static str, Table>,
    /// By data type (empty for unmatched records) and partition.
    pub counts: BTreeMap<(String, Partition), Counts>,
    /// Every dead letter.
    pub letters: BTreeSet<Letter>,
}

impl Folded {
    /// Returns the counts of one data type in all partitions.
    pub fn counts_of(&self, data_type: &str) -> Counts {
        let mut sum = Counts::default();
        for (_, counts) in self.counts.iter().filter(|((name, _), _)| name == data_type) {
            sum.records += counts.records;
            sum.rows += counts.rows;
            sum.dead_lettered_rows += counts.dead_lettered_rows;
        }
        sum
    }

    /// Returns the lookup that the folded `t_fund_basic_info` answers.
    pub fn lookup(&self) -> BTreeMap<String, String> {
        const FUND_CODE: usize = 1;
        let rows = self.tables.get("t_fund_basic_info").into_iter().flatten();
        rows.filter_map(|(key, row)| Some((key.first()?.clone(), row.cells.get(FUND_CODE)?.clone()?)))
            .collect()
    }

    /// Prints a table in the form of [`super::dump_table`]; empty for a table that is not there.
    pub fn dump(&self, table: &str) -> String {
        self.tables.get(table).map(dump).unwrap_or_default()
    }
}

/// One line a row in the order of keys: the columns, version and position between tabs, `\N` for NULL.
pub(super) fn dump(table: &Table) -> String {
    let mut text = String::new();
    for row in table.values() {
        for cell in &row.cells {
            match cell {
                Some(cell) => text.push_str(&cell.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n")),
                None => text.push_str("\\N"),
            }
            text.push('\t');
        }
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}\t{}", row.version, row.position);
    }
    text
}

/// A fold on its way.
pub(super) struct Fold<'a> {
    rules: &'a Rules<'a>,
    folded: Folded,
}

impl<'a> Fold<'a> {
    pub(super) fn new(rules: &'a Rules<'a>) -> Self {
        let mut folded = Folded::default();
        for shape in &SHAPES {
            folded.tables.insert(shape.table, Table::new());
        }
        let basic = folded.tables.entry("t_fund_basic_info").or_default();
        for row in rules.seed.into_iter().flat_map(BasicSeed::rows) {
            let cells = vec![
                Some(row.performance_id.clone()),
                Some(row.fund_code),
                Some(row.fund_name),
                None,
                None,
                None,
            ];
            let position = BasicSeed::POSITION.iter().map(|byte| format!("{byte:02X}")).collect();
            basic.insert(
                vec![row.performance_id],
                Row {
                    cells,
                    version: row.source_time,
                    position,
                },
            );
        }
        Self { rules, folded }
    }

    pub(super) fn add(&mut self, record: &TopicRecord<'_>) {
        let shape = shape_of(record);
        let data_type = shape.map_or("", |shape| shape.data_type);
        let counts = self
            .folded
            .counts
            .entry((data_type.to_owned(), record.partition))
            .or_default();
        let mut letter = |row, class| {
            let (partition, offset) = (record.partition, record.offset);
            let data_type = data_type.to_owned();
            self.folded.letters.insert(Letter {
                data_type,
                partition,
                offset,
                row,
                class,
            });
        };
        match judge(record, shape, self.rules) {
            Outcome::Filtered => counts.records.filtered += 1,
            Outcome::Skipped => counts.records.skipped += 1,
            Outcome::DeadLettered(class) => {
                counts.records.dead_lettered += 1;
                letter(RowNumber::RECORD, class);
            }
            Outcome::Processed { rows, letters } => {
                counts.records.processed += 1;
                counts.rows += rows.len() as u64;
                counts.dead_lettered_rows += letters.len() as u64;
                for (number, class) in letters {
                    letter(RowNumber(number), class);
                }
                if let Some(table) = shape.and_then(|shape| self.folded.tables.get_mut(shape.table)) {
                    rows.into_iter().for_each(|(key, row)| apply(table, key, row));
                }
            }
        }
    }

    pub(super) fn finish(self) -> Folded {
        self.folded
    }
}

/// Applies a row where its version and position are greater than the stored ones, or equal.
fn apply(table: &mut Table, key: Vec<String>, row: Row) {
    match table.entry(key) {
        Entry::Vacant(place) => {
            place.insert(row);
        }
        Entry::Occupied(mut stored) => {
            let is_older = (&row.version, &row.position) < (&stored.get().version, &stored.get().position);
            if !is_older {
                stored.insert(row);
            }
        }
    }
}
