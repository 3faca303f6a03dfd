//! Changes single fields of payloads, byte by byte: what comes out need not be JSON any more.

/// Inserts a member at the front of the outermost object.
pub(super) fn insert_first(payload: &mut Vec<u8>, member: &[u8]) {
    payload.splice(1..1, member.iter().copied().chain([b',']));
}

/// Replaces the value of the `nth` field of that name; `false` when there is none.
pub(super) fn set_field(payload: &mut Vec<u8>, field: &str, nth: u32, value: &[u8]) -> bool {
    match find_field(payload, field, nth) {
        Some((start, end)) => {
            payload.splice(start..end, value.iter().copied());
            true
        }
        None => false,
    }
}

/// Gives the `nth` field of that name another name, which no data type knows.
pub(super) fn rename_field(payload: &mut [u8], field: &str, nth: u32) {
    if let Some((start, _)) = find_field(payload, field, nth) {
        // Before the value stand the name's last character, a quotation mark and a colon.
        payload[start - 3] = b'_';
    }
}

/// Finds start and end of the value of the `nth` field of that name. For payloads as `render` writes them only.
pub(super) fn find_field(payload: &[u8], field: &str, nth: u32) -> Option<(usize, usize)> {
    let name = [b"\"", field.as_bytes(), b"\":"].concat();
    let start = (0..payload.len().saturating_sub(name.len()))
        .filter(|at| payload[*at..].starts_with(&name))
        .nth(nth as usize)?
        + name.len();
    let value = &payload[start..];
    let length = match value.first()? {
        b'"' => {
            let mut escaped = false;
            1 + value[1..].iter().position(|byte| {
                let ends = *byte == b'"' && !escaped;
                escaped = *byte == b'\\' && !escaped;
                ends
            })? + 1
        }
        b'[' => value.iter().position(|byte| *byte == b']')? + 1,
        _ => value.iter().position(|byte| matches!(byte, b',' | b'}'))?,
    };
    Some((start, start + length))
}
