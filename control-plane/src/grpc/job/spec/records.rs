//! Which records: offsets, times, a catch-up; and the positions of a rebuild.

use std::collections::BTreeSet;

use reprise_proto::v1::*;
use reprise_shared::position::{Offset, Partition, TopicName};
use reprise_shared::whitelist::Version;

use super::Ground;
use crate::grpc::error::quoted;
use crate::grpc::fields::Fields;
use crate::grpc::names;
use crate::planner::ask::{self, Rebuild, Records, Times};

impl Ground<'_> {
    pub(super) fn records(
        &self,
        fields: &mut Fields,
        records: Option<replay_spec::Records>,
        data_types: &[String],
    ) -> Option<Records> {
        match records {
            Some(replay_spec::Records::Offsets(offsets)) => {
                let field = "spec.replay.offsets.partitions";
                if offsets.partitions.is_empty() {
                    fields.refuse(field, "is required");
                }
                let topics = self.topics(data_types);
                Some(Records::Offsets(self.partitions(
                    fields,
                    field,
                    offsets.partitions,
                    &topics,
                )))
            }
            Some(replay_spec::Records::Times(asked)) => times(fields, asked).map(Records::Times),
            Some(replay_spec::Records::CatchUp(asked)) => Some(Records::CatchUp {
                since: Version(asked.since_version),
            }),
            None => {
                fields.refuse("spec.replay.records", "is required: offsets, times or catch_up");
                None
            }
        }
    }

    pub(super) fn rebuild(&self, fields: &mut Fields, rebuild: RebuildSpec) -> Option<Rebuild> {
        let topic = TopicName::new(&rebuild.topic);
        if rebuild.topic.is_empty() {
            fields.refuse("spec.rebuild.topic", "is required");
        } else if !self.catalog.data_types.iter().any(|data_type| data_type.topic == topic) {
            let problem = names::no_topic(self.catalog, &rebuild.topic);
            fields.refuse("spec.rebuild.topic", problem);
        }
        let topics = BTreeSet::from([topic.clone()]);
        let partitions = self.partitions(fields, "spec.rebuild.partitions", rebuild.partitions, &topics);
        Some(Rebuild { topic, partitions })
    }

    fn partitions(
        &self,
        fields: &mut Fields,
        field: &str,
        asked: Vec<PartitionOffsets>,
        topics: &BTreeSet<TopicName>,
    ) -> Vec<ask::PartitionOffsets> {
        let most = self.config.max_partitions;
        if asked.len() > most {
            let problem = format!(
                "has {} entries; at most {most} are taken (jobs.max_partitions)",
                asked.len()
            );
            fields.refuse(field, problem);
            return Vec::new();
        }
        let checked = asked.into_iter().enumerate();
        let checked = checked.filter_map(|(place, asked)| one(fields, &format!("{field}[{place}]"), asked, topics));
        checked.collect()
    }
}

fn one(
    fields: &mut Fields,
    field: &str,
    asked: PartitionOffsets,
    topics: &BTreeSet<TopicName>,
) -> Option<ask::PartitionOffsets> {
    let topic = if asked.topic.is_empty() {
        if topics.len() > 1 {
            let problem = "is required, because the data types have more than one";
            fields.refuse(format!("{field}.topic"), problem);
        }
        topics.first().cloned()
    } else {
        let topic = TopicName::new(&asked.topic);
        if !topics.is_empty() && !topics.contains(&topic) {
            let problem = format!("{} is not the topic of what is asked for", quoted(&asked.topic));
            fields.refuse(format!("{field}.topic"), problem);
        }
        Some(topic)
    };
    let number = u16::try_from(asked.partition).map_err(|_| format!("is {}; at most 65535 can be", asked.partition));
    let number = fields.take(&format!("{field}.partition"), number);
    let Some(OffsetInterval { start, end }) = asked.offsets else {
        fields.refuse(format!("{field}.offsets"), "is required");
        return None;
    };
    if end <= start {
        let problem = format!("ends at {end}, which is not after its start at {start}");
        fields.refuse(format!("{field}.offsets"), problem);
    }
    Some(ask::PartitionOffsets {
        topic: topic?,
        partition: Partition(number?),
        start: Offset(start),
        end: Offset(end),
    })
}

fn times(fields: &mut Fields, asked: ReplayTimes) -> Option<Times> {
    const FIELD: &str = "spec.replay.times";
    let window = asked.window.unwrap_or_default();
    let start = fields.time(&format!("{FIELD}.window.start_time"), window.start_time);
    let end = fields.time(&format!("{FIELD}.window.end_time"), window.end_time);
    if window.start_time.is_none() {
        fields.refuse(format!("{FIELD}.window.start_time"), "is required");
    }
    if let Some((start, end)) = start.zip(end)
        && end <= start
    {
        let problem = format!("ends at {end}, which is not after its start at {start}");
        fields.refuse(format!("{FIELD}.window"), problem);
    }
    let by_record = match TimeBasis::try_from(asked.time_basis) {
        Ok(TimeBasis::Unspecified | TimeBasis::Record) => true,
        Ok(TimeBasis::Processed) => false,
        Err(_) => {
            let problem = format!("is {}, which is none of its values", asked.time_basis);
            fields.refuse(format!("{FIELD}.time_basis"), problem);
            true
        }
    };
    let disorder = fields.duration(&format!("{FIELD}.max_disorder"), asked.max_disorder);
    if disorder.is_some() && (!by_record || window.end_time.is_none()) {
        let problem = "needs time_basis RECORD and a window with an end";
        fields.refuse(format!("{FIELD}.max_disorder"), problem);
    }
    Some(Times {
        start: start?,
        end,
        by_record,
        max_disorder_ms: disorder.map(|disorder| u64::try_from(disorder.as_millis()).unwrap_or(u64::MAX)),
    })
}
