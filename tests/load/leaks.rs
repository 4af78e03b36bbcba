//! A short replay and a short capture under valgrind: what is lost, and what is touched that is not, or no longer, theirs.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    common::{Awkward, Sending, Serving, Workdir, pattern, run, sri, workdir::behind},
    shows,
};

/// The exit code where valgrind has found something.
const FOUND: &str = "--error-exitcode=99";

/// `command` under valgrind, which writes what it found into the file `valgrind`.
fn watched(command: &Command) -> Command {
    let log = format!("--log-file={}", command.get_current_dir().unwrap().join("valgrind").display());
    let leaks = ["--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite"];
    // Optimised code looks at both sides of an `&&` at once where that does no harm, also at one that was never written.
    let unwritten = "--undef-value-errors=no";
    let known = concat!("--suppressions=", env!("CARGO_MANIFEST_DIR"), "/tests/load/valgrind.supp");
    behind(&[&["valgrind", FOUND, unwritten, known, &log][..], &leaks].concat(), command)
}

/// The line of valgrind's summary about `what`.
fn found(work: &Workdir, what: &str) -> String {
    let text = String::from_utf8(work.read("valgrind")).unwrap();
    let line = text.lines().find_map(|line| Some(line.split_once(what)?.1.trim().to_owned()));
    line.unwrap_or_else(|| panic!("no `{what}` in {text}"))
}

/// That nothing was lost, and what valgrind had to look at.
fn is_clean(work: &Workdir) -> String {
    let log = || String::from_utf8(work.read("valgrind")).unwrap();
    assert!(found(work, "ERROR SUMMARY:").starts_with("0 errors"), "{}", log());
    // Where nothing at all is left there is no summary of it.
    if !log().contains("no leaks are possible") {
        assert_eq!(found(work, "definitely lost:"), "0 bytes in 0 blocks", "{}", log());
    }
    found(work, "total heap usage:").split(" allocs").next().unwrap().to_owned() + " allocations"
}

#[test]
fn replay_loses_no_memory_and_touches_none_that_is_not_its_own() {
    let bytes = pattern(2 << 20);
    let mut sending = Sending::by(
        &[(sri(&bytes), bytes.len() as u64)],
        |_, mut file| file.write_all(&bytes).unwrap(),
        |command| {
            let log = File::create(command.get_current_dir().unwrap().join("log")).unwrap();
            command.arg("--allow-misses");
            *command = watched(command);
            command.stderr(log);
        },
    );
    let serving: &Serving = &sending.serving;
    for (arguments, scheme) in [
        (&["--http1.1"][..], "http"),
        (&["--http1.1", "-r", "5-300005,7-9"], "http"),
        (&["--http1.1", "-I"], "https"),
        (&["--http1.1"], "https"),
        (&["--http2"], "https"),
        (&["--http2-prior-knowledge", "-r", "-1000000"], "http"),
    ] {
        let url = format!("{scheme}://h.test/body0.bin");
        let outcome = run(serving.curl().args(["-f", "-o", "got"]).args(arguments).arg(url)).expect_code(0);
        assert!(outcome.stderr.is_empty(), "{outcome}");
    }
    run(serving.curl().args(["https://h.test/absent"])).expect_code(0);
    sending.serving.server.signal(Signal::TERM);
    let code = sending.serving.server.wait(Duration::from_secs(60));
    let log = fs::read_to_string(sending.serving.work.path("valgrind")).unwrap();
    assert_eq!(code, Some(0), "{log}");
    let looked_at = is_clean(&sending.serving.work);
    shows!(
        Replay,
        "valgrind's memcheck, a replay of HTTP/1.1 and HTTP/2, plain and TLS, ranges, HEAD and a miss",
        "{looked_at}: 0 bytes definitely lost, 0 errors"
    );
}

#[test]
fn capture_loses_no_memory_and_touches_none_that_is_not_its_own() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = [
        origin.url("/plain/a"),
        origin.tls_url("/plain/b?size=3000000"),
        origin.url("/chunked"),
        origin.tls_url("/redirect/3"),
        origin.url("/missing"),
    ];
    let script: String = urls.iter().map(|url| format!("curl -sSL -o /dev/null '{url}'; ")).collect();
    let mut command = work.capturing(&origin.ca.pem);
    let outcome = run(&mut watched(command.args(["--", "sh", "-euc", &script])));
    let looked_at = is_clean(&work);
    outcome.expect_code(0);
    assert_eq!(work.inventory().0.len(), urls.len());
    shows!(
        Capture,
        "valgrind's memcheck, a capture by HTTP and HTTPS of small, large and chunked answers, a chain and a 404",
        "{looked_at}: 0 bytes definitely lost, 0 errors"
    );
}
