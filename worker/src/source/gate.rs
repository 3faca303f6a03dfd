//! Pause and resume, decided in one place.
//!
//! A partition is read while it is admitted and nothing holds the intake. Pausing drops what the client prefetched,
//! so a short lack of room is waited out instead (see the reader); a hold is for minutes, not for milliseconds.

use std::collections::HashSet;

use reprise_shared::position::TopicPartition;

/// What must be done to bring the client to the wanted state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Partitions to pause.
    pub pause: Vec<TopicPartition>,
    /// Partitions to resume.
    pub resume: Vec<TopicPartition>,
}

/// Remembers what is paused at the client.
#[derive(Debug, Default)]
pub struct Gate {
    assigned: HashSet<TopicPartition>,
    admitted: HashSet<TopicPartition>,
    paused: HashSet<TopicPartition>,
    held: bool,
}

impl Gate {
    /// Notes a partition that was just assigned: the client does not know it until it is admitted.
    pub fn assigned(&mut self, partition: TopicPartition) {
        self.admitted.remove(&partition);
        self.paused.insert(partition.clone());
        self.assigned.insert(partition);
    }

    /// Notes that a partition may be read. The caller has just assigned it anew, so the client has it running.
    pub fn admitted(&mut self, partition: TopicPartition) {
        self.paused.remove(&partition);
        self.admitted.insert(partition);
    }

    /// Notes that a partition must not be read any more although it stays assigned.
    pub fn stopped(&mut self, partition: &TopicPartition) {
        self.admitted.remove(partition);
    }

    /// Forgets a partition that was taken away.
    pub fn revoked(&mut self, partition: &TopicPartition) {
        self.assigned.remove(partition);
        self.admitted.remove(partition);
        self.paused.remove(partition);
    }

    /// Holds or releases all partitions.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Tells whether all partitions are held.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Returns what must change at the client, and takes it for done. A caller whose call failed undoes it with
    /// [`Gate::failed`].
    pub fn changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for partition in &self.assigned {
            let wanted = self.held || !self.admitted.contains(partition);
            match (wanted, self.paused.contains(partition)) {
                (true, false) => changes.pause.push(partition.clone()),
                (false, true) => changes.resume.push(partition.clone()),
                _ => {}
            }
        }
        self.paused.extend(changes.pause.iter().cloned());
        for partition in &changes.resume {
            self.paused.remove(partition);
        }
        changes
    }

    /// Takes changes back that the client refused, so that the next call returns them again.
    pub fn failed(&mut self, changes: Changes) {
        for partition in changes.pause {
            self.paused.remove(&partition);
        }
        self.paused.extend(
            changes
                .resume
                .into_iter()
                .filter(|partition| self.assigned.contains(partition)),
        );
    }
}

#[cfg(test)]
mod tests {
    use reprise_shared::position::{Partition, TopicName};

    use super::*;

    fn partition(number: u16) -> TopicPartition {
        TopicPartition {
            topic: TopicName::new("fund-data"),
            partition: Partition(number),
        }
    }

    #[test]
    fn a_partition_that_arrives_during_a_hold_stays_paused_until_both_end() {
        let mut gate = Gate::default();
        gate.hold(true);
        gate.assigned(partition(0));
        assert_eq!(gate.changes(), Changes::default());
        gate.admitted(partition(0));
        assert_eq!(gate.changes().pause, [partition(0)]);
        gate.hold(false);
        assert_eq!(gate.changes().resume, [partition(0)]);
        gate.stopped(&partition(0));
        assert_eq!(gate.changes().pause, [partition(0)]);
    }

    #[test]
    fn a_refused_change_is_asked_for_again() {
        let mut gate = Gate::default();
        gate.assigned(partition(0));
        gate.admitted(partition(0));
        gate.hold(true);
        let changes = gate.changes();
        gate.failed(changes);
        assert_eq!(gate.changes().pause, [partition(0)]);
    }
}
