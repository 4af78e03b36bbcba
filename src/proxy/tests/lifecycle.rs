//! How a server ends, and what happens to those who are on the line.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::*;

/// A body whose pieces come from elsewhere.
struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// `count` times `piece `, each after `pause`.
fn slow_body(count: usize, pause: Duration) -> Body {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..count {
            tokio::time::sleep(pause).await;
            if sender.send(Bytes::from_static(b"piece ")).await.is_err() {
                return;
            }
        }
    });
    Body::new(Pieces(receiver))
}

/// Starts a slow download over `scheme`, stops the proxy in the middle, and gives curl's output with the time from
/// the stop to the server's end.
async fn stop_amid_download(scheme: &str, pieces: usize, grace: Duration) -> (Output, Duration) {
    let service = fixed(move || slow_body(pieces, Duration::from_millis(50)));
    let mut proxy = Proxy::start_with(service, "127.0.0.1:0", grace, true).await;
    let stop = proxy.stop.take().unwrap();
    let url = format!("{scheme}://files.example.test/");
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.send(()).unwrap();
        Instant::now()
    };
    let arguments = ["-q", "-sS", url.as_str()];
    let (output, stopped) = tokio::join!(proxy.run("curl", &arguments), stopping);
    (&mut proxy.task).await.unwrap();
    (output, stopped.elapsed())
}

#[tokio::test]
async fn a_running_exchange_ends_before_the_server_does() {
    for scheme in ["http", "https"] {
        let (output, took) = stop_amid_download(scheme, 20, Duration::from_secs(10)).await;
        assert!(output.status.success(), "{scheme}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"piece ".repeat(20), "{scheme}");
        assert!(took < Duration::from_secs(5), "{scheme}: {took:?}");
    }
}

#[tokio::test]
async fn what_does_not_end_in_time_is_closed() {
    for scheme in ["http", "https"] {
        let (output, took) = stop_amid_download(scheme, 2000, Duration::from_millis(200)).await;
        assert!(!output.status.success(), "{scheme}");
        assert!(took < Duration::from_secs(3), "{scheme}: {took:?}");
    }
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let mut proxy = Proxy::start_with(echo_service(), "127.0.0.1:0", Duration::from_secs(30), true).await;
    let silent = TcpStream::connect(proxy.address).await.unwrap();
    let mut kept_alive = TcpStream::connect(proxy.address).await.unwrap();
    kept_alive.write_all(b"GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n").await.unwrap();
    let mut in_tunnel = TcpStream::connect(proxy.address).await.unwrap();
    in_tunnel.write_all(b"CONNECT h.test:443 HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    assert!(kept_alive.read(&mut answer).await.unwrap() > 0);
    assert!(in_tunnel.read(&mut answer).await.unwrap() > 0);
    let stopped = Instant::now();
    proxy.stop.take().unwrap().send(()).unwrap();
    (&mut proxy.task).await.unwrap();
    assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
    for mut stream in [silent, kept_alive, in_tunnel] {
        assert_eq!(stream.read(&mut answer).await.unwrap_or(0), 0);
    }
}

#[tokio::test]
async fn a_service_that_panics_breaks_one_connection_alone() {
    let service = Router::new().fallback(|request: Request| async move {
        assert!(request.uri().path() != "/broken", "a broken service");
        "fine"
    });
    let proxy = Proxy::start_with(service, "127.0.0.1:0", Duration::ZERO, true).await;
    assert!(!proxy.run("curl", &["-q", "-sS", "http://h.test/broken"]).await.status.success());
    assert_eq!(proxy.curl(&["http://h.test/whole"]).await, "fine");
}

#[tokio::test]
async fn many_clients_at_once_are_all_served() {
    let proxy = Proxy::start().await;
    let one = |n: usize| {
        let address = proxy.address;
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("GET http://h.test/{n} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with(&format!("GET http://h.test/{n} \n")), "{answer}");
        }
    };
    let mut clients = tokio::task::JoinSet::new();
    for n in 0..200 {
        clients.spawn(one(n));
    }
    while let Some(outcome) = clients.join_next().await {
        outcome.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn silent_clients_are_not_kept_for_ever() {
    let request = "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n";
    let connect = "CONNECT h.test:443 HTTP/1.1\r\n\r\n";
    for (sent, seconds) in [
        (String::new(), 300),
        ("GET / HT".to_owned(), 30),
        ("PRI * HTTP/2.0\r\n".to_owned(), 30),
        (request.to_owned(), 300),
        (format!("{request}GET / HT"), 300),
        (connect.to_owned(), 30),
        (format!("{connect}GET / HT"), 30),
        (format!("{connect}\x16\x03\x01\x02"), 30),
    ] {
        let proxy = Proxy::start().await;
        let start = tokio::time::Instant::now();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        // Closed or reset, the connection has an end.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(start.elapsed().as_secs(), seconds, "{sent:?}");
    }
}
