//! Who gets into the control plane, and who does not: tokens, certificates, addresses and roles, on the running server.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_control_plane::config::Role;
use reprise_control_plane::guard::roles::METHODS;
use reprise_proto::v1::audit_service_client::AuditServiceClient;
use reprise_proto::v1::{AuditEvent, AuditEventOutcome, ListAuditEventsRequest};
use reprise_tests::control::{Authority, ControlPlane, Issuer, PATIENCE, Settings, call, process, reason};
use reprise_tests::env::Isolation;
use reprise_tests::wait::wait_for;
use serde_json::{Value, json};
use sqlx::{Connection as _, MySqlConnection};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

#[path = "support/tokens.rs"]
mod support;
use support::{bad_tokens, with};

const READ: &str = "/grpc.health.v1.Health/Check";

/// A server that takes one issuer's tokens.
async fn with_tokens(name: &str, more: Settings) -> Result<(ControlPlane, Issuer, TempDir)> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new("key-1")?;
    let jwks = folder.path().join("jwks.json");
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let mut settings = Issuer::settings(&jwks);
    settings.extend(more);
    let server = ControlPlane::start(name, settings).await?;
    server.ready().await?;
    Ok((server, issuer, folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_bad_token_gets_in_and_none_is_shown() -> Result<()> {
    let (server, issuer, _folder) = with_tokens("bad-tokens", Vec::new()).await?;
    let channel = server.channel();
    for (fault, token) in bad_tokens(&issuer)? {
        let status = call(&channel, READ, Some(&token)).await.expect_err(fault);
        ensure!(status.code() == Code::Unauthenticated, "{fault}: {status:?}");
        ensure!(reason(&status)? == "CREDENTIALS_REFUSED", "{fault}: {status:?}");
        let shown = format!("{status:?}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            ensure!(!shown.contains(part), "{fault}: the answer shows the token");
        }
        ensure!(
            !shown.contains("mallory"),
            "{fault}: the answer shows what is in the token"
        );
    }
    let status = call(&channel, READ, None).await.expect_err("no token at all");
    ensure!(
        status.code() == Code::Unauthenticated && status.message().contains("authorization"),
        "{status:?}"
    );

    // The same server, the same key: what is right gets in, with clocks a minute apart.
    call(&channel, READ, Some(&issuer.token("alice", "viewer"))).await?;
    let now = Issuer::claims("", "")["iat"].as_i64().context("a time")?;
    let late = with(Issuer::claims("alice", "viewer"), "exp", json!(now - 30));
    call(&channel, READ, Some(&issuer.sign(&issuer.header(), &late))).await?;
    let list = with(Issuer::claims("alice", "viewer"), "aud", json!(["others", "reprise"]));
    call(&channel, READ, Some(&issuer.sign(&issuer.header(), &list))).await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_opens_its_methods_and_no_others() -> Result<()> {
    let (server, issuer, _folder) = with_tokens("roles", Vec::new()).await?;
    let channel = server.channel();
    let mut refused = 0;
    for (method, needed) in METHODS {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            let token = issuer.token("alice", role.as_str());
            let answer = call(&channel, method, Some(&token)).await;
            let denied = answer
                .as_ref()
                .is_err_and(|status| status.code() == Code::PermissionDenied);
            ensure!(denied == (role < *needed), "{method} as {role:?}: {answer:?}");
            if let Some(status) = answer.err().filter(|_| denied) {
                refused += 1;
                ensure!(reason(&status)? == "ROLE_TOO_LOW", "{status:?}");
                ensure!(status.message().contains(needed.as_str()), "{status:?}");
            }
        }
    }
    ensure!(refused > 0, "the table refuses nothing");

    let unknown = "/reprise.control.v1.WhitelistService/DropEverything";
    let status = call(&channel, unknown, Some(&issuer.token("root", "admin")))
        .await
        .expect_err("unknown");
    ensure!(status.code() == Code::Unimplemented, "{status:?}");
    for claims in [
        with(Issuer::claims("bob", ""), "role", Value::Null),
        Issuer::claims("bob", "superuser"),
        Issuer::claims("bob", "Admin"),
        with(Issuer::claims("bob", ""), "role", json!({"admin": true})),
    ] {
        let status = call(&channel, READ, Some(&issuer.sign(&issuer.header(), &claims)))
            .await
            .expect_err("no role");
        ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    }
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_read_again_and_a_broken_file_changes_nothing() -> Result<()> {
    let (server, old, folder) = with_tokens("rotation", Vec::new()).await?;
    let channel = server.channel();
    let jwks = folder.path().join("jwks.json");
    let new = Issuer::new("key-2")?;
    let token = new.token("alice", "viewer");
    call(&channel, READ, Some(&token))
        .await
        .expect_err("the key is not known yet");

    Issuer::write_jwks(&[&old, &new], &jwks)?;
    wait_for("the new key to count", PATIENCE, async || {
        call(&channel, READ, Some(&token)).await
    })
    .await?;
    call(&channel, READ, Some(&old.token("alice", "viewer"))).await?;

    std::fs::write(&jwks, "{\"keys\": [")?;
    wait_for("the broken file to be noticed", PATIENCE, async || {
        let metrics = server.metrics().await.unwrap_or_default();
        metrics.contains("reprise_reload_failed{what=\"jwks\"} 1").then_some(())
    })
    .await?;
    call(&channel, READ, Some(&token)).await?;

    Issuer::write_jwks(&[&new], &jwks)?;
    wait_for("the old key to be out", PATIENCE, async || {
        let answer = call(&channel, READ, Some(&old.token("alice", "viewer"))).await;
        answer.is_err().then_some(())
    })
    .await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_gets_in_by_its_name_and_its_authority() -> Result<()> {
    const OPERATOR: &str = "spiffe://reprise.test/operator";
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let (ours, theirs) = (Authority::new("ours")?, Authority::new("theirs")?);
    ours.server()?.write(&path("tls.pem"), &path("tls.key"))?;
    std::fs::write(path("clients.pem"), ours.pem())?;
    let settings = vec![
        ("tls.certificate_path", path("tls.pem").display().to_string()),
        ("tls.key_path", path("tls.key").display().to_string()),
        ("tls.client_ca_path", path("clients.pem").display().to_string()),
        (
            "auth.certificates",
            format!("[{{name: \"{OPERATOR}\", role: operator}}]"),
        ),
    ];
    let server = ControlPlane::start("certificates", settings).await?;
    server.ready().await?;

    let known = server.tls_channel(&ours, Some(&ours.client(OPERATOR)?))?;
    call(&known, READ, None).await?;
    let status = call(&known, "/reprise.control.v1.OffsetRangeService/PurgeOffsetRanges", None)
        .await
        .expect_err("it needs an admin");
    ensure!(
        status.code() == Code::PermissionDenied && status.message().contains(OPERATOR),
        "{status:?}"
    );

    let stranger = server.tls_channel(&ours, Some(&ours.client("spiffe://reprise.test/operator2")?))?;
    let status = call(&stranger, READ, None).await.expect_err("not on the list");
    ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    let nobody = server.tls_channel(&ours, None)?;
    let status = call(&nobody, READ, None).await.expect_err("no certificate");
    ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    for (fault, certificate) in [
        ("of another authority", theirs.client(OPERATOR)?),
        ("expired", ours.expired_client(OPERATOR)?),
    ] {
        let channel = server.tls_channel(&ours, Some(&certificate))?;
        let status = call(&channel, READ, None).await.expect_err(fault);
        ensure!(reason(&status).is_err(), "{fault}: the server answered: {status:?}");
    }
    let status = call(&server.channel(), READ, None).await.expect_err("no encryption");
    ensure!(reason(&status).is_err(), "the server answered: {status:?}");
    // How such a call fails is the client's choice of words; the server counts each connection that it turned away.
    wait_for("three handshakes to be counted as refused", PATIENCE, async || {
        let metrics = server.metrics().await.unwrap_or_default();
        let name = "reprise_grpc_connections_refused_total{reason=\"handshake\"} ";
        let count = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        if count >= Some(3) {
            Ok(())
        } else {
            Err(format!("{count:?}"))
        }
    })
    .await?;

    // A new server certificate of another authority counts for the next connection.
    theirs.server()?.write(&path("tls.pem"), &path("tls.key"))?;
    let client = ours.client(OPERATOR)?;
    wait_for("the new certificate", PATIENCE, async || {
        let channel = server
            .tls_channel(&theirs, Some(&client))
            .map_err(|error| error.to_string())?;
        call(&channel, READ, None).await.map_err(|status| format!("{status:?}"))
    })
    .await?;
    call(&known, READ, None)
        .await
        .context("a connection that is open stays open")?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_from_other_networks_are_refused_and_those_of_a_listed_one_are_served() -> Result<()> {
    let networks = |list: &str| vec![("auth.networks", list.to_owned())];
    let (server, issuer, _folder) = with_tokens("networks", networks("[10.0.0.0/8, \"fd00::/8\"]")).await?;
    let status = call(&server.channel(), READ, Some(&issuer.token("alice", "admin")))
        .await
        .expect_err("127.0.0.1 is not in 10.0.0.0/8");
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    ensure!(reason(&status)? == "ADDRESS_DENIED", "{status:?}");
    server.stop().await?;

    // The same call, from an address in the second network of a list; and a listed caller needs a good token all the same.
    let (server, issuer, _folder) = with_tokens("own-network", networks("[10.0.0.0/8, 127.0.0.0/8]")).await?;
    call(&server.channel(), READ, Some(&issuer.token("alice", "admin")))
        .await
        .context("127.0.0.1 is in 127.0.0.0/8")?;
    let status = call(&server.channel(), READ, None).await.expect_err("no token");
    ensure!(reason(&status)? == "CREDENTIALS_REFUSED", "{status:?}");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_be_open_to_all_does_not_start() -> Result<()> {
    let isolation = Isolation::new("exposed").await?;
    let folder = tempfile::tempdir()?;
    let outside = vec![("grpc.listen", "0.0.0.0:0".to_owned())];
    let (mut service, _) = process(&isolation, folder.path(), outside)?;
    service.start()?;
    let code = service.wait(Duration::from_secs(30)).await?;
    ensure!(code == Some(1), "the exit code is {code:?}");
    let log = std::fs::read_to_string(folder.path().join("control-plane.log"))?;
    ensure!(log.contains("grpc.listen") && log.contains("insecure"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_refused_calls_are_on_record_together() -> Result<()> {
    const CALLS: u64 = 40;
    let (server, issuer, _folder) = with_tokens("denied", Vec::new()).await?;
    let viewer = issuer.token("eve", "viewer");
    let channel = server.channel();
    for _ in 0..CALLS {
        let path = "/reprise.control.v1.OffsetRangeService/PurgeOffsetRanges";
        let status = call(&channel, path, Some(&viewer))
            .await
            .expect_err("it needs an admin");
        ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    }
    let operator = issuer.token("ann", "operator");
    let bearer: MetadataValue<_> = format!("Bearer {operator}").parse()?;
    let events = wait_for("the refused calls to be on record", PATIENCE, async || {
        let mut request = Request::new(ListAuditEventsRequest {
            principal: "eve".to_owned(),
            outcome: AuditEventOutcome::Denied.into(),
            ..ListAuditEventsRequest::default()
        });
        request.metadata_mut().insert("authorization", bearer.clone());
        let answer = AuditServiceClient::new(channel.clone())
            .list_audit_events(request)
            .await?;
        let events = answer.into_inner().events;
        let calls = |event: &AuditEvent| -> Option<u64> {
            serde_json::from_str::<Value>(&event.after_json).ok()?["calls"].as_u64()
        };
        let counted: u64 = events.iter().filter_map(calls).sum();
        ensure!(counted == CALLS, "{counted}: {events:?}");
        Ok(events)
    })
    .await?;
    let event = &events[0];
    ensure!(events.len() <= 2, "not together: {events:?}");
    ensure!(
        (event.method.as_str(), event.reason.as_str()) == ("OffsetRangeService/PurgeOffsetRanges", "ROLE_TOO_LOW"),
        "{event:?}"
    );
    server.stop().await
}

/// What is on record of refused calls: by caller, method and reason, the number of rows and the calls of all.
type Denied = BTreeMap<(String, String, String), (usize, u64)>;

async fn denied(isolation: &Isolation) -> Result<Denied> {
    let query = "SELECT principal, method, reason, after_state FROM audit_events WHERE outcome = 'denied'";
    let mut connection = MySqlConnection::connect(&isolation.mysql_url()).await?;
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(query).fetch_all(&mut connection).await?;
    let mut found = Denied::new();
    for (principal, method, reason, after) in rows {
        let calls = serde_json::from_str::<Value>(&after)?["calls"].as_u64();
        let (rows, sum) = found.entry((principal, method, reason)).or_default();
        *rows += 1;
        *sum += calls.with_context(|| format!("no number of calls in {after}"))?;
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn i8_calls_refused_for_other_reasons_are_on_record_together_too() -> Result<()> {
    const CALLS: u64 = 40;
    const PURGE: &str = "/reprise.control.v1.OffsetRangeService/PurgeOffsetRanges";
    let isolation = Isolation::new("denied-otherwise").await?;
    let folder = tempfile::tempdir()?;
    let (issuer, jwks) = (Issuer::new("key-1")?, folder.path().join("jwks.json"));
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let (mut settings, mut narrow) = (Issuer::settings(&jwks), Issuer::settings(&jwks));
    settings.push(("rate_limit.per_second", "1".to_owned()));
    settings.push(("rate_limit.burst", "5".to_owned()));
    settings.push(("grpc.shutdown_notice", "2s".to_owned()));
    narrow.push(("auth.networks", "[10.0.0.0/8]".to_owned()));
    let server = ControlPlane::start_on(&isolation, settings).await?;
    let elsewhere = ControlPlane::start_on(&isolation, narrow).await?;
    server.ready().await?;
    elsewhere.ready().await?;
    let (channel, from_outside) = (server.channel(), elsewhere.channel());

    let strangers = [None, Some(Issuer::new("key-1")?.token("mallory", "admin"))];
    for (_, token) in (1..CALLS).zip(strangers.iter().cycle()) {
        let status = call(&channel, PURGE, token.as_deref()).await.expect_err("nobody known");
        ensure!(status.code() == Code::Unauthenticated, "{status:?}");
    }
    let admin = issuer.token("alice", "admin");
    for _ in 0..CALLS {
        let status = call(&from_outside, PURGE, Some(&admin)).await.expect_err("outside");
        ensure!(reason(&status)? == "ADDRESS_DENIED", "{status:?}");
    }
    let greedy = issuer.token("greedy", "viewer");
    let mut limited = 0;
    while limited < CALLS {
        if let Err(status) = call(&channel, READ, Some(&greedy)).await {
            ensure!(reason(&status)? == "RATE_LIMITED", "{status:?}");
            limited += 1;
        }
    }
    // What was not told yet is told at shutdown, of which calls are still taken for a while and refused.
    server.ask_to_stop();
    let readyz = format!("http://{}/readyz", server.http);
    wait_for("the shutdown to begin", PATIENCE, async || {
        let answer = reqwest::get(&readyz).await.ok()?;
        (answer.status() == 503).then_some(())
    })
    .await?;
    let status = call(&channel, PURGE, None).await.expect_err("nobody known");
    ensure!(reason(&status)? == "CREDENTIALS_REFUSED", "{status:?}");
    server.stop().await?;
    elsewhere.stop().await?;

    let found = denied(&isolation).await?;
    let kinds = [
        ("127.0.0.1", "OffsetRangeService/PurgeOffsetRanges", "ADDRESS_DENIED"),
        (
            "127.0.0.1",
            "OffsetRangeService/PurgeOffsetRanges",
            "CREDENTIALS_REFUSED",
        ),
        ("greedy", "Health/Check", "RATE_LIMITED"),
    ];
    let kinds = kinds.map(|(caller, method, reason)| (caller.to_owned(), method.to_owned(), reason.to_owned()));
    ensure!(found.keys().eq(&kinds), "{found:?}");
    // Ten seconds end where they end, so the calls of a kind may lie on both sides.
    ensure!(
        found.values().all(|(rows, calls)| *rows <= 2 && *calls == CALLS),
        "{found:?}"
    );
    Ok(())
}
