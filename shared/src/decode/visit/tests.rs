use proptest::prelude::*;

use super::*;
use crate::catalog::Pointer;

fn pointer(text: &str) -> Pointer {
    Pointer(text.split('/').skip(1).map(str::to_owned).collect())
}

/// Visits a text and returns the raw text at `/a/1`, or the fault.
fn visit(text: &str) -> Result<Option<&str>, Fault> {
    let mut trie = Trie::new();
    let slot = trie.insert(&pointer("/a/1"));
    let mut found = Found::default();
    found.visit(text, &trie, None, 0)?;
    Ok(match found.record(slot) {
        Slot::At { start, end, .. } => Some(&text[start as usize..end as usize]),
        _ => None,
    })
}

/// Tells whether a text is JSON, by visits that skip all of it, walk through its members, and read it as `rows`.
fn is_json(text: &str) -> bool {
    let (nothing, mut members, mut rows) = (Trie::new(), Trie::new(), Trie::new());
    for named in ["/a", "/a/0", "/0", "/1/a"] {
        members.insert(&pointer(named));
    }
    rows.insert(&pointer("/0"));
    rows.insert_rows(&pointer(""));
    let verdict = |trie, item, most| Found::default().visit(text, trie, item, most).is_ok();
    let verdicts = [
        verdict(&nothing, None, 0),
        verdict(&members, None, 0),
        verdict(&rows, Some(&members), 2),
    ];
    assert!(verdicts.windows(2).all(|two| two[0] == two[1]), "{verdicts:?} {text}");
    verdicts[0]
}

#[test]
fn places_are_those_of_the_value_alone() {
    for (text, raw) in [
        (r#" { "a" : [1 , {"b" : "\n"} ] } "#, r#"{"b" : "\n"}"#),
        (r#"{"\u0061":[[], -0.5e+7]}"#, "-0.5e+7"),
        (r#"{"b":{"a":1},"a":["]","é\"",2]}"#, r#""é\"""#),
    ] {
        assert_eq!(visit(text), Ok(Some(raw)), "{text}");
    }
}

#[test]
fn no_number_is_too_long() {
    for digits in [4_300, 4_301, 10_000] {
        for (before, after) in [("", ""), ("-", ""), ("", "0.50"), ("-", "0E-7")] {
            let number = format!("{before}{}{after}", "7".repeat(digits));
            let text = format!("{{\"b\":[{number}],\"a\":[{number}, {number} ,1],\"a\\u0062\":{number}}}");
            assert_eq!(visit(&text), Ok(Some(number.as_str())));
            assert!(is_json(&text));
        }
        for broken in [".", "e", ".5.", "-", "x", "e+"] {
            let text = format!("[{}{broken}]", "7".repeat(digits));
            assert!(!is_json(&text), "{broken}");
        }
    }
}

#[test]
fn nesting_is_no_business_of_the_visit() {
    for open in ["[", "{\"b\":", "[{\"a\":[0,"] {
        let close: String = open
            .bytes()
            .rev()
            .filter_map(|byte| match byte {
                b'[' => Some(']'),
                b'{' => Some('}'),
                _ => None,
            })
            .collect();
        let text = format!("{}1{}", open.repeat(1_000), close.repeat(1_000));
        assert!(is_json(&text));
        assert!(!is_json(&text[..text.len() - 1]));
    }
}

#[test]
fn faults_speak_in_the_words_of_serde_json() {
    for text in [
        "",
        "nul",
        "[1,]",
        "{\"a\":1}}",
        "\"\u{1}\"",
        "[01]",
        "NaN",
        "[-Infinity]",
        "{a:1}",
    ] {
        let error = serde_json::from_str::<IgnoredAny>(text).expect_err("it is not JSON");
        let fault = visit(text).expect_err("it is not JSON");
        assert_eq!(fault.class, FaultClass::NotJson);
        assert_eq!(fault.message, format!("the payload is not JSON: {error}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_verdict_is_that_of_serde_json(
        text in r#"(\{|\}|\[|\]|,|:|"|"a":|"b\\n"|\\u00e9|\\|\\x|\\u12|00|1|-|\+|e9|E|\.|0\.5|NaN|Infinity|null|true|fals|e| |\n|\x01|\x7f|é){0,12}"#
    ) {
        prop_assert_eq!(is_json(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn so_it_is_for_json_with_one_change(
        members in proptest::collection::vec((r#"[a-c"\\\n]{0,3}"#, any::<(i32, bool, f64)>()), 0..4),
        place: proptest::sample::Index,
        byte in r#"[]\[{}",:\\0-9eE.+ NI-]|u|n|t|\x00|\t"#,
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
