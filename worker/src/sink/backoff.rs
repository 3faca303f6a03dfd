//! How long to wait before the next try: full jitter under a doubling bound. Tries are not bounded, waits are.

use std::time::Duration;

/// Waits between 0 and a bound that doubles with each try up to `cap`.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// Starts with a first wait of at most `base`.
    pub fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, tries: 0 }
    }

    /// Returns the next wait. `random` is uniform in [0, 1).
    pub fn next(&mut self, random: f64) -> Duration {
        let bound = self
            .base
            .saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX))
            .min(self.cap);
        self.tries = (self.tries + 1).min(31);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Returns how often a wait was asked for, up to 31.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i4_waits_double_up_to_the_cap_and_never_end() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        let waits: Vec<_> = (0..50).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits[0], Duration::from_millis(100));
        assert_eq!(waits[3], Duration::from_millis(800));
        assert!(waits[9..].iter().all(|wait| *wait == Duration::from_secs(30)));
        assert_eq!(backoff.next(0.0), Duration::ZERO);
    }
}
