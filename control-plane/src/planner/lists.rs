//! Whom ids and whitelist let through: now, and at the versions that judged what is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reprise_shared::ledger::Interval;
use reprise_shared::whitelist::{Content, Version};

use super::ask::{Records, Replay};
use super::facts::{Facts, PartitionFacts, TypeLedger, TypePassing};
use super::ids::{Passing, late};
use super::lookups::Resolved;
use super::wanted::{is_since, wanted};
use super::{Error, Planner};

/// Whom one version of the whitelist lets through, by data type.
type ByType = BTreeMap<String, Passing>;

impl Planner {
    /// Finds whom ids and whitelist let through, and returns the whitelist's version.
    pub(super) async fn passing(
        &self,
        replay: &Replay,
        asked: &Passing,
        versions: BTreeSet<Version>,
        facts: &mut Facts,
        notes: &mut Vec<String>,
    ) -> Result<Version, Error> {
        let whitelist = &self.0.parts.whitelist;
        let by_version = depends_on_ranges(replay);
        let names = || replay.data_types.iter().cloned();
        if !by_version && (replay.names_ids() || replay.ignore_whitelist) {
            let (head, _) = whitelist.head().await?;
            facts.types = names()
                .map(|name| {
                    let passing = TypePassing {
                        now: asked.clone(),
                        by_version: BTreeMap::new(),
                    };
                    (name, passing)
                })
                .collect();
            return Ok(head.version);
        }
        let compares = replay.compares();
        if compares && !replay.names_ids() {
            // Each version's lists are kept whole.
            let entries: u64 = whitelist.lists().await?.iter().map(|list| list.entries).sum();
            let (ids, most) = (
                entries.saturating_mul(versions.len() as u64),
                self.config().max_filter_ids,
            );
            if ids > most {
                return Err(super::Refusal::TooManyIds { ids, most }.into());
            }
        }
        let (types, ids): (Vec<String>, Passing) = (replay.data_types.clone(), asked.clone());
        let judge = move |now: &Content, then: Option<&Content>| -> ByType {
            let judged = types.iter().map(|name| {
                let (now, then) = (Passing::of(now, name), then.map(|then| Passing::of(then, name)));
                (name.clone(), judged(compares, by_version, &now, then.as_ref(), &ids))
            });
            judged.collect()
        };
        let looked = whitelist.look_back(versions.clone(), Arc::new(judge)).await?;
        for version in versions.iter().filter(|version| !looked.then.contains_key(version)) {
            notes.push(format!(
                "version {} of the whitelist is not on record; its ranges count as if nothing had passed",
                version.0
            ));
        }
        for name in names() {
            let of = |lists: &ByType| lists.get(&name).cloned().unwrap_or(Passing::All);
            let mut by_version: BTreeMap<Option<Version>, Passing> = looked
                .then
                .iter()
                .map(|(version, lists)| (Some(*version), of(lists)))
                .collect();
            by_version.insert(None, of(&looked.now));
            let passing = TypePassing {
                now: of(&looked.now),
                by_version,
            };
            facts.types.insert(name, passing);
        }
        Ok(looked.head)
    }
}

/// Tells whether the list that counts for a record depends on the whitelist that judged it.
fn depends_on_ranges(replay: &Replay) -> bool {
    match &replay.records {
        Records::CatchUp { .. } => true,
        Records::Offsets(_) | Records::Times(_) => replay.compares() && !replay.ignore_whitelist,
    }
}

/// Says whose records count, of those that were judged by the whitelist `then`; `None`: it is not known.
fn judged(compares: bool, by_version: bool, now: &Passing, then: Option<&Passing>, ids: &Passing) -> Passing {
    let nobody = Passing::Only(BTreeSet::new());
    match (by_version, compares) {
        (false, _) => now.clone(),
        (true, true) => then.map_or(nobody, |then| then.and(ids)),
        (true, false) => late(now, then.unwrap_or(&nobody), ids),
    }
}

/// Returns the versions that judged what is asked for.
pub(super) fn versions(replay: &Replay, facts: &Facts) -> BTreeSet<Version> {
    if !depends_on_ranges(replay) {
        return BTreeSet::new();
    }
    let partitions = facts.partitions.iter();
    let ledgers = partitions.flat_map(|partition| partition.ledger.values().map(move |ledger| (partition, ledger)));
    ledgers
        .flat_map(|(partition, ledger)| judging(replay, partition, ledger))
        .collect()
}

fn judging(replay: &Replay, partition: &PartitionFacts, ledger: &TypeLedger) -> BTreeSet<Version> {
    let wanted = wanted(replay, partition, ledger);
    let touched = |interval: Interval| {
        let mut all = wanted.positions.iter().chain(&wanted.expired);
        all.any(|asked| asked.start < interval.end && interval.start < asked.end)
    };
    let since = match &replay.records {
        Records::CatchUp { since } => *since,
        Records::Offsets(_) | Records::Times(_) => Version(0),
    };
    let ranges = ledger.ranges.iter().filter(|range| is_since(range, since));
    // Most ranges have the version of the one before, and need not be looked at.
    let (mut versions, mut last) = (BTreeSet::new(), None);
    for range in ranges {
        if range.whitelist != last && touched(range.interval) {
            versions.extend(range.whitelist);
            last = range.whitelist;
        }
    }
    versions
}

/// Returns the ids that a replay names, by themselves or by values.
pub(super) fn asked_ids(replay: &Replay, resolved: &[Resolved]) -> Passing {
    if !replay.names_ids() {
        return Passing::All;
    }
    let found = resolved.iter().flat_map(|resolved| &resolved.ids);
    Passing::Only(replay.ids.iter().chain(found).cloned().collect())
}
