//! What callers ask for and what they are told; pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use jiff::Timestamp;
use reprise_shared::whitelist::{ChangeId, Scope, Version};
use sha2::{Digest, Sha256};

use super::config::Config;
use super::error::{Error, Violation};
use super::record::{Effect, Effects, Kind, Record};

/// At most this many violations are listed; one more says how many were left out.
const MAX_VIOLATIONS: usize = 100;
const MAX_NOTE_CHARACTERS: usize = 500;
const MAX_PRINCIPAL_CHARACTERS: usize = 255;
const MAX_REQUEST_ID: usize = 64;
const MAX_METHOD: usize = 128;

/// Who calls which method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is, at most 255 characters.
    pub principal: String,
    /// The method's name for the audit log, in ASCII, at most 128 bytes.
    pub method: String,
}

impl Caller {
    /// The control plane itself.
    pub fn system() -> Self {
        Self {
            principal: "system".to_owned(),
            method: "whitelist.reconcile".to_owned(),
        }
    }
}

/// What is to be done with the ids of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are on the list. Entries that are there take the request's note and expiry.
    Add,
    /// They are not on the list.
    Remove,
    /// They are the whole list. Entries that stay take the request's note and expiry.
    Replace,
}

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub action: Action,
    /// The list.
    pub scope: Scope,
    /// The ids; one that stands twice counts once.
    pub ids: Vec<String>,
    /// Why, for a person; at most 500 characters.
    pub note: String,
    /// When the entries are to be removed again; not for a removal.
    pub expires_at: Option<Timestamp>,
    /// The list may become empty, and so let everything through.
    pub allow_unrestricted: bool,
    /// The version that the caller saw; another one now refuses the request.
    pub etag: Option<Version>,
    /// Names the request, at most 64 visible ASCII characters: the same again answers what the first one did.
    pub request_id: Option<String>,
    /// Say what would happen, and change nothing.
    pub validate_only: bool,
}

impl Request {
    /// Makes a request without any option.
    pub fn new(action: Action, scope: Scope, ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            action,
            scope,
            ids: ids.into_iter().map(Into::into).collect(),
            note: String::new(),
            expires_at: None,
            allow_unrestricted: false,
            etag: None,
            request_id: None,
            validate_only: false,
        }
    }

    /// Finds all faults that can be seen without looking at the lists. `type_names` are the catalog's data types; a
    /// removal may name others, so that the list of a type that is no more can be emptied. `now` finds out mistakes; the
    /// database's clock decides, later.
    pub(super) fn check(
        &self,
        caller: &Caller,
        type_names: &[String],
        config: &Config,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut violations = Violations::default();
        self.check_ids(config, &mut violations);
        if let Scope::Type(name) = &self.scope {
            let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            let is_name = (1..=64).contains(&name.len()) && name.bytes().all(legal);
            if !is_name || (self.action != Action::Remove && !type_names.contains(name)) {
                let known = type_names.join(", ");
                violations.add(
                    "data_type",
                    format!("is no data type of the catalog; there are: {known}"),
                );
            }
        }
        if self.note.chars().count() > MAX_NOTE_CHARACTERS || self.note.contains(char::is_control) {
            let problem = format!("must be at most {MAX_NOTE_CHARACTERS} characters, none of them a control character");
            violations.add("note", problem);
        }
        match self.expires_at {
            Some(_) if self.action == Action::Remove => violations.add("expire_time", "has no meaning for a removal"),
            Some(time) if time <= now => violations.add("expire_time", format!("is not after now ({now})")),
            _ => {}
        }
        if let Some(id) = &self.request_id {
            let legal = (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
            if !legal {
                let problem = format!("must be 1 to {MAX_REQUEST_ID} visible ASCII characters (a UUID, for example)");
                violations.add("request_id", problem);
            }
        }
        let principal = caller.principal.chars().count();
        if !(1..=MAX_PRINCIPAL_CHARACTERS).contains(&principal) {
            violations.add(
                "principal",
                format!("has {principal} characters; 1 to {MAX_PRINCIPAL_CHARACTERS} are possible"),
            );
        }
        if !caller.method.is_ascii() || caller.method.len() > MAX_METHOD {
            violations.add("method", format!("must be ASCII, at most {MAX_METHOD} bytes"));
        }
        violations.into_result()
    }

    fn check_ids(&self, config: &Config, violations: &mut Violations) {
        if self.ids.is_empty() && self.action != Action::Replace {
            violations.add("ids", "must name at least one id");
        }
        if self.ids.len() > config.max_ids {
            let (count, max) = (self.ids.len(), config.max_ids);
            violations.add(
                "ids",
                format!("has {count} ids; at most {max} are possible in one request"),
            );
        }
        for (place, id) in self.ids.iter().take(config.max_ids).enumerate() {
            if let Some(problem) = id_problem(id, config.max_id_bytes) {
                violations.add(format!("ids[{place}]"), problem);
            }
        }
    }

    /// Returns what tells two requests apart, apart from the order of ids.
    pub(super) fn digest(&self) -> RequestDigest {
        let ids: BTreeSet<&str> = self.ids.iter().map(String::as_str).collect();
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(&format!(
            "{:?} {:?} {:?}",
            self.action, self.etag, self.allow_unrestricted
        ));
        part(&format!("{:?}", self.scope));
        part(&self.note);
        part(&self.expires_at.map_or(String::new(), |time| time.to_string()));
        ids.into_iter().for_each(&mut part);
        let mut text = String::with_capacity(64);
        for byte in hash.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        RequestDigest(text)
    }
}

/// SHA-256 of a request, in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestDigest(pub(super) String);

/// Says what is wrong with an id; a list is compared byte by byte, so what cannot be seen is refused.
pub(super) fn id_problem(id: &str, max_bytes: usize) -> Option<String> {
    if id.is_empty() {
        Some("is empty".to_owned())
    } else if id.len() > max_bytes {
        Some(format!("has {} bytes; at most {max_bytes} are possible", id.len()))
    } else if id.contains(char::is_control) {
        Some(format!("{id:?} holds a control character"))
    } else if id.starts_with(char::is_whitespace) || id.ends_with(char::is_whitespace) {
        Some(format!("{id:?} begins or ends with a space"))
    } else {
        None
    }
}

/// Collects violations up to a limit.
#[derive(Default)]
pub(super) struct Violations {
    found: Vec<Violation>,
    left_out: usize,
}

impl Violations {
    pub(super) fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        if self.found.len() < MAX_VIOLATIONS {
            self.found.push(Violation {
                field: field.into(),
                problem: problem.into(),
            });
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn into_result(mut self) -> Result<(), Error> {
        if self.left_out > 0 {
            self.found.push(Violation {
                field: "ids".to_owned(),
                problem: format!("and {} more faults", self.left_out),
            });
        }
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self.found))
        }
    }
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The change on record; `None` for `validate_only`.
    pub change_id: Option<ChangeId>,
    /// The whitelist's version after it: the one that it made, or, when it changed nothing for workers, the one that
    /// was there.
    pub version: Version,
    /// Whether it made a version.
    pub made_version: bool,
    /// What was asked.
    pub kind: Kind,
    /// The list.
    pub scope: Scope,
    /// How many entries the list has after it.
    pub entries: u64,
    /// How many ids are on the list that were not before.
    pub added: u64,
    /// How many ids were on the list before (of an addition or replacement).
    pub already_present: u64,
    /// How many of those took a new note or expiry.
    pub refreshed: u64,
    /// How many ids are no longer on the list.
    pub removed: u64,
    /// How many ids were not on the list (of a removal).
    pub not_present: u64,
    /// The first ids of each kind, at most as many as the configuration says.
    pub ids: OutcomeIds,
    /// Whether this is the stored outcome of an earlier request with the same request id.
    pub repeated: bool,
}

/// Ids of an outcome, by what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeIds {
    /// See [`Outcome::added`].
    pub added: Vec<String>,
    /// See [`Outcome::already_present`].
    pub already_present: Vec<String>,
    /// See [`Outcome::removed`].
    pub removed: Vec<String>,
    /// See [`Outcome::not_present`].
    pub not_present: Vec<String>,
}

impl Outcome {
    /// Tells the outcome of a recorded change.
    pub(super) fn of(record: &Record, effects: &Effects, max_ids: usize, repeated: bool) -> Self {
        let is_removal = matches!(record.kind, Kind::Remove | Kind::Expire);
        let mut ids = OutcomeIds::default();
        for group in &effects.0 {
            let list = match group.effect {
                Effect::Added => &mut ids.added,
                Effect::Removed => &mut ids.removed,
                Effect::Untouched if is_removal => &mut ids.not_present,
                Effect::Refreshed | Effect::Untouched => &mut ids.already_present,
            };
            let room = max_ids.saturating_sub(list.len());
            list.extend(group.ids.iter().take(room).cloned());
        }
        let kept = record.refreshed + record.untouched;
        Self {
            change_id: Some(record.change_id.clone()),
            version: record.version.unwrap_or(record.base_version),
            made_version: record.version.is_some(),
            kind: record.kind,
            scope: record.scope.clone(),
            entries: record.entries_after(),
            added: record.added,
            already_present: if is_removal { 0 } else { kept },
            refreshed: record.refreshed,
            removed: record.removed,
            not_present: if is_removal { kept } else { 0 },
            ids,
            repeated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller {
            principal: "p".to_owned(),
            method: "m".to_owned(),
        }
    }

    fn faults(request: &Request) -> Vec<String> {
        let now = Timestamp::UNIX_EPOCH;
        match request.check(&caller(), &["fund_basic".to_owned()], &Config::default(), now) {
            Err(Error::Invalid(found)) => found.into_iter().map(|violation| violation.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let mut request = Request::new(
            Action::Remove,
            Scope::Type("No Type".to_owned()),
            ["good", "", " space", "tab\t", &"x".repeat(129), "é\u{7f}"],
        );
        request.note = "n".repeat(501);
        request.expires_at = Some(Timestamp::MAX);
        request.request_id = Some("a b".to_owned());
        assert_eq!(
            faults(&request),
            [
                "ids[1]",
                "ids[2]",
                "ids[3]",
                "ids[4]",
                "ids[5]",
                "data_type",
                "note",
                "expire_time",
                "request_id"
            ]
        );
        let many = Request::new(Action::Add, Scope::Global, vec![""; 250]);
        let found = faults(&many);
        assert_eq!((found.len(), found[100].as_str()), (101, "ids"));
    }

    #[test]
    fn only_a_removal_may_name_a_type_that_is_not_in_the_catalog() {
        let of = |action| Request::new(action, Scope::Type("fund_old".to_owned()), ["a"]);
        assert_eq!(faults(&of(Action::Add)), ["data_type"]);
        assert_eq!(faults(&of(Action::Replace)), ["data_type"]);
        let now = Timestamp::UNIX_EPOCH;
        assert!(
            of(Action::Remove)
                .check(&caller(), &[], &Config::default(), now)
                .is_ok()
        );
    }

    #[test]
    fn the_digest_ignores_the_order_of_ids_and_nothing_else() {
        let first = Request::new(Action::Add, Scope::Global, ["a", "b"]);
        assert_eq!(
            first.digest(),
            Request::new(Action::Add, Scope::Global, ["b", "a", "a"]).digest()
        );
        for other in [
            Request::new(Action::Remove, Scope::Global, ["a", "b"]),
            Request::new(Action::Add, Scope::Type("x".to_owned()), ["a", "b"]),
            Request::new(Action::Add, Scope::Global, ["ab"]),
            Request {
                note: "n".to_owned(),
                ..first.clone()
            },
            Request {
                etag: Some(Version(1)),
                ..first.clone()
            },
            Request {
                allow_unrestricted: true,
                ..first.clone()
            },
            Request {
                expires_at: Some(Timestamp::MAX),
                ..first.clone()
            },
        ] {
            assert_ne!(first.digest(), other.digest(), "{other:?}");
        }
    }
}
