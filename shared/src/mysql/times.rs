//! Times on their way to and from `DATETIME(3)` columns, in UTC.

use jiff::Timestamp;

/// Writes a time as the column takes it; finer digits are cut.
pub fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

/// Reads milliseconds since 1970, as [`milliseconds!`](crate::milliseconds) selects them.
pub fn from_milliseconds(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MAX)
}

/// An expression that selects a time as milliseconds since 1970.
#[macro_export]
macro_rules! milliseconds {
    ($column:literal) => {
        concat!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', ", $column, ") DIV 1000")
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_cut_to_milliseconds() {
        let time: Timestamp = "2026-01-02T03:04:05.678912Z".parse().expect("a time");
        assert_eq!(text(time), "2026-01-02 03:04:05.678");
        let whole: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
        assert_eq!(text(whole), "2026-01-02 03:04:05.000");
    }
}
