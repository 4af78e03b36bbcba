//! A client's TCP connection, which sends mapped store files without touching them.
//!
//! hyper hands over what it has to send as a list of slices: its own heads, and bodies as they are. A slice that lies
//! in a [mapped window](crate::store::mapped) of a store file is sent by `sendfile(2)` from the file itself, so that
//! its pages are neither copied nor ever become part of this process.

#[cfg(target_os = "linux")]
use std::task::ready;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use rustix::io::Errno;
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[cfg(target_os = "linux")]
use crate::store::{
    ahead::Ahead,
    mapped::{self, FileRange, SENDFILE_FROM},
};

/// What one call sends from a file at the most, in bytes: while it sends, its thread serves nobody else.
#[cfg(target_os = "linux")]
const SENDFILE_MOST: u64 = 2 << 20;

/// What is sent from files in a row, in bytes, before other connections have their turn.
#[cfg(target_os = "linux")]
const TURN: usize = 8 << 20;

/// Slices that one call sends.
const MAX_SLICES: usize = 64;

/// A client's TCP connection.
#[derive(Debug)]
pub struct ClientSocket {
    stream: TcpStream,
    /// Whether the kernel sends from files; not all file systems can.
    can_sendfile: bool,
    #[cfg(target_os = "linux")]
    ahead: Ahead,
    /// Whether the kernel holds back what does not fill a packet.
    is_corked: bool,
    /// What was sent from files since other connections had their turn, in bytes.
    in_turn: usize,
}

impl ClientSocket {
    /// Over `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            can_sendfile: true,
            #[cfg(target_os = "linux")]
            ahead: Ahead::default(),
            is_corked: false,
            in_turn: 0,
        }
    }

    /// The connection as tokio has it.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends what is first of `bufs`: a file, or the memory before one. `None` where no file is among them.
    #[cfg(target_os = "linux")]
    fn poll_send_files(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
        if !self.can_sendfile {
            return None;
        }
        let (before, range) = bufs.iter().enumerate().find_map(|(at, buf)| Some((at, in_file(buf)?)))?;
        self.cork(true);
        Some(match before {
            0 => self.poll_sendfile(cx, &range),
            before => Pin::new(&mut self.stream).poll_write_vectored(cx, &bufs[..before]),
        })
    }

    /// Other systems have a `sendfile` of another kind, and copy.
    #[cfg(not(target_os = "linux"))]
    fn poll_send_files(&mut self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Option<Poll<io::Result<usize>>> {
        None
    }

    /// Sends from a file, and gives others their turn before it goes on.
    #[cfg(target_os = "linux")]
    fn poll_sendfile(&mut self, cx: &mut Context<'_>, range: &FileRange) -> Poll<io::Result<usize>> {
        if self.in_turn >= TURN {
            self.in_turn = 0;
            // Its first poll has the task woken when the others were looked after.
            let _pending = std::pin::pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let length = (range.length as u64).min(SENDFILE_MOST);
        let length = ready!(self.ahead.poll(cx, &range.file, range.offset, length))?;
        loop {
            if self.stream.poll_write_ready(cx)?.is_pending() {
                self.in_turn = 0;
                return Poll::Pending;
            }
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut offset = range.offset;
                // At most SENDFILE_MOST, which is a usize.
                let send = || rustix::fs::sendfile(&self.stream, &*range.file, Some(&mut offset), length as usize);
                rustix::io::retry_on_intr(send).map_err(Into::into)
            });
            return Poll::Ready(match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Ok(0) => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a store file got shorter while it was sent"))
                }
                sent => {
                    self.in_turn += *sent.as_ref().unwrap_or(&0);
                    sent
                }
            });
        }
    }

    /// Has the kernel fill its packets, from a head on into the file behind it, or send what it has.
    fn cork(&mut self, corked: bool) {
        #[cfg(target_os = "linux")]
        if self.is_corked != corked {
            // Only a hint: without it there are more packets.
            let _ = rustix::net::sockopt::set_tcp_cork(&self.stream, corked);
            self.is_corked = corked;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = corked;
    }
}

/// Where `slice` is in a file, if it is worth sending from there.
#[cfg(target_os = "linux")]
fn in_file(slice: &[u8]) -> Option<FileRange> {
    if slice.len() < SENDFILE_FROM { None } else { mapped::file_behind(slice) }
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
        let this = self.get_mut();
        this.cork(false);
        #[cfg(target_os = "linux")]
        {
            this.ahead = Ahead::default();
        }
        Pin::new(&mut this.stream).poll_flush(cx)
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
