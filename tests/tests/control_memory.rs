//! The memory of the control plane stays within the bound that `docs/operating.md` states, whatever callers send.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use prost::bytes::{BufMut as _, BytesMut};
use prost::encoding::encode_varint;
use reprise_tests::control::{Encoded, Issuer, PATIENCE, call, migrate, open_streams, plain, process, reason, send};
use reprise_tests::env::Isolation;
use reprise_tests::kernel::memory;
use tokio::task::JoinSet;
use tonic::{Code, Status};

const WORKERS: &str = "/reprise.control.v1.FleetService/ListWorkers";
const CHECK: &str = "/reprise.control.v1.WhitelistService/CheckWhitelist";
const ADD: &str = "/reprise.control.v1.WhitelistService/AddWhitelistEntries";
const REPLACE: &str = "/reprise.control.v1.WhitelistService/ReplaceWhitelist";
/// The field of a list of ids, in all these requests.
const IDS: u8 = 2;

/// Returns the bound that the documentation states.
fn documented_mib() -> Result<u64> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md");
    let text = std::fs::read_to_string(page)?;
    let stated = text
        .split("memory stays below **")
        .nth(1)
        .context("no bound is stated")?;
    let number = stated.split(' ').next().context("no number")?;
    number.parse().with_context(|| format!("{number:?} is no number"))
}

/// Makes calls side by side and returns how they ended, one code each.
async fn all(
    calls: impl IntoIterator<Item = impl Future<Output = Result<(), Status>> + Send + 'static>,
) -> Result<Vec<Code>> {
    let mut running = JoinSet::new();
    for call in calls {
        running.spawn(call);
    }
    let mut codes = Vec::new();
    while let Some(ended) = running.join_next().await {
        codes.push(ended?.err().map_or(Code::Ok, |status| {
            if status.code() == Code::Unknown || status.code() == Code::Internal {
                eprintln!("{status:?}");
            }
            status.code()
        }));
    }
    Ok(codes)
}

fn summary(codes: &[Code]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for code in codes {
        *counts.entry(format!("{code:?}")).or_insert(0) += 1;
    }
    format!("{counts:?}")
}

/// A request with so many different ids that would be taken, each of 20 letters.
fn good_ids(count: u32) -> Encoded {
    let mut bytes = BytesMut::new();
    for number in 0..count {
        bytes.put_u8(IDS << 3 | 2);
        encode_varint(20, &mut bytes);
        bytes.put_slice(format!("F{number:019}").as_bytes());
    }
    Encoded(bytes.freeze())
}

/// Sends one message by several callers with a connection each.
async fn by_many(grpc: SocketAddr, tokens: &[String], path: &'static str, message: Encoded) -> Result<Vec<Code>> {
    all(tokens.iter().cloned().map(|token| {
        let message = message.clone();
        async move { send(&plain(grpc), path, Some(&token), message).await }
    }))
    .await
}

/// Makes 10,000 calls as fast as they are answered, of which the rate limit has to refuse some.
async fn calls_without_end(grpc: SocketAddr, tokens: &[String]) -> Result<Vec<Code>> {
    all((0..20).map(|number| {
        let (channel, token) = (plain(grpc), tokens[number % tokens.len()].clone());
        async move {
            let mut served = 0;
            for _ in 0..500 {
                match call(&channel, WORKERS, Some(&token)).await {
                    Ok(()) => served += 1,
                    Err(status) if reason(&status).is_ok_and(|why| why == "RATE_LIMITED") => {}
                    Err(status) => return Err(status),
                }
            }
            if served == 500 {
                return Err(Status::internal("all were served"));
            }
            Ok(())
        }
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn i6_no_attack_takes_more_memory_than_is_documented() -> Result<()> {
    let bound = documented_mib()?;
    let isolation = Isolation::new("memory").await?;
    migrate(&isolation).await?;
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new("key-1")?;
    let jwks = folder.path().join("jwks.json");
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let (mut service, grpc) = process(&isolation, folder.path(), Issuer::settings(&jwks))?;
    service.start()?;
    service.ready(PATIENCE).await?;
    let pid = service.pid().context("it does not run")?;
    let tokens: Vec<String> = (0..48)
        .map(|number| issuer.token(&format!("mallory-{number}"), "admin"))
        .collect();
    let told = |what: &str, codes: &[Code]| -> Result<()> {
        eprintln!("{what}: {:.0} MiB so far, {}", memory(pid)?.peak, summary(codes));
        Ok(())
    };
    told("at rest", &[])?;

    let large = "x".repeat(64_000);
    let refused = all((0..64).map(|_| {
        let (channel, large) = (plain(grpc), large.clone());
        async move {
            for _ in 0..20 {
                call(&channel, WORKERS, Some(&large)).await.expect_err("no token");
            }
            Ok(())
        }
    }))
    .await?;
    told("1,280 tokens of 64 KB", &refused)?;

    for (path, size) in [(CHECK, 300 << 10), (ADD, 5 << 20)] {
        let codes = by_many(grpc, &tokens, path, Encoded(vec![b'x'; size].into())).await?;
        ensure!(codes.iter().all(|code| *code == Code::ResourceExhausted), "{codes:?}");
        told("messages above the limit", &codes)?;
    }

    let million = Encoded::repeated(IDS, "a", 1_000_000);
    for (path, message) in [
        (CHECK, Encoded::repeated(IDS, "", 120_000)),
        (ADD, million),
        (ADD, Encoded::repeated(IDS, "", 2_000_000)),
    ] {
        let codes = by_many(grpc, &tokens, path, message).await?;
        told("a million ids", &codes)?;
        ensure!(
            codes.iter().all(|code| *code == Code::InvalidArgument),
            "{}",
            summary(&codes)
        );
    }

    // As much as is taken, from many at once; most of it does not come to its turn in time.
    let codes = by_many(grpc, &tokens[..12], REPLACE, good_ids(150_000)).await?;
    ensure!(codes.contains(&Code::Ok), "{}", summary(&codes));
    told("lists of 150,000 ids", &codes)?;

    let cut = (0..20).map(|_| async move {
        let streams = tokio::time::timeout(PATIENCE, open_streams(grpc, WORKERS, 10_000)).await;
        streams
            .map_err(|_| Status::internal("the connection was not cut off"))?
            .map_err(|error| Status::internal(error.to_string()))
    });
    told("20 times 10,000 streams", &all(cut).await?)?;

    let limited = calls_without_end(grpc, &tokens[..2]).await?;
    ensure!(limited.iter().all(|code| *code == Code::Ok), "{}", summary(&limited));
    told("10,000 calls of two callers", &limited)?;

    let peak = memory(pid)?.peak.ceil() as u64;
    ensure!(peak < bound, "it took {peak} MiB; the documentation says {bound}");
    let modest = issuer.token("modest", "viewer");
    let served = tokio::time::timeout(Duration::from_secs(10), call(&plain(grpc), WORKERS, Some(&modest))).await;
    served.context("another caller waits")??;
    service.stop().await
}
