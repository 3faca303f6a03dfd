//! The form of the catalog file: which keys stand where and what kind of value each holds. Whether the values fit
//! together is for `compile`.

use std::time::Duration;

use serde_norway::{Mapping, Value};

use super::faults::{Collector, YamlPath};
use super::model::Unmatched;
use super::section::{Given, Section};

/// A whole file; each list in the order of the names.
pub(super) struct RawCatalog {
    pub(super) lookups: Vec<RawLookup>,
    pub(super) topics: Vec<RawTopic>,
    pub(super) data_types: Vec<RawDataType>,
}

pub(super) struct RawLookup {
    pub(super) path: YamlPath,
    pub(super) name: String,
    pub(super) table: Given<String>,
    pub(super) key: Given<String>,
    pub(super) value: Given<String>,
    pub(super) search: Given<Vec<String>>,
    pub(super) ttl: Given<Duration>,
    pub(super) refresh_after: Given<Duration>,
    pub(super) negative_ttl: Given<Duration>,
    pub(super) capacity: Given<u64>,
    pub(super) preload: Given<bool>,
}

pub(super) struct RawTopic {
    pub(super) path: YamlPath,
    pub(super) name: String,
    pub(super) unmatched: Given<Unmatched>,
}

pub(super) struct RawDataType {
    pub(super) path: YamlPath,
    pub(super) name: String,
    pub(super) topic: Given<String>,
    pub(super) matcher: Given<RawMatcher>,
    pub(super) rows: Given<String>,
    pub(super) id: Given<RawId>,
    pub(super) table: Given<String>,
    pub(super) key: Given<Vec<String>>,
    pub(super) version: Given<RawVersion>,
    pub(super) columns: Given<Vec<RawColumn>>,
    pub(super) batch: Given<RawBatch>,
}

pub(super) struct RawMatcher {
    pub(super) path: YamlPath,
    pub(super) header: Given<String>,
    pub(super) field: Given<String>,
    pub(super) equals: Given<String>,
}

pub(super) struct RawId {
    pub(super) path: YamlPath,
    pub(super) field: Given<String>,
    pub(super) in_key: Given<bool>,
}

pub(super) struct RawVersion {
    pub(super) path: YamlPath,
    pub(super) field: Given<String>,
    pub(super) record_time: Given<bool>,
    pub(super) position: Given<bool>,
    pub(super) column_type: Given<String>,
    pub(super) zone: Given<String>,
    pub(super) column: Given<String>,
    pub(super) position_column: Given<String>,
    pub(super) max_ahead: Given<Duration>,
}

pub(super) struct RawColumn {
    pub(super) path: YamlPath,
    pub(super) name: String,
    pub(super) field: Given<String>,
    pub(super) lookup: Given<String>,
    pub(super) column_type: Given<String>,
    pub(super) optional: Given<bool>,
    pub(super) round: Given<bool>,
    pub(super) zone: Given<String>,
}

pub(super) struct RawBatch {
    pub(super) path: YamlPath,
    pub(super) max_rows: Given<u64>,
    pub(super) linger: Given<Duration>,
}

/// Reads the form of a whole file.
pub(super) fn read(document: Value, faults: &mut Collector) -> RawCatalog {
    let mut section = Section::open(YamlPath::root(), document, faults);
    let lookups = named(&mut section, "lookups", faults, lookup);
    let topics = named(&mut section, "topics", faults, topic);
    let data_types = named(&mut section, "data_types", faults, data_type);
    let data_types = demand(
        data_types,
        &section,
        "data_types",
        "declare at least one data type",
        faults,
    );
    section.close(faults);
    RawCatalog {
        lookups: by_name(lookups, |lookup| &lookup.name),
        topics: by_name(topics, |topic| &topic.name),
        data_types: by_name(data_types, |data_type| &data_type.name),
    }
}

/// Reads a mapping from names, `lookups:` for example.
fn named<T>(
    section: &mut Section,
    key: &'static str,
    faults: &mut Collector,
    read: impl Fn(String, Section, &mut Collector) -> T,
) -> Given<Vec<T>> {
    let path = section.path().key(key);
    let mapping = match section.take(key) {
        Given::Absent => return Given::Absent,
        Given::Faulty => return Given::Faulty,
        Given::Value(Value::Null) => Mapping::new(),
        Given::Value(Value::Mapping(mapping)) => mapping,
        Given::Value(_) => {
            faults.add(&path, "is not a mapping", "write a mapping from names");
            return Given::Faulty;
        }
    };
    if mapping.is_empty() && matches!(key, "data_types" | "columns") {
        faults.add(&path, "is empty", "declare at least one");
    }
    let entries = mapping.into_iter().filter_map(|(name, value)| {
        let name = name.as_str()?.to_owned();
        // A topic, all of whose keys have defaults, may be written as `fund-data:` alone.
        let value = if key == "topics" && value.is_null() {
            Value::Mapping(Mapping::new())
        } else {
            value
        };
        let section = Section::open(path.key(&name), value, faults);
        Some(read(name, section, faults))
    });
    Given::Value(entries.collect())
}

/// Sorts by name: the order of keys has no meaning in YAML, so it must have none in the compiled catalog.
fn by_name<T>(entries: Given<Vec<T>>, name: impl Fn(&T) -> &String) -> Vec<T> {
    let mut entries = match entries {
        Given::Value(entries) => entries,
        Given::Absent | Given::Faulty => Vec::new(),
    };
    entries.sort_by(|one, other| name(one).cmp(name(other)));
    entries
}

/// Reads a mapping inside another one.
fn nested<T>(
    section: &mut Section,
    key: &'static str,
    faults: &mut Collector,
    read: impl FnOnce(Section, &mut Collector) -> T,
) -> Given<T> {
    let path = section.path().key(key);
    match section.take(key) {
        Given::Absent => Given::Absent,
        Given::Faulty => Given::Faulty,
        Given::Value(value) => {
            let section = Section::open(path, value, faults);
            Given::Value(read(section, faults))
        }
    }
}

/// Makes a fault of a key that is not there.
fn demand<T>(given: Given<T>, section: &Section, key: &str, remedy: &str, faults: &mut Collector) -> Given<T> {
    if given.is_present() {
        return given;
    }
    faults.add(&section.path().key(key), "is missing", remedy);
    Given::Faulty
}

fn lookup(name: String, mut section: Section, faults: &mut Collector) -> RawLookup {
    let lookup = RawLookup {
        path: section.path().clone(),
        name,
        table: section.required("table", faults),
        key: section.required("key", faults),
        value: section.required("value", faults),
        search: section.optional("search", faults),
        ttl: section.duration("ttl", faults),
        refresh_after: section.duration("refresh_after", faults),
        negative_ttl: section.duration("negative_ttl", faults),
        capacity: section.optional("capacity", faults),
        preload: section.optional("preload", faults),
    };
    section.close(faults);
    lookup
}

fn topic(name: String, mut section: Section, faults: &mut Collector) -> RawTopic {
    let topic = RawTopic {
        path: section.path().clone(),
        name,
        unmatched: section.optional("unmatched", faults),
    };
    section.close(faults);
    topic
}

fn data_type(name: String, mut section: Section, faults: &mut Collector) -> RawDataType {
    let topic = section.required("topic", faults);
    let matched = nested(&mut section, "match", faults, matcher);
    let rows = section.optional("rows", faults);
    let id = nested(&mut section, "id", faults, id);
    let id = demand(
        id,
        &section,
        "id",
        "say which field the whitelist tests: id: { field: /… }",
        faults,
    );
    let table = section.required("table", faults);
    let key = section.required("key", faults);
    let version = nested(&mut section, "version", faults, version);
    let version = demand(
        version,
        &section,
        "version",
        "choose what tells the newer of two rows: a field with its type, record_time: true, or position: true",
        faults,
    );
    let columns = named(&mut section, "columns", faults, column);
    let columns = demand(
        columns,
        &section,
        "columns",
        "name the columns and where each comes from",
        faults,
    );
    let batch = nested(&mut section, "batch", faults, batch);
    let path = section.path().clone();
    section.close(faults);
    RawDataType {
        path,
        name,
        topic,
        matcher: matched,
        rows,
        id,
        table,
        key,
        version,
        columns,
        batch,
    }
}

fn matcher(mut section: Section, faults: &mut Collector) -> RawMatcher {
    let matcher = RawMatcher {
        path: section.path().clone(),
        header: section.optional("header", faults),
        field: section.optional("field", faults),
        equals: section.required("equals", faults),
    };
    section.close(faults);
    matcher
}

fn id(mut section: Section, faults: &mut Collector) -> RawId {
    let id = RawId {
        path: section.path().clone(),
        field: section.required("field", faults),
        in_key: section.optional("in_key", faults),
    };
    section.close(faults);
    id
}

fn version(mut section: Section, faults: &mut Collector) -> RawVersion {
    let version = RawVersion {
        path: section.path().clone(),
        field: section.optional("field", faults),
        record_time: section.optional("record_time", faults),
        position: section.optional("position", faults),
        column_type: section.optional("type", faults),
        zone: section.optional("zone", faults),
        column: section.optional("column", faults),
        position_column: section.required("position_column", faults),
        max_ahead: section.duration("max_ahead", faults),
    };
    section.close(faults);
    version
}

fn column(name: String, mut section: Section, faults: &mut Collector) -> RawColumn {
    let column = RawColumn {
        path: section.path().clone(),
        name,
        field: section.optional("field", faults),
        lookup: section.optional("lookup", faults),
        column_type: section.optional("type", faults),
        optional: section.optional("optional", faults),
        round: section.optional("round", faults),
        zone: section.optional("zone", faults),
    };
    section.close(faults);
    column
}

fn batch(mut section: Section, faults: &mut Collector) -> RawBatch {
    let batch = RawBatch {
        path: section.path().clone(),
        max_rows: section.optional("max_rows", faults),
        linger: section.duration("linger", faults),
    };
    section.close(faults);
    batch
}
