//! Which protocol a client begins to speak: TLS or plain HTTP, from its first byte.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

use super::prefixed::Prefixed;

/// The first byte of every TLS connection: a record of type handshake (RFC 8446 §5.1). No HTTP method starts with it.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TLS, to be decrypted first.
    Tls,
    /// HTTP, or something that the HTTP parser will refuse.
    Plain,
}

impl Protocol {
    /// The protocol that begins with `byte`.
    fn of(byte: u8) -> Self {
        if byte == TLS_HANDSHAKE_RECORD { Self::Tls } else { Self::Plain }
    }
}

/// Waits for the first byte and looks at it without taking it. `None`: the client left without a word.
///
/// # Errors
/// Where the connection breaks.
pub async fn peek(stream: &TcpStream) -> io::Result<Option<Protocol>> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    Ok((length > 0).then(|| Protocol::of(first[0])))
}

/// The same for a stream that cannot be looked into: the byte is read and given back. `None`: the client left
/// without a word.
///
/// # Errors
/// Where the connection breaks.
pub async fn read_ahead<IO: AsyncRead + Unpin>(stream: &mut Prefixed<IO>) -> io::Result<Option<Protocol>> {
    if stream.prefix().is_empty() {
        let mut first = [0];
        let length = stream.inner_mut().read(&mut first).await?;
        stream.append_to_prefix(&first[..length]);
    }
    Ok(stream.prefix().first().copied().map(Protocol::of))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_first_byte_decides_and_stays_readable() {
        for (sent, protocol) in [(&b"\x16\x03\x01"[..], Protocol::Tls), (b"GET / HTTP/1.1", Protocol::Plain)] {
            let (mut far, near) = tokio::io::duplex(64);
            far.write_all(sent).await.unwrap();
            drop(far);
            let mut stream = Prefixed::new(Bytes::new(), near);
            assert_eq!(read_ahead(&mut stream).await.unwrap(), Some(protocol));
            let mut read = Vec::new();
            stream.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, sent);
        }
    }

    #[tokio::test]
    async fn bytes_that_were_read_before_count_first() {
        let (_far, near) = tokio::io::duplex(64);
        let mut stream = Prefixed::new(Bytes::from_static(b"\x16"), near);
        assert_eq!(read_ahead(&mut stream).await.unwrap(), Some(Protocol::Tls));
        assert_eq!(stream.prefix(), b"\x16");
    }

    #[tokio::test]
    async fn a_client_that_leaves_at_once_speaks_nothing() {
        let mut stream = Prefixed::new(Bytes::new(), tokio::io::empty());
        assert_eq!(read_ahead(&mut stream).await.unwrap(), None);
    }
}
