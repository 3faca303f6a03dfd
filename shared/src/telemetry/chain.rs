//! Prints an error with its sources, each once.

use std::error::Error;
use std::fmt;

/// Returns what prints an error and its sources on one line: `outer: middle: inner`.
///
/// Our own errors do not repeat their source; some libraries' do. A source whose text the line already ends with is
/// left out, so that nothing is said twice.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + use<'a> {
    Chain(error)
}

struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.0.to_string();
        let mut next = self.0.source();
        while let Some(source) = next {
            let text = source.to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            next = source.source();
        }
        formatter.write_str(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (first, rest) = texts.split_first().expect("a text");
        Layer {
            text: first,
            source: (!rest.is_empty()).then(|| Box::new(layers(rest))),
        }
    }

    #[test]
    fn sources_follow_the_error_in_order() {
        assert_eq!(
            chain(&layers(&["cannot claim", "query failed", "timed out"])).to_string(),
            "cannot claim: query failed: timed out"
        );
    }

    #[test]
    fn a_source_that_was_already_said_is_left_out() {
        assert_eq!(
            chain(&layers(&["query failed: timed out", "timed out"])).to_string(),
            "query failed: timed out"
        );
    }

    #[test]
    fn an_error_without_a_source_stands_alone() {
        assert_eq!(chain(&layers(&["alone"])).to_string(), "alone");
    }
}
