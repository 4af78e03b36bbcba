//! What a replay answers when the origin is gone.

use std::fs;

use crate::common::{
    Awkward, Workdir,
    awkward::answers::{ETAG, MODIFIED},
    in_empty_network, pattern, run,
};

#[test]
fn every_kind_of_answer_comes_back_as_it_was_where_there_is_no_network() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let paths = [
        "/plain/a",
        "/chunked",
        "/gzip",
        "/gzip-always",
        "/missing",
        "/no-content",
        "/empty",
        "/redirect/3",
        "/until-close",
        "/http-1.0",
        "/cached",
        "/odd-headers",
        "/restless-headers",
        "/vary",
    ];
    let urls: Vec<_> = paths.iter().flat_map(|path| [origin.url(path), origin.tls_url(path)]).collect();
    let mut script = "mkdir -p $OUT; n=0; ".to_owned();
    for url in &urls {
        script += &format!("n=$((n+1)); curl -sSL -o $OUT/$n -D $OUT/$n.head '{url}'; ");
    }
    script += &format!("curl -sSf -d body -o $OUT/post '{}'; ", origin.tls_url("/echo"));
    script += &format!("curl -sSf -L -d body -o $OUT/post-307 '{}'; ", origin.tls_url("/temporary"));
    script += &format!("curl -sSf -L -d body -o $OUT/post-303 '{}'", origin.url("/see-other"));
    work.capture_sh(&origin, &format!("OUT=captured; {script}")).expect_code(0);
    drop(origin);
    work.replay_sh(&format!("OUT=replayed; {script}")).expect_code(0);
    let mut compared = 0;
    for file in fs::read_dir(work.path("replayed")).unwrap().map(|file| file.unwrap().file_name()) {
        let name = file.to_str().unwrap();
        let replayed = work.read(&format!("replayed/{name}"));
        if name.ends_with(".head") {
            assert!(!String::from_utf8_lossy(&replayed).to_lowercase().contains("\ndate:"), "{name}");
        } else {
            assert_eq!(replayed, work.read(&format!("captured/{name}")), "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, urls.len() + 3);
}

#[test]
fn status_and_headers_are_those_recorded() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (odd, missing) = (origin.url("/odd-headers"), origin.tls_url("/missing"));
    work.capture_sh(&origin, &format!("curl -sS -o /dev/null '{odd}' '{missing}'")).expect_code(0);
    drop(origin);
    let script = format!("curl -sS -i --http1.1 '{odd}'; curl -sS --http1.1 -i '{missing}' | sed 's/^/M /'");
    let outcome = work.replay_sh(&script).expect_code(0);
    let has = |line: &str| assert!(outcome.text().lines().any(|l| l.trim_end() == line), "`{line}` in {outcome}");
    has("link: </a>; rel=\"next\"");
    has("link: </b>; rel=\"last\"");
    has("x-nix: ${builtins.abort \"no\"} ''${x}");
    has("x-utf8: grüße — ✓");
    has("content-length: 4");
    has("M content-type: text/plain");
    has("M there is no such thing");
    assert!(outcome.text().contains("M HTTP/1.1 404"), "{outcome}");
}

#[test]
fn the_same_request_gets_the_same_bytes_every_time_in_both_protocols() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/cached");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    let script = format!(
        "for n in 1 2; do for v in 1.1 2; do curl -sSf --http$v -i -o $n.$v '{url}' -w '%{{http_version}} '; sleep 1.1; done; done"
    );
    let versions = work.replay_sh(&script).expect_code(0);
    assert_eq!(versions.text(), "1.1 2 1.1 2 ");
    for version in ["1.1", "2"] {
        assert_eq!(work.read(&format!("1.{version}")), work.read(&format!("2.{version}")), "HTTP/{version}");
    }
}

#[test]
fn replay_never_connects_to_the_origin_whatever_it_is_asked() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (known, unknown) = (origin.url("/plain/known"), origin.url("/plain/unknown"));
    let (known_tls, unknown_tls) = (origin.tls_url("/plain/known"), origin.tls_url("/plain/unknown"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{known}' '{known_tls}'")).expect_code(0);
    let before = origin.connections();
    let script = format!(
        "for url in '{known}' '{unknown}' '{known_tls}' '{unknown_tls}'; do curl -sS -o /dev/null $url; \
         curl -sS -o /dev/null -d x $url; curl -sS -I -o /dev/null $url; curl -sS -p -o /dev/null $url; done; \
         curl -sS -p -o /dev/null --max-time 5 '{}' || true",
        known_tls.replace("https", "http")
    );
    // The origin is alive and reachable here: that nobody asked it is its own count.
    run(work.replaying().args(["--allow-misses", "--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(origin.connections(), before);
}

#[test]
fn a_miss_explains_itself_and_fails_the_run() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (known, asked) = (origin.url("/plain/known-1.0.tar.gz"), origin.url("/plain/known-1.1.tar.gz"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{known}'")).expect_code(0);
    let script = format!("curl -sS -w ' %{{http_code}} %{{content_type}}' '{asked}'; curl -sSf -o /dev/null '{known}'");
    let missed = work.replay_sh(&script).expect_code(4).expect_stderr(&[&asked]);
    assert!(missed.text().contains(" 404 text/plain"), "{missed}");
    assert!(missed.text().contains(&asked) && missed.text().contains(&known), "asked and nearest: {missed}");
    let failed = work.replay_sh(&format!("curl -sSf '{asked}'"));
    assert_eq!(failed.code, 22, "the command's own failure comes first: {failed}");
    let mut allowed = work.replaying();
    let allowed = allowed.args(["--allow-misses", "--miss-status", "503", "--", "sh", "-euc", &script]);
    let allowed = run(allowed).expect_code(0).expect_stderr(&[&asked]);
    assert!(allowed.text().contains(" 503 "), "{allowed}");
}

#[test]
fn a_miss_says_what_differs() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (echo, vary) = (origin.url("/echo"), origin.url("/vary"));
    work.capture_sh(&origin, &format!("curl -sSf -d one '{echo}'; curl -sSf -H 'Accept: text/plain' '{vary}'"))
        .expect_code(0);
    let script = format!(
        "curl -sS -d two -w '\\n--\\n' '{echo}'; curl -sS -X PUT -d one -w '\\n--\\n' '{echo}'; curl -sS -H 'Accept: image/png' '{vary}'"
    );
    let outcome = work.replay_sh(&script).expect_code(4);
    let parts: Vec<_> = outcome.text().split("\n--\n").collect();
    assert!(parts[0].contains("body"), "{outcome}");
    assert!(parts[1].contains("PUT") && parts[1].contains("POST"), "{outcome}");
    assert!(parts[2].to_lowercase().contains("accept") && parts[2].contains("image/png"), "{outcome}");
}

#[test]
fn entries_that_nobody_asked_for_are_listed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (used, unused) = (origin.url("/plain/used"), origin.url("/plain/idle"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{used}' -o /dev/null '{unused}'")).expect_code(0);
    let outcome = work.replay_sh(&format!("curl -sSf -o /dev/null '{used}'")).expect_code(0);
    let (of_use, of_rest) = outcome.stderr.split_once("unused entries:").unwrap_or_else(|| panic!("{outcome}"));
    assert!(of_rest.contains(&unused) && !of_rest.contains(&used), "{outcome}");
    assert!(of_use.contains(&used) && !of_use.contains(&unused), "{outcome}");
}

#[test]
fn urls_are_compared_by_meaning() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/~file?b=2&a=1");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    for spelling in ["/plain/%7Efile?b=2&a=1", "/plain/x/../~file?b=2&a=1", "/plain/~file?b=2&a=1#part"] {
        let spelled = origin.url(spelling).replace("localhost", "LOCALHOST");
        work.replay_sh(&format!("curl -sSf --path-as-is -o got '{spelled}'")).expect_code(0);
        assert_eq!(work.read("got"), pattern(1000), "{spelling}");
    }
    work.replay_sh(&format!("curl -sS -o got '{}'", origin.url("/plain/~file?a=1&b=2"))).expect_code(4);
}

#[test]
fn head_ranges_and_conditionals_are_answered_from_the_recorded_get() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/cached");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    drop(origin);
    let ask = |arguments: &str| {
        let outcome = work.replay_sh(&format!("curl -sS -w '%{{http_code}}' -D head -o got {arguments} '{url}'"));
        let head = String::from_utf8(work.read("head")).unwrap().to_lowercase();
        let body = fs::read(work.path("got")).unwrap_or_default();
        let _removed = fs::remove_file(work.path("got"));
        (outcome.expect_code(0).text().to_owned(), head, body)
    };
    let whole = pattern(2000);
    let (code, head, _) = ask("-I");
    assert!(code == "200" && head.contains("content-length: 2000\r\n") && head.contains("etag: \"v1-etag\""), "{head}");
    let (code, head, body) = ask("-r 100-199");
    assert_eq!((code.as_str(), body.as_slice()), ("206", &whole[100..200]));
    assert!(head.contains("content-range: bytes 100-199/2000"), "{head}");
    let (code, _, body) = ask("-r -50");
    assert_eq!((code.as_str(), body.as_slice()), ("206", &whole[1950..]));
    let (code, head, _) = ask("-r 2000-");
    assert!(code == "416" && head.contains("content-range: bytes */2000"), "{head}");
    let (code, head, body) = ask("-r 0-9,20-29");
    let text = String::from_utf8(body).unwrap();
    assert!(code == "206" && head.contains("content-type: multipart/byteranges; boundary="), "{head}");
    for (range, part) in [("0-9", &whole[..10]), ("20-29", &whole[20..30])] {
        assert!(text.to_lowercase().contains(&format!("content-range: bytes {range}/2000")), "{text}");
        assert!(text.contains(std::str::from_utf8(part).unwrap()), "{text}");
    }
    for fresh in
        [format!("If-None-Match: {ETAG}"), "If-None-Match: *".to_owned(), format!("If-Modified-Since: {MODIFIED}")]
    {
        let (code, _, body) = ask(&format!("-H '{fresh}'"));
        assert_eq!((code.as_str(), body.len()), ("304", 0), "{fresh}");
    }
    let (code, _, body) = ask("-H 'If-None-Match: \"other\"'");
    assert_eq!((code.as_str(), body.len()), ("200", 2000));
    for (validator, expected) in [(ETAG, "206"), (MODIFIED, "206"), ("\"other\"", "200")] {
        assert_eq!(ask(&format!("-r 0-9 -H 'If-Range: {validator}'")).0, expected, "{validator}");
    }
}

#[test]
fn a_sequence_is_answered_in_order_and_its_last_repeats() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/counter");
    work.capture_sh(&origin, &format!("curl -sSf '{url}'; curl -sSf '{url}'; curl -sSf '{url}'")).expect_code(0);
    let script = format!(
        "curl -sSf '{url}'; curl -sSf -I '{url}' >/dev/null; curl -sSf -r 0-3 '{url}' >/dev/null; \
         curl -sSf '{url}'; curl -sSf '{url}'; curl -sSf '{url}'"
    );
    assert_eq!(work.replay_sh(&script).expect_code(0).text(), "count 1\ncount 2\ncount 3\ncount 3\n");
}

#[test]
fn each_hop_of_a_chain_answers_for_itself() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/redirect/3");
    work.capture_sh(&origin, &format!("curl -sSf -L -o /dev/null '{url}'")).expect_code(0);
    let hop = origin.url("/redirect/1?relative");
    let script = format!(
        "curl -sS -o /dev/null -w '%{{http_code}} %{{redirect_url}}\\n' '{url}'; \
         curl -sS -I -o /dev/null -w '%{{http_code}}\\n' '{url}'; \
         curl -sS -L -o got -w '%{{num_redirects}}\\n' '{hop}'"
    );
    let outcome = work.replay_sh(&script).expect_code(0);
    assert_eq!(outcome.text(), format!("302 {}\n302\n1\n", origin.url("/redirect/2")));
    assert_eq!(work.read("got"), pattern(1000));
}

#[test]
fn a_missing_or_short_body_is_a_500_that_says_so_and_fails_even_an_allowed_run() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/wanted?size=50000");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    let files = fs::read_dir(work.store()).unwrap().map(|file| file.unwrap().path());
    let file = files.into_iter().find(|path| path.to_string_lossy().ends_with("-wanted")).unwrap();
    let replay = |more: &[&str]| {
        let script = format!("curl -sS -w ' %{{http_code}}' '{url}'");
        run(work.replaying().args(more).args(["--", "sh", "-euc", &script]))
    };
    let spoil = |bytes: &[u8]| {
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    };
    let name = file.file_name().unwrap().to_str().unwrap();
    spoil(&pattern(49_999));
    let short = replay(&["--allow-misses"]).expect_code(4).expect_stderr(&[name]);
    assert!(short.text().ends_with(" 500") && short.text().contains("49999"), "{short}");
    let mut altered = pattern(50_000);
    altered[77] ^= 1;
    spoil(&altered);
    let checked = replay(&["--check-bodies"]).expect_code(4).expect_stderr(&[name]);
    assert!(checked.text().ends_with(" 500"), "{checked}");
    spoil(&pattern(50_000));
    replay(&["--check-bodies"]).expect_code(0);
    fs::remove_file(&file).unwrap();
    let missing = replay(&["--allow-misses"]).expect_code(4).expect_stderr(&[name]);
    assert!(missing.text().ends_with(" 500"), "{missing}");
}

#[test]
fn clients_of_http_1_0_and_of_plain_http_in_a_tunnel_are_served() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (plain, secure) = (origin.url("/chunked"), origin.tls_url("/chunked"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{plain}' -o /dev/null '{secure}'")).expect_code(0);
    let script =
        format!("curl -sSf --http1.0 -o a '{plain}'; curl -sSf -p -o b '{plain}'; curl -sSf --http1.0 -o c '{secure}'");
    run(&mut in_empty_network(work.replaying().args(["--", "sh", "-euc", &script]))).expect_code(0);
    for name in ["a", "b", "c"] {
        assert_eq!(work.read(name), pattern(5000), "{name}");
    }
}

#[test]
fn answers_that_one_chain_and_another_request_share_are_not_mixed_up() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!(
        "curl -sS '{0}'; curl -sSL '{1}'; curl -sSL '{1}'; curl -sSL '{2}'; \
         curl -sSL -d one=1 '{3}'; curl -sSL -d one=1 '{4}'",
        origin.url("/counter"),
        origin.url("/to-counter"),
        origin.url("/to-itself"),
        origin.url("/moved"),
        origin.url("/temporary"),
    );
    let captured = work.capture_sh(&origin, &script).expect_code(0).text().to_owned();
    assert_eq!(captured, "count 1\ncount 2\ncount 3\narrived\nGET \nPOST one=1\n");
    run(&mut work.buildproxy("verify")).expect_code(0);
    let echo = origin.url("/echo");
    drop(origin);
    assert_eq!(work.replay_sh(&script).expect_code(0).text(), captured);
    let miss = work.replay_sh(&format!("curl -sS -d two=2 '{echo}'")).expect_code(4);
    assert!(miss.text().contains("no recorded answer"), "{miss}");
}

#[test]
fn a_miss_has_the_status_of_an_error_so_that_its_explanation_can_be_sent() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n");
    for status in ["204", "304", "200"] {
        let mut command = work.replaying();
        run(command.args(["--miss-status", status, "--", "touch", "started"])).expect_code(2).expect_stderr(&[status]);
        assert!(!work.path("started").exists());
    }
}
