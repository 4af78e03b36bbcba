//! What is told of each request when all is over, for an access log: what was answered, and how many bytes of it went out.
//!
//! Over HTTP/1 a byte has gone out when the connection took it. An answer is over when hyper, which has all of it by then,
//! has the connection flushed; where the connection ends before, what it took is told. Over HTTP/2 many answers share a
//! connection, and an answer is over when hyper has taken it, or as much as it takes ahead of a client that leaves.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body, Frame, SizeHint};

use super::authority::HostPort;
use crate::request_id::RequestId;

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its number.
    pub id: RequestId,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The request's method.
    pub method: Method,
    /// What it asked for: absolute, but for what was refused because it cannot be made so. Credentials are in it.
    pub uri: Uri,
    /// The request's version.
    pub version: Version,
    /// The request's end-to-end header fields, with the credentials.
    pub headers: HeaderMap,
    /// The status of the answer; `None` where the client left before there was one.
    pub status: Option<StatusCode>,
    /// The bytes of its body that were sent.
    pub sent: u64,
}

/// What is told when a request is over.
pub type AnswerCallback = Arc<dyn Fn(Answered) + Send + Sync>;

impl Answered {
    /// `request`, before its answer.
    pub fn begun<B>(request: &Request<B>, id: RequestId, client: Option<SocketAddr>) -> Self {
        Self {
            id,
            client,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            status: None,
            sent: 0,
        }
    }

    /// The CONNECT to `target` in whose tunnel there never was a request, because TLS failed.
    pub fn tunnel(target: &HostPort, id: RequestId, client: Option<SocketAddr>) -> Self {
        let mut connect = Request::new(());
        *connect.method_mut() = Method::CONNECT;
        // What CONNECT was granted for is an authority.
        *connect.uri_mut() = target.to_string().parse().unwrap_or_default();
        Self::begun(&connect, id, client)
    }
}

/// What one HTTP/1 connection took, and the answers whose last bytes it may not have taken yet.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<State>>);

struct State {
    callback: AnswerCallback,
    /// All bytes so far.
    written: u64,
    /// Answers that hyper has as far as they ever will be, by time, each with the number of bytes written before its body.
    ended: Vec<(Answered, u64)>,
}

impl Ledger {
    /// Of a connection of whose answers `callback` is told.
    pub fn new(callback: AnswerCallback) -> Self {
        Self(Arc::new(Mutex::new(State { callback, written: 0, ended: Vec::new() })))
    }

    /// The account of a request that has just come. It goes with the answer, which is moved often, so it is small.
    pub fn open(&self, answered: Answered) -> Box<Account> {
        let callback = Arc::clone(&self.lock().callback);
        let ledger = (answered.version < Version::HTTP_2).then(|| self.clone());
        Box::new(Account { answered: Some(answered), body_from: 0, ledger, callback })
    }

    /// Notes that the connection took so many bytes more.
    pub fn written(&self, count: usize) {
        self.lock().written += count as u64;
    }

    /// Notes that the connection took all that there was.
    pub fn flushed(&self) {
        let mut state = self.lock();
        let ended = std::mem::take(&mut state.ended);
        let callback = (!ended.is_empty()).then(|| Arc::clone(&state.callback));
        drop(state);
        if let Some(callback) = callback {
            ended.into_iter().for_each(|(answered, _)| callback(answered));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whatever panicked while it held the lock left whole numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection is over, and what it did not take never went out.
impl Drop for State {
    fn drop(&mut self) {
        for (mut answered, body_from) in std::mem::take(&mut self.ended) {
            answered.sent = answered.sent.min(self.written.saturating_sub(body_from));
            (self.callback)(answered);
        }
    }
}

/// A request that is not over: it is told of when this is dropped, or when the connection has taken the answer.
pub struct Account {
    answered: Option<Answered>,
    body_from: u64,
    ledger: Option<Ledger>,
    callback: AnswerCallback,
}

impl Account {
    /// Notes that `response` is the answer, and begins now.
    fn answer<B: Body>(&mut self, response: &Response<B>) {
        if let Some(answered) = &mut self.answered {
            answered.status = Some(response.status());
        }
        if let Some(ledger) = &self.ledger {
            self.body_from = ledger.lock().written + length_of_head(response);
        }
    }

    fn hand_over(&mut self, count: usize) {
        if let Some(answered) = &mut self.answered {
            answered.sent += count as u64;
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let Some(answered) = self.answered.take() else { return };
        match &self.ledger {
            Some(ledger) if answered.status.is_some() => ledger.lock().ended.push((answered, self.body_from)),
            _ => (self.callback)(answered),
        }
    }
}

/// The length in bytes of the head that hyper writes for `response`, but for a `Connection` field.
fn length_of_head<B: Body>(response: &Response<B>) -> u64 {
    let field = |name: usize, value: usize| name + ": \r\n".len() + value;
    let reason = response.status().canonical_reason().unwrap_or_default();
    let fields: usize = response.headers().iter().map(|(name, value)| field(name.as_str().len(), value.len())).sum();
    let is_framed = response.headers().contains_key(header::CONTENT_LENGTH);
    let framing = match response.body().size_hint().exact() {
        _ if is_framed => 0,
        Some(size) => field("content-length".len(), size.to_string().len()),
        None => field("transfer-encoding".len(), "chunked".len()),
    };
    ("HTTP/1.1 200 \r\n".len() + reason.len() + fields + framing + "\r\n".len()) as u64
}

/// A body whose bytes are counted as they go, where anybody wants to know, and which is asked for on behalf of its request.
pub struct Counted<B> {
    body: B,
    id: RequestId,
    account: Option<Box<Account>>,
}

impl<B: Body> Counted<B> {
    /// `response`, which answers the request `id`, with its body counted.
    pub fn response(response: Response<B>, id: RequestId, mut account: Option<Box<Account>>) -> Response<Self> {
        if let Some(account) = &mut account {
            account.answer(&response);
        }
        response.map(|body| Self { body, id, account })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        let frame = ready!(this.id.during(|| Pin::new(&mut this.body).poll_frame(cx)));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        if let (Some(account), Some(data)) = (&mut this.account, data) {
            account.hand_over(data.len());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http_body_util::Full;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::watch,
    };

    use super::*;
    use crate::proxy::{
        CertificateAuthority,
        connection::{Clients, Settings},
        exchange,
        lifetime::Shutdown,
        target::Arrival,
        upload::Upload,
    };

    const SIZE: usize = 1 << 20;

    /// Those of a connection whose requests `callback` is told of.
    fn settings(callback: AnswerCallback) -> Settings {
        Settings {
            asks_origins: false,
            ca: Arc::new(CertificateAuthority::new().unwrap()),
            http: exchange::server(),
            on_handshake_failure: None,
            on_answer: Some(callback),
            clients: Clients::default(),
            was_asked: Arc::default(),
        }
    }

    /// What is told of the requests on one connection, on which `client` speaks, and of which no more than `room` bytes wait
    /// to be read.
    async fn told<F: Future>(room: usize, client: impl FnOnce(DuplexStream) -> F) -> (Vec<Answered>, F::Output) {
        let (near, far) = duplex(room);
        let told = Arc::<Mutex<Vec<Answered>>>::default();
        let telling = Arc::clone(&told);
        let callback: AnswerCallback = Arc::new(move |answered| telling.lock().unwrap().push(answered));
        let service = tower::service_fn(|_: Request<Upload>| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'x'; SIZE]))))
        });
        let settings = settings(callback);
        let serving = tokio::spawn(async move {
            let (_ending, ended) = watch::channel(false);
            let arrival = Arrival::at("127.0.0.1:1".parse().unwrap());
            let mut shutdown = Shutdown::from(ended);
            exchange::serve(&settings, near, &arrival, service, &mut shutdown).await;
        });
        let output = client(far).await;
        serving.await.unwrap();
        let told = std::mem::take(&mut *told.lock().unwrap());
        (told, output)
    }

    const GET: &[u8] = b"GET http://h.test/a HTTP/1.1\r\nHost: h.test\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn what_a_connection_took_is_what_was_sent_to_a_client_that_left() {
        let whole = |mut client: DuplexStream| async move {
            client.write_all(GET).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer.len() - SIZE
        };
        let (told_whole, head) = told(1000, whole).await;
        assert_eq!(told_whole.iter().map(|answered| answered.sent).collect::<Vec<_>>(), [SIZE as u64]);
        for (room, sent) in [(head + 4321, 4321), (head, 0), (10, 0), (2 * SIZE, SIZE)] {
            let leaving = |mut client: DuplexStream| async move {
                client.write_all(GET).await.unwrap();
                // Time stands still until the server has nothing to do but to wait for us.
                tokio::time::sleep(Duration::from_secs(1)).await;
            };
            let (told, ()) = told(room.max(GET.len()), leaving).await;
            let sent = if room < GET.len() { GET.len().saturating_sub(head) } else { sent };
            let seen: Vec<_> = told.iter().map(|answered| (answered.status, answered.sent)).collect();
            assert_eq!(seen, [(Some(StatusCode::OK), sent as u64)], "with room for {room} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_before_its_answer_is_told_of_without_a_status() {
        let (near, mut client) = duplex(1000);
        let told = Arc::<Mutex<Vec<Answered>>>::default();
        let telling = Arc::clone(&told);
        let callback: AnswerCallback = Arc::new(move |answered| telling.lock().unwrap().push(answered));
        let never = tower::service_fn(|_: Request<Upload>| std::future::pending::<Result<Response<Full<Bytes>>, _>>());
        let settings = settings(callback);
        let serving = tokio::spawn(async move {
            let (_ending, ended) = watch::channel(false);
            let arrival = Arrival::at("127.0.0.1:1".parse().unwrap());
            let mut shutdown = Shutdown::from(ended);
            exchange::serve(&settings, near, &arrival, never, &mut shutdown).await;
        });
        client.write_all(GET).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(told.lock().unwrap().is_empty());
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
        let told = told.lock().unwrap();
        let seen: Vec<_> =
            told.iter().map(|answered| (answered.uri.to_string(), answered.status, answered.sent)).collect();
        assert_eq!(seen, [("http://h.test/a".to_owned(), None, 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_request_of_a_connection_is_told_of_once_and_in_turn() {
        let several = |mut client: DuplexStream| async move {
            client
                .write_all(&[GET, b"HEAD http://h.test/b HTTP/1.1\r\nHost: h.test\r\n\r\n", GET].concat())
                .await
                .unwrap();
            client.write_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
        };
        let (told, ()) = told(1000, several).await;
        let seen: Vec<_> = told.iter().map(|a| (a.id.to_string(), a.uri.to_string(), a.status, a.sent)).collect();
        let ok = Some(StatusCode::OK);
        let refusal = told.last().unwrap().sent;
        assert_eq!(
            seen,
            [
                ("0.1".to_owned(), "http://h.test/a".to_owned(), ok, SIZE as u64),
                ("0.2".to_owned(), "http://h.test/b".to_owned(), ok, 0),
                ("0.3".to_owned(), "http://h.test/a".to_owned(), ok, SIZE as u64),
                ("0.4".to_owned(), "/nowhere".to_owned(), Some(StatusCode::BAD_REQUEST), refusal),
            ]
        );
        assert!((50..200).contains(&refusal), "{refusal}");
    }
}
