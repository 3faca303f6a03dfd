//! Live first: when a replay has to slow down or to stand still, decided from what is known of live traffic and of the
//! database (pure). Above its first threshold a signal cuts the rate, above its second it holds everything; what is
//! held goes on only when every signal is below its first threshold again, so that it does not flutter.
//!
//! Whatever the speed, a replay leaves live traffic, while that flows, a part of the database: after each batch its lanes
//! rest in proportion to the time that the batch took. A database that is busy takes longer, and so is left alone for longer,
//! without anybody having to say what is usual there. And its transactions are small then: a live row that a replay is writing,
//! too, waits for the end of the transaction that holds it, and everything behind it in its lane waits with it.

use std::time::Duration;

use reprise_shared::config::{Faults, Secret, Validate};
use serde::{Deserialize, Serialize};

/// The thresholds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The time between two looks.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Records by which live traffic is behind, in the topics that are replayed: from here on the rate is cut.
    pub lag_cut: u64,
    /// From here on replays hold.
    pub lag_hold: u64,
    /// The time that a small write takes: from here on the rate is cut.
    #[serde(with = "humantime_serde")]
    pub latency_cut: Duration,
    /// From here on replays hold.
    #[serde(with = "humantime_serde")]
    pub latency_hold: Duration,
    /// A replica of the database whose delay counts, as a URL like `mysql.url`; empty: no replica is asked.
    pub replica_url: Secret,
    /// The replica's delay from which on the rate is cut.
    #[serde(with = "humantime_serde")]
    pub replica_cut: Duration,
    /// From here on replays hold.
    #[serde(with = "humantime_serde")]
    pub replica_hold: Duration,
    /// Records a second of each task while the rate is cut.
    pub cut_rate: u64,
    /// Records a second of each task while nothing is known of live traffic.
    pub floor_rate: u64,
    /// The part of its time that a lane of a replay may use the database while live traffic flows; it rests for the
    /// other, at most `replay.ping_interval` after one batch. 1: it never rests.
    pub share: f64,
    /// Rows of one transaction of a replay at most while live traffic flows; of a job that cleans first, records.
    pub batch_rows: usize,
    /// Live traffic is still when nothing was published and nothing committed for so long.
    #[serde(with = "humantime_serde")]
    pub still_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            lag_cut: 50_000,
            lag_hold: 200_000,
            latency_cut: Duration::from_millis(500),
            latency_hold: Duration::from_secs(2),
            replica_url: Secret::default(),
            replica_cut: Duration::from_secs(5),
            replica_hold: Duration::from_secs(20),
            cut_rate: 2_000,
            floor_rate: 2_000,
            share: 0.5,
            batch_rows: 100,
            still_after: Duration::from_secs(5),
        }
    }
}

impl Validate for Config {
    fn validate(&self, faults: &mut Faults) {
        let (millisecond, hour) = (Duration::from_millis(1), Duration::from_secs(3_600));
        for (key, value, least, most) in [
            (
                "interval",
                self.interval,
                Duration::from_millis(100),
                Duration::from_secs(30),
            ),
            ("latency_cut", self.latency_cut, millisecond, hour),
            ("latency_hold", self.latency_hold, self.latency_cut, hour),
            ("replica_cut", self.replica_cut, millisecond, hour),
            ("replica_hold", self.replica_hold, self.replica_cut, hour),
            ("still_after", self.still_after, Duration::from_secs(1), hour),
        ] {
            faults.check_range(key, value, least, most);
        }
        faults.check_range("lag_cut", self.lag_cut, 1, u64::MAX);
        faults.check_range("lag_hold", self.lag_hold, self.lag_cut, u64::MAX);
        faults.check_range("cut_rate", self.cut_rate, 1, u64::from(u32::MAX));
        faults.check_range("floor_rate", self.floor_rate, 1, u64::from(u32::MAX));
        faults.check_range("batch_rows", self.batch_rows, 1, 65_535);
        faults.check_range("share", self.share, 0.01, 1.0);
    }
}

/// What is known at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Records by which live traffic is behind; `None`: it cannot be told.
    pub(crate) live_lag: Option<u64>,
    /// Live traffic moved lately, or it cannot be told.
    pub(crate) live_flows: bool,
    /// The longest of the small writes since the last look, or of a question.
    pub(crate) latency: Duration,
    /// The replica's delay; `None`: there is no replica to ask.
    pub(crate) replica_lag: Option<Duration>,
}

/// How fast replays may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// As fast as their jobs allow.
    Full,
    /// At most so many records a second, each task.
    AtMost(u64),
    /// Not at all.
    Hold,
}

/// What was decided, and why, for a person; empty at full speed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) speed: Speed,
    pub(crate) reason: String,
    /// Lanes rest between batches, and these are small.
    pub(crate) rests: bool,
}

impl Decision {
    /// Returns the speed, and whether lanes rest.
    pub(crate) fn pace(&self) -> (Speed, bool) {
        (self.speed, self.rests)
    }
}

/// How long a lane rests after a batch, so that it uses the database for `share` of its time; at most `most`, since a batch
/// that waited out an outage says nothing about those after it.
pub(crate) fn rest(took: Duration, share: f64, most: Duration) -> Duration {
    took.mul_f64(1.0 / share - 1.0).min(most)
}

/// How far live traffic is, over all partitions of some topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// The sum of the positions that its group committed.
    pub(crate) committed: u64,
    /// Records by which it is behind.
    pub(crate) lag: u64,
}

/// Follows whether live traffic flows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    /// What was seen last.
    seen: Option<Live>,
    moved: Duration,
}

impl Flow {
    /// Tells whether anything moved in the last `still_after`, from what is seen at a time. Workers that cannot commit may
    /// write all the same, so what is published counts, too. While nothing is known traffic counts as flowing.
    pub(crate) fn flows(&mut self, seen: Option<Live>, now: Duration, still_after: Duration) -> bool {
        if self.seen != seen || seen.is_none() {
            (self.seen, self.moved) = (seen, now);
        }
        now.saturating_sub(self.moved) < still_after
    }
}

/// Decides by what is known now, and by whether replays are held.
pub(crate) fn decide(held: bool, signals: &Signals, config: &Config) -> Decision {
    let grades = [
        signals.live_lag.map(|lag| {
            let text = format!("live traffic is {lag} records behind");
            grade(lag, (config.lag_cut, config.lag_hold), held, text)
        }),
        Some({
            let text = format!("the database takes {:.1?} for a small write", signals.latency);
            grade(signals.latency, (config.latency_cut, config.latency_hold), held, text)
        }),
        signals.replica_lag.map(|lag| {
            let text = format!("the replica is {lag:.1?} behind");
            grade(lag, (config.replica_cut, config.replica_hold), held, text)
        }),
    ];
    let worst = grades.into_iter().flatten().max_by_key(|(grade, _)| *grade);
    let (speed, reason) = match worst {
        Some((Grade::Hold, why)) => (Speed::Hold, format!("held: {why}")),
        Some((Grade::Cut, why)) => (Speed::AtMost(config.cut_rate), format!("slowed down: {why}")),
        Some((Grade::Fine, _)) | None if signals.live_lag.is_none() => (
            Speed::AtMost(config.floor_rate),
            "slowed down: nothing is known of live traffic".to_owned(),
        ),
        Some((Grade::Fine, _)) | None => (Speed::Full, String::new()),
    };
    Decision {
        speed,
        reason,
        rests: signals.live_flows,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Fine,
    Cut,
    Hold,
}

fn grade<T: PartialOrd>(value: T, (cut, hold): (T, T), held: bool, text: String) -> (Grade, String) {
    let grade = if value >= hold || (held && value >= cut) {
        Grade::Hold
    } else if value >= cut {
        Grade::Cut
    } else {
        Grade::Fine
    };
    (grade, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speed(held: bool, lag: Option<u64>, milliseconds: u64) -> Speed {
        let signals = Signals {
            live_lag: lag,
            latency: Duration::from_millis(milliseconds),
            ..Signals::default()
        };
        decide(held, &signals, &Config::default()).speed
    }

    #[test]
    fn a_share_that_is_no_part_is_a_fault() {
        for (share, is_right) in [
            (0.01, true),
            (1.0, true),
            (0.0, false),
            (1.01, false),
            (f64::NAN, false),
        ] {
            let mut faults = Faults::default();
            Config {
                share,
                ..Config::default()
            }
            .validate(&mut faults);
            assert_eq!(faults.is_empty(), is_right, "{share}: {faults}");
        }
    }

    #[test]
    fn signals_cut_first_and_then_hold() {
        assert_eq!(speed(false, Some(0), 1), Speed::Full);
        assert_eq!(speed(false, Some(50_000), 1), Speed::AtMost(2_000));
        assert_eq!(speed(false, Some(200_000), 1), Speed::Hold);
        assert_eq!(speed(false, Some(0), 600), Speed::AtMost(2_000));
        assert_eq!(speed(false, Some(0), 2_000), Speed::Hold);
    }

    #[test]
    fn what_is_held_goes_on_below_the_first_threshold_only() {
        assert_eq!(speed(true, Some(60_000), 1), Speed::Hold);
        assert_eq!(speed(true, Some(0), 600), Speed::Hold);
        assert_eq!(speed(true, Some(49_999), 499), Speed::Full);
    }

    #[test]
    fn without_a_sign_of_live_traffic_it_keeps_to_the_floor_and_says_so() {
        let decision = decide(false, &Signals::default(), &Config::default());
        assert_eq!(decision.speed, Speed::AtMost(2_000));
        assert!(decision.reason.contains("nothing is known"), "{}", decision.reason);
        assert_eq!(speed(true, None, 600), Speed::Hold);
    }

    #[test]
    fn the_worst_signal_gives_the_reason() {
        let signals = Signals {
            live_lag: Some(60_000),
            latency: Duration::from_millis(1),
            replica_lag: Some(Duration::from_secs(30)),
            ..Signals::default()
        };
        let decision = decide(false, &signals, &Config::default());
        assert_eq!(
            (decision.speed, decision.reason.as_str()),
            (Speed::Hold, "held: the replica is 30.0s behind")
        );
    }

    #[test]
    fn lanes_rest_while_live_traffic_flows() {
        for flows in [false, true] {
            let signals = Signals {
                live_lag: Some(0),
                live_flows: flows,
                ..Signals::default()
            };
            let decision = decide(false, &signals, &Config::default());
            assert_eq!((decision.speed, decision.rests), (Speed::Full, flows));
        }
    }

    #[test]
    fn a_rest_is_the_other_part_of_a_lanes_time_and_bounded() {
        let milliseconds = Duration::from_millis;
        let most = milliseconds(1_000);
        assert_eq!(rest(milliseconds(40), 1.0, most), Duration::ZERO);
        assert_eq!(rest(milliseconds(40), 0.5, most), milliseconds(40));
        assert_eq!(rest(milliseconds(40), 0.2, most), milliseconds(160));
        assert_eq!(rest(Duration::from_secs(3_600), 0.5, most), most);
    }

    #[test]
    fn traffic_flows_until_nothing_moved_for_a_while() {
        let mut flow = Flow::default();
        let mut flows = |seen: Option<(u64, u64)>, second| {
            let seen = seen.map(|(committed, lag)| Live { committed, lag });
            flow.flows(seen, Duration::from_secs(second), Duration::from_secs(5))
        };
        assert!(flows(Some((7, 0)), 100), "nothing tells that it stands still");
        assert!(flows(Some((7, 0)), 104));
        assert!(!flows(Some((7, 0)), 105));
        assert!(flows(Some((9, 0)), 106));
        assert!(!flows(Some((9, 0)), 111));
        // Another topic, or a group that was reset: lower is another position, too.
        assert!(flows(Some((3, 0)), 112));
        assert!(flows(None, 200));
        assert!(flows(Some((3, 0)), 201), "unknown in between");
        assert!(!flows(Some((3, 0)), 206));
        assert!(flows(Some((3, 8)), 207), "nothing is committed, but records arrive");
        assert!(!flows(Some((3, 8)), 212), "a group that nobody works for");
    }
}
