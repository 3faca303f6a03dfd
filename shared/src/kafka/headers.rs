//! Record headers, read without rdkafka's wrapper and packed into one buffer.
//!
//! rdkafka 0.39 panics on a header whose name is not UTF-8, which would make one bad record stop a worker for ever.

#![expect(
    unsafe_code,
    reason = "reads headers through librdkafka directly; each block says why it is sound"
)]

use std::ffi::{CStr, c_void};
use std::ptr;

use rdkafka::bindings as native;
use rdkafka::message::BorrowedMessage;

/// Calls `visit` with the name and value of each header of `message`, in order.
pub fn for_each(message: &BorrowedMessage<'_>, mut visit: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive for the whole call; librdkafka parses its headers on first use and keeps them with
    // the message. A message without headers answers an error and leaves the pointer null.
    unsafe { native::rd_kafka_message_headers(message.ptr(), &raw mut headers) };
    if headers.is_null() {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null::<c_void>(), 0);
        // SAFETY: the headers belong to the message; an index beyond the last answers an error, which ends the loop.
        let answer =
            unsafe { native::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
        if answer != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return;
        }
        // SAFETY: the name is NUL-terminated and the value has `size` bytes; both live as long as the message.
        let (name, value) = unsafe {
            let value = (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size));
            (CStr::from_ptr(name).to_bytes(), value)
        };
        visit(name, value);
    }
}

/// Appends one header to a packed form: both lengths as u32 little-endian (`u32::MAX`: no value), then the bytes.
pub fn pack(name: &[u8], value: Option<&[u8]>, packed: &mut Vec<u8>) {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX - 1).to_le_bytes();
    packed.extend_from_slice(&length(name));
    packed.extend_from_slice(&value.map_or(u32::MAX.to_le_bytes(), length));
    packed.extend_from_slice(name);
    packed.extend_from_slice(value.unwrap_or_default());
}

/// A header's name and value.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// Iterates over packed headers; ends at the first byte that makes no sense.
pub fn unpack(mut packed: &[u8]) -> impl Iterator<Item = Header<'_>> {
    std::iter::from_fn(move || {
        let (name_length, rest) = packed.split_first_chunk::<4>()?;
        let (value_length, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let value_length = u32::from_le_bytes(*value_length);
        if value_length == u32::MAX {
            packed = rest;
            return Some((name, None));
        }
        let (value, rest) = rest.split_at_checked(value_length as usize)?;
        packed = rest;
        Some((name, Some(value)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_headers_come_back() {
        let headers: [Header<'_>; 3] = [(b"data-type", Some(b"fund_basic")), (b"\xff", None), (b"", Some(b""))];
        let mut packed = Vec::new();
        for (name, value) in headers {
            pack(name, value, &mut packed);
        }
        assert_eq!(unpack(&packed).collect::<Vec<_>>(), headers);
    }
}
