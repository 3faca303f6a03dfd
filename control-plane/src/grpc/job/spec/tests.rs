use reprise_shared::catalog;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::*;

fn catalog() -> Catalog {
    let text = include_str!("../../../../../config/catalog.yaml");
    catalog::parse("catalog.yaml", text).expect("the shipped catalog")
}

fn offsets(partition: u32, start: u64, end: u64) -> PartitionOffsets {
    PartitionOffsets {
        topic: String::new(),
        partition,
        offsets: Some(OffsetInterval { start, end }),
    }
}

fn replay() -> ReplaySpec {
    ReplaySpec {
        data_types: vec!["fund_risk".to_owned(), "fund_basic".to_owned()],
        records: Some(replay_spec::Records::Offsets(ReplayOffsets {
            partitions: vec![offsets(0, 5, 10)],
        })),
        ..ReplaySpec::default()
    }
}

fn spec(replay: ReplaySpec) -> JobSpec {
    JobSpec {
        work: Some(job_spec::Work::Replay(replay)),
        ..JobSpec::default()
    }
}

/// The fields that a specification is refused for.
fn refused(spec: JobSpec) -> Vec<String> {
    let mut fields = Fields::new();
    ask(&mut fields, Some(spec), &catalog(), &Config::default());
    let Err(error) = fields.finish() else {
        return Vec::new();
    };
    let details = Status::from(error).get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone());
    violations
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

#[test]
fn what_was_asked_for_is_shown_as_it_was_asked() {
    let second = |seconds| {
        Some(prost_types::Timestamp {
            seconds,
            nanos: 5_000_000,
        })
    };
    let times = ReplayTimes {
        window: Some(TimeWindow {
            start_time: second(10),
            end_time: second(20),
        }),
        time_basis: TimeBasis::Record.into(),
        max_disorder: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
    };
    let mut asked = spec(ReplaySpec {
        records: Some(replay_spec::Records::Times(times)),
        lookup_values: vec![LookupValues {
            lookup: "fund_code".to_owned(),
            values: vec!["F1".to_owned()],
        }],
        mode: ReplayMode::Verify.into(),
        ..replay()
    });
    asked.labels.insert("why".to_owned(), "a bug".to_owned());
    asked.priority = -3;
    asked.max_records_per_second = 500;
    let mut fields = Fields::new();
    let ask = ask(&mut fields, Some(asked.clone()), &catalog(), &Config::default()).expect("no fault");
    fields.finish().expect("no fault");
    let stored = serde_json::to_string(&ask).expect("plain data");
    assert_eq!(shown(&stored), Some(asked));
}

#[test]
fn every_fault_is_named() {
    let bad = spec(ReplaySpec {
        data_types: vec!["fund_nav".to_owned(), "fund_risk".to_owned(), "fund_risk".to_owned()],
        records: Some(replay_spec::Records::Offsets(ReplayOffsets {
            partitions: vec![
                offsets(70_000, 9, 3),
                PartitionOffsets {
                    topic: "other".to_owned(),
                    ..PartitionOffsets::default()
                },
            ],
        })),
        ids: vec![String::new(), "ok".to_owned()],
        lookup_values: vec![LookupValues {
            lookup: "fund_name".to_owned(),
            values: Vec::new(),
        }],
        mode: 77,
        ..ReplaySpec::default()
    });
    let bad = JobSpec {
        priority: 101,
        labels: [("two words".to_owned(), String::new())].into(),
        ..bad
    };
    assert_eq!(
        refused(bad),
        [
            "spec.replay.data_types[0]",
            "spec.replay.data_types[2]",
            "spec.replay.mode",
            "spec.replay.offsets.partitions[0].partition",
            "spec.replay.offsets.partitions[0].offsets",
            "spec.replay.offsets.partitions[1].topic",
            "spec.replay.offsets.partitions[1].offsets",
            "spec.replay.ids[0]",
            "spec.replay.lookup_values[0].lookup",
            "spec.replay.lookup_values[0].values",
            "spec.priority",
            "spec.labels",
        ]
    );
    assert_eq!(refused(JobSpec::default()), ["spec.work"]);
    assert_eq!(
        refused(spec(ReplaySpec::default())),
        ["spec.replay.data_types", "spec.replay.records"]
    );
}

#[test]
fn too_much_is_refused_without_looking_at_each() {
    let many = spec(ReplaySpec {
        ids: vec!["x".to_owned(); 1_000_000],
        records: Some(replay_spec::Records::Offsets(ReplayOffsets {
            partitions: vec![offsets(70_000, 1, 0); 10_000],
        })),
        ..replay()
    });
    assert_eq!(refused(many), ["spec.replay.offsets.partitions", "spec.replay.ids"]);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let catch_up = replay_spec::Records::CatchUp(ReplayCatchUp { since_version: 3 });
    let compared = spec(ReplaySpec {
        records: Some(catch_up),
        mode: ReplayMode::Repair.into(),
        ignore_whitelist: true,
        clean_first: true,
        ..replay()
    });
    assert_eq!(
        refused(compared),
        [
            "spec.replay.ignore_whitelist",
            "spec.replay.mode",
            "spec.replay.clean_first"
        ]
    );
    let overwriting = spec(ReplaySpec {
        records: Some(replay_spec::Records::Offsets(ReplayOffsets {
            partitions: vec![offsets(1, 0, 5), offsets(1, 8, 9)],
        })),
        mode: ReplayMode::Overwrite.into(),
        ..replay()
    });
    assert_eq!(refused(overwriting), ["spec.replay.offsets.partitions[1].partition"]);
    let times = ReplayTimes {
        time_basis: TimeBasis::Processed.into(),
        max_disorder: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..ReplayTimes::default()
    };
    let window = spec(ReplaySpec {
        records: Some(replay_spec::Records::Times(times)),
        ..replay()
    });
    assert_eq!(
        refused(window),
        ["spec.replay.times.window.start_time", "spec.replay.times.max_disorder"]
    );
}
