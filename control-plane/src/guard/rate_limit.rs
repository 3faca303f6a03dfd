//! Refuses a caller who calls too often, so that others are served: a bucket of tokens for each, in Redis, shared by
//! all replicas. While Redis is away each replica counts by itself, so that a job can still be cancelled.

mod local;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use reprise_shared::clock::Clock;
use reprise_shared::redis::{Limit, Redis, Script};
use reprise_shared::telemetry::chain;
use ring::digest::{SHA256, digest};

use self::local::Buckets;
use super::auth::Caller;
use super::gate;
use crate::config::RateLimitConfig;
use crate::grpc::error::{Error, ErrorReason};
use crate::metrics;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("rate_limit/take.lua")));

/// Counts callers' calls.
pub struct Gate {
    redis: Redis,
    clock: Clock,
    local: Buckets,
    per_second: u32,
    burst: u32,
    answer_within: Duration,
    ask_again_after: Duration,
    /// Milliseconds of the clock before which Redis is not asked.
    ask_again_at: AtomicU64,
}

impl Gate {
    /// Counts in this Redis.
    pub fn new(config: &RateLimitConfig, redis: Redis, clock: Clock) -> Self {
        Self {
            local: Buckets::new(config.per_second, config.burst, config.max_local_callers),
            redis,
            clock,
            per_second: config.per_second,
            burst: config.burst,
            answer_within: config.redis_answer,
            ask_again_after: config.ask_redis_again_after,
            ask_again_at: AtomicU64::new(0),
        }
    }

    /// Takes a token, and returns how long to wait if there is none.
    async fn take(&self, principal: &str) -> Option<Duration> {
        let now = self.clock.monotonic();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if milliseconds(now) >= self.ask_again_at.load(Ordering::Relaxed) {
            match self.take_in_redis(principal).await {
                Ok(wait) => return wait,
                Err(problem) => {
                    let again = milliseconds(now + self.ask_again_after);
                    self.ask_again_at.store(again, Ordering::Relaxed);
                    tracing::warn!(problem, "rate limits are counted without redis");
                }
            }
        }
        metrics::rate_limited_locally();
        self.local.take(principal, now)
    }

    async fn take_in_redis(&self, principal: &str) -> Result<Option<Duration>, String> {
        // A digest, because a name may be long and hold anything.
        let name = URL_SAFE_NO_PAD.encode(&digest(&SHA256, principal.as_bytes()).as_ref()[..18]);
        let key = format!("{}:rate:{name}", self.redis.prefix());
        let mut command = TAKE.call([key.as_str()]);
        command.arg(self.per_second).arg(self.burst);
        let asked = self
            .redis
            .invoke::<u64>("take a token", Limit::Ordinary, &TAKE, &command);
        match tokio::time::timeout(self.answer_within, asked).await {
            Ok(Ok(0)) => Ok(None),
            Ok(Ok(wait)) => Ok(Some(Duration::from_millis(wait))),
            Ok(Err(error)) => Err(chain(&error).to_string()),
            Err(_) => Err(format!("no answer within {:?}", self.answer_within)),
        }
    }
}

impl gate::Gate for Gate {
    async fn admit(&self, call: &mut Parts) -> Result<(), Error> {
        let Some(caller) = call.extensions.get::<Caller>().filter(|_| self.per_second > 0) else {
            return Ok(());
        };
        let Some(wait) = self.take(&caller.principal).await else {
            return Ok(());
        };
        let message = format!(
            "too many calls: {} a second are allowed, and {} at once after a pause; try again in {wait:?}",
            self.per_second, self.burst
        );
        let error = Error::new(ErrorReason::RateLimited, message).retry_after(wait);
        Err(error.with("per_second", self.per_second))
    }
}
