//! What data types may share: a topic when their records can be told apart, a table when they never write one column.

use std::collections::BTreeMap;

use super::super::faults::Collector;
use super::super::raw::{RawDataType, RawMatcher};

/// Checks the data types of each topic against each other.
pub(super) fn check_topics(data_types: &[RawDataType], faults: &mut Collector) {
    for (topic, sharers) in groups(data_types, |data_type| data_type.topic.value()) {
        for (place, data_type) in sharers.iter().enumerate() {
            check_in_key(data_type, sharers.len(), faults);
            if sharers.len() > 1 && !data_type.matcher.is_present() {
                let problem = format!("is missing, and `{topic}` carries {} data types", sharers.len());
                let remedy = "write match: { header: …, equals: … } or match: { field: /…, equals: … }";
                faults.add(&data_type.path.key("match"), problem, remedy);
            }
            let Some(matcher) = data_type.matcher.value() else {
                continue;
            };
            let twin = sharers[..place]
                .iter()
                .find(|other| other.matcher.value().is_some_and(|one| same(one, matcher)));
            if let Some(twin) = twin {
                let problem = format!("matches the same records as {}", twin.name);
                faults.add(&matcher.path, problem, "give each data type of a topic its own match");
            }
        }
    }
}

/// The key alone decides before anything is decoded, so the data type must be known before, too.
fn check_in_key(data_type: &RawDataType, sharers: usize, faults: &mut Collector) {
    let Some(id) = data_type.id.value().filter(|id| id.in_key.value() == Some(&true)) else {
        return;
    };
    let by_field = data_type
        .matcher
        .value()
        .is_some_and(|matcher| matcher.field.is_present());
    if by_field && sharers > 1 {
        let problem = "is set, but only a field tells the data type";
        faults.add(
            &id.path.key("in_key"),
            problem,
            "match by a header, give the data type its own topic, or leave it out",
        );
    }
}

fn same(one: &RawMatcher, other: &RawMatcher) -> bool {
    let text = |matcher: &RawMatcher| {
        let source = (matcher.header.value().cloned(), matcher.field.value().cloned());
        Some((source, matcher.equals.value()?.clone()))
    };
    text(one).is_some() && text(one) == text(other)
}

/// Checks the data types of each table against each other.
pub(super) fn check_tables(data_types: &[RawDataType], faults: &mut Collector) {
    for (table, sharers) in groups(data_types, |data_type| data_type.table.value()) {
        for (place, data_type) in sharers.iter().enumerate() {
            for first in &sharers[..place] {
                check_pair(table, first, data_type, faults);
            }
        }
    }
}

fn check_pair(table: &str, first: &RawDataType, second: &RawDataType, faults: &mut Collector) {
    let (Some(first_key), Some(second_key)) = (first.key.value(), second.key.value()) else {
        return;
    };
    if first_key != second_key {
        let problem = format!(
            "is another key than that of {}, which shares the table {table}",
            first.name
        );
        faults.add(
            &second.path.key("key"),
            problem,
            format!("write [{}]", first_key.join(", ")),
        );
        return;
    }
    let taken: BTreeMap<_, _> = written(first).collect();
    for (name, key) in written(second) {
        let in_both_keys = first_key.iter().any(|column| column.eq_ignore_ascii_case(&name));
        if in_both_keys || !taken.contains_key(&name) {
            continue;
        }
        let path = match key {
            Written::Column => second.path.key("columns").key(&name),
            Written::Guard(key) => second.path.key("version").key(key),
        };
        let problem = format!(
            "`{name}` is written by {} too, which shares the table {table}",
            first.name
        );
        faults.add(
            &path,
            problem,
            "let each column, version column and position column have one writer",
        );
    }
}

#[derive(Clone, Copy)]
enum Written {
    Column,
    Guard(&'static str),
}

/// Returns every column that a data type writes, in lower case as MySQL compares them.
fn written(data_type: &RawDataType) -> impl Iterator<Item = (String, Written)> {
    let columns = data_type.columns.value().into_iter().flatten();
    let columns = columns.map(|column| (column.name.to_ascii_lowercase(), Written::Column));
    let guards = data_type.version.value().into_iter().flat_map(|version| {
        [
            ("column", &version.column),
            ("position_column", &version.position_column),
        ]
    });
    columns.chain(guards.filter_map(|(key, name)| Some((name.value()?.to_ascii_lowercase(), Written::Guard(key)))))
}

fn groups<'a>(
    data_types: &'a [RawDataType],
    by: impl Fn(&'a RawDataType) -> Option<&'a String>,
) -> BTreeMap<&'a str, Vec<&'a RawDataType>> {
    let mut groups: BTreeMap<&str, Vec<&RawDataType>> = BTreeMap::new();
    for data_type in data_types {
        if let Some(name) = by(data_type) {
            groups.entry(name).or_default().push(data_type);
        }
    }
    groups
}
