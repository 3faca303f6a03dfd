//! Funds of which live traffic writes half anew, while a replay brings back the removed rows of the others.

use reprise_tests::feed::{FeedRecord, Fund, Made};
use reprise_tests::fleet::Options;

pub(crate) const FUNDS: u32 = 200;
/// Live traffic writes those up to here; the others' rows were removed, and the replay brings them back.
pub(crate) const CONTESTED: u32 = 100;

/// Nothing slows a replay down but these settings.
pub(crate) fn options(settings: &[(&str, &str)]) -> Options {
    let common = [
        ("replay.live_first.floor_rate", "4000000000"),
        ("replay.live_first.lag_cut", "4000000000"),
        ("replay.live_first.lag_hold", "4000000001"),
        // A slow machine is not what this is about.
        ("replay.live_first.latency_cut", "20s"),
        ("replay.live_first.latency_hold", "60s"),
        ("replay.poll", "100ms"),
        ("replay.renew", "500ms"),
        ("replay.max_attempts", "100"),
    ];
    let all = common.iter().chain(settings);
    Options {
        settings: all
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        ..Options::quick()
    }
}

/// Risk records of a day for some funds.
pub(crate) fn risks(funds: std::ops::RangeInclusive<u32>, day: u32, version: i64) -> Vec<FeedRecord> {
    funds
        .map(|number| Made::risk_on(Fund(number), day, version).record)
        .collect()
}
