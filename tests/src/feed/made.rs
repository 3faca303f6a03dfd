//! Records made by hand, one by one, where a test needs to know each of them.

use jiff::{SignedDuration, Timestamp};

use super::{DataType, Expectation, FeedConfig, FeedRecord, Fund};

/// A record made by hand. Its key is the fund's id.
#[derive(Clone, Debug)]
pub struct Made {
    /// The record.
    pub record: FeedRecord,
}

/// Returns the moment so many seconds after the feeds' usual start.
pub fn moment(seconds: i64) -> Timestamp {
    FeedConfig::START + SignedDuration::from_secs(seconds)
}

impl Made {
    /// Makes a record of a type with this payload, none for a tombstone, and Kafka's time at the feeds' start.
    pub fn new(data_type: DataType, fund: Fund, payload: Option<String>) -> Self {
        Self {
            record: FeedRecord {
                data_type,
                key: fund.performance_id().into_bytes(),
                headers: data_type.headers(),
                payload: payload.map(String::into_bytes),
                timestamp_ms: moment(0).as_millisecond(),
                partition: Some(0),
                expectation: Expectation::Skipped,
            },
        }
    }

    /// Basic data of a fund, whose version is so many seconds after the feeds' start.
    pub fn basic(fund: Fund, version: i64) -> Self {
        let payload = format!(
            r#"{{"performanceId":"{}","fundCode":"{}","fundName":"a name of no concern","sourceTime":"{}"}}"#,
            fund.performance_id(),
            fund.fund_code(),
            moment(version)
        );
        Self::new(DataType::Basic, fund, Some(payload))
    }

    /// Valuations of a fund: days and versions.
    pub fn valuation(fund: Fund, items: &[(&str, i64)]) -> Self {
        let item = |(day, version): &(&str, i64)| {
            let version = moment(*version);
            format!(r#"{{"date":"{day}","unitNav":4711.5,"sourceTime":"{version}"}}"#)
        };
        let items: Vec<String> = items.iter().map(item).collect();
        let payload = format!(
            r#"{{"performanceId":"{}","items":[{}]}}"#,
            fund.performance_id(),
            items.join(",")
        );
        Self::new(DataType::Valuation, fund, Some(payload))
    }

    /// Risk figures of a fund on a day, counted from the year 2000 on: a row of its own. Its partition goes by its key.
    pub fn risk_on(fund: Fund, day: u32, version: i64) -> Self {
        let date = jiff::civil::date(2000, 1, 1) + jiff::Span::new().days(i64::from(day));
        let source_time = moment(version);
        let payload = format!(
            r#"{{"performanceId":"{}","alertDate":"{date}","riskLevel":{version},"riskScore":1.5,"sourceTime":"{source_time}"}}"#,
            fund.performance_id(),
        );
        let mut made = Self::new(DataType::Risk, fund, Some(payload));
        made.record.timestamp_ms = source_time.as_millisecond();
        made.record.partition = None;
        made
    }

    /// Risk figures of a fund.
    pub fn risk(fund: Fund, version: i64) -> Self {
        let payload = format!(
            r#"{{"performanceId":"{}","alertDate":"2026-03-01","riskLevel":1,"riskScore":4711.5,"sourceTime":"{}"}}"#,
            fund.performance_id(),
            moment(version)
        );
        Self::new(DataType::Risk, fund, Some(payload))
    }

    /// Takes the header away that tells the type.
    #[must_use]
    pub fn without_type(mut self) -> Self {
        self.record.headers = &[];
        self
    }

    /// Puts it into another partition than 0.
    #[must_use]
    pub fn into_partition(mut self, partition: i32) -> Self {
        self.record.partition = Some(partition);
        self
    }

    /// Gives it another time of Kafka's, so many seconds after the feeds' start.
    #[must_use]
    pub fn at(mut self, seconds: i64) -> Self {
        self.record.timestamp_ms = moment(seconds).as_millisecond();
        self
    }
}
