//! How long a failed task waits before it is started again.

use std::time::Duration;

/// Waits that double from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait. A task that ran for longer than this before it failed starts over at `first`.
    pub max: Duration,
}

impl Backoff {
    /// Returns the wait after the given number of failures in a row, counted from 1.
    pub fn delay(self, failures: u32) -> Duration {
        let factor = 2u32.saturating_pow(failures.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.max)
    }
}

impl Default for Backoff {
    /// Returns waits from 100 ms to 30 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_the_longest() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(1),
        };

        let waits: Vec<_> = (1..=6).map(|failures| backoff.delay(failures).as_millis()).collect();

        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.delay(u32::MAX), Duration::from_secs(1));
    }
}
