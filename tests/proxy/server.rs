//! Replay as a server: with an environment file, in the background, and its ends; and the environment for others to use.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    common::{
        Awkward, Workdir, pattern,
        process::{Guard, wait_for},
        run,
    },
    shows,
};
use rustix::process::Signal;

/// A place with an inventory of one file, and the file's URL.
fn captured() -> (Workdir, String, Awkward) {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/served");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    (work, url, origin)
}

/// A running server that has written its environment file, as it was when it first appeared.
fn serving(work: &Workdir) -> (Guard, String) {
    let server = Guard(work.replaying().args(["--env-file", "env.sh"]).spawn().unwrap());
    let text = wait_for("the environment file", || fs::read_to_string(work.path("env.sh")).ok());
    (server, text)
}

#[test]
fn the_environment_file_appears_whole_when_the_server_is_ready() {
    let (work, url, _origin) = captured();
    let (_server, text) = serving(&work);
    assert!(
        text.lines().all(|line| line.starts_with("export ") || line.starts_with("unset ") || line.starts_with('#')),
        "{text}"
    );
    let script = format!(". ./env.sh; curl -sSf -o got '{url}'");
    run(work.command("sh").args(["-euc", &script])).expect_code(0);
    assert_eq!(work.read("got"), pattern(1000));
    assert_eq!(text.as_bytes(), work.read("env.sh"), "it was whole when it appeared");
}

#[test]
fn sigterm_and_sigint_end_a_server_within_two_seconds() {
    let mut most = Duration::ZERO;
    for signal in [Signal::TERM, Signal::INT] {
        let (work, url, _origin) = captured();
        let (mut server, _) = serving(&work);
        // A connection that is kept open must not hold it.
        let script = format!(
            ". ./env.sh; port=${{http_proxy##*:}}; exec 3<>\"/dev/tcp/127.0.0.1/${{port%/}}\"; \
             curl -sSf -o /dev/null '{url}'; touch connected; exec sleep 30"
        );
        let _client = Guard(work.command("bash").args(["-euc", &script]).spawn().unwrap());
        wait_for("the client", || work.path("connected").exists().then_some(()));
        let start = Instant::now();
        server.signal(signal);
        assert_eq!(server.wait(Duration::from_secs(2)), Some(0), "{signal:?}");
        most = most.max(start.elapsed());
    }
    shows!(Replay, "a server with a connection that is kept open", "at most {} ms", most.as_millis());
}

#[test]
fn a_server_that_had_misses_ends_with_4() {
    let (work, url, _origin) = captured();
    let (mut server, _) = serving(&work);
    let script = format!(". ./env.sh; curl -sS -o /dev/null '{url}-unknown'");
    run(work.command("sh").args(["-euc", &script])).expect_code(0);
    server.signal(Signal::TERM);
    assert_eq!(server.wait(Duration::from_secs(2)), Some(4));
}

/// `script`, where `$start` starts a server in the background and `$stop` stops it.
fn background(work: &Workdir, script: &str) -> crate::common::Outcome {
    let mut command = work.command("sh");
    command.env("PROGRAM", env!("CARGO_BIN_EXE_buildproxy")).env("STORE", work.store());
    let start = "start() { environment=$(\"$PROGRAM\" replay --background --parent-pid $$ --proxy-loopback --store \"$STORE\" \
                 \"$@\") && eval \"$environment\"; }; stop() { \"$PROGRAM\" stop; }";
    run(command.args(["-euc", &format!("{start}\n{script}")]))
}

#[test]
fn a_background_server_is_ready_when_its_start_returns_and_stop_reports() {
    let (work, url, _origin) = captured();
    let script = format!("start; curl -sSf -o got '{url}'; stop; if curl -sS '{url}' -o /dev/null; then exit 9; fi");
    let outcome = background(&work, &script).expect_code(0);
    assert_eq!(work.read("got"), pattern(1000));
    assert!(!outcome.stderr.is_empty(), "the report: {outcome}");
}

#[test]
fn stop_has_the_exit_code_of_the_run() {
    let (work, url, _origin) = captured();
    let script = format!("start; curl -sS -o /dev/null '{url}-unknown'; stop");
    background(&work, &script).expect_code(4).expect_stderr(&[&format!("{url}-unknown")]);
    background(&work, &script.replace("start;", "start --allow-misses;")).expect_code(0);
}

#[test]
fn a_background_server_ends_with_its_parent() {
    let (work, _url, _origin) = captured();
    let outcome = background(&work, "start; echo \"${http_proxy##*:}\"").expect_code(0);
    let port: u16 = outcome.text().trim().trim_end_matches('/').parse().unwrap();
    wait_for("the end of the server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()));
    let left = || fs::read_dir(work.root().join("tmp")).unwrap().count();
    wait_for("an empty temporary folder", || (left() == 0).then_some(()));
}

#[test]
fn a_background_server_keeps_no_descriptor_of_its_caller() {
    let (work, ..) = captured();
    // The reader of the pipe ends when its last writer has; a server with descriptor 3 would be one.
    let outcome = background(&work, "(exec 3>&1; start; echo ready) | cat; kill -0 $$").expect_code(0);
    assert_eq!(outcome.text().trim(), "ready");
}

#[test]
fn a_background_server_that_cannot_start_says_why_and_fails() {
    let (work, _url, _origin) = captured();
    work.write("inventory.toml", "version = 9\n");
    background(&work, "start").expect_code(2).expect_stderr(&["inventory.toml:1"]);
}

#[test]
fn two_servers_at_once_do_not_meet() {
    let (work, url, _origin) = captured();
    let script = format!(
        "start; first=$http_proxy; (start; test \"$http_proxy\" != \"$first\"; curl -sSf -o b '{url}'; stop); \
         curl -sSf -o a '{url}'; stop"
    );
    background(&work, &script).expect_code(0);
    assert_eq!((work.read("a"), work.read("b")), (pattern(1000), pattern(1000)));
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let (work, ..) = captured();
    for arguments in [
        ["--env-file", "env.sh", "--", "touch", "started"].as_slice(),
        &["--parent-pid", "1", "--", "touch", "started"],
        &["--background", "--", "touch", "started"],
    ] {
        run(work.replaying().args(arguments)).expect_code(2).expect_stderr(&[arguments[0], "cannot be used with"]);
        assert!(!work.path("started").exists(), "{arguments:?}");
    }
}

#[test]
fn a_background_server_writes_its_environment_file_as_well() {
    let (work, url, _origin) = captured();
    let script = format!(
        "start --env-file 'env file.sh'; printf '%s' \"$http_proxy\" >printed; \
         (. './env file.sh'; printf '%s' \"$http_proxy\" >written; curl -sSf -o got '{url}'); stop"
    );
    background(&work, &script).expect_code(0);
    assert_eq!(work.read("printed"), work.read("written"));
    assert_eq!(work.read("got"), pattern(1000));
    // Its folder is not there: that is said, and no server is left.
    background(&work, "start --env-file missing/env.sh").expect_code(3).expect_stderr(&["missing/env.sh"]);
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n");
    let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    run(command.args(["verify"]).env("BUILDPROXY_STORE", "")).expect_code(0);
    let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    let stop = run(command.args(["stop"]).env("BUILDPROXY_STATE_DIR", "").env("BUILDPROXY_STORE", ""));
    stop.expect_code(2).expect_stderr(&["no server is known here"]);
}

#[test]
fn a_closed_stdout_does_not_stop_a_server() {
    let (work, ..) = captured();
    for redirection in [">&-", "| true"] {
        let mut command = work.command("bash");
        let script =
            format!("set -o pipefail; timeout -s TERM 1 \"$PROGRAM\" replay --store \"$STORE\" {redirection}; exit $?");
        command.env("PROGRAM", env!("CARGO_BIN_EXE_buildproxy")).env("STORE", work.store());
        // `timeout` gives 124 where it had to end it, which it would not have with a server that had failed.
        run(command.args(["-c", &script])).expect_code(124);
    }
}

#[test]
fn a_server_whose_parent_is_gone_already_ends_at_once() {
    let (work, ..) = captured();
    let gone = run(work.command("sh").args(["-c", "echo $$"]));
    let outcome = run(work.replaying().args(["--parent-pid", gone.text().trim()])).expect_code(0);
    assert!(outcome.took < Duration::from_secs(5), "{:?}", outcome.took);
}

#[test]
fn the_environment_of_a_proxy_is_printed_for_others_to_use() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/a");
    let script = format!(
        "buildproxy env --dir files >env.sh; env -i PATH=\"$PATH\" sh -euc \"$FETCH\" sh ./env.sh '{url}'
        buildproxy env --format json"
    );
    let mut command = work.capturing(&origin.ca.pem);
    let own = Path::new(env!("CARGO_BIN_EXE_buildproxy")).parent().unwrap();
    let path =
        command.get_envs().find_map(|(name, value)| (name == "PATH").then(|| value.unwrap().to_owned())).unwrap();
    command.env("PATH", format!("{}:{}", own.display(), path.to_str().unwrap()));
    command.env("FETCH", ". \"$1\"; curl -sSf -o a \"$2\"; wget -q -O b \"$2\"").env("BUILDPROXY_PROXY_LOOPBACK", "1");
    let outcome = run(command.args(["--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!((work.read("a"), work.read("b")), (pattern(1000), pattern(1000)));
    let json: serde_json::Value = serde_json::from_str(outcome.text()).unwrap();
    assert!(json["http_proxy"]["value"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{json}");
    assert!(json["SSL_CERT_DIR"]["value"].is_null() && json["JAVA_TOOL_OPTIONS"]["value"].is_string(), "{json}");
}

#[test]
fn env_says_what_it_does_not_know() {
    let work = Workdir::new();
    run(&mut work.buildproxy("env")).expect_code(2).expect_stderr(&["BUILDPROXY_PROXY_URL", "--proxy and --ca"]);
    for (arguments, code, words) in [
        (["--proxy", "h.test:1", "--ca", "ca.pem"], 2, "expected http://HOST:PORT"),
        (["--proxy", "http://h.test:1", "--ca", "missing.pem"], 3, "cannot read the CA's certificate"),
    ] {
        run(work.buildproxy("env").args(arguments).args(["--dir", "files"])).expect_code(code).expect_stderr(&[words]);
    }
    let outcome = run(work.buildproxy("env").args(["--proxy", "http://h.test:1", "--ca", "/later/ca.pem"]));
    let outcome = outcome.expect_code(0).expect_stderr(&["--dir"]);
    assert!(outcome.text().contains("\nexport SSL_CERT_FILE='/later/ca.pem'\n"), "{outcome}");
    assert!(!outcome.text().contains("WGETRC") && !outcome.text().contains("JAVA"), "{outcome}");
}
