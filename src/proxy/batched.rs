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

    /// Encrypts as much as there is room for. Gives the number of bytes.
    fn encrypt(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.tls.get_mut().1.writer().write_vectored(bufs)?;
        self.waiting += written;
        self.is_put_off = false;
        Ok(written)
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
        let mut written = this.encrypt(bufs)?;
        if written == 0 && bufs.iter().any(|buf| !buf.is_empty()) {
            // Records of a few bytes grow so much by being encrypted that there is no room below a batch.
            ready!(this.poll_send(cx))?;
            written = this.encrypt(bufs)?;
        }
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

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio_rustls::{
        TlsAcceptor, TlsConnector,
        rustls::{
            ClientConfig, ClientConnection, ProtocolVersion, RootCertStore,
            crypto::aws_lc_rs,
            pki_types::{CertificateDer, ServerName, pem::PemObject},
        },
    };

    use super::{super::ca::CertificateAuthority, *};

    /// Bytes that a full record takes beyond those that it carries: head, kind and tag (RFC 8446 §5.2), or head, nonce
    /// and tag (RFC 5288 §3).
    const OVERHEAD: [(ProtocolVersion, usize); 2] = [(ProtocolVersion::TLSv1_3, 22), (ProtocolVersion::TLSv1_2, 29)];
    const FULL: usize = 16 << 10;

    /// The other end, which sees the records and what is in them.
    struct Peer {
        io: DuplexStream,
        tls: ClientConnection,
        raw: Vec<u8>,
        /// The lengths of the records so far, with their heads.
        records: Vec<usize>,
        plain: Vec<u8>,
        is_closed: bool,
    }

    /// A connection over a pipe that holds `pipe` bytes.
    async fn connection(protocol: &[u8], version: ProtocolVersion, pipe: usize) -> (Batched<DuplexStream>, Peer) {
        let ca = CertificateAuthority::new().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.certificate_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let versions = match version {
            ProtocolVersion::TLSv1_3 => &tokio_rustls::rustls::version::TLS13,
            _ => &tokio_rustls::rustls::version::TLS12,
        };
        let config = config.with_protocol_versions(&[versions]).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let (near, far) = duplex(pipe);
        let acceptor = TlsAcceptor::from(ca.server_config("h.test").unwrap());
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("h.test").unwrap();
        let (server, client) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
        let (io, tls) = client.unwrap().into_inner();
        let peer = Peer { io, tls, raw: Vec::new(), records: Vec::new(), plain: Vec::new(), is_closed: false };
        (Batched::new(server.unwrap()), peer)
    }

    impl Peer {
        /// Waits for more bytes. `false` at the end.
        async fn receive(&mut self) -> bool {
            let mut more = vec![0; 64 << 10];
            let length = self.io.read(&mut more).await.unwrap();
            self.take(&more[..length]);
            length > 0
        }

        /// What has arrived already.
        async fn receive_now(&mut self) -> usize {
            let mut received = 0;
            loop {
                let mut more = vec![0; 64 << 10];
                let mut buffer = ReadBuf::new(&mut more);
                let io = &mut self.io;
                // Not a full turn of the runtime: nobody else runs meanwhile.
                let polled =
                    std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *io).poll_read(cx, &mut buffer))).await;
                let length = buffer.filled().len();
                if polled.is_pending() || length == 0 {
                    return received;
                }
                self.take(&more[..length]);
                received += length;
            }
        }

        fn take(&mut self, mut more: &[u8]) {
            self.raw.extend_from_slice(more);
            while self.raw.len() >= 5 {
                let length = 5 + usize::from(u16::from_be_bytes([self.raw[3], self.raw[4]]));
                if self.raw.len() < length {
                    break;
                }
                self.raw.drain(..length);
                self.records.push(length);
            }
            while !more.is_empty() {
                self.tls.read_tls(&mut more).unwrap();
                self.tls.process_new_packets().unwrap();
                match self.tls.reader().read_to_end(&mut self.plain) {
                    Ok(_) => self.is_closed = true,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        }
    }

    /// Counts how often a task was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length as u32).map(|n| (n / 7).to_le_bytes()[0] ^ n.to_le_bytes()[2]).collect()
    }

    #[tokio::test]
    async fn everything_arrives_in_order_and_in_full_records() {
        let bytes = pattern((3 << 20) + 77);
        for (version, overhead) in OVERHEAD {
            // The second holds less than a record: each is sent in parts, with waits between them.
            for pipe in [8 << 20, 5000] {
                let (mut near, mut peer) = connection(b"http/1.1", version, pipe).await;
                let (sent, head) = (bytes.clone(), pattern(200));
                let expected = [&head[..], &bytes].concat();
                let writing = tokio::spawn(async move {
                    let mut bufs = [&head[..], &sent[..1 << 20], &[], &sent[1 << 20..]].map(IoSlice::new);
                    let mut bufs = &mut bufs[..];
                    while !bufs.is_empty() {
                        let written = near.write_vectored(bufs).await.unwrap();
                        assert!(written > 0);
                        IoSlice::advance_slices(&mut bufs, written);
                    }
                    near.shutdown().await.unwrap();
                });
                while peer.receive().await {}
                writing.await.unwrap();
                assert!(peer.plain == expected && peer.is_closed, "{version:?}");
                let full = peer.records.iter().filter(|&&length| length == FULL + overhead).count();
                assert_eq!(full, expected.len() / FULL, "all that can be full are: {version:?} {:?}", peer.records);
            }
        }
    }

    #[tokio::test]
    async fn frames_of_http2_go_out_a_batch_at_a_time() {
        let frame = pattern(FULL);
        let (mut near, mut peer) = connection(b"h2", ProtocolVersion::TLSv1_3, 8 << 20).await;
        peer.receive_now().await;
        let tickets = peer.records.len();
        for n in 1..=20 {
            near.write_all(&frame).await.unwrap();
            near.flush().await.unwrap();
            let received = peer.receive_now().await;
            // The batch before goes out when there is more than it.
            assert_eq!(received, if n % 8 == 1 && n > 1 { 8 * (FULL + 22) } else { 0 }, "frame {n}");
        }
        near.flush().await.unwrap();
        assert_eq!(peer.receive_now().await, 4 * (FULL + 22));
        assert!(peer.records[tickets..].iter().all(|&length| length == FULL + 22), "{:?}", peer.records);
        assert!(peer.plain == frame.repeat(20));
    }

    #[tokio::test]
    async fn a_flush_is_put_off_once_and_its_task_woken_for_the_next() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let woken = || woken.0.load(Ordering::Relaxed);
        let mut flush = |near: &mut Batched<DuplexStream>| assert!(Pin::new(near).poll_flush(&mut cx).is_ready());
        for (protocol, patience) in [(&b"h2"[..], 1), (b"http/1.1", 0)] {
            let (mut near, mut peer) = connection(protocol, ProtocolVersion::TLSv1_3, 8 << 20).await;
            flush(&mut near);
            peer.receive_now().await;
            for n in 1..=3 {
                let before = woken();
                near.write_all(b"a small answer").await.unwrap();
                flush(&mut near);
                assert_eq!(woken() - before, patience, "{n}: else nobody would come back to it");
                assert_eq!(peer.receive_now().await == 0, patience == 1);
                flush(&mut near);
                peer.receive_now().await;
                assert!(peer.plain == b"a small answer".repeat(n));
                flush(&mut near);
                assert_eq!(woken() - before, patience, "nothing waits: nothing is put off");
            }
        }
    }

    #[tokio::test]
    async fn closing_sends_what_waits() {
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let (mut near, mut peer) = connection(protocol, ProtocolVersion::TLSv1_3, 8 << 20).await;
            near.write_all(b"last words").await.unwrap();
            near.flush().await.unwrap();
            near.write_all(b", and more").await.unwrap();
            near.shutdown().await.unwrap();
            while peer.receive().await {}
            assert!(peer.plain == b"last words, and more" && peer.is_closed);
        }
    }

    #[tokio::test]
    async fn writes_of_a_byte_are_taken_without_end() {
        let (mut near, mut peer) = connection(b"h2", ProtocolVersion::TLSv1_2, 8 << 20).await;
        for _ in 0..30_000 {
            assert_eq!(near.write(b"x").await.unwrap(), 1, "a write of nothing would be the end of the connection");
        }
        near.shutdown().await.unwrap();
        while peer.receive().await {}
        assert_eq!(peer.plain.len(), 30_000);
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_an_error() {
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let (mut near, peer) = connection(protocol, ProtocolVersion::TLSv1_3, 5000).await;
            drop(peer);
            let error = near.write_all(&pattern(1 << 20)).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(near.flush().await.is_err() || near.flush().await.is_err());
        }
    }
}
