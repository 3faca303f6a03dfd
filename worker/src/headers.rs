//! A record's Kafka headers, packed into one byte string so that a chunk holds them without an allocation each.
//!
//! Layout per header: u32 little-endian name length, the name, u32 little-endian value length (`u32::MAX` for a null
//! value), the value.

const NULL: u32 = u32::MAX;

/// Appends headers to a buffer.
#[derive(Debug)]
pub struct PackedHeaders<'b>(&'b mut Vec<u8>);

impl<'b> PackedHeaders<'b> {
    /// Appends to `buffer`.
    pub fn new(buffer: &'b mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Appends one header. Kafka's own limits keep names and values far below 4 GiB.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(NULL - 1).to_le_bytes();
        self.0.extend_from_slice(&length(name.as_bytes()));
        self.0.extend_from_slice(name.as_bytes());
        match value {
            None => self.0.extend_from_slice(&NULL.to_le_bytes()),
            Some(value) => {
                self.0.extend_from_slice(&length(value));
                self.0.extend_from_slice(value);
            }
        }
    }

    /// Iterates over packed headers in their order; ends early where the bytes are not well-formed.
    pub fn iter(packed: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut rest = packed;
        std::iter::from_fn(move || {
            let (name, after) = take(rest)?;
            let (value, after) = match after.split_first_chunk::<4>()? {
                (length, after) if u32::from_le_bytes(*length) == NULL => (None, after),
                _ => take(after).map(|(value, after)| (Some(value), after))?,
            };
            rest = after;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }
}

fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_in_their_order() {
        let mut buffer = Vec::new();
        let mut packed = PackedHeaders::new(&mut buffer);
        let headers = [("a", Some(b"1".as_slice())), ("b", None), ("a", Some(b""))];
        for (name, value) in headers {
            packed.push(name, value);
        }
        assert_eq!(PackedHeaders::iter(&buffer).collect::<Vec<_>>(), headers);
        assert_eq!(PackedHeaders::iter(&buffer[..buffer.len() - 1]).count(), 2);
    }
}
