//! What the image is built from, as far as that can be told without building it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use cargo_metadata::MetadataCommand;
use rdkafka::ClientConfig;
use reprise_tests::chart::{Chart, case, containers};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> Result<String> {
    fs::read_to_string(root().join(name)).with_context(|| format!("read {name}"))
}

#[test]
fn it_is_built_with_the_rust_that_the_tests_ran_with() -> Result<()> {
    let toolchain: toml::Table = toml::from_str(&read("rust-toolchain.toml")?)?;
    let channel = toolchain["toolchain"]["channel"].as_str().context("a channel")?;
    let base = format!("FROM docker.io/library/rust:{channel}-slim-");
    ensure!(
        read("Dockerfile")?.contains(&base),
        "the Dockerfile does not say {base}…"
    );
    Ok(())
}

#[test]
fn every_member_of_the_workspace_gets_into_the_build() -> Result<()> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("ask cargo for the workspace")?;
    let ignored = read(".dockerignore")?;
    let let_in: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for package in metadata.workspace_packages() {
        let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
        let folder = format!("{}/", folder.file_name().context("a folder has a name")?);
        ensure!(let_in.contains(folder.as_str()), ".dockerignore keeps {folder} out");
    }
    Ok(())
}

#[tokio::test]
async fn it_holds_every_program_that_the_chart_starts() -> Result<()> {
    let dockerfile = read("Dockerfile")?;
    let rendered = Chart::open().await?.render(&case("full"), &[])?;
    for (_, template) in rendered.pods() {
        for container in containers(template)? {
            let program = container["command"][0].as_str().context("a command")?;
            let name = program
                .strip_prefix("/usr/local/bin/")
                .with_context(|| format!("{program} lies elsewhere"))?;
            ensure!(dockerfile.contains(&format!("--bin {name} ")), "{name} is not built");
        }
    }
    Ok(())
}

#[test]
fn the_kafka_client_can_do_tls_sasl_and_all_compressions() -> Result<()> {
    let features = ClientConfig::new().create_native_config()?.get("builtin.features")?;
    let features: BTreeSet<&str> = features.split(',').map(str::trim).collect();
    for wanted in [
        "ssl",
        "sasl",
        "sasl_plain",
        "sasl_scram",
        "sasl_oauthbearer",
        "gzip",
        "snappy",
        "lz4",
        "zstd",
    ] {
        ensure!(
            features.contains(wanted),
            "librdkafka was built without {wanted}: {features:?}"
        );
    }
    Ok(())
}
