//! Sends what lies in [mapped windows](crate::store::mapped) of store files from the files themselves.
//!
//! No page of a window is touched, however short it is: none is copied, none becomes part of this process, and none can
//! fault, whatever becomes of the file.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::io::Errno;
use tokio::{
    io::{AsyncWrite, Interest},
    net::TcpStream,
};

use crate::store::{
    ahead::{Ahead, read_chunk},
    mapped::{self, FileRange},
};

/// What one call sends from a file at the most, in bytes: while it sends, its thread serves nobody else.
const SENDFILE_MOST: u64 = 2 << 20;

/// What is sent from files in a row, in bytes, before other connections have their turn.
const TURN: usize = 8 << 20;

/// What is read at once from a file that the kernel does not send, in bytes.
const COPY_MOST: u64 = 128 << 10;

/// What a connection has to remember for the files that it sends.
#[derive(Debug)]
pub struct FileSender {
    /// Whether the kernel sends from files; not all file systems can.
    can_sendfile: bool,
    ahead: Ahead,
    /// Whether the kernel holds back what does not fill a packet.
    is_corked: bool,
    /// What was sent from files since other connections had their turn, in bytes.
    in_turn: usize,
}

impl FileSender {
    /// For a new connection.
    pub fn new() -> Self {
        Self { can_sendfile: true, ahead: Ahead::default(), is_corked: false, in_turn: 0 }
    }

    /// Sends what is first of `bufs`: from a file, or the memory before one. `None` where no file is among them.
    pub fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        bufs: &[IoSlice<'_>],
    ) -> Option<Poll<io::Result<usize>>> {
        let (before, range) = mapped::first_file(bufs)?;
        self.cork(stream, true);
        Some(match before {
            0 => self.poll_send_file(cx, stream, &range).map_err(|error| {
                if !is_of_client(&error) {
                    range.watch.tell(&error);
                }
                error
            }),
            before => Pin::new(stream).poll_write_vectored(cx, &bufs[..before]),
        })
    }

    /// Notes that all was sent: what may not fill a packet is sent, too.
    pub fn flush(&mut self, stream: &TcpStream) {
        self.cork(stream, false);
        self.ahead = Ahead::default();
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        range: &FileRange,
    ) -> Poll<io::Result<usize>> {
        if self.can_sendfile {
            match self.poll_sendfile(cx, stream, range) {
                Poll::Ready(Err(error)) if is_unsupported(&error) => {
                    tracing::debug!("this file cannot be sent by sendfile, and is copied: {error}");
                    self.can_sendfile = false;
                }
                sent => return sent,
            }
        }
        self.poll_copy(cx, stream, range)
    }

    /// Sends from a file, and gives others their turn before it goes on.
    fn poll_sendfile(
        &mut self,
        cx: &mut Context<'_>,
        stream: &TcpStream,
        range: &FileRange,
    ) -> Poll<io::Result<usize>> {
        if self.in_turn >= TURN {
            self.in_turn = 0;
            // Its first poll has the task woken when the others were looked after.
            let _pending = std::pin::pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let length = (range.length as u64).min(SENDFILE_MOST);
        let length = ready!(self.ahead.poll(cx, &range.file, range.offset, length))?;
        loop {
            if stream.poll_write_ready(cx)?.is_pending() {
                self.in_turn = 0;
                return Poll::Pending;
            }
            let sent = stream.try_io(Interest::WRITABLE, || {
                let mut offset = range.offset;
                // At most SENDFILE_MOST, which is a usize.
                let send = || rustix::fs::sendfile(stream, &*range.file, Some(&mut offset), length as usize);
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

    /// Sends a copy, read from the file and not from the window.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
        range: &FileRange,
    ) -> Poll<io::Result<usize>> {
        let length = (range.length as u64).min(COPY_MOST);
        let length = ready!(self.ahead.poll(cx, &range.file, range.offset, length))?;
        // So that nothing is read that is not sent.
        ready!(stream.poll_write_ready(cx))?;
        // At most COPY_MOST, which is a usize.
        let copy = read_chunk(&range.file, range.offset, length as usize)?;
        Pin::new(stream).poll_write(cx, &copy)
    }

    /// Has the kernel fill its packets, from a head on into the file behind it, or send what it has.
    fn cork(&mut self, stream: &TcpStream, corked: bool) {
        if self.is_corked != corked {
            // Only a hint: without it there are more packets.
            let _ = rustix::net::sockopt::set_tcp_cork(stream, corked);
            self.is_corked = corked;
        }
    }
}

/// Whether it is the client that nothing can be sent to, and not the file that nothing can be sent of.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | HostUnreachable | NetworkUnreachable | TimedOut
    )
}

/// Whether the kernel refuses to send from this kind of file at all.
fn is_unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        future::poll_fn,
        path::{Path, PathBuf},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use bytes::Bytes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::socket::ClientSocket, *};
    use crate::store::mapped::{StoreFile, Watch};

    fn file(length: usize) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..length as u32).map(|n| (n / 3).to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect();
        std::fs::write(&path, &bytes).unwrap();
        (folder, path, bytes)
    }

    fn window(path: &Path, offset: u64, length: usize) -> Bytes {
        StoreFile::open(path).unwrap().window(offset, length).unwrap()
    }

    /// A connection whose files are sent by the kernel or copied, and its peer.
    async fn connection(can_sendfile: bool) -> (ClientSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut socket = ClientSocket::new(listener.accept().await.unwrap().0);
        socket.files().can_sendfile = can_sendfile;
        (socket, peer)
    }

    /// Writes all of `parts` as hyper does.
    async fn write(socket: &mut ClientSocket, parts: &[&[u8]]) -> io::Result<()> {
        let mut bufs: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut bufs = &mut bufs[..];
        while !bufs.is_empty() {
            let sent = poll_fn(|cx| Pin::new(&mut *socket).poll_write_vectored(cx, bufs)).await?;
            IoSlice::advance_slices(&mut bufs, sent);
        }
        Ok(())
    }

    #[tokio::test]
    async fn windows_of_any_length_go_out_in_their_place_among_what_is_in_memory() {
        let (_folder, path, bytes) = file(5_000_000);
        let (large, small, other) =
            (window(&path, 77, 4_000_000), window(&path, 4_321_000, 5), window(&path, 1, 200_000));
        let parts: [&[u8]; 7] = [b"head", &large, b"", &small, &other[..100], b"tail", &other];
        for can_sendfile in [true, false] {
            let (mut socket, mut peer) = connection(can_sendfile).await;
            let reading = tokio::spawn(async move {
                let mut all = Vec::new();
                peer.read_to_end(&mut all).await.map(|_| all)
            });
            write(&mut socket, &parts).await.unwrap();
            socket.shutdown().await.unwrap();
            let expected = [
                b"head",
                &bytes[77..4_000_077],
                &bytes[4_321_000..4_321_005],
                &bytes[1..101],
                b"tail",
                &bytes[1..200_001],
            ];
            assert!(reading.await.unwrap().unwrap() == expected.concat(), "{can_sendfile}");
            assert_eq!(socket.files().can_sendfile, can_sendfile, "the kernel did not refuse");
        }
    }

    /// A page of the window that the kernel would have to copy is an `EFAULT`, one that is read here a `SIGBUS`.
    #[tokio::test]
    async fn a_file_that_got_shorter_is_an_error_and_no_fault_however_little_is_to_be_sent() {
        for can_sendfile in [true, false] {
            for (offset, length) in [(0, 300_000), (299_995, 5), (100_000, 127 << 10)] {
                let (_folder, path, _) = file(300_000);
                let told = Arc::new(AtomicUsize::new(0));
                let telling = Arc::clone(&told);
                let watch = Watch::by(move |_| {
                    telling.fetch_add(1, Ordering::Relaxed);
                });
                let window = StoreFile::open(&path).unwrap().watched(watch).window(offset, length).unwrap();
                let (mut socket, _peer) = connection(can_sendfile).await;
                File::options().write(true).open(&path).unwrap().set_len(offset / 2).unwrap();
                let error = write(&mut socket, &[b"head", &window]).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{can_sendfile} {length}: {error}");
                assert_eq!(told.load(Ordering::Relaxed), 1);
            }
        }
    }

    #[tokio::test]
    async fn the_kernel_holds_back_a_head_before_a_file_until_the_flush_and_nothing_else() {
        let (_folder, path, _) = file(300_000);
        let window = window(&path, 0, 200_000);
        let (mut socket, mut peer) = connection(true).await;
        let corked = |socket: &ClientSocket| rustix::net::sockopt::tcp_cork(socket.stream()).unwrap();
        write(&mut socket, &[b"a small answer"]).await.unwrap();
        assert!(!corked(&socket));
        peer.read_exact(&mut [0; 14]).await.unwrap();
        write(&mut socket, &[b"head", &window]).await.unwrap();
        assert!(corked(&socket));
        socket.flush().await.unwrap();
        assert!(!corked(&socket));
        peer.read_exact(&mut vec![0; 200_004]).await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let (_folder, path, _) = file(3_000_000);
        let nobody = Watch::by(|error| panic!("the file is good: {error}"));
        let window = StoreFile::open(&path).unwrap().watched(nobody).window(0, 3_000_000).unwrap();
        for can_sendfile in [true, false] {
            let (mut socket, peer) = connection(can_sendfile).await;
            drop(peer);
            let mut outcome = Ok(());
            for _ in 0..100 {
                outcome = outcome.and(write(&mut socket, &[&window]).await);
            }
            let kind = outcome.unwrap_err().kind();
            assert!(matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{kind}");
        }
    }

    #[tokio::test]
    async fn others_have_their_turn_though_the_peer_would_take_more() {
        let (_folder, path, _) = file(300_000);
        let window = window(&path, 0, 300_000);
        let (mut socket, mut peer) = connection(true).await;
        let others = tokio::spawn(async {});
        socket.files().in_turn = TURN - 1;
        write(&mut socket, &[&window[..1000]]).await.unwrap();
        assert!(!others.is_finished(), "the turn is not over before a byte of it is sent");
        write(&mut socket, &[&window[1000..]]).await.unwrap();
        assert!(others.is_finished());
        assert!(socket.files().in_turn < 300_000, "the next turn has begun");
        socket.flush().await.unwrap();
        peer.read_exact(&mut vec![0; 300_000]).await.unwrap();
    }
}
