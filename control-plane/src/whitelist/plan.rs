//! What a request does to a list, decided from what the list holds; pure.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use reprise_shared::whitelist::Scope;

use super::error::Error;
use super::record::{Effect, Effects, Group};
use super::request::{Action, Request};

/// What an entry says beside its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) note: String,
    pub(super) expires_at: Option<Timestamp>,
}

/// A list, as far as a request is about it: its size and those entries that the request names (all of them for a
/// replacement).
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    pub(super) entries: u64,
    pub(super) named: HashMap<String, Remark>,
}

/// Decides what becomes of each id, in the order of ids.
pub(super) fn plan(request: &Request, mut current: Current) -> Result<Effects, Error> {
    let asked: BTreeSet<&String> = request.ids.iter().collect();
    let mut effects: [Vec<String>; 4] = Default::default();
    let [added, removed, refreshed, untouched] = &mut effects;
    for id in asked {
        let here = current.named.remove(id);
        let list = match (request.action, here) {
            (Action::Remove, Some(_)) => &mut *removed,
            (Action::Remove, None) => &mut *untouched,
            (Action::Add | Action::Replace, None) => &mut *added,
            (Action::Add | Action::Replace, Some(remark)) => {
                let same = remark.note == request.note && remark.expires_at == request.expires_at;
                if same { &mut *untouched } else { &mut *refreshed }
            }
        };
        list.push(id.clone());
    }
    if request.action == Action::Replace {
        removed.extend(current.named.into_keys());
        removed.sort_unstable();
    }
    let after = (current.entries + added.len() as u64).saturating_sub(removed.len() as u64);
    // Also a replacement by nothing of a list that is empty already: it asks for everything to be let through.
    let empties = !removed.is_empty() || request.action == Action::Replace;
    if after == 0 && empties && !request.allow_unrestricted {
        return Err(Error::WouldBeUnrestricted {
            scope: request.scope.clone(),
            entries: current.entries,
        });
    }
    Ok(groups(&request.scope, effects))
}

fn groups(scope: &Scope, effects: [Vec<String>; 4]) -> Effects {
    let kinds = [Effect::Added, Effect::Removed, Effect::Refreshed, Effect::Untouched];
    let groups = kinds.into_iter().zip(effects).filter(|(_, ids)| !ids.is_empty());
    Effects(
        groups
            .map(|(effect, ids)| Group {
                scope: scope.clone(),
                effect,
                ids,
            })
            .collect(),
    )
}

/// Which of a list's due entries are removed, given in the order of their expiry: all, but never the last entry of
/// the list.
pub(super) fn removable(mut due: Vec<String>, entries: u64) -> Vec<String> {
    if due.len() as u64 >= entries {
        due.pop();
    }
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[&str]) -> Current {
        let remark = Remark {
            note: "old".to_owned(),
            expires_at: None,
        };
        Current {
            entries: ids.len() as u64,
            named: ids.iter().map(|id| ((*id).to_owned(), remark.clone())).collect(),
        }
    }

    fn effects(action: Action, ids: &[&str], list: Current) -> Vec<(Effect, Vec<String>)> {
        let mut request = Request::new(action, Scope::Global, ids.iter().copied());
        request.note = "old".to_owned();
        let effects = plan(&request, list).expect("allowed");
        effects.0.into_iter().map(|group| (group.effect, group.ids)).collect()
    }

    fn strings(ids: &[&str]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_id_is_told_what_became_of_it() {
        use Effect::{Added, Removed, Untouched};
        assert_eq!(
            effects(Action::Add, &["b", "a", "b"], list(&["a"])),
            [(Added, strings(&["b"])), (Untouched, strings(&["a"]))]
        );
        assert_eq!(
            effects(
                Action::Remove,
                &["a", "x"],
                Current {
                    entries: 2,
                    ..list(&["a"])
                }
            ),
            [(Removed, strings(&["a"])), (Untouched, strings(&["x"]))]
        );
        assert_eq!(
            effects(Action::Replace, &["b", "c"], list(&["z", "a", "b"])),
            [
                (Added, strings(&["c"])),
                (Removed, strings(&["a", "z"])),
                (Untouched, strings(&["b"]))
            ]
        );
    }

    #[test]
    fn another_note_or_expiry_refreshes_an_entry() {
        let mut request = Request::new(Action::Add, Scope::Global, ["a"]);
        let effect = |request: &Request| plan(request, list(&["a"])).expect("allowed").0[0].effect;
        assert_eq!(effect(&request), Effect::Refreshed);
        request.note = "old".to_owned();
        assert_eq!(effect(&request), Effect::Untouched);
        request.expires_at = Some(Timestamp::MAX);
        assert_eq!(effect(&request), Effect::Refreshed);
    }

    #[test]
    fn a_list_is_emptied_only_on_request() {
        for (action, ids, allowed) in [
            (Action::Remove, &["a", "b"][..], false),
            (Action::Remove, &["a"], true),
            (Action::Replace, &[], false),
            (Action::Replace, &["c"], true),
        ] {
            let mut request = Request::new(action, Scope::Global, ids.iter().copied());
            assert_eq!(plan(&request, list(&["a", "b"])).is_ok(), allowed, "{action:?} {ids:?}");
            request.allow_unrestricted = true;
            assert!(plan(&request, list(&["a", "b"])).is_ok());
        }
        let nothing = Request::new(Action::Replace, Scope::Global, [""; 0]);
        assert!(
            plan(&nothing, list(&[])).is_err(),
            "an empty list is never made by chance"
        );
        let absent = Request::new(Action::Remove, Scope::Global, ["x"]);
        assert!(plan(&absent, list(&[])).is_ok(), "nothing is removed");
    }

    #[test]
    fn expiry_leaves_the_last_entry() {
        assert_eq!(removable(strings(&["a", "b"]), 3), strings(&["a", "b"]));
        assert_eq!(removable(strings(&["a", "b"]), 2), strings(&["a"]));
        assert_eq!(removable(strings(&["a"]), 1), strings(&[]));
        assert_eq!(removable(strings(&[]), 0), strings(&[]));
    }
}
