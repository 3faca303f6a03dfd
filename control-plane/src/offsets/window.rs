//! Time windows over ranges. Pure.

use jiff::Timestamp;
use reprise_shared::ledger::{Millis, Span};

/// Which of a range's times is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Kafka's times of the records.
    Record,
    /// The times of processing.
    Processed,
}

impl Basis {
    /// Returns the first and last time of a range; `None` when its records have no time.
    pub fn of(self, range: &Span) -> Option<(Millis, Millis)> {
        match self {
            Self::Record => range.first_record.zip(range.last_record),
            Self::Processed => Some((range.first_processed, range.last_processed)),
        }
    }
}

/// The times `[start, end)` in milliseconds; a missing end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// The first millisecond.
    pub start: Option<Millis>,
    /// The millisecond after the last.
    pub end: Option<Millis>,
}

impl Window {
    /// Makes the window that holds the same whole milliseconds as one of exact times.
    pub fn new(start: Option<Timestamp>, end: Option<Timestamp>) -> Self {
        Self {
            start: start.map(rounded_up),
            end: end.map(rounded_up),
        }
    }

    /// Tells whether it has a time in common with all times from `first` to `last`, both included.
    pub fn touches(self, (first, last): (Millis, Millis)) -> bool {
        self.start.is_none_or(|start| last >= start) && self.end.is_none_or(|end| first < end)
    }
}

/// Returns the first whole millisecond that is not before a time. Times of the ledger and of Kafka are whole: one is at or after a time when it is at or after the next whole one.
pub fn rounded_up(time: Timestamp) -> Millis {
    let whole = time.as_nanosecond().div_euclid(1_000_000);
    let above = i128::from(time.as_nanosecond().rem_euclid(1_000_000) > 0);
    Millis(i64::try_from(whole + above).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: Option<i64>, end: Option<i64>) -> Window {
        Window {
            start: start.map(Millis),
            end: end.map(Millis),
        }
    }

    #[test]
    fn a_window_holds_its_start_and_not_its_end() {
        let times = (Millis(10), Millis(20));
        for (start, end, touches) in [
            (Some(20), Some(21), true),
            (Some(21), Some(30), false),
            (Some(0), Some(10), false),
            (Some(0), Some(11), true),
            (None, Some(10), false),
            (Some(20), None, true),
            (None, None, true),
        ] {
            assert_eq!(window(start, end).touches(times), touches, "[{start:?}, {end:?})");
        }
    }

    #[test]
    fn exact_times_are_rounded_so_that_the_same_milliseconds_are_within() {
        let time = |nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok();
        assert_eq!(Window::new(time(1_000_000), time(2_000_001)), window(Some(1), Some(3)));
        assert_eq!(
            Window::new(time(-1_500_000), time(-1_000_000)),
            window(Some(-1), Some(-1))
        );
        assert_eq!(Window::new(None, None), Window::default());
    }
}
