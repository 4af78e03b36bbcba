//! `HEAD`, `Range` and the preconditions: a replay of what nginx gave answers as nginx does.

use std::{
    cell::RefCell,
    fs::{self, File},
    time::{Duration, UNIX_EPOCH},
};

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::{
    common::{Nginx, Serving, Workdir, http1::Answer, pattern, peer::Peer, run},
    requests::{BEFORE, MODIFIED, Request, requests},
    rfc::meaning,
};

/// Fields of one connection or one moment (RFC 9110 §7.6.1 and §6.6.1).
const NOT_COMPARED: [&str; 2] = ["connection", "date"];

/// nginx with a file, a replay of what nginx gave, and what both say of the whole file.
struct Pair {
    path: &'static str,
    nginx: Peer,
    replay: Peer,
    whole: Answer,
    _servers: (Nginx, Serving),
}

impl Pair {
    fn start(path: &'static str, size: usize) -> Self {
        // By default nginx compares If-Modified-Since for equality, which §13.1.3 does not know.
        let server = Nginx::start(
            "keepalive_requests 1000000; if_modified_since before;
             location /untagged/ { etag off; }
             location /unranged/ { max_ranges 0; }",
        );
        let file = server.www().join(&path[1..]);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, pattern(size)).unwrap();
        let modified = UNIX_EPOCH + Duration::from_secs(1_704_153_600);
        File::options().append(true).open(&file).unwrap().set_modified(modified).unwrap();

        let work = Workdir::new();
        run(work.capturing(&server.ca.pem).args(["--", "curl", "-sSf", "-o", "whole", &server.url(path)]))
            .expect_code(0);
        let mut nginx = Peer::origin(server.http);
        let serving = Serving::captured(work, |command| {
            command.arg("--quiet");
        });
        let mut replay = nginx.proxied(serving.address.port());
        let whole = nginx.ask("GET", path, &[]);
        assert_eq!(whole.header("last-modified"), Some(MODIFIED[0]));
        assert_eq!(whole.body, pattern(size));
        assert_eq!(sorted(&replay.ask("GET", path, &[])), sorted(&whole));
        Self { path, nginx, replay, whole, _servers: (server, serving) }
    }

    fn size(&self) -> u64 {
        self.whole.body.len() as u64
    }

    fn ask(&mut self, method: &'static str, fields: &[(&'static str, &str)]) -> (Answer, Answer) {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let request = Request { method, fields };
        (request.send(&mut self.nginx, self.path), request.send(&mut self.replay, self.path))
    }

    /// What replay has to answer where nginx answers `nginx` to a request that it understands as RFC 9110 does.
    fn expected(&self, mut nginx: Answer) -> Answer {
        let recorded = |name: &str| self.whole.header(name).map(|value| (name.to_owned(), value.to_owned()));
        // §14.3: true of every answer; nginx says it with whole ones only.
        if nginx.status != 200 && nginx.header("accept-ranges").is_none() {
            nginx.fields.extend(recorded("accept-ranges"));
        }
        // §15.5.13 and §15.5.17: nginx shows a page for people, which is of no use in a build. The validators stay with
        // us: they tell which version it was that has no such range.
        if matches!(nginx.status, 412 | 416) {
            nginx.body.clear();
            nginx.fields.retain(|(name, _)| name != "content-type" && name != "content-length");
            nginx.fields.push(("content-length".to_owned(), "0".to_owned()));
            nginx.fields.extend(recorded("etag").into_iter().chain(recorded("last-modified")));
        }
        nginx
    }
}

/// `answer` with its fields in one order, and a multipart body as its parts.
fn sorted(answer: &Answer) -> (Answer, Vec<(String, Vec<u8>)>) {
    let mut answer = answer.clone();
    answer.head.clear();
    answer.fields.retain(|(name, _)| !NOT_COMPARED.contains(&name.as_str()));
    answer.fields.sort();
    let kind = answer.header("content-type").unwrap_or_default();
    let Some(boundary) = kind.strip_prefix("multipart/byteranges; boundary=") else {
        return (answer, Vec::new());
    };
    let parts = parts(&answer.body, boundary);
    answer.fields.retain(|(name, _)| name != "content-type" && name != "content-length");
    answer.body.clear();
    (answer, parts)
}

/// Head and bytes of each part (RFC 2046 §5.1.1).
fn parts(body: &[u8], boundary: &str) -> Vec<(String, Vec<u8>)> {
    let delimiter = format!("\r\n--{boundary}");
    let mut rest = body.strip_prefix(delimiter.as_bytes()).expect("a boundary at the start");
    let mut parts = Vec::new();
    while rest != b"--\r\n" {
        let end = find(rest, delimiter.as_bytes()).expect("a boundary behind a part");
        let part = rest[..end].strip_prefix(b"\r\n").expect("a line of its own");
        let head = find(part, b"\r\n\r\n").expect("a head");
        parts.push((String::from_utf8(part[..head].to_vec()).unwrap(), part[head + 4..].to_vec()));
        rest = &rest[end + delimiter.len()..];
    }
    parts
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Asks both the same, `cases` times, always with the same requests.
fn compare(path: &'static str, size: usize, cases: u32) {
    let pair = RefCell::new(Pair::start(path, size));
    let etag = pair.borrow().whole.header("etag").unwrap_or("\"none\"").to_owned();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let seen = RefCell::new(std::collections::BTreeMap::<u16, usize>::new());
    let tested = runner.run(&requests(size as u64, &etag), |request| {
        let pair = &mut *pair.borrow_mut();
        let nginx = meaning(&request, pair.size()).send(&mut pair.nginx, path);
        let ours = request.send(&mut pair.replay, path);
        *seen.borrow_mut().entry(ours.status).or_default() += 1;
        proptest::prop_assert_eq!(sorted(&ours), sorted(&pair.expected(nginx)));
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{path}: {error}");
    }
    let seen = seen.into_inner();
    println!("{path}: {seen:?}");
    // A range of nothing does not exist, so there the answers are fewer.
    let every = [200, 206, 304, 412, 416].iter().all(|status| seen.get(status).is_some_and(|count| *count > 10));
    assert!(every || size < 2, "every kind of answer came: {seen:?}");
}

#[test]
fn a_large_file() {
    compare("/large.txt", 300_000, 3000);
}

#[test]
fn a_small_file() {
    compare("/small.gz", 100, 3000);
}

#[test]
fn a_file_of_one_byte() {
    compare("/one.html", 1, 1000);
}

#[test]
fn an_empty_file() {
    compare("/empty.txt", 0, 1000);
}

#[test]
fn a_file_without_an_entity_tag() {
    // If-Range by date counts, by any tag it does not; no tag is invented, or the comparison would find it.
    compare("/untagged/file.txt", 5000, 2000);
}

#[test]
fn where_the_origin_says_nothing_of_ranges_nothing_is_said() {
    let mut pair = Pair::start("/unranged/file.txt", 1000);
    for fields in [&[][..], &[("range", "bytes=0-9")], &[("range", "bytes=1000-")], &[("if-none-match", "*")]] {
        for method in ["GET", "HEAD"] {
            let (_, ours) = pair.ask(method, fields);
            assert_eq!(ours.header("accept-ranges"), None, "{ours:?}");
        }
    }
    // They are answered all the same: §14.3 lets a client ask without having been told.
    let (nginx, ours) = pair.ask("GET", &[("range", "bytes=0-9")]);
    assert_eq!((nginx.status, ours.status), (200, 206));
    assert_eq!(ours.body, pattern(10));
}

/// The rules of [`meaning`], each with a request that shows that nginx does differ. The sections are those of RFC 9110.
#[test]
fn where_nginx_differs_the_rfc_counts() {
    let mut pair = Pair::start("/differing.txt", 1000);
    let etag = pair.whole.header("etag").unwrap().to_owned();
    let etag = etag.as_str();
    let comma = format!("\"a,{etag}");
    let many = format!("bytes={}", vec!["0-0"; 257].join(","));
    for (section, method, fields, nginx, ours) in [
        (
            "13.1.4: If-Match counts alone",
            "GET",
            &[("if-match", etag), ("if-unmodified-since", BEFORE[0])][..],
            412,
            200,
        ),
        (
            "13.1.3: If-None-Match counts alone",
            "GET",
            &[("if-none-match", etag), ("if-modified-since", BEFORE[0])],
            200,
            304,
        ),
        ("13.1.4: no date", "GET", &[("if-unmodified-since", "yesterday")], 412, 200),
        ("13.1.3: a date has a zone", "GET", &[("if-modified-since", &MODIFIED[0][..25])], 304, 200),
        ("13.1.5: the same", "GET", &[("range", "bytes=0-1"), ("if-range", &MODIFIED[0][..25])], 206, 200),
        ("8.8.3: a tag can have a comma", "GET", &[("if-none-match", &comma)], 304, 200),
        ("5.3: a list in two lines", "GET", &[("if-none-match", "\"x\""), ("if-none-match", etag)], 400, 304),
        ("5.3: the same", "GET", &[("if-match", "\"x\""), ("if-match", etag)], 400, 200),
        ("5.3: two of what is no list", "GET", &[("if-modified-since", MODIFIED[0]); 2], 400, 200),
        ("5.3: the same", "GET", &[("range", "bytes=0-1"), ("if-range", etag), ("if-range", etag)], 400, 200),
        ("5.3: the same", "GET", &[("range", "bytes=0-1"), ("range", "bytes=2-3")], 206, 200),
        ("14.2: Range is for GET", "HEAD", &[("range", "bytes=0-1")], 206, 200),
        ("14.2: an invalid one is ignored", "GET", &[("range", "bytes=a-b")], 416, 200),
        ("14.1.1: also in part", "GET", &[("range", "bytes=9-5,0-1")], 206, 200),
        ("14.1.1: no space in a range", "GET", &[("range", "bytes=0 - 1")], 206, 200),
        ("14.2: too many", "GET", &[("range", &many)], 206, 200),
        ("14.1.2: any last byte can be named", "GET", &[("range", "bytes=0-18446744073709551616")], 416, 206),
        ("5.6.1.2: empty elements", "GET", &[("range", "bytes=0-1,,3-4,")], 416, 206),
        ("5.6.1.2: a tab between elements", "GET", &[("range", "bytes=0-1,\t3-4")], 416, 206),
    ] {
        let answers = pair.ask(method, fields);
        assert_eq!((answers.0.status, answers.1.status), (nginx, ours), "{section}: {method} with {fields:?}");
    }
}
