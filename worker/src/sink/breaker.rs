//! Tells poison from a fault: when most of what arrives is refused, records are not to blame and the type stops.

use std::time::Duration;

use parking_lot::Mutex;

/// When a type counts as faulty.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Limits {
    /// At least this many dead letters within `window`…
    pub letters: u64,
    /// …and more than half of the rows. At most 10 minutes; whole seconds.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            letters: 100,
            window: Duration::from_secs(60),
        }
    }
}

/// What a batch adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Dead letters, without those that resolve themselves.
    pub dead: u64,
    /// Rows and record-level letters in all.
    pub all: u64,
}

/// Counts one type's rows and letters over all of its lanes, by the second.
#[derive(Debug)]
pub struct Breaker {
    limits: Limits,
    seconds: Mutex<Vec<(u64, Load)>>,
}

impl Breaker {
    /// Starts with nothing counted.
    pub fn new(limits: Limits) -> Self {
        let seconds = usize::try_from(limits.window.as_secs().clamp(1, 600)).unwrap_or(600);
        Self {
            limits,
            seconds: Mutex::new(vec![(u64::MAX, Load::default()); seconds]),
        }
    }

    /// Tells whether committing this batch would show a fault. `now` is monotonic.
    pub fn would_trip(&self, now: Duration, batch: Load) -> bool {
        if batch.dead == 0 {
            return false;
        }
        let (mut dead, mut all) = (batch.dead, batch.all);
        let seconds = self.seconds.lock();
        for (second, load) in seconds.iter() {
            if *second != u64::MAX && second + seconds.len() as u64 > now.as_secs() {
                dead += load.dead;
                all += load.all;
            }
        }
        dead >= self.limits.letters && dead * 2 > all
    }

    /// Counts a committed batch.
    pub fn record(&self, now: Duration, batch: Load) {
        let mut seconds = self.seconds.lock();
        let place = usize::try_from(now.as_secs() % seconds.len() as u64).unwrap_or_default();
        let (second, load) = &mut seconds[place];
        if *second != now.as_secs() {
            (*second, *load) = (now.as_secs(), Load::default());
        }
        load.dead += batch.dead;
        load.all += batch.all;
    }

    /// Forgets everything, as when a type is resumed.
    pub fn reset(&self) {
        self.seconds.lock().fill((u64::MAX, Load::default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn it_trips_at_a_hundred_letters_that_are_more_than_half() {
        let breaker = Breaker::new(Limits::default());
        assert!(!breaker.would_trip(at(5), Load { dead: 99, all: 99 }));
        assert!(breaker.would_trip(at(5), Load { dead: 100, all: 199 }));
        assert!(!breaker.would_trip(at(5), Load { dead: 100, all: 200 }));
    }

    #[test]
    fn good_rows_of_the_last_minute_count_and_older_ones_do_not() {
        let breaker = Breaker::new(Limits::default());
        breaker.record(at(10), Load { dead: 0, all: 1_000 });
        assert!(!breaker.would_trip(at(69), Load { dead: 150, all: 150 }));
        assert!(breaker.would_trip(at(70), Load { dead: 150, all: 150 }));
    }

    #[test]
    fn letters_add_up_over_batches() {
        let breaker = Breaker::new(Limits::default());
        for second in 0..10 {
            assert!(!breaker.would_trip(at(second), Load { dead: 9, all: 9 }));
            breaker.record(at(second), Load { dead: 9, all: 9 });
        }
        assert!(breaker.would_trip(at(11), Load { dead: 10, all: 10 }));
        breaker.reset();
        assert!(!breaker.would_trip(at(11), Load { dead: 10, all: 10 }));
    }
}
