//! Whom the program speaks to, and who can speak to it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tokio_rustls::rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{
    common::{
        Awkward, Nginx, Serving, Workdir,
        http1::{Http1, lines},
        process::{Guard, wait_for},
        run,
        serving::text_entry,
        workdir::{behind, within},
    },
    shows,
};

/// Calls by which a process speaks to others, and the files in which it would look up names.
const CALLS: &str =
    "--trace=socket,socketpair,connect,bind,listen,accept,accept4,sendto,sendmsg,sendmmsg,open,openat,openat2,execve";

/// `command` with its calls written to `file`.
fn traced(command: &Command, file: &Path) -> Command {
    behind(&["strace", "-f", "-qq", "-y", CALLS, "-o", file.to_str().unwrap()], command)
}

/// The lines of `file` that are about the call `name`, without what failed to look like one.
fn calls<'a>(trace: &'a str, name: &str) -> Vec<&'a str> {
    let call = format!("{name}(");
    trace.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|word| word.starts_with(&call))).collect()
}

/// Fails where somebody was called, or a name was looked up.
#[track_caller]
fn assert_silent(what: &str, trace: &str, listeners: usize) {
    assert!(!calls(trace, "execve").is_empty(), "{what}: nothing was traced: {trace}");
    assert_eq!(calls(trace, "connect"), [""; 0], "{what}");
    // The kernel itself is asked whose a connection is.
    let is_to_the_kernel = |line: &str| line.contains("NETLINK_SOCK_DIAG") || line.contains("sa_family=AF_NETLINK");
    let sockets: Vec<_> = calls(trace, "socket").into_iter().filter(|line| !is_to_the_kernel(line)).collect();
    assert_eq!(sockets.len(), listeners, "{what}: {sockets:?}");
    for line in calls(trace, "bind") {
        assert!(line.contains("inet_addr(\"127.0.0.1\")"), "{what}: {line}");
    }
    // To whom a connection leads is no part of these calls; another address would be.
    for line in ["sendto", "sendmsg", "sendmmsg"].iter().flat_map(|name| calls(trace, name)) {
        assert!(!line.contains("sa_family") || is_to_the_kernel(line), "{what}: {line}");
    }
    for line in ["open", "openat", "openat2"].iter().flat_map(|name| calls(trace, name)) {
        for file in ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/gai.conf", "libnss"] {
            assert!(!line.contains(file), "{what}: {line}");
        }
    }
}

/// Requests that could tempt a proxy to ask somebody: raw, as they go over the wire.
fn requests(own: SocketAddr) -> Vec<String> {
    let own_port = own.port();
    let absolute = |host: &str| format!("GET http://{host}/ HTTP/1.1\nHost: {host}");
    let mut requests: Vec<String> = [
        "h.test",
        "localhost",
        "localhost:1",
        "127.0.0.1:22",
        "[::1]:22",
        "0.0.0.0:80",
        "169.254.169.254",
        "[fd00::1]",
        "example.org",
        "buildproxy",
        "buildproxy.internal",
        "mitm.it",
        "metadata.google.internal",
        "0x7f000001:25",
        "2130706433",
        "xn--bcher-kva.example",
        "a..b",
        "u:p@h.test",
    ]
    .iter()
    .map(|host| absolute(host))
    .collect();
    for host in
        [format!("127.0.0.1:{own_port}"), format!("localhost:{own_port}"), format!("proxy.localhost:{own_port}")]
    {
        for path in ["/", "/admin", "/metrics", "/buildproxy", "/shutdown", "/proxy.pac", "/ca.pem"] {
            requests.push(format!("GET {path} HTTP/1.1\nHost: {host}"));
            requests.push(format!("GET http://{host}{path} HTTP/1.1\nHost: h.test"));
        }
    }
    for request in [
        "GET ftp://h.test/ HTTP/1.1\nHost: h.test",
        "GET file:///etc/passwd HTTP/1.1\nHost: h.test",
        "GET gopher://127.0.0.1:25/_HELO HTTP/1.1\nHost: h.test",
        "GET // HTTP/1.1\nHost: h.test",
        "GET http:///x HTTP/1.1\nHost: h.test",
        "GET / HTTP/1.0",
        "OPTIONS * HTTP/1.1\nHost: h.test",
        "TRACE http://h.test/ HTTP/1.1\nHost: h.test\nMax-Forwards: 0",
        "POST http://h.test/ HTTP/1.1\nHost: h.test\nContent-Length: 0",
        "PUT http://h.test/../../etc/passwd HTTP/1.1\nHost: h.test\nContent-Length: 0",
        "PRI * HTTP/2.0",
        "GET http://h.test/ HTTP/1.1\nHost: h.test\nConnection: Upgrade\nUpgrade: websocket",
        "GET http://h.test/ HTTP/1.1\nHost: h.test\nX-Forwarded-Host: example.org\nForwarded: host=example.org",
        "GET http://h.test/ HTTP/1.1\nHost: h.test\nProxy-Authorization: Basic eDp5",
        "\u{16}\u{3}\u{1}",
        "SSH-2.0-OpenSSH",
        "\u{5}\u{1}",
    ] {
        requests.push(request.to_owned());
    }
    requests
}

/// Sends `bytes`, reads to the end, and gives the status of what came.
fn sent(address: SocketAddr, bytes: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).split(' ').nth(1)?.parse().ok()
}

#[test]
fn a_replay_calls_nobody_and_looks_up_no_name_whatever_it_is_asked() {
    let work = Workdir::new();
    let trace = work.root().join("trace");
    let inventory = text_entry("http://h.test/a", "plain\n") + &text_entry("https://h.test/a", "over TLS\n");
    let mut serving = Serving::start_in(work, &inventory, |command| {
        *command = traced(command.stderr(Stdio::null()), &trace);
        command.stderr(Stdio::null());
    });
    let address = serving.address;
    for (url, text) in [("http://h.test/a", "plain\n"), ("https://h.test/a", "over TLS\n")] {
        for version in ["--http1.1", "--http2"] {
            assert_eq!(run(serving.curl().args([version, url])).expect_code(0).text(), text);
        }
    }
    let mut asked = 4;
    for request in requests(address) {
        let status = sent(address, &lines(&request));
        // The page of the run is its own, and nothing else answers: no entry is for that host, and none could be.
        let own = ["127.0.0.1", "localhost", "proxy.localhost"].map(|host| format!("{host}:{}", address.port()));
        let is_own = |path: &str| own.iter().any(|host| request == format!("GET {path} HTTP/1.1\nHost: {host}"));
        let of_the_run =
            is_own("/") || is_own("/metrics") || request.starts_with("GET http://buildproxy.internal/ HTTP/1.1");
        assert!(status.is_none_or(|status| status >= 400 || of_the_run && status == 200), "{request}: {status:?}");
        asked += 1;
    }
    for target in ["h.test:443", "127.0.0.1:22", "localhost:25", "[::1]:443", "169.254.169.254:80", "example.org:443"] {
        let stream = serving.connect();
        assert_eq!(Http1(&stream).ask(&format!("CONNECT {target} HTTP/1.1\nHost: {target}")).status, 200, "{target}");
        let name = ServerName::try_from("elsewhere.test").unwrap();
        let session = ClientConnection::new(Arc::new(serving.tls(&["http/1.1"])), name).unwrap();
        let answer = Http1(StreamOwned::new(session, stream)).ask("GET /missing HTTP/1.1\nHost: elsewhere.test");
        assert_eq!(answer.status, 404, "{target}: {answer:?}");
        asked += 1;
    }
    // strace hands signals on to what it traces, which is its child.
    let pid = serving.server.0.id();
    let child = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(child, Signal::TERM).unwrap();
    assert_eq!(serving.server.wait(Duration::from_secs(60)), Some(4), "there were misses");
    let trace = fs::read_to_string(trace).unwrap();
    assert_silent("replay", &trace, 1);
    let accepted = calls(&trace, "accept4").len();
    assert!(accepted >= asked, "{accepted} of {asked} connections are in the trace");
    shows!(
        Replay,
        "every system call of a replay under `strace`",
        "{asked} requests, 0 connections, 0 look-ups of a name"
    );
}

#[test]
fn what_works_offline_opens_no_socket_at_all() {
    let work = Workdir::new();
    let entries = text_entry("http://h.test/a", "one\n") + &text_entry("http://example.org/b", "two\n");
    let fetched = format!(
        "[[entry]]\nurl = \"http://example.org/c\"\nbody = {{ hash = \"{}\", size = 1, name = \"c\" }}\n",
        crate::common::sri(b"c")
    );
    work.write("inventory.toml", format!("version = 1\n{entries}{fetched}"));
    work.write("other.toml", format!("version = 1\n{}", text_entry("http://h.test/z", "three\n")));
    run(work.buildproxy("export").args(["--to", "har", "--no-bodies", "-o", "a.har"])).expect_code(0);
    work.write(
        "lock.json",
        format!("{{\"!version\": 1, \"http://example.org/c\": {{\"hash\": \"{}\"}}}}", crate::common::sri(b"c")),
    );
    let mut count = 0;
    for (arguments, code) in [
        (&["verify"][..], 1),
        (&["paths", "--why"], 0),
        (&["diff", "inventory.toml", "other.toml"], 1),
        (&["merge", "inventory.toml", "other.toml", "-o", "merged.toml"], 0),
        (&["export", "--to", "fetchurl"], 0),
        (&["export", "--to", "har", "--no-bodies"], 0),
        (&["import", "a.har", "-o", "from-har.toml"], 1),
        (&["import", "--no-fetch", "lock.json", "-o", "from-lock.toml"], 1),
        (&["index", "-o", "inventory.bpx"], 0),
        (&["move", "--to", "file", "http://h.test/a"], 0),
        (&["env", "--proxy", "http://proxy.example.org:1", "--ca", "inventory.toml"], 0),
    ] {
        let trace = work.root().join("trace");
        let mut command = work.buildproxy(arguments[0]);
        let outcome = run(&mut traced(command.args(&arguments[1..]), &trace));
        assert_silent(arguments[0], &fs::read_to_string(&trace).unwrap(), 0);
        assert_eq!(outcome.code, code, "{outcome}");
        count += 1;
    }
    shows!(HostileInput, "every system call under `strace`", "{count} commands, 0 sockets");
}

#[test]
fn only_this_machine_is_listened_to_unless_that_is_asked_for_by_name() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        for subcommand in ["replay", "capture"] {
            let mut command = work.buildproxy(subcommand);
            let outcome = run(command.args(["--listen", address, "--", "true"])).expect_code(2);
            outcome.expect_stderr(&["other machines can reach", "--allow-remote", "what you reach"]);
        }
    }
    let listening = |arguments: &[&str]| {
        let mut command = work.buildproxy("replay");
        command.args(arguments).args(["--", "sh", "-c", "echo \"$BUILDPROXY_PROXY_URL\"; cat /proc/net/tcp"]);
        let outcome = run(&mut in_a_network_of_its_own(&command)).expect_code(0);
        let listening = outcome.text().lines().filter(|line| line.contains(" 00000000:0000 0A ")).count();
        let on_loopback =
            outcome.text().lines().filter(|line| line.contains(" 0100007F:") && line.contains(" 0A ")).count();
        (listening, on_loopback)
    };
    assert_eq!(listening(&[]), (1, 1));
    assert_eq!(listening(&["--listen", "0.0.0.0:0", "--allow-remote"]), (1, 0));
    shows!(HostileInput, "replays and captures with 4 addresses", "1 listening socket, on 127.0.0.1");
}

fn in_a_network_of_its_own(command: &Command) -> Command {
    crate::common::in_empty_network(command)
}

/// A capture that goes on until the test ends, and where it listens.
struct Capturing {
    work: Workdir,
    address: SocketAddr,
    capture: Guard,
}

impl Capturing {
    fn start(ca: &str, change: impl FnOnce(Command) -> Command) -> Self {
        let work = Workdir::new();
        let mut command = work.capturing(ca);
        let script = "echo \"$BUILDPROXY_PROXY_URL\" >url.new; mv url.new url; while [ ! -e done ] && kill -0 $PPID; do sleep 0.02; done";
        command.args(["--", "sh", "-c", script]);
        let capture = Guard(change(command).stderr(Stdio::null()).spawn().unwrap());
        let url = wait_for("the capture", || fs::read_to_string(work.path("url")).ok());
        let address = url.trim().trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        Self { work, address, capture }
    }

    fn end(mut self) -> Workdir {
        self.work.write("done", "");
        assert_eq!(self.capture.wait(Duration::from_secs(60)), Some(0));
        self.work
    }
}

#[test]
fn a_page_in_a_browser_gets_nothing_through_a_running_capture() {
    let origin = Nginx::start("");
    fs::write(origin.www().join("secret.txt"), "of the intranet\n").unwrap();
    let capturing = Capturing::start(&origin.ca.pem, |command| command);
    let (address, port) = (capturing.address, capturing.address.port());
    // A browser that is no client of the proxy asks in origin-form, and its `Host` has the port that it dialled.
    let mut asked = 0;
    for host in [
        "127.0.0.1",
        "localhost",
        "evil.test",
        "evil.test.",
        "EVIL.test",
        "127.0.0.1.evil.test",
        "[::1]",
        "a.localhost",
    ] {
        for request in [
            format!("GET /secret.txt HTTP/1.1\nHost: {host}:{port}\nOrigin: http://evil.test"),
            format!("POST /secret.txt HTTP/1.1\nHost: {host}:{port}\nOrigin: null\nContent-Length: 0"),
            format!("OPTIONS / HTTP/1.1\nHost: {host}:{port}\nAccess-Control-Request-Private-Network: true"),
        ] {
            assert_eq!(sent(address, &lines(&request)), Some(400), "{request}");
            asked += 1;
        }
    }
    let url = origin.url("/secret.txt");
    let host = url.split('/').nth(2).unwrap();
    let as_client = format!("GET {url} HTTP/1.1\nHost: {host}\nConnection: close");
    assert_eq!(sent(address, &lines(&as_client)), Some(200), "a client of the proxy");
    let work = capturing.end();
    assert_eq!(work.inventory().urls(), [&url]);
    shows!(
        HostileInput,
        "requests as browsers send them, by 8 names that can mean this machine",
        "{asked} requests, 0 passed on"
    );
}

#[test]
fn a_name_that_leads_back_to_the_capture_is_asked_once() {
    let origin = Awkward::start();
    let hosts = Workdir::new();
    hosts.write("hosts", "127.0.0.1 localhost loop.test\n");
    let mount = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.path("hosts").display());
    let capturing = Capturing::start(&origin.ca.pem, |command| within(&command, "-rm", &mount));
    let port = capturing.address.port();
    let request = format!("GET http://loop.test:{port}/ HTTP/1.1\nHost: loop.test:{port}\nConnection: close");
    assert_eq!(sent(capturing.address, &lines(&request)), Some(400));
    let request = format!("GET http://loop.test:{port}/ HTTP/1.1\nHost: h.test\nConnection: close");
    assert_eq!(sent(capturing.address, &lines(&request)), Some(400), "`Host` does not count");
    drop(capturing.end());
}
