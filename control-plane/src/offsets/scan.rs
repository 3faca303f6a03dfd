//! Reads the ledger page by page, up to a limit.

use reprise_shared::ledger::{Coverage, Interval, Span};
use reprise_shared::position::{Offset, TopicId, TopicPartition};

use super::{Error, Offsets};

/// Every position. Offsets are below 2^53.
pub(super) const ALL: Interval = Interval {
    start: Offset(0),
    end: Offset(1 << 53),
};

impl Offsets {
    /// Shows `each` the ranges of one type and topic id in one partition that overlap `within`, by start.
    ///
    /// # Errors
    /// When Redis does not answer, or there are more than `offsets.max_ranges`.
    pub(super) async fn each_range(
        &self,
        data_type: &str,
        partition: &TopicPartition,
        topic_id: &TopicId,
        within: Interval,
        mut each: impl FnMut(&Span),
    ) -> Result<(), Error> {
        let (max_read, most) = (self.config().max_read, self.config().max_ranges);
        let (mut cursor, mut read) = (None, 0);
        loop {
            let page = self
                .0
                .reader
                .spans(data_type, partition, within, cursor, max_read)
                .await?;
            read += page.members.len() + page.unreadable;
            page.members
                .iter()
                .filter(|range| range.topic_id == *topic_id)
                .for_each(&mut each);
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
            if read >= most {
                return Err(Error::TooMuch {
                    partition: partition.clone(),
                    what: "ranges to look at",
                    most,
                });
            }
        }
    }

    /// Returns the coverage of one partition and topic id that overlaps `within`.
    ///
    /// # Errors
    /// When Redis does not answer, or there are more intervals than `offsets.max_intervals`.
    pub(super) async fn coverage(
        &self,
        partition: &TopicPartition,
        topic_id: &TopicId,
        within: Interval,
    ) -> Result<Vec<Coverage>, Error> {
        let (max_read, most) = (self.config().max_read, self.config().max_intervals);
        let (mut cursor, mut coverage) = (None, Vec::new());
        loop {
            let page = self.0.reader.coverage(partition, within, cursor, max_read).await?;
            coverage.extend(page.members.into_iter().filter(|member| member.topic_id == *topic_id));
            cursor = page.next;
            if coverage.len() > most {
                return Err(Error::TooMuch {
                    partition: partition.clone(),
                    what: "intervals of coverage",
                    most,
                });
            }
            if cursor.is_none() {
                return Ok(coverage);
            }
        }
    }
}
