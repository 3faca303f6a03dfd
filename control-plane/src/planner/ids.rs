//! Whose records pass: by the ids of a request, and by versions of the whitelist. Pure.

use std::collections::{BTreeMap, BTreeSet};

use reprise_shared::whitelist::Content;

/// A set of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passing {
    /// Every id.
    All,
    /// These ids, perhaps none.
    Only(BTreeSet<String>),
}

impl Passing {
    /// Returns whom a whitelist lets through of a data type: its own list replaces the global one while it is not empty,
    /// and an empty list restricts nothing.
    pub fn of(content: &Content, data_type: &str) -> Self {
        let own = content.types.get(data_type).filter(|list| !list.is_empty());
        let list = own.unwrap_or(&content.global);
        if list.is_empty() {
            Self::All
        } else {
            Self::Only(list.clone())
        }
    }

    /// Tells whether nobody passes.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Only(ids) if ids.is_empty())
    }

    /// Returns who is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::All, other) => other.clone(),
            (one, Self::All) => one.clone(),
            (Self::Only(one), Self::Only(other)) => Self::Only(one.intersection(other).cloned().collect()),
        }
    }

    /// Returns who is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(one), Self::Only(other)) => Self::Only(one.union(other).cloned().collect()),
            _ => Self::All,
        }
    }
}

/// Returns who passes now and did not then, of those who are asked for. Where everybody passes now, those who did then
/// cannot be left out by a list of ids, so the answer holds them too.
pub fn late(now: &Passing, then: &Passing, asked: &Passing) -> Passing {
    match (now.and(asked), then) {
        (_, Passing::All) => Passing::Only(BTreeSet::new()),
        (Passing::All, Passing::Only(_)) => Passing::All,
        (Passing::Only(now), Passing::Only(then)) => Passing::Only(now.difference(then).cloned().collect()),
    }
}

/// The lists of a plan, each kept once.
#[derive(Debug, Default)]
pub struct Filters {
    places: BTreeMap<BTreeSet<String>, u32>,
    ids: u64,
}

impl Filters {
    /// Returns the place of a list; `None` for everybody.
    pub fn place(&mut self, passing: &Passing) -> Option<u32> {
        let Passing::Only(ids) = passing else {
            return None;
        };
        if let Some(place) = self.places.get(ids) {
            return Some(*place);
        }
        let place = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        self.ids += ids.len() as u64;
        self.places.insert(ids.clone(), place);
        Some(place)
    }

    /// Returns how many ids all lists hold.
    pub fn ids(&self) -> u64 {
        self.ids
    }

    /// Returns the lists by their places.
    pub fn into_lists(self) -> Vec<Vec<String>> {
        let mut lists: Vec<(u32, Vec<String>)> = self
            .places
            .into_iter()
            .map(|(ids, place)| (place, ids.into_iter().collect()))
            .collect();
        lists.sort_unstable_by_key(|(place, _)| *place);
        lists.into_iter().map(|(_, ids)| ids).collect()
    }
}

#[cfg(test)]
mod tests {
    use reprise_shared::whitelist::{ChangeId, Head, Scope, Version};

    use super::*;

    fn only(ids: &[&str]) -> Passing {
        Passing::Only(ids.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_list_of_the_type_counts_before_the_global_one_and_an_empty_one_lets_all_through() {
        let mut content = Content::new(Head {
            version: Version(1),
            change_id: ChangeId::new("c"),
        });
        assert_eq!(Passing::of(&content, "t"), Passing::All);
        content.global.insert("g".to_owned());
        assert_eq!(Passing::of(&content, "t"), only(&["g"]));
        content.list_mut(Scope::Type("t".to_owned()));
        assert_eq!(Passing::of(&content, "t"), only(&["g"]));
        content.list_mut(Scope::Type("t".to_owned())).insert("own".to_owned());
        assert_eq!(Passing::of(&content, "t"), only(&["own"]));
        assert_eq!(Passing::of(&content, "other"), only(&["g"]));
    }

    #[test]
    fn late_are_those_who_pass_now_and_did_not_then() {
        for (now, then, asked, expected) in [
            (only(&["a", "b"]), only(&["a"]), Passing::All, only(&["b"])),
            (
                only(&["a", "b", "c"]),
                only(&["a"]),
                only(&["a", "c", "d"]),
                only(&["c"]),
            ),
            (only(&["a"]), Passing::All, Passing::All, only(&[])),
            (Passing::All, only(&["a"]), only(&["a", "b"]), only(&["b"])),
            (Passing::All, only(&["a"]), Passing::All, Passing::All),
            (Passing::All, Passing::All, Passing::All, only(&[])),
            (only(&["a"]), only(&["a", "b"]), Passing::All, only(&[])),
        ] {
            assert_eq!(late(&now, &then, &asked), expected, "{now:?} {then:?} {asked:?}");
        }
    }

    #[test]
    fn equal_lists_are_kept_once() {
        let mut filters = Filters::default();
        assert_eq!(filters.place(&Passing::All), None);
        assert_eq!(filters.place(&only(&["b", "a"])), Some(0));
        assert_eq!(filters.place(&only(&["c"])), Some(1));
        assert_eq!(filters.place(&only(&["a", "b"])), Some(0));
        assert_eq!(filters.ids(), 3);
        assert_eq!(
            filters.into_lists(),
            [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]
        );
    }
}
