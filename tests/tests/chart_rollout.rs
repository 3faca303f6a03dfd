//! Rolling updates of workers, as the chart makes them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_tests::chart::{Chart, Rendered, case};
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Asked, Fleet, Options, PATIENCE, feed_of_all_kinds};
use serde_json::Value;

#[path = "support/exact.rs"]
mod exact;

const WORKERS: usize = 3;
const PER_SECOND: u32 = 2_000;

/// The settings that the chart gives the workers of a component, but for what says where servers are and who the group
/// is.
fn settings(rendered: &Rendered, component: &str) -> Result<Vec<(String, String)>> {
    let file = rendered.object("ConfigMap", component)?["data"]["worker.yaml"]
        .as_str()
        .context("a configuration")?;
    let config: Value = serde_norway::from_str(file)?;
    let section = config[component].as_object().context("a section of its own")?;
    let ours = section.iter().filter(|(key, _)| *key != "group");
    let settings: Vec<_> = ours
        .map(|(key, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (format!("{component}.{key}"), value)
        })
        .collect();
    ensure!(!settings.is_empty(), "the chart sets nothing for {component}");
    Ok(settings)
}

/// What a component's Deployment gives a pod to end, after checking that a new pod comes before an old one goes.
fn grace(rendered: &Rendered, component: &str) -> Result<Duration> {
    let deployment = &rendered.object("Deployment", component)?["spec"];
    let update = &deployment["strategy"]["rollingUpdate"];
    ensure!(
        update["maxSurge"] == 1 && update["maxUnavailable"] == 0,
        "this test starts a new worker before it stops an old one, but the chart says {update}"
    );
    let seconds = &deployment["template"]["spec"]["terminationGracePeriodSeconds"];
    Ok(Duration::from_secs(seconds.as_u64().context("a grace period")?))
}

/// Stops a worker as a kubelet does: who does not end within the grace period would be killed.
async fn stop(fleet: &mut Fleet, worker: usize, grace: Duration) -> Result<()> {
    fleet.workers[worker].signal(Signal::SIGTERM)?;
    let code = fleet.workers[worker].wait(grace).await?;
    ensure!(
        code == Some(0),
        "worker {worker} ended with {code:?}\n{}",
        fleet.log_of(worker)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i1_i2_a_rolling_update_under_load_loses_nothing_and_keeps_the_order() -> Result<()> {
    let rendered = Chart::open().await?.render(&case("minimal"), &[])?;
    let grace = grace(&rendered, "ingest")?;
    let options = Options {
        settings: settings(&rendered, "ingest")?,
        ..Options::default()
    };
    let mut fleet = Fleet::new("chart-rollout", options).await?;
    let config = feed_of_all_kinds(None, 29);
    fleet.seed(&config).await?;
    fleet.start_workers(WORKERS).await?;
    let load = fleet.load(config.clone(), PER_SECOND);
    load.more(2_000, PATIENCE).await?;
    for old in 0..WORKERS {
        fleet.start_workers(1).await?;
        load.more(2_000, PATIENCE).await?;
        stop(&mut fleet, old, grace).await?;
        fleet.catches_up_to_now().await?;
    }
    load.more(2_000, PATIENCE).await?;
    let report = load.finish().await?;
    eprintln!("{WORKERS} ingest workers were replaced while records came: {report:?}");
    fleet.check_trial(&config).await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_i5_a_rolling_update_of_replay_workers_leaves_a_jobs_counts_exact() -> Result<()> {
    let rendered = Chart::open().await?.render(&case("minimal"), &[])?;
    let grace = grace(&rendered, "replay")?;
    let options = Options {
        settings: settings(&rendered, "replay")?,
        ..Options::default()
    };
    let mut fleet = Fleet::new("chart-replay", options).await?;
    fleet.seed(&FeedConfig::only_funds(exact::FUNDS)).await?;
    let count = 30_000;
    fleet.publish_records(exact::records(count, 1)).await?;
    fleet.start_replay_workers(WORKERS).await?;
    let asked = Asked {
        slice: 2_000,
        // Slow enough that it runs until the last worker was replaced.
        per_second: Some(2_000),
        ..Asked::default()
    };
    let job = fleet.replay("fund_risk", &asked).await?;
    for old in 0..WORKERS {
        fleet.start_replay_workers(1).await?;
        fleet.job_reads(job, 1_500, PATIENCE).await?;
        stop(&mut fleet, old, grace).await?;
        let log = fleet.whole_log(old);
        ensure!(!log.contains("not every task was let go"), "{log}");
    }
    let progress = fleet.progress(job).await?;
    ensure!(
        progress.read.read < u64::from(count),
        "the job ended before the last worker was replaced: {progress:?}"
    );
    eprintln!(
        "{WORKERS} replay workers were replaced by the time that {} of {count} records were read",
        progress.read.read
    );
    exact::check(&fleet, job, (u64::from(count), 0)).await?;
    fleet.stop().await
}
