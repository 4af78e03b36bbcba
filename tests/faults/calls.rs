//! Each system call by which a capture changes the disk is once its last one, and once fails.

use std::{
    fs,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    common::{Awkward, Nix, Outcome, Workdir, run, shown::times},
    shows,
    state::{copied, expect_pattern, left_over, whole, with_inventory},
    strace::{Call, Fault, changes, each, picked, with_fault},
};

/// Fetches bodies of every kind: in a spool file, in memory, beside the inventory, within it. Notes what has come in full.
fn script(origin: &Awkward) -> String {
    let paths = ["/plain/large?size=100000", "/gzip-always", "/plain/small?size=1000", "/missing"];
    let one = |path| format!("curl -sS -o /dev/null '{0}' && echo '{0}' >>done\n", origin.url(path));
    paths.map(one).concat()
}

/// A capture of that.
pub fn capture(work: &Workdir, origin: &Awkward) -> Command {
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["--", "sh", "-c", &script(origin)]).env("TOKIO_WORKER_THREADS", "1");
    command
}

/// Checks what is there after a capture that came to grief, and after the next one. Gives how many finished exchanges
/// there were.
fn expect_recovered(work: &Workdir, origin: &Awkward, call: &Call, outcome: &Outcome) -> usize {
    // Nothing of before is lost, whatever happens.
    let old = origin.url("/plain/old?size=70000");
    expect_pattern(&whole(work), &old, 70_000);
    assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    let done = fs::read_to_string(work.path("done")).unwrap_or_default();
    // Only what has no file to be written to cannot be kept.
    let said = |url: &str| call.0 == "openat" && outcome.stderr.contains(&format!("{url} is not recorded"));
    let finished: Vec<&str> = done.lines().filter(|url| !said(url)).collect();
    if outcome.code == 0 {
        let inventory = whole(work);
        finished.iter().for_each(|url| assert_eq!(inventory.of(url).len(), 1, "{url}"));
        assert_eq!(finished.len(), 4, "nothing is left out without an exit code that says so: {outcome}");
    }
    let next = work.capture_sh(origin, "true").expect_code(0);
    let inventory = whole(work);
    expect_pattern(&inventory, &old, 70_000);
    for url in &finished {
        assert_ne!(inventory.one(url).body("file"), Some("inventory.bodies/before"), "{url} has its new body");
    }
    for (url, size) in inventory.urls().iter().filter_map(|url| Some((*url, url.rsplit_once("size=")?.1))) {
        expect_pattern(&inventory, url, size.parse().unwrap());
    }
    // The last one may have ended just before its client could note it.
    assert!(inventory.0.len() <= finished.len() + 3, "nothing unfinished is recorded: {:?}", inventory.urls());
    assert_eq!(left_over(work), [""; 0], "after {outcome}\nthen {next}");
    finished.len()
}

/// One capture with a fault; `None` where it did not come to that.
fn faulty(before: &Workdir, origin: &Awkward, call: &Call, fault: Fault) -> Option<(usize, Outcome)> {
    let work = copied(before);
    let outcome = with_fault(&capture(&work, origin), call, fault, work.root())?;
    let finished = expect_recovered(&work, origin, call, &outcome);
    Some((finished, outcome))
}

/// Captures with `fault` at calls that change the disk; gives what `check` makes of the outcomes, added up, how many
/// there were, and how many finished exchanges.
fn everywhere(fault: Fault, check: impl Fn(&Outcome) + Sync) -> (usize, usize) {
    let origin = Awkward::start();
    let before = with_inventory(&origin);
    let undisturbed = copied(&before);
    let calls = changes(&capture(&undisturbed, &origin), undisturbed.root());
    let finished = AtomicUsize::new(0);
    let calls: Vec<_> = calls.into_iter().filter(|((name, _), _)| fault.is_for(name)).collect();
    let hits = each(&picked(&calls, times(20, u32::MAX) as usize), |call| {
        let Some((count, outcome)) = faulty(&before, &origin, call, fault) else { return false };
        check(&outcome);
        finished.fetch_add(count, Ordering::SeqCst);
        true
    });
    (hits, finished.into_inner())
}

#[test]
fn a_capture_killed_at_any_call_that_changes_the_disk_loses_nothing_finished() {
    let (kills, finished) = everywhere(Fault::Signal("KILL"), |outcome| assert_eq!(outcome.code, 128 + 9, "{outcome}"));
    shows!(
        Capture,
        "SIGKILL just before a system call that changes the disk, each in its turn (strace); then the next capture",
        "{kills} kills; {finished} finished exchanges, none lost; what was there before is whole each time"
    );
}

#[test]
fn a_capture_that_is_told_to_end_at_any_call_loses_nothing_finished() {
    let mut figures = Vec::new();
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let (hits, finished) = everywhere(Fault::Signal(signal), |outcome| {
            assert!([0, 128 + number].contains(&outcome.code), "{outcome}");
        });
        figures.push(format!("{hits} times SIG{signal} with {finished} finished exchanges"));
    }
    shows!(
        Capture,
        "the signal just before a system call that changes the disk, each in its turn (strace)",
        "{}; none lost",
        figures.join(", ")
    );
}

#[test]
fn a_disk_that_fails_at_any_call_costs_nothing_that_is_not_said() {
    let mut figures = Vec::new();
    for error in ["EIO", "ENOSPC"] {
        let (hits, finished) = everywhere(Fault::Error(error), |outcome| {
            // Where it is the inventory that cannot be read, nothing is started.
            let is_unreadable = outcome.code == 2 && outcome.stderr.contains("cannot read");
            assert!([0, 3].contains(&outcome.code) || is_unreadable, "{outcome}");
        });
        figures.push(format!("{hits} times {error} with {finished} finished exchanges"));
    }
    shows!(
        Capture,
        "a system call that changes the disk fails, each in its turn (strace); then the next capture",
        "{}; none lost that the user was not told of",
        figures.join(", ")
    );
}

#[test]
fn a_recovery_that_comes_to_grief_at_any_call_is_taken_over_itself() {
    let origin = Awkward::start();
    let before = with_inventory(&origin);
    // Spool files are named with their folders, so each place needs a dead capture of its own.
    let died = || {
        let work = copied(&before);
        let mut command = work.capturing(&origin.ca.pem);
        command.args(["--", "sh", "-c", &format!("{}kill -KILL $PPID", script(&origin))]);
        run(&mut command).expect_code(128 + 9);
        assert_eq!(fs::read_to_string(work.path("done")).unwrap().lines().count(), 4);
        work
    };
    let next = |work: &Workdir| {
        let mut command = work.capturing(&origin.ca.pem);
        command.args(["--", "true"]).env("TOKIO_WORKER_THREADS", "1");
        command
    };
    let undisturbed = died();
    let calls = changes(&next(&undisturbed), undisturbed.root());
    let mut figures = Vec::new();
    for fault in [Fault::Signal("KILL"), Fault::Error("EIO")] {
        let calls: Vec<_> = calls.iter().filter(|((name, _), _)| fault.is_for(name)).cloned().collect();
        let hits = each(&picked(&calls, times(10, u32::MAX) as usize), |call| {
            let work = died();
            let Some(outcome) = with_fault(&next(&work), call, fault, work.root()) else { return false };
            assert_eq!(expect_recovered(&work, &origin, call, &outcome), 4, "{call:?} {outcome}");
            true
        });
        figures.push(format!("{hits} times {fault}"));
    }
    shows!(
        Capture,
        "a capture killed, then the one that takes it over killed or failed at each system call (strace), then another",
        "{}; 4 finished exchanges each time, none lost",
        figures.join(", ")
    );
}

#[test]
fn with_a_nix_store_a_capture_that_comes_to_grief_at_any_call_loses_nothing_finished() {
    let origin = Awkward::start();
    let capture = |nix: &Nix| {
        let mut capture = nix.capturing(&origin);
        capture.args(["--", "sh", "-c", &script(&origin)]).env("TOKIO_WORKER_THREADS", "1");
        capture
    };
    let undisturbed = Workdir::new();
    let calls = changes(&capture(&Nix::of(&undisturbed)), undisturbed.root());
    let (in_nix, mut figures) = (AtomicUsize::new(0), Vec::new());
    for fault in [Fault::Signal("KILL"), Fault::Error("EIO")] {
        let calls: Vec<_> = calls.iter().filter(|((name, _), _)| fault.is_for(name)).cloned().collect();
        let hits = each(&picked(&calls, times(4, 40) as usize), |call| {
            let work = Workdir::new();
            let nix = Nix::of(&work);
            let Some(outcome) = with_fault(&capture(&nix), call, fault, work.root()) else { return false };
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
            let done = fs::read_to_string(work.path("done")).unwrap_or_default();
            let said = |url: &str| call.0 == "openat" && outcome.stderr.contains(&format!("{url} is not recorded"));
            let next = nix.capture_sh(&origin, "true").expect_code(0);
            let inventory = work.inventory();
            for url in done.lines().filter(|url| !said(url)) {
                assert_eq!(inventory.of(url).len(), 1, "{url} {call:?} {outcome}\nthen {next}");
            }
            // What keeps them is there as well.
            nix.collect_garbage();
            nix.verify().expect_code(0);
            in_nix.fetch_add(nix.valid(&nix.fetched()).len(), Ordering::SeqCst);
            let spool = nix.embedded().join(".spool");
            let left = fs::read_dir(spool).into_iter().flatten().map(|item| item.unwrap().path());
            let left: Vec<_> = left.filter(|folder| folder.join("0").exists()).collect();
            assert!(left.is_empty(), "{left:?} {call:?} {outcome}\nthen {next}");
            true
        });
        figures.push(format!("{hits} times {fault}"));
    }
    shows!(
        Capture,
        "SIGKILL and EIO at each system call that changes the disk (strace), where Nix takes the bodies; then the next \
         capture, and a garbage collection",
        "{}; {} bodies in the Nix store then, none lost",
        figures.join(", "),
        in_nix.into_inner()
    );
}
