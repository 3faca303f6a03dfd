//! The house's rules that no lint knows, and those of `deny.toml` for machines without cargo-deny.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cargo_metadata::MetadataCommand;
use serde::Deserialize;

/// Beyond it, a file holds more than one idea.
const LONGEST_FILE: usize = 600;
/// A `main.rs` parses, loads, starts and returns an exit code.
const LONGEST_MAIN: usize = 60;
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this crate lies in a folder of the workspace")
}

/// Every Rust file of every crate, with its text.
fn rust_files() -> Result<Vec<(PathBuf, String)>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("ask cargo for the workspace")?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for package in &metadata.packages {
        let home = package.manifest_path.parent().context("a manifest lies in a folder")?;
        folders.extend(["src", "tests", "benches", "examples"].map(|name| home.join(name).into_std_path_buf()));
    }
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                files.push((path, text));
            }
        }
    }
    assert!(
        files.len() > 20,
        "only {} files were found: this test looks in the wrong place",
        files.len()
    );
    Ok(files)
}

/// Fails with every file that breaks a rule.
fn no_file(rule: &str, breaks: impl Fn(&Path, &str) -> bool) -> Result<()> {
    let files = rust_files()?;
    let faults: Vec<String> = files
        .iter()
        .filter(|(path, text)| breaks(path, text))
        .map(|(path, _)| path.strip_prefix(root()).unwrap_or(path).display().to_string())
        .collect();
    assert!(faults.is_empty(), "{rule}:\n{}", faults.join("\n"));
    Ok(())
}

#[test]
fn modules_are_named_after_their_file() -> Result<()> {
    no_file("write foo.rs and foo/bar.rs, not foo/mod.rs", |path, _| {
        path.ends_with("mod.rs")
    })
}

#[test]
fn files_hold_one_idea() -> Result<()> {
    no_file(
        &format!("more than {LONGEST_FILE} lines without the tests: make it two files"),
        |path, text| !is_test(path) && lines_without_tests(text) > LONGEST_FILE,
    )
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() -> Result<()> {
    // Put together here, so that this file does not break its own rule.
    let attributes = [["#[", "allow("].concat(), ["#![", "allow("].concat()];
    no_file("write #[expect(…, reason = \"…\")]", |_, text| {
        attributes.iter().any(|attribute| text.contains(attribute))
    })
}

#[test]
fn binaries_are_thin() -> Result<()> {
    no_file(
        &format!("a main.rs of more than {LONGEST_MAIN} lines: it belongs in the library"),
        |path, text| path.ends_with("main.rs") && text.lines().count() > LONGEST_MAIN,
    )
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs")
        || path
            .strip_prefix(root())
            .is_ok_and(|path| path.iter().skip(1).any(|part| part == "tests"))
}

/// Counts up to the first module of tests, which stands last in a file.
fn lines_without_tests(text: &str) -> usize {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]"))
        .count()
}

/// What `deny.toml` says, as far as this test knows it.
#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    #[serde(rename = "crate")]
    name_and_version: String,
    reason: String,
}

fn deny() -> Result<Deny> {
    toml::from_str(&fs::read_to_string(root().join("deny.toml"))?).context("read deny.toml")
}

/// Every crate that a build for Linux resolves.
fn resolved() -> Result<Vec<cargo_metadata::Package>> {
    let options = ["--filter-platform", "x86_64-unknown-linux-gnu", "--locked"]
        .map(str::to_owned)
        .to_vec();
    Ok(MetadataCommand::new()
        .other_options(options)
        .exec()
        .context("ask cargo what it resolves")?
        .packages)
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() -> Result<()> {
    let allowed = deny()?.licenses.allow;
    let mut faults = Vec::new();
    for package in resolved()?.iter().filter(|package| package.source.is_some()) {
        let licence = package.license.as_deref().unwrap_or("no licence");
        if !is_allowed(licence, &allowed) {
            faults.push(format!("{} {}: {licence}", package.name, package.version));
        }
    }
    assert!(faults.is_empty(), "not in deny.toml:\n{}", faults.join("\n"));
    Ok(())
}

#[test]
fn every_dependency_comes_from_the_public_registry() -> Result<()> {
    for package in resolved()? {
        if let Some(source) = &package.source {
            assert_eq!(source.repr, REGISTRY, "{} {}", package.name, package.version);
        }
    }
    Ok(())
}

#[test]
fn two_versions_of_a_crate_need_a_reason() -> Result<()> {
    let deny = deny()?;
    assert!(
        deny.bans.skip.iter().all(|skip| !skip.reason.trim().is_empty()),
        "a reason in deny.toml is empty"
    );
    let skipped: BTreeSet<&str> = deny
        .bans
        .skip
        .iter()
        .map(|skip| skip.name_and_version.as_str())
        .collect();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for package in resolved()? {
        let name_and_version = format!("{}@{}", package.name, package.version);
        if !skipped.contains(name_and_version.as_str()) {
            versions
                .entry(package.name.to_string())
                .or_default()
                .insert(package.version.to_string());
        }
        found.insert(name_and_version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(
        versions.is_empty(),
        "skip the older one in deny.toml, with its reason: {versions:?}"
    );
    let stale: Vec<&&str> = skipped.iter().filter(|skipped| !found.contains(**skipped)).collect();
    assert!(stale.is_empty(), "no longer needed in deny.toml: {stale:?}");
    Ok(())
}

/// Judges an SPDX expression: a choice needs one allowed licence, a conjunction all of them. An exception (`WITH`)
/// only adds permissions, and `/` is how `OR` was written once.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    let (mut depth, mut start) = (0_i32, 0);
    let mut operands: Vec<(&str, &str)> = Vec::new();
    let mut operator = "AND";
    for (at, letter) in expression.char_indices() {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        let rest = &expression[at..];
        for next in ["AND", "OR"] {
            if depth == 0 && rest.starts_with(&format!(" {next} ")) && at >= start {
                operands.push((operator, expression[start..at].trim()));
                (operator, start) = (next, at + next.len() + 2);
            }
        }
    }
    operands.push((operator, expression[start..].trim()));
    // AND binds more tightly than OR.
    let mut answer = false;
    let mut all = true;
    for (operator, operand) in operands {
        if operator == "OR" {
            answer |= all;
            all = true;
        }
        let inner = operand.strip_prefix('(').and_then(|operand| operand.strip_suffix(')'));
        all &= inner.map_or_else(
            || allowed.contains(operand.split(" WITH ").next().unwrap_or(operand)),
            |inner| is_allowed(inner, allowed),
        );
    }
    answer | all
}

#[test]
fn licence_expressions_are_judged_as_spdx_means_them() {
    let allowed: BTreeSet<String> = ["MIT", "Apache-2.0"].map(str::to_owned).into();
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "GPL-3.0 AND X OR MIT",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "no licence",
        "(MIT OR Apache-2.0) AND GPL-3.0",
        "MIT AND GPL-3.0 OR X",
    ] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}
