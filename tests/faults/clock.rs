//! Clocks that jump while a capture runs, by Debian's libfaketime; and time limits, reached by turning the clock.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    common::{
        Awkward, TestCa, Workdir, pattern,
        process::{Guard, wait_for},
        run,
    },
    shows,
    state::{expect_pattern, left_over, whole},
    wire::{End, WireOrigin, head},
};

/// The library that turns the clock of a program.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("libfaketime: run ./test, which installs it")
}

/// `command`, which takes its clock's offset from the file `clock` of `work`.
fn turned<'a>(command: &'a mut Command, work: &Workdir) -> &'a mut Command {
    work.write("clock", "+0\n");
    command.env("LD_PRELOAD", library()).env("FAKETIME_NO_CACHE", "1");
    command.env("FAKETIME_TIMESTAMP_FILE", work.path("clock"))
}

#[test]
fn a_clock_that_jumps_in_the_middle_of_a_capture_changes_nothing() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let jumps = ["+400d", "-20y", "+30y", "-1", "+0"];
    let mut script = format!("curl -sSf -o slow '{}' &\nsleep 0.2\n", origin.tls_url("/slow?ms=150"));
    for (n, jump) in jumps.iter().enumerate() {
        let url = |size: usize| origin.tls_url(&format!("/plain/{n}?size={size}"));
        let (large, part) = (url(100_000 + n), url(3000 + n));
        // As a file, which is read whole at any moment.
        script += &format!("echo '{jump}' >new; mv new clock; date +%Y >>years\n");
        script += &format!("curl -sSf -o /dev/null '{large}'; curl -sSf -o /dev/null '{part}'\n");
    }
    script += "wait\n";
    let mut capture = work.capturing(&origin.ca.pem);
    capture
        .args(["--", "sh", "-euc", &script])
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    run(turned(&mut capture, &work)).expect_code(0);
    let years = String::from_utf8(work.read("years")).unwrap();
    let years: Vec<i32> = years.lines().map(|year| year.parse().unwrap()).collect();
    assert!(years[1] < years[0] - 15 && years[2] > years[0] + 15, "the clock did jump: {years:?}");
    let inventory = whole(&work);
    for n in 0..jumps.len() {
        for size in [100_000 + n, 3000 + n] {
            expect_pattern(&inventory, &origin.tls_url(&format!("/plain/{n}?size={size}")), size);
        }
    }
    assert_eq!(inventory.one(&origin.tls_url("/slow?ms=150")).size(), Some(4000));
    assert_eq!((work.read("slow"), inventory.0.len()), (pattern(4000), 11));
    assert_eq!(left_over(&work), [""; 0]);
    shows!(
        Capture,
        "the wall clock jumps while bodies come by HTTPS (libfaketime)",
        "{} jumps, from {} to {}; {} exchanges, all recorded",
        jumps.len(),
        years.iter().min().unwrap(),
        years.iter().max().unwrap(),
        inventory.0.len()
    );
}

#[test]
fn of_two_dead_captures_the_later_one_counts_whatever_the_clock_said() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/counter");
    for offset in ["+30d", "-30d", "-60d"] {
        let mut capture = work.capturing(&origin.ca.pem);
        let script = format!("curl -sSf -o /dev/null '{url}'; kill -KILL $PPID; sleep 0.1");
        let capture = turned(capture.args(["--", "sh", "-euc", &script]), &work);
        work.write("clock", offset);
        run(capture.env("DONT_FAKE_MONOTONIC", "1")).expect_code(128 + 9);
    }
    work.capture_sh(&origin, "true").expect_code(0).expect_stderr(&["recovered 3 exchanges"]);
    assert_eq!(whole(&work).one(&url).body("hash"), Some(crate::common::sri(b"count 3\n").as_str()));
}

#[test]
fn an_origin_that_stalls_is_given_up_after_its_time_and_not_recorded() {
    let (ca, reached) = (TestCa::new(), Arc::new(AtomicUsize::new(0)));
    let stall = {
        let reached = Arc::clone(&reached);
        move || reached.fetch_add(1, Ordering::SeqCst)
    };
    let stalls = stall.clone();
    let body = move |path: &str, wire: &mut crate::wire::Wire| {
        match path {
            "/good" => {
                wire.write_all(&head("Content-Length: 5"))?;
                return wire.write_all(b"good\n").map(|()| End::Keep);
            }
            "/body" => wire.write_all(&[&head("Content-Length: 5000"), &pattern(2500)[..]].concat())?,
            "/chunks" => wire.write_all(&[&head("Transfer-Encoding: chunked"), &b"5\r\nhello\r\n"[..]].concat())?,
            "/head" => wire.write_all(b"HTTP/1.1 200 OK\r\nContent-")?,
            _ => {}
        }
        wire.flush()?;
        stalls();
        Ok(End::Stall)
    };
    let body = Arc::new(body);
    let plain = WireOrigin::http(None, Arc::clone(&body) as _);
    let tls = WireOrigin::http(Some(ca.server_config()), body);
    let silent = WireOrigin::raw("https", move |mut tcp| {
        stall();
        std::io::copy(&mut tcp, &mut std::io::sink()).map(drop)
    });
    let mut stalled: Vec<String> = Vec::new();
    for path in ["/nothing", "/head", "/body", "/chunks"] {
        stalled.extend([plain.url(path), tls.url(path)]);
    }
    stalled.push(silent.url("/handshake"));
    let (work, good) = (Workdir::new(), plain.url("/good"));
    // Theirs is the real clock.
    let mut script = "unset LD_PRELOAD\n".to_owned();
    for (n, url) in stalled.iter().enumerate() {
        script += &format!(
            "{{ curl -sSN -o got{n} -w '%{{http_code}}' '{url}' >status{n} 2>err{n}; echo $? >code{n}; }} &\n"
        );
    }
    script += &format!("until test -e go; do sleep 0.02; done; curl -sSf -o good '{good}'; wait\n");
    let mut capture = work.capturing(&ca.pem);
    capture.args(["--", "sh", "-uc", &script]).stderr(fs::File::create(work.path("stderr")).unwrap());
    let mut capture = Guard(turned(&mut capture, &work).spawn().unwrap());
    // Until each of them has come as far as it gets.
    let has = |n: usize, size: u64| fs::metadata(work.path(&format!("got{n}"))).is_ok_and(|file| file.len() == size);
    wait_for("the downloads", || {
        let all_stall = reached.load(Ordering::SeqCst) == stalled.len();
        (all_stall && has(4, 2500) && has(5, 2500) && has(6, 5) && has(7, 5)).then_some(())
    });
    assert!(!work.path("code0").exists(), "it was not given up before its time");
    work.write("new", "+301\n");
    fs::rename(work.path("new"), work.path("clock")).unwrap();
    work.write("go", "");
    let code = capture.wait(Duration::from_secs(30));
    let said = String::from_utf8(work.read("stderr")).unwrap();
    assert_eq!(code, Some(0), "{said}");
    for (n, url) in stalled.iter().enumerate() {
        let read = |name: &str| String::from_utf8(work.read(&format!("{name}{n}"))).unwrap();
        let has_head = url.ends_with("/body") || url.ends_with("/chunks");
        let (code, status) = (read("code"), read("status"));
        match has_head {
            true => assert!(code != "0\n", "{url}: {status}"),
            false => assert_eq!((code.as_str(), status.as_str()), ("0\n", "502"), "{url}"),
        }
        let line = said.lines().find(|line| line.contains(&format!("{url} is not recorded")));
        assert!(line.is_some_and(|line| line.contains("time")), "{url} in {said}");
    }
    assert_eq!((work.read("good"), work.inventory().urls()), (b"good\n".to_vec(), vec![good.as_str()]));
    shows!(
        Capture,
        "origins that stall in the handshake, before and in the head, and in the body; the clock is turned by 301 s",
        "{} stalls, each given up with a reason, none recorded",
        stalled.len()
    );
}
