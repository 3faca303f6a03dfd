//! Kafka killed, MySQL killed, and the control plane killed under a job that somebody follows, while live traffic writes
//! newer versions of half of its keys.

#[path = "support/contested.rs"]
mod contested;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::{Job, JobSpec, JobState, ReplayMode, WatchJobRequest};
use reprise_tests::cluster::Service;
use reprise_tests::control::{plain, process};
use reprise_tests::env::Servers;
use reprise_tests::feed::{FeedConfig, Fund};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, endpoints_with};
use reprise_tests::jobs::{Jobs, everything, job_of, rows_of};
use reprise_tests::kernel::cpu_seconds;
use reprise_tests::servers::{Endpoints, Server as _};
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::start;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use self::contested::{CONTESTED, FUNDS, options, risks};

const DAYS: u32 = 60;
const ALL: u64 = (FUNDS * DAYS) as u64;
const REMOVED: u64 = ((FUNDS - CONTESTED) * DAYS) as u64;

/// Workers, and a control plane in a process of its own.
struct World {
    fleet: Fleet,
    control: Service,
    at: SocketAddr,
    jobs: Jobs,
    folder: TempDir,
    rounds: u32,
}

impl World {
    async fn new(name: &str, endpoints: Option<Endpoints>) -> Result<Self> {
        let options = Options {
            endpoints,
            ..options(&[("replay.lease", "3s")])
        };
        let mut fleet = Fleet::new(name, options).await?;
        fleet.seed(&FeedConfig::only_funds(FUNDS)).await?;
        let folder = tempfile::tempdir()?;
        let settings = vec![
            ("catalog", fleet.catalog_path().display().to_string()),
            ("rate_limit.per_second", "0".to_owned()),
            ("jobs.watch_every", "200ms".to_owned()),
        ];
        let (mut control, at) = process(&fleet.isolation, folder.path(), settings)?;
        control.start()?;
        control.ready(PATIENCE).await?;
        fleet.whitelist_is_known().await?;
        for day in 0..DAYS {
            fleet.publish_records(risks(1..=FUNDS, day, 1)).await?;
        }
        fleet.start_workers(1).await?;
        fleet.caught_up(PATIENCE).await?;
        sqlx::query("DELETE FROM t_ai_risk WHERE fund_code > ?")
            .bind(Fund(CONTESTED).fund_code())
            .execute(&fleet.pool)
            .await?;
        fleet.start_replay_workers(1).await?;
        let jobs = Jobs {
            client: JobServiceClient::new(plain(at)),
        };
        Ok(Self {
            fleet,
            control,
            at,
            jobs,
            folder,
            rounds: 0,
        })
    }

    /// Begins to replay everything, at a pace that takes some time.
    async fn begin(&self, per_second: u64) -> Result<String> {
        let spec = JobSpec {
            max_records_per_second: per_second,
            ..job_of(everything(&["fund_risk"], ReplayMode::Live))
        };
        Ok(self.jobs.begin(spec).await?.job_id)
    }

    /// Live traffic: newer versions of the contested keys of one day.
    async fn live(&mut self) -> Result<()> {
        let version = i64::from(2 + self.rounds / DAYS);
        let records = risks(1..=CONTESTED, self.rounds % DAYS, version);
        self.rounds += 1;
        self.fleet.publish_records(records).await?;
        Ok(())
    }

    /// Waits until a job has read some records more, with live traffic beside.
    async fn reads(&mut self, id: &str, records: u64) -> Result<()> {
        let read = |job: &Job| job.progress.as_ref().map_or(0, |progress| progress.records_read);
        let before = read(&self.jobs.get(id).await?);
        for _ in 0..10_000 {
            self.live().await?;
            let job = self.jobs.get(id).await?;
            if read(&job) >= before + records {
                ensure!(job.finish_time.is_none(), "it has ended already: {job:?}");
                return Ok(());
            }
        }
        anyhow::bail!("it did not read {records} records more than {before}")
    }

    /// Waits for the job's end and checks counts and tables.
    async fn check(&mut self, id: &str) -> Result<()> {
        let job = self.jobs.ended(id, PATIENCE).await?;
        ensure!(job.state() == JobState::Succeeded, "{job:?}");
        let rows = rows_of(&job);
        let read = job.progress.context("no progress")?.records_read;
        ensure!(
            (rows.inserted, rows.updated, read) == (REMOVED, 0, ALL),
            "{rows:?} and {read} read, where {REMOVED} of {ALL} were to be inserted"
        );
        self.fleet.caught_up(PATIENCE).await?;
        self.fleet
            .check_tables(Some(FeedConfig::only_funds(FUNDS)), Vec::new())
            .await?;
        let positions = self.fleet.groups().await?;
        ensure!(positions == [self.fleet.isolation.group()], "groups: {positions:?}");
        Ok(())
    }

    async fn stop(mut self) -> Result<()> {
        self.fleet.stop().await?;
        self.control.stop().await?;
        drop(self.folder);
        Ok(())
    }
}

/// How many cores a worker keeps busy, over three seconds.
async fn busy(fleet: &mut Fleet, worker: usize) -> Result<f64> {
    const SPAN: Duration = Duration::from_secs(3);
    let pid = fleet.workers[worker].pid().context("it does not run")?;
    let before = cpu_seconds(pid)?;
    tokio::time::sleep(SPAN).await;
    Ok((cpu_seconds(pid)? - before) / SPAN.as_secs_f64())
}

/// Follows a job as a careful caller does: whoever is cut off calls again. Returns the states that were seen.
fn follow(at: SocketAddr, id: &str) -> JoinHandle<Result<(u32, Vec<JobState>)>> {
    let ask = WatchJobRequest { job_id: id.to_owned() };
    start(async move {
        let (mut cuts, mut seen) = (0, Vec::new());
        loop {
            let mut client = JobServiceClient::new(plain(at));
            let watched = client.watch_job(ask.clone()).await;
            let Ok(watched) = watched else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let mut watched = watched.into_inner();
            loop {
                match watched.message().await {
                    Ok(Some(answer)) => {
                        let state = answer.job.context("no job")?.state();
                        if seen.last() != Some(&state) {
                            seen.push(state);
                        }
                    }
                    // The stream ends only after the job has.
                    Ok(None) => return Ok((cuts, seen)),
                    Err(_) => break,
                }
            }
            cuts += 1;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn i4_kafka_and_mysql_killed_under_a_replay_beside_live_traffic_leave_exact_counts() -> Result<()> {
    let (mut kafka, mut mysql) = tokio::try_join!(Servers::own().kafka(), Servers::own().mariadb())?;
    let endpoints = endpoints_with(|all| {
        mysql.endpoint().clone_into(&mut all.mysql);
        kafka.endpoint().clone_into(&mut all.kafka);
    });
    let mut world = World::new("outages-servers", Some(endpoints.await?)).await?;
    let positions = world.fleet.positions().await?;
    let id = world.begin(1_500).await?;
    world.reads(&id, 1_000).await?;
    kafka.kill()?;
    for worker in 0..2 {
        let busy = busy(&mut world.fleet, worker).await?;
        ensure!(
            busy < 0.5,
            "worker {worker} keeps {busy:.2} cores busy while kafka is away"
        );
    }
    kafka.start_again().await?;
    world.reads(&id, 1_000).await?;
    mysql.kill()?;
    mysql.start_again().await?;
    wait_for("an answer", PATIENCE, async || world.jobs.get(&id).await.map(drop)).await?;
    world.reads(&id, 500).await?;
    kafka.restart().await?;
    world.check(&id).await?;
    let after = world.fleet.positions().await?;
    ensure!(
        positions.iter().zip(&after).all(|(before, after)| before.0 <= after.0),
        "committed positions went back from {positions:?} to {after:?}"
    );
    eprintln!(
        "kafka and mysql killed and restarted; {} batches of live traffic",
        world.rounds
    );
    world.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_without_its_control_plane_and_a_follower_sees_its_end() -> Result<()> {
    let mut world = World::new("outages-control", None).await?;
    let id = world.begin(1_500).await?;
    let follower = follow(world.at, &id);
    world.reads(&id, 500).await?;
    let before = world.jobs.get(&id).await?.progress.context("no progress")?.records_read;
    world.control.kill()?;
    // Nobody is there to ask, and the work goes on.
    let read = "SELECT CAST(SUM(records_read) AS UNSIGNED) FROM tasks WHERE job_id = ?";
    wait_for("the job to go on", PATIENCE, async || {
        let now: u64 = sqlx::query_scalar(read).bind(&id).fetch_one(&world.fleet.pool).await?;
        ensure!(now > before + 1_000, "{now} records were read, {before} before");
        Ok(())
    })
    .await?;
    world.control.start()?;
    world.control.ready(PATIENCE).await?;
    world.reads(&id, 300).await?;
    // Killed again, and away until the workers are through: they end the job by themselves.
    world.control.kill()?;
    wait_for("the job's end", PATIENCE, async || {
        let state: String = sqlx::query_scalar("SELECT state FROM jobs WHERE job_id = ?")
            .bind(&id)
            .fetch_one(&world.fleet.pool)
            .await?;
        ensure!(state == "SUCCEEDED", "{state}");
        Ok(())
    })
    .await?;
    world.control.start()?;
    world.control.ready(PATIENCE).await?;
    let (cuts, seen) = tokio::time::timeout(PATIENCE, follower).await???;
    ensure!(
        cuts == 2 && seen.last() == Some(&JobState::Succeeded),
        "{cuts} cuts, {seen:?}"
    );
    world.check(&id).await?;
    eprintln!("the control plane was killed twice; a follower was cut off {cuts} times and saw {seen:?}");
    world.stop().await
}
