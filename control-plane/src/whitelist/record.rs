//! A change on record, with what it did to ids.

use std::fmt;

use jiff::Timestamp;
use reprise_shared::whitelist::{ChangeId, Scope, Version};

use super::request::RequestDigest;

/// What kind of change it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ids were added to a list.
    Add,
    /// Ids were removed from a list.
    Remove,
    /// A list was replaced.
    Replace,
    /// Due entries were removed.
    Expire,
    /// All lists were put in place in Redis again; their content did not change.
    Heal,
    /// MySQL took over what Redis had.
    Import,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [
        Self::Add,
        Self::Remove,
        Self::Replace,
        Self::Expire,
        Self::Heal,
        Self::Import,
    ];

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Expire => "expire",
            Self::Heal => "heal",
            Self::Import => "import",
        }
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is under way, or was when its process died.
    Intent,
    /// It was made.
    Applied,
    /// It was not made.
    Failed,
    /// Redis did not say whether it was made.
    Unknown,
}

impl State {
    pub(super) const ALL: [Self; 4] = [Self::Intent, Self::Applied, Self::Failed, Self::Unknown];

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// Tells whether somebody still has to find out what became of the change.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Self::Intent | Self::Unknown)
    }
}

/// What a change did to ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// They came onto the list.
    Added,
    /// They left it.
    Removed,
    /// They were on the list and took a new note or expiry.
    Refreshed,
    /// They were as asked for already.
    Untouched,
}

impl Effect {
    pub(super) const ALL: [Self; 4] = [Self::Added, Self::Removed, Self::Refreshed, Self::Untouched];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Refreshed => "refreshed",
            Self::Untouched => "untouched",
        }
    }
}

/// Ids of one list with one effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) scope: Scope,
    pub(super) effect: Effect,
    pub(super) ids: Vec<String>,
}

/// All that a change did to ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effects(pub(super) Vec<Group>);

impl Effects {
    /// Returns all ids with one effect, of all lists.
    pub(super) fn ids(&self, effect: Effect) -> impl Iterator<Item = &String> {
        let groups = self.0.iter().filter(move |group| group.effect == effect);
        groups.flat_map(|group| &group.ids)
    }

    pub(super) fn count(&self, effect: Effect) -> u64 {
        self.ids(effect).count() as u64
    }
}

/// One change on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Names it.
    pub change_id: ChangeId,
    /// The version that it made, or was to make; `None` when it changed nothing for workers, or never got that far.
    pub version: Option<Version>,
    /// The version that it was made for.
    pub base_version: Version,
    /// What it is.
    pub kind: Kind,
    /// Its list; the global one, without meaning, for a heal or import.
    pub scope: Scope,
    /// What became of it.
    pub state: State,
    /// Why it failed or is unknown, or what a heal found.
    pub failure: String,
    /// Who asked for it.
    pub principal: String,
    /// The caller's id of it. A failed change gives it back, so that a retry can succeed.
    pub request_id: Option<String>,
    pub(super) digest: RequestDigest,
    /// The method that was called.
    pub method: String,
    /// The note of the request.
    pub note: String,
    /// The expiry of the request.
    pub expires_at: Option<Timestamp>,
    /// How many ids came onto the list.
    pub added: u64,
    /// How many ids left it.
    pub removed: u64,
    /// How many entries took a new note or expiry.
    pub refreshed: u64,
    /// How many ids were as asked for already.
    pub untouched: u64,
    /// How many entries the list had before.
    pub entries_before: u64,
    /// When it was begun, by the database's clock.
    pub created_at: Timestamp,
    /// When its state became final.
    pub finished_at: Option<Timestamp>,
}

impl Record {
    /// Returns how many entries the list has after it, if it is applied.
    pub fn entries_after(&self) -> u64 {
        (self.entries_before + self.added).saturating_sub(self.removed)
    }
}

/// A page of changes, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPage {
    /// The changes.
    pub records: Vec<Record>,
    /// Where the next page begins: list those before this version. `None` at the end.
    pub next_before: Option<Version>,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
