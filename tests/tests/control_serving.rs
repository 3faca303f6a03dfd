//! The control plane as its callers and its platform meet it: reflection, health, what the fleet does, and shutdown.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use futures::StreamExt as _;
use nix::sys::signal::Signal;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_proto::v1::*;
use reprise_shared::ingest_state::stops;
use reprise_tests::control::{ControlPlane, PATIENCE, call, hang, plain, process, reason};
use reprise_tests::env::{Isolation, Servers};
use reprise_tests::feed::FeedConfig;
use reprise_tests::fleet::{Fleet, Options, endpoints_with};
use reprise_tests::servers::Server as _;
use reprise_tests::wait::{Seen, wait_for};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

macro_rules! reflect {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let ask = |question| {
            let request = tonic_reflection::pb::$version::ServerReflectionRequest {
                host: String::new(),
                message_request: Some(question),
            };
            let mut client = ServerReflectionClient::new($channel.clone());
            async move {
                let questions = futures::stream::iter([request]);
                let mut answers = client.server_reflection_info(questions).await?.into_inner();
                let answer = answers.next().await.context("no answer")??;
                answer.message_response.context("an empty answer")
            }
        };
        let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await?
        else {
            anyhow::bail!("not a list of services");
        };
        let services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        let mut files = Vec::new();
        for symbol in [
            "reprise.control.v1.FleetService",
            "google.rpc.BadRequest",
            "grpc.health.v1.Health",
        ] {
            let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
            let MessageResponse::FileDescriptorResponse(found) = ask(question).await? else {
                anyhow::bail!("{symbol} is not found");
            };
            for file in found.file_descriptor_proto {
                files.push(FileDescriptorProto::decode(file.as_slice())?);
            }
        }
        (services, files)
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_tells_services_errors_and_comments_in_both_versions() -> Result<()> {
    let server = ControlPlane::start("reflection", Vec::new()).await?;
    server.ready().await?;
    let channel = server.channel();
    for (services, files) in [reflect!(v1, channel), reflect!(v1alpha, channel)] {
        for service in reprise_control_plane::grpc::SERVICES
            .iter()
            .chain(&["grpc.health.v1.Health"])
        {
            ensure!(
                services.iter().any(|known| known == service),
                "{service} is not in {services:?}"
            );
        }
        let ours = files
            .iter()
            .find(|file| file.name().ends_with("fleet_service.proto"))
            .context("our file")?;
        let comments = ours
            .source_code_info
            .as_ref()
            .context("no source information")?
            .location
            .iter();
        let mut comments = comments.filter_map(|location| location.leading_comments.as_deref());
        ensure!(
            comments.any(|text| text.contains("Lists the workers")),
            "the comments are gone"
        );
        ensure!(
            files.iter().any(|file| file.package() == "google.rpc"),
            "error details are not found"
        );
    }
    // What is not there yet says so.
    for method in reprise_control_plane::guard::roles::METHODS
        .iter()
        .map(|(method, _)| *method)
    {
        if let Err(status) = call(&channel, method, None).await {
            ensure!(
                status.code() != Code::Unimplemented || reason(&status)? == "NOT_IMPLEMENTED",
                "{status:?}"
            );
            ensure!(status.code() != Code::Unimplemented || status.message().contains("not part of this version"));
        }
    }
    server.stop().await
}

async fn health(channel: Channel, service: &str) -> Result<ServingStatus> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel).check(request).await?.into_inner();
    Ok(ServingStatus::try_from(answer.status)?)
}

/// Lists all workers, one a page.
async fn all_workers(client: &mut FleetServiceClient<Channel>) -> Result<Vec<Worker>> {
    let mut workers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListWorkersRequest {
            page_size: 1,
            page_token,
        };
        let page = client.list_workers(request).await?.into_inner();
        ensure!(
            page.workers.len() <= 1 && page.unreadable_worker_ids.is_empty(),
            "{page:?}"
        );
        ensure!(
            page.workers
                .iter()
                .all(|worker| worker.catalog_hash == page.catalog_hash),
            "{page:?}"
        );
        workers.extend(page.workers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    Ok(workers)
}

/// Stops a type and refreshes a lookup, and looks at what is told of both.
async fn check_types_and_lookups(fleet: &Fleet, client: &mut FleetServiceClient<Channel>) -> Result<()> {
    stops::stop_type(&fleet.pool, "fund_risk", "SCHEMA", "a column is gone").await?;
    let types = client
        .list_data_types(ListDataTypesRequest::default())
        .await?
        .into_inner()
        .data_types;
    let named: Vec<_> = types
        .iter()
        .map(|data_type| (data_type.name.as_str(), data_type.state()))
        .collect();
    let (running, stopped) = (DataTypeState::Running, DataTypeState::Stopped);
    ensure!(
        named
            == [
                ("fund_basic", running),
                ("fund_risk", stopped),
                ("fund_valuation", running)
            ],
        "{named:?}"
    );
    ensure!(
        types[1].stop_reason == "SCHEMA" && types[1].stop_time.is_some(),
        "{:?}",
        types[1]
    );
    ensure!(types[1].etag != types[0].etag, "the etag does not tell a stop");

    let refresh = |lookup: &str| RefreshLookupRequest {
        lookup: lookup.to_owned(),
        ..RefreshLookupRequest::default()
    };
    let told = client
        .refresh_lookup(refresh("fund_code"))
        .await?
        .into_inner()
        .workers_told;
    ensure!(told == 2, "{told} workers listened");
    let status = client
        .refresh_lookup(refresh("nothing"))
        .await
        .expect_err("no such lookup");
    ensure!(
        status.code() == Code::NotFound && reason(&status)? == "NOT_FOUND",
        "{status:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_shown_as_workers_tell_it() -> Result<()> {
    let mut fleet = Fleet::new("control-fleet", Options::default()).await?;
    let feed = FeedConfig {
        records: Some(2_000),
        funds: 50,
        ..FeedConfig::default()
    };
    fleet.seed(&feed).await?;
    fleet.publish(feed).await?;
    fleet.start_workers(2).await?;
    fleet.caught_up(reprise_tests::fleet::PATIENCE).await?;
    let catalog = fleet.catalog_path().display().to_string();
    let server = ControlPlane::start_on(&fleet.isolation, vec![("catalog", catalog)]).await?;
    server.ready().await?;
    let mut client = FleetServiceClient::new(server.channel());

    let lag = async || {
        let answer = client
            .clone()
            .get_lag(GetLagRequest::default())
            .await
            .map_err(|status| format!("{status:?}"))?;
        let lag = answer.into_inner();
        let whole = lag.partitions.len() == 4 && lag.unknown_partitions == 0 && lag.total_lag == 0;
        if whole { Ok(lag) } else { Err(format!("{lag:?}")) }
    };
    let lag = wait_for("no lag in four partitions", PATIENCE, lag).await?;
    let read: u64 = lag.partitions.iter().filter_map(|partition| partition.committed).sum();
    ensure!(read == 2_000, "{lag:?}");

    let workers = all_workers(&mut client).await?;
    ensure!(
        workers.len() == 2 && workers[0].worker_id < workers[1].worker_id,
        "{workers:?}"
    );
    ensure!(
        workers.iter().map(|worker| worker.partitions.len()).sum::<usize>() == 4,
        "{workers:?}"
    );

    check_types_and_lookups(&fleet, &mut client).await?;
    server.stop().await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_answers_the_calls_in_work_and_then_ends() -> Result<()> {
    const TYPES: &str = "/reprise.control.v1.FleetService/ListDataTypes";
    let mut mysql = Servers::own().mariadb().await?;
    let endpoints = endpoints_with(|all| mysql.endpoint().clone_into(&mut all.mysql)).await?;
    let isolation = Isolation::on("sigterm", endpoints).await?;
    reprise_tests::control::migrate(&isolation).await?;
    let folder = tempfile::tempdir()?;
    let settings = vec![
        ("grpc.shutdown_notice", "500ms".to_owned()),
        ("rate_limit.per_second", "0".to_owned()),
    ];
    let (mut service, grpc) = process(&isolation, folder.path(), settings)?;
    service.start()?;
    service.ready(PATIENCE).await?;
    let http = plain(service.http().trim_start_matches("http://").parse()?);
    ensure!(health(http.clone(), "").await? == ServingStatus::Serving, "not serving");
    ensure!(
        health(http.clone(), "reprise.control.v1.FleetService").await? == ServingStatus::Serving,
        "not serving"
    );

    // Calls that are in work when the signal comes, because the database does not answer.
    mysql.pause()?;
    let mut calls = JoinSet::new();
    let channels: Vec<Channel> = (0..4).map(|_| plain(grpc)).collect();
    for number in 0..40 {
        let channel = channels[number % channels.len()].clone();
        calls.spawn(async move { call(&channel, TYPES, None).await });
    }
    let client = reqwest::Client::new();
    let metrics = format!("{}/metrics", service.http());
    wait_for("40 calls in work", PATIENCE, async || {
        let text = client.get(&metrics).send().await?.text().await?;
        let line = text
            .lines()
            .find(|line| line.starts_with("reprise_grpc_calls_in_work"))
            .map(str::to_owned);
        let line = line.unwrap_or_default();
        if line.ends_with(" 40") {
            anyhow::Ok(())
        } else {
            anyhow::bail!("{line:?}")
        }
    })
    .await?;
    service.signal(Signal::SIGTERM)?;
    wait_for("health to say so first", PATIENCE, async || {
        match health(http.clone(), "").await {
            Ok(ServingStatus::NotServing) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let readyz = client.get(format!("{}/readyz", service.http())).send().await?;
    ensure!(readyz.status() == 503, "ready while it shuts down: {readyz:?}");
    mysql.resume()?;
    while let Some(ended) = calls.join_next().await {
        ended?.context("a call in work was not answered")?;
    }
    let code = service.wait(Duration::from_secs(30)).await?;
    ensure!(code == Some(0), "the exit code is {code:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_told_by_health_before_new_connections_are_refused() -> Result<()> {
    const LIMIT: Duration = Duration::from_secs(25);
    let isolation = Isolation::new("sigterm-order").await?;
    reprise_tests::control::migrate(&isolation).await?;
    let folder = tempfile::tempdir()?;
    let settings = vec![
        ("grpc.shutdown_notice", "2s".to_owned()),
        ("grpc.shutdown", format!("{}s", LIMIT.as_secs())),
    ];
    let (mut service, grpc) = process(&isolation, folder.path(), settings)?;
    service.start()?;
    service.ready(PATIENCE).await?;
    let http = plain(service.http().trim_start_matches("http://").parse()?);
    // Each call is the first one of a connection of its own.
    let on_a_new_connection = async || call(&plain(grpc), "/reprise.control.v1.FleetService/ListDataTypes", None).await;
    ensure!(health(http.clone(), "").await? == ServingStatus::Serving, "not serving");
    on_a_new_connection().await.context("before the signal")?;

    service.signal(Signal::SIGTERM)?;
    let end = tokio::time::Instant::now() + LIMIT;
    let (mut told, mut served_since) = (false, 0);
    wait_for("new connections to be refused", PATIENCE, async || {
        match (on_a_new_connection().await, told) {
            (Ok(()), true) => served_since += 1,
            (Ok(()), false) => {}
            (Err(status), true) if is_refused_connection(&status) => return Seen::Ready(()),
            // One that came just when the door was closed. An answer of the server would say its reason.
            (Err(status), true) if reason(&status).is_err() => return Seen::NotYet(format!("{status:?}")),
            (Err(status), _) => return Seen::Never(anyhow!("health said NOT_SERVING: {told}; {status:?}")),
        }
        told |= health(http.clone(), "")
            .await
            .is_ok_and(|status| status == ServingStatus::NotServing);
        Seen::NotYet(format!(
            "health said NOT_SERVING: {told}; {served_since} calls served since"
        ))
    })
    .await?;
    eprintln!("{served_since} calls were served over new connections after health said NOT_SERVING");
    ensure!(served_since > 0, "no call was taken after health said NOT_SERVING");
    let left = end.saturating_duration_since(tokio::time::Instant::now());
    let code = service.wait(left).await.context("it did not end within its limit")?;
    ensure!(code == Some(0), "the exit code is {code:?}");
    Ok(())
}

/// Tells whether nobody listens any more.
fn is_refused_connection(status: &Status) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    status.code() == Code::Unavailable
        && causes.any(|cause| {
            let problem = cause.downcast_ref::<std::io::Error>();
            problem.is_some_and(|problem| problem.kind() == std::io::ErrorKind::ConnectionRefused)
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_never_ends_does_not_keep_the_server_from_ending() -> Result<()> {
    let settings = vec![("grpc.shutdown", "2s".to_owned()), ("grpc.max_calls", "1".to_owned())];
    let server = ControlPlane::start("hanging", settings).await?;
    server.ready().await?;
    let mut calls = JoinSet::new();
    let path = "/reprise.control.v1.FleetService/ListWorkers";
    wait_for("the call to be in work", PATIENCE, async || {
        // The only place may have been taken by the other call, and then this one was refused.
        if calls.is_empty() || calls.try_join_next().is_some() {
            calls.spawn(hang(server.channel(), path));
        }
        let other = call(&server.channel(), "/grpc.health.v1.Health/Check", None).await;
        other.err().filter(|status| status.code() == Code::Unavailable)
    })
    .await?;
    tokio::time::timeout(Duration::from_secs(10), server.stop())
        .await
        .context("it did not end by its limit")??;
    let status = calls.join_next().await.context("no call")??.expect_err("it was cut");
    ensure!(status.code() != Code::Ok, "{status:?}");
    Ok(())
}

/// Tells whether a call did not reach the server: the client gave it up before it reached the connection, which is what
/// hyper's `Canceled` means, or it met the server's goodbye on its way. A goodbye without an error fails the calls that
/// the server has not begun, and no others (RFC 9113, section 6.8).
fn was_never_sent(status: &Status) -> bool {
    const GOODBYE: &str = "connection error received: not a result of an error";
    let mut causes = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    causes.any(|cause| match status.code() {
        Code::Cancelled => cause.to_string() == "connection closed",
        Code::Internal => cause.to_string() == GOODBYE,
        _ => false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_is_replaced_without_a_failed_call() -> Result<()> {
    let settings = vec![
        ("grpc.max_connection_age", "1s".to_owned()),
        ("rate_limit.per_second", "0".to_owned()),
    ];
    let server = ControlPlane::start("age", settings).await?;
    server.ready().await?;
    let channel = server.channel();
    let (mut calls, mut unsent) = (0, 0);
    let until = tokio::time::Instant::now() + Duration::from_secs(4);
    while tokio::time::Instant::now() < until {
        match call(&channel, "/grpc.health.v1.Health/Check", None).await {
            Ok(()) => calls += 1,
            // The client took the call just when the server had asked it to leave, and dropped it before anything was
            // sent. Most gRPC clients then try again by themselves; this one leaves that to its caller.
            Err(status) if was_never_sent(&status) => unsent += 1,
            Err(status) => return Err(status).with_context(|| format!("after {calls} calls")),
        }
    }
    ensure!(calls > 100 && unsent <= 4, "{calls} calls, {unsent} of them never sent");
    eprintln!("{calls} calls over connections of a second each, and {unsent} that were never sent");
    server.stop().await
}
