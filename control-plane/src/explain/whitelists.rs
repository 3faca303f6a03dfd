//! The whitelist as it was at a version, with the newest few kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use moka::sync::Cache;
use reprise_shared::catalog::TypeIndex;
use reprise_shared::filter::{self, Verdict};
use reprise_shared::whitelist::{Snapshot, Version};

use crate::whitelist;

/// One version of the whitelist.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    /// The version.
    pub(super) version: Version,
    /// Whether it let the id through.
    pub(super) passed: bool,
    /// Whether the type had a list of its own, which replaced the global one.
    pub(super) by_own_list: bool,
}

/// All lists of one version, and which types had one of their own.
#[derive(Debug)]
struct Lists {
    snapshot: Snapshot,
    own: BTreeSet<String>,
}

/// Reads versions of the whitelist. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Whitelists {
    store: whitelist::Store,
    type_names: Arc<[String]>,
    kept: Cache<Version, Arc<Lists>>,
}

impl Whitelists {
    pub(super) fn new(store: whitelist::Store, type_names: Vec<String>, kept: u64) -> Self {
        Self {
            store,
            type_names: type_names.into(),
            kept: Cache::new(kept),
        }
    }

    /// Judges an id as a worker that held `version` did. `None`: the version is not on record.
    ///
    /// Reading a version reads the whole list and the history since then, so the newest few are kept.
    ///
    /// # Errors
    /// When MySQL does not answer.
    pub(super) async fn judge(
        &self,
        version: Version,
        data_type: TypeIndex,
        id: &[u8],
    ) -> Result<Option<Judged>, whitelist::Error> {
        let lists = match self.kept.get(&version) {
            Some(lists) => lists,
            None => match self.store.content_at(version).await {
                Ok(content) => {
                    let own = content.types.keys().cloned().collect();
                    let snapshot = Snapshot::new(&self.type_names, content);
                    let lists = Arc::new(Lists { snapshot, own });
                    self.kept.insert(version, Arc::clone(&lists));
                    lists
                }
                Err(whitelist::Error::NoSuchVersion(_)) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let own = self
            .type_names
            .get(data_type.0)
            .is_some_and(|name| lists.own.contains(name));
        Ok(Some(Judged {
            version,
            passed: filter::judge(&lists.snapshot, data_type, id) == Verdict::Pass,
            by_own_list: own,
        }))
    }
}
