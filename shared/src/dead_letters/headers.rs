//! Kafka headers as JSON, readable where they are text and exact where they are not.

use std::fmt::Write as _;

/// Writes headers as a JSON array in their order: `{"name": …, "value": …}`, `"value": null`, or `"name_hex"` and
/// `"value_hex"` for what is not UTF-8 (hex, because SQL's `UNHEX` and every language read it back).
pub fn headers_json<'a>(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> String {
    let mut json = String::from("[");
    for (name, value) in headers {
        if json.len() > 1 {
            json.push(',');
        }
        json.push('{');
        push_member(&mut json, "name", Some(name));
        json.push(',');
        push_member(&mut json, "value", value);
        json.push('}');
    }
    json.push(']');
    json
}

fn push_member(json: &mut String, member: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => json.push_str(&format!("\"{member}\":null")),
        Some(Ok(text)) => {
            json.push_str(&format!("\"{member}\":"));
            push_string(json, text);
        }
        Some(Err(_)) => {
            json.push_str(&format!("\"{member}_hex\":\""));
            for byte in bytes.unwrap_or_default() {
                // Writing to a string cannot fail.
                let _ = write!(json, "{byte:02x}");
            }
            json.push('"');
        }
    }
}

fn push_string(json: &mut String, text: &str) {
    json.push_str(&serde_json::Value::from(text).to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_null_and_bytes_keep_their_order_and_meaning() {
        let headers: [(&[u8], Option<&[u8]>); 4] = [
            (b"a", Some(b"x\"y")),
            (b"b", None),
            (b"a", Some(&[0xff, 0x00])),
            (&[0xfe], Some(b"")),
        ];
        let json = headers_json(headers);
        assert_eq!(
            json,
            r#"[{"name":"a","value":"x\"y"},{"name":"b","value":null},{"name":"a","value_hex":"ff00"},{"name_hex":"fe","value":""}]"#
        );
        assert_eq!(headers_json([]), "[]");
    }
}
