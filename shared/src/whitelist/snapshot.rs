//! One version of the whitelist as workers ask it: immutable, and as fast for 100,000 ids as for 10.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use super::change::{Content, Delta, Head, Scope, Version};
use crate::catalog::TypeIndex;

type Ids = HashSet<Box<[u8]>, RandomState>;

/// An immutable whitelist of one version. Cloning shares the lists.
#[derive(Clone, Debug)]
pub struct Snapshot {
    head: Head,
    global: Arc<Ids>,
    /// By [`TypeIndex`].
    types: Box<[Arc<Ids>]>,
}

impl Snapshot {
    /// Builds a snapshot. `type_names` are the catalog's data types in catalog order; lists of other types (another
    /// catalog is being rolled out) are left out.
    pub fn new(type_names: &[String], mut content: Content) -> Self {
        let types = type_names
            .iter()
            .map(|name| Arc::new(ids(content.types.remove(name).unwrap_or_default())))
            .collect();
        Self {
            head: content.head,
            global: Arc::new(ids(content.global)),
            types,
        }
    }

    /// Tells whether records of this id go through. A type's own list replaces the global one while it is not empty;
    /// an empty list lets everything through. A type that is not in the catalog has no list of its own.
    #[inline]
    pub fn allows(&self, data_type: TypeIndex, id: &[u8]) -> bool {
        let list = match self.types.get(data_type.0) {
            Some(own) if !own.is_empty() => own,
            _ => &self.global,
        };
        list.is_empty() || list.contains(id)
    }

    /// Returns the version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Returns version and change id.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns how many ids all lists hold.
    pub fn len(&self) -> usize {
        self.global.len() + self.types.iter().map(|list| list.len()).sum::<usize>()
    }

    /// Tells whether every list is empty, so that everything goes through.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes this the next version. A list that other snapshots share is cloned first, so that of a burst of changes
    /// only the first clones.
    pub(super) fn apply(&mut self, type_names: &[String], head: Head, delta: Delta) {
        self.head = head;
        let list = match &delta.scope {
            Scope::Global => Some(&mut self.global),
            Scope::Type(name) => type_names
                .iter()
                .position(|known| known == name)
                .and_then(|index| self.types.get_mut(index)),
        };
        let Some(list) = list else { return };
        let list = Arc::make_mut(list);
        list.extend(delta.added.into_iter().map(boxed));
        for id in delta.removed {
            list.remove(id.as_bytes());
        }
    }

    #[cfg(test)]
    pub(super) fn global_address(&self) -> *const () {
        Arc::as_ptr(&self.global).cast()
    }
}

fn ids(list: impl IntoIterator<Item = String>) -> Ids {
    list.into_iter().map(boxed).collect()
}

fn boxed(id: String) -> Box<[u8]> {
    id.into_bytes().into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::ChangeId;

    const BASIC: TypeIndex = TypeIndex(0);
    const RISK: TypeIndex = TypeIndex(1);

    fn names() -> Vec<String> {
        vec!["fund_basic".to_owned(), "fund_risk".to_owned()]
    }

    fn head(version: u64) -> Head {
        Head {
            version: Version(version),
            change_id: ChangeId::new(format!("c{version}")),
        }
    }

    fn snapshot(global: &[&str], risk: &[&str]) -> Snapshot {
        let mut content = Content::new(head(1));
        content
            .list_mut(Scope::Global)
            .extend(global.iter().map(ToString::to_string));
        content
            .list_mut(Scope::Type("fund_risk".to_owned()))
            .extend(risk.iter().map(ToString::to_string));
        content
            .list_mut(Scope::Type("of_another_catalog".to_owned()))
            .extend(["x".to_owned()]);
        Snapshot::new(&names(), content)
    }

    #[test]
    fn empty_lists_let_everything_through() {
        let all = snapshot(&[], &[]);
        assert!(all.is_empty() && all.allows(BASIC, b"any") && all.allows(RISK, b""));
    }

    #[test]
    fn the_global_list_counts_for_types_without_one() {
        let list = snapshot(&["a"], &[]);
        assert!(list.allows(BASIC, b"a") && list.allows(RISK, b"a") && list.allows(TypeIndex(99), b"a"));
        assert!(!list.allows(BASIC, b"b") && !list.allows(RISK, b"b") && !list.allows(TypeIndex(99), b"b"));
    }

    #[test]
    fn a_type_s_own_list_replaces_the_global_one_until_it_is_empty_again() {
        let mut list = snapshot(&["a"], &["r"]);
        assert!(list.allows(RISK, b"r") && !list.allows(RISK, b"a") && !list.allows(BASIC, b"r"));
        let removed = vec!["r".to_owned()];
        let delta = Delta {
            scope: Scope::Type("fund_risk".to_owned()),
            added: vec![],
            removed,
        };
        list.apply(&names(), head(2), delta);
        assert!(list.allows(RISK, b"a") && !list.allows(RISK, b"r"));
        assert_eq!(list.version(), Version(2));
    }

    #[test]
    fn an_own_list_restricts_a_type_even_when_the_global_one_is_empty() {
        let list = snapshot(&[], &["r"]);
        assert!(!list.allows(RISK, b"a") && list.allows(BASIC, b"a"));
    }

    #[test]
    fn a_published_snapshot_never_changes() {
        let published = snapshot(&["a"], &[]);
        let mut next = published.clone();
        let delta = Delta {
            scope: Scope::Global,
            added: vec!["b".to_owned()],
            removed: vec!["a".to_owned()],
        };
        next.apply(&names(), head(2), delta);
        assert!(published.allows(BASIC, b"a") && !published.allows(BASIC, b"b"));
        assert!(!next.allows(BASIC, b"a") && next.allows(BASIC, b"b"));
    }
}
