//! Dates and times: fixed places are read here, the calendar and the zones are `jiff`'s.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};

/// A declared date-time.
#[derive(Clone, Debug)]
pub(super) struct DateTimeType {
    /// Fractional digits, 0 to 6.
    pub(super) digits: u8,
    /// Further digits are cut instead of being a fault (zeros never are one).
    pub(super) cut: bool,
    /// The zone of values that carry none.
    pub(super) zone: Option<TimeZone>,
}

/// A moment, cut to the declared digits, in UTC and within MySQL's range (years 1000 to 9999).
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Microseconds since 1970.
    pub(super) microseconds: i64,
    text: [u8; 26],
    length: usize,
}

impl Moment {
    /// Returns the text that MySQL reads, for example `2024-03-07 09:30:00.000`.
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[..self.length]).unwrap_or_default()
    }

    /// Makes a moment from Kafka's milliseconds, with three digits; `None` outside MySQL's range.
    pub(super) fn from_milliseconds(milliseconds: i64) -> Option<Self> {
        let utc = EPOCH.checked_add(SignedDuration::from_millis(milliseconds)).ok()?;
        Self::new(utc, 3)
    }

    /// `utc` has no more than the declared digits.
    fn new(utc: DateTime, digits: u8) -> Option<Self> {
        if utc.year() < 1000 {
            return None;
        }
        let microseconds = i64::try_from(utc.duration_since(EPOCH).as_micros()).ok()?;
        let (year, fraction) = (utc.year().unsigned_abs(), utc.subsec_nanosecond().unsigned_abs() / 1000);
        let fraction = [fraction / 10_000, fraction / 100 % 100, fraction % 100].map(|part| part as u8);
        let mut text = *b"0000-00-00 00:00:00.000000";
        for (place, number) in [
            (0, (year / 100) as u8),
            (2, (year % 100) as u8),
            (5, utc.month().unsigned_abs()),
            (8, utc.day().unsigned_abs()),
            (11, utc.hour().unsigned_abs()),
            (14, utc.minute().unsigned_abs()),
            (17, utc.second().unsigned_abs()),
            (20, fraction[0]),
            (22, fraction[1]),
            (24, fraction[2]),
        ] {
            text[place] = b'0' + number / 10;
            text[place + 1] = b'0' + number % 10;
        }
        let length = if digits == 0 {
            19
        } else {
            20 + usize::from(digits.min(6))
        };
        Some(Self {
            microseconds,
            text,
            length,
        })
    }
}

/// How many nanoseconds the last of so many fractional digits stands for.
const NANOSECONDS: [i32; 7] = [0, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000];

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// Tells whether a text is a day of the calendar, `YYYY-MM-DD`, from year 1 on.
pub(super) fn is_date(text: &str) -> bool {
    text.len() == 10 && date(text.as_bytes()).is_some_and(|date| date.year() >= 1)
}

impl DateTimeType {
    /// Reads RFC 3339 (`T` or a space; the offset may be left out when there is a zone). A local time that a zone has
    /// twice is the first of the two; one that it skips does not exist. The error says what would be right.
    pub(super) fn read(&self, text: &str) -> Result<Moment, &'static str> {
        const FORM: &str = "a time such as 2024-03-07T09:30:00Z";
        let bytes = text.as_bytes();
        let (date, time) = (date(bytes).ok_or(FORM)?, bytes.get(10..19).ok_or(FORM)?);
        if !matches!(time[0], b'T' | b't' | b' ') || time[3] != b':' || time[6] != b':' {
            return Err(FORM);
        }
        let part = |at| {
            number(&time[at..at + 2])
                .and_then(|part| i8::try_from(part).ok())
                .ok_or(FORM)
        };
        let (hour, minute, second) = (part(1)?, part(4)?, part(7)?);
        let (nanoseconds, zone) = self.fraction(&bytes[19..])?;
        let time = Time::new(hour, minute, second, nanoseconds).map_err(|_| "a time of day that exists")?;
        let local = DateTime::from_parts(date, time);
        let offset = match (zone, &self.zone) {
            ([], Some(zone)) => match zone.to_ambiguous_timestamp(local).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.seconds(),
                AmbiguousOffset::Fold { before, .. } => before.seconds(),
                AmbiguousOffset::Gap { .. } => return Err("a local time that its zone does not skip"),
            },
            ([], None) => return Err("a time with its offset from UTC, since no zone is declared"),
            (zone, _) => offset_seconds(zone).ok_or(FORM)?,
        };
        let utc = match offset {
            0 => Some(local),
            _ => local.checked_sub(SignedDuration::from_secs(offset.into())).ok(),
        };
        utc.and_then(|utc| Moment::new(utc, self.digits))
            .ok_or("a time in the years 1000 to 9999 of UTC")
    }

    /// Reads the fraction, cut to the declared digits, in nanoseconds, and returns what follows it.
    fn fraction<'a>(&self, text: &'a [u8]) -> Result<(i32, &'a [u8]), &'static str> {
        let Some(text) = text.strip_prefix(b".") else {
            return Ok((0, text));
        };
        let end = text
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        if digits.is_empty() {
            return Err("digits after the point");
        }
        let (kept, beyond) = digits.split_at(digits.len().min(usize::from(self.digits)));
        if !self.cut && beyond.iter().any(|&digit| digit != b'0') {
            return Err("no more fractional digits than declared");
        }
        let number = kept
            .iter()
            .fold(0, |number, digit| number * 10 + i32::from(digit - b'0'));
        Ok((number * NANOSECONDS[kept.len()], rest))
    }
}

/// Reads `YYYY-MM-DD` from the start of a text.
fn date(text: &[u8]) -> Option<Date> {
    let text = text.first_chunk::<10>()?;
    if text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&text[0..4])?, number(&text[5..7])?, number(&text[8..10])?);
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// Reads `Z` or `±HH:MM`, in seconds.
fn offset_seconds(text: &[u8]) -> Option<i32> {
    match text {
        b"Z" | b"z" => Some(0),
        &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (i32::from(number(&[h1, h2])?), i32::from(number(&[m1, m2])?));
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Reads up to four digits.
fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number * 10 + i16::from(digit - b'0')),
        _ => None,
    })
}
