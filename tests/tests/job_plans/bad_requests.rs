//! Requests that no plan is made of.

use anyhow::{Result, ensure};
use reprise_proto::v1::*;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{offsets, replay, spec, times, world};

/// The fields that a request is refused for.
fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone());
    violations
        .unwrap_or_default()
        .into_iter()
        .map(|violation| violation.field)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_every_fault() -> Result<()> {
    let mut world = world("plan-bad").await?;
    let bad = [
        (
            spec(ReplaySpec {
                ids: vec![String::new(), "\u{7}".to_owned()],
                ..replay(&["fund_nav"], offsets(&[(0, 9, 3), (70_000, 0, 1)]))
            }),
            vec![
                "spec.replay.data_types[0]",
                "spec.replay.offsets.partitions[0].offsets",
                "spec.replay.offsets.partitions[1].partition",
                "spec.replay.ids[0]",
                "spec.replay.ids[1]",
            ],
        ),
        (
            spec(replay(&["fund_risk"], offsets(&[(3, 0, 5), (4, 0, 5), (9, 0, 5)]))),
            vec![
                "spec.replay.offsets.partitions[1].partition",
                "spec.replay.offsets.partitions[2].partition",
            ],
        ),
        (
            spec(ReplaySpec {
                ids: vec!["x".to_owned(); 1_000_000],
                ..replay(&["fund_risk"], offsets(&vec![(0, 1, 2); 10_000]))
            }),
            vec!["spec.replay.offsets.partitions", "spec.replay.ids"],
        ),
        (
            spec(replay(&["fund_risk"], times(5_000, 4_000, TimeBasis::Record))),
            vec!["spec.replay.times.window"],
        ),
        (JobSpec::default(), vec!["spec.work"]),
    ];
    for (spec, expected) in bad {
        let status = world.plan_refused(spec).await?;
        ensure!(status.code() == Code::InvalidArgument, "{status:?}");
        ensure!(fields(&status) == expected, "{:?}", fields(&status));
        eprintln!("{}", status.message());
    }
    world.end().await
}
