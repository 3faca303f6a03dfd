//! What jobs do to rows, from the call on: those that replace and delete, those that only fill the ledger, and what is left
//! of isolated rows when their job goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::job_spec::Work;
use reprise_proto::v1::offset_range_service_client::OffsetRangeServiceClient;
use reprise_proto::v1::*;
use reprise_shared::ledger::Keys;
use reprise_shared::position::{Partition, SourcePosition, TopicName, TopicPartition};
use reprise_shared::redis::Limit;
use reprise_tests::cluster::STOP_LIMIT;
use reprise_tests::control::{ControlPlane, Issuer, refused};
use reprise_tests::feed::{DataTypeMix, FeedConfig, Fund};
use reprise_tests::fleet::{Fleet, Options, PATIENCE, scrape, sum};
use reprise_tests::jobs::{everything, job_of, offsets_of, rows_of};
use reprise_tests::stage::{Stage, ids};
use reprise_tests::wait::wait_for;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const TYPE: &str = "fund_valuation";
const TABLE: &str = "t_fund_valuation";

/// A feed whose versions rise along each partition, so that its order is that of the versions.
fn feed(seed: u64, records: u64) -> FeedConfig {
    FeedConfig {
        seed,
        records: Some(records),
        funds: 60,
        mix: DataTypeMix {
            basic: 0,
            valuation: 4,
            risk: 1,
        },
        ..FeedConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_through_the_api_puts_back_what_the_records_say() -> Result<()> {
    let stage = Stage::new("rows-overwrite").await?;
    let seed = feed(1, 3_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    stage.fleet.check_tables(Some(seed.clone()), Vec::new()).await?;
    let whole = stage.checksums().await?;
    stage
        .execute("UPDATE t_fund_valuation SET unit_nav = 0, source_time = '2099-01-01' WHERE fund_code > '000030'")
        .await?;
    let damaged = stage.checksums().await?;
    let live = rows_of(&stage.run(everything(&[TYPE], ReplayMode::Live)).await?);
    ensure!(
        live.stale > 0 && stage.checksums().await? == damaged,
        "LIVE replaced newer rows: {live:?}"
    );
    let rows = rows_of(&stage.run(everything(&[TYPE], ReplayMode::Overwrite)).await?);
    ensure!(rows.inserted == 0 && rows.updated > 0 && rows.stale == 0, "{rows:?}");
    ensure!(
        stage.checksums().await? == whole,
        "the rows are not what the records say"
    );
    stage.stop().await
}

/// The stored rows of valuations: key → position and value.
async fn stored(fleet: &Fleet) -> Result<BTreeMap<(String, String), (Vec<u8>, String)>> {
    let rows: Vec<(String, String, Vec<u8>, String)> = sqlx::query_as(
        "SELECT fund_code, CAST(nav_date AS CHAR), source_position, CAST(unit_nav AS CHAR) FROM t_fund_valuation",
    )
    .fetch_all(&fleet.pool)
    .await?;
    let rows = rows
        .into_iter()
        .map(|(code, day, position, nav)| ((code, day), (position, nav)));
    Ok(rows.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_first_deletes_exactly_the_rows_of_the_replayed_records() -> Result<()> {
    let stage = Stage::new("rows-clean").await?;
    let seed = feed(2, 4_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let ends: Vec<u64> = stage
        .fleet
        .bounds()
        .await?
        .into_iter()
        .map(|(_, end)| end * 4 / 5)
        .collect();
    let asked: Vec<_> = (0_u32..)
        .zip(&ends)
        .map(|(partition, end)| (partition, 0, *end))
        .collect();
    let clean = || ReplaySpec {
        records: Some(offsets_of(&asked)),
        ids: ids(1..=20),
        clean_first: true,
        ..everything(&[TYPE], ReplayMode::Live)
    };
    let refusal = stage
        .jobs
        .plan(job_of(clean()))
        .await
        .err()
        .context("it was planned without an index")?;
    let status = refusal.downcast::<Status>()?;
    refused(&status, Code::FailedPrecondition, "WRONG_STATE", "has no index")?;
    stage
        .execute("CREATE INDEX by_position ON t_fund_valuation (source_position)")
        .await?;
    plant_phantoms(&stage).await?;
    let codes: BTreeSet<String> = (1..=20).map(|fund| Fund(fund).fund_code()).collect();
    let before = stored(&stage.fleet).await?;
    let is_meant = |code: &String, position: &[u8]| {
        let at = SourcePosition::from_bytes(position);
        codes.contains(code) && at.is_some_and(|at| at.offset().0 < ends[usize::from(at.partition().0)])
    };
    let meant = before
        .iter()
        .filter(|((code, _), (position, _))| is_meant(code, position));
    let meant: BTreeSet<_> = meant.map(|(key, _)| key.clone()).collect();
    let others = codes_of(&before, &codes) - meant.len();
    ensure!(
        meant.len() > 200 && others > 200,
        "{} and {others}: the test shows little",
        meant.len()
    );

    let rows = rows_of(&stage.run(clean()).await?);
    ensure!(rows.deleted == meant.len() as u64, "{rows:?}, not {}", meant.len());
    let after = stored(&stage.fleet).await?;
    for (key, row) in &before {
        let phantom = meant.contains(key) && key.1.starts_with("19");
        ensure!(
            after.get(key) == (!phantom).then_some(row),
            "{key:?}: {row:?}, now {:?}",
            after.get(key)
        );
    }
    ensure!(
        after.keys().all(|key| before.contains_key(key)),
        "there are rows that were not there"
    );
    eprintln!(
        "{rows:?}: {} rows of the records deleted, and no other of {}",
        meant.len(),
        before.len()
    );

    // Again, while live traffic writes newer rows under the same keys.
    clean_beside_live(&stage, clean()).await?;
    stage.fleet.check_tables(Some(seed), Vec::new()).await?;
    stage.stop().await
}

/// Puts rows there that a bug once made of the same records, under keys that these do not have; and of others.
async fn plant_phantoms(stage: &Stage) -> Result<()> {
    for (days, codes) in [(10_000, "fund_code <= '000020'"), (14_000, "fund_code > '000050'")] {
        let sql = format!(
            "INSERT INTO t_fund_valuation (fund_code, nav_date, unit_nav, accumulated_nav, source_time, source_position) \
             SELECT fund_code, nav_date - INTERVAL {days} DAY, 1, NULL, source_time, source_position \
             FROM t_fund_valuation WHERE {codes}"
        );
        ensure!(stage.execute(&sql).await? > 0, "{sql}");
    }
    Ok(())
}

/// Cleans and replays while newer records of the same keys arrive, and removes the phantoms that are left.
async fn clean_beside_live(stage: &Stage, clean: ReplaySpec) -> Result<()> {
    let newer = FeedConfig {
        records: None,
        start: FeedConfig::START + jiff::SignedDuration::from_mins(30),
        ..feed(3, 0)
    };
    let load = stage.fleet.load(newer, 400);
    load.more(100, PATIENCE).await?;
    let slow = JobSpec {
        max_records_per_second: 1_500,
        ..job_of(clean)
    };
    stage.jobs.run(slow, PATIENCE).await?;
    load.finish().await?;
    stage.fleet.caught_up(PATIENCE).await?;
    stage
        .execute("DELETE FROM t_fund_valuation WHERE nav_date < '2000-01-01'")
        .await?;
    Ok(())
}

fn codes_of(rows: &BTreeMap<(String, String), (Vec<u8>, String)>, codes: &BTreeSet<String>) -> usize {
    rows.keys().filter(|(code, _)| codes.contains(code)).count()
}

/// What covers a topic: kind of coverage → positions.
async fn coverage(stage: &Stage) -> Result<BTreeMap<i32, u64>> {
    let mut client = OffsetRangeServiceClient::new(stage.server.channel());
    let request = AuditCoverageRequest {
        topic: stage.fleet.topic.clone(),
        ..AuditCoverageRequest::default()
    };
    let audited = client.audit_coverage(request).await?.into_inner();
    let mut covered = BTreeMap::new();
    for interval in audited.partitions.iter().flat_map(|partition| &partition.intervals) {
        let offsets = interval.offsets.context("no offsets")?;
        *covered.entry(interval.state).or_default() += offsets.end - offsets.start;
    }
    Ok(covered)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_redis_lost_is_rebuilt_and_plans_stand_on_it() -> Result<()> {
    let mut stage = Stage::new("rows-rebuild").await?;
    let seed = feed(4, 3_000);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let (before, tables) = (coverage(&stage).await?, stage.checksums().await?);
    stage.fleet.workers[0].signal(nix::sys::signal::Signal::SIGTERM)?;
    stage.fleet.workers[0].wait(STOP_LIMIT).await?;
    let keys = Keys::new(stage.fleet.redis.prefix().clone());
    for number in 0..4 {
        let partition = TopicPartition {
            topic: TopicName::new(&stage.fleet.topic),
            partition: Partition(number),
        };
        let mut lost = redis::cmd("DEL");
        lost.arg(keys.coverage(&partition));
        for data_type in ["fund_basic", "fund_risk", TYPE] {
            lost.arg(keys.ranges(data_type, &partition));
        }
        stage
            .fleet
            .redis
            .query::<i64>("lose the ledger", Limit::Ordinary, &lost)
            .await?;
    }
    let (_, blind) = stage.jobs.plan(job_of(everything(&[TYPE], ReplayMode::Live))).await?;
    ensure!(blind.uncovered_positions == 3_000, "{blind:?}");

    let rebuild = JobSpec {
        work: Some(Work::Rebuild(RebuildSpec {
            topic: stage.fleet.topic.clone(),
            partitions: Vec::new(),
        })),
        ..JobSpec::default()
    };
    let job = stage.jobs.run(rebuild, PATIENCE).await?;
    let rows = rows_of(&job);
    let progress = job.progress.context("no progress")?;
    ensure!(
        progress.records_read == 3_000 && rows == RowCounts::default(),
        "{progress:?} {rows:?}"
    );
    ensure!(stage.checksums().await? == tables, "a rebuild changed rows");
    let after = coverage(&stage).await?;
    let attested = i32::from(CoverageState::Attested);
    ensure!(
        after == BTreeMap::from([(attested, 3_000)]),
        "{before:?}, now {after:?}"
    );
    let (_, seen) = stage.jobs.plan(job_of(everything(&[TYPE], ReplayMode::Live))).await?;
    ensure!(seen.uncovered_positions == 0, "{seen:?}");
    let exact: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation")
        .fetch_one(&stage.fleet.pool)
        .await?;
    ensure!(
        seen.estimated_records >= exact.unsigned_abs() / 2,
        "{seen:?} of {exact} rows"
    );
    eprintln!("uncovered before: {}, after: 0; {after:?}", blind.uncovered_positions);
    stage.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn isolated_rows_go_with_their_job_and_jobs_can_be_watched_by_their_metrics() -> Result<()> {
    let settings = vec![
        ("jobs.keep_finished", "6s".to_owned()),
        ("jobs.keep_every", "200ms".to_owned()),
    ];
    let mut stage = Stage::without_workers("rows-isolated", Options::quick(), settings).await?;
    stage.fleet.start_workers(1).await?;
    let seed = feed(5, 1_500);
    stage.fleet.seed(&seed).await?;
    stage.ingest(&seed).await?;
    let job = stage
        .jobs
        .begin(job_of(everything(&[TYPE], ReplayMode::Isolated)))
        .await?;
    let server = format!("http://{}", stage.server.http);
    let shows = async |name: &str, state: &str, expected: f64| {
        wait_for(name, PATIENCE, async || {
            let metrics = scrape(&server).await?;
            let found = sum(&metrics, name, &[("state", state)]);
            ensure!((found - expected).abs() < 0.1, "{name} of {state} is {found}");
            Ok(())
        })
        .await
    };
    shows("reprise_jobs", "PENDING", 1.0).await?;
    shows("reprise_job_tasks", "waiting", 4.0).await?;
    let worker = stage.fleet.start_replay_workers(1).await?;
    let job = stage.jobs.ended(&job.job_id, PATIENCE).await?;
    ensure!(job.state() == JobState::Succeeded, "{job:?}");
    let copied = format!("{TABLE}_replay WHERE replay_job_id = '{}'", job.job_id);
    let rows = stage.fleet.count(&copied).await?;
    ensure!(rows > 0 && rows == stage.fleet.count(TABLE).await?, "{rows} rows");
    shows("reprise_jobs", "SUCCEEDED", 1.0).await?;
    shows("reprise_job_tasks", "waiting", 0.0).await?;
    let metrics = stage.fleet.metrics(worker).await?;
    let ended = sum(&metrics, "reprise_replay_tasks_total", &[("outcome", "finished")]);
    ensure!((ended - 4.0).abs() < 0.1, "{ended} tasks ended: {metrics:?}");
    // Another job's rows are not touched.
    stage
        .execute(
            "INSERT INTO t_fund_valuation_replay (replay_job_id, fund_code, nav_date, unit_nav, source_time, source_position) \
             VALUES ('another', 'F', '2000-01-01', 1, '2000-01-01', '')",
        )
        .await?;
    wait_for("the job to be removed", PATIENCE, async || {
        let left = stage.fleet.count("jobs").await?;
        ensure!(left == 0, "{left} jobs are left");
        Ok(())
    })
    .await?;
    let left = stage.fleet.count("t_fund_valuation_replay").await?;
    ensure!(left == 1, "{left} rows are left beside those of the job");
    shows("reprise_jobs", "SUCCEEDED", 0.0).await?;
    stage.stop().await
}

/// A caller of some role.
struct Caller {
    client: JobServiceClient<Channel>,
    token: String,
}

impl Caller {
    fn of(server: &ControlPlane, issuer: &Issuer, role: &str) -> Self {
        Self {
            client: JobServiceClient::new(server.channel()),
            token: issuer.token(role, role),
        }
    }

    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(30));
        let bearer = format!("Bearer {}", self.token).parse()?;
        request.metadata_mut().insert("authorization", bearer);
        Ok(request)
    }

    async fn create(&mut self, spec: JobSpec) -> Result<(JobPlan, Result<Job, Status>)> {
        let asked = self.request(PlanJobRequest { spec: Some(spec) })?;
        let planned = self.client.plan_job(asked).await?.into_inner();
        let request = self.request(CreateJobRequest {
            plan_token: planned.plan_token,
            ..CreateJobRequest::default()
        })?;
        let created = self.client.create_job(request).await;
        let job = created.map(|created| created.into_inner().job.unwrap_or_default());
        Ok((planned.plan.context("no plan")?, job))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overwriting_and_cleaning_need_an_admin() -> Result<()> {
    let mut fleet = Fleet::new("rows-admin", Options::quick()).await?;
    let seed = feed(6, 400);
    fleet.seed(&seed).await?;
    fleet.publish(seed).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    sqlx::query("CREATE INDEX by_position ON t_fund_valuation (source_position)")
        .execute(&fleet.pool)
        .await?;
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new("key-1")?;
    let jwks = folder.path().join("jwks.json");
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let mut settings = Issuer::settings(&jwks);
    settings.push(("catalog", fleet.catalog_path().display().to_string()));
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    fleet.whitelist_is_known().await?;
    let (mut operator, mut admin) = (
        Caller::of(&server, &issuer, "operator"),
        Caller::of(&server, &issuer, "admin"),
    );
    let all = |mode| ReplaySpec {
        records: Some(offsets_of(&[(0, 0, 100)])),
        ..everything(&[TYPE], mode)
    };
    let clean = ReplaySpec {
        clean_first: true,
        ..all(ReplayMode::Live)
    };
    for spec in [all(ReplayMode::Overwrite), clean] {
        let (plan, made) = operator.create(job_of(spec.clone())).await?;
        ensure!(!plan.needs_admin.is_empty(), "{plan:?}");
        let status = made.err().context("an operator made it")?;
        refused(&status, Code::PermissionDenied, "ROLE_TOO_LOW", "admin")?;
        ensure!(fleet.count("jobs").await? == 0, "a refused call made a job");
        let (_, made) = admin.create(job_of(spec)).await?;
        let job = made?;
        // An operator may hold it, let it go on as the admin wanted it, and end it, and not begin it again.
        let pause = operator.request(PauseJobRequest {
            job_id: job.job_id.clone(),
            ..PauseJobRequest::default()
        })?;
        operator.client.pause_job(pause).await?;
        let resume = operator.request(ResumeJobRequest {
            job_id: job.job_id.clone(),
            ..ResumeJobRequest::default()
        })?;
        operator.client.resume_job(resume).await?;
        let cancel = operator.request(CancelJobRequest {
            job_id: job.job_id.clone(),
            ..CancelJobRequest::default()
        })?;
        operator.client.cancel_job(cancel).await?;
        let retry = operator.request(RetryJobRequest {
            job_id: job.job_id,
            ..RetryJobRequest::default()
        })?;
        let status = operator
            .client
            .retry_job(retry)
            .await
            .err()
            .context("an operator retried it")?;
        refused(&status, Code::PermissionDenied, "ROLE_TOO_LOW", "admin")?;
        sqlx::query("DELETE FROM jobs").execute(&fleet.pool).await?;
    }
    let (plan, made) = operator.create(job_of(all(ReplayMode::Live))).await?;
    ensure!(plan.needs_admin.is_empty() && made.is_ok(), "{plan:?}");
    server.stop().await?;
    fleet.stop().await
}
