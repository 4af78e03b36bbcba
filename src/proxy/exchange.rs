//! HTTP on one stream: a request is checked, made absolute, freed of its hop-by-hop fields, and given to the service.

use std::{
    convert::Infallible,
    error::Error,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, ext::Protocol, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Service, ServiceExt};

use super::{
    account::{Answered, Counted, Ledger},
    connect::{self, Tunnel, TunnelSlot},
    connection::Settings,
    control, hop_by_hop,
    lifetime::{Activity, CLOSING_TIMEOUT, Exchange, IDLE_TIMEOUT, Shutdown, Watched},
    target::{self, Arrival},
    upload::Upload,
};
use crate::{request_id::RequestId, store::stream::Use, text::printable_lines};

/// HTTP/2 flow control for what clients send, in bytes: a stream's and a connection's window. They bound uploads alone;
/// for downloads it is the client's windows that count.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// How much of a response an HTTP/2 stream takes before the client must have taken some, in bytes; what was read of the
/// body comes on top. With 64, 128 and 256 KiB, 256 MiB over TLS went at 2433, 3003 and 3460 MB/s, with 0.53, 0.44 and
/// 0.40 s of processor time for a GiB (medians of 6 in one run; HTTP/1.1 beside it at 2950 MB/s with 0.34 s), because a
/// stream and its connection, which are tasks of their own, wait for each other less. [`CONCURRENT_STREAMS`] streams of a
/// client that reads nothing stay below 150 MiB.
const STREAM_SEND_BUFFER: usize = 256 << 10;
/// The streams that a connection can have at once, as RFC 9113 §6.5.2 recommends 100 at least.
const CONCURRENT_STREAMS: u32 = 200;
/// The longest head of an HTTP/2 request, in bytes: signed URLs and tokens are long.
const LONGEST_HEAD: u32 = 128 << 10;

/// The field that tells a client the number of a request that buildproxy answered itself. No recorded answer has it from us.
const REQUEST_ID: HeaderName = HeaderName::from_static("buildproxy-request");

/// The settings of every HTTP connection.
pub type HttpServer = auto::Builder<TokioExecutor>;

/// HTTP/1 and HTTP/2, told apart by the connection's first bytes.
pub fn server() -> HttpServer {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        // hyper counts the time between requests as part of the next head; the first one is `Activity`'s.
        .header_read_timeout(IDLE_TIMEOUT)
        .half_close(true)
        // No `max_headers`: hyper's own limit is 100 fields, as Apache's is, and one more is answered with 431. For another
        // limit it fills so many slots anew for each request: with 1000 a fifth of the instructions of a small one.
        // The same request gets the same bytes every time.
        .auto_date_header(false);
    server
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .max_send_buf_size(STREAM_SEND_BUFFER)
        .max_header_list_size(LONGEST_HEAD)
        // Without it a WebSocket's CONNECT (RFC 8441) is reset without a word; with it, it gets the 501 of an upgrade.
        .enable_connect_protocol()
        .auto_date_header(false);
    server
}

/// Serves `stream` until the client leaves, it is idle or takes nothing for too long, or `shutdown` is requested and the running
/// exchanges have ended. Gives back the tunnel that the last request asked for.
pub async fn serve<IO, S, B>(
    settings: &Settings,
    stream: IO,
    arrival: &Arrival,
    service: S,
    shutdown: &mut Shutdown,
) -> Option<Tunnel>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (activity, tunnel) = (Activity::new(), TunnelSlot::default());
    let ledger = settings.on_answer.as_ref().map(|callback| Ledger::new(Arc::clone(callback)));
    let stream = TokioIo::new(Watched::new(stream, activity.clone(), ledger.clone()));
    let way =
        Way { arrival: arrival.clone(), tunnel: tunnel.clone(), ledger, was_asked: Arc::clone(&settings.was_asked) };
    let per_request = (activity.clone(), Arc::new(way));
    let exchanges = service_fn(move |request| {
        let (activity, way) = per_request.clone();
        let id = way.arrival.ids.next();
        exchange(request, id, activity.begin(), way, service.clone())
    });
    let mut connection = pin!(settings.http.serve_connection_with_upgrades(stream, exchanges));
    let mut ending = false;
    let outcome = loop {
        tokio::select! {
            outcome = connection.as_mut() => break outcome,
            () = shutdown.requested(), if !ending => {}
            () = activity.idle(), if !ending => {
                if !activity.used() {
                    tracing::debug!("closed a connection without a request");
                    return None;
                }
            }
            () = activity.quiet_for(CLOSING_TIMEOUT), if ending => {
                tracing::debug!("closed a connection whose client takes nothing");
                return None;
            }
        }
        ending = true;
        connection.as_mut().graceful_shutdown();
    };
    if let Err(error) = outcome {
        tracing::debug!(error, "connection broken");
    }
    tunnel.take()
}

/// What the requests on one HTTP connection have in common.
struct Way {
    arrival: Arrival,
    tunnel: TunnelSlot,
    ledger: Option<Ledger>,
    /// Set where the client wants something other than to look at the run.
    was_asked: Arc<AtomicBool>,
}

/// One request and its answer: by the proxy itself, or by `service`. It runs, for [`Activity`], until then.
async fn exchange<S, B>(
    mut request: Request<Incoming>,
    id: RequestId,
    _running: Exchange,
    way: Arc<Way>,
    service: S,
) -> Result<Response<Counted<Either<B, Full<Bytes>>>>, Infallible>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let own = id.during(|| answer_here(&mut request, &way.arrival, &way.tunnel));
    if own.is_some() || !control::is_for_us(&request) {
        way.was_asked.store(true, Ordering::Relaxed);
    }
    // A tunnel that was granted is told of by what comes through it.
    let is_tunnel = request.method() == Method::CONNECT && own.as_ref().is_some_and(|own| own.status().is_success());
    let ledger = way.ledger.as_ref().filter(|_| !is_tunnel);
    let account = ledger.map(|ledger| ledger.open(Answered::begun(&request, id, way.arrival.peer)));
    if let Some(own) = own {
        return Ok(Counted::response(own.map(Either::Right), id, account));
    }
    let waits = request.version() == Version::HTTP_11 && request.headers().contains_key(header::EXPECT);
    // Pinned here, since it is large: to move it costs more than all that this is for.
    let mut response = id.scope(pin!(service.oneshot(request.map(Upload::new)))).await?;
    if waits && (response.status().is_client_error() || response.status().is_server_error()) {
        // The body can be unread. hyper closes then, and the client has to know (RFC 9110 §10.1.1).
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(Counted::response(response.map(Either::Left), id, account))
}

/// The answer to what no service has to see; `None` leaves `request` as the service gets it.
fn answer_here<B>(request: &mut Request<B>, arrival: &Arrival, tunnel: &TunnelSlot) -> Option<Response<Full<Bytes>>> {
    let method = request.method().clone();
    if let Some(protocol) = request.extensions().get::<Protocol>() {
        return Some(no_upgrade(&method, protocol.as_str()));
    }
    if method == Method::CONNECT {
        return Some(match connect::grant(request, arrival, tunnel) {
            Ok(()) => Response::default(),
            Err(error) => refusal(&method, error.status(), &error),
        });
    }
    match target::effective_uri(request, arrival) {
        Ok(uri) => *request.uri_mut() = uri,
        Err(error) => return Some(refusal(&method, error.status(), &error)),
    }
    if let Some(protocol) = wanted_upgrade(request) {
        return Some(no_upgrade(&method, &protocol));
    }
    hop_by_hop::strip(request.headers_mut());
    let use_of_body = use_of_body(request.version(), arrival);
    request.extensions_mut().insert(use_of_body);
    None
}

/// What becomes of the bytes of the answer, for who has them in a file.
fn use_of_body(version: Version, arrival: &Arrival) -> Use {
    match version {
        Version::HTTP_2 => Use::Framed,
        _ if arrival.is_direct => Use::Sent,
        _ => Use::Touched,
    }
}

/// The protocol that an HTTP/1.1 client cannot do without (RFC 9110 §7.8).
///
/// An offer of `h2c` is passed over, as servers may: `curl --http2` makes it with every `http` URL, through proxies
/// too, and takes an answer in HTTP/1.1.
fn wanted_upgrade<B>(request: &Request<B>) -> Option<String> {
    let asks = tokens(request.headers(), &header::CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"));
    if request.version() != Version::HTTP_11 || !asks {
        return None;
    }
    tokens(request.headers(), &header::UPGRADE)
        .find(|protocol| !protocol.eq_ignore_ascii_case("h2c"))
        .map(str::to_owned)
}

fn no_upgrade(method: &Method, protocol: &str) -> Response<Full<Bytes>> {
    let text = format!("buildproxy records and replays plain HTTP exchanges: it cannot upgrade to `{protocol}`");
    refusal(method, StatusCode::NOT_IMPLEMENTED, &text)
}

/// The elements of a comma-separated field (RFC 9110 §5.6.1).
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// A plain-text answer that says why.
fn refusal(method: &Method, status: StatusCode, reason: &dyn std::fmt::Display) -> Response<Full<Bytes>> {
    tracing::warn!(status = status.as_u16(), "refused a request: {reason}");
    plain_text(method, status, &format!("buildproxy: {reason}\n"))
}

/// An answer of buildproxy's own, for people; to a `HEAD` without the text, which hyper would send over HTTP/2.
/// A client can show it on a terminal, and it tells what comes from elsewhere.
pub fn plain_text(method: &Method, status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let text = printable_lines(text);
    let length = text.len();
    let mut response = Response::new(if method == Method::HEAD { Full::default() } else { Full::from(text) });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    // By which the log has it.
    let id = RequestId::current().and_then(|id| HeaderValue::try_from(id.to_string()).ok());
    response.headers_mut().extend(id.map(|id| (REQUEST_ID, id)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_upgrades_that_cannot_be_passed_over_are_refused() {
        let wanted = |version, connection: &str, upgrade: &str| {
            let request = Request::builder().version(version).header("connection", connection);
            wanted_upgrade(&request.header("upgrade", upgrade).body(()).unwrap())
        };
        assert_eq!(wanted(Version::HTTP_11, "Upgrade", "websocket").as_deref(), Some("websocket"));
        assert_eq!(wanted(Version::HTTP_11, "keep-alive, upgrade", "h2c, foo/2").as_deref(), Some("foo/2"));
        assert_eq!(wanted(Version::HTTP_11, "Upgrade, HTTP2-Settings", "h2c"), None);
        assert_eq!(wanted(Version::HTTP_11, "keep-alive", "websocket"), None);
        assert_eq!(wanted(Version::HTTP_10, "upgrade", "websocket"), None);
    }

    #[test]
    fn the_service_sees_an_absolute_uri_and_no_hop_by_hop_field() {
        let request = Request::builder().uri("/a?b").header("host", "h.test").header("connection", "x-hop");
        let request = request.header("x-hop", "1").header("proxy-authorization", "Basic eA==");
        let mut request = request.header("accept", "*/*").body(()).unwrap();
        let arrival = Arrival::at("127.0.0.1:34567".parse().unwrap());
        assert!(answer_here(&mut request, &arrival, &TunnelSlot::default()).is_none());
        assert_eq!(request.uri(), "http://h.test/a?b");
        let names: Vec<&str> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["host", "accept"]);
    }
}
