//! A server that may not have all that it wants: descriptors, memory.

use std::{
    fs::{self, File},
    io::Write,
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    common::{
        Sending, Serving, Workdir,
        http1::Http1,
        process::{peak_kib_of, run, wait_for},
        sending::{drain, read_head},
        serving::text_entry,
        sri,
        workdir::behind,
    },
    cost::{cpu_ticks, descriptors},
    shows,
};

/// Has `command` run with such limits, in the words of `ulimit`, and say what it has to say into the file `log`.
pub fn limited(command: &mut Command, limits: &str) {
    let shell = format!("ulimit {limits} && exec \"$@\"");
    *command = behind(&["sh", "-euc", &shell, "sh"], command);
    let log = File::create(command.get_current_dir().unwrap().join("log")).unwrap();
    command.stderr(log).stdout(Stdio::null());
}

fn log_of(serving: &Serving) -> String {
    String::from_utf8(serving.work.read("log")).unwrap()
}

const REQUEST: &str = "GET http://h.test/text HTTP/1.1\nHost: h.test";

fn answers(stream: &TcpStream) {
    assert_eq!(Http1(stream).ask(REQUEST).text(), "some text");
}

#[test]
fn a_server_without_descriptors_left_waits_for_some_without_spinning_and_says_so_once() {
    const CLIENTS: usize = 200;
    let entry = text_entry("http://h.test/text", "some text");
    let mut serving = Serving::start_in(Workdir::new(), &entry, |command| limited(command, "-n 64"));
    // More than it can have, and more than a queue of the usual 128 would take.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| serving.connect()).collect();
    let pid = serving.server.0.id();
    wait_for("the line in the log", || log_of(&serving).contains("cannot accept connections").then_some(()));
    let before = cpu_ticks(pid);
    thread::sleep(Duration::from_secs(1));
    let spent = cpu_ticks(pid) - before;
    assert!(spent < 20, "{spent} ticks of a hundred: it spins");
    let open = descriptors(pid);
    // Each gets its answer as soon as others have left.
    while !clients.is_empty() {
        let served = clients.drain(..clients.len().min(20));
        served.for_each(|client| answers(&client));
    }
    let lines = log_of(&serving).matches("cannot accept connections").count();
    assert_eq!(lines, 1, "{}", log_of(&serving));
    serving.server.signal(Signal::TERM);
    assert_eq!(serving.server.wait(Duration::from_secs(10)), Some(0));
    shows!(
        Replay,
        "`ulimit -n 64`, more clients than that, who then leave",
        "{CLIENTS} clients on {open} descriptors: each answered, 1 line in the log, {spent} of 100 ticks of processor time \
         while nothing was free"
    );
}

#[test]
fn bodies_wait_for_descriptors_that_other_answers_hold() {
    const CLIENTS: usize = 60;
    const SIZE: u64 = 300 << 10;
    let bodies: Vec<_> = (0..CLIENTS).map(|n| (sri(format!("body {n}").as_bytes()), SIZE)).collect();
    let mut sending = Sending::by(
        &bodies,
        |n, mut file| {
            file.write_all(&[b'0' + u8::try_from(n).unwrap()]).unwrap();
            file.set_len(SIZE).unwrap();
        },
        // Over HTTP/2 a file for each stream: more than one connection's worth of descriptors.
        |command| limited(command, "-n 32"),
    );
    let mut h2load = sending.serving.work.command("h2load");
    let urls = (0..CLIENTS).map(|n| format!("http://h.test/body{n}.bin"));
    h2load.args(["-n", "240", "-c", "2", "-m", "60", "-t", "1"]);
    h2load.arg(format!("--connect-to={}", sending.serving.address)).args(urls);
    let outcome = run(&mut h2load).expect_code(0);
    assert!(outcome.text().contains("240 succeeded, 0 failed, 0 errored"), "{outcome}");
    assert!(outcome.text().contains("status codes: 240 2xx"), "{outcome}");
    sending.serving.server.signal(Signal::TERM);
    assert_eq!(sending.serving.server.wait(Duration::from_secs(10)), Some(0), "{}", log_of(&sending.serving));
    shows!(
        Replay,
        "`ulimit -n 32`, 120 streams of HTTP/2 at once, a file each",
        "240 of 240 answers 200 and whole, exit code 0"
    );
}

#[test]
fn a_server_takes_all_the_descriptors_that_it_may_have_and_its_command_gets_what_there_was() {
    const CLIENTS: usize = 300;
    let entry = text_entry("http://h.test/text", "some text");
    let serving = Serving::start_in(Workdir::new(), &entry, |command| limited(command, "-Sn 100"));
    let clients: Vec<_> = (0..CLIENTS).map(|_| serving.connect()).collect();
    // All of them stay.
    clients.iter().for_each(answers);
    let open = descriptors(serving.server.0.id());
    assert!(open > CLIENTS, "{open}");
    let work = &serving.work;
    let mut command = work.replaying();
    command.args(["--", "sh", "-euc", "ulimit -Sn; sleep 0.2; grep 'open files' /proc/$PPID/limits"]);
    let outcome = run(&mut behind(&["sh", "-euc", "ulimit -Sn 100 && exec \"$@\"", "sh"], &command)).expect_code(0);
    let mut lines = outcome.text().lines();
    assert_eq!(lines.next(), Some("100"), "the command's own: {outcome}");
    let of_proxy: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(of_proxy[3], of_proxy[4], "as many as it may: {outcome}");
    shows!(
        Load,
        "`ulimit -Sn 100`; what the command behind the proxy sees is asked from within",
        "{CLIENTS} connections open at once, the command's own limit still 100"
    );
}

/// The address space of process `pid`, in KiB.
fn address_space(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    size.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn downloads_need_no_room_in_the_address_space() {
    const CLIENTS: usize = 16;
    const SIZE: u64 = 64 << 20;
    let bodies: Vec<_> = (0..CLIENTS).map(|n| (sri(format!("body {n}").as_bytes()), SIZE)).collect();
    let make = |_: usize, file: &File| file.set_len(SIZE).unwrap();
    let limit = 300 << 10;
    let mut sending = Sending::by(&bodies, make, |command| limited(command, &format!("-v {limit}")));
    let begin = |n| {
        let stream = sending.serving.connect();
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 16 << 10).unwrap();
        let mut client = sending.ask_on(stream, "http", &format!("body{n}.bin"), "");
        assert!(read_head(&mut client).starts_with("HTTP/1.1 200"), "{}", log_of(&sending.serving));
        client
    };
    let clients: Vec<_> = (0..CLIENTS).map(begin).collect();
    let clients: Vec<_> =
        clients.into_iter().map(|mut client| thread::spawn(move || drain(&mut client).unwrap_or(0))).collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), SIZE, "{}", log_of(&sending.serving));
    }
    let (space, peak) = (address_space(sending.serving.server.0.id()), peak_kib_of(sending.serving.server.0.id()));
    sending.serving.server.signal(Signal::TERM);
    assert_eq!(sending.serving.server.wait(Duration::from_secs(10)), Some(0));
    shows!(
        Replay,
        "`ulimit -v` of 300 MiB, 16 downloads of 64 MiB at once, which would be mapped in 1 GiB",
        "{CLIENTS} of {CLIENTS} whole, {} MiB of address space at the end, peak {} MiB resident",
        space >> 10,
        peak >> 10
    );
}

/// Runs a command that needs to have more than there is.
fn started_with(work: &Workdir, limits: &str) -> (i32, String) {
    let mut command = work.replaying();
    command.args(["--", "true"]).env("TOKIO_WORKER_THREADS", "8").env("RUST_BACKTRACE", "0");
    let shell = format!("ulimit {limits} && exec \"$@\"");
    let outcome = run(&mut behind(&["sh", "-euc", &shell, "sh"], &command));
    (outcome.code, outcome.stderr)
}

#[test]
fn a_start_without_room_for_its_threads_is_an_error_in_words() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n");
    let mut refused = 0;
    // From what is enough downwards: somewhere between, threads do not get their stacks.
    for limit in (2..13).rev() {
        let (code, stderr) = started_with(&work, &format!("-v {}", limit * 4096));
        assert!(!stderr.contains("panicked"), "{limit}: {stderr}");
        if code == 3 && stderr.contains("cannot start") {
            refused += 1;
        }
    }
    assert!(refused > 0, "none of the limits is the one");
}
