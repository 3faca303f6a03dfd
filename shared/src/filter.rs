//! Which records are let through: pure, from one snapshot of the whitelist.
//!
//! Where the Kafka key is the id (`in_key`), a record that is not let through costs one hash look-up: no copy, no
//! parse. A [`Sampler`] picks the few that are decoded anyway, to check that key and id agree.

use crate::catalog::TypeIndex;
use crate::whitelist::Snapshot;

/// What the whitelist says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The record goes on.
    Pass,
    /// The record's id is not on the list that counts for its type: its outcome is `filtered`.
    Filtered,
}

/// Judges one record by its type and id. All records of a chunk are judged by one snapshot, whose version is what
/// the ledger records for them.
pub fn judge(snapshot: &Snapshot, data_type: TypeIndex, id: &[u8]) -> Verdict {
    if snapshot.allows(data_type, id) {
        Verdict::Pass
    } else {
        Verdict::Filtered
    }
}

/// Picks one in `every` calls, counted and not drawn, so that a run can be repeated. Not shared between threads:
/// each poll thread has its own.
#[derive(Clone, Debug)]
pub struct Sampler {
    every: u32,
    left: u32,
}

impl Sampler {
    /// How many filtered records there are for each that is decoded anyway.
    pub const DEFAULT_EVERY: u32 = 1_024;

    /// Makes a sampler that picks the last of each `every` calls; 0 counts as 1, which picks all.
    pub fn new(every: u32) -> Self {
        let every = every.max(1);
        Self { every, left: every }
    }

    /// Counts one record and tells whether it is picked.
    #[inline]
    pub fn pick(&mut self) -> bool {
        self.left -= 1;
        if self.left == 0 {
            self.left = self.every;
        }
        self.left == self.every
    }
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(Self::DEFAULT_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whitelist::{ChangeId, Content, Head, Scope, Version};

    #[test]
    fn a_record_passes_when_the_list_of_its_type_has_its_id() {
        let mut content = Content::new(Head {
            version: Version(1),
            change_id: ChangeId::new("a"),
        });
        content.list_mut(Scope::Global).extend(["one".to_owned()]);
        let snapshot = Snapshot::new(&["fund_basic".to_owned()], content);
        assert_eq!(judge(&snapshot, TypeIndex(0), b"one"), Verdict::Pass);
        assert_eq!(judge(&snapshot, TypeIndex(0), b"two"), Verdict::Filtered);
    }

    #[test]
    fn the_sampler_picks_exactly_one_in_every_so_many() {
        let mut sampler = Sampler::default();
        let picked: Vec<_> = (1..=5_000).filter(|_| sampler.pick()).collect();
        assert_eq!(picked, [1_024, 2_048, 3_072, 4_096]);
        let mut all = Sampler::new(0);
        assert!((0..10).all(|_| all.pick()));
    }
}
