//! Reads JSON text from front to back, and refuses whatever is not JSON (RFC 8259, to the letter).
//!
//! Own code, because every record passes through here: `serde_json` takes four times as many instructions to say where
//! a value begins and ends. A property test holds the two to the same verdicts. Numbers are looked at digit by digit
//! and never converted; that escapes come in whole surrogate pairs is [`check`](super::check)'s business.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use smallvec::SmallVec;

use super::visit::Kind;
use crate::fault::{Fault, FaultClass};

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

impl NotJson {
    /// Says what is wrong with the text, in `serde_json`'s words.
    pub(super) fn into_fault(self, text: &str) -> Fault {
        let message = match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) => format!("the payload is not JSON: {error}"),
            Ok(IgnoredAny) => "the payload is not JSON".to_owned(),
        };
        Fault::new(FaultClass::NotJson, message)
    }
}

/// A place in a JSON text.
#[derive(Clone, Debug)]
pub(super) struct Scanner<'p> {
    text: &'p str,
    at: usize,
}

impl<'p> Scanner<'p> {
    pub(super) fn new(text: &'p str) -> Self {
        Self { text, at: 0 }
    }

    /// Returns how many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to a place that [`at`](Self::at) returned.
    pub(super) fn go_back(&mut self, at: usize) {
        self.at = at;
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<(), NotJson> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(NotJson),
        }
    }

    /// Goes to the value that must stand here and tells its kind, by its first byte.
    pub(super) fn kind(&mut self) -> Result<Kind, NotJson> {
        self.peek().and_then(Kind::by_first_byte).ok_or(NotJson)
    }

    /// Passes the bracket that opens an array or object.
    pub(super) fn enter(&mut self) {
        self.at += 1;
    }

    /// Goes to the next element or member, past the comma before it unless it is the first. Returns whether there is
    /// one; if not, `close` was passed.
    pub(super) fn more(&mut self, first: bool, close: u8) -> Result<bool, NotJson> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => Err(NotJson),
        }
    }

    /// Passes a member's name and the colon if they stand here in just this form, which is JSON.
    pub(super) fn take_name(&mut self, quoted: &[u8]) -> bool {
        self.peek();
        let stands = self.rest().starts_with(quoted);
        if stands {
            self.at += quoted.len();
        }
        stands
    }

    /// Passes any member's name and the colon.
    pub(super) fn name(&mut self) -> Result<Cow<'p, str>, NotJson> {
        if self.peek() != Some(b'"') {
            return Err(NotJson);
        }
        let start = self.at;
        let escaped = self.string()?;
        let quoted = &self.text[start..self.at];
        self.colon()?;
        if escaped {
            serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| NotJson)
        } else {
            Ok(Cow::Borrowed(&quoted[1..quoted.len() - 1]))
        }
    }

    /// Passes one value, however deeply it is nested.
    pub(super) fn skip(&mut self) -> Result<(), NotJson> {
        match self.kind()? {
            Kind::Object | Kind::Array => self.skip_nested(),
            kind => self.scalar(kind).map(drop),
        }
    }

    /// Passes an array or object, however deeply it is nested.
    pub(super) fn skip_nested(&mut self) -> Result<(), NotJson> {
        // The brackets that will close what is open.
        let mut closing: SmallVec<[u8; 32]> = SmallVec::new();
        loop {
            let kind = self.kind()?;
            let mut first = matches!(kind, Kind::Object | Kind::Array);
            if first {
                self.enter();
                closing.push(if kind == Kind::Object { b'}' } else { b']' });
            } else {
                self.scalar(kind)?;
            }
            loop {
                let Some(&close) = closing.last() else { return Ok(()) };
                if self.more(first, close)? {
                    if close == b'}' {
                        self.any_name()?;
                    }
                    break;
                }
                closing.pop();
                first = false;
            }
        }
    }

    /// Passes a value that is neither array nor object, of which the kind was seen. Returns whether it is a string
    /// without escapes.
    pub(super) fn scalar(&mut self, kind: Kind) -> Result<bool, NotJson> {
        match kind {
            Kind::String => self.string().map(|escaped| !escaped),
            Kind::Number => self.number().map(|()| false),
            _ => self.literal().map(|()| false),
        }
    }

    fn any_name(&mut self) -> Result<(), NotJson> {
        if self.peek() != Some(b'"') {
            return Err(NotJson);
        }
        self.string()?;
        self.colon()
    }

    fn colon(&mut self) -> Result<(), NotJson> {
        if self.peek() != Some(b':') {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// Passes a string whose quote was seen. Returns whether it has escapes.
    fn string(&mut self) -> Result<bool, NotJson> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        let mut escaped = false;
        loop {
            // What needs no look comes in eights.
            while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
                let special = special_bytes(u64::from_le_bytes(*eight));
                at += special.trailing_zeros() as usize / 8;
                if special != 0 {
                    break;
                }
            }
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += match bytes.get(at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                        Some(b'u') if is_hex(bytes.get(at + 2..at + 6)) => 6,
                        _ => return Err(NotJson),
                    };
                }
                Some(0x20..) => at += 1,
                Some(..0x20) | None => return Err(NotJson),
            }
        }
        self.at = at + 1;
        Ok(escaped)
    }

    /// Passes a number whose first byte is a sign or a digit.
    fn number(&mut self) -> Result<(), NotJson> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Passes digits, at least one.
    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotJson) }
    }

    fn literal(&mut self) -> Result<(), NotJson> {
        let literals: [&[u8]; 3] = [b"true", b"false", b"null"];
        let literal = literals.iter().find(|literal| self.rest().starts_with(literal));
        self.at += literal.ok_or(NotJson)?.len();
        Ok(())
    }

    /// Passes white space and returns the byte that follows.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                other => return other,
            }
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'p [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }
}

/// Marks the first byte that is a quote, a backslash or a control character, by its highest bit. Bytes after it may be
/// marked without reason.
fn special_bytes(eight: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let zero_bytes = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes;
    let control = eight.wrapping_sub(ONES * 0x20) & !eight;
    let quote = zero_bytes(eight ^ (ONES * u64::from(b'"')));
    let backslash = zero_bytes(eight ^ (ONES * u64::from(b'\\')));
    (control | quote | backslash) & (ONES << 7)
}

fn is_hex(digits: Option<&[u8]>) -> bool {
    digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_json(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip().and_then(|()| scanner.end()).is_ok()
    }

    #[test]
    fn places_are_those_of_the_value_alone() {
        let mut scanner = Scanner::new(" [1 , {\"a\" : \"\\n\"} ] ");
        assert_eq!(scanner.kind(), Ok(Kind::Array));
        scanner.enter();
        assert_eq!(scanner.more(true, b']'), Ok(true));
        let start = scanner.at();
        assert_eq!((scanner.skip(), start, scanner.at()), (Ok(()), 2, 3));
        assert_eq!(scanner.more(false, b']'), Ok(true));
        assert_eq!((scanner.kind(), scanner.at()), (Ok(Kind::Object), 6));
        assert_eq!((scanner.skip(), scanner.at()), (Ok(()), 18));
        assert_eq!(scanner.more(false, b']'), Ok(false));
        assert_eq!(scanner.end(), Ok(()));
    }

    #[test]
    fn names_are_read_in_any_form() {
        let mut scanner = Scanner::new(r#" "a\u0062" :1"#);
        assert!(!scanner.take_name(b"\"ab\":"));
        assert_eq!(scanner.name().as_deref(), Ok("ab"));
        let mut scanner = Scanner::new(r#" "ab":1"#);
        assert!(scanner.take_name(b"\"ab\":"));
        assert_eq!(scanner.kind(), Ok(Kind::Number));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn the_verdict_is_that_of_serde_json(
            text in r#"(\{|\}|\[|\]|,|:|"|"a":|"b\\n"|\\u00e9|\\|\\x|\\u12|00|1|-|\+|e9|E|\.|0\.5|null|true|fals|e| |\n|\x01|\x7f|é){0,12}"#
        ) {
            prop_assert_eq!(is_json(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn so_it_is_for_json_with_one_change(
            members in proptest::collection::vec((r#"[a-c"\\\n]{0,3}"#, any::<(i32, bool, f64)>()), 0..4),
            place: proptest::sample::Index,
            byte in r#"[]\[{}",:\\0-9eE.+ -]|u|n|t|\x00|\t"#,
        ) {
            let mut text = serde_json::to_string(&members).expect("JSON");
            prop_assert!(is_json(&text));
            let place = place.index(text.len());
            if text.is_char_boundary(place) && text.is_char_boundary(place + 1) {
                text.replace_range(place..=place, &byte);
            }
            prop_assert_eq!(is_json(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
        }
    }
}
