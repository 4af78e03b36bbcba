//! What is written down of a run: the access log, as a real analyser reads it, and the log for programs that collect such.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::common::{
    Awkward, Outcome, Workdir,
    http1::Http1,
    pattern,
    process::{Guard, wait_for},
    run,
    sending::{Sending, drain},
    serving::{Serving, inventory, text_entry},
    sri,
    workdir::behind,
};
use rustix::process::Signal;
use serde_json::Value;

const URL: &str = "http://h.test/a";

/// The lines of the access log, without those that are in the middle of being written.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// Status and bytes of a line.
fn status_and_bytes(line: &str) -> (u16, u64) {
    let behind = line.split('"').nth(2).unwrap_or_else(|| panic!("no line of the combined format: {line}"));
    let (status, bytes) = behind.trim().split_once(' ').unwrap();
    (status.parse().unwrap(), bytes.parse().unwrap())
}

/// What goaccess makes of an access log.
fn analysed(work: &Workdir, log: &Path) -> Value {
    let mut goaccess = work.command("goaccess");
    goaccess.arg(log).args(["--log-format=COMBINED", "--no-global-config", "--no-progress", "-o", "analysed.json"]);
    run(&mut goaccess).expect_code(0);
    serde_json::from_slice(&work.read("analysed.json")).unwrap()
}

/// A place with an inventory that answers [`URL`].
fn small() -> Workdir {
    let work = Workdir::new();
    work.write("inventory.toml", inventory(&[text_entry(URL, "hello")]));
    work
}

/// Replays a shell script with these arguments.
fn replay(work: &Workdir, arguments: &[&str], script: &str) -> Outcome {
    run(work.replaying().args(arguments).args(["--", "sh", "-euc", script]))
}

/// Every line of stderr, each of which has to be JSON.
#[track_caller]
fn events(outcome: &Outcome) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}: {outcome}"));
    outcome.stderr.lines().map(parse).collect()
}

#[test]
fn an_analyser_of_web_servers_logs_reads_every_line_and_finds_the_bytes_that_clients_got() {
    let body = pattern(3 << 20);
    let sending = Sending::by(
        &[(sri(&body), body.len() as u64)],
        |_, mut file| file.write_all(&body).unwrap(),
        |command| {
            command.args(["--access-log", "access.log", "--allow-misses"]);
        },
    );
    let work = &sending.serving.work;
    let mut got = Vec::new();
    let mut asked = |arguments: &[&str]| {
        let mut curl = sending.serving.curl();
        curl.args(["-o", "got", "-w", "%{response_code} %{size_download} %{http_version}"]);
        let seen = run(curl.args(arguments)).expect_code(0).text().to_owned();
        let mut words = seen.split(' ');
        let (status, size) = (words.next().unwrap().parse().unwrap(), words.next().unwrap().parse().unwrap());
        got.push((status, size));
        words.next().unwrap().to_owned()
    };
    // Sent by sendfile, encrypted, and in frames.
    asked(&["http://h.test/body0.bin"]);
    assert_eq!(asked(&["--http1.1", "https://h.test/body0.bin"]), "1.1");
    assert_eq!(asked(&["https://h.test/body0.bin"]), "2");
    asked(&["-r", "5-1000", "http://h.test/body0.bin"]);
    asked(&["-r", "0-9,1000000-1999999", "https://h.test/body0.bin"]);
    asked(&["-r", "9000000-", "http://h.test/body0.bin"]);
    asked(&["-I", "https://h.test/body0.bin"]);
    asked(&["-A", "a \"b\" \\ \t c", "-e", "http://r.test/?x=\"", "http://h.test/missed"]);
    let wget = |url: &str| {
        let mut wget = work.command("wget");
        wget.args(["-q", "-O", "got", "--ca-certificate"]).arg(&sending.serving.ca_file).arg(url);
        let proxy = format!("http://{}", sending.serving.address);
        run(wget.env("http_proxy", &proxy).env("https_proxy", &proxy)).expect_code(0);
    };
    wget("http://u:pw@h.test/body0.bin");
    wget("https://h.test/body0.bin");
    got.extend([(200, body.len() as u64), (200, body.len() as u64)]);
    let mut sending = sending;
    sending.serving.server.signal(Signal::TERM);
    assert_eq!(sending.serving.server.wait(Duration::from_secs(10)), Some(0));
    let work = &sending.serving.work;
    let log = work.path("access.log");
    let lines = lines(&log);
    let seen: Vec<_> = lines.iter().map(|line| status_and_bytes(line)).collect();
    assert_eq!(seen, got, "{lines:#?}");
    assert!(!lines.concat().contains("pw@"), "{lines:#?}");
    let analysed = analysed(work, &log);
    let general = &analysed["general"];
    let sum: u64 = got.iter().map(|(_, size)| size).sum();
    for (key, expected) in [
        ("total_requests", got.len() as u64),
        ("valid_requests", got.len() as u64),
        ("failed_requests", 0),
        ("unique_not_found", 1),
        ("bandwidth", sum),
    ] {
        assert_eq!(general[key], expected, "{key}: {general}");
    }
    assert!(analysed["requests"]["data"].to_string().contains("\"protocol\":\"HTTP/2\""), "{analysed}");
    let missed = analysed["not_found"]["data"][0]["data"].as_str().unwrap();
    assert_eq!(
        (missed, lines.iter().any(|line| line.contains(r"a \x22b\x22 \x5C \x09 c"))),
        ("http://h.test/missed", true)
    );
}

#[test]
fn a_client_that_leaves_or_is_cut_off_has_the_bytes_it_was_sent_and_one_without_an_answer_has_499() {
    const SIZE: u64 = 256 << 20;
    let body = [(sri(b"sparse"), SIZE)];
    let sending = Sending::by(
        &body,
        |_, file| file.set_len(SIZE).unwrap(),
        |command| {
            command.args(["--access-log", "access.log"]);
        },
    );
    let log = sending.serving.work.path("access.log");
    // An answer is over when it is, not when its connection is.
    let mut kept = Http1(sending.serving.connect());
    let missed = kept.ask("GET http://h.test/missed HTTP/1.1\nHost: h.test");
    let line = wait_for("the line", || lines(&log).pop());
    assert_eq!(status_and_bytes(&line), (404, missed.body.len() as u64), "{line}");
    assert_eq!(missed.header("buildproxy-request"), line.split(' ').nth(1), "{line}");
    for (scheme, count) in [("http", 2), ("https", 3)] {
        let mut client = sending.ask(scheme, "");
        client.read_exact(&mut vec![0; 300_000]).unwrap();
        drop(client);
        let line = wait_for("the line", || lines(&log).get(count - 1).cloned());
        let (status, bytes) = status_and_bytes(&line);
        assert!(status == 200 && (290_000..SIZE / 2).contains(&bytes), "{line}");
    }
    // A tunnel that was of no use.
    let mut curl = sending.serving.curl();
    run(curl.args(["--cacert", "/dev/null", "https://h.test/body0.bin"]));
    let line = wait_for("the line", || lines(&log).get(3).cloned());
    assert!(line.contains("\"CONNECT h.test:443 HTTP/1.1\" 499 0 "), "{line}");
    // Those that the end of the server cuts off.
    let mut sending = sending;
    let slow = ["--http1.1", "--http2"].map(|version| {
        let mut curl = sending.serving.curl();
        curl.args([version, "--limit-rate", "1M", "-o", version, "https://h.test/body0.bin"]).stderr(Stdio::null());
        Guard(curl.spawn().unwrap())
    });
    for version in ["--http1.1", "--http2"] {
        let file = sending.serving.work.path(version);
        wait_for("the first bytes", || fs::metadata(&file).ok().filter(|file| file.len() > 0));
    }
    sending.serving.server.signal(Signal::TERM);
    assert_eq!(sending.serving.server.wait(Duration::from_secs(10)), Some(4), "a request was missed");
    let lines = lines(&log);
    for protocol in ["HTTP/1.1", "HTTP/2.0"] {
        let line = lines[4..].iter().find(|line| line.contains(protocol)).unwrap_or_else(|| panic!("{lines:#?}"));
        let (status, bytes) = status_and_bytes(line);
        assert!(status == 200 && (1..SIZE).contains(&bytes), "{line}");
    }
    assert_eq!(lines.len(), 6, "{lines:#?}");
    drop((slow, kept));
}

#[test]
fn a_body_that_breaks_while_it_is_sent_is_told_of_with_the_number_of_its_request() {
    const SIZE: u64 = 256 << 20;
    for scheme in ["http", "https"] {
        let stderr = tempfile::NamedTempFile::new().unwrap();
        let make = |_: usize, file: &fs::File| file.set_len(SIZE).unwrap();
        let sending = Sending::by(&[(sri(b"sparse"), SIZE)], make, |command| {
            command.stderr(stderr.reopen().unwrap());
        });
        let mut client = sending.ask(scheme, "");
        client.read_exact(&mut [0; 1000]).unwrap();
        let body = &sending.files[0];
        fs::set_permissions(body, fs::Permissions::from_mode(0o644)).unwrap();
        fs::File::options().write(true).open(body).unwrap().set_len(2000).unwrap();
        // However the connection ends.
        let _cut_off = drain(&mut client);
        let line = wait_for("the line", || {
            let said = fs::read_to_string(stderr.path()).unwrap();
            said.lines().find(|line| line.contains("broken body")).map(str::to_owned)
        });
        let request = if scheme == "http" { "request=1.1" } else { "request=1.2" };
        assert!(line.contains("ERROR") && line.ends_with(request), "{line}");
    }
}

#[test]
fn a_log_that_cannot_be_written_changes_nothing_but_that_this_is_said_once() {
    let work = small();
    let script = format!("for n in 1 2 3; do curl -sSf '{URL}'; done");
    let lost = |outcome: &Outcome, log: &str, why: &str| {
        assert_eq!(outcome.text(), "hellohellohello", "{outcome}");
        assert_eq!(outcome.stderr.matches("are lost: ").count(), 1, "{outcome}");
        let [first, last] = [
            format!("lines of the access log {log} are lost: {why}"),
            format!("3 lines of the access log {log} were lost"),
        ];
        assert!(outcome.stderr.contains(&first) && outcome.stderr.contains(&last), "{outcome}");
    };
    lost(&replay(&work, &["--access-log", "/dev/full"], &script).expect_code(0), "/dev/full", "No space left");
    run(work.command("mkfifo").arg("pipe")).expect_code(0);
    lost(&replay(&work, &["--access-log", "pipe"], &script).expect_code(0), "pipe", "nobody takes the rest");
    // With a reader, even one that comes late, it has them all.
    let late = format!("{script}; cat pipe >read & until [ -s read ]; do sleep 0.01; done");
    replay(&work, &["--access-log", "pipe"], &late).expect_code(0);
    let read = wait_for("the reader", || Some(lines(&work.path("read"))).filter(|lines| lines.len() == 3));
    assert!(read.iter().all(|line| status_and_bytes(line) == (200, 5)), "{read:?}");
    // Other places that are no files.
    let piped = replay(&work, &["--access-log", "/dev/stdout"], &format!("curl -sSf -o /dev/null '{URL}'"));
    assert_eq!(status_and_bytes(piped.expect_code(0).text()), (200, 5));
    let shown = replay(&work, &["--access-log", "-"], &format!("curl -sSf '{URL}'")).expect_code(0);
    assert_eq!((shown.text(), status_and_bytes(shown.stderr.trim_end())), ("hello", (200, 5)));
    replay(&work, &["--access-log", "no/such/folder"], "true")
        .expect_code(2)
        .expect_stderr(&["no/such/folder", "hint: "]);
    replay(&work, &["--access-log", "inventory.toml"], "true")
        .expect_code(2)
        .expect_stderr(&["is the inventory itself"]);
}

#[test]
fn the_log_for_programs_is_an_object_a_line_and_a_request_has_its_number_in_all_of_them() {
    let work = small();
    let script = format!("curl -sS '{URL}'; curl -sS -D head -o /dev/null 'https://h.test/b?token=s3cret-of-mine'");
    let arguments = ["--log-format", "json", "-v", "--access-log", "-"];
    let outcome = replay(&work, &arguments, &script).expect_code(4);
    assert_eq!(outcome.text(), "hello");
    // jq takes what we take for JSON, and finds each thing by one name.
    work.write("stderr", &outcome.stderr);
    let jq = |filter: &str| run(work.command("jq").args(["-r", filter, "stderr"])).expect_code(0).text().to_owned();
    let stamped = r#"select(.timestamp | test("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}[.][0-9]+Z$")) | select(.level and .target and .message) | .level"#;
    let events = events(&outcome);
    assert_eq!(jq(stamped).lines().count(), events.len(), "{outcome}");
    let hits = jq(r#"select(.message == "hit") | .request + " " + .method + " " + .url + " " + (.status | tostring)"#);
    assert_eq!(hits, format!("1.1 GET {URL} 200\n"));
    let missed = jq(r#"select(.message | startswith("miss: ")) | select(.level == "WARN") | .request"#);
    let head = String::from_utf8(work.read("head")).unwrap();
    let told = head.lines().find_map(|line| line.strip_prefix("buildproxy-request: ")).map(|id| id.trim_end());
    assert_eq!(Some(missed.trim_end()), told, "{head}");
    let accesses = jq(r#"select(.bytes) | .request + " " + .url + " " + (.status | tostring)"#);
    let dummy = "https://h.test/b?token=buildproxy-dummy-token";
    assert_eq!(accesses, format!("1.1 {URL} 200\n{} {dummy} 404\n", missed.trim_end()));
    assert!(!outcome.stderr.contains("s3cret"), "{outcome}");
    let report = jq(r#"select(.report) | .level + " " + (.report."requests-missed" | tostring) + " " + .message"#);
    assert_eq!(report, "WARN 1 replay: 1 request answered from 1 of 1 entry, 1 miss\n");
    // The same number for people, and none in what was recorded.
    let outcome = replay(&work, &[], &format!("curl -sS -o /dev/null {URL}/; curl -sS -D head -o /dev/null '{URL}'"));
    assert!(outcome.stderr.contains("request=1.1\n"), "{outcome}");
    assert!(!String::from_utf8(work.read("head")).unwrap().contains("buildproxy"));
}

#[test]
fn errors_and_hints_are_objects_too_whatever_goes_wrong() {
    let work = small();
    let failing = |arguments: &[&str], code: i32| {
        let outcome =
            run(work.buildproxy("replay").args(arguments).env("BUILDPROXY_LOG_FORMAT", "json")).expect_code(code);
        events(&outcome)
    };
    let said = failing(&["-i", "other.toml", "--", "true"], 2);
    assert_eq!((&said[0]["level"], said.len()), (&"ERROR".into(), 2), "{said:?}");
    assert!(said[1]["message"].as_str().unwrap().starts_with("hint: "), "{said:?}");
    let said = failing(&["--listen", "127.0.0.1:1", "--nonsense"], 2);
    assert!(said[0]["message"].as_str().unwrap().starts_with("unexpected argument '--nonsense'"), "{said:?}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = failing(&["--listen", &taken.local_addr().unwrap().to_string(), "--", "true"], 3);
    assert!(said[0]["hint"].as_str().unwrap().starts_with("leave `--listen` out"), "{said:?}");
    let said = failing(&["--", "/no/such/program"], 127);
    assert_eq!(said[0]["level"], "ERROR", "{said:?}");
    // The option wins, and the form of the other variable is the same.
    let text =
        run(work.buildproxy("replay").args(["--log-format", "text", "-i", "no"]).env("BUILDPROXY_LOG_FORMAT", "json"));
    text.expect_code(2).expect_stderr(&["error: ", "\nhint: "]);
    run(work.buildproxy("replay").env("BUILDPROXY_LOG_FORMAT", "xml")).expect_code(2).expect_stderr(&["'xml'", "json"]);
}

#[test]
fn a_capture_has_both_logs_and_its_summary_in_them() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (plain, private) = (origin.tls_url("/plain/a"), origin.url("/plain/b?api_key=k3y-of-mine"));
    let script =
        format!("curl -sSf -o a '{plain}'; curl -sSf -o b '{private}'; curl -sS -o c http://127.0.0.1:1/; exit 7");
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--log-format", "json", "-v", "--access-log", "access.log", "--", "sh", "-euc", &script]);
    let outcome = run(&mut command).expect_code(7);
    let events = events(&outcome);
    let with = |text: &str| events.iter().find(|event| event["message"].as_str().unwrap().contains(text));
    let found = |text: &str| with(text).unwrap_or_else(|| panic!("{text}: {outcome}"));
    assert_eq!(found("captured 1 answer from 1 host")["level"], "INFO");
    assert_eq!(found("is not recorded: ")["level"], "WARN");
    assert!(!outcome.stderr.contains("k3y"), "{outcome}");
    let lines = lines(&work.path("access.log"));
    let seen: Vec<_> = lines.iter().map(|line| status_and_bytes(line)).map(|(status, _)| status).collect();
    assert_eq!(seen, [200, 200, 502], "{lines:?}");
    assert!(lines[0].contains(&format!("\"GET {plain} HTTP/2.0\" 200 1000 ")), "{lines:?}");
    assert!(lines[1].contains("/plain/b?api_key=buildproxy-dummy-token HTTP/1.1\""), "{lines:?}");
    // In the task that asks the origin as well.
    let asked = found("the origin could not be asked");
    assert_eq!(lines[2].split(' ').nth(1), asked["request"].as_str(), "{lines:?} {asked}");
}

#[test]
fn a_server_in_the_background_has_them_as_well_and_so_has_an_isolated_command() {
    let work = small();
    let mut command = work.replaying();
    command.args(["--log-format", "json", "--access-log", "access.log"]);
    let script = format!(
        "eval \"$(\"$@\" --background --parent-pid $$)\"; curl -sSf '{URL}'; \"$1\" stop --log-format json --json"
    );
    let outcome = run(&mut behind(&["sh", "-euc", &script, "sh"], &command)).expect_code(0);
    assert_eq!(events(&outcome)[0]["report"]["requests-answered"], 1, "{outcome}");
    let report: Value = serde_json::from_str(outcome.text().trim_start_matches("hello")).unwrap();
    assert_eq!(report["requests-answered"], 1);
    assert_eq!(lines(&work.path("access.log")).len(), 1);
    // It would hold up whoever waits for the end of that.
    let refused = run(work.replaying().args(["--background", "--access-log", "/dev/stdout"])).expect_code(2);
    refused.expect_stderr(&["no stdout", "hint: "]);
    if cfg!(target_os = "linux") {
        let arguments = ["--isolate", "--log-format", "json", "--access-log", "access.log"];
        let outcome = replay(&work, &arguments, &format!("curl -sSf '{URL}'")).expect_code(0);
        assert_eq!((outcome.text(), events(&outcome).len()), ("hello", 1), "{outcome}");
        let lines = lines(&work.path("access.log"));
        assert_eq!((lines.len(), status_and_bytes(&lines[1])), (2, (200, 5)), "it is appended to: {lines:?}");
        let outcome = run(work.replaying().args(arguments).args(["--", "/no/such/program"])).expect_code(127);
        assert!(events(&outcome)[0]["message"].as_str().unwrap().starts_with("cannot run"), "{outcome}");
    }
}

#[test]
fn every_line_of_a_flood_is_there_when_the_server_has_ended_and_whole_in_a_file_that_others_write_to() {
    let work = small();
    let text = fs::read_to_string(work.path("inventory.toml")).unwrap();
    let mut serving = Serving::start_in(work, text.trim_start_matches("version = 1\n"), |command| {
        command.args(["--access-log", "access.log"]);
    });
    let log = serving.work.path("access.log");
    let mut other = Guard(
        Command::new("sh")
            .arg("-c")
            .arg("while echo other; do sleep 0.001; done >>\"$1\"")
            .arg("sh")
            .arg(&log)
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut h2load = serving.work.command("h2load");
    h2load.args(["--h1", "-n", "2000", "-c", "8", "-t", "1"]).arg(format!("http://{}/health", serving.address));
    run(&mut h2load).expect_code(0);
    serving.server.signal(Signal::TERM);
    assert_eq!(serving.server.wait(Duration::from_secs(10)), Some(0));
    other.0.kill().unwrap();
    other.0.wait().unwrap();
    let lines = lines(&log);
    let ours: Vec<_> = lines.iter().filter(|line| *line != "other").collect();
    assert!(lines.len() > ours.len(), "the other did not write");
    assert_eq!(ours.len(), 2000);
    assert!(ours.iter().all(|line| status_and_bytes(line).0 == 200 && line.starts_with("127.0.0.1 ")));
}
