//! When a slice is read to its end (pure): the one place that decides it.
//!
//! Positions alone never tell. A slice may end in what is never delivered (markers of transactions, aborted records,
//! compacted ones), so its end is a record at or above it, or the end of the log, confirmed by asking the broker again:
//! an end of the log counts only if the last stable offset was known to be at or above the slice's end before it was
//! seen, and is so still, of the same topic. Everything else is missing data, with the exact interval.

use std::time::Duration;

use reprise_shared::jobs::MissingReason;
use reprise_shared::position::Offset;

/// What the broker says of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// Its first offset.
    pub(super) start: Offset,
    /// Its last stable offset.
    pub(super) end: Offset,
    /// Its topic.
    pub(super) topic: Topic,
}

/// Whether the topic is the one that the slice is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Same,
    Another,
    /// There is none of its name.
    Gone,
}

/// Why the broker is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Before the first record.
    Start,
    /// The client has nothing more.
    EndOfLog,
    /// The client says that its position is not in the log.
    OutOfRange,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Read from the next expected position.
    Read,
    /// Ask again a little later.
    Wait,
    /// Everything was read.
    Done,
    /// `[start, end)` cannot be read any more; reading may go on at its end.
    Missing {
        start: Offset,
        end: Offset,
        reason: MissingReason,
    },
}

/// What a delivered record is to the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// Delivered before.
    Repeated,
    /// It belongs to the slice.
    Within,
    /// It belongs to the slice, and nothing can follow.
    Last,
    /// It lies beyond the slice, which is therefore read.
    Beyond,
}

/// Follows the reading of one slice.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    expected: Offset,
    end: Offset,
    /// The broker confirmed that its log reaches the slice's end, and nothing was seen since that says otherwise.
    reaches_end: bool,
    /// Since when something is wrong that a moment may mend.
    doubtful_since: Option<Duration>,
    patience: Duration,
}

impl Reading {
    /// Begins at a position. A log that is too short, or a topic that is gone, counts as lost after `patience`.
    pub(super) fn new(start: Offset, end: Offset, patience: Duration) -> Self {
        Self {
            expected: start,
            end,
            reaches_end: false,
            doubtful_since: None,
            patience,
        }
    }

    /// Returns the next offset that may be taken.
    pub(super) fn expected(&self) -> Offset {
        self.expected
    }

    /// Returns the slice's end.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// Takes note of a delivered record.
    pub(super) fn delivered(&mut self, offset: Offset) -> Delivery {
        if offset >= self.end {
            return Delivery::Beyond;
        }
        if offset < self.expected {
            return Delivery::Repeated;
        }
        self.expected = offset.next();
        if self.expected >= self.end {
            Delivery::Last
        } else {
            Delivery::Within
        }
    }

    /// Takes note of what the broker answered. `now` is the monotonic clock.
    pub(super) fn answered(&mut self, why: Why, log: Log, now: Duration) -> Next {
        if self.expected >= self.end {
            return Next::Done;
        }
        match log.topic {
            Topic::Another => return self.missing(self.end, MissingReason::Recreated),
            Topic::Gone => return self.doubt(now, |reading| reading.missing(reading.end, MissingReason::Recreated)),
            Topic::Same => {}
        }
        if log.start > self.expected {
            return self.missing(log.start.min(self.end), MissingReason::Expired);
        }
        let nothing_to_read = why == Why::EndOfLog || log.end <= self.expected;
        if log.end >= self.end {
            self.doubtful_since = None;
            let was_sure = std::mem::replace(&mut self.reaches_end, true);
            return if why == Why::EndOfLog && was_sure {
                Next::Done
            } else {
                Next::Read
            };
        }
        self.reaches_end = false;
        if !nothing_to_read {
            return Next::Read;
        }
        self.doubt(now, |reading| {
            let start = reading.expected.max(log.end);
            Next::Missing {
                start,
                end: reading.end,
                reason: MissingReason::Truncated,
            }
        })
    }

    fn missing(&self, end: Offset, reason: MissingReason) -> Next {
        Next::Missing {
            start: self.expected,
            end,
            reason,
        }
    }

    fn doubt(&mut self, now: Duration, lost: impl FnOnce(&Self) -> Next) -> Next {
        let since = *self.doubtful_since.get_or_insert(now);
        if now.saturating_sub(since) < self.patience {
            Next::Wait
        } else {
            lost(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn reading(start: u64, end: u64) -> Reading {
        Reading::new(Offset(start), Offset(end), PATIENCE)
    }

    fn log(start: u64, end: u64) -> Log {
        Log {
            start: Offset(start),
            end: Offset(end),
            topic: Topic::Same,
        }
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn missing(start: u64, end: u64, reason: MissingReason) -> Next {
        Next::Missing {
            start: Offset(start),
            end: Offset(end),
            reason,
        }
    }

    #[test]
    fn a_record_at_the_end_or_beyond_it_ends_the_slice() {
        let mut reading = reading(10, 20);
        assert_eq!(reading.answered(Why::Start, log(0, 100), at(0)), Next::Read);
        assert_eq!(reading.delivered(Offset(12)), Delivery::Within);
        assert_eq!(reading.delivered(Offset(12)), Delivery::Repeated);
        assert_eq!(reading.clone().delivered(Offset(19)), Delivery::Last);
        assert_eq!(reading.delivered(Offset(20)), Delivery::Beyond);
        assert_eq!(reading.delivered(Offset(25)), Delivery::Beyond);
    }

    #[test]
    fn a_tail_that_is_never_delivered_ends_with_the_log() {
        let mut reading = reading(0, 20);
        assert_eq!(reading.answered(Why::Start, log(0, 20), at(0)), Next::Read);
        assert_eq!(reading.delivered(Offset(11)), Delivery::Within);
        assert_eq!(reading.answered(Why::EndOfLog, log(0, 20), at(1)), Next::Done);
    }

    #[test]
    fn nothing_at_all_is_read_at_once() {
        assert_eq!(reading(7, 7).answered(Why::Start, log(0, 7), at(0)), Next::Done);
    }

    #[test]
    fn an_end_of_the_log_counts_only_when_the_log_was_known_to_be_long_enough() {
        let mut reading = reading(0, 20);
        assert_eq!(reading.answered(Why::Start, log(0, 15), at(0)), Next::Read);
        // It grew between the end that was seen and the answer: what came since was not delivered yet.
        assert_eq!(reading.answered(Why::EndOfLog, log(0, 20), at(1)), Next::Read);
        assert_eq!(reading.answered(Why::EndOfLog, log(0, 20), at(2)), Next::Done);
    }

    #[test]
    fn a_log_that_stays_too_short_is_missing_from_its_end_on() {
        let mut reading = reading(0, 20);
        assert_eq!(reading.answered(Why::Start, log(0, 15), at(0)), Next::Read);
        assert_eq!(reading.delivered(Offset(9)), Delivery::Within);
        assert_eq!(reading.answered(Why::EndOfLog, log(0, 15), at(10)), Next::Wait);
        assert_eq!(reading.answered(Why::EndOfLog, log(0, 15), at(39)), Next::Wait);
        let lost = reading.answered(Why::EndOfLog, log(0, 15), at(40));
        assert_eq!(lost, missing(15, 20, MissingReason::Truncated));
    }

    #[test]
    fn a_log_that_recovers_in_time_is_read_on() {
        let mut reading = reading(10, 20);
        assert_eq!(reading.answered(Why::Start, log(0, 5), at(0)), Next::Wait);
        assert_eq!(reading.answered(Why::Start, log(0, 25), at(20)), Next::Read);
        assert_eq!(reading.answered(Why::OutOfRange, log(0, 5), at(100)), Next::Wait);
        assert_eq!(reading.answered(Why::OutOfRange, log(0, 5), at(129)), Next::Wait);
    }

    #[test]
    fn what_retention_deleted_is_missing_up_to_the_logs_start() {
        let mut reading = reading(0, 20);
        assert_eq!(
            reading.answered(Why::Start, log(5, 30), at(0)),
            missing(0, 5, MissingReason::Expired)
        );
        assert_eq!(reading.delivered(Offset(6)), Delivery::Within);
        let cut = reading.answered(Why::OutOfRange, log(50, 60), at(1));
        assert_eq!(cut, missing(7, 20, MissingReason::Expired));
    }

    #[test]
    fn another_topic_of_the_name_has_nothing_of_the_slice() {
        let other = |topic| Log { topic, ..log(0, 100) };
        let mut reading = reading(3, 20);
        let recreated = missing(3, 20, MissingReason::Recreated);
        assert_eq!(reading.answered(Why::Start, other(Topic::Another), at(0)), recreated);
        assert_eq!(reading.answered(Why::Start, other(Topic::Gone), at(0)), Next::Wait);
        assert_eq!(reading.answered(Why::Start, other(Topic::Gone), at(30)), recreated);
    }
}
