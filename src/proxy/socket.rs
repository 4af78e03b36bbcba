//! A client's TCP connection, which sends mapped store files without touching them.
//!
//! hyper hands over what it has to send as a list of slices: its own heads, and bodies as they are. A slice that lies
//! in a [mapped window](crate::store::mapped) of a store file is sent by `sendfile(2)` from the file itself.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[cfg(target_os = "linux")]
use super::sendfile::FileSender;

/// Slices that one call sends.
const MAX_SLICES: usize = 64;

/// A client's TCP connection.
#[derive(Debug)]
pub struct ClientSocket {
    stream: TcpStream,
    /// Other systems have a `sendfile` of another kind; there, nothing is mapped to be sent.
    #[cfg(target_os = "linux")]
    files: FileSender,
}

impl ClientSocket {
    /// Over `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            #[cfg(target_os = "linux")]
            files: FileSender::new(),
        }
    }

    /// The connection as tokio has it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// How it sends files, for the tests of that.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn files(&mut self) -> &mut FileSender {
        &mut self.files
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.iter().position(|buf| !buf.is_empty()).unwrap_or(bufs.len());
        let bufs = &bufs[first..];
        let bufs = &bufs[..bufs.len().min(MAX_SLICES)];
        #[cfg(target_os = "linux")]
        if let Some(sent) = this.files.poll_send(cx, &mut this.stream, bufs) {
            return sent;
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        #[cfg(target_os = "linux")]
        this.files.flush(&this.stream);
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
