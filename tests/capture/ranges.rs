//! Clients that ask for parts, while a capture asks the origin for the whole: once.

use std::fs;

use crate::common::{
    Awkward, Workdir,
    awkward::answers::{ETAG, MODIFIED, PASSWORD, USER, big_blocks},
    pattern,
    process::wait_for,
    python_tool, sri,
};

/// 64 MiB, the most that a capture may take whatever passes.
const MEMORY_KIB: u64 = 64 * 1024;

/// Ends a script where the download of `/slow` is over.
const NOT_RECORDED_YET: &str = "if grep -q '/slow' .buildproxy/journal-*.jsonl; then exit 9; fi";

/// The bytes of `/big?mib=N`.
fn big(mib: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _never_fails: Result<(), ()> = big_blocks(mib, |block| {
        bytes.extend_from_slice(block);
        Ok(())
    });
    bytes
}

fn hex_digest(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(bytes))
}

/// `script` where the capture's spool takes nothing: a file is in the place of its folder.
fn without_a_spool(work: &Workdir, script: &str) -> String {
    let spool = format!("spool=$(echo '{}'/.*/journal-*)", work.store().display());
    format!("{spool}; mv $spool away; touch $spool; {script}; rm $spool; mv away $spool")
}

/// Fails the test unless the origin was asked for `path` so many times, and never for less than the whole.
#[track_caller]
fn expect_requests(origin: &Awkward, path: &str, count: usize) {
    let requests = origin.requests_for(path);
    assert_eq!(requests.len(), count, "requests for {path}");
    for request in requests {
        for name in ["range", "if-range", "if-none-match", "if-match", "if-modified-since"] {
            assert_eq!(request.header(name), None, "{path}");
        }
    }
}

#[test]
fn parts_come_from_one_download_and_are_the_same_in_replay() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/cached");
    let asked = [
        "-r 100-199",
        "-r 0-0",
        "-r -50",
        "-r 1999-",
        "-r 2000-",
        "-r 0-9,20-29",
        "-r 1000-1999,-1,0-",
        "-r 5-9 --http1.1",
        &format!("-r 0-9 -H 'If-Range: {ETAG}'"),
        &format!("-r 0-9 -H 'If-Range: {MODIFIED}'"),
        "-r 0-9 -H 'If-Range: \"other\"'",
        "-r 0-9 -H 'If-Match: \"other\"'",
        &format!("-r 0-9 -H 'If-None-Match: {ETAG}'"),
        "-H 'Range: lines=1-2'",
    ];
    let mut script = "mkdir $OUT; ".to_owned();
    for (n, arguments) in asked.iter().enumerate() {
        script += &format!("curl -sS {arguments} -w '%{{http_code}} ' -D $OUT/{n}.head -o $OUT/{n} '{url}'; ");
    }
    let captured = work.capture_sh(&origin, &format!("OUT=captured; {script}")).expect_code(0);
    assert_eq!(captured.text(), "206 206 206 206 416 206 200 206 206 206 200 412 304 200 ");
    expect_requests(&origin, "/cached", 1);
    let inventory = work.inventory();
    assert_eq!(inventory.one(&url).body("hash"), Some(sri(&pattern(2000)).as_str()));
    assert_eq!(inventory.urls().len(), 1);
    assert_eq!(work.read("captured/0"), pattern(2000)[100..200]);
    assert_eq!(work.read("captured/2"), pattern(2000)[1950..]);
    drop(origin);
    let replayed = work.replay_sh(&format!("OUT=replayed; {script}")).expect_code(0);
    assert_eq!(replayed.text(), captured.text());
    for (n, arguments) in asked.iter().enumerate() {
        let fields = |folder: &str| {
            let head = String::from_utf8(work.read(&format!("{folder}/{n}.head"))).unwrap();
            let mut fields: Vec<_> = head.lines().map(str::to_owned).collect();
            fields.sort();
            fields
        };
        assert_eq!(fields("captured"), fields("replayed"), "{arguments}");
        let body = |folder: &str| fs::read(work.path(&format!("{folder}/{n}"))).unwrap_or_default();
        assert_eq!(body("captured"), body("replayed"), "{arguments}");
    }
}

#[test]
fn sixteen_connections_of_aria2_are_one_download() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/big?mib=80");
    let script = format!("aria2c -q -x16 -s16 -k1M --file-allocation=none -o got '{url}'");
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert!(outcome.peak_kib < MEMORY_KIB, "{} KiB", outcome.peak_kib);
    expect_requests(&origin, "/big?mib=80", 1);
    let body = big(80);
    assert!(work.read("got") == body);
    assert_eq!(work.inventory().one(&url).body("hash"), Some(sri(&body).as_str()));
    drop(origin);
    work.replay_sh(&format!("rm got; {script}")).expect_code(0);
    assert!(work.read("got") == body);
}

#[test]
fn resumed_downloads_take_the_rest_from_the_one_before() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (large, small) = (origin.tls_url("/big?mib=2"), origin.url("/cached"));
    let mut script = String::new();
    for (name, url) in [("large", &large), ("small", &small)] {
        script += &format!(
            "curl -sSf -o curl-{name} '{url}'; truncate -s 1234 curl-{name}; curl -sSf -C - -o curl-{name} '{url}'; \
             wget -q -O wget-{name} '{url}'; truncate -s 1234 wget-{name}; wget -q -c -O wget-{name} '{url}'; "
        );
    }
    work.capture_sh(&origin, &script).expect_code(0);
    for client in ["curl", "wget"] {
        assert!(work.read(&format!("{client}-large")) == big(2), "{client}");
        assert_eq!(work.read(&format!("{client}-small")), pattern(2000), "{client}");
    }
    // One for each client: they do not send the same fields.
    expect_requests(&origin, "/big?mib=2", 2);
    expect_requests(&origin, "/cached", 2);
    let inventory = work.inventory();
    assert_eq!(inventory.one(&large).body("hash"), Some(sri(&big(2)).as_str()));
    assert_eq!(inventory.one(&small).body("hash"), Some(sri(&pattern(2000)).as_str()));
}

#[test]
fn a_part_arrives_before_the_rest_has() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/slow?ms=1500");
    let script = format!(
        "curl -sSf -r 0-499 -o a '{url}' & curl -sSf -r 900-999 -o b '{url}'; wait $!; {NOT_RECORDED_YET}; \
         curl -sSf -r 10-19,30-39 -o c '{url}'; {NOT_RECORDED_YET}; curl -sSf -r 3990- -o end '{url}'; \
         grep -q '/slow' .buildproxy/journal-*.jsonl"
    );
    work.capture_sh(&origin, &script).expect_code(0);
    expect_requests(&origin, "/slow?ms=1500", 1);
    let whole = pattern(4000);
    assert_eq!((work.read("a"), work.read("b")), (whole[..500].to_vec(), whole[900..1000].to_vec()));
    assert_eq!(work.read("end"), whole[3990..], "only when it was recorded");
    assert_eq!(work.inventory().one(&url).body("hash"), Some(sri(&whole).as_str()));
}

#[test]
fn a_part_ends_before_the_rest_has_come_for_a_client_that_waits_for_the_end_of_its_stream() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/slow?ms=1500");
    // Unlike curl, which leaves a stream at the end of its Content-Length.
    let ask = "import httpx, sys
got = httpx.Client(http2=True, timeout=60).get(sys.argv[1], headers={'range': sys.argv[2]})
assert (got.status_code, got.http_version) == (206, 'HTTP/2'), got
print(got.text)";
    work.write("ask.py", ask);
    let ask = |range: &str| format!("'{}' ask.py '{url}' bytes={range}", python_tool("python3"));
    let script = format!(
        "{}; {NOT_RECORDED_YET}; {}; grep -q '/slow' .buildproxy/journal-*.jsonl",
        ask("0-499"),
        ask("3990-3999")
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    expect_requests(&origin, "/slow?ms=1500", 1);
    let whole = pattern(4000);
    assert_eq!(outcome.stdout, [&whole[..500], b"\n", &whole[3990..], b"\n"].concat());
    assert_eq!(work.inventory().one(&url).body("hash"), Some(sri(&whole).as_str()));
}

#[test]
fn a_client_that_does_not_read_on_holds_up_nobody_and_still_gets_it_all() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = r"import hashlib, http.client, os, sys, urllib.parse
proxy = urllib.parse.urlsplit(os.environ['http_proxy'])

def ask(fields):
    client = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=60)
    client.request('GET', sys.argv[1], headers=fields)
    return client.getresponse()

idle = ask({'Range': sys.argv[2]} if len(sys.argv) > 2 else {})
assert len(idle.read(10)) == 10
part = ask({'Range': 'bytes=-100'})
assert part.status == 206 and len(part.read()) == 100
print(hashlib.sha256(idle.read()).hexdigest())
";
    work.write("idle.py", script);
    for (path, range, rest) in
        [("/big?mib=96", "", 10..96 << 20), ("/big?mib=95", "bytes=5000000-89999999", 5_000_010..90_000_000)]
    {
        let url = origin.url(path);
        let outcome = work.capture_sh(&origin, &format!("python3 idle.py '{url}' {range}")).expect_code(0);
        assert!(outcome.peak_kib < MEMORY_KIB, "{} KiB", outcome.peak_kib);
        expect_requests(&origin, path, 1);
        let body = big(path[9..].parse().unwrap());
        assert_eq!(outcome.text().trim(), hex_digest(&body[rest]));
        assert_eq!(work.inventory().one(&url).body("hash"), Some(sri(&body).as_str()));
    }
}

#[test]
fn a_download_that_breaks_off_breaks_off_for_all_and_is_asked_for_again() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/slow-then-cut?ms=1500");
    let script = format!(
        "curl -sS -r 0-99 -o first '{url}'; \
         curl -sS -r 500-3999 -o broken -w '%{{http_code}} ' '{url}' || printf 'failed '; \
         curl -sS -r 500-3999 -o again -w '%{{http_code}}' '{url}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "206 failed 206");
    expect_requests(&origin, "/slow-then-cut?ms=1500", 2);
    let whole = pattern(4000);
    assert_eq!((work.read("first"), work.read("again")), (whole[..100].to_vec(), whole[500..].to_vec()));
    assert_eq!(work.inventory().one(&url).body("hash"), Some(sri(&whole).as_str()));
}

#[test]
fn where_the_disk_takes_nothing_several_parts_break_off_and_the_whole_and_one_part_arrive() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/big?mib=4");
    let script = format!(
        "curl -sS -m 60 -r 0-9,3000000- -o parts '{url}' || echo $?; \
         curl -sS -m 60 -r 3000000- -o part '{url}'; curl -sS -m 60 -o whole '{url}'"
    );
    let outcome = work.capture_sh(&origin, &without_a_spool(&work, &script)).expect_code(3);
    assert_ne!(outcome.text(), "28\n", "it hung");
    assert_ne!(outcome.text(), "", "it ended as if it were whole");
    assert!(work.read("whole") == big(4) && work.read("part") == big(4)[3_000_000..]);
    assert!(work.inventory().urls().is_empty());
    outcome.expect_stderr(&[&url, "could not be stored"]);
}

#[test]
fn what_the_disk_does_not_take_passes_in_bounded_memory_and_no_further_than_a_part_of_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/big?mib=256");
    // The second client has its part before the download fails: the spool must not come back in between.
    let script = format!(
        "curl -sSf '{url}' | sha256sum; curl -sSf -r 0-99 '{url}' | sha256sum; \
         timeout 60 sh -c 'until [ -e refused ]; do sleep 0.02; done'"
    );
    let script = without_a_spool(&work, &script);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the end of the second answer", || (origin.refused() == 1).then_some(()));
            fs::write(work.path("refused"), "").unwrap();
        });
        work.capture_sh(&origin, &script).expect_code(3)
    });
    assert!(outcome.peak_kib < MEMORY_KIB, "{} KiB", outcome.peak_kib);
    let body = big(256);
    let sums = [body.as_slice(), &body[..100]].map(|bytes| format!("{}  -\n", hex_digest(bytes)));
    assert_eq!(outcome.text(), sums.concat());
    outcome.expect_stderr(&[&url, "could not be stored"]);
}

#[test]
fn a_download_whose_file_was_taken_away_is_asked_for_again() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/big?mib=2");
    let script = format!(
        "curl -sSf -o whole '{url}'; rm '{}'/.*/journal-*/0; curl -sSf -r 1000000- -o part '{url}'",
        work.store().display()
    );
    work.capture_sh(&origin, &script);
    assert!(work.read("part") == big(2)[1_000_000..]);
    expect_requests(&origin, "/big?mib=2", 2);
}

#[test]
fn parts_of_an_answer_to_credentials_are_asked_for_anew() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/basic");
    let script = format!(
        "for range in 0-2 4-10; do curl -sSf -u {USER}:{PASSWORD} -r $range '{url}'; done; \
         curl -sS -u {USER}:wrong -r 0-2 -o /dev/null -w ' %{{http_code}}' '{url}'; \
         curl -sS -r 0-2 -o /dev/null -w ' %{{http_code}}' '{url}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "formembers 401 401");
    expect_requests(&origin, "/basic", 4);
    assert!(work.inventory().of(&url).iter().all(|entry| entry.status() != 200));
}

#[test]
fn an_origin_sends_no_more_of_an_answer_to_credentials_than_a_part_of_it_needs() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/big?mib=256");
    let ask = |range: &str| format!("curl -sSf -u {USER}:{PASSWORD} -r {range} '{url}' | sha256sum; ");
    let script = [ask("0-99"), ask("1000000-1999999"), ask("-100")].concat();
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    let body = big(256);
    let parts = [&body[..100], &body[1_000_000..2_000_000], &body[body.len() - 100..]];
    assert_eq!(outcome.text(), parts.map(|part| format!("{}  -\n", hex_digest(part))).concat());
    expect_requests(&origin, "/big?mib=256", 3);
    wait_for("the end of the first two", || (origin.refused() == 2).then_some(()));
    assert!(work.inventory().urls().is_empty());
}

#[test]
fn a_body_of_a_length_that_nobody_knows_is_sent_whole() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    for path in ["/chunked", "/until-close"] {
        let url = origin.url(path);
        let script = format!("curl -sSf -r 0-9 -o a -w '%{{http_code}} ' '{url}'; curl -sSf -r 5-6,8- -o b '{url}'");
        let outcome = work.capture_sh(&origin, &script).expect_code(0);
        assert_eq!(outcome.text(), "200 ", "{path}");
        assert_eq!(work.read("a"), work.read("b"), "{path}");
        expect_requests(&origin, path, 2);
        assert_eq!(work.inventory().one(&url).size(), Some(work.read("a").len() as i64), "{path}");
    }
}

#[test]
fn who_asks_for_the_whole_asks_the_origin_and_later_parts_are_of_the_newest() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (counter, cached) = (origin.url("/counter"), origin.url("/cached"));
    let script = format!(
        "curl -sSf -r 0-4 '{counter}'; curl -sSf '{counter}'; curl -sSf -r 6- '{counter}'; \
         for n in 1 2; do curl -sS -H 'If-None-Match: {ETAG}' -w ' %{{http_code}}' '{cached}'; done; \
         curl -sS -I -r 0-1 -o /dev/null -w ' %{{http_code}}' '{cached}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "countcount 2\n2\n 304 304 200");
    expect_requests(&origin, "/counter", 2);
    // Two revalidations and a HEAD.
    expect_requests(&origin, "/cached", 3);
    assert_eq!(work.inventory().of(&counter).len(), 2);
}

#[test]
fn parts_of_another_variant_are_of_another_download() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/vary");
    let ask = |accept: &str| format!("curl -sSf -r 0-5 -H 'Accept: {accept}' '{url}'; ");
    let script = [ask("text/plain"), ask("application/json"), ask("text/plain"), ask("application/json")].concat();
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), "kind: {\"kindkind: {\"kind");
    expect_requests(&origin, "/vary", 2);
    assert_eq!(work.inventory().of(&url).len(), 2);
}

#[test]
fn parts_behind_a_redirect_are_one_download_and_one_chain() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/redirect/1");
    let script = format!("for range in 0-99 500-599 900-; do curl -sSf -L -r $range '{url}'; done");
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    let whole = pattern(1000);
    assert_eq!(captured.stdout, [&whole[..100], &whole[500..600], &whole[900..]].concat());
    expect_requests(&origin, "/plain/end-of-chain?X-Amz-Signature=abc%2Fdef&X-Amz-Expires=5", 1);
    assert_eq!(work.inventory().urls(), [&url]);
    drop(origin);
    assert_eq!(work.replay_sh(&script).expect_code(0).stdout, captured.stdout);
}
