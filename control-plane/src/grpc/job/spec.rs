//! What is asked of a job, from the wire and back: every fault of it is told at once.

mod records;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use reprise_proto::v1::*;
use reprise_shared::catalog::Catalog;
use reprise_shared::jobs::{self, Mode};
use reprise_shared::position::TopicName;

use crate::grpc::error::quoted;
use crate::grpc::fields::Fields;
use crate::grpc::names;
use crate::jobs::Config;
use crate::planner::ask::{self, Ask, Records, Replay, Work};

pub(super) use self::wire::shown;

/// A request names at most so many data types.
const MOST_TYPES: usize = 100;
/// A request names at most so many lookups, and so many values of each.
const MOST_LOOKUPS: usize = 10;
const MOST_VALUES: usize = 1_000;
/// A value of a lookup has at most so many bytes.
const LONGEST_VALUE: usize = 1_024;
/// A job has at most so many labels.
const MOST_LABELS: usize = 16;
/// Bytes of a label's name and value.
const LONGEST_NAME: usize = 63;
const LONGEST_LABEL: usize = 255;
/// From the lowest priority to the highest.
const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;

/// What a request is checked against.
struct Ground<'a> {
    catalog: &'a Catalog,
    config: &'a Config,
}

/// Checks a specification; `None` only with a fault.
pub(super) fn ask(fields: &mut Fields, spec: Option<JobSpec>, catalog: &Catalog, config: &Config) -> Option<Ask> {
    let Some(spec) = spec else {
        fields.refuse("spec", "is required");
        return None;
    };
    let ground = Ground { catalog, config };
    let work = match spec.work {
        Some(job_spec::Work::Replay(replay)) => ground.replay(fields, replay).map(Work::Replay),
        Some(job_spec::Work::Rebuild(rebuild)) => ground.rebuild(fields, rebuild).map(Work::Rebuild),
        None => {
            fields.refuse("spec.work", "is required: replay or rebuild");
            None
        }
    };
    let priority = priority(fields, "spec.priority", spec.priority);
    let labels = labels(fields, spec.labels);
    Some(Ask {
        work: work?,
        max_records_per_second: rate(spec.max_records_per_second),
        priority: priority?,
        allow_partial: spec.allow_partial,
        labels,
    })
}

/// Reads a rate: 0 is none.
pub(super) fn rate(rate: u64) -> Option<u64> {
    (rate > 0).then_some(rate)
}

/// Checks a priority.
pub(super) fn priority(fields: &mut Fields, field: &str, priority: i32) -> Option<i16> {
    let within = PRIORITIES.contains(&priority).then_some(priority);
    let within = within.and_then(|priority| i16::try_from(priority).ok());
    if within.is_none() {
        fields.refuse(field, format!("is {priority}; it has to be -100 to 100"));
    }
    within
}

/// Checks the states of a list.
pub(super) fn states(fields: &mut Fields, states: &[i32]) -> Vec<jobs::JobState> {
    let mut known = Vec::with_capacity(states.len().min(jobs::JobState::ALL.len()));
    for (place, state) in states.iter().enumerate() {
        let found = jobs::JobState::ALL
            .iter()
            .find(|known| super::show::state(**known) as i32 == *state);
        match found {
            Some(found) if !known.contains(found) => known.push(*found),
            Some(_) => {}
            None => fields.refuse(
                format!("states[{place}]"),
                format!("is {state}, which is no state of a job; leave it out for jobs of all states"),
            ),
        }
    }
    known
}

fn labels(fields: &mut Fields, labels: std::collections::HashMap<String, String>) -> BTreeMap<String, String> {
    if labels.len() > MOST_LABELS {
        fields.refuse(
            "spec.labels",
            format!("has {} labels; at most {MOST_LABELS} are taken", labels.len()),
        );
        return BTreeMap::new();
    }
    let labels: BTreeMap<String, String> = labels.into_iter().collect();
    for (name, value) in &labels {
        let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > LONGEST_NAME || !visible {
            let problem = format!(
                "has the name {}; 1 to {LONGEST_NAME} visible ASCII characters are taken",
                quoted(name)
            );
            fields.refuse("spec.labels", problem);
        } else {
            fields.text(&format!("spec.labels[{name}]"), value, LONGEST_LABEL);
        }
    }
    labels
}

impl Ground<'_> {
    fn replay(&self, fields: &mut Fields, replay: ReplaySpec) -> Option<Replay> {
        let data_types = self.data_types(fields, replay.data_types);
        let mode = mode(fields, replay.mode);
        let records = self.records(fields, replay.records, &data_types);
        let ids = self.ids(fields, replay.ids);
        let lookup_values = self.lookup_values(fields, replay.lookup_values);
        let checked = Replay {
            data_types,
            records: records?,
            ids,
            lookup_values,
            ignore_whitelist: replay.ignore_whitelist,
            mode: mode?,
            clean_first: replay.clean_first,
        };
        combinations(fields, &checked);
        Some(checked)
    }

    fn data_types(&self, fields: &mut Fields, names: Vec<String>) -> Vec<String> {
        const FIELD: &str = "spec.replay.data_types";
        if names.is_empty() {
            fields.refuse(FIELD, "is required");
        }
        if names.len() > MOST_TYPES {
            fields.refuse(
                FIELD,
                format!("has {} data types; at most {MOST_TYPES} are taken", names.len()),
            );
            return Vec::new();
        }
        for (place, name) in names.iter().enumerate() {
            let field = format!("{FIELD}[{place}]");
            if self.catalog.find_data_type(name).is_none() {
                fields.refuse(field, names::no_data_type(self.catalog, name));
            } else if names[..place].contains(name) {
                fields.refuse(field, format!("{} stands there twice", quoted(name)));
            }
        }
        names
    }

    /// Returns the topics of data types, each once.
    fn topics(&self, data_types: &[String]) -> BTreeSet<TopicName> {
        let types = data_types.iter().filter_map(|name| self.catalog.find_data_type(name));
        types.map(|index| self.catalog.data_type(index).topic.clone()).collect()
    }

    fn ids(&self, fields: &mut Fields, ids: Vec<String>) -> Vec<String> {
        const FIELD: &str = "spec.replay.ids";
        let most = self.config.max_ids;
        if ids.len() > most {
            fields.refuse(
                FIELD,
                format!("has {} ids; at most {most} are taken (jobs.max_ids)", ids.len()),
            );
            return Vec::new();
        }
        fields.ids(FIELD, &ids);
        let mut seen = BTreeSet::new();
        ids.into_iter().filter(|id| seen.insert(id.clone())).collect()
    }

    fn lookup_values(&self, fields: &mut Fields, asked: Vec<LookupValues>) -> Vec<ask::LookupValues> {
        const FIELD: &str = "spec.replay.lookup_values";
        if asked.len() > MOST_LOOKUPS {
            fields.refuse(
                FIELD,
                format!("has {} lookups; at most {MOST_LOOKUPS} are taken", asked.len()),
            );
            return Vec::new();
        }
        let checked = asked.into_iter().enumerate().map(|(place, asked)| {
            let field = format!("{FIELD}[{place}]");
            let lookup = self.catalog.lookups.iter().find(|lookup| lookup.name == asked.lookup);
            match lookup {
                None => {
                    let problem = names::no_lookup(self.catalog, &asked.lookup);
                    fields.refuse(format!("{field}.lookup"), problem);
                }
                Some(lookup) if lookup.search.is_empty() => {
                    let problem = format!("{} has no search columns in the catalog", quoted(&asked.lookup));
                    fields.refuse(format!("{field}.lookup"), problem);
                }
                Some(_) => {}
            }
            let count = asked.values.len();
            if !(1..=MOST_VALUES).contains(&count) {
                fields.refuse(
                    format!("{field}.values"),
                    format!("has {count} values; 1 to {MOST_VALUES} are taken"),
                );
            } else {
                for (place, value) in asked.values.iter().enumerate() {
                    fields.text(&format!("{field}.values[{place}]"), value, LONGEST_VALUE);
                }
            }
            ask::LookupValues {
                lookup: asked.lookup,
                values: asked.values,
            }
        });
        checked.collect()
    }
}

fn mode(fields: &mut Fields, mode: i32) -> Option<Mode> {
    match ReplayMode::try_from(mode) {
        Ok(ReplayMode::Unspecified | ReplayMode::Live) => Some(Mode::Live),
        Ok(ReplayMode::Overwrite) => Some(Mode::Overwrite),
        Ok(ReplayMode::Isolated) => Some(Mode::Isolated),
        Ok(ReplayMode::Verify) => Some(Mode::Verify),
        Ok(ReplayMode::Repair) => Some(Mode::Repair),
        Err(_) => {
            fields.refuse("spec.replay.mode", format!("is {mode}, which is none of its values"));
            None
        }
    }
}

/// Refuses what does not go together.
fn combinations(fields: &mut Fields, replay: &Replay) {
    let catches_up = matches!(replay.records, Records::CatchUp { .. });
    if replay.ignore_whitelist && (replay.names_ids() || catches_up) {
        let problem = "has no meaning together with ids, lookup_values or catch_up; leave it out";
        fields.refuse("spec.replay.ignore_whitelist", problem);
    }
    if catches_up && !matches!(replay.mode, Mode::Live | Mode::Isolated) {
        let problem = format!("is {}; catch_up takes LIVE or ISOLATED", replay.mode.as_str());
        fields.refuse("spec.replay.mode", problem);
    }
    if replay.clean_first && !matches!(replay.mode, Mode::Live | Mode::Overwrite) {
        let problem = format!(
            "needs the mode LIVE or OVERWRITE, and the mode is {}",
            replay.mode.as_str()
        );
        fields.refuse("spec.replay.clean_first", problem);
    }
    if let (Mode::Overwrite, Records::Offsets(asked)) = (replay.mode, &replay.records) {
        let mut seen = BTreeSet::new();
        for (place, asked) in asked.iter().enumerate() {
            if !seen.insert((&asked.topic, asked.partition)) {
                let problem =
                    "is there before; OVERWRITE keeps the order of a partition, so it takes one interval of each";
                fields.refuse(format!("spec.replay.offsets.partitions[{place}].partition"), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests;
