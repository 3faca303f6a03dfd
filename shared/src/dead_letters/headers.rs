//! Kafka headers as JSON, readable where they are text and exact where they are not.

use std::fmt::Write as _;

/// Writes headers as a JSON array in their order: `{"name": …, "value": …}`, `"value": null`, or `"value_hex"` for a
/// value that is not UTF-8 (hex, because SQL's `UNHEX` and every language read it back).
pub fn headers_json<'a>(headers: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> String {
    let mut json = String::from("[");
    for (name, value) in headers {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str("{\"name\":");
        push_string(&mut json, name);
        match value.map(std::str::from_utf8) {
            None => json.push_str(",\"value\":null}"),
            Some(Ok(text)) => {
                json.push_str(",\"value\":");
                push_string(&mut json, text);
                json.push('}');
            }
            Some(Err(_)) => {
                json.push_str(",\"value_hex\":\"");
                for byte in value.unwrap_or_default() {
                    // Writing to a string cannot fail.
                    let _ = write!(json, "{byte:02x}");
                }
                json.push_str("\"}");
            }
        }
    }
    json.push(']');
    json
}

fn push_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_null_and_bytes_keep_their_order_and_meaning() {
        let headers = [("a", Some(b"x\"y".as_slice())), ("b", None), ("a", Some(&[0xff, 0x00]))];
        let json = headers_json(headers);
        assert_eq!(
            json,
            r#"[{"name":"a","value":"x\"y"},{"name":"b","value":null},{"name":"a","value_hex":"ff00"}]"#
        );
        assert_eq!(headers_json([]), "[]");
    }
}
