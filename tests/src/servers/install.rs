//! Finds the servers' programs, and installs what is missing after saying so.
//!
//! Debian packages are installed by apt-get when this is root; their own services are neither started nor needed.
//! Kafka has no package: Maven resolves its jars once into a cache folder outside the checkout.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{process::Command, time::timeout};

use super::Kind;

/// The version in `tests/sandbox/kafka/pom.xml`.
const KAFKA_VERSION: &str = "4.2.0";
const KAFKA_POM: &str = include_str!("../../sandbox/kafka/pom.xml");
/// The oldest Java that this Kafka's broker runs on.
const OLDEST_JAVA: u32 = 17;
/// For one call of apt-get or Maven on a slow line.
const INSTALL_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Where Debian keeps servers; often not in the path of a user who is not root.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Makes sure that the programs of these servers are there. Cheap when they are.
///
/// # Errors
/// Something is missing and could not be installed; the message says what to do.
pub async fn ensure(kinds: &[Kind]) -> Result<()> {
    let wants_kafka = kinds.contains(&Kind::Kafka);
    let wants_jars = wants_kafka && !is_complete(&kafka_jars()?);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    if kinds.contains(&Kind::MariaDb) {
        wanted.extend([("mariadbd", "mariadb-server"), ("mariadb-install-db", "mariadb-server")]);
    }
    if kinds.contains(&Kind::Redis) {
        wanted.push(("redis-server", "redis-server"));
    }
    if wants_kafka {
        wanted.push(("java", "default-jre-headless"));
    }
    if wants_jars {
        wanted.push(("mvn", "maven"));
    }
    let mut packages: Vec<&str> = wanted
        .iter()
        .filter(|(name, _)| program(name).is_err())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if !packages.is_empty() {
        install_packages(&packages).await?;
    }
    if wants_kafka {
        check_java().await?;
    }
    if wants_jars {
        install_kafka(&kafka_jars()?).await?;
    }
    for (name, _) in wanted {
        program(name)?;
    }
    Ok(())
}

/// The path of an installed program.
///
/// # Errors
/// It is neither in the path nor where Debian keeps servers.
pub fn program(name: &str) -> Result<PathBuf> {
    which::which(name)
        .or_else(|_| {
            which::which_in_global(name, Some(SYSTEM_FOLDERS.join(":")))?
                .next()
                .ok_or(which::Error::CannotFindBinaryPath)
        })
        .with_context(|| format!("find the program {name}"))
}

/// The folder of Kafka's jars, `${XDG_CACHE_HOME:-~/.cache}/reprise/kafka-<version>`, there or not.
///
/// # Errors
/// There is no home folder.
pub fn kafka_jars() -> Result<PathBuf> {
    Ok(crate::env::cache_folder()?.join(format!("kafka-{KAFKA_VERSION}")))
}

fn is_complete(jars: &Path) -> bool {
    jars.join(format!("kafka_2.13-{KAFKA_VERSION}.jar")).is_file()
}

pub(crate) async fn install_packages(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let by_hand = format!("install them by hand: apt-get install --no-install-recommends {list}");
    let apt = program("apt-get").with_context(|| format!("these programs are missing: {list}"))?;
    // Files under /proc belong to whom the process runs as.
    ensure!(
        fs::metadata("/proc/self")?.uid() == 0,
        "missing Debian packages, and this is not root; {by_hand}"
    );
    eprintln!("about to install these Debian packages with apt-get: {list}");
    let _no_services = KeepServicesDown::new()?;
    // A list that is a few days old names files that are gone, so it is renewed first.
    run(&apt, ["update", "-q"]).await.with_context(|| by_hand.clone())?;
    let options = [
        "install",
        "-q",
        "-y",
        "--no-install-recommends",
        "-o",
        "DPkg::Lock::Timeout=300",
    ];
    run(&apt, options.iter().chain(packages)).await.with_context(|| by_hand)
}

/// Tells Debian's maintainer scripts to start no service, while it lives.
struct KeepServicesDown {
    ours: bool,
}

impl KeepServicesDown {
    fn new() -> Result<Self> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o755)
            .open(POLICY);
        match file {
            Ok(mut file) => {
                std::io::Write::write_all(&mut file, b"#!/bin/sh\nexit 101\n").context("write policy-rc.d")?;
                Ok(Self { ours: true })
            }
            // The machine has a policy of its own: it knows better.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self { ours: false }),
            Err(error) => Err(error).with_context(|| format!("create {POLICY}")),
        }
    }
}

impl Drop for KeepServicesDown {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("could not remove {POLICY}, which keeps services from being started: {error}");
        }
    }
}

async fn check_java() -> Result<()> {
    let java = program("java")?;
    let output = Command::new(&java)
        .arg("-version")
        .output()
        .await
        .context("ask java for its version")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let found = java_major(&text).with_context(|| format!("read the version of {}: {text}", java.display()))?;
    ensure!(
        found >= OLDEST_JAVA,
        "{} is Java {found}, but Kafka {KAFKA_VERSION} needs {OLDEST_JAVA} or newer; put a newer one first in the path",
        java.display()
    );
    Ok(())
}

/// Reads 17 from `openjdk version "17.0.15" 2025-04-15`.
fn java_major(text: &str) -> Option<u32> {
    let version = text.lines().find_map(|line| line.split_once(" version \""))?.1;
    version.split(['.', '"', '-']).next()?.parse().ok()
}

async fn install_kafka(jars: &Path) -> Result<()> {
    let cache = jars.parent().context("the cache folder has no parent")?;
    eprintln!(
        "about to resolve Apache Kafka {KAFKA_VERSION} with Maven into {} (about 60 MB)",
        jars.display()
    );
    fs::create_dir_all(cache).with_context(|| format!("create {}", cache.display()))?;
    // Into a folder of our own first: the final name appears at once and whole, however many do this at a time.
    let part = tempfile::Builder::new()
        .prefix("kafka-part-")
        .tempdir_in(cache)
        .context("create a folder")?;
    let pom = part.path().join("pom.xml");
    fs::write(&pom, KAFKA_POM).context("write the pom")?;
    let output = part.path().join("jars");
    let arguments: [OsString; 7] = [
        "-q".into(),
        "-B".into(),
        "-f".into(),
        pom.into_os_string(),
        "dependency:copy-dependencies".into(),
        [OsStr::new("-DoutputDirectory="), output.as_os_str()]
            .into_iter()
            .collect(),
        "-DincludeScope=runtime".into(),
    ];
    run(&program("mvn")?, arguments).await.context("resolve Kafka")?;
    ensure!(
        is_complete(&output),
        "Maven ended well but left no Kafka in {}",
        output.display()
    );
    match fs::rename(&output, jars) {
        Err(error) if !is_complete(jars) => Err(error).with_context(|| format!("create {}", jars.display())),
        _ => Ok(()),
    }
}

/// Runs an installer with its output on standard error, so that standard output stays for results.
pub(crate) async fn run(program: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null());
    command.stdout(std::io::stderr()).kill_on_drop(true);
    let status = timeout(INSTALL_LIMIT, command.status())
        .await
        .with_context(|| format!("{} took longer than {INSTALL_LIMIT:?}", program.display()))?
        .with_context(|| format!("run {}", program.display()))?;
    if !status.success() {
        bail!("{} failed with {status}", program.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_java_is_read_from_what_it_prints() {
        assert_eq!(
            java_major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"),
            Some(17)
        );
        assert_eq!(
            java_major("Picked up JAVA_TOOL_OPTIONS: -X\nopenjdk version \"21-ea\" 2023"),
            Some(21)
        );
        assert_eq!(java_major("java version \"1.8.0_392\""), Some(1));
        assert_eq!(java_major("command not found"), None);
    }

    #[test]
    fn the_pom_and_the_version_agree() {
        assert!(KAFKA_POM.contains(&format!("<version>{KAFKA_VERSION}</version>")));
    }
}
