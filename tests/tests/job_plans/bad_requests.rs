//! Requests that no plan is made of.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::*;
use reprise_tests::api_doc::{Printed, run};
use reprise_tests::tools;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::{World, offsets, replay, spec, times, world};

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

/// Plans by grpcurl, with the records of fund_risk that some JSON asks for.
async fn plan_json(world: &World, tools: &Path, records: &str) -> Result<Printed> {
    let variables = BTreeMap::from([("CONTROL_PLANE", world.server.grpc.to_string())]);
    let request = format!(r#"{{"spec": {{"replay": {{"data_types": ["fund_risk"], {records}}}}}}}"#);
    let command = format!("grpcurl -plaintext -d '{request}' $CONTROL_PLANE reprise.control.v1.JobService/PlanJob");
    run(&command, &variables, tools).await
}

/// Offsets have no sign, and times have a zone: what a caller writes otherwise does not get as far as the server.
#[tokio::test(flavor = "multi_thread")]
async fn json_with_a_negative_offset_or_a_time_without_a_zone_is_no_request() -> Result<()> {
    let grpcurl = tools::grpcurl().await?;
    let tools = grpcurl.parent().context("grpcurl lies in no folder")?;
    let mut world = world("plan-json").await?;
    let from = |start: &str| {
        format!(r#""offsets": {{"partitions": [{{"partition": 0, "offsets": {{"start": "{start}", "end": "9"}}}}]}}"#)
    };
    let since = |start: &str| format!(r#""times": {{"window": {{"start_time": "{start}"}}}}"#);
    for (records, problem) in [
        (from("-5"), r#"parsing "-5": invalid syntax"#),
        (
            since("2024-03-07T09:30:00"),
            r#"bad Timestamp: parsing time "2024-03-07T09:30:00" as "2006-01-02T15:04:05.999999999Z07:00""#,
        ),
    ] {
        let printed = plan_json(&world, tools, &records).await?;
        eprintln!("{}", printed.text);
        ensure!(!printed.succeeded && printed.text.contains(problem), "{}", printed.text);
    }
    // Nothing else is wrong with them.
    for records in [from("5"), since("2024-03-07T09:30:00Z")] {
        let printed = plan_json(&world, tools, &records).await?;
        ensure!(
            printed.succeeded && printed.text.contains("planToken"),
            "{}",
            printed.text
        );
    }
    let listed = world.client.list_jobs(ListJobsRequest::default()).await?.into_inner();
    ensure!(listed.jobs.is_empty(), "{listed:?}");
    world.end().await
}
