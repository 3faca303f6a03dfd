//! Tells a caller whose name the catalog does not have which names it has.

use std::collections::BTreeSet;

use reprise_shared::catalog::Catalog;

use super::error::quoted;

/// So many names are told; they stand in messages, which are bounded.
const MOST_TOLD: usize = 20;

/// Says that there is no such data type.
pub(super) fn no_data_type(catalog: &Catalog, name: &str) -> String {
    let known = catalog.data_types.iter().map(|known| known.name.as_str());
    not_among(known, "data type", name)
}

/// Says that there is no such topic.
pub(super) fn no_topic(catalog: &Catalog, name: &str) -> String {
    let known = catalog.topics.iter().map(|known| known.name.as_str());
    not_among(known, "topic", name)
}

/// Says that there is no such lookup.
pub(super) fn no_lookup(catalog: &Catalog, name: &str) -> String {
    let known = catalog.lookups.iter().map(|known| known.name.as_str());
    not_among(known, "lookup", name)
}

fn not_among<'a>(known: impl Iterator<Item = &'a str>, what: &str, name: &str) -> String {
    let known: BTreeSet<&str> = known.collect();
    let told: Vec<&str> = known.iter().copied().take(MOST_TOLD).collect();
    let rest = match (told.len(), known.len() - told.len()) {
        (0, _) => "there is none".to_owned(),
        (_, 0) => format!("there are: {}", told.join(", ")),
        (_, more) => format!("there are: {}, and {more} more", told.join(", ")),
    };
    format!("{} is no {what} of the catalog; {rest}", quoted(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_that_there_are_are_told_up_to_a_bound() {
        let told = |known: &[String]| not_among(known.iter().map(String::as_str), "topic", "x\n");
        assert_eq!(told(&[]), r#""x\n" is no topic of the catalog; there is none"#);
        let two = ["b", "a"].map(str::to_owned);
        assert_eq!(told(&two), r#""x\n" is no topic of the catalog; there are: a, b"#);
        let many: Vec<String> = (0..50).map(|number| format!("topic-{number}")).collect();
        assert!(told(&many).ends_with(", and 30 more"), "{}", told(&many));
    }
}
