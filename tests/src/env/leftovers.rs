//! The folder of one test process, and those that earlier processes could not remove.
//!
//! A process that is killed, or ends with shared servers still running, leaves hundreds of megabytes behind. So every
//! folder carries the identity of its process, and each new process removes the folders whose process is gone.

use std::{fs, path::PathBuf, sync::OnceLock};

use anyhow::{Context as _, Result};

use crate::servers::process::Identity;

const OWNER: &str = "owner.json";

/// The folder of this process, created at the first call.
pub(crate) fn folder_of_this_process() -> Result<PathBuf> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    if let Some(folder) = FOLDER.get() {
        return Ok(folder.clone());
    }
    let home = std::env::temp_dir().join("reprise-tests");
    fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    remove_leftovers(&home);
    let pid = i32::try_from(std::process::id()).context("a process id that is too large")?;
    let identity = Identity::of(pid).context("read this process's own identity")?;
    let folder = home.join(format!("{pid}-{}", identity.start_time));
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    fs::write(folder.join(OWNER), serde_json::to_vec(&identity)?).context("write who owns the folder")?;
    Ok(FOLDER.get_or_init(|| folder).clone())
}

/// Removes what nobody uses. What cannot be removed belongs to another user, who will.
fn remove_leftovers(home: &std::path::Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let owner = fs::read(entry.path().join(OWNER))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // A folder without an owner's file is being created right now.
        if owner.is_some_and(|owner: Identity| !owner.is_running()) {
            let _removed = fs::remove_dir_all(entry.path());
        }
    }
}
