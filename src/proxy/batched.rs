//! TLS that gathers what is written before it is sent.
//!
//! rustls encrypts each write at once, straight from where it lies, and tokio-rustls sends each at once. For HTTP/2
//! that is a system call for each frame. Here what was encrypted waits until there is enough of it, or until nobody
//! has more to say.

use std::{
    io::{self, IoSlice, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

/// How much is encrypted before it is sent, in bytes: eight full records (RFC 8446 §5.1).
const BATCH: usize = 128 << 10;

/// A TLS connection whose handshake is done.
pub struct Batched<IO> {
    tls: TlsStream<IO>,
    /// Bytes that were encrypted and may not have been sent.
    waiting: usize,
    /// Whether a flush can wait for what is written next.
    is_patient: bool,
    /// Whether nothing was written since a flush was put off.
    is_put_off: bool,
}

impl<IO> Batched<IO> {
    /// Over `tls`. HTTP/2 flushes behind every frame, and has more of them at hand: there, a flush is put off until
    /// the connection was looked after once more and had nothing to add.
    pub fn new(mut tls: TlsStream<IO>) -> Self {
        let connection = tls.get_mut().1;
        let is_patient = connection.alpn_protocol() == Some(b"h2");
        // One write more than a batch can come.
        connection.set_buffer_limit(Some(2 * BATCH));
        Self { tls, waiting: 0, is_patient, is_put_off: false }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Batched<IO> {
    /// Sends all that was encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.tls).poll_flush(cx))?;
        self.waiting = 0;
        self.is_put_off = false;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tls).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Batched<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.waiting >= BATCH {
            ready!(this.poll_send(cx))?;
        }
        let written = this.tls.get_mut().1.writer().write_vectored(bufs)?;
        this.waiting += written;
        this.is_put_off = false;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_patient && this.waiting > 0 && !this.is_put_off {
            this.is_put_off = true;
            cx.waker().wake_by_ref();
            return Poll::Ready(Ok(()));
        }
        this.poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tls).poll_shutdown(cx)
    }
}
