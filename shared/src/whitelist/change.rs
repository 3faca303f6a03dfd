//! What a whitelist holds, how it changes, and the notice of a change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Counts the changes of all lists together. Never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

impl Version {
    /// Returns the version that the next change has.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names one change, so that a lost answer can be looked up later.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeId(Arc<str>);

impl ChangeId {
    /// Wraps an id; unique per change.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// Returns the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Which change a copy of the whitelist ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its version.
    pub version: Version,
    /// Its change id. Two copies of one version with different change ids are not the same content.
    pub change_id: ChangeId,
}

/// Which list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The list of all data types that have none of their own.
    Global,
    /// The list of one data type, by its name.
    Type(String),
}

/// Written as `global` or `type:<name>` in notices.
impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Global => serializer.serialize_str("global"),
            Self::Type(name) => serializer.collect_str(&format_args!("type:{name}")),
        }
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.strip_prefix("type:") {
            Some(name) => Ok(Self::Type(name.to_owned())),
            None if text == "global" => Ok(Self::Global),
            None => Err(serde::de::Error::custom("expected `global` or `type:<name>`")),
        }
    }
}

/// A change of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Names the change.
    pub id: ChangeId,
    /// The list.
    pub scope: Scope,
    /// What happens to it.
    pub edit: Edit,
}

/// What happens to a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Ids are added and removed; an id in both ends up removed. Adding one that is there, or removing one that is
    /// not, is no fault.
    Update {
        /// Ids to add.
        added: Vec<String>,
        /// Ids to remove.
        removed: Vec<String>,
    },
    /// These ids become the whole list.
    Replace(Vec<String>),
}

/// The ids of every list and the change that they end with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The last change.
    pub head: Head,
    /// The global list.
    pub global: BTreeSet<String>,
    /// The lists of data types, by name.
    pub types: BTreeMap<String, BTreeSet<String>>,
}

impl Content {
    /// Makes a content of empty lists.
    pub fn new(head: Head) -> Self {
        Self {
            head,
            global: BTreeSet::new(),
            types: BTreeMap::new(),
        }
    }

    /// Returns one list, to be changed.
    pub fn list_mut(&mut self, scope: Scope) -> &mut BTreeSet<String> {
        match scope {
            Scope::Global => &mut self.global,
            Scope::Type(name) => self.types.entry(name).or_default(),
        }
    }
}

/// What is published for each change. Only a hint: it may be lost, late, or come twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The version that the change made.
    pub version: Version,
    /// The change.
    pub change_id: ChangeId,
    /// What changed; left out when it is too large, or touches several lists: workers then read in full.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
}

/// The ids that a change added to one list and removed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The list.
    pub scope: Scope,
    /// Ids that are on it now.
    pub added: Vec<String>,
    /// Ids that are not on it any more, also when they stand in `added`.
    pub removed: Vec<String>,
}

impl Notice {
    /// Makes the notice of a change, with its ids when there are at most `max_ids`.
    pub fn of(change: &Change, version: Version, max_ids: usize) -> Self {
        let delta = match &change.edit {
            Edit::Update { added, removed } if added.len() + removed.len() <= max_ids => Some(Delta {
                scope: change.scope.clone(),
                added: added.clone(),
                removed: removed.clone(),
            }),
            Edit::Update { .. } | Edit::Replace(_) => None,
        };
        Self {
            version,
            change_id: change.id.clone(),
            delta,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_json_that_a_person_can_read() {
        let change = Change {
            id: ChangeId::new("c1"),
            scope: Scope::Type("fund_basic".to_owned()),
            edit: Edit::Update {
                added: vec!["a".to_owned()],
                removed: vec![],
            },
        };
        let notice = Notice::of(&change, Version(7), 1_000);
        let text = serde_json::to_string(&notice).expect("plain data");
        assert_eq!(
            text,
            r#"{"version":7,"change_id":"c1","scope":"type:fund_basic","added":["a"],"removed":[]}"#
        );
        assert_eq!(serde_json::from_str::<Notice>(&text).expect("own form"), notice);
    }

    #[test]
    fn a_large_change_is_published_without_its_ids() {
        let ids = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
        let update = |added, removed| Change {
            id: ChangeId::new("c"),
            scope: Scope::Global,
            edit: Edit::Update { added, removed },
        };
        assert!(
            Notice::of(&update(ids(600), ids(400)), Version(1), 1_000)
                .delta
                .is_some()
        );
        let hint = Notice::of(&update(ids(600), ids(401)), Version(1), 1_000);
        let text = serde_json::to_string(&hint).expect("plain data");
        assert_eq!(text, r#"{"version":1,"change_id":"c"}"#);
        assert_eq!(serde_json::from_str::<Notice>(&text).expect("own form"), hint);
    }
}
