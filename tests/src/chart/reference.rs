//! The reference of the chart's values in `docs/deploying.md`, made from the comments of `values.yaml`.
//!
//! Every key has its comment directly above it. A key of the first level that holds others begins a section, whose
//! text is its comment.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

/// What stands before the reference in the document.
pub const BEGIN: &str = "<!-- The values, made from the comments of helm/reprise/values.yaml: begin -->";
/// What stands after it.
pub const END: &str = "<!-- The values: end -->";

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// With dots.
    pub key: String,
    /// As it stands in the file; empty: the key holds others.
    pub default: String,
    /// The comment.
    pub meaning: String,
}

/// Reads all keys, in their order.
///
/// # Errors
/// A key without a comment, or a line that is not understood.
pub fn entries(values: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    let mut path: Vec<&str> = Vec::new();
    for (number, line) in values.lines().enumerate() {
        let text = line.trim_start();
        let depth = (line.len() - text.len()) / 2;
        if text.is_empty() {
            comment.clear();
        } else if let Some(words) = text.strip_prefix('#') {
            comment.push(words.trim());
        } else {
            let (key, default) = text
                .split_once(':')
                .with_context(|| format!("line {} of values.yaml is no key: {line}", number + 1))?;
            ensure!(!comment.is_empty(), "line {}: {key} has no comment", number + 1);
            path.truncate(depth);
            path.push(key);
            entries.push(Entry {
                key: path.join("."),
                default: default.trim().to_owned(),
                meaning: comment.join(" "),
            });
            comment.clear();
        }
    }
    Ok(entries)
}

/// Returns the reference as Markdown.
///
/// # Errors
/// As [`entries`].
pub fn markdown(values: &str) -> Result<String> {
    let mut text = String::new();
    let mut is_open = false;
    for entry in entries(values)? {
        let Entry { key, default, meaning } = entry;
        let begins_section = !key.contains('.') && default.is_empty();
        if begins_section {
            write!(text, "\n### `{key}`\n\n{meaning}\n")?;
            is_open = false;
            continue;
        }
        if !is_open {
            text.push_str("\n| key | default | what it is for |\n|---|---|---|\n");
            is_open = true;
        }
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("`{default}`")
        };
        writeln!(text, "| `{key}` | {default} | {} |", meaning.replace('|', "\\|"))?;
    }
    Ok(text)
}

/// Returns a document with its reference replaced.
///
/// # Errors
/// It has no place for one.
pub fn with_reference(document: &str, reference: &str) -> Result<String> {
    let (before, rest) = document
        .split_once(BEGIN)
        .context("the document has no beginning of the values")?;
    let (_, after) = rest.split_once(END).context("the document has no end of the values")?;
    Ok(format!("{before}{BEGIN}\n{reference}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_with_their_comments() {
        let values = "# The head.\n\n# One.\n# And more.\na: 1\n# Two.\nb:\n  # Three | or so.\n  c: { d: 2 }\n";
        assert_eq!(
            markdown(values).unwrap(),
            "\n| key | default | what it is for |\n|---|---|---|\n| `a` | `1` | One. And more. |\n\n### `b`\n\nTwo.\n\n\
             | key | default | what it is for |\n|---|---|---|\n| `b.c` | `{ d: 2 }` | Three \\| or so. |\n"
        );
    }

    #[test]
    fn a_key_without_a_comment_is_an_error() {
        assert!(
            entries("# One.\na: 1\nb: 2\n")
                .unwrap_err()
                .to_string()
                .contains("b has no comment")
        );
    }
}
