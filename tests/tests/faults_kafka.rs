//! Kafka restarted and stopped under load.

use anyhow::Result;
use reprise_tests::env::Servers;
use reprise_tests::fleet::{Fleet, Options, PATIENCE, endpoints_with, feed_of_all_kinds};
use reprise_tests::servers::Server as _;

const PER_SECOND: u32 = 1_500;

#[tokio::test(flavor = "multi_thread")]
async fn i1_i4_kafka_restarted_and_then_stopped_is_waited_out() -> Result<()> {
    let mut server = Servers::own().kafka().await?;
    let endpoints = endpoints_with(|all| server.endpoint().clone_into(&mut all.kafka)).await?;
    let options = Options {
        endpoints: Some(endpoints),
        ..Options::default()
    };
    let mut fleet = Fleet::new("faults-kafka", options).await?;
    let config = feed_of_all_kinds(None, 51);
    fleet.seed(&config).await?;
    let load = fleet.load(config.clone(), PER_SECOND);
    fleet.start_workers(2).await?;
    load.more(5_000, PATIENCE).await?;

    server.restart().await?;
    fleet.catches_up_to_now().await?;

    server.kill()?;
    server.start_again().await?;
    fleet.catches_up_to_now().await?;

    server.stop().await?;
    load.more(20 * u64::from(PER_SECOND), PATIENCE).await?;
    server.start_again().await?;
    fleet.catches_up_to_now().await?;

    let report = load.finish().await?;
    fleet.check_trial(&config).await?;
    let counts = report.counts;
    eprintln!(
        "{} records delivered, {} refused, equal to the oracle",
        counts.delivered, counts.failed
    );
    fleet.stop().await
}
