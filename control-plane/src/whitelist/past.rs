//! The lists as they were at former versions: what MySQL holds now, with the history since then taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use reprise_shared::whitelist::{Content, Version};

use super::entries;
use super::error::Error;
use super::head;
use super::history;
use super::record::{Effect, Effects, State};
use super::store::Store;

/// Judges the lists of now and of then.
pub type Judge<T> = Arc<dyn Fn(&Content, Option<&Content>) -> T + Send + Sync>;

/// What was found of former versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookedBack<T> {
    /// The version of now.
    pub head: Version,
    /// What is judged of now alone.
    pub now: T,
    /// What is judged of each version that is on record.
    pub then: BTreeMap<Version, T>,
}

impl Store {
    /// Returns all lists as a worker that holds `version` judges by them, also when that change was given up after
    /// Redis may have had it.
    ///
    /// Reads all entries and the history since then, of one moment; changes do not wait for it.
    pub async fn content_at(&self, version: Version) -> Result<Content, Error> {
        let shared = Arc::clone(&self.shared);
        let read = self
            .shared
            .database
            .snapshot("whitelist_content_at", move |connection| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    // Entries and history have to belong together, and so are read as of one moment.
                    let (head, _) = head::look(&mut *connection).await?;
                    let wanted = history::find_version(&mut *connection, version).await?;
                    let wanted = wanted.ok_or(Error::NoSuchVersion(version))?;
                    let mut content = entries::content(connection, head).await?;
                    let mut before = Version(u64::MAX);
                    loop {
                        let page = history::page(&mut *connection, before, shared.config.max_page).await?;
                        for record in page.iter().filter(|record| record.state == State::Applied) {
                            if record.version > wanted.version {
                                let effects = history::effects(&mut *connection, &record.change_id).await?;
                                apply(&mut content, &effects, Direction::Back);
                            }
                        }
                        before = match page.last().and_then(|record| record.version) {
                            Some(last) if last > version => last,
                            _ => break,
                        };
                    }
                    if wanted.state != State::Applied {
                        let effects = history::effects(&mut *connection, &wanted.change_id).await?;
                        apply(&mut content, &effects, Direction::Forth);
                    }
                    content.types.retain(|_, list| !list.is_empty());
                    content.head = super::settle::head_of(&wanted);
                    Ok(content)
                })
            });
        read.await
    }

    /// Judges all lists as they are now, and as workers that held each of some versions judged by them. `judge` gets the
    /// lists of now, and those of then, or none for what is not known; it may be called again, so it keeps nothing.
    ///
    /// Reads all entries and the history since the oldest of the versions once, of one moment; changes do not wait for it.
    pub async fn look_back<T: Send + 'static>(
        &self,
        versions: BTreeSet<Version>,
        judge: Judge<T>,
    ) -> Result<LookedBack<T>, Error> {
        let max_page = self.shared.config.max_page;
        let looked = self.shared.database.snapshot("whitelist_look_back", move |connection| {
            let (versions, judge) = (versions.clone(), Arc::clone(&judge));
            Box::pin(async move {
                let (head, _) = head::look(&mut *connection).await?;
                let now = entries::content(connection, head.clone()).await?;
                let mut then = now.clone();
                let mut looked = LookedBack {
                    head: head.version,
                    now: judge(&now, None),
                    then: BTreeMap::new(),
                };
                let Some(oldest) = versions.first().copied() else {
                    return Ok(looked);
                };
                let mut before = Version(u64::MAX);
                loop {
                    let page = history::page(&mut *connection, before, max_page).await?;
                    for record in &page {
                        let Some(version) = record.version.filter(|version| *version >= oldest) else {
                            continue;
                        };
                        let is_wanted = versions.contains(&version);
                        let is_applied = record.state == State::Applied;
                        if !is_wanted && !is_applied {
                            continue;
                        }
                        let effects = history::effects(&mut *connection, &record.change_id).await?;
                        if is_wanted {
                            // `then` is as after this change, if it was made.
                            let judged = if is_applied {
                                judge(&now, Some(&then))
                            } else {
                                let mut held = then.clone();
                                apply(&mut held, &effects, Direction::Forth);
                                judge(&now, Some(&held))
                            };
                            looked.then.insert(version, judged);
                        }
                        if is_applied {
                            apply(&mut then, &effects, Direction::Back);
                        }
                    }
                    before = match page.last().and_then(|record| record.version) {
                        Some(last) if last > oldest => last,
                        _ => return Ok(looked),
                    };
                }
            })
        });
        looked.await
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Back,
    Forth,
}

fn apply(content: &mut Content, effects: &Effects, direction: Direction) {
    for group in &effects.0 {
        let puts = match (group.effect, direction) {
            (Effect::Added, Direction::Forth) | (Effect::Removed, Direction::Back) => true,
            (Effect::Removed, Direction::Forth) | (Effect::Added, Direction::Back) => false,
            (Effect::Refreshed | Effect::Untouched, _) => continue,
        };
        let list: &mut BTreeSet<String> = content.list_mut(group.scope.clone());
        for id in &group.ids {
            if puts {
                list.insert(id.clone());
            } else {
                list.remove(id);
            }
        }
    }
}
