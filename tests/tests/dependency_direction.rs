//! Dependencies between our crates point one way only:
//! `proto ← shared ← {control-plane, worker} ← tests`; `cli` uses `proto` alone; nobody uses `bench`, and nobody but
//! `bench` uses `tests`. Boundaries last only when a machine keeps them.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use cargo_metadata::{MetadataCommand, Package};

/// Each of our crates, with those of ours that it may use.
const MAY_USE: [(&str, &[&str]); 7] = [
    ("reprise-proto", &[]),
    ("reprise-shared", &["reprise-proto"]),
    ("reprise-control-plane", &["reprise-proto", "reprise-shared"]),
    ("reprise-worker", &["reprise-proto", "reprise-shared"]),
    ("reprise-cli", &["reprise-proto"]),
    (
        "reprise-tests",
        &[
            "reprise-proto",
            "reprise-shared",
            "reprise-control-plane",
            "reprise-worker",
        ],
    ),
    (
        "reprise-bench",
        &[
            "reprise-proto",
            "reprise-shared",
            "reprise-control-plane",
            "reprise-worker",
            "reprise-cli",
            "reprise-tests",
        ],
    ),
];

fn our_packages() -> Result<Vec<Package>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("ask cargo for the workspace")?;
    Ok(metadata.packages)
}

#[test]
fn every_crate_uses_only_what_it_may() -> Result<()> {
    let mut faults = Vec::new();
    for package in our_packages()? {
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
            .with_context(|| format!("{} is a new crate: say in this test what it may use", package.name))?;
        // Whatever the kind of dependency: a test inside a crate must not reach up either.
        let ours = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some());
        faults.extend(
            ours.filter(|dependency| !allowed.contains(&dependency.name.as_str()))
                .map(|dependency| format!("{} must not use {}", package.name, dependency.name)),
        );
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

#[test]
fn the_table_names_every_crate_and_no_other() -> Result<()> {
    let packages = our_packages()?;
    let found: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(found, MAY_USE.iter().map(|(name, _)| *name).collect());
    Ok(())
}

#[test]
fn the_table_has_no_way_back() {
    let rank = |name: &str| {
        MAY_USE
            .iter()
            .map(|(_, used)| used)
            .filter(|used| used.contains(&name))
            .count()
    };
    for (user, used) in MAY_USE {
        for used in used {
            assert!(
                rank(used) > rank(user),
                "{user} and {used} would use each other, directly or through others"
            );
        }
    }
}
