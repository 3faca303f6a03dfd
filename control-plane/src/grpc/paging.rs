//! Pages of lists: their size, and the tokens between them.
//!
//! A token holds where the next page starts and a digest of the request it belongs to, so that a token that is sent
//! with other filters is refused instead of giving a page of neither.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::fields::Fields;

/// A page holds so many items when the request does not say.
const USUAL: i32 = 100;
/// A page holds at most so many.
const MOST: i32 = 1_000;
/// A longer token was not made here.
const LONGEST_TOKEN: usize = 2_048;

/// Which page is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<C> {
    /// At most so many items.
    pub size: usize,
    /// Where it starts; `None`: at the beginning.
    pub after: Option<C>,
    request: String,
}

#[derive(Serialize, Deserialize)]
struct Token<C> {
    request: String,
    after: C,
}

impl<C: Serialize + DeserializeOwned> Page<C> {
    /// Reads a request's page. `filters` are its other fields, in any form that differs when they do.
    pub fn read(fields: &mut Fields, size: i32, token: &str, filters: &[&str]) -> Self {
        if size < 0 {
            fields.refuse("page_size", format!("is {size}; it has to be 0 or more"));
        }
        let request = fingerprint(filters);
        let size = if size <= 0 { USUAL } else { size.min(MOST) };
        let after = if token.is_empty() {
            None
        } else {
            let read = Self::parse(token, &request);
            if read.is_none() {
                fields.refuse(
                    "page_token",
                    "is not the next_page_token of a page of this very request; leave it out to start again",
                );
            }
            read
        };
        Self {
            size: usize::try_from(size).unwrap_or(1),
            after,
            request,
        }
    }

    fn parse(token: &str, request: &str) -> Option<C> {
        let bytes = URL_SAFE_NO_PAD
            .decode(token.get(..LONGEST_TOKEN.min(token.len()))?)
            .ok()?;
        let token: Token<C> = serde_json::from_slice(&bytes).ok()?;
        (token.request == request).then_some(token.after)
    }

    /// Returns the token of the page that starts after `last`.
    pub fn token(&self, last: C) -> String {
        let token = Token {
            request: self.request.clone(),
            after: last,
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// Cuts a list that holds one item more than fits, and returns the next page's token if it did.
    pub fn cut<T>(&self, items: &mut Vec<T>, cursor: impl Fn(&T) -> C) -> String {
        if items.len() <= self.size {
            return String::new();
        }
        items.truncate(self.size);
        items.last().map(|last| self.token(cursor(last))).unwrap_or_default()
    }
}

fn fingerprint(filters: &[&str]) -> String {
    let mut text = Vec::new();
    for filter in filters {
        // The length keeps two lists of filters apart whose texts run together to the same.
        text.extend_from_slice(&filter.len().to_be_bytes());
        text.extend_from_slice(filter.as_bytes());
    }
    URL_SAFE_NO_PAD.encode(&digest(&SHA256, &text).as_ref()[..9])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(size: i32, token: &str, filters: &[&str]) -> Result<Page<String>, super::super::error::Error> {
        let mut fields = Fields::new();
        let page = Page::read(&mut fields, size, token, filters);
        fields.finish().map(|()| page)
    }

    #[test]
    fn a_token_leads_to_the_next_page_of_the_same_request_only() {
        let page = read(2, "", &["a", "b"]).expect("a page");
        let mut items = vec!["x".to_owned(), "y".to_owned(), "z".to_owned()];
        let token = page.cut(&mut items, Clone::clone);
        assert_eq!(items, ["x", "y"]);

        let next = read(2, &token, &["a", "b"]).expect("the next page");
        assert_eq!(next.after.as_deref(), Some("y"));
        assert!(read(2, &token, &["ab", ""]).is_err());
        assert!(read(2, "nonsense", &["a", "b"]).is_err());
        assert!(read(2, &"A".repeat(1_000_000), &["a", "b"]).is_err());
        assert_eq!(next.cut(&mut items, Clone::clone), "");
    }

    #[test]
    fn sizes_are_kept_within_bounds() {
        assert_eq!(read(0, "", &[]).expect("a page").size, 100);
        assert_eq!(read(i32::MAX, "", &[]).expect("a page").size, 1_000);
        assert!(read(-1, "", &[]).is_err());
    }
}
