//! `--isolate`: the command reaches the proxy alone, without the user's caches and credentials, and what tries to go past
//! the proxy is named.

#![cfg(target_os = "linux")]

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use crate::common::{
    Awkward, Entries, Outcome, Workdir, in_empty_network, pattern,
    process::{Guard, wait_for},
    python_tool, run,
    workdir::{behind, within},
};
use rustix::process::Signal;

/// Captures a script, isolated.
fn capture_sh(work: &Workdir, origin: &Awkward, script: &str) -> Outcome {
    run(work.capturing(&origin.ca.pem).args(["--isolate", "--", "sh", "-euc", script]))
}

/// The warning about `port` of past.test.
#[track_caller]
fn warning(outcome: &Outcome, port: u16) -> &str {
    let named = format!("tried to reach past.test:{port}");
    let mut lines = outcome.stderr.lines().filter(|line| line.starts_with("warning: ") && line.contains(&named));
    let line = lines.next().unwrap_or_else(|| panic!("`{named}` is not on stderr of {outcome}"));
    assert_eq!(lines.next(), None, "each is named once: {outcome}");
    line
}

#[test]
fn an_isolated_command_is_recorded_and_replayed_over_http_and_https() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (plain, tls) = (origin.url("/plain/a"), origin.tls_url("/plain/b"));
    let script = format!("curl -sSf -o a '{plain}'; curl -sSf -o b '{tls}'");
    let captured = capture_sh(&work, &origin, &script).expect_code(0);
    assert!(!captured.stderr.contains("past the proxy"), "{captured}");
    assert_eq!(work.inventory().urls().len(), 2);
    for name in ["a", "b"] {
        assert_eq!(work.read(name), pattern(1000));
        fs::remove_file(work.path(name)).unwrap();
    }
    // Also where there is no network to begin with, as in a sandbox.
    let mut replaying = work.replaying();
    run(&mut in_empty_network(replaying.args(["--isolate", "--", "sh", "-euc", &script]))).expect_code(0);
    assert_eq!((work.read("a"), work.read("b")), (pattern(1000), pattern(1000)));
}

#[test]
fn the_command_is_the_same_user_and_has_the_same_input_and_exit_code() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let ids = |outcome: Outcome| outcome.expect_code(0).text().to_owned();
    let outside = ids(run(work.command("sh").args(["-c", "id -u; id -g"])));
    assert_eq!(ids(capture_sh(&work, &origin, "id -u; id -g")), outside);
    for code in [0, 1, 3, 77] {
        capture_sh(&work, &origin, &format!("exit {code}")).expect_code(code);
    }
    capture_sh(&work, &origin, "kill -TERM $$").expect_code(128 + 15);
    let outcome = run(work.capturing(&origin.ca.pem).args(["--isolate", "--", "no-such-program-here"]));
    assert_eq!(outcome.expect_stderr(&["cannot run `no-such-program-here`"]).code, 127);
    let capturing = work.capturing(&origin.ca.pem);
    let mut piped = behind(&["sh", "-c", "echo through | \"$@\"", "sh"], &capturing);
    assert_eq!(run(piped.args(["--isolate", "--", "cat"])).expect_code(0).text(), "through\n");
}

#[test]
fn a_signal_to_the_capture_ends_the_command() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut command = work.capturing(&origin.ca.pem);
    let script = "echo $$ >pid; exec sleep 60";
    let mut capture = Guard(command.args(["--isolate", "--", "sh", "-euc", script]).spawn().unwrap());
    wait_for("the command", || fs::read_to_string(work.path("pid")).ok().filter(|pid| pid.ends_with('\n')));
    capture.signal(Signal::TERM);
    assert_eq!(capture.wait(Duration::from_secs(10)), Some(128 + 15));
    assert_eq!(fs::read_dir(work.root().join("tmp")).unwrap().count(), 0, "its home is gone");
}

#[test]
fn an_address_that_is_taken_outside_is_free_inside() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--isolate", "--listen", &address, "--", "sh", "-c", "echo $http_proxy"]);
    assert_eq!(run(&mut command).expect_code(0).text(), format!("http://{address}\n"));
    run(work.capturing(&origin.ca.pem).args(["--isolate", "--allow-remote", "--", "true"])).expect_code(2);
    run(work.replaying().arg("--isolate")).expect_code(2).expect_stderr(&["needs a command"]);
}

#[test]
fn what_goes_past_the_proxy_is_named_with_its_process_and_what_to_do() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let udp = "import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.connect(('past.test', 443)); s.send(b'x'); s.recv(1)";
    for (client, port, process, words) in [
        ("curl -sS --noproxy '*' https://past.test/", 443, "curl", "--noproxy"),
        ("wget -6 -q -t 1 --no-proxy http://past.test:8080/", 8080, "wget", "no_proxy"),
        ("rsync -q rsync://past.test/x .", 873, "rsync", "rsync is not recorded"),
        (
            "/usr/bin/python3 -c 'import urllib3; urllib3.PoolManager().request(\"GET\", \"https://past.test/\", retries=2)'",
            443,
            "python3.",
            "PoolManager",
        ),
        ("/usr/bin/node -e 'fetch(\"http://past.test/\").catch(() => process.exit(1))'", 80, "node", "version 24"),
        ("git ls-remote git://past.test/x", 9418, "git", "GIT_CONFIG_VALUE_0=git://"),
        ("ssh -o BatchMode=yes git@past.test", 22, "ssh", "SSH is not recorded"),
        ("curl -sS --noproxy '*' ftp://past.test/x", 21, "curl", "FTP is not recorded"),
        (&format!("/usr/bin/python3 -c \"{udp}\""), 443, "python3.", "over UDP"),
    ] {
        let outcome = capture_sh(&work, &origin, &format!("! {client}")).expect_code(0);
        let line = warning(&outcome, port);
        assert!(line.contains(&format!("warning: {process}")) && line.contains(words), "{client}: {outcome}");
        assert!(outcome.took < Duration::from_secs(20), "it is refused at once: {outcome}");
    }
    assert!(!work.path("inventory.toml").exists() || work.inventory().urls().is_empty());
}

#[test]
fn a_java_that_lost_its_options_is_named() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    work.write(
        "settings.xml",
        "<settings><mirrors><mirror><id>m</id><mirrorOf>*</mirrorOf>\
        <url>https://past.test/maven</url></mirror></mirrors></settings>",
    );
    let script = "! env -u JAVA_TOOL_OPTIONS mvn -B -q -s settings.xml help:help >maven.log 2>&1";
    let outcome = capture_sh(&work, &origin, script).expect_code(0);
    let line = warning(&outcome, 443);
    assert!(line.contains("java (process ") && line.contains("JAVA_TOOL_OPTIONS"), "{outcome}");
}

#[test]
fn a_replay_reports_the_same_as_json_with_addresses_where_there_are_no_names() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    work.capture_sh(&origin, "true").expect_code(0);
    let script = "past() { if curl -sS \"$@\"; then exit 9; fi; }
        past --noproxy '*' http://192.0.2.7:8081/; past --noproxy '*' 'http://[2001:db8::7]:8082/'
        for n in 1 2 3; do past --noproxy '*' http://Past.test/; done
        past --cacert other.pem https://distrusted.test/";
    work.write("other.pem", crate::common::TestCa::new().pem);
    let replayed = run(work.replaying().args(["--isolate", "--json", "--", "sh", "-euc", script])).expect_code(0);
    let replayed = replayed.expect_stderr(&["warning: attempts to go past the proxy:", "[2001:db8::7]:8082"]);
    let report: serde_json::Value = serde_json::from_str(replayed.text()).unwrap();
    let seen = report["bypasses"].as_array().unwrap();
    let fields: Vec<_> = seen.iter().map(|one| (&one["host"], &one["port"], &one["count"], &one["process"])).collect();
    let expected = [("192.0.2.7", 8081, 1), ("2001:db8::7", 8082, 1), ("past.test", 80, 3)];
    assert_eq!(fields.len(), expected.len(), "{report}");
    for (field, (host, port, count)) in fields.iter().zip(expected) {
        assert_eq!(*field, (&host.into(), &port.into(), &count.into(), &"curl".into()), "{report}");
    }
    assert!(seen.iter().all(|one| one["pid"].is_number() && one["protocol"] == "tcp"), "{report}");
    // The clients inside are found, too, when it is TLS that fails.
    assert_eq!(report["failed-handshakes"][0]["process"], "curl", "{report}");
}

#[test]
fn the_users_caches_and_credentials_are_not_seen() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let home = work.root().join("home");
    fs::write(home.join(".netrc"), "machine localhost login me password secret\n").unwrap();
    fs::write(home.join(".gitconfig"), "[user]\nname = me\n").unwrap();
    fs::create_dir(home.join(".rustup")).unwrap();
    let url = origin.url("/plain/a");
    let script = format!(
        "echo \"$HOME\"; ls -A \"$HOME\"; curl -n -sSf -o /dev/null '{url}'
        if git config user.name; then exit 7; fi
        case $('{pip}' cache dir) in \"$HOME\"/*) ;; *) exit 8 ;; esac
        case $(npm config get cache) in \"$HOME\"/*) ;; *) exit 9 ;; esac
        case \" $JAVA_TOOL_OPTIONS \" in *\" -Duser.home=$HOME \"*) ;; *) exit 10 ;; esac
        test -z \"${{GITHUB_TOKEN-}}${{SSH_AUTH_SOCK-}}${{CARGO_HOME-}}${{XDG_CACHE_HOME-}}\"
        test \"$RUSTUP_HOME\" = '{home}/.rustup'; test \"${{MY_TOKEN-gone}}\" = \"$EXPECTED\"",
        pip = python_tool("pip"),
        home = home.display(),
    );
    for (keep, expected) in [(&[][..], "gone"), (&["--keep-env", "MY_TOKEN"], "mine")] {
        let mut command = work.capturing(&origin.ca.pem);
        for name in ["PIP_CACHE_DIR", "npm_config_cache", "XDG_CACHE_HOME", "CARGO_HOME"] {
            command.env(name, home.join("cache"));
        }
        command.env("GITHUB_TOKEN", "secret").env("SSH_AUTH_SOCK", "/agent").env("MY_TOKEN", "mine");
        command.env("EXPECTED", expected).arg("--isolate").args(keep);
        let outcome = run(command.args(["--", "sh", "-euc", &script])).expect_code(0);
        let listed: Vec<&str> = outcome.text().lines().collect();
        assert_eq!(listed.len(), 1, "the home is empty: {outcome}");
        assert!(listed[0] != home.to_str().unwrap() && !Path::new(listed[0]).exists(), "{outcome}");
    }
    assert_eq!(work.inventory().urls(), [&url], "no credentials were sent");
    run(work.capturing(&origin.ca.pem).args(["--keep-env", "A", "--", "true"])).expect_code(2);
    let kept = run(work.capturing(&origin.ca.pem).args(["--isolate", "--keep-env", "http_proxy", "--", "true"]));
    kept.expect_code(0).expect_stderr(&["http_proxy leads to the proxy"]);
}

#[test]
fn an_ordinary_user_can_isolate_as_well() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = "id -u; if curl -sS --noproxy '*' https://past.test/; then exit 9; fi; curl -sSf \"$URL\"";
    let url = origin.url("/plain/a");
    // Below the system's temporary folder, where anybody can look; the program, too.
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("buildproxy");
    fs::copy(env!("CARGO_BIN_EXE_buildproxy"), &program).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = work.command(&program);
    if rustix::process::geteuid().is_root() {
        let names = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"];
        command = work.command("setpriv");
        command.args(names).arg(&program);
    }
    fs::write(folder.path().join("ca.pem"), &origin.ca.pem).unwrap();
    command.env("HOME", folder.path()).env("TMPDIR", folder.path()).env("URL", &url);
    command.env("SSL_CERT_FILE", folder.path().join("ca.pem")).current_dir(folder.path());
    command.args(["capture", "--store", "store", "--proxy-loopback", "--isolate", "--", "sh", "-euc", script]);
    let outcome = run(&mut command).expect_code(0);
    let user = if rustix::process::geteuid().is_root() { 65534 } else { rustix::process::geteuid().as_raw() };
    assert_eq!(outcome.text(), format!("{user}\n{}", String::from_utf8(pattern(1000)).unwrap()));
    assert!(warning(&outcome, 443).contains("curl (process "), "{outcome}");
}

#[test]
fn without_namespaces_nothing_is_started_and_the_reason_is_named() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--isolate", "--", "touch", "started"]);
    let forbidding = |limit: &str| {
        let prelude =
            format!("echo 0 >/proc/sys/user/{limit}; exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"");
        within(&command, "-r", &prelude)
    };
    // A root that is no mount point, as that of a chroot.
    let root = work.root().join("root");
    let chroot = format!(
        "cd '{root}'; for folder in /*; do [ -d \"$folder\" ] || continue; mkdir .\"$folder\"; mount --rbind \"$folder\" .\"$folder\"; done
        exec chroot . sh -c 'cd {work}; exec \"$@\"' sh \"$@\"",
        root = root.display(),
        work = work.path("").display(),
    );
    fs::create_dir(&root).unwrap();
    // As seccomp answers in a container, and as a kernel that has none.
    let refusing = |error: &str| {
        let inject = format!("inject=unshare:error={error}");
        behind(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unshare", "-e", &inject], &command)
    };
    for (mut command, words) in [
        (
            forbidding("max_user_namespaces"),
            "this system forbids it (user.max_user_namespaces is 0); as root: sysctl -w",
        ),
        (forbidding("max_net_namespaces"), "sysctl -w user.max_net_namespaces=10000"),
        (forbidding("max_mnt_namespaces"), "sysctl -w user.max_mnt_namespaces=10000"),
        (within(&command, "-rm", &chroot), "its root has to be a mount point"),
        (refusing("EPERM"), "--security-opt seccomp=unconfined"),
        (refusing("EINVAL"), "run without --isolate"),
    ] {
        run(&mut command).expect_code(3).expect_stderr(&["an isolated command", "hint: ", words]);
        assert!(!work.path("started").exists() && !work.path("inventory.toml").exists(), "{words}");
        assert!(!work.path(".buildproxy").exists(), "{words}");
    }
    assert_eq!(fs::read_dir(work.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn without_virtual_interfaces_the_command_still_reaches_nothing_and_is_told_so() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let script = format!(
        "if curl -sS --noproxy '*' http://192.0.2.1/; then exit 9; fi; curl -sSf -o a '{}'",
        origin.url("/plain/a")
    );
    for (call, error, words) in
        [("sendto", "EOPNOTSUPP", "as root: modprobe veth"), ("socket", "EAFNOSUPPORT", "as root: modprobe af_packet")]
    {
        let mut command = work.capturing(&origin.ca.pem);
        command.args(["--isolate", "--", "sh", "-euc", &script]);
        // Its second call starts what such a kernel has not.
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when=2"));
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let outcome = run(&mut behind(&strace, &command)).expect_code(0);
        outcome.expect_stderr(&["warning: what goes past the proxy is refused, but cannot be seen here: ", words]);
        assert_eq!(work.read("a"), pattern(1000));
    }
}

#[test]
fn what_a_command_leaves_running_ends_with_it_and_is_named() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    // One that is nobody's child any more, and one that does not listen.
    let script =
        "setsid sh -c 'echo $$ >one; exec sleep 60' & sh -c 'trap \"\" TERM; echo $$ >two; sleep 60; sleep 60' &
        while [ ! -s one ] || [ ! -s two ]; do sleep 0.01; done; exit 7";
    let outcome = capture_sh(&work, &origin, script).expect_code(7);
    let (one, two) = (pid_in(&work, "one"), pid_in(&work, "two"));
    let outcome = outcome.expect_stderr(&["left processes running, which --isolate ended: "]);
    assert!(outcome.stderr.contains(&format!("sleep (process {one})")), "{outcome}");
    for pid in [one, two] {
        wait_for("the end of what was left", || (!runs(pid)).then_some(()));
    }
}

#[test]
fn a_capture_that_is_killed_leaves_no_process_and_no_file() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut command = work.capturing(&origin.ca.pem);
    let script = "echo here >~/file; setsid sh -c 'echo $$ >one; exec sleep 60' & echo $$ >two; sleep 60; touch after";
    let mut capture = Guard(command.args(["--isolate", "--", "sh", "-euc", script]).spawn().unwrap());
    let pids = ["one", "two"].map(|name| {
        wait_for("the command", || fs::read_to_string(work.path(name)).ok().filter(|pid| pid.ends_with('\n')));
        pid_in(&work, name)
    });
    assert!(pids.into_iter().all(runs));
    capture.signal(Signal::KILL);
    assert_eq!(capture.wait(Duration::from_secs(10)), Some(128 + 9));
    for pid in pids {
        wait_for("the end of the command", || (!runs(pid)).then_some(()));
    }
    let files = || fs::read_dir(work.root().join("tmp")).unwrap().count();
    wait_for("the end of its home", || (files() == 0).then_some(()));
    assert!(!work.path("after").exists());
}

/// What a command has written about itself.
fn pid_in(work: &Workdir, name: &str) -> i32 {
    String::from_utf8(work.read(name)).unwrap().trim().parse().unwrap()
}

/// Whether the process is there and has not ended; its parent may be slow to notice.
fn runs(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn a_client_with_very_many_connections_at_once_hides_no_other() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let client = "import socket, threading
def connect(number):
    try: socket.create_connection((f'h{number}.test', 443), 60)
    except ConnectionRefusedError: print('refused')
threads = [threading.Thread(target=connect, args=(number,)) for number in range(1000)]
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    work.write("many.py", client);
    let script = "/usr/bin/python3 many.py; ! git ls-remote git://past.test/x";
    let outcome = capture_sh(&work, &origin, script).expect_code(0);
    assert_eq!(outcome.text().matches("refused").count(), 1000, "{outcome}");
    let many = outcome.stderr.lines().find(|line| line.starts_with("warning: python3.")).unwrap();
    assert!(many.matches(".test:443").count() == 3 && many.contains(" more past the proxy"), "{many}");
    assert!(warning(&outcome, 9418).contains("warning: git (process "), "{outcome}");
    assert!(outcome.stderr.lines().count() < 20, "{outcome}");
}

#[test]
fn an_isolated_command_can_make_namespaces_and_isolate_itself() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let buildproxy = env!("CARGO_BIN_EXE_buildproxy");
    let url = origin.url("/plain/a");
    let script = format!(
        "unshare -rm curl -sSf -o a '{url}'
        '{buildproxy}' capture -i inner.toml --store inner --proxy-loopback --isolate -- \
            sh -euc \"curl -sSf -o b '{url}'; ! curl -sS --noproxy '*' https://past.test/\""
    );
    let outcome = capture_sh(&work, &origin, &script).expect_code(0);
    assert_eq!((work.read("a"), work.read("b")), (pattern(1000), pattern(1000)));
    assert!(warning(&outcome, 443).contains("curl (process "), "{outcome}");
    assert_eq!(work.inventory().urls(), [&url], "what the inner one asks for comes through the outer one");
    assert_eq!(Entries::read(&work.path("inner.toml")).urls(), [&url]);
}

#[test]
fn a_project_below_a_home_that_is_a_link_stays_where_it_is() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let home = work.root().join("home");
    fs::create_dir(home.join("project")).unwrap();
    std::os::unix::fs::symlink(&home, work.root().join("link")).unwrap();
    for (keep, is_kept) in [(&[][..], false), (&["--keep-env", "HOME"], true)] {
        let mut command = work.capturing(&origin.ca.pem);
        command.env("HOME", work.root().join("link")).current_dir(work.root().join("link/project"));
        let script = "pwd -P; echo \"$HOME\"; git init -q .; git rev-parse --show-toplevel; : >here";
        let outcome = run(command.arg("--isolate").args(keep).args(["--", "sh", "-euc", script])).expect_code(0);
        let lines: Vec<_> = outcome.text().lines().collect();
        let project = home.join("project").canonicalize().unwrap();
        assert_eq!((Path::new(lines[0]), Path::new(lines[2])), (&*project, &*project), "{outcome}");
        assert_eq!(Path::new(lines[1]) == work.root().join("link"), is_kept, "{outcome}");
        assert!(project.join("here").exists());
    }
}
