//! Who gets into the control plane, and who does not: tokens, certificates, addresses and roles, on the running server.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reprise_control_plane::config::Role;
use reprise_control_plane::guard::roles::METHODS;
use reprise_proto::v1::audit_service_client::AuditServiceClient;
use reprise_proto::v1::{AuditEvent, AuditEventOutcome, ListAuditEventsRequest};
use reprise_tests::control::{Authority, ControlPlane, Issuer, PATIENCE, Settings, call, plain, process, reason};
use reprise_tests::env::Isolation;
use reprise_tests::wait::wait_for;
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

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

/// Changes one claim or header field; null takes it away.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    let fields = object.as_object_mut().expect("an object");
    if value.is_null() {
        fields.remove(name);
    } else {
        fields.insert(name.to_owned(), value);
    }
    object
}

/// Every token that must not be taken, with what is wrong with it.
fn bad_tokens(issuer: &Issuer) -> Result<Vec<(&'static str, String)>> {
    let claims = || Issuer::claims("mallory", "admin");
    let now = claims()["iat"].as_i64().context("a time")?;
    let claim = |name: &str, value: Value| issuer.sign(&issuer.header(), &with(claims(), name, value));
    let header = |name: &str, value: Value| issuer.sign(&with(issuer.header(), name, value), &claims());
    let none = |name: &str| issuer.sign_with(&with(issuer.header(), "alg", json!(name)), &claims(), |_| Vec::new());
    let public = issuer.public_key().to_vec();
    let by_public_key = issuer.sign_with(&with(issuer.header(), "alg", json!("HS256")), &claims(), |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &public);
        hmac::sign(&key, message).as_ref().to_vec()
    });
    let good = issuer.token("mallory", "admin");
    let (message, signature) = good.rsplit_once('.').context("three parts")?;
    let raised = issuer.token("mallory", "viewer");
    let viewers_signature = raised.rsplit_once('.').context("three parts")?.1;
    Ok(vec![
        ("alg none", none("none")),
        ("alg None", none("None")),
        ("no signature", format!("{message}.")),
        ("a signature of other claims", format!("{message}.{viewers_signature}")),
        ("a cut signature", format!("{message}.{}", &signature[..20])),
        ("HS256 by the public key", by_public_key),
        ("another algorithm", header("alg", json!("ES256"))),
        ("another kid", header("kid", json!("key-2"))),
        ("a kid that is a path", header("kid", json!("../../../../dev/null"))),
        ("no kid", header("kid", Value::Null)),
        (
            "a key of another issuer",
            Issuer::new("key-1")?.token("mallory", "admin"),
        ),
        (
            "an embedded key",
            header(
                "jwk",
                json!({"kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": "EdDSA"}),
            ),
        ),
        ("a link to keys", header("jku", json!("https://keys.test/jwks.json"))),
        ("a critical extension", header("crit", json!(["b64"]))),
        ("another kind of token", header("typ", json!("secevent+jwt"))),
        ("another audience", claim("aud", json!("others"))),
        ("no audience", claim("aud", Value::Null)),
        ("another issuer", claim("iss", json!("https://issuer.test.evil"))),
        (
            "a list of issuers",
            claim("iss", json!(["https://issuer.test", "https://evil.test"])),
        ),
        ("no issuer", claim("iss", Value::Null)),
        ("no end", claim("exp", Value::Null)),
        ("an end as text", claim("exp", json!((now + 600).to_string()))),
        ("an end long ago", claim("exp", json!(now - 3_600))),
        ("an end beyond the leeway", claim("exp", json!(now - 75))),
        ("a negative end", claim("exp", json!(-1))),
        ("a beginning in an hour", claim("nbf", json!(now + 3_600))),
        ("a beginning as text", claim("nbf", json!("soon"))),
        ("no subject", claim("sub", Value::Null)),
        ("a subject with a line break", claim("sub", json!("mallory\nadmin"))),
        ("an endless subject", claim("sub", json!("m".repeat(300)))),
        ("64 KB", claim("padding", json!("x".repeat(64 << 10)))),
        ("nothing", String::new()),
        ("no token", "not.a.token".to_owned()),
        ("a dot", ".".to_owned()),
    ])
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
async fn callers_from_other_networks_are_refused() -> Result<()> {
    let networks = vec![("auth.networks", "[10.0.0.0/8, \"fd00::/8\"]".to_owned())];
    let (server, issuer, _folder) = with_tokens("networks", networks).await?;
    let status = call(&server.channel(), READ, Some(&issuer.token("alice", "admin")))
        .await
        .expect_err("127.0.0.1 is not in 10.0.0.0/8");
    ensure!(status.code() == Code::PermissionDenied, "{status:?}");
    ensure!(reason(&status)? == "ADDRESS_DENIED", "{status:?}");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_of_a_server_that_refuses_and_serves() -> Result<()> {
    let isolation = Isolation::new("secrets").await?;
    reprise_tests::control::migrate(&isolation).await?;
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new("key-1")?;
    let jwks = folder.path().join("jwks.json");
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let mut settings = Issuer::settings(&jwks);
    let redis = isolation
        .redis_url()
        .replacen("redis://", "redis://default:hunter2@", 1);
    settings.push(("redis.url", redis));
    settings.push(("log.filter", "debug".to_owned()));
    let (mut service, grpc) = process(&isolation, folder.path(), settings)?;
    service.start()?;
    service.ready(PATIENCE).await?;
    let channel = plain(grpc);
    let mut secrets = vec!["hunter2".to_owned()];
    for (_, token) in bad_tokens(&issuer)? {
        let _refused = call(&channel, READ, Some(&token)).await;
        secrets.extend(token.split('.').filter(|part| part.len() > 8).map(str::to_owned));
    }
    let good = issuer.token("alice", "viewer");
    call(&channel, READ, Some(&good)).await?;
    secrets.extend(good.split('.').map(str::to_owned));
    service.stop().await?;

    let log = std::fs::read_to_string(folder.path().join("control-plane.log"))?;
    ensure!(log.contains("calls were refused"), "refused calls are not told:\n{log}");
    ensure!(log.contains("CREDENTIALS_REFUSED"), "the reason is not told:\n{log}");
    for secret in secrets {
        ensure!(!log.contains(&secret), "the log shows {secret}");
    }
    Ok(())
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
