//! Turns JSON values into the text that MySQL prints for them, or says why that cannot be.

use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{Timestamp, Zoned};
use reprise_shared::fault::FaultClass;

use super::json::Json;
use super::shape::Kind;

/// Converts a value that is not null.
pub(super) fn column(kind: Kind, is_key: bool, value: &Json) -> Result<String, FaultClass> {
    match (kind, value) {
        (Kind::Text(limit), Json::Text(text)) => {
            if text.chars().count() > limit {
                Err(FaultClass::TooLong)
            } else if is_key && text.ends_with(' ') {
                Err(FaultClass::TrailingSpace)
            } else {
                Ok(text.clone())
            }
        }
        (Kind::Int, Json::Number(number)) => int(number),
        (Kind::Decimal(before, after), Json::Number(number) | Json::Text(number)) => decimal(number, before, after),
        (Kind::Date, Json::Text(text)) => date(text).ok_or(FaultClass::BadTime),
        _ => Err(FaultClass::WrongType),
    }
}

/// Converts the version: milliseconds since 1970, further digits cut. A time without a zone is in UTC.
pub(super) fn version(value: &Json) -> Result<Timestamp, FaultClass> {
    let Json::Text(text) = value else {
        return Err(FaultClass::WrongType);
    };
    if !text.contains(['T', 't', ' ']) {
        return Err(FaultClass::BadTime);
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => text
            .parse::<DateTime>()
            .and_then(|time| Offset::UTC.to_timestamp(time))
            .map_err(|_| FaultClass::BadTime)?,
    };
    Timestamp::from_millisecond(time.as_millisecond()).map_err(|_| FaultClass::BadTime)
}

/// Prints a time as MySQL prints a `DATETIME(3)`.
pub(super) fn time_text(time: Timestamp) -> String {
    Zoned::new(time, jiff::tz::TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M:%S%.3f")
        .to_string()
}

fn int(number: &str) -> Result<String, FaultClass> {
    if number.contains(['.', 'e', 'E']) {
        return Err(FaultClass::WrongType);
    }
    number
        .parse::<i32>()
        .map(|number| number.to_string())
        .map_err(|_| FaultClass::OutOfRange)
}

/// Moves the point through the digits; no float is involved.
fn decimal(number: &str, before: usize, after: usize) -> Result<String, FaultClass> {
    let (negative, unsigned) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(FaultClass::WrongType);
    }
    let exponent: i64 = exponent.parse().map_err(|_| FaultClass::WrongType)?;
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(format!("0.{:0<after$}", ""));
    }
    // How many digits stand before the point once leading zeros are gone; negative for 0.00….
    let point = whole.len() as i64 + exponent - (digits.len() - significant.len()) as i64;
    let significant = significant.trim_end_matches('0');
    if point > before as i64 || significant.len() as i64 - point > after as i64 {
        return Err(FaultClass::OutOfRange);
    }
    // Both are small now: the point lies within the limits just checked.
    let zeros_before = usize::try_from(-point).unwrap_or(0);
    let whole_digits = usize::try_from(point).unwrap_or(0);
    let all = format!("{}{significant:0<whole_digits$}", "0".repeat(zeros_before));
    let (whole, fraction) = all.split_at(whole_digits);
    let whole = if whole.is_empty() { "0" } else { whole };
    Ok(format!(
        "{}{whole}.{fraction:0<after$}",
        if negative { "-" } else { "" }
    ))
}

fn date(text: &str) -> Option<String> {
    let date = text.parse::<Date>().ok()?;
    // The parser knows more forms than the one that is allowed.
    (date.year() >= 1 && date.to_string() == text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        let cases = [
            ("1.2345", Ok("1.23450000")),
            ("-0.0", Ok("0.00000000")),
            ("0.00000001", Ok("0.00000001")),
            ("12345e-4", Ok("1.23450000")),
            ("1.2345e2", Ok("123.45000000")),
            ("-5E-3", Ok("-0.00500000")),
            ("120", Ok("120.00000000")),
            ("1.100000000000", Ok("1.10000000")),
            ("999999999999.99999999", Ok("999999999999.99999999")),
            ("1000000000000", Err(FaultClass::OutOfRange)),
            ("0.000000001", Err(FaultClass::OutOfRange)),
            ("1e999", Err(FaultClass::OutOfRange)),
            ("1e-999", Err(FaultClass::OutOfRange)),
            ("abc", Err(FaultClass::WrongType)),
            ("", Err(FaultClass::WrongType)),
        ];
        for (number, expected) in cases {
            assert_eq!(decimal(number, 12, 8), expected.map(str::to_owned), "{number}");
        }
    }

    #[test]
    fn versions_are_cut_to_milliseconds_in_utc() {
        for (text, expected) in [
            ("2024-03-07T09:30:00Z", "2024-03-07 09:30:00.000"),
            ("2024-03-07T17:30:00.1239+08:00", "2024-03-07 09:30:00.123"),
            ("2024-03-07 09:30:00.5", "2024-03-07 09:30:00.500"),
        ] {
            assert_eq!(
                version(&Json::Text(text.to_owned())).map(time_text),
                Ok(expected.to_owned())
            );
        }
        assert_eq!(version(&Json::Text("2024-03-07".to_owned())), Err(FaultClass::BadTime));
        assert_eq!(
            version(&Json::Text("2024-02-30T00:00:00Z".to_owned())),
            Err(FaultClass::BadTime)
        );
    }

    #[test]
    fn only_days_that_exist_are_dates() {
        assert_eq!(date("2024-02-29").as_deref(), Some("2024-02-29"));
        for text in [
            "2023-02-29",
            "0000-00-00",
            "0000-01-01",
            "20240229",
            "2024-2-9",
            "2024-02-29T00:00:00",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }
}
