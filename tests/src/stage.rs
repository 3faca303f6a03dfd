//! All of reprise on one stage: ingest and replay workers, and a control plane in this process, with short periods.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::{GetWhitelistStatusRequest, Job, ReplaceWhitelistRequest, ReplaySpec};
use reprise_shared::{catalog, isolated};
use sqlx::AssertSqlSafe;

use crate::control::{ControlPlane, Settings};
use crate::feed::{FeedConfig, Fund};
use crate::fleet::{Fleet, Options, PATIENCE};
use crate::jobs::{Jobs, job_of};
use crate::oracle::{checksum, dump_table};

/// The shipped tables.
pub const TABLES: [&str; 3] = ["t_fund_basic_info", "t_fund_valuation", "t_ai_risk"];

/// A fleet and a control plane.
pub struct Stage {
    /// The fleet: the first worker ingests, the second replays.
    pub fleet: Fleet,
    /// The control plane.
    pub server: ControlPlane,
    /// Its job service.
    pub jobs: Jobs,
}

impl Stage {
    /// Sets everything up, with an ingest and a replay worker that are ready.
    pub async fn new(name: &str) -> Result<Self> {
        let mut stage = Self::without_workers(name, Options::quick(), Vec::new()).await?;
        stage.fleet.start_workers(1).await?;
        stage.fleet.start_replay_workers(1).await?;
        Ok(stage)
    }

    /// Sets everything up but the workers, with settings of one's own for the fleet and the control plane.
    pub async fn without_workers(name: &str, mut options: Options, more: Settings) -> Result<Self> {
        for (key, value) in [
            ("ingest.type_states_poll", "500ms"),
            ("replay.poll", "100ms"),
            ("replay.checkpoint", "200ms"),
        ] {
            options.settings.push((key.to_owned(), value.to_owned()));
        }
        let fleet = Fleet::new(name, options).await?;
        let catalog = fleet.catalog_path();
        isolated::make_tables(&fleet.pool, &catalog::load(&catalog)?).await?;
        let mut settings = vec![
            ("catalog", catalog.display().to_string()),
            ("rate_limit.per_second", "0".to_owned()),
        ];
        settings.extend(more);
        let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
        server.ready().await?;
        fleet.whitelist_is_known().await?;
        let jobs = Jobs::of(&server);
        Ok(Self { fleet, server, jobs })
    }

    /// Publishes a feed and waits until it is committed.
    pub async fn ingest(&self, config: &FeedConfig) -> Result<()> {
        self.fleet.publish(config.clone()).await?;
        self.fleet.caught_up(PATIENCE).await
    }

    /// Makes a list the whitelist, waits until the workers have it, and returns its version.
    pub async fn allow(&self, ids: Vec<String>) -> Result<u64> {
        let mut client = WhitelistServiceClient::new(self.server.channel());
        let request = ReplaceWhitelistRequest {
            ids,
            allow_unrestricted: true,
            ..ReplaceWhitelistRequest::default()
        };
        let changed = client.replace_whitelist(request).await?.into_inner();
        let version = changed.whitelist.context("no whitelist")?.version;
        let request = GetWhitelistStatusRequest {
            version,
            wait: Some(Duration::from_secs(20).try_into()?),
        };
        let status = client.get_whitelist_status(request).await?.into_inner();
        ensure!(status.applied_everywhere, "{status:?}");
        Ok(version)
    }

    /// Runs a replay until it succeeded.
    pub async fn run(&self, replay: ReplaySpec) -> Result<Job> {
        self.jobs.run(job_of(replay), PATIENCE).await
    }

    /// Returns the checksums of the shipped tables.
    pub async fn checksums(&self) -> Result<Vec<String>> {
        let mut sums = Vec::new();
        for table in TABLES {
            sums.push(checksum(&dump_table(&self.fleet.pool, table).await?));
        }
        Ok(sums)
    }

    /// Executes a statement and returns how many rows it affected.
    pub async fn execute(&self, statement: &str) -> Result<u64> {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned()));
        Ok(done.execute(&self.fleet.pool).await?.rows_affected())
    }

    /// Stops control plane and workers in order.
    pub async fn stop(mut self) -> Result<()> {
        self.server.stop().await?;
        self.fleet.stop().await
    }
}

/// Returns the ids of some funds.
pub fn ids(funds: impl IntoIterator<Item = u32>) -> Vec<String> {
    funds.into_iter().map(|fund| Fund(fund).performance_id()).collect()
}
