//! Which version each worker holds, and waiting until all hold one.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use reprise_shared::heartbeat::{Fleet, Role};
use reprise_shared::whitelist::{self, Version};
use tokio::time::{Instant, sleep};

use super::error::Error;
use super::store::Store;

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub worker: String,
    /// What it says.
    pub holding: Holding,
}

/// What a worker says of its whitelist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// It says nothing: it died, hangs, cannot reach Redis, or is of another version of the program. It may go on
    /// working with whatever it held last, so it stands in the way of convergence.
    Unknown,
    /// It sent a heartbeat lately.
    Says {
        /// Its role.
        role: Role,
        /// Its machine or pod.
        host: String,
        /// How its whitelist relates to the one in Redis.
        status: whitelist::Status,
        /// The version that it judges new chunks by.
        applied: Option<Version>,
        /// The oldest version that a chunk in flight was judged by.
        oldest_in_flight: Option<Version>,
        /// How long before Redis last confirmed what it holds.
        age: Option<Duration>,
        /// When it said so, by its own clock.
        sent_at: Timestamp,
    },
}

impl Member {
    /// Tells whether it judges new chunks by `version` or a later one.
    pub fn has_applied(&self, version: Version) -> bool {
        match self.holding {
            Holding::Unknown => false,
            Holding::Says { applied, .. } => applied >= Some(version),
        }
    }

    /// Tells whether, besides, nothing is in flight that was judged by an earlier version.
    pub fn has_drained(&self, version: Version) -> bool {
        let Holding::Says { oldest_in_flight, .. } = self.holding else {
            return false;
        };
        self.has_applied(version) && oldest_in_flight.is_none_or(|oldest| oldest >= version)
    }
}

/// How far a version has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convergence {
    /// The version.
    pub version: Version,
    /// All workers, by id.
    pub members: Vec<Member>,
}

impl Convergence {
    /// Judges what was heard of workers. `expected` are ids of workers that must be among them, for example the
    /// members of the consumer group.
    pub fn of(version: Version, fleet: &Fleet, expected: &[String]) -> Self {
        let says = |worker: &reprise_shared::heartbeat::Heartbeat| Member {
            worker: worker.worker.clone(),
            holding: Holding::Says {
                role: worker.role,
                host: worker.host.clone(),
                status: worker.whitelist.status,
                applied: worker.whitelist.applied,
                oldest_in_flight: worker.whitelist.oldest_in_flight,
                age: worker.whitelist.age_ms.map(Duration::from_millis),
                sent_at: worker.sent_at,
            },
        };
        let mut members: Vec<Member> = fleet.workers.iter().map(says).collect();
        let heard: BTreeSet<&String> = fleet.workers.iter().map(|worker| &worker.worker).collect();
        let silent: BTreeSet<&String> = fleet.unreadable.iter().chain(&fleet.silent).chain(expected).collect();
        members.extend(silent.difference(&heard).map(|worker| Member {
            worker: (*worker).clone(),
            holding: Holding::Unknown,
        }));
        members.sort_unstable_by(|a, b| a.worker.cmp(&b.worker));
        Self { version, members }
    }

    /// Tells whether every worker judges new chunks by the version or a later one. True without workers: one that
    /// starts reads the newest before its first record.
    pub fn is_applied(&self) -> bool {
        self.members.iter().all(|member| member.has_applied(self.version))
    }

    /// Tells whether, besides, nothing is in flight anywhere that was judged by an earlier version.
    pub fn is_drained(&self) -> bool {
        self.members.iter().all(|member| member.has_drained(self.version))
    }

    /// Lists the workers that have not applied the version, the unknown ones among them.
    pub fn laggards(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.has_applied(self.version))
    }
}

impl Store {
    /// Says which version each worker holds, by its last heartbeat. A worker that died without a word is listed as
    /// unknown for a minute.
    pub async fn convergence(&self, version: Version, expected: &[String]) -> Result<Convergence, Error> {
        let now = self.shared.clock.now();
        let fleet = self.shared.heartbeats.list(now).await.map_err(Error::Redis)?;
        Ok(Convergence::of(version, &fleet, expected))
    }

    /// Waits until `reached` says that it is enough, for example [`Convergence::is_drained`], for at most `limit`,
    /// and returns how things stood at the last look. Redis being away is waited out; an error is returned only when
    /// the last look failed. Cancel-safe.
    pub async fn wait_converged(
        &self,
        version: Version,
        expected: &[String],
        limit: Duration,
        reached: impl Fn(&Convergence) -> bool,
    ) -> Result<Convergence, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let seen = self.convergence(version, expected).await;
            let is_reached = seen.as_ref().is_ok_and(&reached);
            let left = deadline.saturating_duration_since(Instant::now());
            if is_reached || left.is_zero() {
                return seen;
            }
            sleep(self.shared.config.convergence_poll.min(left)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(applied: Option<u64>, oldest_in_flight: Option<u64>) -> Member {
        Member {
            worker: "w".to_owned(),
            holding: Holding::Says {
                role: Role::Ingest,
                host: String::new(),
                status: whitelist::Status::Ok,
                applied: applied.map(Version),
                oldest_in_flight: oldest_in_flight.map(Version),
                age: None,
                sent_at: Timestamp::UNIX_EPOCH,
            },
        }
    }

    #[test]
    fn a_version_is_drained_when_nothing_older_is_in_flight() {
        for (applied, in_flight, expected) in [
            (None, None, (false, false)),
            (Some(4), None, (false, false)),
            (Some(5), Some(4), (true, false)),
            (Some(5), Some(5), (true, true)),
            (Some(9), None, (true, true)),
        ] {
            let member = member(applied, in_flight);
            let found = (member.has_applied(Version(5)), member.has_drained(Version(5)));
            assert_eq!(found, expected, "{applied:?} {in_flight:?}");
        }
    }

    #[test]
    fn whoever_is_silent_or_cannot_be_read_stands_in_the_way() {
        let empty = Fleet {
            workers: vec![],
            unreadable: vec![],
            silent: vec![],
        };
        assert!(Convergence::of(Version(1), &empty, &[]).is_drained());
        for (fleet, expected) in [
            (
                Fleet {
                    silent: vec!["w".to_owned()],
                    ..empty.clone()
                },
                vec![],
            ),
            (
                Fleet {
                    unreadable: vec!["w".to_owned()],
                    ..empty.clone()
                },
                vec![],
            ),
            (empty, vec!["w".to_owned()]),
        ] {
            let convergence = Convergence::of(Version(1), &fleet, &expected);
            assert!(!convergence.is_applied());
            assert_eq!(convergence.laggards().count(), 1);
        }
    }
}
