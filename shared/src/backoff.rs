//! How long to wait before the next try: the one back-off of every retry. Tries are not bounded here, waits are.

use std::time::Duration;

/// Waits whose bound doubles from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Backoff {
    /// Makes waits from `first` to `max`.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max }
    }

    /// Returns the bound after a number of failures in a row, counted from 1.
    pub fn bound(self, failures: u32) -> Duration {
        let factor = 2u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.max)
    }

    /// Begins a series of waits.
    pub const fn waits(self) -> Waits {
        Waits {
            backoff: self,
            failures: 0,
        }
    }
}

impl Default for Backoff {
    /// Returns waits from 100 ms to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }
}

/// The waits between the tries of one piece of work, with full jitter: each lies anywhere below its bound, so that
/// those who failed together do not come back together (the "full jitter" of Amazon's architecture blog, "Exponential
/// Backoff And Jitter", 2015).
#[derive(Clone, Debug)]
pub struct Waits {
    backoff: Backoff,
    failures: u32,
}

impl Waits {
    /// Counts a failure and returns the wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        self.next_by(rand::random())
    }

    fn next_by(&mut self, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.bound(self.failures).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_bounds_double_up_to_the_longest_and_never_end() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let bounds: Vec<_> = (1..=6).map(|failures| backoff.bound(failures).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.bound(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn waits_lie_anywhere_below_their_bound() {
        let mut waits = Backoff::default().waits();
        assert_eq!(waits.next_by(1.0), Duration::from_millis(100));
        assert_eq!(waits.next_by(0.5), Duration::from_millis(100));
        assert_eq!(waits.next_by(0.0), Duration::ZERO);
        assert_eq!(waits.next_by(1.0), Duration::from_millis(800));
    }
}
