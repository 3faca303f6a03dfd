//! The whitelist as callers meet it: what each call does and says, and when every worker has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use reprise_proto::v1::audit_service_client::AuditServiceClient;
use reprise_proto::v1::whitelist_service_client::WhitelistServiceClient;
use reprise_proto::v1::*;
use reprise_shared::clock::Clock;
use reprise_shared::heartbeat;
use reprise_tests::control::{ControlPlane, PATIENCE, process, refused};
use reprise_tests::env::{Isolation, Servers};
use reprise_tests::fleet::{Fleet, Options, endpoints_with};
use reprise_tests::servers::Server as _;
use reprise_tests::wait::wait_for;
use reprise_tests::whitelist::{ONE_POLL, start};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

type Client = WhitelistServiceClient<Channel>;

fn add(ids: &[&str]) -> AddWhitelistEntriesRequest {
    AddWhitelistEntriesRequest {
        ids: ids.iter().map(ToString::to_string).collect(),
        ..AddWhitelistEntriesRequest::default()
    }
}

fn remove(ids: &[&str]) -> RemoveWhitelistEntriesRequest {
    RemoveWhitelistEntriesRequest {
        ids: ids.iter().map(ToString::to_string).collect(),
        ..RemoveWhitelistEntriesRequest::default()
    }
}

fn replace(ids: impl IntoIterator<Item = String>) -> ReplaceWhitelistRequest {
    ReplaceWhitelistRequest {
        ids: ids.into_iter().collect(),
        ..ReplaceWhitelistRequest::default()
    }
}

async fn get(client: &mut Client, data_type: &str) -> Result<Whitelist> {
    let request = GetWhitelistRequest {
        data_type: data_type.to_owned(),
    };
    let answer = client.get_whitelist(request).await?.into_inner();
    answer.whitelist.context("no whitelist")
}

async fn entries(client: &mut Client, id_prefix: &str) -> Result<Vec<WhitelistEntry>> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListWhitelistEntriesRequest {
            page_size: 2,
            page_token,
            id_prefix: id_prefix.to_owned(),
            ..ListWhitelistEntriesRequest::default()
        };
        let page = client.list_whitelist_entries(request).await?.into_inner();
        ensure!(page.entries.len() <= 2, "{page:?}");
        all.extend(page.entries);
        if page.next_page_token.is_empty() {
            return Ok(all);
        }
        page_token = page.next_page_token;
    }
}

async fn events(channel: &Channel) -> Result<Vec<AuditEvent>> {
    let mut client = AuditServiceClient::new(channel.clone());
    let answer = client.list_audit_events(ListAuditEventsRequest::default()).await?;
    Ok(answer.into_inner().events)
}

/// A list of a type, and removing and replacing.
async fn change_lists(client: &mut Client) -> Result<()> {
    let of_type = |ids: &[&str]| AddWhitelistEntriesRequest {
        data_type: "fund_risk".to_owned(),
        ..add(ids)
    };
    client.add_whitelist_entries(of_type(&["r"])).await?;
    let request = CheckWhitelistRequest {
        data_type: "fund_risk".to_owned(),
        ids: vec!["r".to_owned(), "a".to_owned()],
    };
    let checked = client.check_whitelist(request).await?.into_inner();
    let told: Vec<_> = checked
        .checks
        .iter()
        .map(|check| (check.allowed, check.decided_by.as_str(), check.entry.is_some()))
        .collect();
    ensure!(
        told == [(true, "fund_risk", true), (false, "fund_risk", false)],
        "{checked:?}"
    );

    let removed = client.remove_whitelist_entries(remove(&["a", "x"])).await?.into_inner();
    ensure!((removed.removed, removed.not_present) == (1, 1), "{removed:?}");
    let replaced = client
        .replace_whitelist(replace(["c", "d"].map(str::to_owned)))
        .await?
        .into_inner();
    ensure!(
        (replaced.added, replaced.removed, replaced.unchanged) == (1, 3, 1),
        "{replaced:?}"
    );
    Ok(())
}

/// What is on record of it all.
async fn check_record(client: &mut Client, channel: &Channel) -> Result<()> {
    let versions = client
        .list_whitelist_versions(ListWhitelistVersionsRequest::default())
        .await?
        .into_inner()
        .versions;
    let numbers: Vec<u64> = versions.iter().map(|version| version.version).collect();
    ensure!(numbers == [5, 4, 3, 2, 1], "{versions:?}");
    let last = &versions[0];
    ensure!(
        last.kind() == WhitelistChangeKind::Replace
            && last.outcome() == WhitelistChangeOutcome::Applied
            && last.added_sample == ["d"]
            && last.removed_sample.len() == 3,
        "{last:?}"
    );
    let events = events(channel).await?;
    let methods: Vec<&str> = events.iter().map(|event| event.method.as_str()).collect();
    ensure!(
        methods
            == [
                "WhitelistService/ReplaceWhitelist",
                "WhitelistService/RemoveWhitelistEntries",
                "WhitelistService/AddWhitelistEntries",
                "WhitelistService/AddWhitelistEntries",
                "WhitelistService/AddWhitelistEntries",
            ],
        "{events:?}"
    );
    ensure!(
        events[2].target == "whitelist/types/fund_risk" && events[0].target == "whitelist/global",
        "{events:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_every_call_does_what_it_says_and_is_on_record() -> Result<()> {
    let server = ControlPlane::start("wl-calls", Vec::new()).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());
    let empty = get(&mut client, "").await?;
    ensure!(
        empty.unrestricted && empty.version == 0 && empty.update_time.is_none(),
        "{empty:?}"
    );

    let request = AddWhitelistEntriesRequest {
        note: "since the merger".to_owned(),
        ..add(&["b_1", "a", "b%2", "b|3"])
    };
    let added = client.add_whitelist_entries(request).await?.into_inner();
    let list = added.whitelist.context("no whitelist")?;
    ensure!(
        (added.added, added.already_present, added.refreshed) == (4, 0, 0),
        "{list:?}"
    );
    ensure!(list == get(&mut client, "").await? && !list.unrestricted, "{list:?}");
    let again = client.add_whitelist_entries(add(&["a", "c"])).await?.into_inner();
    ensure!(
        (again.added, again.already_present, again.refreshed) == (1, 1, 1),
        "{again:?}"
    );

    let ids = |entries: Vec<WhitelistEntry>| entries.into_iter().map(|entry| entry.id).collect::<Vec<_>>();
    ensure!(ids(entries(&mut client, "").await?) == ["a", "b%2", "b_1", "b|3", "c"]);
    for (prefix, found) in [
        ("b", &["b%2", "b_1", "b|3"][..]),
        ("b_", &["b_1"]),
        ("b%", &["b%2"]),
        ("b|", &["b|3"]),
    ] {
        ensure!(ids(entries(&mut client, prefix).await?) == found, "{prefix}");
    }
    let kept = entries(&mut client, "b_1").await?.remove(0);
    ensure!(
        kept.note == "since the merger" && kept.added_by == "anonymous" && kept.add_time.is_some(),
        "{kept:?}"
    );

    change_lists(&mut client).await?;
    check_record(&mut client, &server.channel()).await?;
    server.stop().await
}

/// Everything that is wrong is told at once.
async fn all_violations(client: &mut Client) -> Result<()> {
    let status = client
        .add_whitelist_entries(AddWhitelistEntriesRequest {
            data_type: "no_type".to_owned(),
            etag: "yesterday".to_owned(),
            request_id: "two words".to_owned(),
            expire_time: Some(prost_types::Timestamp { seconds: 0, nanos: -1 }),
            note: "n".repeat(501),
            ..add(&["ok", "", "x\u{0}", " y"])
        })
        .await
        .expect_err("much is wrong");
    refused(&status, Code::InvalidArgument, "INVALID_FIELDS", "")?;
    let details = status.get_error_details();
    let violations = details.bad_request().context("no violations")?;
    let mut named: Vec<&str> = violations
        .field_violations
        .iter()
        .map(|one| one.field.as_str())
        .collect();
    named.sort_unstable();
    ensure!(
        named
            == [
                "data_type",
                "etag",
                "expire_time",
                "ids[1]",
                "ids[2]",
                "ids[3]",
                "note",
                "request_id"
            ],
        "{named:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_refused_call_says_what_to_do_and_changes_nothing() -> Result<()> {
    let server = ControlPlane::start("wl-refused", Vec::new()).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());
    client.add_whitelist_entries(add(&["a"])).await?;
    let before = get(&mut client, "").await?;

    let status = client
        .remove_whitelist_entries(remove(&["a"]))
        .await
        .expect_err("the last id");
    refused(
        &status,
        Code::FailedPrecondition,
        "WOULD_BE_UNRESTRICTED",
        "set allow_unrestricted",
    )?;
    let status = client.replace_whitelist(replace([])).await.expect_err("no id");
    refused(
        &status,
        Code::FailedPrecondition,
        "WOULD_BE_UNRESTRICTED",
        "set allow_unrestricted",
    )?;
    let status = client
        .add_whitelist_entries(AddWhitelistEntriesRequest {
            etag: "7".to_owned(),
            ..add(&["b"])
        })
        .await
        .expect_err("another version");
    refused(&status, Code::Aborted, "ETAG_MISMATCH", "read it again")?;
    all_violations(&mut client).await?;
    let rehearsed = client
        .add_whitelist_entries(AddWhitelistEntriesRequest {
            validate_only: true,
            ..add(&["a", "b"])
        })
        .await?
        .into_inner();
    ensure!((rehearsed.added, rehearsed.already_present) == (1, 1), "{rehearsed:?}");
    let status = get(&mut client, "no_type").await.expect_err("no such type");
    refused(
        status.downcast_ref().context("a status")?,
        Code::NotFound,
        "NOT_FOUND",
        "ListDataTypes",
    )?;

    ensure!(
        get(&mut client, "").await? == before,
        "a refused call changed something"
    );
    ensure!(
        events(&server.channel()).await?.len() == 1,
        "a refused call is on record as a change"
    );
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_answer_one_request_id_alike_also_at_once() -> Result<()> {
    let isolation = Isolation::new("wl-replicas").await?;
    let replicas = [
        ControlPlane::start_on(&isolation, Vec::new()).await?,
        ControlPlane::start_on(&isolation, Vec::new()).await?,
    ];
    let mut calls = JoinSet::new();
    for replica in &replicas {
        replica.ready().await?;
        for _ in 0..5 {
            let mut client = Client::new(replica.channel());
            calls.spawn(async move {
                let request = AddWhitelistEntriesRequest {
                    request_id: "the-same".to_owned(),
                    ..add(&["a", "b"])
                };
                client.add_whitelist_entries(request).await
            });
        }
    }
    let mut answers = Vec::new();
    while let Some(answer) = calls.join_next().await {
        answers.push(answer??.into_inner());
    }
    ensure!(
        answers.len() == 10 && answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    ensure!((answers[0].added, answers[0].whitelist.as_ref().map(|list| list.version)) == (2, Some(1)));

    let mut client = Client::new(replicas[1].channel());
    let other = AddWhitelistEntriesRequest {
        request_id: "the-same".to_owned(),
        ..add(&["c"])
    };
    let status = client.add_whitelist_entries(other).await.expect_err("another payload");
    refused(&status, Code::InvalidArgument, "REQUEST_ID_REUSED", "use a new one")?;
    ensure!(get(&mut client, "").await?.version == 1);
    for replica in replicas {
        replica.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_a_change_goes_on_when_its_caller_hangs_up() -> Result<()> {
    let mut redis = Servers::own().redis().await?;
    let endpoints = endpoints_with(|all| redis.endpoint().clone_into(&mut all.redis)).await?;
    let isolation = Isolation::on("wl-hangup", endpoints).await?;
    let server = ControlPlane::start_on(&isolation, Vec::new()).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());
    client.add_whitelist_entries(add(&["a"])).await?;

    redis.pause()?;
    let mut request = Request::new(AddWhitelistEntriesRequest {
        request_id: "impatient".to_owned(),
        ..add(&["b"])
    });
    request.set_timeout(Duration::from_millis(700));
    let status = client.add_whitelist_entries(request).await.expect_err("no time");
    ensure!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status:?}"
    );
    redis.resume()?;
    wait_for("the change to be settled", PATIENCE, async || {
        let list = get(&mut client.clone(), "")
            .await
            .map_err(|error| format!("{error:#}"))?;
        if list.entry_count == 2 {
            Ok(())
        } else {
            Err(format!("{list:?}"))
        }
    })
    .await?;
    let request = AddWhitelistEntriesRequest {
        request_id: "impatient".to_owned(),
        ..add(&["b"])
    };
    let told = client.add_whitelist_entries(request).await?.into_inner();
    ensure!((told.added, told.already_present) == (1, 0), "{told:?}");
    server.stop().await
}

async fn status(client: &Client, version: u64, wait: Duration) -> Result<GetWhitelistStatusResponse> {
    let request = GetWhitelistStatusRequest {
        version,
        wait: Some(prost_types::Duration::try_from(wait)?),
    };
    Ok(client.clone().get_whitelist_status(request).await?.into_inner())
}

/// What each worker says of itself, by its id: its process, and the version that it judges by.
async fn told_by_workers(fleet: &Fleet) -> Result<BTreeMap<String, (u32, Option<u64>)>> {
    let beats = heartbeat::Store::new(fleet.redis.clone(), heartbeat::Store::DEFAULT_INTERVAL);
    let workers = beats.list(Clock::system().now()).await?.workers;
    let told = |beat: heartbeat::Heartbeat| {
        let applied = beat.whitelist.applied.map(|version| version.0);
        (beat.worker, (beat.pid, applied))
    };
    Ok(workers.into_iter().map(told).collect())
}

/// Checks that an answer says of each worker what that says of itself.
async fn agrees_with_workers(fleet: &Fleet, answer: &GetWhitelistStatusResponse) -> Result<()> {
    let told = told_by_workers(fleet).await?;
    let told: Vec<_> = told.iter().map(|(id, (_, applied))| (id.as_str(), *applied)).collect();
    let answered = answer.workers.iter();
    let answered: Vec<_> = answered
        .map(|worker| (worker.worker_id.as_str(), worker.applied_version))
        .collect();
    ensure!(answered == told, "the answer: {answered:?}, the workers: {told:?}");
    Ok(())
}

/// One that hangs is a member still, and stands in the way, until it goes on.
async fn the_frozen_one_is_named_and_waited_for(fleet: &mut Fleet, client: &Client) -> Result<()> {
    const LONG: Duration = Duration::from_secs(25);
    let clock = Clock::system();
    let told = told_by_workers(fleet).await?;
    let pid = fleet.workers[2].pid().context("it runs")?.unsigned_abs();
    let mut frozen = told.iter().filter(|(_, (its, _))| *its == pid).map(|(id, _)| id);
    let frozen = frozen.next().context("it sends no heartbeat")?;
    fleet.workers[2].signal(Signal::SIGSTOP)?;
    let added = client.clone().add_whitelist_entries(add(&["late"])).await?.into_inner();
    let version = added.whitelist.context("no whitelist")?.version;
    let patient = client.clone();
    let mut waiting = start(async move { status(&patient, version, LONG).await });

    let begun = clock.monotonic();
    let behind = status(client, version, Duration::from_secs(4)).await?;
    let waited = clock.monotonic().saturating_sub(begun);
    ensure!(waited >= Duration::from_secs(4), "it did not wait: {waited:?}");
    let laggards = behind.workers.iter();
    let laggards: Vec<_> = laggards
        .filter(|worker| worker.state() != WorkerWhitelistState::Current)
        .map(|worker| (&worker.worker_id, worker.applied_version < Some(version)))
        .collect();
    ensure!(!behind.applied_everywhere && behind.workers.len() == 4, "{behind:?}");
    ensure!(laggards == [(frozen, true)], "{frozen} is frozen: {behind:?}");

    // A wait that is open when it goes on ends with it, long before its own limit.
    ensure!(!waiting.is_finished(), "it did not wait for {frozen}");
    let resumed = clock.monotonic();
    fleet.workers[2].signal(Signal::SIGCONT)?;
    let reached = (&mut waiting).await??;
    let took = clock.monotonic().saturating_sub(resumed);
    eprintln!("the open wait ended {took:?} after {frozen} went on");
    ensure!(took <= ONE_POLL, "{took:?} after {frozen} went on");
    ensure!(reached.applied_everywhere && reached.workers.len() == 4, "{reached:?}");
    agrees_with_workers(fleet, &reached).await
}

#[tokio::test(flavor = "multi_thread")]
async fn i7_waiting_ends_when_every_worker_has_it_and_names_those_that_do_not() -> Result<()> {
    let mut fleet = Fleet::new("wl-converge", Options::quick()).await?;
    fleet.start_workers(4).await?;
    let catalog = fleet.catalog_path().display().to_string();
    let server = ControlPlane::start_on(&fleet.isolation, vec![("catalog", catalog)]).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());

    let clock = Clock::system();
    let mut took = Vec::new();
    for number in 0..20 {
        let begun = clock.monotonic();
        let id = format!("0P{number:08}");
        let added = client.add_whitelist_entries(add(&[&id])).await?.into_inner();
        let version = added.whitelist.context("no whitelist")?.version;
        let status = status(&client, version, Duration::from_secs(20)).await?;
        took.push(clock.monotonic().saturating_sub(begun));
        ensure!(
            status.members_known && status.applied_everywhere && status.workers.len() == 4,
            "{status:?}"
        );
        ensure!(
            status
                .workers
                .iter()
                .all(|worker| worker.applied_version >= Some(version)),
            "{status:?}"
        );
        ensure!(
            status.version == version && status.redis_version == Some(version),
            "{status:?}"
        );
        agrees_with_workers(&fleet, &status).await?;
    }
    took.sort_unstable();
    eprintln!(
        "add and wait for four workers: median {:?}, slowest {:?}",
        took[10], took[19]
    );

    the_frozen_one_is_named_and_waited_for(&mut fleet, &client).await?;
    let version = get(&mut client, "").await?.version;
    let too_high = status(&client, version + 1, Duration::ZERO)
        .await
        .expect_err("no such version");
    refused(
        too_high.downcast_ref().context("a status")?,
        Code::NotFound,
        "NOT_FOUND",
        "no version",
    )?;
    server.stop().await?;
    fleet.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_ids_in_one_call() -> Result<()> {
    let server = ControlPlane::start("wl-many", Vec::new()).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());
    let ids = |from: u32| (from..from + 100_000).map(|number| format!("0P{number:08}"));
    let first = client.replace_whitelist(replace(ids(0))).await?.into_inner();
    ensure!((first.added, first.removed) == (100_000, 0), "{first:?}");
    let second = client.replace_whitelist(replace(ids(50_000))).await?.into_inner();
    ensure!(
        (second.added, second.removed, second.unchanged) == (50_000, 50_000, 50_000),
        "{second:?}"
    );
    let status = status(&client, 0, Duration::ZERO).await?;
    ensure!(status.redis_version == Some(status.version), "{status:?}");
    let versions = client
        .list_whitelist_versions(ListWhitelistVersionsRequest::default())
        .await?
        .into_inner()
        .versions;
    ensure!(
        versions[0].added_sample.len() == 10 && versions[0].added_count == 50_000,
        "{versions:?}"
    );
    server.stop().await
}

/// Adds ids one after the other until the server is gone, and returns those that were accepted.
async fn add_until_gone(mut client: Client, name: usize, accepted: Arc<AtomicUsize>) -> Vec<String> {
    let mut added = Vec::new();
    for number in 0.. {
        let id = format!("{name}-{number:06}");
        match client.add_whitelist_entries(add(&[&id])).await {
            Ok(_) => {
                added.push(id);
                accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => break,
        }
    }
    added
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_no_accepted_change_is_lost_when_the_server_ends() -> Result<()> {
    let isolation = Isolation::new("wl-sigterm").await?;
    reprise_tests::control::migrate(&isolation).await?;
    let folder = tempfile::tempdir()?;
    let settings = vec![("rate_limit.per_second", "0".to_owned())];
    let (mut service, grpc) = process(&isolation, folder.path(), settings)?;
    service.start()?;
    service.ready(PATIENCE).await?;
    let accepted = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for name in 0..4 {
        let client = Client::new(reprise_tests::control::plain(grpc));
        callers.spawn(add_until_gone(client, name, Arc::clone(&accepted)));
    }
    wait_for("some changes", PATIENCE, async || {
        let count = accepted.load(Ordering::Relaxed);
        if count >= 50 { Ok(()) } else { Err(count.to_string()) }
    })
    .await?;
    service.signal(Signal::SIGTERM)?;
    let code = service.wait(Duration::from_secs(40)).await?;
    ensure!(code == Some(0), "the exit code is {code:?}");
    let mut added = BTreeSet::new();
    while let Some(of_one) = callers.join_next().await {
        added.extend(of_one?);
    }

    let server = ControlPlane::start_on(&isolation, Vec::new()).await?;
    server.ready().await?;
    let mut client = Client::new(server.channel());
    let mut kept = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = ListWhitelistEntriesRequest {
            page_size: 1_000,
            page_token,
            ..ListWhitelistEntriesRequest::default()
        };
        let page = client.list_whitelist_entries(request).await?.into_inner();
        kept.extend(page.entries.into_iter().map(|entry| entry.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let lost: Vec<_> = added.difference(&kept).collect();
    eprintln!(
        "{} changes were accepted, and {} ids are on the list",
        added.len(),
        kept.len()
    );
    ensure!(lost.is_empty(), "lost: {lost:?}");
    // A change that was made when its caller was cut off may be there as well: one a caller.
    ensure!(kept.len() <= added.len() + 4, "{} of {}", kept.len(), added.len());
    server.stop().await
}
