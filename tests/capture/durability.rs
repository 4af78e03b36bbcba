//! Captures that are killed, captures that meet, and bodies that are larger than the memory they may take.

use std::{
    convert::Infallible,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    common::{
        Awkward, Entries, Workdir,
        awkward::answers::big_blocks,
        in_empty_network, pattern,
        process::{Guard, wait_for},
        run,
        serving::text_entry,
        shown::times,
        sri,
        workdir::behind,
    },
    shows,
};
use rustix::process::Signal;
use sha2::{Digest, Sha256};

/// 64 MiB, the most that a run may take whatever it carries.
const MEMORY_KIB: u64 = 64 * 1024;

#[test]
fn a_capture_ended_at_any_moment_loses_no_finished_exchange_and_records_no_partial_one() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut random = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos() | 1;
    let reading = AtomicBool::new(true);
    let mut finished = Vec::new();
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/first?size=10")))
        .expect_code(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| always_whole(&work.path("inventory.toml"), &reading));
        for round in 0..times(36, 400) {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let delay = Duration::from_millis(u64::from(random >> 16) % 800);
            // Short ones are about to write the inventory when they are killed, long ones are in the middle.
            let downloads = if round % 2 == 0 { 100 } else { 4 };
            // Most are killed, the others told to end.
            let signal = [Signal::KILL, Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT][round as usize % 5];
            finished.extend(ended_capture(&origin, &work, round, downloads, (delay, signal)));
        }
        work.capture_sh(&origin, "true").expect_code(0);
        reading.store(false, Ordering::SeqCst);
        reader.join().unwrap();
    });
    assert!(finished.len() > 20, "only {} exchanges were finished: nothing was tested", finished.len());
    let inventory = work.inventory();
    for (url, size) in &finished {
        assert_eq!(inventory.one(url).body("hash"), Some(sri(&pattern(*size)).as_str()), "{url}");
    }
    for entry in &inventory.0 {
        let size = usize::try_from(entry.size().unwrap()).unwrap();
        assert_eq!(entry.body("hash"), Some(sri(&pattern(size)).as_str()), "whole: {}", entry.text("url"));
    }
    run(&mut work.buildproxy("verify")).expect_code(0);
    shows!(
        Capture,
        "SIGKILL, SIGTERM or SIGINT at a random moment, then the next capture; a reader looks at the inventory all the while",
        "{} signals; {} finished exchanges, none lost; {} entries, all whole",
        times(36, 400),
        finished.len(),
        inventory.0.len()
    );
}

/// One capture of many small downloads beside slow ones, that gets a signal after a time. Gives the URLs and sizes that the
/// client had in full.
fn ended_capture(
    origin: &Awkward,
    work: &Workdir,
    round: u32,
    downloads: u32,
    (delay, signal): (Duration, Signal),
) -> Vec<(String, usize)> {
    let _removed = fs::remove_file(work.path("done"));
    let script = format!(
        "curl -sS -o /dev/null '{}' & for n in $(seq {downloads}); do size=$((n * 7919)); \
         curl -sSf -o /dev/null \"{}$n?size=$size\"; echo $n $size >>done; done",
        origin.url(&format!("/slow?ms=60&round={round}")),
        origin.tls_url(&format!("/plain/{round}-")),
    );
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--", "sh", "-euc", &script]);
    // A test in the background of a script inherits that interrupts are ignored.
    let mut command = behind(&["env", "--default-signal=INT,TERM"], &command);
    let mut capture = Guard(command.stderr(std::process::Stdio::null()).spawn().unwrap());
    std::thread::sleep(delay);
    let _already_ended = rustix::process::kill_process(capture.pid(), signal);
    let code = capture.wait(Duration::from_secs(30));
    // It may have ended before.
    assert!([Some(0), Some(128 + signal.as_raw())].contains(&code), "{code:?} {signal:?}");
    // The client notices that its proxy has gone; nothing of it may reach into the next round.
    wait_for("the client's end", || {
        let before = fs::read_to_string(work.path("done")).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(60));
        (fs::read_to_string(work.path("done")).unwrap_or_default() == before).then_some(())
    });
    let done = fs::read_to_string(work.path("done")).unwrap_or_default();
    let line = |line: &str| {
        let (n, size) = line.split_once(' ').unwrap();
        (origin.tls_url(&format!("/plain/{round}-{n}?size={size}")), size.parse().unwrap())
    };
    done.lines().map(line).collect()
}

/// Reads the inventory over and over: whenever it is there, it is a whole one.
fn always_whole(path: &Path, reading: &AtomicBool) {
    let mut read = 0;
    while reading.load(Ordering::SeqCst) {
        if path.exists() {
            Entries::read(path);
            read += 1;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    assert!(read > 100, "read only {read} times");
}

#[test]
fn two_captures_at_once_share_a_store() {
    let (origin, one, other) = (Awkward::start(), Workdir::new(), Workdir::new());
    let downloads =
        (1..30).map(|n| format!("'{}'", origin.url(&format!("/plain/{n}?size={}", n * 4001)))).collect::<Vec<_>>();
    let script = format!("for url in {}; do curl -sSf -o /dev/null $url & done; wait", downloads.join(" "));
    let shared = one.root().join("shared");
    std::thread::scope(|scope| {
        for work in [&one, &other] {
            scope.spawn(|| {
                let mut command = work.capturing_into(&origin.ca.pem, &shared);
                run(command.args(["--", "sh", "-euc", &script])).expect_code(0);
            });
        }
    });
    assert_eq!(one.read("inventory.toml"), other.read("inventory.toml"));
    assert_eq!(one.inventory().urls().len(), 29);
    let mut verify = other.command(env!("CARGO_BIN_EXE_buildproxy"));
    run(verify.args(["verify", "--store"]).arg(&shared)).expect_code(0);
    shows!(
        Capture,
        "two captures at the same time of the same files",
        "{} files, two equal inventories",
        one.inventory().0.len()
    );
}

#[test]
fn two_captures_at_once_into_one_inventory_lose_nothing() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (first, second) = (origin.url("/plain/first"), origin.url("/plain/second"));
    let mut command = work.capturing(&origin.ca.pem);
    let script = format!("curl -sSf -o /dev/null '{first}'; touch ready; until test -e go; do sleep 0.02; done");
    let mut running = Guard(command.args(["--", "sh", "-euc", &script]).spawn().unwrap());
    wait_for("the first capture", || work.path("ready").exists().then_some(()));
    let beside = work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{second}'; touch go"));
    work.write("go", "");
    assert_eq!(running.wait(Duration::from_secs(20)), Some(0));
    let inventory = work.inventory();
    assert_eq!(inventory.one(&first).size(), Some(1000));
    if beside.code == 0 {
        assert_eq!(inventory.one(&second).size(), Some(1000));
    } else {
        assert!(beside.stderr.contains("inventory.toml") || beside.stderr.contains(".buildproxy"), "{beside}");
    }
}

#[test]
fn a_merge_waits_for_who_is_just_writing_the_inventory() {
    let work = Workdir::new();
    let entry = |url: &str| text_entry(url, "a");
    work.write("inventory.toml", format!("version = 1\n{}", entry("http://h.test/old")));
    work.write("other.toml", format!("version = 1\n{}", entry("http://h.test/other")));
    fs::create_dir(work.path(".buildproxy")).unwrap();
    let lock = fs::File::create(work.path(".buildproxy/lock")).unwrap();
    lock.lock().unwrap();
    let mut merge = work.buildproxy("merge");
    let mut merge = Guard(merge.arg("other.toml").spawn().unwrap());
    let waiter = format!("-> FLOCK  ADVISORY  WRITE {} ", merge.0.id());
    wait_for("the merge that waits", || {
        assert_eq!(merge.0.try_wait().unwrap(), None, "it does not wait");
        fs::read_to_string("/proc/locks").unwrap().contains(&waiter).then_some(())
    });
    // What a capture writes there now.
    work.write("inventory.toml", format!("version = 1\n{}", entry("http://h.test/new")));
    drop(lock);
    assert_eq!(merge.wait(Duration::from_secs(20)), Some(0));
    assert_eq!(work.inventory().urls(), ["http://h.test/new", "http://h.test/other"]);
}

#[test]
fn a_gigabyte_is_captured_and_replayed_in_64_mebibytes_of_memory() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let mut hasher = Sha256::new();
    let Ok(()) = big_blocks::<Infallible>(1024, |block| {
        hasher.update(block);
        Ok(())
    });
    let digest = data_encoding::HEXLOWER.encode(&hasher.finalize());
    let (plain, secure) = (origin.url("/big?mib=1024"), origin.tls_url("/big?mib=1024"));
    let script = format!("for url in '{plain}' '{secure}'; do curl -sSf $url | sha256sum; done");
    let expected = format!("{digest}  -\n{digest}  -\n");
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(captured.text(), expected);
    assert!((1..MEMORY_KIB).contains(&captured.peak_kib), "capture took {} KiB", captured.peak_kib);
    drop(origin);
    let replayed = run(&mut in_empty_network(work.replaying().args(["--", "sh", "-euc", &script]))).expect_code(0);
    assert_eq!(replayed.text(), expected);
    assert!((1..MEMORY_KIB).contains(&replayed.peak_kib), "replay took {} KiB", replayed.peak_kib);
    let verified = run(&mut work.buildproxy("verify")).expect_code(0);
    assert!((1..MEMORY_KIB).contains(&verified.peak_kib), "verify took {} KiB", verified.peak_kib);
}

#[test]
fn a_dead_capture_whose_bodies_are_gone_does_not_stop_the_next_one() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let large = origin.url("/plain/large?size=300000");
    let mut command = work.capturing(&origin.ca.pem);
    let script = format!("curl -sSf -o /dev/null '{large}'; touch fetched; sleep 60");
    command.args(["--", "sh", "-euc", &script]).stderr(std::process::Stdio::null());
    let mut capture = Guard(command.spawn().unwrap());
    wait_for("the download", || work.path("fetched").exists().then_some(()));
    capture.signal(Signal::KILL);
    assert_eq!(capture.wait(Duration::from_secs(5)), Some(128 + 9));
    fs::remove_dir_all(work.store()).unwrap();
    let small = origin.url("/plain/small");
    let outcome = work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{small}'")).expect_code(3);
    outcome.expect_stderr(&["/plain/large", "its bytes are gone"]);
    assert_eq!(work.inventory().one(&small).size(), Some(1000));
    work.capture_sh(&origin, "true").expect_code(0);
    shows!(
        Capture,
        "SIGKILL, and the store removed",
        "named as lost; {} recorded afterwards",
        work.inventory().0.len()
    );
}

#[test]
fn a_build_that_cleans_its_work_tree_loses_nothing() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/kept?size=200000");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'; git init -q .; git clean -qfdx")).expect_code(0);
    assert_eq!(work.inventory().one(&url).size(), Some(200_000));
    run(&mut work.buildproxy("verify")).expect_code(0);
    shows!(Capture, "`git clean -fdx` in the middle of a capture", "{} recorded, and whole", work.inventory().0.len());
}
