//! Nothing that one caller does takes the control plane away from another: sizes, numbers, rates and times are
//! bounded, and what is refused says why.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_proto::v1::{AddWhitelistEntriesRequest, ListWorkersRequest, RefreshLookupRequest};
use reprise_tests::control::{ControlPlane, Issuer, PATIENCE, call, hang, open_streams, reason, send};
use reprise_tests::env::{Isolation, Servers};
use reprise_tests::fleet::endpoints_with;
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const READ: &str = "/grpc.health.v1.Health/Check";
const WORKERS: &str = "/reprise.control.v1.FleetService/ListWorkers";
const ADD: &str = "/reprise.control.v1.WhitelistService/AddWhitelistEntries";
const REFRESH: &str = "/reprise.control.v1.FleetService/RefreshLookup";

/// Makes calls as one principal until one is refused, and returns that.
async fn until_refused(server: &ControlPlane, token: &str) -> Result<Status> {
    let channel = server.channel();
    for _ in 0..1_000 {
        if let Err(status) = call(&channel, READ, Some(token)).await {
            return Ok(status);
        }
    }
    anyhow::bail!("1,000 calls at once were all served")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_is_slowed_down_and_another_is_served_with_redis_or_without() -> Result<()> {
    let mut redis = Servers::own().redis().await?;
    let endpoints = endpoints_with(|all| redis.endpoint().clone_into(&mut all.redis)).await?;
    let isolation = Isolation::on("rate-limit", endpoints).await?;
    let folder = tempfile::tempdir()?;
    let (issuer, jwks) = (Issuer::new("key-1")?, folder.path().join("jwks.json"));
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let mut settings = Issuer::settings(&jwks);
    settings.push(("rate_limit.per_second", "1".to_owned()));
    settings.push(("rate_limit.burst", "20".to_owned()));
    let server = ControlPlane::start_on(&isolation, settings.clone()).await?;
    let replica = ControlPlane::start_on(&isolation, settings).await?;
    server.ready().await?;
    replica.ready().await?;

    let greedy = issuer.token("greedy", "admin");
    let status = until_refused(&server, &greedy).await?;
    ensure!(
        status.code() == Code::ResourceExhausted && reason(&status)? == "RATE_LIMITED",
        "{status:?}"
    );
    let details = status.get_error_details();
    let wait = details
        .retry_info()
        .and_then(|info| info.retry_delay)
        .context("no retry delay")?;
    ensure!(wait <= Duration::from_secs(1), "{wait:?}");
    let modest = issuer.token("modest", "viewer");
    for _ in 0..10 {
        call(&server.channel(), READ, Some(&modest)).await?;
    }
    // The bucket is one for all replicas: what the first one took is gone here too.
    let mut served = 0;
    while call(&replica.channel(), READ, Some(&greedy)).await.is_ok() {
        served += 1;
        ensure!(served < 15, "the other replica counts by itself");
    }

    redis.kill()?;
    let status = until_refused(&server, &greedy).await?;
    ensure!(reason(&status)? == "RATE_LIMITED", "{status:?}");
    for _ in 0..10 {
        call(&server.channel(), READ, Some(&modest))
            .await
            .context("redis is away, and that is no reason")?;
    }
    let metrics = server.metrics().await?;
    ensure!(metrics.contains("reprise_rate_limit_local_total"), "{metrics}");
    replica.stop().await?;
    server.stop().await
}

/// What the calls of a flood came to so far.
#[derive(Default)]
struct Flood {
    made: AtomicU64,
    limited: AtomicU64,
}

impl Flood {
    fn limited(&self) -> u64 {
        self.limited.load(Ordering::Relaxed)
    }

    /// Makes about 125 calls a second for as long as this is polled; fails at any failure but the rate limit's.
    async fn one_task(self: Arc<Self>, channel: Channel, token: String) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(8));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            if let Err(status) = call(&channel, READ, Some(&token)).await {
                ensure!(
                    status.code() == Code::ResourceExhausted && reason(&status)? == "RATE_LIMITED",
                    "{status:?}"
                );
                self.limited.fetch_add(1, Ordering::Relaxed);
            }
            self.made.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Makes 50 calls, each after 60 further ones of the flood, and returns how often the flood was limited meanwhile.
async fn modest_calls(server: &ControlPlane, token: &str, flood: &Flood) -> Result<u64> {
    const DEADLINE: Duration = Duration::from_secs(20);
    let channel = server.channel();
    wait_for("the flood to be limited", PATIENCE, async || {
        (flood.limited() > 0).then_some(())
    })
    .await?;
    let limited_before = flood.limited();
    for number in 0..50 {
        let made = flood.made.load(Ordering::Relaxed);
        wait_for("60 further calls of the flood", PATIENCE, async || {
            (flood.made.load(Ordering::Relaxed) >= made + 60).then_some(())
        })
        .await?;
        // One that is answered from memory, and one that asks Redis.
        let path = if number % 2 == 0 { READ } else { WORKERS };
        tokio::time::timeout(DEADLINE, call(&channel, path, Some(token)))
            .await
            .with_context(|| format!("call {number} was not answered within {DEADLINE:?}"))?
            .with_context(|| format!("call {number} was not served"))?;
    }
    Ok(flood.limited() - limited_before)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_caller_makes_a_thousand_calls_a_second_and_another_is_served_meanwhile() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (issuer, jwks) = (Issuer::new("key-1")?, folder.path().join("jwks.json"));
    Issuer::write_jwks(&[&issuer], &jwks)?;
    // The limits are the defaults: 100 calls a second, 200 at once.
    let server = ControlPlane::start("flood", Issuer::settings(&jwks)).await?;
    server.ready().await?;
    let (greedy, modest) = (issuer.token("greedy", "admin"), issuer.token("modest", "viewer"));
    let flood = Arc::new(Flood::default());
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        tasks.spawn(Arc::clone(&flood).one_task(server.channel(), greedy.clone()));
    }
    let limited = tokio::select! {
        ended = tasks.join_next() => anyhow::bail!("the flood ended: {ended:?}"),
        limited = modest_calls(&server, &modest, &flood) => limited?,
    };
    tasks.shutdown().await;
    let made = flood.made.load(Ordering::Relaxed);
    eprintln!("50 calls were served amid {made}, of which {limited} were over the rate meanwhile");
    ensure!(made >= 3_000 && limited > 0, "{made} calls, {limited} over the rate");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_headers_are_refused_and_bulk_methods_take_more() -> Result<()> {
    let server = ControlPlane::start("sizes", Vec::new()).await?;
    server.ready().await?;
    let channel = server.channel();
    let page_token = |bytes| ListWorkersRequest {
        page_token: "x".repeat(bytes),
        ..ListWorkersRequest::default()
    };
    let add = |count| AddWhitelistEntriesRequest {
        ids: vec!["F0000000000000000001".to_owned(); count],
        ..AddWhitelistEntriesRequest::default()
    };
    let status = send(&channel, WORKERS, None, page_token(200 << 10))
        .await
        .expect_err("no such page");
    ensure!(status.code() == Code::InvalidArgument, "{status:?}");
    let status = send(&channel, WORKERS, None, page_token(300 << 10))
        .await
        .expect_err("too large");
    ensure!(status.code() == Code::ResourceExhausted, "{status:?}");
    ensure!(
        reason(&status)? == "MESSAGE_TOO_LARGE" && status.message().contains("262144"),
        "{status:?}"
    );
    // 22 bytes each on the wire: 3.3 MB and 5.5 MB.
    let answer = send(&channel, ADD, None, add(150_000)).await;
    ensure!(
        answer.is_ok()
            || answer
                .as_ref()
                .is_err_and(|status| status.code() != Code::ResourceExhausted),
        "{answer:?}"
    );
    let status = send(&channel, ADD, None, add(250_000)).await.expect_err("too large");
    ensure!(
        status.code() == Code::ResourceExhausted && status.message().contains("4194304"),
        "{status:?}"
    );

    check_headers(&server).await?;
    server.stop().await
}

/// Tells whether the server ended the connection, because of what came over it. The client may meet that end before it
/// has read why.
fn was_cut_off(status: &Status) -> bool {
    const WHY: &str = "detected excessive load generating behavior";
    let mut causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.any(|cause| {
        let problem = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        matches!(problem, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)) || cause.to_string().contains(WHY)
    })
}

/// 96 KiB of headers are taken; a call with more is refused, and one with far more ends its connection.
async fn check_headers(server: &ControlPlane) -> Result<()> {
    let with_headers = async |channel: &Channel, kib: usize| call(channel, READ, Some(&"x".repeat(kib << 10))).await;
    let channel = server.channel();
    with_headers(&channel, 90).await.context("90 KiB of headers")?;
    let status = with_headers(&channel, 100).await.expect_err("100 KiB of headers");
    ensure!(
        status.code() == Code::Unknown && status.message().contains("431"),
        "{status:?}"
    );
    call(&channel, READ, None).await.context("the connection goes on")?;
    let status = with_headers(&channel, 500).await.expect_err("500 KiB of headers");
    ensure!(was_cut_off(&status) && reason(&status).is_err(), "{status:?}");
    call(&server.channel(), READ, None)
        .await
        .context("another connection")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_are_refused_field_by_field_and_not_repeated() -> Result<()> {
    let server = ControlPlane::start("control-characters", Vec::new()).await?;
    server.ready().await?;
    let request = RefreshLookupRequest {
        lookup: "fund_code".to_owned(),
        keys: ["good", "a\u{0}b", "\u{1b}[31mred", "line\nbreak"]
            .map(str::to_owned)
            .into(),
        request_id: "tab\tbed".to_owned(),
        validate_only: false,
    };
    let status = send(&server.channel(), REFRESH, None, request)
        .await
        .expect_err("four faults");
    ensure!(
        status.code() == Code::InvalidArgument && reason(&status)? == "INVALID_FIELDS",
        "{status:?}"
    );
    let details = status.get_error_details();
    let violations = &details.bad_request().context("no field violations")?.field_violations;
    let named: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
    ensure!(named == ["request_id", "keys[1]", "keys[2]", "keys[3]"], "{named:?}");
    let told = violations
        .iter()
        .map(|violation| violation.description.as_str())
        .chain([status.message()]);
    ensure!(
        told.flat_map(str::chars).all(|letter| !letter.is_control()),
        "{status:?}"
    );
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_calls_at_once_are_refused_until_there_is_room() -> Result<()> {
    let server = ControlPlane::start("overload", vec![("grpc.max_calls", "4".to_owned())]).await?;
    server.ready().await?;
    let mut hanging = JoinSet::new();
    let refused = async || {
        // One that found its place taken by the call below was refused, and begins again.
        while hanging.try_join_next().is_some() {}
        while hanging.len() < 4 {
            hanging.spawn(hang(server.channel(), WORKERS));
        }
        let answer = call(&server.channel(), READ, None).await;
        answer.err().ok_or("still served")
    };
    let status = wait_for("the server to be full", PATIENCE, refused).await?;
    ensure!(
        status.code() == Code::Unavailable && reason(&status)? == "OVERLOADED",
        "{status:?}"
    );
    // No caller is known yet, so that it is counted and not on record as the refusal of one.
    let metrics = server.metrics().await?;
    ensure!(
        metrics.contains("reprise_grpc_refused_total{reason=\"OVERLOADED\"}"),
        "{metrics}"
    );
    // Callers who go away leave their places.
    hanging.shutdown().await;
    wait_for("room", PATIENCE, async || call(&server.channel(), READ, None).await).await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline() -> Result<()> {
    let server = ControlPlane::start("deadline", vec![("grpc.deadline", "500ms".to_owned())]).await?;
    server.ready().await?;
    let ended = tokio::time::timeout(PATIENCE, hang(server.channel(), WORKERS)).await;
    let status = ended.context("it went on")?.expect_err("its message never came");
    ensure!(
        status.code() == Code::DeadlineExceeded && reason(&status)? == "DEADLINE_EXCEEDED",
        "{status:?}"
    );
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_are_cut_off_and_others_are_served() -> Result<()> {
    let server = ControlPlane::start("streams", Vec::new()).await?;
    server.ready().await?;
    tokio::time::timeout(PATIENCE, open_streams(server.grpc, WORKERS, 10_000))
        .await
        .context("the connection was not cut off")??;
    call(&server.channel(), READ, None).await?;

    // A client that keeps to the rules may ask as much: it waits for its turn.
    let channel = server.channel();
    // The first answer tells the client how many streams it may open; before, it takes 100 for granted.
    call(&channel, READ, None).await?;
    let mut calls = JoinSet::new();
    for _ in 0..10_000 {
        let channel = channel.clone();
        calls.spawn(async move { call(&channel, READ, None).await });
    }
    let other = server.channel();
    let mut served = 0;
    let mut limited = 0;
    while let Some(ended) = calls.join_next().await {
        match ended? {
            Ok(()) => served += 1,
            Err(status) => {
                ensure!(reason(&status)? == "RATE_LIMITED", "{status:?}");
                limited += 1;
            }
        }
    }
    eprintln!("of 10,000 calls {served} were served and {limited} were over the rate");
    ensure!(
        served > 0 && served + limited == 10_000,
        "{served} served, {limited} limited"
    );
    wait_for("a call of another connection", PATIENCE, async || {
        call(&other, READ, None).await
    })
    .await?;
    server.stop().await
}
