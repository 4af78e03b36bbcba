//! Requests that no good client sends, and answers down to the byte.

use super::*;

/// The status of each answer in `answers`.
fn statuses(answers: &str) -> Vec<&str> {
    answers.lines().filter_map(|line| line.strip_prefix("HTTP/1.1 ")).map(|status| &status[..3]).collect()
}

#[tokio::test]
async fn an_answer_has_nothing_but_its_own_fields_and_framing() {
    let proxy = Proxy::start_with(fixed(|| Body::from("body")), "127.0.0.1:0", Duration::ZERO, true).await;
    let answer = proxy.exchange(b"GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n").await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbody");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let proxy = Proxy::start().await;
    let requests: String = (0..20).map(|n| format!("GET http://h.test/{n} HTTP/1.1\r\nHost: h.test\r\n\r\n")).collect();
    let last = "GET http://h.test/last HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n";
    let answers = proxy.exchange(format!("{requests}{last}").as_bytes()).await;
    let paths: Vec<&str> = answers.lines().filter_map(|line| line.strip_prefix("GET http://h.test/")).collect();
    let expected: Vec<String> = (0..20).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(paths.iter().map(|path| path.trim_end()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn http_1_0_works_with_and_without_host() {
    let proxy = Proxy::start().await;
    let answer = proxy.exchange(b"GET http://h.test/ HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nGET http://h.test/ \n"), "{answer}");
    let answer = proxy.exchange(b"GET / HTTP/1.0\r\nHost: h.test\r\n\r\n").await;
    assert!(answer.ends_with("GET http://h.test/ \n"), "{answer}");
    let answer = proxy.exchange(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 400 ") && answer.contains("names no host"), "{answer}");
}

#[tokio::test]
async fn a_client_that_closes_its_half_still_gets_its_answer() {
    let proxy = Proxy::start().await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("GET http://h.test/ \n"), "{answer}");
}

#[tokio::test]
async fn refusals_say_why_in_plain_text() {
    let proxy = Proxy::start().await;
    let own = proxy.address;
    for (request, status, words) in [
        (format!("GET http://{own}/ HTTP/1.1\r\nHost: h.test\r\n"), "400", "this is buildproxy's proxy port"),
        ("GET / HTTP/1.1\r\nHost: h.test\r\nHost: h.test\r\n".to_owned(), "400", "more than one Host"),
        ("GET / HTTP/1.1\r\nHost: h test\r\n".to_owned(), "400", "`h test`"),
        ("CONNECT h.test HTTP/1.1\r\nHost: h.test\r\n".to_owned(), "400", "port is missing"),
        ("CONNECT h.test:0x1BB HTTP/1.1\r\nHost: h.test\r\n".to_owned(), "400", ""),
        ("CONNECT / HTTP/1.1\r\nHost: h.test\r\n".to_owned(), "400", "not HOST or HOST:PORT"),
        ("GET ftp://h.test/ HTTP/1.1\r\nHost: h.test\r\n".to_owned(), "501", "`ftp`"),
        (
            "GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".to_owned(),
            "501",
            "`websocket`",
        ),
    ] {
        let with_end = match request.strip_suffix("Upgrade\r\nUpgrade: websocket\r\n") {
            Some(start) => format!("{start}Upgrade, close\r\nUpgrade: websocket\r\n\r\n"),
            None => format!("{request}Connection: close\r\n\r\n"),
        };
        let answer = proxy.exchange(with_end.as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{request}");
        assert!(answer.contains(words), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_request_has_a_hundred_fields_or_gets_a_431() {
    let proxy = Proxy::start().await;
    let with_fields = |count: usize| {
        let fields: String = (1..count - 1).map(|n| format!("X-{n}: {n}\r\n")).collect();
        format!("GET http://h.test/ HTTP/1.1\r\nHost: h.test\r\n{fields}Connection: close\r\n\r\n")
    };
    for (count, status) in [(50, "200"), (100, "200"), (101, "431"), (1001, "431")] {
        let answer = proxy.exchange(with_fields(count).as_bytes()).await;
        assert_eq!(statuses(&answer), [status], "{count} fields: {answer}");
    }
}

#[tokio::test]
async fn bytes_sent_along_with_connect_are_not_lost() {
    let proxy = Proxy::start().await;
    let connect = "CONNECT h.test:8080 HTTP/1.1\r\nHost: h.test:8080\r\n\r\n";
    let inside = "GET /a HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n";
    let answer = proxy.exchange(format!("{connect}{inside}").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("GET http://h.test:8080/a \n"), "{answer}");
}

#[tokio::test]
async fn a_tunnel_in_a_tunnel_is_granted_and_no_more() {
    let proxy = Proxy::start().await;
    let connect = |host: &str| format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    let mut answer = [0; 512];
    for (host, status) in [("a.test", "200"), ("b.test", "200"), ("c.test", "501")] {
        stream.write_all(connect(host).as_bytes()).await.unwrap();
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{host}");
    }
}

#[tokio::test]
async fn noise_ends_the_connection_without_a_service_call() {
    let proxy = Proxy::start().await;
    assert_eq!(statuses(&proxy.exchange(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await), ["400"]);
    assert_eq!(statuses(&proxy.exchange(b"CONNECT h.test:22 HTTP/1.1\r\n\r\n\0\0\0\0\r\n\r\n").await), ["200", "400"]);
}
