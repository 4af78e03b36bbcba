//! What a capture records, from an origin that answers as real servers do.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    common::{
        Awkward, TestCa, Workdir,
        awkward::answers::{ETAG, MODIFIED},
        pattern, run, sri,
    },
    shows,
};

#[test]
fn a_download_arrives_and_is_recorded_with_hash_size_and_name_and_stored_read_only() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/some%20file.tar.gz?size=70000");
    work.capture_sh(&origin, &format!("curl -sS -o got '{url}'")).expect_code(0);
    let body = pattern(70_000);
    assert_eq!(work.read("got"), body);
    let inventory = work.inventory();
    let entry = inventory.one(&url);
    assert_eq!(entry.body("hash"), Some(sri(&body).as_str()));
    assert_eq!(entry.size(), Some(70_000));
    assert_eq!(entry.body("name"), Some("some-file.tar.gz"));
    assert_eq!((entry.source(), entry.status()), ("fetch", 200));
    assert_eq!(entry.get(&["status"]), None, "defaults are left out");
    let file = stored(&work, "-some-file.tar.gz");
    assert_eq!(fs::read(&file).unwrap(), body);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o444);
}

/// The one file of the store whose name ends so.
#[track_caller]
fn stored(work: &Workdir, suffix: &str) -> std::path::PathBuf {
    let files = fs::read_dir(work.store()).unwrap().map(|file| file.unwrap().path());
    let found: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn plain_http_https_http_in_a_tunnel_and_address_hosts_are_captured() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let plain = origin.url("/plain/a");
    let tunnelled = origin.url("/plain/b");
    let secure = origin.tls_url("/plain/c");
    let address = origin.tls_url("/plain/d").replace("localhost", "127.0.0.1");
    let script =
        format!("curl -sSf -O '{plain}'; curl -sSf -p -O '{tunnelled}'; curl -sSf -O '{secure}' -O '{address}'");
    work.capture_sh(&origin, &script).expect_code(0);
    for name in ["a", "b", "c", "d"] {
        assert_eq!(work.read(name), pattern(1000), "{name}");
    }
    for url in [&plain, &tunnelled, &secure, &address] {
        assert_eq!(work.inventory().one(url).size(), Some(1000), "{url}");
    }
}

#[test]
fn clients_of_http_1_0_and_of_http_2_are_served() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!(
        "curl -sSf --http1.0 -o old -w '%{{http_version}} ' '{}'; curl -sSf --http2 -o new -w '%{{http_version}}' '{}'",
        origin.url("/chunked"),
        origin.tls_url("/chunked")
    );
    let versions = work.capture_sh(&origin, &script).expect_code(0);
    assert!(versions.text().ends_with(" 2"), "{versions}");
    assert_eq!(work.read("old"), pattern(5000));
    assert_eq!(work.read("new"), pattern(5000));
}

#[test]
fn a_redirect_chain_is_one_entry_with_its_hops_and_is_fetched_from_its_start() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/redirect/3");
    work.capture_sh(&origin, &format!("curl -sSf -L -o got '{url}'")).expect_code(0);
    assert_eq!(work.read("got"), pattern(1000));
    let inventory = work.inventory();
    assert_eq!(inventory.urls(), [&url], "the hops are no entries of their own");
    let entry = inventory.one(&url);
    let hops = [
        (302, origin.tls_url("/redirect/2")),
        (301, "/redirect/1?relative".to_owned()),
        (302, "../plain/end-of-chain?X-Amz-Signature=abc%2Fdef&X-Amz-Expires=5".to_owned()),
    ];
    assert_eq!(entry.hops(), hops);
    assert_eq!((entry.source(), entry.size()), ("fetch", Some(1000)));
    assert_eq!(entry.body("name"), Some("3"), "named after the first URL");
}

#[test]
fn a_redirect_that_nobody_followed_is_an_entry_with_its_location() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/redirect/3");
    work.capture_sh(&origin, &format!("curl -sS '{url}'")).expect_code(0);
    let inventory = work.inventory();
    assert_eq!(inventory.one(&url).status(), 302);
    assert_eq!(inventory.one(&url).header("location"), Some(origin.url("/redirect/2").as_str()));
}

#[test]
fn posts_are_recorded_with_the_digest_of_what_was_sent_and_follow_307_and_303() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (echo, temporary, other) = (origin.url("/echo"), origin.url("/temporary"), origin.url("/see-other"));
    let script = format!(
        "curl -sSf -d one '{echo}'; curl -sSf -d two '{echo}'; curl -sSf -L -d three '{temporary}'; \
         curl -sSf -L -d four -o result '{other}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "POST one\nPOST two\nPOST three\n");
    assert_eq!(work.read("result"), pattern(1000));
    let inventory = work.inventory();
    let mut digests: Vec<_> = inventory.of(&echo).iter().map(|entry| entry.text("request-body").to_owned()).collect();
    digests.sort();
    let mut expected = [sri(b"one"), sri(b"two")];
    expected.sort();
    assert_eq!(digests, expected);
    for (url, sent, location) in [(temporary, "three", "/echo"), (other, "four", "/plain/see-other-result")] {
        let entry = inventory.one(&url);
        assert_eq!((entry.text("method"), entry.text("request-body")), ("POST", sri(sent.as_bytes()).as_str()));
        assert_eq!(entry.hops().len(), 1);
        assert_eq!(entry.hops()[0].1, location);
        assert_ne!(entry.source(), "fetch", "fetchurl sends no POST");
    }
}

#[test]
fn answers_without_a_body_and_errors_with_one_are_recorded() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [none, empty, missing] = ["/no-content", "/empty", "/missing"].map(|path| origin.tls_url(path));
    let script = format!("curl -sS '{none}'; curl -sS '{empty}'; curl -sS '{missing}'");
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "there is no such thing\n");
    let inventory = work.inventory();
    assert_eq!((inventory.one(&none).status(), inventory.one(&none).get(&["body"])), (204, None));
    assert_eq!(inventory.one(&none).header("x-kind"), Some("none"));
    assert_eq!((inventory.one(&empty).status(), inventory.one(&empty).get(&["body"])), (200, None));
    let missing = inventory.one(&missing);
    assert_eq!((missing.status(), missing.body("text")), (404, Some("there is no such thing\n")));
}

#[test]
fn origins_are_asked_for_identity_and_what_they_encode_anyway_is_kept_as_it_came() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (offered, always) = (origin.url("/gzip"), origin.url("/gzip-always"));
    let script = format!("curl -sSf --compressed -o offered '{offered}'; curl -sSf --compressed -o always '{always}'");
    work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(work.read("offered"), pattern(3000));
    assert_eq!(work.read("always"), pattern(3000));
    let asked = &origin.requests_for("/gzip")[0];
    assert_eq!(asked.header("accept-encoding").unwrap_or("identity"), "identity");
    let inventory = work.inventory();
    let offered = inventory.one(&offered);
    assert_eq!((offered.source(), offered.header("content-encoding")), ("fetch", None));
    assert_eq!(offered.body("hash"), Some(sri(&pattern(3000)).as_str()));
    assert_eq!(offered.get(&["request-headers"]), None, "never keyed on Accept-Encoding");
    let always = inventory.one(&always);
    assert_eq!((always.source(), always.header("content-encoding")), ("file", Some("gzip")));
    assert_ne!(always.body("hash"), Some(sri(&pattern(3000)).as_str()), "the hash of the bytes as sent");
    let file = fs::read(work.path(always.body("file").unwrap())).unwrap();
    assert_eq!(always.body("hash"), Some(sri(&file).as_str()));
}

#[test]
fn nothing_partial_is_recorded_and_the_client_sees_the_failure() {
    for path in ["/truncated", "/truncated-chunked", "/until-cut"] {
        let (origin, work) = (Awkward::start(), Workdir::new());
        let url = origin.tls_url(path);
        let whole = origin.tls_url("/plain/whole");
        let script = format!("curl -sS -o got '{url}' || echo failed; curl -sSf -o whole '{whole}'");
        let outcome = work.capture_sh(&origin, &script).expect_code(0).expect_stderr(&[&url]);
        if path != "/until-cut" {
            assert_eq!(outcome.text(), "failed\n", "{path}: {outcome}");
        }
        assert_eq!(work.inventory().urls(), [&whole], "{path}");
        let stored = fs::read_dir(work.store()).unwrap().map(|file| file.unwrap().file_name());
        let stored: Vec<_> = stored.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert_eq!(stored.len(), 1, "only the whole body is stored: {stored:?}");
    }
}

#[test]
fn a_body_that_ends_cleanly_with_the_connection_is_kept_as_a_file_with_a_warning() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (plain, secure) = (origin.url("/until-close"), origin.tls_url("/until-close"));
    let script = format!("curl -sSf -o a '{plain}'; curl -sSf -o b '{secure}'");
    work.capture_sh(&origin, &script).expect_code(0).expect_stderr(&[&plain, &secure]);
    for url in [&plain, &secure] {
        let inventory = work.inventory();
        let entry = inventory.one(url);
        assert_ne!(entry.source(), "fetch", "{url}");
        assert_eq!(entry.body("hash"), Some(sri(&pattern(4000)).as_str()), "{url}");
    }
}

#[test]
fn answers_of_old_servers_are_captured() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/http-1.0");
    let outcome = work.capture_sh(&origin, &format!("curl -sSf '{url}'")).expect_code(0);
    assert_eq!(outcome.text(), "old style");
    assert_eq!(work.inventory().one(&url).size(), Some(9));
}

#[test]
fn an_answer_that_varies_is_keyed_by_the_request_headers_that_it_names() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/vary");
    let script = format!("curl -sSf -H 'Accept: application/json' '{url}'; curl -sSf -H 'Accept: text/plain' '{url}'");
    work.capture_sh(&origin, &script).expect_code(0);
    let inventory = work.inventory();
    let mut variants: Vec<_> = inventory
        .of(&url)
        .iter()
        .map(|entry| {
            (entry.get(&["request-headers", "accept"]).unwrap().as_str().unwrap(), entry.body("text").unwrap())
        })
        .collect();
    variants.sort_unstable();
    assert_eq!(variants, [("application/json", "{\"kind\": \"json\"}\n"), ("text/plain", "kind: text\n")]);
}

#[test]
fn changing_answers_are_a_sequence_and_equal_ones_are_one_entry() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (counter, plain) = (origin.url("/counter"), origin.url("/plain/same"));
    let script = format!("for n in 1 2 3; do curl -sSf '{counter}'; curl -sSf -o /dev/null '{plain}'; done");
    work.capture_sh(&origin, &script).expect_code(0);
    let inventory = work.inventory();
    let texts: Vec<_> = inventory.of(&counter).iter().map(|entry| entry.body("text").unwrap()).collect();
    assert_eq!(texts, ["count 1\n", "count 2\n", "count 3\n"]);
    assert_eq!(inventory.of(&plain).len(), 1);
}

#[test]
fn a_retry_that_succeeds_keeps_the_success_alone() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (limited, broken) = (origin.url("/busy-429"), origin.url("/busy-503"));
    let script = format!("for url in '{limited}' '{broken}'; do curl -sS -o /dev/null $url; curl -sSf $url; done");
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "at last\nat last\n");
    for url in [&limited, &broken] {
        let inventory = work.inventory();
        assert_eq!((inventory.one(url).status(), inventory.one(url).size()), (200, Some(8)), "{url}");
    }
}

#[test]
fn ranges_and_conditional_requests_are_answered_from_the_whole() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (ranged, by_tag, by_date) = (origin.url("/cached"), origin.url("/cached?tag"), origin.url("/cached?date"));
    let script = format!(
        "curl -sS -r 10-19 -o part -w '%{{http_code}} ' '{ranged}'; \
         curl -sS -H 'If-None-Match: {ETAG}' -w '%{{http_code}} ' '{by_tag}'; \
         curl -sS -H 'If-Modified-Since: {MODIFIED}' -w '%{{http_code}}' '{by_date}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "206 304 304");
    assert_eq!(work.read("part"), pattern(20)[10..]);
    let inventory = work.inventory();
    for (url, path) in [(&ranged, "/cached"), (&by_tag, "/cached?tag"), (&by_date, "/cached?date")] {
        let entry = inventory.one(url);
        assert_eq!((entry.status(), entry.size()), (200, Some(2000)), "{url}");
        assert_eq!(entry.body("hash"), Some(sri(&pattern(2000)).as_str()));
        for asked in origin.requests_for(path) {
            for header in ["range", "if-none-match", "if-modified-since"] {
                assert_eq!(asked.header(header), None, "{path} {header}");
            }
        }
    }
}

#[test]
fn head_is_recorded_where_nobody_asked_for_the_body() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (alone, both) = (origin.url("/plain/alone"), origin.url("/plain/both"));
    let script = format!("curl -sSf -I '{alone}' '{both}'; curl -sSf -o /dev/null '{both}'");
    work.capture_sh(&origin, &script).expect_code(0);
    let inventory = work.inventory();
    let entry = inventory.one(&alone);
    assert_eq!((entry.text("method"), entry.header("content-length")), ("HEAD", Some("1000")));
    assert_eq!(entry.get(&["body"]), None);
    assert_eq!(inventory.one(&both).text("method"), "", "the GET answers HEAD as well");
}

#[test]
fn restless_headers_are_left_out_and_odd_ones_survive_the_way_to_the_client_and_the_file() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (restless, odd) = (origin.url("/restless-headers"), origin.url("/odd-headers"));
    let script = format!("curl -sSf -o /dev/null '{restless}'; curl -sSf -D headers -o /dev/null '{odd}'");
    work.capture_sh(&origin, &script).expect_code(0);
    let inventory = work.inventory();
    let kept: Vec<_> = inventory.one(&restless).get(&["headers"]).unwrap().as_table().unwrap().keys().collect();
    assert_eq!(kept, ["x-kept"]);
    let odd = inventory.one(&odd);
    let array = |name: &str| {
        let values = odd.get(&["headers", name]).unwrap().as_array().unwrap();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(array("link"), ["</a>; rel=\"next\"", "</b>; rel=\"last\""]);
    assert_eq!(array("x-twice"), ["same", "same"]);
    assert_eq!(odd.header("content-disposition"), Some(r#"attachment; filename="a \"quoted\" name.txt""#));
    assert_eq!(odd.header("x-nix"), Some(r#"${builtins.abort "no"} ''${x}"#));
    assert_eq!(odd.header("x-shell"), Some(r"$(exit 1) `id` \n"));
    assert_eq!(odd.header("x-empty"), Some(""));
    assert_eq!(odd.header("x-utf8"), Some("grüße — ✓"));
    assert_eq!(odd.header("x.dotted.name"), Some("1"));
    assert_eq!(odd.header("x-latin1"), None, "not UTF-8: left out with a warning");
    let passed_on = work.read("headers");
    assert!(passed_on.windows(5).any(|bytes| bytes == b"gr\xfc\xdf\x65"), "the client got it");
}

#[test]
fn a_client_that_leaves_early_does_not_stop_the_download() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/slow?ms=300");
    let script = format!("curl -sS -m 0.5 -o /dev/null '{url}' || sleep 2");
    work.capture_sh(&origin, &script).expect_code(0);
    let inventory = work.inventory();
    assert_eq!(inventory.one(&url).body("hash"), Some(sri(&pattern(4000)).as_str()));
    let size = inventory.one(&url).size().unwrap();
    shows!(Capture, "curl leaves in the middle of a slow download", "{size} bytes recorded, which is all");
}

#[test]
fn an_unreachable_origin_is_a_502_with_the_reason_and_is_not_recorded() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let refused = {
        let gone = Awkward::start();
        gone.url("/plain/file")
    };
    let script = format!(
        "curl -sS -w ' %{{http_code}}' '{refused}'; curl -sS 'http://does-not-exist.invalid/' -w ' %{{http_code}}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    let reasons = outcome.text().matches(" 502").count();
    assert_eq!(reasons, 2, "{outcome}");
    assert!(outcome.text().to_lowercase().contains("refused"), "the reason: {outcome}");
    assert!(work.inventory().urls().is_empty());
    shows!(Capture, "a port where nobody listens, a name that does not resolve", "{reasons} reasons, nothing recorded");
}

#[test]
fn an_origin_with_a_certificate_that_nobody_vouches_for_is_a_502() {
    let (origin, stranger, work) = (Awkward::start(), Awkward::start(), Workdir::new());
    let url = stranger.tls_url("/plain/file");
    let outcome = work.capture_sh(&origin, &format!("curl -sS -w ' %{{http_code}}' '{url}'")).expect_code(0);
    assert!(outcome.text().ends_with(" 502"), "{outcome}");
    assert!(outcome.text().to_lowercase().contains("certificate"), "the reason: {outcome}");
    assert!(work.inventory().urls().is_empty());
    assert!(stranger.requests_for("/plain/file").is_empty());
}

#[test]
fn loopback_is_not_captured_unless_asked() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!("curl -sSf -o /dev/null '{}'; printf %s \"$no_proxy\"", origin.url("/plain/local"));
    let mut command = work.buildproxy("capture");
    let outcome = run(command.args(["--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(outcome.text(), "localhost,127.0.0.1,::1");
    assert_eq!(origin.requests_for("/plain/local").len(), 1, "asked directly");
    assert!(!work.path("inventory.toml").exists() || work.inventory().urls().is_empty());
}

#[test]
fn a_status_that_no_response_can_have_is_left_out_and_leaves_a_readable_inventory() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let outcome = work.capture_sh(&origin, &format!("curl -sS '{}'", origin.url("/status-999"))).expect_code(0);
    outcome.expect_stderr(&["/status-999 is not recorded", "999"]);
    work.capture_sh(&origin, "true").expect_code(0);
}

#[test]
fn transfer_encoding_overrides_content_length() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/both-lengths");
    let outcome = work.capture_sh(&origin, &format!("curl -sSf '{url}'")).expect_code(0);
    assert_eq!(outcome.text(), "0123456789");
    assert_eq!(work.inventory().one(&url).size(), Some(10));
}

#[test]
fn a_body_that_only_the_connection_ends_is_a_file_whatever_its_transfer_coding_says() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/coded-to-the-end");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0).expect_stderr(&["cut short"]);
    assert_eq!(work.inventory().one(&url).body("text"), Some("until the end\n"));
}

#[test]
fn hundreds_of_slow_downloads_do_not_hold_up_a_quick_one() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = r"import os, socket, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ['http_proxy'])

def ask(url):
    client = socket.create_connection((proxy.hostname, proxy.port))
    client.sendall(b'GET %s HTTP/1.0\r\n\r\n' % url.encode())
    return client

def ends(client):
    while data := client.recv(65536):
        pass
    return True

slow = [ask(f'{sys.argv[1]}&n={n}') for n in range(560)]
for client in slow:
    assert client.recv(1)
assert ends(ask(sys.argv[2]))
slow[-1].setblocking(False)
try:
    sys.exit('the slow one ended first' if ends(slow[-1]) else 0)
except BlockingIOError:
    pass
slow[-1].setblocking(True)
assert ends(slow[-1])
";
    work.write("many.py", script);
    let (slow, quick) = (origin.url("/slow?ms=1500"), origin.url("/plain/quick"));
    work.capture_sh(&origin, &format!("python3 many.py '{slow}' '{quick}'")).expect_code(0);
    assert_eq!(work.inventory().one(&quick).size(), Some(1000));
    assert_eq!(work.inventory().one(&format!("{slow}&n=559")).size(), Some(4000));
    let count = work.inventory().0.len();
    shows!(Capture, "slow downloads at once, and a quick one that ends before them", "{count} downloads");
}

#[test]
fn a_head_that_no_origin_answers_gets_no_content_over_http2() {
    let (work, ca) = (Workdir::new(), TestCa::new());
    let curl = ["--", "curl", "-sS", "--http2", "-I", "-o", "head", "-w", "%{http_code} %{http_version}"];
    // Nobody listens there.
    let asked = run(work.capturing(&ca.pem).args(curl).arg("https://localhost:1/x")).expect_code(0);
    assert_eq!(asked.text(), "502 2");
}
