//! A load that goes on in the background while something is broken.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reprise_shared::clock::Clock;
use tokio::task::JoinHandle;

use super::Fleet;
use crate::feed::{Feed, FeedConfig, Pace, Report, publish};
use crate::wait::wait_for;

/// A feed on its way to Kafka at a steady pace.
#[derive(Debug)]
pub struct Load {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Report>>,
}

impl Fleet {
    /// Begins to publish a feed at a pace; an endless one until [`Load::finish`].
    pub fn load(&self, config: FeedConfig, per_second: u32) -> Load {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (shown, asked, destination) = (Arc::clone(&sent), Arc::clone(&stop), self.destination());
        let task = tokio::task::spawn_blocking(move || {
            let clock = Clock::system();
            let elapsed = || clock.monotonic();
            let pace = Pace {
                per_second,
                elapsed: &elapsed,
            };
            publish(Feed::new(config)?, &destination, Some(pace), |progress| {
                shown.store(progress.sent, Ordering::Relaxed);
                if asked.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        Load { sent, stop, task }
    }
}

impl Load {
    /// Returns how many records were handed to the producer.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many more records were handed to the producer.
    pub async fn more(&self, records: u64, limit: Duration) -> Result<()> {
        let wanted = self.sent() + records;
        wait_for("the load", limit, async || {
            let sent = self.sent();
            if sent >= wanted {
                Ok(())
            } else {
                Err(format!("{sent} of {wanted} records were sent"))
            }
        })
        .await
    }

    /// Ends the load and waits for its last deliveries.
    pub async fn finish(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.task).await.context("run the load")?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A failed test must not leave an endless load behind, which would keep its runtime from ending.
        self.stop.store(true, Ordering::Relaxed);
    }
}
