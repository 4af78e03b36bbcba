//! How a run begins and ends: the command's environment, exit codes, addresses, and a disk that does not play along.

use std::{fs, net::TcpListener, process::Command, time::Duration};

use crate::{
    common::{
        Awkward, Outcome, Workdir, pattern,
        process::{Guard, wait_for},
        run,
        workdir::{behind, within},
    },
    shows,
};
use rustix::process::Signal;

#[test]
fn the_exit_code_is_the_commands_own() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    for code in [0, 1, 2, 3, 4, 77] {
        work.capture_sh(&origin, &format!("exit {code}")).expect_code(code);
        run(work.replaying().args(["--", "sh", "-c", &format!("exit {code}")])).expect_code(code);
    }
    work.capture_sh(&origin, "kill -TERM $$").expect_code(128 + 15);
    run(work.replaying().args(["--", "sh", "-c", "kill -KILL $$"])).expect_code(128 + 9);
}

#[test]
fn what_a_failing_command_fetched_is_recorded() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/a");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'; exit 9")).expect_code(9);
    assert_eq!(work.inventory().urls(), [&url]);
}

#[test]
fn without_a_command_capture_opens_the_users_shell() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/from-the-shell");
    let shell = work.path("my-shell");
    fs::write(&shell, format!("#!/bin/sh\ncurl -sSf -o got '{url}'; exit 5\n")).unwrap();
    run(Command::new("chmod").arg("+x").arg(&shell)).expect_code(0);
    run(work.capturing(&origin.ca.pem).env("SHELL", &shell)).expect_code(5);
    assert_eq!(work.read("got"), pattern(1000));
    assert_eq!(work.inventory().urls(), [&url]);
}

#[test]
fn a_command_that_does_not_exist_is_said_so() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let outcome = work.capture(&origin, ["no-such-program-here"]).expect_stderr(&["no-such-program-here"]);
    assert_eq!(outcome.code, 127, "as shells have it: {outcome}");
}

#[test]
fn bad_usage_is_2() {
    let work = Workdir::new();
    run(work.buildproxy("capture").arg("--no-such-option")).expect_code(2).expect_stderr(&["--no-such-option"]);
    run(&mut work.buildproxy("no-such-command")).expect_code(2).expect_stderr(&["no-such-command"]);
    run(work.buildproxy("replay").args(["--listen", "nonsense", "--", "true"]))
        .expect_code(2)
        .expect_stderr(&["nonsense"]);
}

#[test]
fn the_command_gets_proxies_with_scheme_and_both_cases_and_the_ca() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = "env; test -r \"$SSL_CERT_FILE\"; if grep -q PRIVATE \"$SSL_CERT_FILE\"; then exit 9; fi";
    for outcome in [work.capture_sh(&origin, script), run(work.replaying().args(["--", "sh", "-euc", script]))] {
        let outcome = outcome.expect_code(0);
        let value = |name: &str| {
            let prefix = format!("{name}=");
            outcome.text().lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
        };
        let proxy = value("http_proxy").unwrap();
        assert!(proxy.starts_with("http://127.0.0.1:"), "{proxy}");
        for name in ["https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            assert_eq!(value(name), Some(proxy.clone()), "{name}");
        }
        for name in ["CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "REQUESTS_CA_BUNDLE", "NIX_SSL_CERT_FILE", "CARGO_HTTP_CAINFO"]
        {
            assert!(
                value(name).is_some_and(|path| path.ends_with(".pem") || path.ends_with(".crt")),
                "{name}: {outcome}"
            );
        }
        assert_eq!(value("SSL_CERT_DIR"), None);
        assert_eq!(value("no_proxy").unwrap_or_default(), "", "--proxy-loopback");
    }
}

#[test]
fn in_capture_the_clients_still_trust_the_users_own_roots_and_in_replay_only_ours() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = "cat \"$SSL_CERT_FILE\"";
    let captured = work.capture_sh(&origin, script).expect_code(0);
    let line = origin.ca.pem.lines().nth(1).unwrap();
    assert!(captured.text().contains(line), "{captured}");
    let mut replaying = work.replaying();
    replaying.env("SSL_CERT_FILE", work.root().join("origin-ca.pem"));
    let replayed = run(replaying.args(["--", "sh", "-euc", script])).expect_code(0);
    assert_eq!(replayed.text().matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!replayed.text().contains(line));
}

#[test]
fn a_taken_address_is_said_so_and_nothing_is_started() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    work.capture_sh(&origin, "true").expect_code(0);
    for mut command in [work.capturing(&origin.ca.pem), work.replaying()] {
        let outcome = run(command.args(["--listen", &address, "--", "touch", "started"]));
        outcome.expect_code(3).expect_stderr(&[&address, "in use"]);
        assert!(!work.path("started").exists());
    }
}

#[test]
fn only_loopback_is_listened_on_unless_allowed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let refused = run(work.capturing(&origin.ca.pem).args(["--listen", "0.0.0.0:0", "--", "touch", "started"]));
    refused.expect_code(2).expect_stderr(&["--allow-remote"]);
    assert!(!work.path("started").exists());
}

#[test]
fn an_inventory_that_cannot_be_written_is_said_before_anything_is_started() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut refused = 0;
    fs::create_dir(work.path("folder.toml")).unwrap();
    for (path, named) in [("missing-folder/inventory.toml", "missing-folder"), ("folder.toml", "folder.toml")] {
        let outcome = run(work.capturing(&origin.ca.pem).args(["-i", path, "--", "touch", "started"]));
        assert!([2, 3].contains(&outcome.code), "{outcome}");
        outcome.expect_stderr(&[named]);
        assert!(!work.path("started").exists(), "{path}");
        refused += 1;
    }
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--", "touch", "../started"]);
    let read_only = "mount --bind . . && mount -o remount,bind,ro . && cd \"$PWD\" && exec \"$@\"";
    let outcome = run(&mut within(&command, "-rm", read_only)).expect_code(3).expect_stderr(&["read-only"]);
    assert!(!work.root().join("started").exists(), "{outcome}");
    refused += 1;
    shows!(
        Capture,
        "no folder, a folder in its place, a read-only mount",
        "{refused} refusals, and no command started"
    );
}

#[test]
fn a_store_that_cannot_be_written_is_said_before_anything_is_started() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    fs::write(work.store(), "a file in its place").unwrap();
    let outcome = work.capture(&origin, ["touch", "started"]).expect_code(3);
    outcome.expect_stderr(&[work.store().to_str().unwrap()]);
    assert!(!work.path("started").exists());
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--", "touch", "started"]);
    fs::remove_file(work.store()).unwrap();
    fs::create_dir(work.store()).unwrap();
    let read_only = format!("mount -t tmpfs -o ro tmpfs '{}' && exec \"$@\"", work.store().display());
    let outcome = run(&mut within(&command, "-rm", &read_only)).expect_code(3);
    let outcome = outcome.expect_stderr(&[work.store().to_str().unwrap(), "read-only", "--store dir"]);
    assert!(!work.path("started").exists());
    shows!(
        Capture,
        "a file in its place, a read-only mount",
        "refused, exit code {}, and no command started",
        outcome.code
    );
}

#[test]
fn a_full_disk_loses_nothing_that_was_finished_and_records_nothing_partial() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (fits, too_big) = (origin.url("/plain/fits?size=100000"), origin.url("/big?mib=8"));
    let mut command = work.capturing(&origin.ca.pem);
    let script = format!("curl -sSf -o /dev/null '{fits}'; curl -sS -o /dev/null '{too_big}' || true");
    command.args(["--", "sh", "-euc", &script]);
    fs::create_dir(work.store()).unwrap();
    let small = format!(
        "mount -t tmpfs -o size=2m tmpfs '{store}' && \"$@\" || code=$?; ls -A '{store}' >store.list; exit ${{code:-0}}",
        store = work.store().display()
    );
    run(&mut within(&command, "-rm", &small)).expect_code(3).expect_stderr(&["no space left", &too_big]);
    assert_eq!(work.inventory().urls(), [&fits]);
    let listed = String::from_utf8(work.read("store.list")).unwrap();
    assert_eq!(listed.lines().filter(|name| name.ends_with("-fits")).count(), 1, "{listed}");
    assert!(!listed.contains("-big"), "{listed}");
}

#[test]
fn a_signal_to_capture_ends_the_command_and_keeps_what_was_recorded() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/a");
    let mut command = work.capturing(&origin.ca.pem);
    let script = format!("curl -sSf -o /dev/null '{url}'; echo $$ >pid; exec sleep 60");
    let mut capture = Guard(command.args(["--", "sh", "-euc", &script]).spawn().unwrap());
    let pid = wait_for("the command", || fs::read_to_string(work.path("pid")).ok().filter(|pid| pid.ends_with('\n')));
    capture.signal(Signal::TERM);
    let code = capture.wait(Duration::from_secs(10)).expect("it ends");
    assert_eq!(code, 128 + 15);
    let process = format!("/proc/{}", pid.trim());
    wait_for("the end of the command", || (!fs::exists(&process).unwrap()).then_some(()));
    assert_eq!(work.inventory().urls(), [&url]);
    shows!(
        Capture,
        "SIGTERM while the command runs",
        "the command ended, exit code {code}, {} recorded",
        work.inventory().0.len()
    );
}

#[test]
fn the_hint_about_credentials_can_be_pasted_into_a_shell_whatever_the_url_is() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/it's-$(touch${IFS}pasted)-{a,b}[1]?x=*\\y'z");
    let fetch = |origin: &Awkward| {
        let mut command = work.capturing(&origin.ca.pem);
        command.args(["--", "curl", "-gsSf", "-u", "me:secret", "-o", "/dev/null", &url]);
        command
    };
    let refused = run(&mut fetch(&origin)).expect_code(0).expect_stderr(&["not recorded"]);
    assert!(work.inventory().urls().is_empty());
    let (_, hint) = refused.stderr.split_once("record it with ").unwrap();
    let (hint, _) = hint.split_once("; it is").unwrap();
    let pasted = fetch(&origin);
    let arguments: Vec<_> = pasted.get_args().map(|argument| argument.to_str().unwrap()).collect();
    let (options, command) = arguments.split_at(arguments.iter().position(|argument| *argument == "--").unwrap());
    let mut shell = work.command("sh");
    let script = format!("n=$1; shift; \"$@\" {hint} -- curl -gsSf -u me:secret -o /dev/null \"$n\"");
    shell.args(["-euc", &script, "sh", command.last().unwrap()]).arg(pasted.get_program()).args(options);
    shell.env("SSL_CERT_FILE", work.root().join("origin-ca.pem"));
    run(&mut shell).expect_code(0);
    assert_eq!(work.inventory().0.len(), 1, "{hint}");
    assert!(!work.path("pasted").exists(), "{hint}");
}

#[test]
fn a_client_that_does_not_trust_the_ca_is_named_at_the_end() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/a");
    work.write("other.pem", crate::common::TestCa::new().pem);
    let script = format!("for n in 1 2 3; do curl -sS --cacert other.pem '{url}' && exit 9; done; true");
    let named = |text: &str| {
        let (_, end) = text.rsplit_once("TLS handshake for localhost failed: ").unwrap_or_else(|| panic!("{text}"));
        assert!(end.contains("SSL_CERT_FILE"), "{text}");
        // Who it was is known where the kernel tells.
        assert!(end.contains("curl (process ") && end.contains(") does not trust buildproxy's CA"), "{text}");
        assert_eq!(text.matches("does not trust").count(), 1, "each host is named once: {text}");
    };
    named(&work.capture_sh(&origin, &script).expect_code(0).stderr);
    let replayed = run(work.replaying().args(["--json", "--", "sh", "-euc", &script])).expect_code(0);
    named(&replayed.stderr);
    let report: serde_json::Value = serde_json::from_str(replayed.text()).unwrap();
    let failed = &report["failed-handshakes"];
    assert_eq!((failed.as_array().unwrap().len(), &failed[0]["host"]), (1, &"localhost".into()), "{report}");
    assert_eq!((&failed[0]["client-distrusts-ca"], &failed[0]["process"]), (&true.into(), &"curl".into()), "{report}");
}

#[test]
fn a_command_that_asks_nothing_of_the_proxy_is_told_how_to_see_what_goes_past_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let past = format!("curl -sS --noproxy '*' -o a '{}'", origin.url("/plain/a"));
    let through = format!("curl -sSf -o a '{}'", origin.url("/plain/a"));
    let nothing = "hint: nothing was asked of the proxy";
    let hint = |outcome: &Outcome| outcome.stderr.lines().find(|line| line.starts_with("hint: ")).map(str::to_owned);
    let ftp = work.capture_sh(&origin, "curl -sS ftp://h.test/x").expect_code(0);
    let ftp = ftp.expect_stderr(&[
        "ftp://h.test/x: buildproxy answers http and https, not `ftp`: use an https:// URL of the same file",
    ]);
    assert_eq!(hint(&ftp), None);
    // Whoever looks at the run asks nothing of it.
    let looking = "curl -sSf -o page --noproxy '*' \"$http_proxy\" && curl -sSf http://buildproxy.internal/health";
    for (script, code) in [(&*past, 0), ("exit 7", 7), (looking, 0)] {
        let hint = hint(&work.capture_sh(&origin, script).expect_code(code)).unwrap();
        assert!(hint.starts_with(nothing) && hint.contains("`buildproxy capture --isolate -- COMMAND`"), "{hint}");
    }
    assert_eq!(hint(&work.capture_sh(&origin, &format!("{through}; exit 7")).expect_code(7)), None);
    let replayed = |script: &str| run(work.replaying().args(["--", "sh", "-euc", script]));
    for (script, code, start) in [
        (&*past, 0, nothing),
        ("exit 7", 7, nothing),
        (looking, 0, nothing),
        (
            &format!("{through}; exit 7"),
            7,
            "hint: the command failed, though nothing that it asked of the proxy was missing",
        ),
    ] {
        let hint = hint(&replayed(script).expect_code(code)).unwrap();
        assert!(hint.starts_with(start) && hint.contains("`buildproxy replay --isolate -- COMMAND`"), "{hint}");
    }
    for (script, code) in [(&*through, 0), (&format!("{through}/absent; exit 7"), 22)] {
        assert_eq!(hint(&replayed(script).expect_code(code)), None, "{script}");
    }
    // In a build the server is in the background.
    let script = "eval \"$(\"$@\" --background --parent-pid $$)\"; \"$1\" stop";
    let background = run(&mut behind(&["sh", "-euc", script, "sh"], &work.replaying()));
    assert_eq!(hint(&background.expect_code(0)).map(|hint| hint.starts_with(nothing)), Some(true));
}

#[test]
fn a_signal_ends_the_waiting_for_downloads_whose_clients_left() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (done, slow) = (origin.url("/plain/done"), origin.url("/slow?ms=7000"));
    let script = format!("curl -sSf -o /dev/null '{done}'; curl -sS --max-time 0.5 -o /dev/null '{slow}'; exit 7");
    let signals = [Signal::INT, Signal::TERM, Signal::HUP];
    for signal in signals {
        let mut command = heeding_signals(&work.capturing(&origin.ca.pem));
        command.args(["--", "sh", "-c", &script]).stderr(fs::File::create(work.path("stderr")).unwrap());
        let mut capture = Guard(command.spawn().unwrap());
        let said = || String::from_utf8(work.read("stderr")).unwrap();
        wait_for("the message", || said().contains("waiting for downloads whose clients have left").then_some(()));
        capture.signal(signal);
        assert_eq!(capture.wait(Duration::from_secs(3)), Some(7), "{signal:?}: {}", said());
        assert!(said().contains(&format!("{slow} is not recorded")), "{}", said());
        assert_eq!(work.inventory().urls(), [&done]);
    }
    let outcome = work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{done}'"));
    assert!(!outcome.stderr.contains("waiting"), "{outcome}");
    shows!(
        Capture,
        "a signal while downloads go on whose clients have left",
        "{} signals, each ended it; what was whole is recorded",
        signals.len()
    );
}

/// `command` without the signals ignored that tests in the background of a script inherit.
fn heeding_signals(command: &Command) -> Command {
    behind(&["env", "--default-signal=INT,HUP,TERM"], command)
}

/// A terminal with `sys.argv[1:]` in its foreground, whose stdin is /dev/null; types Ctrl-C when there is a file `ready`.
const TERMINAL: &str = r"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.dup2(os.open('/dev/null', os.O_RDONLY), 0)
    os.execvp(sys.argv[1], sys.argv[1:])
while not os.path.exists('ready'): time.sleep(0.01)
os.write(terminal, b'\x03')
try:
    while os.read(terminal, 4096): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Counts the interrupts of one second.
const COUNTER: &str = r"
import signal, sys, time
count = 0
def interrupted(*_):
    global count
    count += 1
signal.signal(signal.SIGINT, interrupted)
open('ready', 'w').close()
end = time.time() + 1
while time.time() < end: time.sleep(0.05)
sys.exit(40 + count)
";

#[test]
fn a_key_of_the_terminal_reaches_the_command_once() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    for options in [&[][..], &["--isolate"]] {
        let mut capturing = heeding_signals(&work.capturing(&origin.ca.pem));
        capturing.args(options);
        let mut terminal = work.command("python3");
        terminal.args(["-c", TERMINAL]).arg(capturing.get_program()).args(capturing.get_args());
        run(terminal.args(["--", "python3", "-c", COUNTER])).expect_code(41);
        // Without one, it is passed on.
        fs::remove_file(work.path("ready")).unwrap();
        let mut command = work.command("setsid");
        command.arg(capturing.get_program()).args(capturing.get_args());
        let mut capture = Guard(command.args(["--", "python3", "-c", COUNTER]).spawn().unwrap());
        wait_for("the command", || work.path("ready").exists().then_some(()));
        capture.signal(Signal::INT);
        assert_eq!(capture.wait(Duration::from_secs(10)), Some(41));
        fs::remove_file(work.path("ready")).unwrap();
    }
}

#[test]
fn what_is_ignored_stays_ignored() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--", "sh", "-c", "kill -HUP $$; kill -HUP $PPID; exit 6"]);
    let mut nohup = work.command("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    run(&mut nohup).expect_code(6);
}

#[test]
fn the_log_has_a_variable_of_its_own_and_that_of_the_build_breaks_nothing() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n");
    let replay = |variables: &[(&str, &str)], arguments: &[&str]| {
        let script = "printf %s \"$RUST_LOG\"; curl -s -o /dev/null http://h.test/; true";
        let mut command = work.replaying();
        command.env("RUST_LOG", "").envs(variables.iter().copied()).args(arguments);
        let outcome = run(command.args(["--allow-misses", "--", "sh", "-c", script])).expect_code(0);
        let build = variables.iter().find(|(name, _)| *name == "RUST_LOG").map_or("", |(_, value)| value);
        assert_eq!(outcome.text(), build, "the build has it as it was: {outcome}");
        assert!(arguments == ["-q"] || outcome.stderr.contains("replay: 0 requests answered"), "{outcome}");
        outcome.stderr
    };
    let [debug, warn] = ["DEBUG the proxy is at http://127.0.0.1:", "WARN miss: "];
    let has = |stderr: &str| [debug, warn].map(|line| stderr.contains(line));
    assert_eq!(has(&replay(&[], &[])), [false, true]);
    assert_eq!(has(&replay(&[("BUILDPROXY_LOG", "")], &[])), [false, true]);
    assert_eq!(has(&replay(&[("BUILDPROXY_LOG", "debug")], &[])), [true, true]);
    assert_eq!(has(&replay(&[("RUST_LOG", "debug")], &[])), [true, true]);
    // It names the build's own programs, and our warnings stay.
    assert_eq!(has(&replay(&[("RUST_LOG", "cargo=trace")], &[])), [false, true]);
    // What is said of buildproxy alone wins.
    assert_eq!(has(&replay(&[("RUST_LOG", "debug"), ("BUILDPROXY_LOG", "off")], &[])), [false, false]);
    assert_eq!(has(&replay(&[("RUST_LOG", "debug")], &["-q"])), [false, false]);
    assert_eq!(has(&replay(&[("RUST_LOG", "off")], &["-v"])), [true, true]);
    for name in ["BUILDPROXY_LOG", "RUST_LOG"] {
        let stderr = replay(&[(name, "a=b=c")], &[]);
        assert!(stderr.contains(&format!("warning: {name} is passed over: ")), "{stderr}");
        assert_eq!(has(&stderr), [false, true]);
    }
}

#[test]
fn the_summary_says_what_there_is_and_nothing_else() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let summary = |urls: &[&str]| {
        let urls: Vec<_> = urls.iter().map(|path| format!("'{}'", origin.url(path))).collect();
        let script = format!("for url in {}; do curl -sSL -o /dev/null \"$url\"; done", urls.join(" "));
        let _removed = fs::remove_file(work.path("inventory.toml"));
        work.capture_sh(&origin, &script).expect_code(0).stderr
    };
    let nothing = summary(&[]);
    let (said, _hint) = nothing.split_once("\n\nhint: nothing was asked of the proxy").unwrap();
    assert_eq!(said, "captured nothing\nwrote inventory.toml (0 entries)");
    assert_eq!(
        summary(&["/plain/a"]),
        "captured 1 answer from 1 host, 1000 B\n         \
         1 that Nix can fetch again\nwrote inventory.toml (1 entry)\n"
    );
    assert_eq!(
        summary(&["/plain/a", "/missing", "/redirect/3"]),
        "captured 3 answers from 1 host, 1.98 KiB, 1 redirect chain\n         \
         2 that Nix can fetch again, 1 written into the inventory\n           \
         1 kept: the status is not 200, and Nix keeps nothing else\nwrote inventory.toml (3 entries)\n"
    );
    assert_eq!(summary(&["/no-content"]), "captured 1 answer from 1 host, 0 B\nwrote inventory.toml (1 entry)\n");
}
