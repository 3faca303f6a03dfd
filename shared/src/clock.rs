//! The clock that everything takes its time from, so that tests can move it.
//!
//! This is the only module that reads real time; `clippy.toml` bans it everywhere else. Timers (`tokio::time`) are
//! not covered: tests pause those with Tokio's own clock.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

/// The instant that [`Clock::monotonic`] counts from, the same for every system clock of the process.
#[expect(clippy::disallowed_methods, reason = "this module is where real time is read")]
static PROCESS_START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A source of time. Clones share it: when one is advanced, all are.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual {
        start: Timestamp,
        elapsed: Arc<Mutex<Duration>>,
    },
}

impl Clock {
    /// Makes a clock that reads the machine's time.
    pub fn system() -> Self {
        LazyLock::force(&PROCESS_START);
        Self(Source::System)
    }

    /// Makes a clock that stands at `start` until it is advanced.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual {
            start,
            elapsed: Arc::default(),
        })
    }

    /// Moves a manual clock, and all its clones, ahead.
    ///
    /// # Panics
    /// On a system clock, and beyond the year 9999: both are mistakes of a test.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Source::System => panic!("the system clock cannot be advanced"),
            Source::Manual { start, elapsed } => {
                let mut elapsed = elapsed.lock();
                let next = elapsed.saturating_add(by);
                assert!(
                    start.checked_add(next).is_ok(),
                    "a clock cannot be advanced beyond the year 9999"
                );
                *elapsed = next;
            }
        }
    }

    /// Returns the time of day. It may jump, also backwards, when the machine's clock is set.
    #[expect(clippy::disallowed_methods, reason = "this module is where real time is read")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => Timestamp::now(),
            Source::Manual { start, elapsed } => start.checked_add(*elapsed.lock()).unwrap_or(Timestamp::MAX),
        }
    }

    /// Returns a time that never goes back, for measuring how long something took: since the process first asked for
    /// a system clock, or since a manual clock was made.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System => PROCESS_START.elapsed(),
            Source::Manual { elapsed, .. } => *elapsed.lock(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_manual_clock_move_together() {
        let start: Timestamp = "2025-01-02T03:04:05Z".parse().expect("a time");
        let clock = Clock::manual(start);
        let clone = clock.clone();

        clock.advance(Duration::from_millis(1_500));

        assert_eq!(clone.now().to_string(), "2025-01-02T03:04:06.5Z");
        assert_eq!(clone.monotonic(), Duration::from_millis(1_500));
    }

    #[test]
    fn system_clocks_count_from_the_same_instant_and_never_go_back() {
        let first = Clock::system();
        let before = first.monotonic();
        let after = Clock::system().monotonic();

        assert!(before <= after);
        assert!(first.now() > Timestamp::UNIX_EPOCH);
    }

    #[test]
    #[should_panic(expected = "cannot be advanced")]
    fn the_system_clock_refuses_to_be_advanced() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
