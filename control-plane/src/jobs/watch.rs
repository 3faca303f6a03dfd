//! Follows jobs: one poller for each job that somebody follows, however many do.
//!
//! A poller ends with its last follower, with its job's end, and at shutdown. Followers get whole snapshots, so one that
//! was cut off misses nothing by coming back: the first snapshot that it gets is how the job stands then.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use reprise_shared::jobs::JobId;
use reprise_shared::supervise::{OnCancel, OnError, Supervisor};
use reprise_shared::telemetry::chain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::read::Snapshot;
use super::{Error, Jobs};

/// A rate is that of so many looks at a job.
const LOOKS: usize = 10;

/// A snapshot, and how many records were read a second lately.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Records a second; `None`: it is not known yet.
    pub rate: Option<f64>,
}

/// Follows jobs. Cheap to clone.
#[derive(Clone)]
pub struct Watches(Arc<Shared>);

struct Shared {
    jobs: Jobs,
    places: Arc<Semaphore>,
    supervisor: Supervisor,
    open: Mutex<HashMap<JobId, watch::Sender<Option<Arc<Seen>>>>>,
}

/// One follower of one job.
pub struct Follower {
    news: watch::Receiver<Option<Arc<Seen>>>,
    first: Option<Arc<Seen>>,
    last: Option<Arc<Seen>>,
    _place: OwnedSemaphorePermit,
}

/// Why following ended before the job did: this server shuts down, or the job was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody looks at the job any more")]
pub struct Cut;

/// Why nobody can be followed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many follow already.
    #[error("{most} callers follow jobs already; try again, or ask GetJob")]
    TooMany {
        /// The limit.
        most: usize,
    },
    /// The job cannot be read.
    #[error(transparent)]
    Job(#[from] Error),
}

impl Watches {
    /// Makes it; nobody follows yet. Its pollers are tasks of the supervisor.
    pub fn new(jobs: Jobs, supervisor: &Supervisor) -> Self {
        let places = Arc::new(Semaphore::new(jobs.config().max_watchers));
        Self(Arc::new(Shared {
            jobs,
            places,
            supervisor: supervisor.clone(),
            open: Mutex::default(),
        }))
    }

    /// Begins to follow a job.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn follow(&self, id: JobId) -> Result<Follower, Refused> {
        let most = self.0.jobs.config().max_watchers;
        let place = Arc::clone(&self.0.places).try_acquire_owned();
        let place = place.map_err(|_| Refused::TooMany { most })?;
        // Before its own look, so that nothing falls in between.
        let news = self.subscribe(id);
        let first = Seen {
            snapshot: self.0.jobs.snapshot(id).await?,
            rate: None,
        };
        Ok(Follower {
            news,
            first: Some(Arc::new(first)),
            last: None,
            _place: place,
        })
    }

    fn subscribe(&self, id: JobId) -> watch::Receiver<Option<Arc<Seen>>> {
        let mut open = self.0.open.lock();
        if let Some(sender) = open.get(&id) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        open.insert(id, sender);
        drop(open);
        let watches = self.clone();
        self.0
            .supervisor
            .spawn("job watch", OnError::Log, OnCancel::Abort, async move {
                watches.poll(id).await;
                Ok::<_, io::Error>(())
            });
        receiver
    }

    /// Looks at a job until it ended or nobody follows it.
    async fn poll(&self, id: JobId) {
        let shutdown = self.0.supervisor.shutdown_token();
        let pause = self.0.jobs.config().watch_every;
        let mut looks = Looks::default();
        loop {
            if !self.is_followed(id) {
                return;
            }
            let is_over = match self.0.jobs.snapshot(id).await {
                Ok(snapshot) => {
                    let is_final = snapshot.job.state.is_final();
                    let rate = looks.rate(self.0.jobs.0.clock.monotonic(), snapshot.progress.read.read);
                    self.tell(id, Seen { snapshot, rate });
                    is_final
                }
                Err(Error::NoSuchJob(_)) => true,
                Err(error) => {
                    tracing::debug!(job.id = %id, error = %chain(&error), "could not look at a job that is followed");
                    false
                }
            };
            let waited = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
            if is_over || waited.is_none() {
                // Followers are told by the end of the channel.
                self.0.open.lock().remove(&id);
                return;
            }
        }
    }

    /// Tells whether somebody follows a job; if not, it is not looked at any more.
    fn is_followed(&self, id: JobId) -> bool {
        let mut open = self.0.open.lock();
        let is_followed = open.get(&id).is_some_and(|sender| sender.receiver_count() > 0);
        if !is_followed {
            open.remove(&id);
        }
        is_followed
    }

    fn tell(&self, id: JobId, seen: Seen) {
        if let Some(sender) = self.0.open.lock().get(&id) {
            sender.send_if_modified(|last| {
                let is_news = last.as_ref().is_none_or(|last| last.snapshot != seen.snapshot);
                if is_news {
                    *last = Some(Arc::new(seen));
                }
                is_news
            });
        }
    }
}

impl Follower {
    /// Waits for the next snapshot; `None` after the one in which the job had ended.
    ///
    /// # Errors
    /// [`Cut`]: following ended before the job did.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Arc<Seen>>, Cut> {
        if self
            .last
            .as_ref()
            .is_some_and(|last| last.snapshot.job.state.is_final())
        {
            return Ok(None);
        }
        let seen = match self.first.take() {
            Some(first) => first,
            None => self.news().await?,
        };
        self.last = Some(Arc::clone(&seen));
        Ok(Some(seen))
    }

    async fn news(&mut self) -> Result<Arc<Seen>, Cut> {
        loop {
            self.news.changed().await.map_err(|_| Cut)?;
            let seen = self.news.borrow_and_update().clone();
            let is_other = |seen: &Arc<Seen>| self.last.as_ref().is_none_or(|last| last.snapshot != seen.snapshot);
            if let Some(seen) = seen.filter(is_other) {
                return Ok(seen);
            }
        }
    }
}

/// The last looks at a job, for its rate.
#[derive(Debug, Default)]
struct Looks(VecDeque<(Duration, u64)>);

impl Looks {
    #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
    fn rate(&mut self, now: Duration, read: u64) -> Option<f64> {
        self.0.push_back((now, read));
        if self.0.len() > LOOKS {
            self.0.pop_front();
        }
        let (since, from) = *self.0.front()?;
        let time = now.saturating_sub(since).as_secs_f64();
        (time > 0.0).then(|| read.saturating_sub(from) as f64 / time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_looks() {
        let mut looks = Looks::default();
        assert_eq!(looks.rate(Duration::from_secs(100), 50), None);
        assert_eq!(looks.rate(Duration::from_secs(102), 70), Some(10.0));
        for second in 103..=120 {
            looks.rate(Duration::from_secs(second), 70);
        }
        assert_eq!(looks.rate(Duration::from_secs(121), 70), Some(0.0));
    }
}
