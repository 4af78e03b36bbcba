//! `--isolate`: the command reaches the proxy alone, without the user's caches and credentials, and what tries to go past
//! the proxy is named.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use common::{
    Awkward, Outcome, Workdir, in_empty_network, pattern,
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
    work.write("other.pem", common::TestCa::new().pem);
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
fn without_namespaces_nothing_is_started_and_the_setting_is_named() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--isolate", "--", "touch", "started"]);
    let forbidden = "echo 0 >/proc/sys/user/max_user_namespaces
        exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let outcome = run(&mut within(&command, "-r", forbidden)).expect_code(3);
    outcome.expect_stderr(&["namespaces", "sysctl -w user.max_user_namespaces=", "hint: this system forbids it"]);
    assert!(!work.path("started").exists() && !work.path("inventory.toml").exists());
    assert!(!work.path(".buildproxy").exists());
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
