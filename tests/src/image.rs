//! The image without a container engine: its root in a folder, and pods that run from it.
//!
//! A container is started as a kubelet would have it started: from the image's root, mounted read-only, with the pod's
//! files, `/proc`, `/dev` and `/etc/hosts` mounted into it, as the image's user, with the image's and the pod's variables
//! and no others, and without ever getting more rights. It shares the network of this machine, where the servers are; so
//! its ports are other ones, given by flags behind its own arguments. Mounting takes root's rights.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::chart::mounted::{Container, Mounted};
use crate::cluster::{Service, Spec, binary};
use crate::env;
use crate::servers::install::{install_packages, program, run};
use crate::servers::process::{Lifetime, Process, Program};

/// The programs of the image.
pub const PROGRAMS: [&str; 3] = ["reprise-control-plane", "reprise-worker", "reprisectl"];
/// Its user and group.
pub const USER: u32 = 65532;

/// Mounts what a container has, and goes on as the container's program.
const ENTER: &str = r#"
set -eu
root="$1" files="$2"
shift 2
mount --bind "$root" "$root"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$files/hosts" "$root/etc/hosts"
if [ -d "$files/etc/reprise" ]; then
    mount --bind "$files/etc/reprise" "$root/etc/reprise"
    mount -o remount,bind,ro "$root/etc/reprise"
fi
mount -o remount,bind,ro "$root"
exec "$@"
"#;

/// The image's root in a folder.
#[derive(Debug)]
pub struct Root {
    folder: PathBuf,
    variables: Vec<String>,
    _temporary: Option<TempDir>,
}

impl Root {
    /// Takes the root of a built image, where `REPRISE_IMAGE_ROOT` names its folder. Without one it lays out what the
    /// Dockerfile's last stages do, by the same script, on the programs of this build.
    ///
    /// # Errors
    /// This is not root, a program is not built, or the script failed.
    pub async fn open() -> Result<Self> {
        ensure!(
            // Files under /proc belong to whom the process runs as.
            fs::metadata("/proc/self")?.uid() == 0,
            "only root can mount what a container has: run this test as root"
        );
        let (folder, temporary) = match env::image_root() {
            Some(folder) => (folder, None),
            None => {
                let folder = tempfile::tempdir().context("create a folder")?;
                lay_out(folder.path()).await?;
                fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
                (folder.path().to_owned(), Some(folder))
            }
        };
        // Container engines make what they mount onto, too.
        for place in ["proc", "dev", "etc/reprise"] {
            fs::create_dir_all(folder.join(place)).context("make a place to mount onto")?;
        }
        fs::write(folder.join("etc/hosts"), "").context("make a place to mount onto")?;
        Ok(Self {
            folder,
            variables: variables(&dockerfile()?)?,
            _temporary: temporary,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Prepares a container of a pod, with more flags behind its own. Names that other pods have in the cluster are those
    /// of this machine.
    ///
    /// # Errors
    /// Its files cannot be given to the image's user.
    pub fn container(&self, mounted: &Mounted, name: &str, names: &[&str], more: &[String]) -> Result<Program> {
        let hosts = format!("127.0.0.1 localhost {}\n", names.join(" "));
        fs::write(mounted.folder().join("hosts"), hosts).context("write the names of hosts")?;
        fs::set_permissions(mounted.folder().join("hosts"), fs::Permissions::from_mode(0o644))?;
        for secret in mounted.secret_files() {
            chown(secret, Some(0), Some(USER)).context("give a secret to the group")?;
            fs::set_permissions(secret, fs::Permissions::from_mode(0o440))?;
        }
        let Container {
            program: own,
            arguments,
            variables,
        } = mounted.container()?;
        let log = mounted.folder().join(format!("{name}.log"));
        let mut container = Program::new(name, "unshare", log, Lifetime::Bound);
        let mut argument = |text: &str| container.arguments.push(text.into());
        for text in ["--mount", "--", "sh", "-c", ENTER, "sh"] {
            argument(text);
        }
        argument(&self.folder.display().to_string());
        argument(&mounted.folder().display().to_string());
        for text in ["setpriv", "--no-new-privs", "--", "env", "-i"] {
            argument(text);
        }
        for variable in self.variables.iter().chain(&variables) {
            argument(variable);
        }
        argument(&crate::servers::install::program("chroot")?.display().to_string());
        argument(&format!("--userspec={USER}:{USER}"));
        argument(&format!("--groups={USER}"));
        argument(&self.folder.display().to_string());
        argument(&own);
        for text in arguments.iter().chain(more) {
            argument(text);
        }
        Ok(container)
    }

    /// Prepares a container that serves, with its ports here.
    ///
    /// # Errors
    /// As [`container`](Self::container).
    pub fn service(&self, mounted: &Mounted, name: &str, http: u16, more: &[String]) -> Result<Service> {
        let mut flags = vec!["--set".to_owned(), format!("http.listen=127.0.0.1:{http}")];
        flags.extend_from_slice(more);
        let container = self.container(mounted, name, &[], &flags)?;
        Ok(Service::new(Spec {
            name: container.name,
            binary: container.binary,
            arguments: container.arguments,
            environment: Vec::new(),
            logs: mounted.folder().to_owned(),
            http: format!("http://127.0.0.1:{http}"),
            lifetime: container.lifetime,
        }))
    }

    /// Runs a container to its end, and returns what it wrote.
    ///
    /// # Errors
    /// It did not end in time, or not well.
    pub async fn run(
        &self,
        mounted: &Mounted,
        name: &str,
        names: &[&str],
        limit: std::time::Duration,
    ) -> Result<String> {
        let container = self.container(mounted, name, names, &[])?;
        let log = container.log.clone();
        let mut process = Process::spawn(container)?;
        let code = process.wait(limit).await?;
        let said = fs::read_to_string(&log).context("read the log")?;
        ensure!(code == Some(0), "{name} ended with {code:?}: {said}");
        Ok(said)
    }
}

async fn lay_out(folder: &Path) -> Result<()> {
    let there = |path: &str| Path::new(path).exists();
    if !there("/etc/ssl/certs/ca-certificates.crt") || !there("/usr/share/zoneinfo/UTC") {
        install_packages(&["ca-certificates", "tzdata"]).await?;
    }
    let mut arguments = vec![folder.as_os_str().to_owned()];
    for name in PROGRAMS {
        arguments.push(binary(name)?.into_os_string());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/root.sh");
    run(&program("sh")?, [script.into_os_string()].into_iter().chain(arguments))
        .await
        .context("lay out the image's root")
}

/// The Dockerfile's text.
///
/// # Errors
/// It cannot be read.
pub fn dockerfile() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile");
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Returns the variables that the last stage of a Dockerfile sets, as `NAME=value`.
fn variables(dockerfile: &str) -> Result<Vec<String>> {
    let last = dockerfile.rsplit("\nFROM ").next().context("a last stage")?;
    let user = last.lines().find_map(|line| line.strip_prefix("USER "));
    ensure!(
        user == Some(&format!("{USER}:{USER}")),
        "the image's user is {user:?} and not {USER}:{USER}"
    );
    let set = last.lines().filter_map(|line| line.strip_prefix("ENV "));
    Ok(set.flat_map(str::split_whitespace).map(str::to_owned).collect())
}
