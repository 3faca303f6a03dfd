//! Four workers and a control plane as processes, on a Redis that may be emptied and put back.

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::ReplaceWhitelistRequest;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_shared::ledger::{Interval, Reader};
use reprise_shared::position::{Offset, Partition, TopicName, TopicPartition};
use reprise_shared::whitelist::{ChangeId, Content, Head, Keys, Scope, Version, Writer};
use reprise_tests::cluster::Service;
use reprise_tests::control::{PATIENCE, plain, process};
use reprise_tests::env::{Private, Servers};
use reprise_tests::feed::{Fund, Made};
use reprise_tests::fleet::{Fleet, Options, endpoints_with, scrape, sum};
use reprise_tests::servers::{self, Server as _};
use reprise_tests::wait::wait_for;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::held::connect;

/// As many as the topic has partitions.
pub(crate) const WORKERS: u32 = 4;

/// One fund for each partition.
fn funds(first: u32) -> impl Iterator<Item = Fund> {
    (first..first + WORKERS).map(Fund)
}

pub(crate) fn ids(first: u32) -> Vec<String> {
    funds(first).map(Fund::performance_id).collect()
}

/// Four workers with a partition each and a control plane, all processes of their own, on a Redis to be broken.
pub(crate) struct Stack {
    client: WhitelistServiceClient<Channel>,
    control: Service,
    pub(crate) fleet: Fleet,
    pub(crate) redis: Private<servers::Redis>,
    _logs: TempDir,
}

impl Stack {
    /// Starts all. The control plane is a user of Redis with these rights.
    pub(crate) async fn start(name: &str, rights: &[&str]) -> Result<Self> {
        let redis = Servers::own().redis().await?;
        let mut root = connect(redis.endpoint()).await?;
        let user = ["SETUSER", "control", "on", ">secret", "~*", "&*"];
        let mut allow = redis::cmd("ACL");
        let () = allow.arg(&user).arg(rights).query_async(&mut root).await?;
        let endpoints = endpoints_with(|all| redis.endpoint().clone_into(&mut all.redis)).await?;
        let options = Options {
            endpoints: Some(endpoints),
            ..Options::quick()
        };
        let mut fleet = Fleet::new(name, options).await?;
        for _ in 0..WORKERS {
            fleet.start_worker()?;
        }
        let logs = tempfile::tempdir()?;
        let address = redis.endpoint().trim_start_matches("redis://").to_owned();
        let settings = vec![
            ("catalog", fleet.catalog_path().display().to_string()),
            ("redis.url", format!("redis://control:secret@{address}")),
        ];
        let (mut control, grpc) = process(&fleet.isolation, logs.path(), settings)?;
        control.start()?;
        control.ready(PATIENCE).await?;
        fleet.whitelist_is_known().await?;
        let stack = Self {
            client: WhitelistServiceClient::new(plain(grpc)),
            control,
            fleet,
            redis,
            _logs: logs,
        };
        stack.shares_are_even().await?;
        Ok(stack)
    }

    /// Waits until each worker reads one partition, so that each has records to judge.
    async fn shares_are_even(&self) -> Result<()> {
        let beats = heartbeat::Store::new(self.fleet.redis.clone(), heartbeat::Store::DEFAULT_INTERVAL);
        wait_for("each worker to have a partition", PATIENCE, async || {
            let workers = beats.list(Clock::system().now()).await?.workers;
            let running = |beat: &heartbeat::Heartbeat| {
                let lines = beat.partitions.iter();
                lines.filter(|line| line.status == "running").count()
            };
            let shares: Vec<usize> = workers.iter().map(running).collect();
            ensure!(shares == [1; WORKERS as usize], "partitions of workers: {shares:?}");
            Ok(())
        })
        .await
    }

    /// Reads and writes Redis past the control plane.
    pub(crate) fn writer(&self) -> Writer {
        Writer::new(self.fleet.redis.clone(), Writer::DEFAULT_MAX_NOTICE_IDS)
    }

    /// Sets the global list by a call, and returns its version.
    pub(crate) async fn replace(&mut self, ids: Vec<String>) -> Result<Version> {
        let request = ReplaceWhitelistRequest {
            ids,
            ..ReplaceWhitelistRequest::default()
        };
        let answer = self.client.replace_whitelist(request).await?.into_inner();
        Ok(Version(answer.whitelist.context("no whitelist")?.version))
    }

    /// What MySQL holds.
    async fn truth(&self) -> Result<Content> {
        let (version, change_id): (u64, String) =
            sqlx::query_as("SELECT version, change_id FROM whitelist_head WHERE id = 1")
                .fetch_one(&self.fleet.pool)
                .await?;
        let mut content = Content::new(Head {
            version: Version(version),
            change_id: ChangeId::new(change_id),
        });
        let entries: Vec<(String, String)> = sqlx::query_as("SELECT scope, entry_id FROM whitelist_entries")
            .fetch_all(&self.fleet.pool)
            .await?;
        for (scope, id) in entries {
            ensure!(scope.is_empty(), "nobody made a list of {scope}");
            content.global.insert(id);
        }
        Ok(content)
    }

    /// Waits until Redis holds what MySQL holds, as this version, and every worker says that it judges by it.
    pub(crate) async fn holds(&self, version: Version) -> Result<()> {
        let writer = self.writer();
        wait_for(
            "Redis and four workers to hold what MySQL holds",
            PATIENCE,
            async || {
                let (truth, copy) = (self.truth().await?, writer.content().await?);
                ensure!(truth.head.version == version, "MySQL has {:?}", truth.head);
                ensure!(copy.as_ref() == Some(&truth), "Redis has {copy:?}");
                let applied = self.fleet.applied_whitelists().await?;
                ensure!(
                    applied == [Some(version.0); WORKERS as usize],
                    "workers have {applied:?}"
                );
                Ok(())
            },
        )
        .await
        .with_context(|| format!("{version}"))
    }

    /// Copies the whitelist's keys as Redis dumps them.
    pub(crate) async fn dump(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut root = connect(self.redis.endpoint()).await?;
        let keys = Keys::new(self.fleet.redis.prefix());
        let mut dumped = Vec::new();
        for key in [keys.head(), keys.list(&Scope::Global)] {
            let value = redis::cmd("DUMP").arg(&key).query_async(&mut root).await?;
            dumped.push((key, value));
        }
        Ok(dumped)
    }

    /// Empties Redis and puts a copy of some keys back, as one moment. No notice tells of it.
    pub(crate) async fn lose_all_but(&self, copy: &[(String, Vec<u8>)]) -> Result<()> {
        let mut root = connect(self.redis.endpoint()).await?;
        let mut commands = redis::pipe();
        commands.atomic().cmd("FLUSHALL").ignore();
        for (key, value) in copy {
            commands.cmd("RESTORE").arg(key).arg(0).arg(value).ignore();
        }
        Ok(commands.query_async(&mut root).await?)
    }

    /// Waits until the control plane has just compared Redis with MySQL, so that it does so next in 5 s.
    pub(crate) async fn has_just_been_compared(&self) -> Result<()> {
        let done = async || {
            let metrics = scrape(self.control.http()).await?;
            let labels = [("result", "done")];
            anyhow::Ok(sum(&metrics, "reprise_whitelist_reconciliations_total", &labels))
        };
        let before = done().await?;
        wait_for("another run of the reconciler", PATIENCE, async || {
            let now = done().await?;
            ensure!(now > before, "{now} runs");
            Ok(())
        })
        .await
    }

    /// Publishes a record of each of these funds, one a partition each time.
    pub(crate) async fn publish(&self, firsts: &[u32], version: i64) -> Result<()> {
        let record = |(partition, fund)| Made::basic(fund, version).into_partition(partition).record;
        let records = firsts.iter().flat_map(|first| (0..).zip(funds(*first)).map(record));
        let records: Vec<_> = records.collect();
        let wanted = records.len() as u64;
        let report = self.fleet.publish_records(records).await?;
        ensure!(report.counts.delivered == wanted, "{report:?}");
        Ok(())
    }

    /// Waits until every worker has turned away so many records, all in all.
    pub(crate) async fn each_filtered(&self, count: f64) -> Result<()> {
        wait_for("every worker to judge its records", PATIENCE, async || {
            let mut filtered = Vec::new();
            for number in 0..self.fleet.workers.len() {
                let metrics = self.fleet.metrics(number).await?;
                filtered.push(sum(&metrics, "reprise_records_total", &[("outcome", "filtered")]));
            }
            ensure!(
                filtered == [count; WORKERS as usize],
                "filtered: {filtered:?}, not {count}"
            );
            Ok(())
        })
        .await
    }

    /// Which versions judged the last records of the partitions, as the ledger has it.
    pub(crate) async fn last_judged_by(&self) -> Result<Vec<Option<Version>>> {
        let reader = Reader::new(self.fleet.redis.clone());
        let everything = Interval::new(Offset(0), Offset(1 << 50));
        let mut last = Vec::new();
        for partition in 0..WORKERS {
            let at = TopicPartition {
                topic: TopicName::new(&self.fleet.topic),
                partition: Partition(partition.try_into()?),
            };
            let page = reader
                .ranges("fund_basic", &at, everything, None, Reader::MAX_PAGE)
                .await?;
            ensure!(page.unreadable == 0 && page.next.is_none(), "{page:?}");
            let newest = page.members.into_iter().max_by_key(|range| range.end);
            last.push(newest.and_then(|range| range.whitelist));
        }
        Ok(last)
    }

    /// The ids of all rows.
    pub(crate) async fn rows(&self) -> Result<Vec<String>> {
        let query = sqlx::query_scalar("SELECT performance_id FROM t_fund_basic_info ORDER BY performance_id");
        Ok(query.fetch_all(&self.fleet.pool).await?)
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.control.stop().await?;
        self.fleet.stop().await
    }
}
