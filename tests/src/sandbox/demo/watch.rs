//! Watches the feed arrive, and changes the whitelist half-way.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use reprise_shared::clock::Clock;

use crate::sandbox::counts::Counters;
use crate::sandbox::screen::{Live, number};
use crate::sandbox::stack::Stack;
use crate::sandbox::whitelist;

/// The time between two looks.
const PAUSE: Duration = Duration::from_millis(150);
/// The rate that is shown is of this long.
const WINDOW: Duration = Duration::from_secs(1);

/// Watches one feed.
pub(super) struct Watch<'a> {
    /// The stack.
    pub(super) stack: &'a Stack,
    /// How many records the brokers acknowledged, as it grows.
    pub(super) delivered: &'a AtomicU64,
    /// How many there will be.
    pub(super) total: u64,
    /// The funds that are let through from half-way on.
    pub(super) funds: Vec<String>,
    /// How long it may take.
    pub(super) limit: Duration,
}

/// A change of the whitelist that no worker was seen to have applied yet.
struct Changed {
    version: u64,
    at: Duration,
}

impl Watch<'_> {
    /// Works until the worker has consumed everything and has applied the new whitelist; returns its version.
    pub(super) async fn run(self) -> Result<u64> {
        let clock = Clock::system();
        let begun = clock.monotonic();
        let start = Counters::read(self.stack).await?;
        let mut live = Live::new(Some(self.total));
        let mut window: VecDeque<(Duration, u64)> = VecDeque::new();
        let (mut changed, mut applied) = (None, false);
        loop {
            let counters = Counters::read(self.stack).await?;
            let now = clock.monotonic();
            let delivered = self.delivered.load(Ordering::Relaxed);
            let consumed = counters.consumed(None).saturating_sub(start.consumed(None));
            let rows = counters
                .rows(None, None)
                .settled()
                .saturating_sub(start.rows(None, None).settled());
            window.push_back((now, rows));
            while window.len() > 2 && now.saturating_sub(window[0].0) > WINDOW {
                window.pop_front();
            }
            let rate = per_second(&window);
            let lag = delivered.saturating_sub(consumed);
            live.show(consumed, || line(delivered, rows, rate, lag));
            if changed.is_none() && delivered >= self.total / 2 {
                changed = Some(self.change(&live, &clock).await?);
            }
            if let Some(changed) = changed.as_ref().filter(|_| !applied) {
                applied = self.applied(changed, &live, &clock).await?;
            }
            if let Some(changed) = changed.as_ref().filter(|_| applied && consumed >= self.total) {
                let took = now.saturating_sub(begun).as_secs_f64();
                let filtered = counters.records(None, None).filtered - start.records(None, None).filtered;
                live.end(format_args!(
                    "{} records in {took:.1} s: {} rows, {} records filtered",
                    number(consumed),
                    number(rows),
                    number(filtered)
                ));
                return Ok(changed.version);
            }
            if now.saturating_sub(begun) > self.limit {
                bail!(
                    "{consumed} of {} records were consumed after {:?}",
                    self.total,
                    self.limit
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn change(&self, live: &Live, clock: &Clock) -> Result<Changed> {
        let funds = number(self.funds.len() as u64);
        let at = clock.monotonic();
        let version = whitelist::replace(&mut self.stack.whitelist()?, self.funds.clone()).await?;
        live.note(format_args!("whitelist: {funds} funds from now on (version {version})"));
        Ok(Changed { version, at })
    }

    async fn applied(&self, changed: &Changed, live: &Live, clock: &Clock) -> Result<bool> {
        if !whitelist::is_applied(&mut self.stack.whitelist()?, changed.version, Duration::ZERO).await? {
            return Ok(false);
        }
        let took = clock.monotonic().saturating_sub(changed.at).as_millis();
        live.note(format_args!(
            "whitelist: version {} is applied by every worker, as the control plane says {took} ms later",
            changed.version
        ));
        Ok(true)
    }
}

/// Waits until every worker has applied a version of the whitelist.
pub(super) async fn applied(stack: &Stack, version: u64, limit: Duration) -> Result<()> {
    const A_CALL: Duration = Duration::from_secs(20);
    let clock = Clock::system();
    let (mut client, begun) = (stack.whitelist()?, clock.monotonic());
    while !whitelist::is_applied(&mut client, version, A_CALL).await? {
        ensure!(
            clock.monotonic().saturating_sub(begun) < limit,
            "the worker did not apply version {version} of the whitelist in {limit:?}"
        );
    }
    Ok(())
}

fn line(delivered: u64, rows: u64, rate: u64, lag: u64) -> String {
    format!(
        "published {:>7}  rows {:>7}  {:>6}/s  lag {:>6}",
        number(delivered),
        number(rows),
        number(rate),
        number(lag)
    )
}

/// Rows a second over the window.
fn per_second(window: &VecDeque<(Duration, u64)>) -> u64 {
    let (Some((from, first)), Some((to, last))) = (window.front(), window.back()) else {
        return 0;
    };
    let seconds = to.saturating_sub(*from).as_secs_f64();
    if seconds == 0.0 {
        return 0;
    }
    (last.saturating_sub(*first) as f64 / seconds) as u64
}
