//! What others ask of the reader: commands of this worker, and requests of the group's coordinator.

use std::sync::Arc;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use reprise_shared::position::{Offset, TopicPartition};

use super::{Command, Error, Reader};
use crate::chunk::Stretch;
use crate::progress::tick::Finish;
use crate::source::admission;
use crate::source::intake::Open;
use crate::source::partition::Epoch;
use crate::source::rebalance::{Request, list};

impl Reader {
    /// Does what others ask. Returns whether to go on.
    pub(super) fn commands(&mut self) -> bool {
        while let Ok(command) = self.wiring.commands.try_recv() {
            match command {
                Command::Admit {
                    partition,
                    epoch,
                    stretch,
                    start,
                } => self.admit(partition, epoch, stretch, start),
                Command::Stop { partition, epoch } => {
                    if self.wiring.partitions.with(&partition, epoch, |_| ()).is_some() {
                        self.open.retain(|open| open.partition != partition);
                        self.gate.stopped(&partition);
                    }
                }
                Command::ReadAnew { partition, epoch } => self.read_anew(&partition, epoch),
                Command::ShutDown => return false,
            }
        }
        true
    }

    /// Assigns a partition at a position, whether the client has it already or not. Returns whether it did.
    ///
    /// `incremental_unassign` is not called without need: while a revocation is on its way, the client takes any such
    /// call for the answer to it and gives partitions away before they are drained.
    fn assign_at(&self, partition: &TopicPartition, position: Offset) -> bool {
        let assigned = list([(partition, rdkafka::Offset::Offset(position.to_kafka()))]).and_then(|list| {
            if !self.known_to_client(std::slice::from_ref(partition))?.is_empty() {
                self.consumer.incremental_unassign(&list)?;
            }
            self.consumer.incremental_assign(&list)?;
            self.consumer.resume(&list)
        });
        if let Err(error) = &assigned {
            tracing::warn!(%error, %partition, %position, "assign");
        }
        assigned.is_ok()
    }

    /// Reads a partition on from where it is.
    fn read_anew(&mut self, partition: &TopicPartition, epoch: Epoch) {
        let open = self
            .open
            .iter()
            .find(|open| open.partition == *partition && open.epoch == epoch);
        if let Some(expected) = open.map(|open| open.expected)
            && self.assign_at(partition, expected)
        {
            self.gate.admitted(partition.clone());
            tracing::info!(%partition, position = %expected, "reading anew");
        }
    }

    /// Starts reading an admitted partition.
    fn admit(&mut self, partition: TopicPartition, epoch: Epoch, stretch: Arc<Stretch>, start: Offset) {
        if self.wiring.partitions.with(&partition, epoch, |_| ()).is_none() {
            return;
        }
        if !self.assign_at(&partition, start) {
            let again = admission::Event::Assigned { partition, epoch };
            let _ = self.wiring.admission.blocking_send(again);
            return;
        }
        if !self
            .wiring
            .partitions
            .read(&partition, epoch, Arc::clone(&stretch), start)
        {
            return;
        }
        let Some(plan) = self
            .plans
            .iter()
            .find(|plan| plan.name == partition.topic)
            .map(Arc::clone)
        else {
            return;
        };
        tracing::info!(%partition, %start, "reading");
        self.gate.admitted(partition.clone());
        self.open.retain(|open| open.partition != partition);
        self.open.push(Open {
            partition,
            epoch,
            stretch,
            plan,
            expected: start,
            builder: None,
        });
    }

    /// Answers the coordinator.
    pub(super) fn requests(&mut self) -> Result<(), Error> {
        while let Some(request) = self.consumer.context().next_request() {
            match request {
                Request::Assign(partitions) => self.assigned(partitions),
                Request::Revoke(partitions) => self.revoked(&partitions)?,
            }
        }
        Ok(())
    }

    /// Accepts partitions, but tells the client of none yet: admission says later whether and from where to read.
    fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        tracing::info!(?partitions, "partitions assigned");
        let accepted = self.consumer.incremental_assign(&TopicPartitionList::new());
        if let Err(error) = accepted {
            tracing::error!(%error, "accept assigned partitions");
        }
        for partition in partitions {
            self.gate.assigned(partition.clone());
            let epoch = self.wiring.partitions.assign(partition.clone());
            let _ = self
                .wiring
                .admission
                .blocking_send(admission::Event::Assigned { partition, epoch });
        }
    }

    /// Picks the partitions that the client reads: those that were admitted.
    fn known_to_client<'a>(&self, partitions: &'a [TopicPartition]) -> Result<Vec<&'a TopicPartition>, KafkaError> {
        let known = self.consumer.assignment()?;
        let is_known = |partition: &&TopicPartition| {
            known
                .find_partition(partition.topic.as_str(), partition.partition.to_kafka())
                .is_some()
        };
        Ok(partitions.iter().filter(is_known).collect())
    }

    /// Gives partitions up, after a drain where they are still ours.
    fn revoked(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let lost = self.consumer.assignment_lost();
        tracing::info!(?partitions, lost, "partitions revoked");
        if !lost {
            self.drain(partitions)?;
        }
        for partition in partitions {
            self.wiring.partitions.revoke(partition);
            self.gate.revoked(partition);
        }
        self.open.retain(|open| !partitions.contains(&open.partition));
        // The empty list is an answer, too: the client waits for one.
        let given = self.known_to_client(partitions).and_then(|known| {
            let known = list(known.into_iter().map(|partition| (partition, rdkafka::Offset::Invalid)))?;
            self.consumer.incremental_unassign(&known)
        });
        if let Err(error) = given {
            tracing::warn!(%error, "give up revoked partitions");
        }
        Ok(())
    }

    /// Waits until everything delivered from these partitions is durable, in the ledger and committed, or time is up.
    fn drain(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let deadline = self.wiring.clock.monotonic() + self.drain_limit;
        // All of them, so that no open chunk keeps an older whitelist through the wait.
        self.seal_all(|_| true);
        self.hand_on(deadline.saturating_sub(self.wiring.clock.monotonic()))?;
        let (finish, finished) = Finish::new(partitions.to_vec(), deadline);
        if self.wiring.finishes.try_send(finish).is_ok() {
            let left = deadline.saturating_sub(self.wiring.clock.monotonic());
            let done = finished.recv_timeout(left).unwrap_or(false);
            tracing::info!(done, "drained");
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<(), Error> {
        let owned = self.wiring.partitions.view(|partition, _| partition.clone());
        self.drain(&owned)?;
        for partition in &owned {
            self.wiring.partitions.revoke(partition);
        }
        self.consumer.context().close();
        // What came in before the callback began to answer by itself; unanswered, the consumer could not be closed.
        self.requests()
    }
}
