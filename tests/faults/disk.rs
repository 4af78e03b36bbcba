//! A disk that gets full: a small tmpfs, in a mount namespace, that has a page more of room each time.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    commands::Scenario,
    common::{Awkward, Outcome, Workdir, run, shown::times, workdir::within},
    shows,
    state::{expect_pattern, left_over, whole, with_inventory},
};

/// What came of a command on a full disk.
struct Full {
    /// The command itself.
    outcome: Outcome,
    /// What was on the disk then.
    then: Workdir,
    /// What was there when `next` had run on it, with room.
    later: Workdir,
    /// What `next` ended with.
    next: i32,
}

/// Runs `command` in `work`, with the files of `before` on a disk that has room for `more` (an option of tmpfs), and then
/// `next` with enough room.
fn full(before: &Workdir, work: &Workdir, more: &str, command: &Command, next: &Command) -> Full {
    let (then, later) = (Workdir::new(), Workdir::new());
    let words = |command: &Command| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| format!("'{}' ", word.to_str().unwrap().replace('\'', r"'\''"))).collect::<String>()
    };
    let script = format!(
        "mount -t tmpfs -o size=64m tmpfs '{root}'; cp -a '{before}/.' '{root}'; cd '{root}/work'
         used=$(df --output=used -B 4096 . | tail -n 1); inodes=$(df --output=iused . | tail -n 1)
         mount -o remount,{more} '{root}'
         \"$@\" && code=0 || code=$?
         cp -a '{root}/.' '{then}'; mount -o remount,size=64m,nr_inodes=100000 '{root}'
         {next} 2>'{later}/next' && next=0 || next=$?
         cp -a '{root}/.' '{later}'; echo $next >'{later}/code'; exit $code",
        root = work.root().display(),
        before = before.root().display(),
        then = then.root().display(),
        later = later.root().display(),
        next = words(next),
    );
    let outcome = run(&mut within(command, "-rm", &script));
    let next = fs::read_to_string(later.root().join("code")).unwrap_or_else(|_| panic!("{outcome}"));
    Full { outcome, then, later, next: next.trim().parse().unwrap() }
}

/// Does the work for each number below `most`, or for some of them, others in each run. Gives how many that were.
fn each(most: usize, usual: u32, work: impl Fn(usize) + Sync) -> usize {
    let step = most.div_ceil(times(usual, u32::MAX) as usize).max(1);
    let start = std::process::id() as usize % step;
    let (next, done) = (AtomicUsize::new(start), AtomicUsize::new(0));
    let one = || {
        loop {
            let number = next.fetch_add(step, Ordering::SeqCst);
            if number >= most {
                return;
            }
            work(number);
            done.fetch_add(1, Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(one);
        scope.spawn(one);
    });
    done.into_inner()
}

#[test]
fn a_disk_that_is_full_at_any_write_costs_a_capture_nothing_that_is_not_said() {
    let origin = Awkward::start();
    let before = with_inventory(&origin);
    let (kept, fine) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let check = |more: &str| {
        let (work, notes) = (Workdir::new(), Workdir::new());
        let script = ["/plain/large?size=100000", "/gzip-always", "/plain/small?size=1000", "/missing"].map(|path| {
            format!(
                "curl -sS -o /dev/null '{0}' && echo '{0}' >>'{1}'\n",
                origin.url(path),
                notes.path("done").display()
            )
        });
        let mut capture = work.capturing(&origin.ca.pem);
        capture.args(["--", "sh", "-c", &script.concat()]);
        let mut next = work.capturing(&origin.ca.pem);
        next.args(["--", "true"]);
        let Full { outcome, then, later, next } = full(&before, &work, more, &capture, &next);
        let old = origin.url("/plain/old?size=70000");
        expect_pattern(&whole(&then), &old, 70_000);
        assert!(!outcome.stderr.contains("panicked"), "{more}: {outcome}");
        assert!([0, 3].contains(&outcome.code), "{more}: {outcome}");
        let done = fs::read_to_string(notes.path("done")).unwrap_or_default();
        assert!([0, 4].contains(&done.lines().count()), "{more}: a client did not get its answer: {done} {outcome}");
        let said = |url: &str| outcome.stderr.contains(&format!("{url} is not recorded"));
        let finished: Vec<&str> = done.lines().filter(|url| !said(url)).collect();
        match outcome.code {
            0 => {
                assert_eq!(whole(&then).0.len(), 5, "{more}: {outcome}");
                fine.fetch_add(1, Ordering::SeqCst);
            }
            _ => assert!(outcome.stderr.to_lowercase().contains("no space left"), "{more}: {outcome}"),
        }
        assert_eq!(next, 0, "{more}: {outcome}");
        let inventory = whole(&later);
        expect_pattern(&inventory, &old, 70_000);
        for url in &finished {
            assert_ne!(inventory.one(url).body("file"), Some("inventory.bodies/before"), "{more}: {outcome}");
        }
        for (url, size) in inventory.urls().iter().filter_map(|url| Some((*url, url.rsplit_once("size=")?.1))) {
            expect_pattern(&inventory, url, size.parse().unwrap());
        }
        assert_eq!(left_over(&later), [""; 0], "{more}: {outcome}");
        kept.fetch_add(finished.len(), Ordering::SeqCst);
    };
    let pages = each(46, 12, |pages| check(&format!("size=$(((used + {pages}) * 4096))")));
    let files = each(20, 8, |files| check(&format!("nr_inodes=$((inodes + {files}))")));
    let fine = fine.into_inner();
    assert!(fine > 0 && fine < (pages + files) / 2, "{fine} of {pages} and {files} had room enough");
    shows!(
        Capture,
        "a tmpfs with room for a page more each time, or for a file more; then the next capture, with room",
        "{pages} sizes, {files} numbers of files; {} finished exchanges, none lost that the user was not told of",
        kept.into_inner()
    );
}

#[test]
fn a_disk_that_is_full_leaves_other_commands_something_whole_to_start_again_from() {
    let mut figures = Vec::new();
    for scenario in [
        Scenario::new("rm -f \"$store\"/*-large \"$store\"/*-small", &["fetch"]),
        Scenario::apart(&["merge", "other/inventory.toml"]),
        Scenario::exported(&["import", "all.har"]),
        Scenario::new("", &["move", "--to", "file", "ORIGIN/plain/large*"]),
        Scenario::new("", &["verify", "--refetch", "--fix"]),
    ] {
        let (before, after) = (scenario.files_before(), scenario.files_after());
        let inventory = |files: &BTreeMap<PathBuf, String>| files.get(&PathBuf::from("inventory.toml")).cloned();
        let refused = AtomicUsize::new(0);
        let check = |more: &str| {
            let work = Workdir::new();
            let command = scenario.command(&work);
            let Full { outcome, then, later, next } = full(&scenario.before, &work, more, &command, &command);
            let then_files = Scenario::files(&then);
            let is_short = outcome.stderr.contains("is not recorded");
            let is_one = [&before, &after].iter().any(|files| inventory(files) == inventory(&then_files));
            assert!(is_one || is_short, "{more}: an inventory of neither time: {outcome}");
            assert!(!outcome.stderr.contains("panicked"), "{more}: {outcome}");
            if outcome.code == 0 {
                assert_eq!(then_files, after, "{more}: {outcome}");
            } else {
                assert!(outcome.stderr.to_lowercase().contains("no space left"), "{more}: {outcome}");
                refused.fetch_add(1, Ordering::SeqCst);
            }
            assert_eq!((next, Scenario::files(&later)), (0, after.clone()), "{more}: {outcome}");
            whole(&later);
        };
        let tries = each(40, 4, |pages| check(&format!("size=$(((used + {pages}) * 4096))")))
            + each(12, 3, |files| check(&format!("nr_inodes=$((inodes + {files}))")));
        figures.push(format!("`{}` {} times of {tries}", scenario.name(), refused.into_inner()));
    }
    shows!(
        Capture,
        "a tmpfs with room for a page more each time, or for a file more; then once more, with room",
        "no room for {}; the inventory was that of before or that of after",
        figures.join(", ")
    );
}
