//! What else one should know of a plan, in words.

use reprise_shared::ledger::Interval;

use super::facts::PartitionFacts;
use super::wanted::Wanted;

/// So many notes are kept; the rest is counted.
const MOST: usize = 50;

/// Notes so far.
#[derive(Debug, Default)]
pub struct Notes {
    lines: Vec<String>,
    left_out: usize,
}

impl Notes {
    /// Adds a note, unless it stands there already.
    pub fn add(&mut self, line: String) {
        if self.lines.contains(&line) {
            return;
        }
        if self.lines.len() < MOST {
            self.lines.push(line);
        } else {
            self.left_out += 1;
        }
    }

    /// Notes what an ask comes to in a partition.
    pub fn of_partition(&mut self, data_type: &str, partition: &PartitionFacts, wanted: &Wanted, unknown: &[Interval]) {
        let at = &partition.at;
        if let Some(asked) = wanted.capped {
            let end = wanted.positions.last().map_or(partition.log.end, |last| last.end);
            self.add(format!(
                "{at} is read up to {end}, not to {asked}: there is no more that can be read"
            ));
        }
        if wanted.is_forgetful {
            self.add(format!(
                "{data_type} in {at}: what Kafka has deleted below {} and the ledger does not know is taken to be older \
                 than the window",
                partition.log.start
            ));
        }
        if let (Some(first), Some(last)) = (unknown.first(), unknown.last()) {
            self.add(format!(
                "{data_type} in {at}: {} intervals from {} to {} are left out, because the ledger does not know by which \
                 whitelist their records were judged",
                unknown.len(),
                first.start,
                last.end
            ));
        }
    }

    /// Notes that a comparison leaves out what was passed over.
    pub fn deferred(&mut self, data_type: &str, partition: &PartitionFacts) {
        self.add(format!(
            "{data_type} in {}: records that were passed over while it was stopped are not compared; a job of their own \
             replays them",
            partition.at
        ));
    }

    /// Notes that a catch-up replays more than what is late.
    pub fn cannot_exclude(&mut self, data_type: &str) {
        self.add(format!(
            "{data_type}: the whitelist lets everything through now, so records that passed before are replayed too; \
             name ids to replay only theirs"
        ));
    }

    /// Returns the notes.
    pub fn into_lines(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!("and {} more notes", self.left_out));
        }
        self.lines
    }
}
