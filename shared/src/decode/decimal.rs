//! Decimals by their digits: no float, no big integer, no memory beyond the digits that a column holds.

use crate::fault::FaultClass;

/// The most digits that a declared type has.
const MAX_DIGITS: usize = 65;

/// A decimal type.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecimalType {
    pub(super) precision: u8,
    pub(super) scale: u8,
    /// Digits beyond the scale are rounded half away from zero instead of being a fault.
    pub(super) round: bool,
}

/// The parts of a JSON number.
#[derive(Clone, Copy)]
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl DecimalType {
    /// Converts the text of a JSON number to the canonical text of its value: no exponent, no zeros at either end
    /// that say nothing, and `0` for any zero. `canonical` is overwritten.
    pub(super) fn convert(self, text: &str, canonical: &mut String) -> Result<(), FaultClass> {
        canonical.clear();
        if let Some(plain) = self.as_it_stands(text) {
            canonical.push_str(plain);
            return Ok(());
        }
        let parts = Parts::read(text).ok_or(FaultClass::WrongType)?;
        self.convert_shifted(parts, self.whole_digits(), canonical)
    }

    /// Returns the canonical text of a number that need not be written anew, as nearly all are: it fits, has no
    /// exponent, and at most loses idle zeros at its end. `None` says nothing about the number.
    pub(super) fn as_it_stands(self, text: &str) -> Option<&str> {
        let parts = Parts::read(text)?;
        let fraction = without_trailing_zeros(parts.fraction);
        let whole = if parts.whole == b"0" { &[][..] } else { parts.whole };
        let fits = whole.len() <= self.whole_digits() && fraction.len() <= usize::from(self.scale);
        let negative_zero = parts.negative && whole.is_empty() && fraction.is_empty();
        if parts.exponent != 0 || !fits || negative_zero {
            return None;
        }
        let point_at = usize::from(parts.negative) + parts.whole.len();
        match fraction.len() {
            0 => text.get(..point_at),
            digits => text.get(..point_at + 1 + digits),
        }
    }

    fn whole_digits(self) -> usize {
        usize::from(self.precision.saturating_sub(self.scale))
    }

    /// The general case: an exponent, or digits that do not fit as they stand.
    fn convert_shifted(self, parts: Parts<'_>, whole_digits: usize, canonical: &mut String) -> Result<(), FaultClass> {
        // The value is 0.d₀d₁d₂… × 10^point, with d₀ ≠ 0 and the last digit ≠ 0.
        let (mut whole, mut fraction) = (parts.whole, without_trailing_zeros(parts.fraction));
        let mut point = length(whole).saturating_add(parts.exponent);
        while let Some((b'0', rest)) = whole.split_first() {
            (whole, point) = (rest, point.saturating_sub(1));
        }
        if whole.is_empty() {
            while let Some((b'0', rest)) = fraction.split_first() {
                (fraction, point) = (rest, point.saturating_sub(1));
            }
        }
        if fraction.is_empty() {
            whole = without_trailing_zeros(whole);
        }
        let digits = whole.len() + fraction.len();
        if digits == 0 {
            canonical.push('0');
            return Ok(());
        }
        if point > whole_digits as i64 {
            return Err(FaultClass::OutOfRange);
        }
        // Digits that stay: those up to the scale. `point` is at most 65 here, but may be far below zero.
        let kept = point.saturating_add(i64::from(self.scale));
        let excess = length(whole).saturating_add(length(fraction)) > kept;
        if excess && !self.round {
            return Err(FaultClass::OutOfRange);
        }
        // One leading place takes the carry; then the places before and after the point.
        let mut buffer = [b'0'; MAX_DIGITS + 1];
        let (point_at, scale) = (1 + whole_digits, usize::from(self.scale));
        let all = buffer.get_mut(..point_at + scale).ok_or(FaultClass::OutOfRange)?;
        let first = (point_at as i64).saturating_sub(point);
        for (place, &digit) in (first..all.len() as i64).zip(whole.iter().chain(fraction)) {
            if let Some(target) = usize::try_from(place).ok().and_then(|place| all.get_mut(place)) {
                *target = digit;
            }
        }
        let next = usize::try_from(kept)
            .ok()
            .and_then(|kept| whole.iter().chain(fraction).nth(kept));
        if excess && next.is_some_and(|&digit| digit >= b'5') {
            carry(all);
        }
        let (whole, fraction) = all.split_at(point_at);
        if whole[0] != b'0' {
            return Err(FaultClass::OutOfRange);
        }
        let start = whole.iter().position(|&digit| digit != b'0').unwrap_or(whole.len());
        parts.write(&whole[start..], without_trailing_zeros(fraction), canonical);
        Ok(())
    }
}

impl<'a> Parts<'a> {
    /// Reads the grammar of a JSON number, so that a string must be one to the letter.
    fn read(text: &'a str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (negative, rest) = match bytes.strip_prefix(b"-") {
            Some(rest) => (true, rest),
            None => (false, bytes),
        };
        let (whole, rest) = split_digits(rest);
        if whole.is_empty() || (whole.len() > 1 && whole[0] == b'0') {
            return None;
        }
        let (fraction, rest) = match rest.strip_prefix(b".") {
            Some(rest) => {
                let (fraction, rest) = split_digits(rest);
                if fraction.is_empty() {
                    return None;
                }
                (fraction, rest)
            }
            None => (&[][..], rest),
        };
        let exponent = match rest.split_first() {
            None => 0,
            Some((b'e' | b'E', rest)) => exponent(rest)?,
            Some(_) => return None,
        };
        Some(Self {
            negative,
            whole,
            fraction,
            exponent,
        })
    }

    /// Writes a value whose first and last digits are not idle zeros.
    fn write(self, whole: &[u8], fraction: &[u8], canonical: &mut String) {
        if self.negative && !(whole.is_empty() && fraction.is_empty()) {
            canonical.push('-');
        }
        let mut push = |digits: &[u8]| canonical.push_str(std::str::from_utf8(digits).unwrap_or_default());
        push(if whole.is_empty() { b"0" } else { whole });
        if !fraction.is_empty() {
            push(b".");
            push(fraction);
        }
    }
}

/// Reads an exponent; one too large for an `i64` becomes its nearest, which says the same.
fn exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        (b'+', digits) => (false, digits),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let size = digits.iter().fold(0_i64, |size, digit| {
        size.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Some(if negative { -size } else { size })
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn without_trailing_zeros(digits: &[u8]) -> &[u8] {
    let end = digits
        .iter()
        .rposition(|&digit| digit != b'0')
        .map_or(0, |last| last + 1);
    &digits[..end]
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

/// Adds one unit in the last place. The first place is free for the carry.
fn carry(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit != b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert(text: &str, precision: u8, scale: u8, round: bool) -> Result<String, FaultClass> {
        let mut canonical = String::from("left over");
        DecimalType {
            precision,
            scale,
            round,
        }
        .convert(text, &mut canonical)
        .map(|()| canonical)
    }

    #[test]
    fn values_that_fit_come_out_canonical() {
        for (text, precision, scale, canonical) in [
            ("1.2345", 20, 8, "1.2345"),
            ("1.2300", 4, 2, "1.23"),
            ("100", 3, 0, "100"),
            ("1e2", 3, 0, "100"),
            ("1.50e1", 4, 2, "15"),
            ("1500E-2", 4, 2, "15"),
            ("12.5e-1", 4, 2, "1.25"),
            ("0.5", 2, 2, "0.5"),
            ("5e-2", 2, 2, "0.05"),
            ("-0", 5, 2, "0"),
            ("-0.00e999999999999999999999", 5, 2, "0"),
            ("0e-5", 5, 2, "0"),
            ("-1.10", 5, 2, "-1.1"),
            (
                "99999999999999999999999999999999999.999999999999999999999999999999",
                65,
                30,
                "99999999999999999999999999999999999.999999999999999999999999999999",
            ),
            (
                "1e64",
                65,
                0,
                "10000000000000000000000000000000000000000000000000000000000000000",
            ),
        ] {
            assert_eq!(
                convert(text, precision, scale, false).as_deref(),
                Ok(canonical),
                "{text}"
            );
        }
    }

    #[test]
    fn values_that_do_not_fit_are_out_of_range() {
        for text in [
            "1e999",
            "1e999999999",
            "1e99999999999999999999999999",
            "1e-999999999",
            "1000",
            "100e1",
            "1.234",
            "1e-3",
            "1234567890123456789012345678901234567890",
            "0.001e0",
            "-1000",
        ] {
            assert_eq!(convert(text, 5, 2, false), Err(FaultClass::OutOfRange), "{text}");
        }
    }

    #[test]
    fn rounding_is_half_away_from_zero_and_may_overflow() {
        for (text, expected) in [
            ("1.234", Ok("1.23")),
            ("1.235", Ok("1.24")),
            ("-1.235", Ok("-1.24")),
            ("0.005", Ok("0.01")),
            ("0.0049999", Ok("0")),
            ("-0.001", Ok("0")),
            ("5e-3", Ok("0.01")),
            ("5e-4", Ok("0")),
            ("1e-999999999999999999999999", Ok("0")),
            ("9.995", Ok("10")),
            ("999.994", Ok("999.99")),
            ("999.995", Err(FaultClass::OutOfRange)),
            ("1e3", Err(FaultClass::OutOfRange)),
        ] {
            assert_eq!(
                convert(text, 5, 2, true).as_deref(),
                expected.as_ref().map(|text| &**text),
                "{text}"
            );
        }
    }

    #[test]
    fn only_json_numbers_are_numbers() {
        for text in [
            "", "-", "+1", "01", ".5", "5.", "1e", "1e+", "1.e1", "NaN", "Infinity", "1 ", " 1", "0x1", "1_0", "١",
        ] {
            assert_eq!(convert(text, 5, 2, true), Err(FaultClass::WrongType), "{text}");
        }
    }

    /// The same by integers: the value in units of 10⁻²⁰, which the generated numbers are whole multiples of.
    fn model(negative: bool, whole: u32, fraction: &str, exponent: i32, scale: u32, round: bool) -> Option<i128> {
        let digits: i128 = format!("{whole}{fraction}").parse().expect("digits");
        let power = 20 + exponent - i32::try_from(fraction.len()).expect("short");
        let units = digits * 10_i128.pow(u32::try_from(power).expect("not negative"));
        let step = 10_i128.pow(20 - scale);
        if units % step != 0 && !round {
            return None;
        }
        let steps = units / step + i128::from(units % step * 2 >= step);
        (steps < 10_i128.pow(9)).then_some(if negative { -steps } else { steps })
    }

    proptest! {
        #[test]
        fn conversion_agrees_with_integers(
            negative: bool,
            whole in prop_oneof![0_u32..20, 0_u32..1_000_000],
            fraction in "[059]{0,6}",
            exponent in -14_i32..6,
            scale in 0_u8..=9,
            round: bool,
        ) {
            let point = if fraction.is_empty() { "" } else { "." };
            let text = format!("{}{whole}{point}{fraction}e{exponent}", if negative { "-" } else { "" });
            let expected = model(negative, whole, &fraction, exponent, scale.into(), round);
            let steps = convert(&text, 9, scale, round).ok().map(|canonical| {
                let (whole, fraction) = canonical.split_once('.').unwrap_or((&canonical, ""));
                prop_assert!(fraction.len() <= usize::from(scale) && !fraction.ends_with('0'));
                prop_assert!(canonical != "-0" && !whole.trim_start_matches('-').starts_with("00"));
                let all = format!("{whole}{fraction:0<width$}", width = usize::from(scale));
                Ok(all.parse::<i128>().expect("digits"))
            }).transpose()?;
            prop_assert_eq!(steps, expected, "{}", text);
        }

        #[test]
        fn any_text_is_refused_or_converted(text: String, precision in 1_u8..=65, scale in 0_u8..=30, round: bool) {
            let _ = convert(&text, precision.max(scale), scale, round);
        }
    }
}
