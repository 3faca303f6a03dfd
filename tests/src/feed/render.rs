//! Writes payloads, byte by byte: formatting machinery would cost more than everything else.

use jiff::Timestamp;
use jiff::tz::Offset;

use super::DataType;
use super::draft::Draft;

/// Names that are no names, with characters of one to four bytes.
const NAME_WORDS: [&str; 8] = [
    "Growth",
    "Income",
    "Balanced",
    "Bond",
    "Índice",
    "稳健混合",
    "债券",
    "指数 \u{1f4c8}",
];
const FUND_TYPES: [&str; 4] = ["EQUITY", "BOND", "MIXED", "MONEY"];
const CURRENCIES: [&str; 4] = ["CNY", "USD", "EUR", "HKD"];
/// Messages as they stand in JSON, escapes included.
const MESSAGES: [&str; 6] = [
    "volatility above its usual range",
    "drawdown \\\"watch\\\"",
    "流动性下降",
    "\\u6ce2\\u52a8\\t\\u4e0a\\u5347 \\ud83d\\udcc9",
    "score changed\\nsince yesterday",
    "no finding",
];

/// Appends the payload of a good record. `days` are the texts of all days; basic data need none.
pub(super) fn payload(draft: &Draft, days: &[[u8; 10]], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"performanceId\":\"");
    performance_id(draft.fund, out);
    out.push(b'"');
    match draft.data_type {
        DataType::Basic => basic(draft, out),
        DataType::Valuation => valuation(draft, days, out),
        DataType::Risk => risk(draft, days, out),
    }
    out.push(b'}');
}

/// Appends a performance id.
pub(super) fn performance_id(fund: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0P");
    padded(u64::from(fund), 8, out);
}

/// Formats a time as MySQL prints a `DATETIME(3)`.
pub(super) fn mysql_time(time_ms: i64) -> String {
    let mut text = Vec::with_capacity(23);
    civil_time(time_ms, b' ', &mut text);
    text.into_iter().map(char::from).collect()
}

fn basic(draft: &Draft, out: &mut Vec<u8>) {
    let mut bits = Bits::new(draft.values, 0);
    out.extend_from_slice(b",\"fundCode\":\"");
    padded(u64::from(draft.fund), 6, out);
    out.extend_from_slice(b"\",\"fundName\":\"Fund ");
    padded(u64::from(draft.fund), 6, out);
    out.push(b' ');
    out.extend_from_slice(bits.choose(&NAME_WORDS).as_bytes());
    out.push(b'"');
    if !bits.one_in(8) {
        string_field(b",\"fundType\":", bits.choose(&FUND_TYPES), out);
    }
    match bits.below(16) {
        0 => {}
        1 => out.extend_from_slice(b",\"currency\":null"),
        _ => string_field(b",\"currency\":", bits.choose(&CURRENCIES), out),
    }
    if !bits.one_in(8) {
        out.extend_from_slice(b",\"inceptionDate\":\"");
        padded(1990 + bits.below(34), 4, out);
        out.push(b'-');
        padded(1 + bits.below(12), 2, out);
        out.push(b'-');
        padded(1 + bits.below(28), 2, out);
        out.push(b'"');
    }
    source_time(draft.version_ms, &mut bits, out);
}

fn valuation(draft: &Draft, days: &[[u8; 10]], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"items\":[");
    for item in 0..draft.items {
        if item > 0 {
            out.push(b',');
        }
        let mut bits = Bits::new(draft.values, u64::from(item));
        let repeats_first = draft.same_key && item + 1 == draft.items;
        let days_on = if repeats_first { 0 } else { item };
        // Items are at most as many as days, so that only `same_key` repeats one.
        let day = (draft.day + days_on) as usize % days.len();
        out.extend_from_slice(b"{\"date\":\"");
        out.extend_from_slice(&days[day]);
        out.extend_from_slice(b"\",\"unitNav\":");
        let unit_nav = bits.below(250_000 * 100_000_000);
        decimal(unit_nav, 8, &mut bits, out);
        match bits.below(32) {
            0 => {}
            1 => out.extend_from_slice(b",\"accumulatedNav\":null"),
            _ => {
                out.extend_from_slice(b",\"accumulatedNav\":");
                decimal(unit_nav * 2 + bits.below(100_000_000), 8, &mut bits, out);
            }
        }
        // A repeated key is older, equal or newer than its first item.
        let shift = if repeats_first { bits.below(3) as i64 - 1 } else { 0 };
        source_time(draft.version_ms + shift, &mut bits, out);
        out.push(b'}');
    }
    out.push(b']');
}

fn risk(draft: &Draft, days: &[[u8; 10]], out: &mut Vec<u8>) {
    let mut bits = Bits::new(draft.values, 0);
    out.extend_from_slice(b",\"alertDate\":\"");
    out.extend_from_slice(&days[draft.day as usize % days.len()]);
    out.extend_from_slice(b"\",\"riskLevel\":");
    padded(1 + bits.below(5), 1, out);
    out.extend_from_slice(b",\"riskScore\":");
    decimal(bits.below(1_000_000), 4, &mut bits, out);
    if !bits.one_in(8) {
        out.extend_from_slice(b",\"volatility\":");
        if bits.one_in(2) {
            out.push(b'-');
        }
        decimal(bits.below(1_000_000_000), 8, &mut bits, out);
    }
    if !bits.one_in(4) {
        string_field(b",\"message\":", bits.choose(&MESSAGES), out);
    }
    source_time(draft.version_ms, &mut bits, out);
}

fn string_field(name: &[u8], value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.push(b'"');
    out.extend_from_slice(value.as_bytes());
    out.push(b'"');
}

/// Appends a number of `units` with `scale` digits after the point, at times with fewer or in scientific form.
fn decimal(units: u64, scale: u32, bits: &mut Bits, out: &mut Vec<u8>) {
    let one = 10_u64.pow(scale);
    match bits.below(32) {
        0 => padded(units / one, 1, out),
        1 => {
            padded(units, 1, out);
            out.extend_from_slice(b"e-");
            padded(u64::from(scale), 1, out);
        }
        2 => {
            padded(units / one, 1, out);
            out.push(b'.');
            padded(units % one / (one / 100), 2, out);
        }
        _ => {
            padded(units / one, 1, out);
            out.push(b'.');
            padded(units % one, scale as usize, out);
        }
    }
}

/// Appends the version's field: mostly in UTC with milliseconds, at times without a zone, with another one, or with
/// microseconds, which are cut.
fn source_time(version_ms: i64, bits: &mut Bits, out: &mut Vec<u8>) {
    const EIGHT_HOURS_MS: i64 = 8 * 3_600_000;
    out.extend_from_slice(b",\"sourceTime\":\"");
    match bits.below(64) {
        0 => civil_time(version_ms, b'T', out),
        1 => {
            civil_time(version_ms + EIGHT_HOURS_MS, b'T', out);
            out.extend_from_slice(b"+08:00");
        }
        2 => {
            civil_time(version_ms, b'T', out);
            padded(bits.below(1_000), 3, out);
            out.push(b'Z');
        }
        _ => {
            civil_time(version_ms, b'T', out);
            out.push(b'Z');
        }
    }
    out.push(b'"');
}

fn civil_time(time_ms: i64, separator: u8, out: &mut Vec<u8>) {
    // A feed's times lie between 1970 and the year 2100 or so.
    let time = Offset::UTC.to_datetime(Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::MAX));
    padded(u64::from(time.year().unsigned_abs()), 4, out);
    out.push(b'-');
    padded(u64::from(time.month().unsigned_abs()), 2, out);
    out.push(b'-');
    padded(u64::from(time.day().unsigned_abs()), 2, out);
    out.push(separator);
    padded(u64::from(time.hour().unsigned_abs()), 2, out);
    out.push(b':');
    padded(u64::from(time.minute().unsigned_abs()), 2, out);
    out.push(b':');
    padded(u64::from(time.second().unsigned_abs()), 2, out);
    out.push(b'.');
    padded(u64::from(time.millisecond().unsigned_abs()), 3, out);
}

/// Appends a number with at least `width` digits.
fn padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    at = at.min(digits.len() - width.min(digits.len()));
    out.extend_from_slice(&digits[at..]);
}

/// A stream of numbers that follows from a draft's values and the item's number (splitmix64).
struct Bits(u64);

impl Bits {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

    fn new(values: u64, item: u64) -> Self {
        Self(values ^ item.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(Self::GOLDEN);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn choose<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}
