//! Every command of `docs/api.md` prints what the document says, and no call is missing there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use reprise_proto::v1::GetLagRequest;
use reprise_proto::v1::fleet_service_client::FleetServiceClient;
use reprise_tests::api_doc::{Example, compare, examples, keep, masked, run, with_outputs};
use reprise_tests::control::{ControlPlane, Issuer};
use reprise_tests::feed::{BadClass, BadShare, FeedConfig};
use reprise_tests::fleet::{Fleet, Options, PATIENCE};
use reprise_tests::tools;
use reprise_tests::wait::wait_for;
use tempfile::TempDir;
use tonic::Request;
use tonic::metadata::MetadataValue;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
/// The topic's name in the document.
const TOPIC: &str = "fund-data";

/// Some funds, and mostly good records of them.
fn feed() -> FeedConfig {
    FeedConfig {
        records: Some(1_000),
        funds: 20,
        bad: vec![BadShare {
            class: BadClass::NotJson,
            share: 0.01,
        }],
        ..FeedConfig::default()
    }
}

/// Every call of our services, as `Service/Method`.
fn calls() -> Result<Vec<String>> {
    let files = FileDescriptorSet::decode(reprise_proto::FILE_DESCRIPTOR_SET)?.file;
    let ours = files.iter().filter(|file| file.package() == "reprise.control.v1");
    let services = ours.flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        let methods = service.method.iter();
        methods.map(|method| format!("{}/{}", service.name(), method.name()))
    });
    Ok(calls.collect())
}

#[test]
fn each_call_is_shown_answered_and_refused() -> Result<()> {
    let examples = examples(&std::fs::read_to_string(DOCUMENT)?)?;
    let shows = |call: &str, refused: bool| {
        let of_call = |example: &&Example| example.command.trim_end().ends_with(call);
        examples
            .iter()
            .filter(of_call)
            .any(|example| example.is_refused == refused)
    };
    let missing: Vec<String> = calls()?
        .into_iter()
        .filter(|call| !shows(call, false) || !shows(call, true))
        .collect();
    ensure!(
        missing.is_empty(),
        "docs/api.md lacks an answer or a refusal of {missing:?}"
    );
    Ok(())
}

/// A fleet that has read its feed, and a control plane that takes tokens.
async fn world() -> Result<(Fleet, ControlPlane, BTreeMap<&'static str, String>, TempDir)> {
    let mut fleet = Fleet::new("api-doc", Options::quick()).await?;
    fleet.seed(&feed()).await?;
    fleet.publish(feed()).await?;
    fleet.start_workers(1).await?;
    fleet.caught_up(PATIENCE).await?;
    let keys = tempfile::tempdir()?;
    let issuer = Issuer::new("key-1")?;
    let jwks = keys.path().join("jwks.json");
    Issuer::write_jwks(&[&issuer], &jwks)?;
    let mut settings = Issuer::settings(&jwks);
    settings.push(("catalog", fleet.catalog_path().display().to_string()));
    let server = ControlPlane::start_on(&fleet.isolation, settings).await?;
    server.ready().await?;
    let token = |role| issuer.token(role, role);
    ends_are_known(&server, &token("viewer")).await?;
    let variables = BTreeMap::from([
        ("CONTROL_PLANE", server.grpc.to_string()),
        ("VIEWER", token("viewer")),
        ("OPERATOR", token("operator")),
        ("ADMIN", token("admin")),
    ]);
    Ok((fleet, server, variables, keys))
}

/// Waits until the workers' heartbeats tell where each partition ends: a worker hears of it every few seconds.
async fn ends_are_known(server: &ControlPlane, viewer: &str) -> Result<()> {
    let client = FleetServiceClient::new(server.channel());
    let bearer = format!("Bearer {viewer}").parse::<MetadataValue<_>>()?;
    wait_for("the ends of all partitions", PATIENCE, async || {
        let mut request = Request::new(GetLagRequest::default());
        request.metadata_mut().insert("authorization", bearer.clone());
        let lag = client.clone().get_lag(request).await;
        let lag = lag.map_err(|status| format!("{status:?}"))?.into_inner();
        let known = lag.partitions.len() == 4 && lag.unknown_partitions == 0 && lag.total_lag == 0;
        if known { Ok(()) } else { Err(format!("{lag:?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_prints_what_the_document_says() -> Result<()> {
    let grpcurl = tools::grpcurl().await?;
    let tools = grpcurl.parent().context("grpcurl lies in no folder")?;
    let (mut fleet, server, mut variables, _keys) = world().await?;
    let document = std::fs::read_to_string(DOCUMENT)?;
    let (mut outputs, mut wrong) = (Vec::new(), Vec::new());
    for example in examples(&document)? {
        let command = example.command.replace(TOPIC, &fleet.topic);
        let mut printed = run(&command, &variables, tools).await?;
        keep(&printed, &mut variables);
        printed.text = printed.text.replace(&fleet.topic, TOPIC);
        if let Err(error) = compare(&example, &printed) {
            wrong.push(format!("{error:#}"));
        }
        outputs.push(masked(&printed.text));
    }
    server.stop().await?;
    fleet.stop().await?;
    if !wrong.is_empty() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api.md");
        std::fs::write(&path, with_outputs(&document, &outputs))?;
        anyhow::bail!(
            "{}\n\nthe document with what was printed lies in {}",
            wrong.join("\n"),
            path.display()
        );
    }
    Ok(())
}
