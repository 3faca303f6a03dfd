//! No secret that a server is given, by its configuration or by a caller, is in anything that it shows.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::AddWhitelistEntriesRequest;
use reprise_shared::{catalog, isolated};
use reprise_tests::control::{Authority, Issuer, PATIENCE, Settings, call, migrate, plain, process, reason, send, tls};
use reprise_tests::env::Isolation;
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options};
use reprise_tests::privileges::{Role, Users};
use reprise_tests::wait::wait_for;
use tokio::net::TcpSocket;
use tonic::transport::Channel;
use tonic::{Code, Status};

#[path = "support/tokens.rs"]
mod support;
use support::bad_tokens;

const READ: &str = "/grpc.health.v1.Health/Check";
const ADD: &str = "/reprise.control.v1.WhitelistService/AddWhitelistEntries";
const PURGE: &str = "/reprise.control.v1.OffsetRangeService/PurgeOffsetRanges";
const REDIS_PASSWORD: &str = "hunter2-of-redis";

/// The secrets that a test gave to servers, long enough that they stand nowhere by chance.
#[derive(Default)]
struct Secrets(BTreeSet<String>);

impl Secrets {
    fn add(&mut self, secret: &str) {
        self.0.insert(secret.to_owned());
    }

    /// The parts of a token, each of which tells something.
    fn add_token(&mut self, token: &str) {
        token
            .split('.')
            .filter(|part| part.len() > 8)
            .for_each(|part| self.add(part));
    }

    /// The lines of a private key.
    fn add_key(&mut self, pem: &str) {
        pem.lines()
            .filter(|line| !line.starts_with("-----"))
            .for_each(|line| self.add(line));
    }

    fn add_password_of(&mut self, url: &str) -> Result<()> {
        let user = url.rsplit_once('@').context("a URL without a user")?.0;
        self.add(user.rsplit_once(':').context("a user without a password")?.1);
        Ok(())
    }

    /// Checks that none is in what somebody may read, which holds a text that tells that it is the whole.
    fn are_not_in(&self, what: &str, shown: &str, whole: &str) -> Result<()> {
        ensure!(shown.contains(whole), "{what} does not hold {whole:?}:\n{shown}");
        for secret in &self.0 {
            ensure!(!shown.contains(secret), "{what} shows {secret}");
        }
        Ok(())
    }
}

/// Returns what a server shows at a path, whatever the status.
async fn page(http: &str, path: &str) -> Result<String> {
    Ok(reqwest::get(format!("{http}{path}")).await?.text().await?)
}

/// Returns everything that an answer tells its caller.
fn told(status: &Status) -> String {
    format!("{status:?} {}", String::from_utf8_lossy(status.details()))
}

/// The whole audit log, one event a line.
async fn audit_log(fleet: &Fleet) -> Result<String> {
    let query = "SELECT CONCAT_WS(' ', id, happened_at, principal, method, target, before_state, after_state, outcome, \
                 reason, request_id) FROM audit_events ORDER BY id";
    let events: Vec<String> = sqlx::query_scalar(query).fetch_all(&fleet.pool).await?;
    Ok(events.join("\n"))
}

/// A fleet with one worker that has read a feed, by users with passwords.
async fn fleet_with_passwords(secrets: &mut Secrets) -> Result<(Fleet, Users)> {
    let mut fleet = Fleet::new("secrets", Options::quick()).await?;
    isolated::make_tables(&fleet.pool, &catalog::load(&fleet.catalog_path())?).await?;
    let ingest = Users::make(Role::Ingest, &fleet.isolation).await?;
    secrets.add_password_of(&ingest.mysql_url)?;
    secrets.add_password_of(&ingest.redis_url)?;
    fleet.set("mysql.url", &ingest.mysql_url);
    fleet.set("redis.url", &ingest.redis_url);
    fleet.set("log.filter", "debug");
    let feed = FeedConfig {
        records: Some(500),
        funds: 20,
        ..FeedConfig::default()
    };
    fleet.publish(feed).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(reprise_tests::fleet::PATIENCE).await?;
    Ok((fleet, ingest))
}

/// Calls that are refused for the caller's token or role, and one of each role that is served.
async fn refused_and_served(channel: &Channel, issuer: &Issuer, secrets: &mut Secrets) -> Result<()> {
    for (fault, token) in bad_tokens(issuer)? {
        secrets.add_token(&token);
        let status = call(channel, READ, Some(&token)).await.expect_err(fault);
        ensure!(status.code() == Code::Unauthenticated, "{fault}: {status:?}");
        secrets.are_not_in("the answer", &told(&status), "CREDENTIALS_REFUSED")?;
    }
    let (viewer, operator) = (issuer.token("alice", "viewer"), issuer.token("ann", "operator"));
    secrets.add_token(&viewer);
    secrets.add_token(&operator);
    call(channel, READ, Some(&viewer)).await?;
    let status = call(channel, PURGE, Some(&viewer))
        .await
        .expect_err("it needs an admin");
    secrets.are_not_in("the answer", &told(&status), "ROLE_TOO_LOW")?;
    let add = AddWhitelistEntriesRequest {
        ids: vec!["F1".to_owned()],
        note: "a change that is on record".to_owned(),
        ..AddWhitelistEntriesRequest::default()
    };
    send(channel, ADD, Some(&operator), add).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_log_metrics_or_audit_log_of_servers_that_refuse_and_serve() -> Result<()> {
    let mut secrets = Secrets::default();
    let (mut fleet, ingest) = fleet_with_passwords(&mut secrets).await?;
    let control = Users::make(Role::Control, &fleet.isolation).await?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let (issuer, authority) = (Issuer::new("key-1")?, Authority::new("ours")?);
    Issuer::write_jwks(&[&issuer], &path("jwks.json"))?;
    let certificate = authority.server()?;
    certificate.write(&path("tls.pem"), &path("tls.key"))?;
    // The shared Redis asks nobody for a password, and so takes any of its default user.
    let password = format!("redis://default:{REDIS_PASSWORD}@");
    let redis_url = fleet.isolation.redis_url().replacen("redis://", &password, 1);
    secrets.add_key(&certificate.key);
    secrets.add_password_of(&control.mysql_url)?;
    secrets.add_password_of(&redis_url)?;
    let mut settings = Issuer::settings(&path("jwks.json"));
    settings.extend([
        ("tls.certificate_path", path("tls.pem").display().to_string()),
        ("tls.key_path", path("tls.key").display().to_string()),
        ("mysql.url", control.mysql_url.clone()),
        ("redis.url", redis_url),
        ("catalog", fleet.catalog_path().display().to_string()),
        ("log.filter", "debug".to_owned()),
    ]);
    let (mut service, grpc) = process(&fleet.isolation, folder.path(), settings)?;
    service.start()?;
    service.ready(PATIENCE).await?;
    refused_and_served(&tls(grpc, &authority, None)?, &issuer, &mut secrets).await?;

    let metrics = page(service.http(), "/metrics").await?;
    secrets.are_not_in("the control plane's metrics", &metrics, "CREDENTIALS_REFUSED")?;
    let metrics = page(fleet.workers[0].http(), "/metrics").await?;
    secrets.are_not_in("the worker's metrics", &metrics, "reprise_")?;
    for http in [service.http(), fleet.workers[0].http()] {
        secrets.are_not_in("/readyz", &page(http, "/readyz").await?, "")?;
    }
    // At their ends, they have told all that they have to tell.
    service.stop().await?;
    fleet.stop().await?;
    let audit_log = audit_log(&fleet).await?;
    for whole in [
        "a change that is on record",
        "denied CREDENTIALS_REFUSED",
        "denied ROLE_TOO_LOW",
    ] {
        secrets.are_not_in("the audit log", &audit_log, whole)?;
    }
    let log = std::fs::read_to_string(path("control-plane.log"))?;
    for whole in ["calls were refused", "CREDENTIALS_REFUSED", "DEBUG"] {
        secrets.are_not_in("the control plane's log", &log, whole)?;
    }
    secrets.are_not_in("the worker's log", &fleet.whole_log(0), "DEBUG")?;
    ensure!(secrets.0.len() > 60, "only {} secrets were looked for", secrets.0.len());
    control.drop().await?;
    ingest.drop().await
}

/// A port that refuses connections: taken for as long as this is kept, and nobody listens.
fn closed_port() -> Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// A server that is not there.
struct Away {
    setting: &'static str,
    /// With a password.
    url: String,
    /// How the logs of a control plane and of a worker tell of it.
    told: [&'static str; 2],
    /// A call that needs it.
    call: &'static str,
}

fn away(address: SocketAddr) -> [Away; 2] {
    [
        Away {
            setting: "mysql.url",
            url: format!("mysql://reprise:hunter2-of-mysql@{address}/reprise"),
            told: ["mysql is not ready"; 2],
            call: "/reprise.control.v1.WhitelistService/GetWhitelist",
        },
        Away {
            setting: "redis.url",
            url: format!("redis://default:{REDIS_PASSWORD}@{address}/0"),
            told: ["Connection refused", "could not subscribe"],
            call: "/reprise.control.v1.FleetService/ListWorkers",
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_what_a_control_plane_tells_whose_mysql_or_redis_is_away() -> Result<()> {
    let isolation = Isolation::new("secrets-away").await?;
    migrate(&isolation).await?;
    let (_closed, address) = closed_port()?;
    for Away {
        setting,
        url,
        told: [in_log, _],
        call: path,
    } in away(address)
    {
        let mut secrets = Secrets::default();
        secrets.add_password_of(&url)?;
        let folder = tempfile::tempdir()?;
        let settings: Settings = vec![
            (setting, url),
            ("log.filter", "debug".to_owned()),
            ("mysql.acquire_timeout", "1s".to_owned()),
        ];
        let (mut service, grpc) = process(&isolation, folder.path(), settings)?;
        service.start()?;
        let log = || std::fs::read_to_string(folder.path().join("control-plane.log")).unwrap_or_default();
        let readyz = wait_for(
            "the log to tell of it",
            std::time::Duration::from_secs(20),
            async || {
                let shown = page(service.http(), "/readyz").await?;
                ensure!(log().contains(in_log), "not yet:\n{}", log());
                Ok(shown)
            },
        )
        .await?;
        secrets.are_not_in("/readyz", &readyz, "ready")?;
        let status = call(&plain(grpc), path, None).await.expect_err(setting);
        ensure!(reason(&status)? == "STORE_AWAY", "{setting}: {status:?}");
        secrets.are_not_in("the answer", &told(&status), "STORE_AWAY")?;
        let metrics = page(service.http(), "/metrics").await?;
        secrets.are_not_in("/metrics", &metrics, "reprise_grpc_calls_total")?;
        eprintln!("{setting}: {readyz} {}", status.message());
        service.stop().await?;
        secrets.are_not_in("the log", &log(), in_log)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_what_a_worker_tells_whose_mysql_or_redis_is_away() -> Result<()> {
    let (_closed, address) = closed_port()?;
    for Away {
        setting,
        url,
        told: [_, in_log],
        ..
    } in away(address)
    {
        let mut secrets = Secrets::default();
        secrets.add_password_of(&url)?;
        let mut fleet = Fleet::new("secrets-away", Options::quick()).await?;
        fleet.set(setting, &url);
        fleet.set("log.filter", "debug");
        fleet.set("mysql.acquire_timeout", "1s");
        let worker = fleet.start_worker()?;
        let http = fleet.workers[worker].http().to_owned();
        let readyz = wait_for(
            "the log to tell of it",
            std::time::Duration::from_secs(20),
            async || {
                let shown = page(&http, "/readyz").await?;
                let log = fleet.whole_log(worker);
                ensure!(log.contains(in_log), "not yet:\n{log}");
                Ok(shown)
            },
        )
        .await?;
        secrets.are_not_in("/readyz", &readyz, setting.split('.').next().unwrap_or_default())?;
        secrets.are_not_in("/metrics", &page(&http, "/metrics").await?, "")?;
        eprintln!("{setting}: {readyz}");
        fleet.stop().await?;
        secrets.are_not_in("the log", &fleet.whole_log(worker), in_log)?;
    }
    Ok(())
}
