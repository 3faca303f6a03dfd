//! What a worker says of itself: heartbeat, readiness, lag, and partitions that stand still.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use reprise_shared::clock::Clock;
use reprise_shared::health::{Latch, Readiness};
use reprise_shared::heartbeat;
use reprise_shared::position::{Offset, TopicPartition};
use reprise_shared::whitelist::Status;
use tokio_util::sync::CancellationToken;

use crate::beat::{Beat, LEAST_BETWEEN_BEATS};
use crate::metrics;
use crate::source::partition::{Partitions, State};
use crate::source::rebalance::LiveConsumer;
use crate::types::Types;

/// Looks at everything once a heartbeat.
pub(super) struct Watch {
    beat: Beat,
    owned: Partitions,
    clock: Clock,
    whitelist: Latch,
    partitions: Latch,
    types: Types,
    consumer: Arc<LiveConsumer>,
    stall_after: Duration,
    moved: HashMap<TopicPartition, (Offset, Duration)>,
}

impl Watch {
    pub(super) fn new(
        beat: Beat,
        (owned, clock): (Partitions, Clock),
        readiness: &Readiness,
        types: Types,
        consumer: Arc<LiveConsumer>,
        stall_after: Duration,
    ) -> Self {
        let (whitelist, partitions) = (readiness.latch("whitelist freshness"), readiness.latch("partitions"));
        Self {
            beat,
            owned,
            clock,
            whitelist,
            partitions,
            types,
            consumer,
            stall_after,
            moved: HashMap::new(),
        }
    }

    /// Works until shutdown. Cancel-safe.
    pub(super) async fn run(mut self, interval: Duration, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let whitelist = self.beat.whitelist().clone();
        loop {
            let told = whitelist.applied_version();
            let partitions = self.look();
            let in_flight = self.owned.view(|_, owned| owned.queue.oldest_whitelist_version());
            self.beat.send(partitions, in_flight.into_iter().flatten().min()).await;
            // Whoever waits for a whitelist change to arrive everywhere hears of it at once.
            let early = async {
                tokio::time::sleep(LEAST_BETWEEN_BEATS).await;
                whitelist.wait_until(&shutdown, |state| state.applied != told).await
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
                _ = early => {}
            }
        }
    }

    /// Sets the latches and returns every partition's line.
    fn look(&mut self) -> Vec<heartbeat::Partition> {
        // Redis being away does not make a worker unready: it goes on with the whitelist that it has.
        match self.beat.whitelist().status() {
            Status::Regressed => self.whitelist.unready("redis holds an older version than this worker"),
            Status::Unknown | Status::Ok | Status::Unreachable => self.whitelist.ready(),
        }
        let now = self.clock.monotonic();
        let lag = &self.consumer.context().lag;
        let lines = self.owned.view(|partition, owned| {
            let position = owned.queue.completed();
            let reading = matches!(owned.state, State::Reading(_));
            let behind = lag
                .behind(partition, position, owned.queue.is_empty())
                .filter(|_| reading);
            let line = heartbeat::Partition {
                topic: partition.topic.to_string(),
                partition: partition.partition.0,
                status: status(&owned.state).to_owned(),
                reason: match &owned.state {
                    State::Stopped { stop, .. } => Some(stop.to_string()),
                    State::Admitting | State::Reading(_) => None,
                },
                committed: owned.committed.map(|committed| committed.0),
                position: reading.then_some(position.0),
                end: behind.map(|behind| position.0 + behind),
            };
            let waits = matches!(owned.state, State::Admitting) || behind.is_some_and(|behind| behind > 0);
            (partition.clone(), position, waits, line)
        });
        self.moved.retain(|partition, _| {
            let owned = lines.iter().any(|(known, ..)| known == partition);
            if !owned {
                metrics::lag(partition.topic.as_str(), partition.partition.0, 0);
            }
            owned
        });
        let mut troubles = Vec::new();
        for (partition, position, waits, line) in &lines {
            let topic = partition.topic.as_str();
            metrics::lag(topic, partition.partition.0, line.end.map_or(0, |end| end - position.0));
            let moved = self.moved.entry(partition.clone()).or_insert((*position, now));
            if moved.0 != *position || !waits {
                *moved = (*position, now);
            } else if now.saturating_sub(moved.1) >= self.stall_after {
                metrics::stalled(topic, partition.partition.0);
                tracing::error!(%partition, %position, status = line.status, "partition stands still");
                troubles.push(format!("{partition} ({}) stands still at {position}", line.status));
            }
            if let Some(reason) = &line.reason {
                troubles.push(format!("{partition} is stopped: {reason}"));
            }
        }
        for (data_type, reason) in self.types.stopped() {
            tracing::debug!(data_type = data_type.0, reason, "data type is stopped");
        }
        if troubles.is_empty() {
            self.partitions.ready();
        } else {
            self.partitions.unready(troubles.join("; "));
        }
        lines.into_iter().map(|(.., line)| line).collect()
    }
}

fn status(state: &State) -> &'static str {
    match state {
        State::Admitting => "admitting",
        State::Reading(_) => "running",
        State::Stopped { .. } => "stopped",
    }
}
