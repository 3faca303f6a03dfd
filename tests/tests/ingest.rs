//! The live path end to end: real Kafka, MySQL and Redis, and the real worker binary.

use anyhow::{Result, ensure};
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options, PATIENCE, sum};

fn feed(records: u64) -> FeedConfig {
    FeedConfig {
        records: Some(records),
        funds: 200,
        ..FeedConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_reach_the_tables_and_every_count_adds_up() -> Result<()> {
    let mut fleet = Fleet::new("ingest-plain", Options::default()).await?;
    let config = feed(20_000);
    fleet.seed(&config).await?;
    fleet.publish(config.clone()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    fleet.check_tables(Some(config), Vec::new()).await?;

    let metrics = fleet.metrics(0).await?;
    let consumed = sum(&metrics, "reprise_records_consumed_total", &[]);
    let outcomes = sum(&metrics, "reprise_records_total", &[]);
    ensure!(
        consumed == 20_000.0 && outcomes == consumed,
        "consumed {consumed}, outcomes {outcomes}"
    );
    let produced = sum(&metrics, "reprise_rows_produced_total", &[]);
    let settled = sum(&metrics, "reprise_rows_total", &[]);
    ensure!(
        produced == settled && produced > 0.0,
        "produced {produced}, settled {settled}"
    );
    fleet.stop().await
}
