//! The hash of what a catalog means: comments, spacing, the order of keys, and defaults written out change nothing.
//!
//! The form that is hashed is one line per fact, `data_types.fund_risk.table="t_ai_risk"`, sorted. It is part of what
//! workers of different releases compare: a fact that is added later must only add a line where it is used.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display, Write};

use sha2::{Digest, Sha256};

use super::model::{
    Catalog, Column, ColumnSource, DataType, Lookup, Matcher, Topic, TypeIndex, Unmatched, Version, VersionSource,
};

impl Catalog {
    /// Returns the hash of some data types with the lookups and topics that they use, in hex. Two catalogs that agree
    /// on it process these data types alike, whatever else they declare.
    pub fn hash_of(&self, data_types: &[TypeIndex]) -> String {
        let data_types: Vec<_> = data_types.iter().map(|index| self.data_type(*index)).collect();
        let lookups: BTreeSet<_> = data_types.iter().flat_map(|data_type| data_type.lookups()).collect();
        let topics = self
            .topics
            .iter()
            .filter(|topic| data_types.iter().any(|one| one.topic == topic.name));
        hash(
            self,
            lookups.into_iter().map(|index| self.lookup(index)),
            topics,
            data_types.iter().copied(),
        )
    }
}

/// Returns the hash of a whole catalog, in hex.
pub(super) fn of_whole(catalog: &Catalog) -> String {
    hash(
        catalog,
        catalog.lookups.iter(),
        catalog.topics.iter(),
        catalog.data_types.iter(),
    )
}

fn hash<'a>(
    catalog: &Catalog,
    lookups: impl Iterator<Item = &'a Lookup>,
    topics: impl Iterator<Item = &'a Topic>,
    data_types: impl Iterator<Item = &'a DataType>,
) -> String {
    let mut facts = Facts::default();
    lookups.for_each(|one| lookup(&mut facts, one));
    topics.for_each(|one| topic(&mut facts, one));
    data_types.for_each(|one| data_type(&mut facts, catalog, one));
    let mut digest = Sha256::new();
    for line in &facts.0 {
        digest.update(line.as_bytes());
        digest.update(b"\n");
    }
    digest.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Sorted lines. Values are in `Debug` form, which has no line breaks, so no two catalogs make the same lines.
#[derive(Default)]
struct Facts(BTreeSet<String>);

impl Facts {
    fn add(&mut self, path: impl Display, value: impl Debug) {
        self.0.insert(format!("{path}={value:?}"));
    }

    fn add_some(&mut self, path: impl Display, value: Option<impl Debug>) {
        if let Some(value) = value {
            self.add(path, value);
        }
    }
}

fn lookup(facts: &mut Facts, lookup: &Lookup) {
    let path = format!("lookups.{}", lookup.name);
    facts.add(format_args!("{path}.table"), &lookup.table);
    facts.add(format_args!("{path}.key"), &lookup.key);
    facts.add(format_args!("{path}.value"), &lookup.value);
    for column in &lookup.search {
        facts.add(format_args!("{path}.search"), column);
    }
    facts.add(format_args!("{path}.ttl"), lookup.ttl.as_nanos());
    facts.add(format_args!("{path}.refresh_after"), lookup.refresh_after.as_nanos());
    facts.add(format_args!("{path}.negative_ttl"), lookup.negative_ttl.as_nanos());
    facts.add(format_args!("{path}.capacity"), lookup.capacity);
    facts.add(format_args!("{path}.preload"), lookup.preload);
}

fn topic(facts: &mut Facts, topic: &Topic) {
    let unmatched = match topic.unmatched {
        Unmatched::Skip => "skip",
        Unmatched::DeadLetter => "dead_letter",
    };
    facts.add(format_args!("topics.{}.unmatched", topic.name), unmatched);
}

fn data_type(facts: &mut Facts, catalog: &Catalog, data_type: &DataType) {
    let path = format!("data_types.{}", data_type.name);
    facts.add(format_args!("{path}.topic"), data_type.topic.as_str());
    match &data_type.matcher {
        None => {}
        Some(Matcher::Header { name, equals }) => facts.add(format_args!("{path}.match.header"), (name, equals)),
        Some(Matcher::Field { pointer, equals }) => {
            facts.add(format_args!("{path}.match.field"), (pointer.to_string(), equals));
        }
    }
    facts.add_some(
        format_args!("{path}.rows"),
        data_type.rows.as_ref().map(ToString::to_string),
    );
    facts.add(format_args!("{path}.id"), (data_type.id.to_string(), data_type.in_key));
    facts.add(format_args!("{path}.table"), &data_type.table);
    let key: Vec<_> = data_type
        .key
        .iter()
        .map(|place| &data_type.columns[*place].name)
        .collect();
    facts.add(format_args!("{path}.key"), key);
    version(facts, &path, &data_type.version);
    for one in &data_type.columns {
        column(facts, catalog, &path, one);
    }
    facts.add(
        format_args!("{path}.batch"),
        (data_type.batch.max_rows, data_type.batch.linger.as_nanos()),
    );
}

fn version(facts: &mut Facts, path: &str, version: &Version) {
    match &version.source {
        VersionSource::Field {
            field,
            column_type,
            zone,
        } => {
            let source = (field.to_string(), column_type.to_string(), zone);
            facts.add(format_args!("{path}.version.field"), source);
        }
        VersionSource::RecordTime => facts.add(format_args!("{path}.version.record_time"), true),
        VersionSource::Position => facts.add(format_args!("{path}.version.position"), true),
    }
    facts.add_some(format_args!("{path}.version.column"), version.column.as_ref());
    facts.add(format_args!("{path}.version.position_column"), &version.position_column);
    facts.add_some(
        format_args!("{path}.version.max_ahead"),
        version.max_ahead.map(|ahead| ahead.as_nanos()),
    );
}

fn column(facts: &mut Facts, catalog: &Catalog, path: &str, column: &Column) {
    let path = format!("{path}.columns.{}", column.name);
    match &column.source {
        ColumnSource::Field(field) => facts.add(format_args!("{path}.field"), field.to_string()),
        ColumnSource::Lookup(index) => facts.add(format_args!("{path}.lookup"), &catalog.lookup(*index).name),
    }
    facts.add(format_args!("{path}.type"), column.column_type.to_string());
    facts.add(format_args!("{path}.optional"), column.optional);
    facts.add(format_args!("{path}.round"), column.round);
    facts.add_some(format_args!("{path}.zone"), column.zone.as_ref());
}
