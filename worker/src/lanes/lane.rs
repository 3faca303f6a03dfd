//! The loop of one lane.

use std::sync::Arc;
use std::time::Duration;

use reprise_shared::catalog::{DataType, LookupIndex, TypeIndex};
use reprise_shared::row::Cell;
use tokio_util::sync::CancellationToken;

use super::queue::{Limits, Next, Queue};
use super::{Config, settle};
use crate::budget::Budget;
use crate::sink::Work;
use crate::sink::batch::Slot;
use crate::sink::shared::Shared;
use crate::sink::writer::{Verdict, Writer};

/// How a lane ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was closed, and everything that was queued is durable or deferred.
    Drained,
    /// A hard shutdown came first; what was queued is not settled.
    Abandoned,
}

/// One ordered queue with its own database connection, to be run in a task that nobody cancels: it ends by
/// [`super::Lanes::close`] or by its shutdown token.
pub struct Lane {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    writer: Writer,
    budget: Arc<Budget>,
    ping_interval: Duration,
    limits: Limits,
    /// Per type of the catalog: the lookups that its table feeds, with the place of their key column.
    feeds: Vec<Vec<(LookupIndex, usize)>>,
}

impl Lane {
    pub(super) fn new(
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        writer: Writer,
        budget: Arc<Budget>,
        config: &Config,
    ) -> Self {
        let catalog = shared.catalog();
        let feeds = catalog.data_types.iter().map(|data_type| {
            let lookups = catalog
                .lookups
                .iter()
                .enumerate()
                .filter(|(_, lookup)| lookup.table == data_type.table);
            lookups
                .filter_map(|(place, lookup)| Some((LookupIndex(place), column(data_type, &lookup.key)?)))
                .collect()
        });
        Self {
            feeds: feeds.collect(),
            ping_interval: config.ping_interval,
            limits: Limits {
                rows: usize::MAX,
                letters: config.max_letters.max(1),
                letter_bytes: config.max_letter_bytes,
            },
            shared,
            queue,
            writer,
            budget,
        }
    }

    /// Writes what is queued until the lanes are closed and nothing is left, or until `shutdown`, which abandons
    /// everything at once. Dropping the future does the same as `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) -> End {
        loop {
            if shutdown.is_cancelled() {
                return End::Abandoned;
            }
            self.limits.rows = self.shared.control().most_rows();
            let wait = match self.queue.next(self.shared.clock().monotonic(), self.limits) {
                Next::Write(work) => {
                    let begun = self.shared.clock().monotonic();
                    if self.write(work, &shutdown).await == End::Abandoned {
                        return End::Abandoned;
                    }
                    let took = self.shared.clock().monotonic().saturating_sub(begun);
                    self.rest(self.shared.control().rest_after(took), &shutdown).await;
                    continue;
                }
                Next::Closed => {
                    self.writer.close().await;
                    return End::Drained;
                }
                Next::Wait(wait) => wait,
                Next::Idle => self.ping_interval,
            };
            // Neither branch loses anything when it is dropped.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.queue.woken() => {}
                () = tokio::time::sleep(wait) => {
                    if wait == self.ping_interval {
                        self.writer.ping().await;
                    }
                }
            }
        }
    }

    /// Leaves the database alone for a while; what is left when the lanes are closed is written at once.
    async fn rest(&self, time: Duration, shutdown: &CancellationToken) {
        if time.is_zero() {
            return;
        }
        let over = tokio::time::sleep(time);
        tokio::pin!(over);
        while !self.queue.is_closed() {
            // A wake-up is not lost here: the queue is looked at after the rest.
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.queue.woken() => {}
                () = &mut over => return,
            }
        }
    }

    /// Puts a batch through and settles it. `Drained` here: the batch has its outcome.
    async fn write(&mut self, mut work: Work, shutdown: &CancellationToken) -> End {
        let data_type = work.data_type;
        match (self.writer.write(&mut work, shutdown).await, data_type) {
            (Ok(Verdict::Committed), _) => {
                if let Some(data_type) = data_type {
                    self.publish(data_type, &work);
                }
                let pieces = settle::committed(work);
                self.budget.give_rows(pieces);
            }
            (Ok(Verdict::Stopped), Some(data_type)) => {
                let (rows, letters) = self.queue.take_all(data_type);
                let pieces = settle::deferred(work.batch.into_rows(), work.letters) + settle::deferred(rows, letters);
                self.budget.give_rows(pieces);
            }
            (Ok(Verdict::Stopped), None) => unreachable!("letters without a type have none that could be stopped"),
            (Err(_), _) => return End::Abandoned,
        }
        End::Drained
    }

    /// Tells which keys of lookups were written.
    fn publish(&self, data_type: TypeIndex, work: &Work) {
        for (lookup, place) in &self.feeds[data_type.0] {
            let written = (0..work.batch.slots()).filter_map(|slot| work.batch.row(Slot(slot)));
            let keys: Vec<String> = written
                .filter_map(|pending| match pending.row.cells.iter().nth(*place)? {
                    Cell::Text(text) => Some(text.to_owned()),
                    Cell::Int(number) => Some(number.to_string()),
                    Cell::Null => None,
                })
                .collect();
            if !keys.is_empty() {
                self.shared.control().lookup_written(*lookup, keys);
            }
        }
    }
}

fn column(data_type: &DataType, name: &str) -> Option<usize> {
    data_type.columns.iter().position(|column| column.name == name)
}
