//! The pace of one task: its share of the job's limit, and what live traffic leaves it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use super::live_first::Speed;

/// A limiter that was empty for long lets this part of a second through at once.
const BURST: u32 = 20;

/// Sets the pace of a task's reader. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Pacer(Arc<Mutex<Pace>>);

#[derive(Debug, Default)]
struct Pace {
    held: bool,
    rate: Option<u64>,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Pacer {
    /// Takes over what the job allows (its share of its limit, in records a second) and what live traffic leaves.
    pub(super) fn set(&self, share: Option<u64>, speed: Speed) {
        let (held, cap) = match speed {
            Speed::Full => (false, None),
            Speed::AtMost(rate) => (false, Some(rate)),
            Speed::Hold => (true, None),
        };
        let rate = share.into_iter().chain(cap).min();
        let mut pace = self.0.lock();
        pace.held = held;
        if pace.rate != rate {
            pace.rate = rate;
            pace.limiter = rate.map(|rate| Arc::new(limiter(rate)));
        }
    }

    /// Tells whether nothing may be read now.
    pub(super) fn is_held(&self) -> bool {
        self.0.lock().held
    }

    /// Counts one record. `Some`: wait that long and ask again, before the next is read.
    pub(super) fn take(&self) -> Option<Duration> {
        let limiter = self.0.lock().limiter.clone()?;
        let not_until = limiter.check().err()?;
        Some(not_until.wait_time_from(DefaultClock::default().now()))
    }
}

fn limiter(rate: u64) -> DefaultDirectRateLimiter {
    let rate = u32::try_from(rate).unwrap_or(u32::MAX).max(1);
    let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
    let burst = NonZeroU32::new(rate.get() / BURST).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_of_two_limits_counts_and_a_hold_stops_everything() {
        let pacer = Pacer::default();
        let rate = || pacer.0.lock().rate;
        assert!(pacer.take().is_none());
        pacer.set(Some(500), Speed::AtMost(200));
        assert_eq!(rate(), Some(200));
        pacer.set(Some(100), Speed::AtMost(200));
        assert_eq!(rate(), Some(100));
        pacer.set(None, Speed::Hold);
        assert!(pacer.is_held());
        pacer.set(None, Speed::Full);
        assert!(!pacer.is_held() && rate().is_none());
    }

    #[test]
    fn a_limit_lets_a_part_of_a_second_through_and_then_asks_to_wait() {
        let pacer = Pacer::default();
        pacer.set(Some(200), Speed::Full);
        let at_once = (0..200).take_while(|_| pacer.take().is_none()).count();
        assert!((10..=12).contains(&at_once), "{at_once}");
    }
}
