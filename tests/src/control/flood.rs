//! What no well-behaved client library sends.

use anyhow::{Context as _, Result};
use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A message by its bytes, so that a large one costs the sender no more than them.
#[derive(Clone, Debug, Default)]
pub struct Encoded(pub Bytes);

impl Encoded {
    /// A message that has a text `count` times in one of its fields.
    #[must_use]
    pub fn repeated(field: u8, text: &str, count: usize) -> Self {
        let mut one = vec![field << 3 | 2, u8::try_from(text.len()).expect("a short text")];
        one.extend(text.bytes());
        Self(one.repeat(count).into())
    }
}

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put(self.0.clone());
    }

    fn merge_field(
        &mut self,
        _tag: u32,
        _wire_type: WireType,
        _buffer: &mut impl Buf,
        _context: DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("it is only sent")
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The headers of a call, without compression.
fn headers(path: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let mut field = |name: &[u8], value: &str| {
        block.extend(name);
        block.push(u8::try_from(value.len()).expect("a short value"));
        block.extend(value.as_bytes());
    };
    field(&[0x04], path);
    field(&[0x01], "localhost");
    field(&[0x0f, 0x10], "application/grpc");
    block
}

/// Opens so many calls of a method at once on one connection, whatever the server allows, and ends none of them.
/// Returns when the server has hung up.
///
/// # Errors
/// The server does not take the connection.
pub async fn open_streams(server: std::net::SocketAddr, path: &str, count: u32) -> Result<()> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    let mut stream = TcpStream::connect(server).await.context("connect")?;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let block = headers(path);
    for number in 0..count {
        // No end of the stream: each of these calls stays open.
        bytes.extend(frame(HEADERS, 4, number * 2 + 1, &block));
    }
    let (mut read, mut write) = stream.split();
    let sent = async {
        // The server may hang up before it has read them all.
        let _cut = write.write_all(&bytes).await;
    };
    let mut answer = Vec::new();
    let received = async {
        // A reset instead of an end is as good.
        let _end = read.read_to_end(&mut answer).await;
    };
    tokio::join!(sent, received);
    Ok(())
}
