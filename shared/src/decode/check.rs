//! What a payload must be before any field is looked for: small enough, UTF-8, flat enough, without lone surrogates.
//!
//! The visit follows nesting as deep as it goes, and `serde_json`, which says what is wrong, has no words for half a
//! surrogate pair in what it skips. So both are judged here, with a quick test first that nearly every payload passes.

use memchr::memchr_iter;

use super::Limits;
use crate::fault::{Fault, FaultClass};

/// Checks a payload and returns it as text. Whether it is JSON is decided by the visit that follows.
pub(super) fn text<'a>(payload: &'a [u8], limits: &Limits) -> Result<&'a str, Fault> {
    // Places in the payload are kept as u32 while it is decoded.
    let most = limits.max_payload.min(u32::MAX as usize);
    if payload.len() > most {
        let message = format!("the payload has {} bytes; expected at most {most}", payload.len());
        return Err(Fault::new(FaultClass::RecordTooLarge, message));
    }
    let text = std::str::from_utf8(payload).map_err(|error| {
        let message = format!(
            "byte {} of the payload is not UTF-8; expected UTF-8",
            error.valid_up_to()
        );
        Fault::new(FaultClass::InvalidUtf8, message)
    })?;
    let (brackets, backslashes) = count(payload);
    if brackets > limits.max_depth && depth_exceeds(payload, limits.max_depth) {
        let message = format!(
            "arrays and objects are nested more than {} levels deep",
            limits.max_depth
        );
        return Err(Fault::new(FaultClass::TooDeep, message));
    }
    if backslashes > 0
        && let Some(place) = lone_surrogate(payload)
    {
        let message = format!("the escape at byte {place} is one half of a surrogate pair; expected both halves");
        return Err(Fault::new(FaultClass::NotJson, message));
    }
    Ok(text)
}

/// Counts the opening brackets of both kinds, and the backslashes.
fn count(payload: &[u8]) -> (usize, usize) {
    let (mut brackets, mut backslashes) = (0, 0);
    // Counts of a few bytes fit into a byte, and so the compiler counts sixteen at a time.
    for few in payload.chunks(128) {
        // `[` and `{` differ in one bit.
        brackets += usize::from(few.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>());
        backslashes += usize::from(few.iter().map(|byte| u8::from(*byte == b'\\')).sum::<u8>());
    }
    (brackets, backslashes)
}

/// Tells whether brackets outside strings nest more deeply than `limit`. Exact for JSON; for other text any answer
/// will do, since the visit refuses it.
fn depth_exceeds(payload: &[u8], limit: usize) -> bool {
    let mut depth = 0_usize;
    let mut rest = payload.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            rest.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

/// Finds the first `\u` escape that is half a surrogate pair. Backslashes stand only in strings, so strings need not
/// be told apart; escapes that are broken otherwise are left to the visit.
fn lone_surrogate(payload: &[u8]) -> Option<usize> {
    let mut next = 0;
    for place in memchr_iter(b'\\', payload) {
        if place < next {
            continue;
        }
        next = place + 2;
        match escaped_unit(&payload[place..]) {
            Some(0xD800..0xDC00) if matches!(escaped_unit(&payload[place + 6..]), Some(0xDC00..0xE000)) => {
                next = place + 12;
            }
            Some(0xD800..0xE000) => return Some(place),
            _ => {}
        }
    }
    None
}

/// Reads `\uXXXX` at the start of the text.
fn escaped_unit(text: &[u8]) -> Option<u16> {
    let digits = text.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(payload: &[u8]) -> Option<FaultClass> {
        text(payload, &Limits::default()).err().map(|fault| fault.class)
    }

    #[test]
    fn depth_counts_brackets_outside_strings_only() {
        let nested = |levels| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(class(nested(64).as_bytes()), None);
        assert_eq!(class(nested(65).as_bytes()), Some(FaultClass::TooDeep));
        assert_eq!(class(nested(10_000).as_bytes()), Some(FaultClass::TooDeep));
        assert_eq!(class(format!("[\"{}\\\"[\"]", "{".repeat(100)).as_bytes()), None);
        assert_eq!(class(format!("[{}[]]", "[],{},".repeat(100)).as_bytes()), None);
    }

    #[test]
    fn surrogates_must_come_in_pairs() {
        for good in [
            r#""\ud83d\uDE00""#,
            r#""\\ud800""#,
            r#""\u00e9\\""#,
            r#""\\\\ud800""#,
            "\"\\",
            "\"\\u",
        ] {
            assert_eq!(class(good.as_bytes()), None, "{good}");
        }
        for lone in [
            r#""\ud83d""#,
            r#""\uDE00""#,
            r#""\ud83d\ud83d""#,
            r#""\ud83dx\ude00""#,
            r#""\\\ud800""#,
            r#""\ud800"#,
        ] {
            assert_eq!(class(lone.as_bytes()), Some(FaultClass::NotJson), "{lone}");
        }
    }

    #[test]
    fn size_and_encoding_are_checked_first() {
        assert_eq!(class(b"\"\xff\""), Some(FaultClass::InvalidUtf8));
        assert_eq!(class(b"\"\xed\xa0\x80\""), Some(FaultClass::InvalidUtf8));
        let limits = Limits {
            max_payload: 2,
            ..Limits::default()
        };
        assert!(text(b"12", &limits).is_ok());
        assert_eq!(
            text(b"123", &limits).expect_err("too large").class,
            FaultClass::RecordTooLarge
        );
    }
}
