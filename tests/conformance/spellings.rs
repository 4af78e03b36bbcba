//! Spellings of one URL: what is one to us is one to every server.
//!
//! Two servers are asked for thousands of spellings as they stand: nginx, and the file server of Python's library. Each
//! answers with what it makes of a path and a query.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use buildproxy::NormalizedUrl;
use http::Uri;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy},
    prop_oneof,
    sample::select,
    strategy::{Union, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::common::{Nginx, Workdir, http1::Answer, peer::Peer, process::Guard, run};

/// Answers with the file and the parameters that a request's target means.
const PYTHON: &str = "
import http.server, urllib.parse
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    wbufsize = -1
    def do_GET(self):
        split = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qsl(split.query, keep_blank_values=True)
        text = repr((self.translate_path(split.path), query)).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";

fn python() -> (Guard, Peer) {
    let mut command = Command::new("/usr/bin/python3");
    let mut server = Guard(command.args(["-c", PYTHON]).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (server, Peer::origin(line.trim().parse().unwrap()))
}

/// Spellings of a part of a path; what stands in one line is the same, or nearly so.
const OF_PATHS: [&[&str]; 14] = [
    &["a", "%61", "A", "%41"],
    &["~", "%7E", "%7e", "%257e"],
    &["-._", "%2d%2E%5f", "-%2E_", "-%2f_"],
    &["/", "//", "/./", "/%2e/", "/x/../", "/x/%2E%2e/", "/x//../", "/x/.%2E/"],
    &["/", "%2F", "%2f", "%252F", "%5C", "%5c", "\\"],
    &["/.", "/..", "/%2e", "/%2e%2E", "/..;", "/...", ""],
    &[";p=1", "%3Bp=1", ";p%3D1", ";p=%31"],
    &["+", "%2B", "%2b", "%20"],
    &["ü", "%C3%BC", "%c3%bc", "u%CC%88", "%FC"],
    &["!$'()*", "%21%24%27%28%29%2A", "!$%27()*"],
    &[":@&=,", "%3A@&=,", ":@%26=,"],
    &["{\"}", "%7B%22%7D", "{%22}"],
    &["|^[]", "%7C%5E%5B%5D", "|%5E[]"],
    &["%", "%25", "%4", "%zz", "%%34", "%%34%31", "%4%31", "%00"],
];

/// The same for queries.
const OF_QUERIES: [&[&str]; 9] = [
    &["a=1", "%61=%31", "a=%31", "A=1"],
    &["&", "&&", "%26", ";"],
    &["a", "a=", "=a", "%61"],
    &["+", "%20", "%2B", "%2b"],
    &["/../", "/%2e./", "%2F..%2F", "/./"],
    &["?", "%3F", "??"],
    &["ü", "%C3%BC", "%c3%bc", "%FC"],
    &["'", "%27", "\"", "%22", "{|}", "%7B%7C%7D"],
    &["%", "%25", "%%37e", "%7e", "~", "\\", "%5C"],
];

fn spelling() -> impl Strategy<Value = String> {
    let of = |lines: &[&'static [&'static str]]| Union::new(lines.iter().map(|line| select(*line)));
    // Short ones, so that many are spellings of one URL.
    let path = vec(of(&OF_PATHS), 0..4).prop_map(|parts| format!("/{}", parts.concat()));
    let query = prop_oneof![
        6 => Just(String::new()),
        1 => Just("?".to_owned()),
        4 => vec(of(&OF_QUERIES), 0..4).prop_map(|parts| format!("?{}", parts.concat())),
    ];
    let fragment = select(vec!["", "", "", "", "#", "#f?/../"]);
    (path, query, fragment).prop_map(|(path, query, fragment)| format!("{path}{query}{fragment}"))
}

/// What a server makes of `spelling`: the same for two that mean the same to it.
fn treatment(peer: &mut Peer, spelling: &str) -> (u16, String) {
    let Answer { status, body, .. } = peer.ask("GET", spelling, &[]);
    (status, if status == 200 { String::from_utf8_lossy(&body).into_owned() } else { String::new() })
}

/// The spelling as it is asked for by a client that removes dot segments itself (RFC 3986 §5.2.4), where it matters that
/// it does, since servers do not follow the RFC there: both decode a path first, so that a `%2F` is a slash to them;
/// Python takes doubled slashes for one first, and `/a/.` for `/a`; nginx refuses a path that climbs above the root.
fn as_a_client_asks(spelling: &str) -> String {
    let end = spelling.find(['?', '#']).unwrap_or(spelling.len());
    let (path, rest) = spelling.split_at(end);
    let (mut kept, mut has_dots, mut climbs, mut ends_with_dots) = (Vec::new(), false, false, false);
    for segment in path[1..].split('/') {
        let dots = segment.to_lowercase().replace("%2e", ".");
        ends_with_dots = matches!(dots.as_str(), "." | "..");
        has_dots |= ends_with_dots;
        match dots.as_str() {
            "." => {}
            ".." => climbs |= kept.pop().is_none(),
            _ => kept.push(segment),
        }
    }
    if ends_with_dots {
        kept.push("");
    }
    let is_odd = climbs || ends_with_dots || path.contains('%') || path.contains("//");
    if has_dots && is_odd { format!("/{}{rest}", kept.join("/")) } else { spelling.to_owned() }
}

fn ascii(spelling: &str) -> String {
    let byte = |byte: u8| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    spelling.bytes().map(byte).collect()
}

#[test]
fn a_backslash_is_asked_of_the_origin_as_what_it_is() {
    let server = Nginx::start("location / { default_type text/plain; return 200 '$uri'; }");
    let work = Workdir::new();
    let url = server.url("/a\\b");
    let captured = run(work.capturing(&server.ca.pem).args(["--", "curl", "-sSf", &url])).expect_code(0);
    assert_eq!(captured.text(), "/a\\b");
    let asked = [url.clone(), url.replace('\\', "%5c"), url.replace('\\', "/")];
    let script = format!("curl -sSf '{}'; curl -sSf '{}'; ! curl -sf '{}'", asked[0], asked[1], asked[2]);
    assert_eq!(work.replay_sh(&script).expect_code(4).text(), "/a\\b/a\\b");
}

#[test]
fn what_is_one_url_to_us_is_one_to_every_server() {
    // With `merge_slashes`, nginx takes a doubled slash for one before it looks for dot segments.
    let server = Nginx::start(
        "keepalive_requests 1000000; merge_slashes off;
         location / { default_type text/plain; return 200 '$uri'; }",
    );
    let mut nginx = Peer::origin(server.http);
    let (_python, mut python) = python();
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mut first_of: HashMap<NormalizedUrl, String> = HashMap::new();
    let mut compared = 0;
    for _ in 0..10_000 {
        let spelling = spelling().new_tree(&mut runner).unwrap().current();
        // As the proxy reads it; some it refuses, such as those with a `"` in the query.
        let Ok(uri) = format!("http://h.test{spelling}").parse::<Uri>() else { continue };
        let url: NormalizedUrl = uri.to_string().parse().unwrap();
        let first = first_of.entry(url.clone()).or_insert_with(|| spelling.clone());
        if *first == spelling {
            continue;
        }
        compared += 1;
        for (name, peer) in [("nginx", &mut nginx), ("Python", &mut python)] {
            let asked = [&*first, &spelling, url.as_str().strip_prefix("http://h.test").unwrap()].map(as_a_client_asks);
            // No URI has anything but ASCII (RFC 3986 §2); Python takes it for Latin-1.
            let asked = if name == "Python" { asked.map(|spelling| ascii(&spelling)) } else { asked };
            let treatments = asked.clone().map(|spelling| treatment(peer, &spelling));
            assert!(
                treatments.iter().all(|treatment| *treatment == treatments[0]),
                "{name} takes {first} and {spelling} for {treatments:?} (asked as {asked:?}), we take both for {url}"
            );
        }
    }
    println!("{compared} pairs compared, {} URLs", first_of.len());
    assert!(compared > 1000, "many spellings are of one URL: {compared}");
}
