//! Decides what a worker makes of what Redis says: pure, so that every odd turn can be tested.
//!
//! | Redis says | then |
//! |---|---|
//! | a notice of the next version, with ids | applied, when the last contact was good |
//! | a notice of this version or an older one | ignored |
//! | any other notice, also an unreadable one | one full read |
//! | the head that is held | current |
//! | a higher version | one full read |
//! | the same version with another change id | one full read, and its content is taken: some failover lost a change whose version was used again. All workers then hold what the store holds, and the control plane's reconciler compares the same pair |
//! | a lower version | ignored, shown as regressed: the store was restored and will be healed above the held version |
//! | no head | unknown: what is held stays, nothing is ever taken for "empty" |

use std::sync::Arc;

use super::change::{Content, Head, Notice};
use super::{Snapshot, Status};

/// What has to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    ReadInFull,
}

/// What is held and how it relates to the store.
pub(super) struct Follower {
    type_names: Arc<[String]>,
    held: Option<Snapshot>,
    unpublished: bool,
    status: Status,
}

impl Follower {
    pub(super) fn new(type_names: Arc<[String]>) -> Self {
        Self {
            type_names,
            held: None,
            unpublished: false,
            status: Status::Unknown,
        }
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// Takes a published message. A message proves nothing about the store, so it never changes the status.
    pub(super) fn on_message(&mut self, message: &[u8]) -> Next {
        let Ok(notice) = serde_json::from_slice::<Notice>(message) else {
            return Next::ReadInFull;
        };
        let Some(held) = &mut self.held else {
            return Next::ReadInFull;
        };
        if notice.version <= held.version() {
            return Next::Nothing;
        }
        match notice.delta {
            Some(delta) if notice.version == held.version().next() && self.status == Status::Ok => {
                let head = Head {
                    version: notice.version,
                    change_id: notice.change_id,
                };
                held.apply(&self.type_names, head, delta);
                self.unpublished = true;
                Next::Nothing
            }
            _ => Next::ReadInFull,
        }
    }

    /// Takes the head as a poll found it.
    pub(super) fn on_head(&mut self, found: Option<&Head>) -> Next {
        match (found, &self.held) {
            (None, _) => {
                self.status = Status::Unknown;
                Next::Nothing
            }
            (Some(found), Some(held)) if found == held.head() => {
                self.status = Status::Ok;
                Next::Nothing
            }
            (Some(found), Some(held)) if found.version < held.version() => {
                self.status = Status::Regressed;
                Next::Nothing
            }
            (Some(_), _) => Next::ReadInFull,
        }
    }

    /// Takes what a full read found.
    pub(super) fn on_content(&mut self, found: Option<Content>) {
        let head = found.as_ref().map(|content| content.head.clone());
        if let (Next::ReadInFull, Some(content)) = (self.on_head(head.as_ref()), found) {
            self.held = Some(Snapshot::new(&self.type_names, content));
            self.unpublished = true;
            self.status = Status::Ok;
        }
    }

    pub(super) fn on_unreachable(&mut self) {
        self.status = Status::Unreachable;
    }

    /// Returns what is held when it changed since the last call. One snapshot for however many changes.
    pub(super) fn take_unpublished(&mut self) -> Option<Arc<Snapshot>> {
        if !std::mem::take(&mut self.unpublished) {
            return None;
        }
        self.held.clone().map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::TypeIndex;
    use crate::whitelist::change::Delta;
    use crate::whitelist::{ChangeId, Scope, Version};

    fn head(version: u64) -> Head {
        Head {
            version: Version(version),
            change_id: ChangeId::new(format!("c{version}")),
        }
    }

    fn content(version: u64, ids: impl IntoIterator<Item = String>) -> Content {
        let mut content = Content::new(head(version));
        content.list_mut(Scope::Global).extend(ids);
        content
    }

    fn notice(version: u64, added: &str) -> Vec<u8> {
        let Head { version, change_id } = head(version);
        let delta = Delta {
            scope: Scope::Global,
            added: vec![added.to_owned()],
            removed: vec![],
        };
        serde_json::to_vec(&Notice {
            version,
            change_id,
            delta: Some(delta),
        })
        .expect("plain data")
    }

    fn following(version: u64, ids: &[&str]) -> Follower {
        let mut follower = Follower::new(vec!["fund_basic".to_owned()].into());
        follower.on_content(Some(content(version, ids.iter().map(ToString::to_string))));
        assert!(follower.take_unpublished().is_some());
        follower
    }

    fn allows(follower: &Follower, id: &str) -> bool {
        follower
            .held
            .as_ref()
            .expect("held")
            .allows(TypeIndex(0), id.as_bytes())
    }

    #[test]
    fn nothing_is_held_before_the_first_full_read() {
        let mut follower = Follower::new(Arc::new([]));
        assert_eq!(follower.on_message(&notice(1, "a")), Next::ReadInFull);
        assert_eq!(follower.on_head(None), Next::Nothing);
        follower.on_content(None);
        assert_eq!(follower.status(), Status::Unknown);
        assert!(follower.take_unpublished().is_none());
    }

    #[test]
    fn the_next_delta_is_applied_and_any_other_is_read_in_full() {
        let mut follower = following(4, &["a"]);
        assert_eq!(follower.on_message(&notice(5, "b")), Next::Nothing);
        assert!(allows(&follower, "b"));
        assert_eq!(follower.on_message(&notice(5, "b")), Next::Nothing, "twice");
        assert_eq!(follower.on_message(&notice(3, "c")), Next::Nothing, "late");
        assert!(!allows(&follower, "c"));
        assert_eq!(follower.on_message(&notice(7, "d")), Next::ReadInFull, "a gap");
        assert_eq!(follower.on_message(b"not a notice"), Next::ReadInFull);
        assert_eq!(
            follower.on_message(br#"{"version":6,"change_id":"c6"}"#),
            Next::ReadInFull,
            "a hint without ids"
        );
        assert!(!allows(&follower, "d"));
    }

    #[test]
    fn an_emptied_store_leaves_what_is_held_and_is_shown_as_unknown() {
        let mut follower = following(4, &["a"]);
        assert_eq!(follower.on_head(None), Next::Nothing);
        follower.on_content(None);
        assert_eq!(follower.status(), Status::Unknown);
        assert!(allows(&follower, "a") && !allows(&follower, "b"));
        assert_eq!(
            follower.on_message(&notice(5, "b")),
            Next::ReadInFull,
            "no delta onto an unknown store"
        );
        follower.on_content(Some(content(5, ["a".to_owned(), "b".to_owned()])));
        assert_eq!(follower.status(), Status::Ok);
        assert!(allows(&follower, "b"));
    }

    #[test]
    fn a_restored_store_is_ignored_until_it_is_healed_above_the_held_version() {
        let mut follower = following(9, &["a"]);
        assert_eq!(follower.on_head(Some(&head(6))), Next::Nothing);
        assert_eq!(follower.status(), Status::Regressed);
        follower.on_content(Some(content(6, ["old".to_owned()])));
        assert!(allows(&follower, "a") && !allows(&follower, "old"));
        assert_eq!(follower.on_message(&notice(10, "wrong base")), Next::ReadInFull);
        follower.on_content(Some(content(10, ["b".to_owned()])));
        assert_eq!(follower.status(), Status::Ok);
        assert!(allows(&follower, "b") && !allows(&follower, "a"));
    }

    #[test]
    fn another_change_of_the_same_version_is_read_and_taken() {
        let mut follower = following(4, &["a"]);
        let other = Head {
            version: Version(4),
            change_id: ChangeId::new("other"),
        };
        assert_eq!(follower.on_head(Some(&other)), Next::ReadInFull);
        let mut found = content(4, ["b".to_owned()]);
        found.head = other;
        follower.on_content(Some(found));
        assert!(allows(&follower, "b") && !allows(&follower, "a"));
        assert_eq!(follower.status(), Status::Ok);
    }

    #[test]
    fn an_unreachable_store_changes_nothing_but_the_status() {
        let mut follower = following(4, &["a"]);
        follower.on_unreachable();
        assert_eq!(follower.status(), Status::Unreachable);
        assert!(allows(&follower, "a") && follower.take_unpublished().is_none());
        assert_eq!(follower.on_head(Some(&head(4))), Next::Nothing);
        assert_eq!(follower.status(), Status::Ok);
    }

    #[test]
    fn a_burst_on_a_large_list_clones_it_once() {
        let mut follower = Follower::new(Arc::new([]));
        follower.on_content(Some(content(1, (0..100_000).map(|number| format!("id{number}")))));
        let before = follower.take_unpublished().expect("the first");
        let mut addresses = Vec::new();
        for version in 2..=1_001 {
            assert_eq!(
                follower.on_message(&notice(version, &format!("new{version}"))),
                Next::Nothing
            );
            addresses.push(follower.held.as_ref().expect("held").global_address());
        }
        addresses.dedup();
        assert_eq!(addresses.len(), 1);
        let after = follower.take_unpublished().expect("the burst");
        assert_eq!(
            (before.len(), after.len(), after.version()),
            (100_000, 101_000, Version(1_001))
        );
    }
}
