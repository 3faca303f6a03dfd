//! From the form of the catalog to its meaning: whether the parts fit together, and the compiled catalog.
//!
//! Every rule adds its own faults and none stops the others. What a faulty value would decide is left unjudged. The
//! result is only to be used when no fault was added.

mod column;
mod data_type;
mod names;
mod sharing;
mod version;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::position::TopicName;

use super::faults::{Collector, YamlPath};
use super::hash;
use super::model::{Catalog, Lookup, Topic, Unmatched};
use super::raw::{RawCatalog, RawLookup, RawTopic};
use super::section::{Given, nearest};

/// No duration of the catalog is longer; caches and times can be added to without overflow.
const MAX_DURATION: Duration = Duration::from_hours(24 * 3650);

/// Compiles the whole catalog.
pub(super) fn compile(raw: &RawCatalog, faults: &mut Collector) -> Catalog {
    let lookup_names: Vec<&str> = raw.lookups.iter().map(|lookup| lookup.name.as_str()).collect();
    let lookups = raw
        .lookups
        .iter()
        .filter_map(|lookup| compile_lookup(lookup, faults))
        .collect();
    let topics = compile_topics(raw, faults);
    let data_types = raw
        .data_types
        .iter()
        .filter_map(|data_type| data_type::compile(data_type, &lookup_names, faults))
        .collect();
    sharing::check_topics(&raw.data_types, faults);
    sharing::check_tables(&raw.data_types, faults);
    let mut catalog = Catalog {
        lookups,
        topics,
        data_types,
        hash: String::new(),
    };
    catalog.hash = hash::of_whole(&catalog);
    catalog
}

fn compile_lookup(raw: &RawLookup, faults: &mut Collector) -> Option<Lookup> {
    names::check_name(&raw.path, &raw.name, faults);
    let table = names::identifier(&raw.path.key("table"), &raw.table, faults);
    let key = names::identifier(&raw.path.key("key"), &raw.key, faults);
    let value = names::identifier(&raw.path.key("value"), &raw.value, faults);
    let search = raw.search.or(Vec::new());
    for (index, column) in search.iter().flatten().enumerate() {
        names::check_identifier(&raw.path.key("search").element(index), column, faults);
    }
    let ttl = duration(&raw.path.key("ttl"), &raw.ttl, Duration::from_hours(1), faults);
    // Three quarters of the ttl: 45 minutes of the default hour.
    let default_refresh = ttl.map(|ttl| ttl * 3 / 4);
    let refresh_path = raw.path.key("refresh_after");
    let refresh_after = duration(
        &refresh_path,
        &raw.refresh_after,
        default_refresh.unwrap_or(Duration::MAX),
        faults,
    );
    if let (Some(ttl), Some(refresh)) = (ttl, refresh_after)
        && refresh >= ttl
        && raw.refresh_after.is_present()
    {
        let (refresh, ttl) = (humantime::format_duration(refresh), humantime::format_duration(ttl));
        faults.add(
            &refresh_path,
            format!("{refresh} is not below the ttl of {ttl}"),
            "write less than ttl",
        );
    }
    let negative_ttl = duration(
        &raw.path.key("negative_ttl"),
        &raw.negative_ttl,
        Duration::from_secs(30),
        faults,
    );
    let capacity = raw.capacity.or(1_000_000);
    if capacity == Some(0) {
        faults.add(
            &raw.path.key("capacity"),
            "is 0",
            "write how many keys to cache, at least 1",
        );
    }
    Some(Lookup {
        name: raw.name.clone(),
        table: table?,
        key: key?,
        value: value?,
        search: search?,
        ttl: ttl?,
        refresh_after: refresh_after?,
        negative_ttl: negative_ttl?,
        capacity: capacity?,
        preload: raw.preload.or(false)?,
    })
}

/// Returns a duration above zero; longer ones than [`MAX_DURATION`] are faults.
fn duration(path: &YamlPath, given: &Given<Duration>, default: Duration, faults: &mut Collector) -> Option<Duration> {
    let duration = given.or(default)?;
    if given.is_present() && (duration.is_zero() || duration > MAX_DURATION) {
        let remedy = "write a duration above 0 and of at most 3650d";
        faults.add(
            path,
            format!("{} is out of bounds", humantime::format_duration(duration)),
            remedy,
        );
        return None;
    }
    Some(duration)
}

/// Compiles the topics: those that are named, and with the default those that only data types name.
fn compile_topics(raw: &RawCatalog, faults: &mut Collector) -> Vec<Topic> {
    let read: BTreeSet<&str> = raw
        .data_types
        .iter()
        .filter_map(|data_type| data_type.topic.value())
        .map(String::as_str)
        .collect();
    for topic in &raw.topics {
        names::check_topic(&topic.path, &topic.name, faults);
        if !read.contains(topic.name.as_str())
            && raw.data_types.iter().all(|data_type| data_type.topic.value().is_some())
        {
            let remedy = match nearest(&topic.name, read.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? Otherwise leave it out"),
                None => "leave it out, or declare a data type with this topic".to_owned(),
            };
            faults.add(&topic.path, "is not the topic of any data type", remedy);
        }
    }
    let named: BTreeSet<&str> = raw.topics.iter().map(|topic| topic.name.as_str()).collect();
    let unnamed = read.difference(&named).map(|name| Topic {
        name: TopicName::new(name),
        unmatched: Unmatched::DeadLetter,
    });
    let mut topics: Vec<_> = raw.topics.iter().filter_map(compile_topic).chain(unnamed).collect();
    topics.sort_by(|one, other| one.name.cmp(&other.name));
    topics
}

fn compile_topic(raw: &RawTopic) -> Option<Topic> {
    Some(Topic {
        name: TopicName::new(&raw.name),
        unmatched: raw.unmatched.or(Unmatched::DeadLetter)?,
    })
}
