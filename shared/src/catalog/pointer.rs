//! JSON pointers (RFC 6901) as they are written in the catalog.

use std::fmt;

use super::model::{Field, Pointer, Root};

impl Pointer {
    /// Splits and unescapes a pointer: empty for the whole value, else a `/` before each step, in which `~1` stands
    /// for `/` and `~0` for `~`.
    ///
    /// # Errors
    ///
    /// What is wrong, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let Some(steps) = text.strip_prefix('/') else {
            return Err("does not start with `/`");
        };
        steps.split('/').map(unescape).collect::<Result<_, _>>().map(Self)
    }
}

fn unescape(step: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(step.len());
    let mut chars = step.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err("has a `~` that is not followed by 0 or 1"),
            },
            other => other,
        });
    }
    Ok(plain)
}

impl fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|step| write!(formatter, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

impl Field {
    /// Reads a pointer that may begin with `^`, which makes it relative to the record.
    ///
    /// # Errors
    ///
    /// As [`Pointer::parse`].
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (root, pointer) = match text.strip_prefix('^') {
            Some(pointer) => (Root::Record, pointer),
            None => (Root::Item, text),
        };
        Ok(Self {
            root,
            pointer: Pointer::parse(pointer)?,
        })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.root {
            Root::Item => "",
            Root::Record => "^",
        };
        write!(formatter, "{root}{}", self.pointer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_undone_in_one_pass() {
        let pointer = Pointer::parse("/a~1b/~01/").expect("a pointer");
        assert_eq!(pointer, Pointer(vec!["a/b".to_owned(), "~1".to_owned(), String::new()]));
        assert_eq!(Pointer::parse(""), Ok(Pointer(Vec::new())));
        assert_eq!(Pointer::parse("a"), Err("does not start with `/`"));
        assert_eq!(Pointer::parse("/a~2"), Err("has a `~` that is not followed by 0 or 1"));
        assert_eq!(Pointer::parse("/a~"), Err("has a `~` that is not followed by 0 or 1"));
    }

    proptest! {
        #[test]
        fn a_pointer_comes_back_from_its_text(steps in prop::collection::vec("[a-c/~^ ]{0,4}", 0..4), record: bool) {
            let root = if record { Root::Record } else { Root::Item };
            let field = Field { root, pointer: Pointer(steps) };
            prop_assert_eq!(Field::parse(&field.to_string()), Ok(field));
        }
    }
}
