//! Buckets of this replica alone.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;

/// The buckets of callers that were seen lately.
pub(super) struct Buckets {
    per_second: f64,
    burst: f64,
    buckets: Cache<String, Arc<Mutex<Bucket>>>,
}

struct Bucket {
    tokens: f64,
    at: Duration,
}

impl Buckets {
    /// Keeps at most `most` callers.
    pub(super) fn new(per_second: u32, burst: u32, most: u32) -> Self {
        Self {
            per_second: per_second.into(),
            burst: burst.into(),
            buckets: Cache::new(most.into()),
        }
    }

    /// Takes a token at a time that never goes back, and returns how long to wait if there is none.
    pub(super) fn take(&self, caller: &str, now: Duration) -> Option<Duration> {
        let full = || {
            Arc::new(Mutex::new(Bucket {
                tokens: self.burst,
                at: now,
            }))
        };
        let bucket = self.buckets.get_with_by_ref(caller, full);
        let mut bucket = bucket.lock();
        let passed = now.saturating_sub(bucket.at).as_secs_f64();
        bucket.tokens = self.burst.min(bucket.tokens + passed * self.per_second);
        bucket.at = bucket.at.max(now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            None
        } else {
            let wait = (1.0 - bucket.tokens) / self.per_second;
            Some(Duration::from_secs_f64(wait.max(0.001)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_refills_at_its_rate() {
        let buckets = Buckets::new(10, 3, 100);
        let at = Duration::from_secs(100);
        assert_eq!((0..3).filter_map(|_| buckets.take("a", at)).count(), 0);
        let wait = buckets.take("a", at).expect("the bucket is empty");
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(buckets.take("b", at), None, "others have buckets of their own");
        assert_eq!(buckets.take("a", at + Duration::from_millis(101)), None);
        assert!(buckets.take("a", at + Duration::from_millis(101)).is_some());
        let later = at + Duration::from_secs(3_600);
        assert_eq!((0..3).filter_map(|_| buckets.take("a", later)).count(), 0);
        assert!(buckets.take("a", later).is_some(), "a pause does not add up");
    }
}
