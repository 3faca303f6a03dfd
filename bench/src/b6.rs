//! B6: from a whitelist call to all of four workers judging by it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::{AddWhitelistEntriesRequest, GetWhitelistStatusRequest, ReplaceWhitelistRequest};
use reprise_shared::clock::Clock;
use reprise_tests::control::ControlPlane;
use reprise_tests::fleet::{Fleet, Options};
use serde_json::json;

use crate::results::{Figure, Wanted, median};

const WORKERS: usize = 4;
/// How many ids the list has before.
const IDS: u32 = 1_000;
const ROUNDS: u32 = 3;
const CHANGES: u32 = 200;
/// Workers that do not follow in this time are a failure of the run.
const PATIENCE: Duration = Duration::from_secs(20);

/// Measures changes one after the other, in rounds of which each has its own 99th percentile.
pub async fn measure() -> Result<Figure> {
    let mut fleet = Fleet::new("bench-b6", Options::quick()).await?;
    fleet.start_workers(WORKERS).await?;
    let settings = vec![
        ("catalog", fleet.catalog_path().display().to_string()),
        ("rate_limit.per_second", "0".to_owned()),
    ];
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    let mut client = WhitelistServiceClient::new(server.channel());
    let clock = Clock::system();
    let id = |number: u32| format!("0P{number:08}");
    let list = ReplaceWhitelistRequest {
        ids: (0..IDS).map(id).collect(),
        ..ReplaceWhitelistRequest::default()
    };
    client.replace_whitelist(list).await?;
    let (mut rounds, mut medians) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let mut took = Vec::new();
        for change in 0..CHANGES {
            let begun = clock.monotonic();
            let request = AddWhitelistEntriesRequest {
                ids: vec![id(IDS + round * CHANGES + change)],
                ..AddWhitelistEntriesRequest::default()
            };
            let answer = client.add_whitelist_entries(request).await?.into_inner();
            let request = GetWhitelistStatusRequest {
                version: answer.whitelist.context("no whitelist")?.version,
                wait: Some(PATIENCE.try_into()?),
            };
            let status = client.get_whitelist_status(request).await?.into_inner();
            ensure!(
                status.applied_everywhere && status.workers.len() == WORKERS,
                "{status:?}"
            );
            took.push(clock.monotonic().saturating_sub(begun).as_secs_f64() * 1e3);
        }
        took.sort_by(f64::total_cmp);
        medians.push(median(&took));
        rounds.push(took[took.len() * 99 / 100 - 1]);
    }
    server.stop().await?;
    fleet.stop().await?;
    eprintln!("B6: 99th percentiles {rounds:.1?} ms, medians {medians:.1?} ms");
    let raw = json!({ "workers": WORKERS, "ids": IDS, "changes_a_round": CHANGES, "median_ms": medians });
    let what = "whitelist call until four workers have it, 99th percentile";
    Ok(Figure::new("B6", what, rounds, "ms", Wanted::AtMost, 50.0, raw))
}
