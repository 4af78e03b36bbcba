//! A client's TCP connection, which sends mapped store files without touching them.
//!
//! hyper hands over what it has to send as a list of slices: its own heads, and bodies as they are. A slice that lies
//! in a [mapped window](crate::store::mapped) of a store file is sent by `sendfile(2)` from the file itself, so that
//! its pages are neither copied nor ever become part of this process.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::net::SendFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[cfg(target_os = "linux")]
use crate::store::mapped::{self, FileRange};

/// From how many bytes on a mapped slice goes by `sendfile`. Up to 128 KiB either way took the server 40 to 75 µs of
/// its processor for a request, without a difference beyond the noise; 256 KiB took 70 to 81 µs against 81 to 105, and
/// 1 MiB 153 to 199 against 188 to 276 (three runs each, one after the other).
const SENDFILE_FROM: usize = 128 << 10;

/// Slices that one call sends.
const MAX_SLICES: usize = 64;

/// A client's TCP connection.
#[derive(Debug)]
pub struct ClientSocket {
    stream: TcpStream,
    /// Whether the kernel sends from files; not all file systems can.
    can_sendfile: bool,
}

impl ClientSocket {
    /// Over `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, can_sendfile: true }
    }

    /// The connection as tokio has it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Where `slice` is in a file, if it is worth sending from there.
    #[cfg(target_os = "linux")]
    fn in_file(&self, slice: &[u8]) -> Option<FileRange> {
        if slice.len() < SENDFILE_FROM || !self.can_sendfile { None } else { mapped::file_behind(slice) }
    }

    /// Calls `send` until it has sent something.
    #[cfg(target_os = "linux")]
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        mut send: impl FnMut() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            let sent = self
                .stream
                .try_io(tokio::io::Interest::WRITABLE, || rustix::io::retry_on_intr(&mut send).map_err(Into::into));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Sends from a file.
    #[cfg(target_os = "linux")]
    fn poll_sendfile(&self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<usize>> {
        let sent = std::task::ready!(self.poll_send(cx, || {
            let mut offset = range.offset;
            rustix::fs::sendfile(&self.stream, &*range.file, Some(&mut offset), range.length)
        }));
        Poll::Ready(match sent {
            Ok(0) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a store file got shorter while it was sent")),
            sent => sent,
        })
    }

    /// Sends slices of memory. A file follows at once, so that the kernel need not send a short packet before it.
    #[cfg(target_os = "linux")]
    fn poll_send_before_file(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
        self.poll_send(cx, || rustix::net::sendmsg(&self.stream, bufs, &mut Default::default(), flags))
    }

    /// Sends what is first of `bufs`: a file, or the memory before one. `None` where no file is among them.
    #[cfg(target_os = "linux")]
    fn poll_send_files(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
        let next_file = bufs.iter().enumerate().find_map(|(at, buf)| Some((at, self.in_file(buf)?)));
        next_file.map(|(before, range)| match before {
            0 => self.poll_sendfile(cx, &range),
            before => self.poll_send_before_file(cx, &bufs[..before]),
        })
    }

    /// Other systems have a `sendfile` of another kind, and copy.
    #[cfg(not(target_os = "linux"))]
    fn poll_send_files(&self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
        None
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
        match this.poll_send_files(cx, bufs) {
            Some(Poll::Ready(Err(error))) if is_unsupported(&error) => {
                tracing::debug!("this file cannot be sent by sendfile, and is copied: {error}");
                this.can_sendfile = false;
            }
            Some(sent) => return sent,
            None => {}
        }
        Pin::new(&mut this.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Whether the kernel refuses to send from this kind of file at all.
fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
