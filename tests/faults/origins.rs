//! Origins that break off, lie and overdo it: what the client gets, what the user is told, and that nothing of it is
//! recorded.

use std::{io::Write, process::Command, sync::Arc};

use crate::{
    common::{Entries, Outcome, TestCa, Workdir, pattern, run},
    shows,
    wire::{Answer, End, WireOrigin, head},
};

/// The most memory that a capture may take, whatever an origin does.
const MEMORY_KIB: u64 = 64 << 10;

/// What curl says where an answer is not whole: a part of it came, nothing came, it could not be read, its stream ended.
const BROKEN_OFF: [i32; 4] = [18, 52, 56, 92];

/// Captures one faulty answer, and a good one of the same origin after it, by HTTP and HTTPS. Gives what came of it:
/// curl's exit code and the status that it saw, for each.
fn captured(fault: &str, answer: &Arc<Answer>) -> Vec<(Outcome, i32, String)> {
    let ca = TestCa::new();
    [None, Some(ca.server_config())].map(|tls| {
        let (origin, work) = (WireOrigin::http(tls, Arc::clone(answer)), Workdir::new());
        let (faulty, good) = (origin.url("/faulty"), origin.url("/good"));
        let script = format!(
            "curl -sS -m 60 -o got -w '%{{http_code}}' '{faulty}' 2>curl.err; echo \" $?\"; curl -sSf -m 60 -o good '{good}'"
        );
        let outcome = run(work.capturing(&ca.pem).args(["--", "sh", "-uc", &script])).expect_code(0);
        let (status, code) = outcome.text().trim().split_once(' ').unwrap();
        let (code, status) = (code.parse().unwrap(), status.to_owned());
        assert_eq!(work.read("good"), b"good\n", "{fault}: the origin's next answer is its own: {outcome}");
        assert!(outcome.peak_kib < MEMORY_KIB, "{fault}: {} KiB", outcome.peak_kib);
        assert!(!outcome.stderr.contains("panicked"), "{fault}: {outcome}");
        expect_only(&work.inventory(), &good);
        // Nothing of it is anywhere.
        let stored = std::fs::read_dir(work.store()).unwrap().map(|item| item.unwrap().file_name());
        let stored: Vec<_> = stored.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert!(stored.len() <= 1 && !work.path("inventory.bodies").exists(), "{fault}: {stored:?}");
        (outcome, code, status)
    }).into()
}

#[track_caller]
fn expect_only(inventory: &Entries, url: &str) {
    assert_eq!(inventory.urls(), [url]);
}

fn good(wire: &mut impl Write) -> std::io::Result<End> {
    wire.write_all(&head("Content-Length: 5"))?;
    wire.write_all(b"good\n")?;
    Ok(End::Keep)
}

/// Answers `/good` as it should, and everything else with `bytes`.
fn bytes(bytes: &[u8], end: fn() -> End) -> Arc<Answer> {
    let bytes = bytes.to_vec();
    Arc::new(move |path, wire| match path {
        "/good" => good(wire),
        _ => wire.write_all(&bytes).map(|()| end()),
    })
}

/// The answer whose body is not whole, with half of 5000 bytes.
fn half(fields: &str, more: &[u8]) -> Vec<u8> {
    [&head(fields), &pattern(2500)[..], more].concat()
}

#[test]
fn an_answer_that_breaks_off_or_lies_is_not_recorded_and_the_client_sees_the_failure() {
    type Fault = (&'static str, Vec<u8>, fn() -> End);
    let chunked = "Transfer-Encoding: chunked";
    let chunk = |text: &str| [&head(chunked), text.as_bytes()].concat();
    let faults: Vec<Fault> = vec![
        ("a reset in the middle", half("Content-Length: 5000", b""), || End::Reset),
        ("an end in the middle", half("Content-Length: 5000", b""), || End::Close),
        ("an end without TLS's own", half("Content-Length: 5000", b""), || End::Cut),
        ("a reset between chunks", chunk("5\r\nhello\r\n"), || End::Reset),
        ("an end between chunks", chunk("5\r\nhello\r\n"), || End::Close),
        ("an end within a chunk", chunk("50\r\nhello"), || End::Close),
        ("a chunk size that is none", chunk("5\r\nhello\r\nzz\r\nhello\r\n0\r\n\r\n"), || End::Close),
        ("a chunk size of 80 bits", chunk("5\r\nhello\r\nfffffffffffffffffffff\r\nhello\r\n"), || End::Close),
        ("a chunk size below zero", chunk("5\r\nhello\r\n-5\r\nhello\r\n"), || End::Close),
        ("a chunk longer than it says", chunk("5\r\nhello world\r\n0\r\n\r\n"), || End::Close),
        ("a chunk without its end", chunk("5\r\nhello6\r\nworld!\r\n0\r\n\r\n"), || End::Close),
        ("no end behind the last chunk", chunk("5\r\nhello\r\n0\r\n"), || End::Close),
    ];
    let count = faults.len();
    for (fault, answer, end) in faults {
        for (outcome, code, _) in captured(fault, &bytes(&answer, end)) {
            assert!(BROKEN_OFF.contains(&code), "{fault}: curl's code is {code}: {outcome}");
            outcome.expect_stderr(&["/faulty is not recorded", "did not arrive whole"]);
        }
    }
    shows!(
        Capture,
        "an origin whose every byte the test writes, by HTTP and HTTPS",
        "{count} ways to break off or lie in the body, {} captures; none recorded, the origin's next answer right",
        2 * count
    );
}

#[test]
fn an_answer_that_is_no_http_is_a_502_that_says_so() {
    let with = |fields: &str| [&head(fields), &b"hello"[..]].concat();
    let faults: Vec<(&str, Vec<u8>)> = vec![
        ("nothing at all", Vec::new()),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()),
        ("a body without a head", b"hello, world\n".to_vec()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        ("a version that is none", b"HTTP/7.7 200 OK\r\n\r\n".to_vec()),
        ("a status that is none", b"HTTP/1.1 2x0 OK\r\n\r\n".to_vec()),
        ("a length that is none", with("Content-Length: five")),
        ("a length below zero", with("Content-Length: -5")),
        ("a length of 80 bits", with("Content-Length: 1208925819614629174706176")),
        ("two lengths", with("Content-Length: 5\r\nContent-Length: 6")),
        ("a field without a colon", with("Content-Length: 5\r\nnonsense")),
        ("a field with a space in its name", with("Content-Length : 5")),
        ("a NUL in a field", with("Content-Length: 5\r\nX-Odd: a\0b")),
    ];
    let count = faults.len();
    for (fault, answer) in faults {
        for (outcome, code, status) in captured(fault, &bytes(&answer, || End::Close)) {
            assert_eq!((code, status.as_str()), (0, "502"), "{fault}: {outcome}");
            outcome.expect_stderr(&["/faulty is not recorded"]);
        }
    }
    shows!(
        Capture,
        "an origin whose every byte the test writes, by HTTP and HTTPS",
        "{count} heads that are none, {} captures; the client got a 502 with the reason each time",
        2 * count
    );
}

#[test]
fn more_than_an_answer_may_have_is_neither_recorded_nor_taken_for_the_next_answer() {
    let ca = TestCa::new();
    for (answer, body) in
        [("200 OK\r\nContent-Length: 5", "good\n"), ("200 OK\r\nContent-Length: 0", ""), ("204 Not", "")]
    {
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
        let more = format!("HTTP/1.1 {answer}\r\n\r\n{body}{poison}");
        for tls in [None, Some(ca.server_config())] {
            let (origin, work) = (WireOrigin::http(tls, bytes(more.as_bytes(), || End::Keep)), Workdir::new());
            let urls: Vec<String> = (0..6).map(|n| origin.url(&format!("/{n}"))).collect();
            let script: String = urls.iter().map(|url| format!("curl -sSf '{url}'\n")).collect();
            let outcome = run(work.capturing(&ca.pem).args(["--", "sh", "-euc", &script])).expect_code(0);
            assert_eq!(outcome.text(), body.repeat(6), "{answer}: {outcome}");
            let sizes: Vec<i64> = work.inventory().0.iter().map(|entry| entry.size().unwrap_or(0)).collect();
            assert_eq!(sizes, [body.len() as i64; 6], "{answer}: {outcome}");
        }
    }
}

/// What a flood has, in bytes, unless nobody takes so much.
const MOST: usize = 100_000_000;

/// Sends `start`, then `piece` until about `most` bytes are sent.
fn flood(most: usize, start: Vec<u8>, piece: &'static [u8]) -> Arc<Answer> {
    Arc::new(move |path, wire| {
        if path == "/good" {
            return good(wire);
        }
        wire.write_all(&start)?;
        let block = piece.repeat((64 << 10) / piece.len());
        for _ in 0..(most / block.len()) {
            wire.write_all(&block)?;
        }
        Ok(End::Close)
    })
}

#[test]
fn endless_heads_and_trailers_end_in_little_memory() {
    let head_line = || b"HTTP/1.1 200 OK\r\n".to_vec();
    let chunk = [&head("Transfer-Encoding: chunked\r\nTrailer: X-A"), &b"5\r\nhello\r\n"[..]].concat();
    let one_field = [&head_line()[..], b"X-Long: "].concat();
    let floods: Vec<(&str, Arc<Answer>, bool)> = vec![
        ("a field of 100 MB", flood(MOST, one_field, b"0123456789abcdef"), true),
        ("endless fields", flood(MOST, head_line(), b"X-Another: 0123456789\r\n"), true),
        ("an endless status line", flood(MOST, b"HTTP/1.1 200 ".to_vec(), b"OK and again "), true),
        ("an endless chunk extension", flood(MOST, [&chunk[..], b"5;"].concat(), b"extension="), false),
        // Zeros before a number change nothing, so this one is read as long as it comes.
        ("a chunk size of 2 MB", flood(2_000_000, chunk.clone(), b"0000000000000000"), false),
        ("endless trailers", flood(MOST, [&chunk[..], b"0\r\n"].concat(), b"X-A: 0123456789\r\n"), false),
    ];
    let (count, mut peak) = (floods.len(), 0);
    for (fault, answer, is_head) in floods {
        for (outcome, code, status) in captured(fault, &answer) {
            match is_head {
                true => assert_eq!((code, status.as_str()), (0, "502"), "{fault}: {outcome}"),
                false => assert!(BROKEN_OFF.contains(&code), "{fault}: curl's code is {code}: {outcome}"),
            }
            peak = peak.max(outcome.peak_kib);
            outcome.expect_stderr(&["/faulty is not recorded"]);
        }
    }
    shows!(
        Capture,
        "heads, fields, chunk extensions and trailers of 100 MB, by HTTP and HTTPS",
        "{} captures, at most {peak} KiB of memory",
        2 * count
    );
}

#[test]
fn a_gzip_bomb_is_kept_as_it_came_and_never_unpacked() {
    let bomb = run(Command::new("sh").args(["-c", "head -c 268435456 /dev/zero | gzip -9n"])).expect_code(0).stdout;
    assert!(bomb.len() < 300_000);
    let fields = format!("Content-Encoding: gzip\r\nContent-Length: {}", bomb.len());
    let answer = bytes(&[&head(&fields)[..], &bomb].concat(), || End::Keep);
    let (origin, work) = (WireOrigin::http(None, answer), Workdir::new());
    let url = origin.url("/bomb");
    let script =
        format!("curl -sSf -H 'Accept-Encoding: identity' -o got '{url}'; curl -sSf --compressed '{url}' | wc -c");
    let captured = run(work.capturing("").args(["--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!((work.read("got"), captured.text()), (bomb.clone(), "268435456\n"));
    let verified = run(&mut work.buildproxy("verify")).expect_code(0);
    let replayed = work.replay_sh(&script).expect_code(0);
    assert_eq!((work.read("got"), replayed.text()), (bomb.clone(), "268435456\n"));
    let peaks = [captured.peak_kib, verified.peak_kib, replayed.peak_kib];
    assert!(peaks.iter().all(|peak| *peak < MEMORY_KIB), "{peaks:?}");
    let inventory = work.inventory();
    let entry = inventory.one(&url);
    assert_eq!((entry.size(), entry.header("content-encoding")), (Some(bomb.len() as i64), Some("gzip")));
    shows!(
        Capture,
        "256 MiB packed by gzip, from an origin that was asked for identity; captured, verified, replayed",
        "{} bytes kept; at most {} KiB of memory",
        bomb.len(),
        peaks.iter().max().unwrap()
    );
}

#[test]
fn a_redirect_loop_is_recorded_as_what_the_client_saw_and_ends_the_same_in_replay() {
    let (origin, work) = (crate::common::Awkward::start(), Workdir::new());
    let url = origin.url("/loop");
    let script = format!("curl -sS -L --max-redirs 20 -o /dev/null '{url}' || echo \"curl says $?\"");
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(captured.text(), "curl says 47\n", "{captured}");
    let inventory = work.inventory();
    assert_eq!(inventory.one(&url).status(), 302);
    assert_eq!(inventory.one(&url).header("location"), Some("/loop"));
    run(&mut work.buildproxy("verify")).expect_code(1).expect_stderr(&[&url, "go round in a circle"]);
    let replayed = work.replay_sh(&script).expect_code(0);
    assert_eq!(replayed.text(), captured.text());
    shows!(
        Capture,
        "curl follows a redirect that leads to itself, in capture and replay",
        "{} requests of the origin, one entry, the same end in replay",
        origin.requests_for("/loop").len()
    );
}
