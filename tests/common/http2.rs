//! An HTTP/2 client whose windows and streams a test holds in its own hands.

use std::sync::Arc;

use bytes::Bytes;
use h2::{RecvStream, client};
use http::{Method, Request, Response};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{Serving, http1::Http1};

/// The ways to the port: by TLS in a tunnel and straight, and in plain text in a tunnel and straight.
pub const WAYS: [&str; 4] = ["tls", "straight", "tunnel", "plain"];

/// A connection that is driven by a task.
pub struct Client {
    pub requests: client::SendRequest<Bytes>,
    pub connection: JoinHandle<Result<(), h2::Error>>,
    pub scheme: &'static str,
}

impl Client {
    /// With the windows of hyper's client: with the standard's 64 KiB and many large bodies at once, the server's frames
    /// get so small that h2, which counts those, ends the connection.
    pub async fn open(serving: &Serving, way: &str) -> Self {
        let mut builder = client::Builder::new();
        builder.initial_window_size(2 << 20).initial_connection_window_size(5 << 20);
        Self::open_with(serving, way, &builder).await
    }

    /// To the host `h.test` and the port of the scheme.
    pub async fn open_with(serving: &Serving, way: &str, builder: &client::Builder) -> Self {
        Self::open_to(serving, way, if way == "tls" { "h.test:443" } else { "h.test:80" }, builder).await
    }

    /// `target` is for CONNECT, on the ways where there is one.
    pub async fn open_to(serving: &Serving, way: &str, target: &str, builder: &client::Builder) -> Self {
        let stream = serving.connect();
        if matches!(way, "tls" | "tunnel") {
            assert_eq!(Http1(&stream).ask(&format!("CONNECT {target} HTTP/1.1\nHost: {target}")).status, 200);
        }
        let stream = asynchronous(stream);
        if matches!(way, "tunnel" | "plain") {
            return Self::on(stream, "http", builder).await;
        }
        let tls = TlsConnector::from(Arc::new(serving.tls(&["h2"])));
        let stream = tls.connect(ServerName::try_from("h.test").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::on(stream, "https", builder).await
    }

    async fn on<S>(stream: S, scheme: &'static str, builder: &client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        Self { requests, connection: tokio::spawn(connection), scheme }
    }

    /// Sends a request without a body and gives its answer's head, as soon as a stream is free.
    pub async fn send(&self, request: Request<()>) -> Result<Response<RecvStream>, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (answer, _) = requests.send_request(request, true)?;
        answer.await
    }

    pub async fn get(&self, path: &str) -> Response<RecvStream> {
        self.send(self.request(Method::GET, path)).await.unwrap()
    }

    /// To the host `h.test`.
    pub fn request(&self, method: Method, path: &str) -> Request<()> {
        Request::builder().method(method).uri(format!("{}://h.test/{path}", self.scheme)).body(()).unwrap()
    }
}

/// The same connection for tokio.
pub fn asynchronous(stream: std::net::TcpStream) -> TcpStream {
    stream.set_nonblocking(true).unwrap();
    TcpStream::from_std(stream).unwrap()
}

/// The next bytes of a body; the server may send as many more.
pub async fn chunk(body: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let chunk = body.data().await?;
    if let Ok(bytes) = &chunk {
        body.flow_control().release_capacity(bytes.len()).unwrap();
    }
    Some(chunk)
}

/// All of a body.
pub async fn whole(mut body: RecvStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(more) = chunk(&mut body).await {
        bytes.extend_from_slice(&more.unwrap());
    }
    bytes
}
