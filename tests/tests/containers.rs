//! The containers of the chart, started from the image's own root on real servers.
//!
//! By default the root is laid out as the Dockerfile does it, on the programs of this build; `./dev image-test` runs this
//! with the root of an image that was really built.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::job_service_client::JobServiceClient;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::{
    CreateJobRequest, GetJobRequest, GetLagRequest, JobState, PlanJobRequest, ReplaceWhitelistRequest, ReplayMode,
};
use reprise_shared::clock::Clock;
use reprise_shared::mysql::{self, Database};
use reprise_tests::chart::mounted::{Mounted, Secrets};
use reprise_tests::chart::{Chart, Rendered, case};
use reprise_tests::cluster::Service;
use reprise_tests::control::{self, AUDIENCE, ISSUER};
use reprise_tests::env::Isolation;
use reprise_tests::feed::{BasicSeed, Destination, Feed, FeedConfig, publish};
use reprise_tests::image::{PROGRAMS, Root, USER};
use reprise_tests::jobs::{everything, job_of, rows_of};
use reprise_tests::servers::ports;
use reprise_tests::wait::{blocking, wait_for};
use sqlx::mysql::MySqlPool;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::{InterceptedService, Interceptor};
use tonic::transport::Channel;
use tonic::{Request, Status};

const PATIENCE: Duration = Duration::from_secs(90);
const TYPES: [&str; 3] = ["fund_basic", "fund_valuation", "fund_risk"];

/// Shows a token with each call.
#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// A release on the servers of the sandbox.
struct Release {
    isolation: Isolation,
    topic: String,
    rendered: Rendered,
    secrets: Secrets,
    root: Root,
    /// The control plane's health and metrics.
    http: u16,
    grpc: SocketAddr,
}

impl Release {
    async fn new() -> Result<Self> {
        let root = Root::open().await?;
        let isolation = Isolation::new("containers").await?;
        let topic = isolation
            .create_topic("fund-data", 2, &[("retention.ms", "-1")])
            .await?;
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/catalog.yaml");
        let catalog = tempfile::NamedTempFile::new()?;
        fs::write(
            catalog.path(),
            fs::read_to_string(shipped)?.replace("fund-data", &topic),
        )?;
        let [grpc, http] = ports::free()?;
        let mut flags = vec!["--set-file".to_owned(), format!("catalog={}", catalog.path().display())];
        for (key, value) in [
            ("kafka.brokers", format!("{{{}}}", isolation.kafka_brokers())),
            // The servers of the sandbox have no certificates; those of tests/encrypted_servers.rs have.
            ("kafka.tls.enabled", "false".to_owned()),
            ("mysql.tls.mode", "disabled".to_owned()),
            ("kafka.consumerGroup", isolation.group()),
            ("redis.keyPrefix", isolation.key_prefix()),
            ("migration.demoTables", "true".to_owned()),
            ("controlPlane.auth.jwt.issuer", ISSUER.to_owned()),
            ("controlPlane.auth.jwt.audience", AUDIENCE.to_owned()),
            ("controlPlane.service.httpPort", http.to_string()),
        ] {
            flags.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        Ok(Self {
            rendered: Chart::open().await?.render(&case("minimal"), &flags)?,
            secrets: Secrets::new(&isolation.mysql_url(), isolation.redis_url())?,
            grpc: SocketAddr::from(([127, 0, 0, 1], grpc)),
            http,
            isolation,
            topic,
            root,
        })
    }

    fn mounted(&self, component: &str) -> Result<Mounted> {
        Mounted::for_image(&self.rendered, component, &self.secrets)
    }

    async fn migrate(&self) -> Result<String> {
        let mounted = self.mounted("migration")?;
        self.root.run(&mounted, "migration", &[], PATIENCE).await
    }

    async fn helm_test(&self) -> Result<String> {
        let service = self.rendered.object("Service", "control-plane")?;
        let name = service["metadata"]["name"].as_str().context("a name")?;
        let mounted = self.mounted("test")?;
        self.root.run(&mounted, "test", &[name], PATIENCE).await
    }

    fn start(&self, mounted: &Mounted, component: &str) -> Result<Service> {
        let (http, more) = match component {
            "control-plane" => {
                let grpc = format!("grpc.listen={}", self.grpc);
                (self.http, vec!["--set".to_owned(), grpc])
            }
            _ => (ports::free::<1>()?[0], Vec::new()),
        };
        let mut service = self.root.service(mounted, component, http, &more)?;
        service.start()?;
        Ok(service)
    }

    /// The channel of a caller with an admin's token, over TLS.
    fn channel(&self) -> Result<InterceptedService<Channel, Bearer>> {
        let channel = control::tls(self.grpc, &self.secrets.authority, None)?;
        let token = format!("Bearer {}", self.secrets.issuer.token("desk", "admin"));
        let bearer = Bearer(token.parse().context("a token is a header")?);
        Ok(InterceptedService::new(channel, bearer))
    }

    async fn let_everything_through(&self) -> Result<()> {
        let request = ReplaceWhitelistRequest {
            allow_unrestricted: true,
            ..ReplaceWhitelistRequest::default()
        };
        let mut whitelist = WhitelistServiceClient::new(self.channel()?);
        whitelist.replace_whitelist(request).await?;
        Ok(())
    }

    /// Publishes records, and waits until they are processed.
    async fn feed(&self) -> Result<()> {
        let pool = self.pool()?;
        let config = FeedConfig {
            records: Some(2_000),
            funds: 50,
            ..FeedConfig::default()
        };
        BasicSeed::new(&config).insert(&pool, "t_fund_basic_info").await?;
        let destination = Destination {
            brokers: self.isolation.kafka_brokers().to_owned(),
            topic: self.topic.clone(),
            keep_places: false,
        };
        blocking("publish", PATIENCE, move || {
            publish(Feed::new(config)?, &destination, None, |_| {
                std::ops::ControlFlow::Continue(())
            })
        })
        .await?;
        let fleet = FleetServiceClient::new(self.channel()?);
        wait_for("the ingest worker to be through", PATIENCE, async || {
            let rows: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM t_fund_valuation")
                .fetch_one(&pool)
                .await?;
            let lag = fleet.clone().get_lag(GetLagRequest::default()).await?.into_inner();
            let done = rows > 0 && !lag.partitions.is_empty() && lag.total_lag == 0 && lag.unknown_partitions == 0;
            ensure!(done, "{rows} rows, {lag:?}");
            anyhow::Ok(())
        })
        .await
    }

    fn pool(&self) -> Result<MySqlPool> {
        let config = mysql::Config {
            url: self.isolation.mysql_url().into(),
            max_connections: 1,
            ..mysql::Config::default()
        };
        Ok(Database::new(&config, Clock::system())?.pool().clone())
    }

    /// Has everything compared with what Kafka holds, by a job.
    async fn verify(&self) -> Result<()> {
        let mut jobs = JobServiceClient::new(self.channel()?);
        let spec = Some(job_of(everything(&TYPES, ReplayMode::Verify)));
        let planned = jobs.plan_job(PlanJobRequest { spec }).await?.into_inner();
        let plan_token = planned.plan_token;
        let request = CreateJobRequest {
            plan_token,
            ..CreateJobRequest::default()
        };
        let job_id = jobs
            .create_job(request)
            .await?
            .into_inner()
            .job
            .context("a job")?
            .job_id;
        let job = wait_for("the job to end", PATIENCE, async || {
            let request = GetJobRequest { job_id: job_id.clone() };
            let job = jobs.clone().get_job(request).await?.into_inner().job.context("a job")?;
            ensure!(job.finish_time.is_some(), "{job:?}");
            anyhow::Ok(job)
        })
        .await?;
        let rows = rows_of(&job);
        eprintln!("verified by a replay worker: {rows:?}");
        ensure!(job.state() == JobState::Succeeded, "{job:?}");
        ensure!(
            rows.unchanged > 0 && rows.missing == 0 && rows.different == 0,
            "{job:?}"
        );
        Ok(())
    }
}

/// Checks that a process is its user's, can get no more rights, and that nothing but its mounts can be written.
fn check_process(service: &mut Service) -> Result<()> {
    let pid = service.pid().context("it runs")?;
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).context("look at a process");
    let status = read("status")?;
    let field = |name: &str| -> Result<Vec<String>> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let words = line.with_context(|| format!("no {name}"))?.split_whitespace();
        Ok(words.map(str::to_owned).collect())
    };
    let user = vec![USER.to_string(); 4];
    ensure!(field("Uid:")? == user && field("Gid:")? == user, "{status}");
    ensure!(field("Groups:")? == [USER.to_string()], "{status}");
    ensure!(field("NoNewPrivs:")? == ["1"], "{status}");
    ensure!(
        field("CapEff:")? == ["0000000000000000"] && field("CapPrm:")? == ["0000000000000000"],
        "{status}"
    );
    // Paths are those that the process sees: its root is the image's.
    let mounts = read("mountinfo")?;
    let options = |place: &str| {
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.find(|line| line[4] == place).map(|line| line[5].to_owned())
    };
    for place in ["/", "/etc/reprise"] {
        let options = options(place).with_context(|| format!("{place} is no mount:\n{mounts}"))?;
        ensure!(options.split(',').any(|option| option == "ro"), "{place} is {options}");
    }
    ensure!(
        fs::read_link(format!("/proc/{pid}/exe"))?.starts_with("/"),
        "no program"
    );
    let variables = read("environ")?;
    ensure!(
        !variables.contains("CARGO") && variables.contains("SSL_CERT_FILE="),
        "{variables}"
    );
    Ok(())
}

/// Checks what the root holds: the programs, and nothing to run others with.
fn check_root(root: &Path) -> Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("usr/local/bin"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    ensure!(names == PROGRAMS, "{names:?}");
    for other in ["bin", "sbin", "usr/bin", "usr/sbin", "tmp"] {
        ensure!(!root.join(other).exists(), "the image has a folder /{other}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_containers_work_from_the_images_read_only_root_as_its_user() -> Result<()> {
    let release = Release::new().await?;
    check_root(release.root.folder())?;
    let told = release.migrate().await?;
    ensure!(told.contains("made a table for isolated rows"), "{told}");
    release.migrate().await.context("a second time")?;

    let mut files = Vec::new();
    let mut services = Vec::new();
    for component in ["control-plane", "ingest", "replay"] {
        let mounted = release.mounted(component)?;
        services.push(release.start(&mounted, component)?);
        files.push(mounted);
    }
    let worked = async {
        services[0].ready(PATIENCE).await?;
        release.helm_test().await?;
        // On a new database nobody lets anything through before somebody said what.
        for worker in &services[1..] {
            let refusal = wait_for("a worker to say what it waits for", PATIENCE, async || {
                let answer = reqwest::get(format!("{}/readyz", worker.http())).await?;
                let (status, said) = (answer.status(), answer.text().await?);
                ensure!(
                    status == 503 && said.contains("whitelist was never set"),
                    "{status}: {said}"
                );
                anyhow::Ok(said)
            });
            refusal.await?;
        }
        release.let_everything_through().await?;
        for service in &mut services {
            service.ready(PATIENCE).await?;
            check_process(service)?;
        }
        release.feed().await?;
        release.verify().await
    };
    let worked = worked.await;
    let logs = || {
        files
            .iter()
            .map(|mounted| logs_in(mounted.folder()))
            .collect::<Vec<_>>()
            .join("\n")
    };
    worked.with_context(logs)?;

    for (service, component) in services.iter_mut().zip(["control-plane", "ingest", "replay"]) {
        let grace = release.rendered.pod(component)?["spec"]["terminationGracePeriodSeconds"].as_u64();
        service.signal(Signal::SIGTERM)?;
        let code = service
            .wait(Duration::from_secs(grace.context("a grace period")?))
            .await?;
        ensure!(code == Some(0), "{component} ended with {code:?}\n{}", logs());
    }
    Ok(())
}

fn logs_in(folder: &Path) -> String {
    let mut logs = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().extension().is_some_and(|end| end == "log") {
            logs += &fs::read_to_string(entry.path()).unwrap_or_default();
        }
    }
    logs
}
