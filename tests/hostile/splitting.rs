//! Answers of an origin that try to be more, or other, than one answer: for the client of a capture, in the inventory, and
//! for the client of a replay.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::Stdio,
    time::Duration,
};

use crate::{
    common::{
        Serving, TestCa, Workdir,
        http1::Http1,
        process::{Guard, wait_for},
    },
    raw::Raw,
    shows,
};

/// A second answer, for whoever takes it for one.
const SECOND: &str = "HTTP/1.1 200 OK\r\nX-Injected: 1\r\nContent-Length: 5\r\n\r\nSMUGG";

/// What an origin sends. In all of it, `X-Injected` and `SMUGG` are in a place where no field and no answer can be.
fn answers() -> Vec<String> {
    let head = |fields: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}");
    let mut answers: Vec<String> = [
        // Two lengths, or one that is none.
        ("Content-Length: 4\r\nContent-Length: 62", "abcd"),
        ("Content-Length: 62\r\nContent-Length: 4", "abcd"),
        ("Content-Length: 4, 62", "abcd"),
        ("Content-Length: 4,4", "abcd"),
        ("Content-Length: +4", "abcd"),
        ("Content-Length: -4", "abcd"),
        ("Content-Length: 0x4", "abcd"),
        ("Content-Length: 4 4", "abcd"),
        ("Content-Length: 4_0", "abcd"),
        ("Content-Length:\t4", "abcd"),
        ("Content-Length: 18446744073709551620", "abcd"),
        ("Content-Length: 99999999999999999999999999", "abcd"),
        ("Content-Length:", "abcd"),
        ("Content-Length : 4", "abcd"),
        ("Content-Length\u{b}: 4", "abcd"),
        (" Content-Length: 4", "abcd"),
        // A length and chunks, and what only looks like chunks.
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", "4\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", "4\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked, identity\r\nContent-Length: 4", "abcd"),
        ("Transfer-Encoding: identity, chunked", "4\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\nContent-Length: 4", "abcd"),
        ("Transfer-Encoding:\u{b}chunked\r\nContent-Length: 4", "abcd"),
        ("Transfer-Encoding: \"chunked\"\r\nContent-Length: 4", "abcd"),
        ("Transfer-Encoding : chunked\r\nContent-Length: 4", "abcd"),
        ("Transfer-Encoding:\r\n chunked\r\nContent-Length: 4", "4\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 4", "abcd"),
        ("Transfer-Encoding: chunked", "4;x=\r\nX-Injected: 1\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "4\nabcd\n0\n\n"),
        ("Transfer-Encoding: chunked", "4\r\nabcdX-Injected: 1\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "ffffffffffffffff1\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "-4\r\nabcd\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nabcd\r\n0\r\nX-Injected: 1\r\nContent-Length: 9\r\n\r\n"),
        (
            "Transfer-Encoding: chunked\r\nTrailer: X-Injected, Content-Length",
            "4\r\nabcd\r\n0\r\nSet-Cookie: a\r\n\r\n",
        ),
        // Lines that end in another way, or go on.
        ("X-A: 1\nX-Line: by a bare LF, which RFC 9112 §2.2 lets end a line\r\nContent-Length: 4", "abcd"),
        ("X-A: 1\rX-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: 1\r\n X-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: 1\r\n\tX-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A:\r\n \r\n X-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: 1\r\r\nContent-Length: 4", "abcd"),
        ("X-A: 1\0X-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A\0: 1\r\nContent-Length: 4", "abcd"),
        ("X-A X-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: \u{2028}X-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: %0d%0aX-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: \\r\\nX-Injected: 1\r\nContent-Length: 4", "abcd"),
        ("X-A: \u{10d}\u{10a}X-Injected: 1\r\nContent-Length: 4", "abcd"),
        (": X-Injected\r\nContent-Length: 4", "abcd"),
        ("X-Injected\r\nContent-Length: 4", "abcd"),
        ("Location: /a%0d%0aX-Injected:1\r\nContent-Length: 4", "abcd"),
        // Fields that are about the connection, and what they name.
        ("Connection: Content-Length\r\nContent-Length: 4", "abcd"),
        ("Connection: close, Content-Type, X-B\r\nX-B: 1\r\nContent-Length: 4", "abcd"),
        ("Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 4", "abcd"),
        ("Keep-Alive: 1\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nContent-Length: 4", "abcd"),
    ]
    .iter()
    .map(|(fields, body)| head(fields, &format!("{body}{SECOND}")))
    .collect();
    for start in [
        "HTTP/1.1 200 OK\nX-Line: 1\r\n",
        "HTTP/1.1 200 O\rX-Injected: 1\r\n",
        "HTTP/1.1 200 O\0K\r\n",
        "HTTP/1.1 099 OK\r\n",
        "HTTP/1.1 1000 OK\r\n",
        "HTTP/1.1 2 0 OK\r\n",
        "HTTP/1.1  200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 304 Not Modified\r\n",
        "HTTP/1.1 205 Reset\r\n",
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/2 200 OK\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
        "ICY 200 OK\r\n",
        "\r\n\r\nHTTP/1.1 200 OK\r\n",
        " HTTP/1.1 200 OK\r\n",
        "",
    ] {
        answers.push(format!("{start}Content-Length: 4\r\n\r\nabcd{SECOND}"));
    }
    answers.push(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n{}\r\n\r\nabcd", "X-A: b\r\n".repeat(20_000)));
    answers.push(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-A: {}\r\n\r\nabcd", "b".repeat(2 << 20)));
    answers.push(format!("HTTP/1.1 200 OK\r\n{}", "\r\n".repeat(3)));
    answers
}

/// All that comes back for `path` on a connection that is closed then.
fn everything(proxy: SocketAddr, url: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "GET {url} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    // A body that is cut short ends with a reset.
    let _reset = stream.read_to_end(&mut bytes);
    bytes
}

/// Fails where `bytes` are not one answer as the strictest reader takes them; gives its status, or `None` where it was cut.
#[track_caller]
fn one_answer(bytes: &[u8]) -> Option<u16> {
    let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
    let end =
        bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {}", shown()));
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let bare = head.windows(2).filter(|pair| (pair[0] != b'\r') == (pair[1] == b'\n')).count();
    assert_eq!(bare, 0, "bare line ends: {}", shown());
    let status_line = String::from_utf8(lines.next().unwrap().to_vec()).unwrap();
    let status: u16 = status_line.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let (mut lengths, mut codings) = (Vec::new(), Vec::new());
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or_else(|| panic!("no field: {}", shown()));
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        assert!(!name.is_empty() && name.iter().all(is_token), "{}", shown());
        assert!(value.iter().all(|&byte| byte == b'\t' || (byte >= 0x20 && byte != 0x7f)), "{}", shown());
        match &*String::from_utf8_lossy(name).to_ascii_lowercase() {
            "x-injected" => panic!("a field was added: {}", shown()),
            "content-length" => lengths.push(String::from_utf8(value.to_vec()).unwrap().parse::<usize>().unwrap()),
            "transfer-encoding" => codings.push(value.to_ascii_lowercase()),
            _ => {}
        }
    }
    let is_bare = matches!(status, 204 | 304);
    match (&lengths[..], &codings[..]) {
        ([], []) if is_bare => assert_eq!(body, b"", "{}", shown()),
        ([_], []) if status == 304 => assert_eq!(body, b"", "{}", shown()),
        ([length], []) => {
            assert!(body.len() <= *length, "behind the body: {}", shown());
            return (body.len() == *length).then_some(status);
        }
        ([], [coding]) if coding == b"chunked" => return chunks_end(body).then_some(status),
        // It ends with the connection.
        ([], []) => {}
        other => panic!("{other:?}: {}", shown()),
    }
    Some(status)
}

/// Whether the chunks in `body` end; nothing may come behind them.
fn chunks_end(mut body: &[u8]) -> bool {
    while let Some(line) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        let rest = &body[line + 2..];
        if size == 0 {
            let trailers = String::from_utf8_lossy(rest).to_ascii_lowercase();
            assert!(!trailers.contains("http/1.1"), "{trailers}");
            return rest.ends_with(b"\r\n");
        }
        if rest.len() < size + 2 {
            return false;
        }
        assert_eq!(&rest[size..size + 2], b"\r\n");
        body = &rest[size + 2..];
    }
    false
}

#[test]
fn an_origin_can_add_no_field_and_no_second_answer() {
    let answers = answers();
    let (count, work) = (answers.len(), Workdir::new());
    let origin = Raw::start(answers.iter().map(|answer| answer.clone().into_bytes()).collect());
    let mut capture = work.capturing(&TestCa::new().pem);
    let script = "echo \"$BUILDPROXY_PROXY_URL\" >url.new; mv url.new url; while [ ! -e done ] && kill -0 $PPID; do sleep 0.02; done";
    let mut capture = Guard(capture.args(["--", "sh", "-c", script]).stderr(Stdio::null()).spawn().unwrap());
    let url = wait_for("the capture", || fs::read_to_string(work.path("url")).ok());
    let proxy = url.trim().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let (mut passed, mut refused) = (0, 0);
    for (number, answer) in answers.iter().enumerate() {
        let bytes = everything(proxy, &origin.url(number));
        if bytes.is_empty() {
            // Its first bytes were wrong already.
            assert!(answer.contains("chunked"), "nothing came for {number}: {}", &answer[..answer.len().min(300)]);
            refused += 1;
            continue;
        }
        match one_answer(&bytes) {
            Some(502) => refused += 1,
            Some(_) | None => passed += 1,
        }
    }
    work.write("done", "");
    assert_eq!(capture.wait(Duration::from_secs(60)), Some(0));
    assert!(passed > 10 && refused > 10, "{passed} and {refused}");
    let inventory = String::from_utf8(work.read("inventory.toml")).unwrap();
    let bodies = crate::common::tree_of_files(work.root()).into_iter().map(|file| fs::read(file).unwrap());
    let recorded = work.inventory().0.len();
    assert!(recorded > 5 && !inventory.to_ascii_lowercase().contains("\nx-injected"), "{inventory}");
    let smuggled = bodies.filter(|bytes| bytes == b"SMUGG").count();
    assert_eq!(smuggled, 0, "a second answer was recorded");
    let serving = Serving::captured(work, |command| {
        command.stderr(Stdio::null());
    });
    let mut replayed = 0;
    for number in 0..count {
        let status = one_answer(&everything(serving.address, &origin.url(number))).expect("replay sends all");
        replayed += usize::from(status != 404);
    }
    assert_eq!(replayed, recorded, "what is recorded is replayed");
    shows!(
        HostileInput,
        "raw answers through a capture and again through a replay, read byte by byte",
        "{count} answers: {passed} passed on as one, {refused} refused, {recorded} recorded; nothing added"
    );
}

#[test]
fn what_an_inventory_says_of_framing_is_not_believed() {
    let framing = [
        "content-length = \"99\"",
        "content-length = \"4,4\"",
        "content-length = [\"4\", \"5\"]",
        "content-length = \"-1\"",
        "content-length = \"x\"",
        "transfer-encoding = \"chunked\"",
        "transfer-encoding = [\"identity\", \"chunked\"]\ncontent-length = \"9\"",
        "connection = \"close, content-length, etag\"",
        "connection = \"upgrade\"\nupgrade = \"h2c\"",
        "trailer = \"x-injected\"\nte = \"trailers\"",
        "keep-alive = \"timeout=1\"\nproxy-connection = \"close\"",
    ];
    let mut inventory = String::new();
    let mut count = 0;
    for (number, fields) in framing.iter().enumerate() {
        for (kind, rest) in [
            ("get", ""),
            ("head", "method = \"HEAD\"\n"),
            ("none", "status = 204\n"),
            ("same", "status = 304\n"),
            ("moved", "redirects = [{ status = 302, location = \"/elsewhere\" }]\n"),
        ] {
            inventory +=
                &format!("[[entry]]\nurl = \"http://h.test/{kind}/{number}\"\n{rest}[entry.headers]\n{fields}\n");
            count += 1;
        }
    }
    let serving = Serving::start(&inventory);
    for (number, fields) in framing.iter().enumerate() {
        for (kind, expected) in [("get", 200), ("none", 204), ("same", 304), ("moved", 302)] {
            let bytes = everything(serving.address, &format!("http://h.test/{kind}/{number}"));
            assert!(!bytes.is_empty(), "{kind}: {}", fields);
            assert_eq!(one_answer(&bytes), Some(expected), "{kind}: {}", fields);
        }
        // And a connection goes on behind an answer without a body.
        let mut client = Http1(serving.connect());
        for _ in 0..2 {
            let answer = client.ask(&format!("HEAD http://h.test/head/{number} HTTP/1.1\nHost: h.test"));
            assert_eq!(answer.status, 200, "{}", fields);
            assert!(answer.header("transfer-encoding").is_none());
        }
    }
    shows!(
        HostileInput,
        "entries with fields that frame or belong to a connection, read byte by byte",
        "{count} entries"
    );
}
