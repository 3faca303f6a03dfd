//! Funds of which live traffic writes half anew, while a replay brings back the removed rows of the others.

use reprise_tests::feed::{DataType, FeedConfig, FeedRecord, Fund, moment};
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

pub(crate) fn funds() -> FeedConfig {
    FeedConfig {
        records: Some(0),
        funds: FUNDS,
        ..FeedConfig::default()
    }
}

/// Risk records of a day for some funds.
pub(crate) fn risks(funds: std::ops::RangeInclusive<u32>, day: u32, version: i64) -> Vec<FeedRecord> {
    let date = jiff::civil::date(2000, 1, 1) + jiff::Span::new().days(i64::from(day));
    let record = |number| {
        let fund = Fund(number);
        let payload = format!(
            r#"{{"performanceId":"{}","alertDate":"{date}","riskLevel":{version},"riskScore":1.5,"sourceTime":"{}"}}"#,
            fund.performance_id(),
            moment(version)
        );
        FeedRecord {
            data_type: DataType::Risk,
            key: fund.performance_id().into_bytes(),
            headers: &[("data-type", "fund_risk")],
            payload: Some(payload.into_bytes()),
            timestamp_ms: moment(version).as_millisecond(),
            ..FeedRecord::empty()
        }
    };
    funds.map(record).collect()
}
