//! B6: from a whitelist call to all of four workers judging by it, with notices and without.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::{AddWhitelistEntriesRequest, GetWhitelistStatusRequest, ReplaceWhitelistRequest};
use reprise_shared::clock::Clock;
use reprise_tests::control::ControlPlane;
use reprise_tests::env::Servers;
use reprise_tests::fleet::{Fleet, Options, endpoints_with};
use reprise_tests::servers::Server as _;
use serde_json::json;
use tonic::transport::Channel;

use crate::results::{Figure, Wanted, median};

const WORKERS: usize = 4;
/// How many ids the list has before.
const IDS: u32 = 1_000;
const ROUNDS: u32 = 3;
const CHANGES: u32 = 200;
/// Workers that do not follow in this time are a failure of the run.
const PATIENCE: Duration = Duration::from_secs(20);

/// Changes of a round without notices: each waits for a worker's next poll.
const UNTOLD_CHANGES: u32 = 8;

/// Measures changes one after the other, in rounds of which each has its own 99th percentile.
pub async fn measure() -> Result<Figure> {
    let bench = Bench::start("bench-b6", Options::quick()).await?;
    let (mut rounds, mut medians) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let took = bench.round(round, CHANGES).await?;
        medians.push(median(&took));
        rounds.push(took[took.len() * 99 / 100 - 1] * 1e3);
    }
    bench.stop().await?;
    let medians: Vec<f64> = medians.into_iter().map(|seconds| seconds * 1e3).collect();
    eprintln!("B6: 99th percentiles {rounds:.1?} ms, medians {medians:.1?} ms");
    let raw = json!({ "workers": WORKERS, "ids": IDS, "changes_a_round": CHANGES, "median_ms": medians });
    let what = "whitelist call until four workers have it, 99th percentile";
    Ok(Figure::new("B6", what, rounds, "ms", Wanted::AtMost, 50.0, raw))
}

/// Measures the same with workers that may not subscribe to the channel; a round's figure is its longest.
pub async fn measure_untold() -> Result<Figure> {
    let redis = Servers::own().redis().await?;
    let address = redis.endpoint().trim_start_matches("redis://").to_owned();
    let connection = redis::Client::open(redis.endpoint())?;
    let mut connection = connection.get_multiplexed_async_connection().await?;
    let rules = ["SETUSER", "deaf", "on", ">deaf", "~*", "resetchannels", "+@all"];
    redis::cmd("ACL").arg(&rules).exec_async(&mut connection).await?;
    let options = Options {
        settings: vec![("redis.url".into(), format!("redis://deaf:deaf@{address}"))],
        endpoints: Some(endpoints_with(|all| redis.endpoint().clone_into(&mut all.redis)).await?),
        ..Options::default()
    };
    let bench = Bench::start("bench-b6-untold", options).await?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let took = bench.round(round, UNTOLD_CHANGES).await?;
        rounds.push(took[took.len() - 1]);
    }
    bench.stop().await?;
    eprintln!("B6-untold: longest {rounds:.2?} s");
    let raw = json!({ "workers": WORKERS, "ids": IDS, "changes_a_round": UNTOLD_CHANGES });
    let what = "the same with every notification dropped, longest";
    Ok(Figure::new("B6-untold", what, rounds, "s", Wanted::AtMost, 5.5, raw))
}

/// Four workers, a control plane, and a list.
struct Bench {
    fleet: Fleet,
    server: ControlPlane,
    client: WhitelistServiceClient<Channel>,
}

impl Bench {
    async fn start(name: &str, options: Options) -> Result<Self> {
        let mut fleet = Fleet::new(name, options).await?;
        fleet.start_workers(WORKERS).await?;
        let settings = vec![
            ("catalog", fleet.catalog_path().display().to_string()),
            ("rate_limit.per_second", "0".to_owned()),
        ];
        let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
        server.ready().await?;
        let mut client = WhitelistServiceClient::new(server.channel());
        let list = ReplaceWhitelistRequest {
            ids: (0..IDS).map(id).collect(),
            ..ReplaceWhitelistRequest::default()
        };
        client.replace_whitelist(list).await?;
        Ok(Self { fleet, server, client })
    }

    /// Makes changes one after the other, and returns how long each took until all workers had it, in seconds,
    /// ascending.
    async fn round(&self, round: u32, changes: u32) -> Result<Vec<f64>> {
        let (clock, mut client) = (Clock::system(), self.client.clone());
        let mut took = Vec::new();
        for change in 0..changes {
            let begun = clock.monotonic();
            let request = AddWhitelistEntriesRequest {
                ids: vec![id(IDS + round * changes + change)],
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
            took.push(clock.monotonic().saturating_sub(begun).as_secs_f64());
        }
        took.sort_by(f64::total_cmp);
        Ok(took)
    }

    async fn stop(mut self) -> Result<()> {
        self.server.stop().await?;
        self.fleet.stop().await
    }
}

fn id(number: u32) -> String {
    format!("0P{number:08}")
}
