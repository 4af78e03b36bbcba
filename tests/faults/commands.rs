//! The other commands that write, at each system call by which they change the disk: killed there, and failed there.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use crate::{
    common::{Awkward, Workdir, run, shown::times, sri, tree},
    shows,
    state::{copied, left_over, whole},
    strace::{Fault, changes, each, picked, with_fault},
};

/// A command, and the place that it is run in.
pub struct Scenario {
    pub before: Workdir,
    origin: Awkward,
    command: Vec<String>,
}

impl Scenario {
    /// What `command` does after two files have been captured and one that the origin has no more, and `setup` was run.
    pub fn new(setup: &str, command: &[&str]) -> Self {
        let (origin, before) = (Awkward::start(), Workdir::new());
        let url = |path: &str| origin.url(path);
        let urls = ["/plain/large?size=100000", "/gzip-always", "/plain/small?size=1000", "/once/404"].map(url);
        let script = urls.map(|url| format!("curl -sSf -o /dev/null '{url}'\n")).concat();
        before.capture_sh(&origin, &script).expect_code(0);
        let bin = env!("CARGO_BIN_EXE_buildproxy");
        let setup = format!("alias bp='{bin}'\nstore='{}'\n{setup}", before.store().display());
        let mut shell = before.command("sh");
        run(shell.args(["-euc", &setup]).env("BUILDPROXY_STORE", before.store())).expect_code(0);
        let command = command.iter().map(|word| word.replace("ORIGIN", &origin.url(""))).collect();
        Self { before, origin, command }
    }

    /// The same where the inventory is empty, and what was captured is in `other/`.
    pub fn apart(command: &[&str]) -> Self {
        let setup = "mkdir other; cp -r inventory.toml inventory.bodies other; rm -r inventory.bodies";
        Self::new(&format!("{setup}; echo 'version = 1' >inventory.toml"), command)
    }

    /// The same where there is nothing, but a HAR file of what was captured.
    pub fn exported(command: &[&str]) -> Self {
        let setup = "bp export --to har -o all.har; rm -r inventory.bodies \"$store\"/*";
        Self::new(&format!("{setup}; echo 'version = 1' >inventory.toml"), command)
    }

    pub fn command(&self, work: &Workdir) -> Command {
        let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
        command.args(&self.command).env("BUILDPROXY_STORE", work.store()).env("TOKIO_WORKER_THREADS", "1");
        command
    }

    /// What is in the place, but for what is temporary, and files beside the inventory that it does not refer to: who is
    /// killed cannot remove them, and nobody else knows whose they are.
    pub fn files(work: &Workdir) -> BTreeMap<PathBuf, String> {
        let mut files = tree(&work.path(""));
        files.extend(tree(&work.store()).into_iter().map(|(path, bytes)| (PathBuf::from("store").join(path), bytes)));
        let is_temporary = |path: &PathBuf| path.iter().any(|part| part.to_str().unwrap().starts_with('.'));
        let inventory = String::from_utf8(work.read("inventory.toml")).unwrap();
        let is_needed = |path: &PathBuf| {
            !path.starts_with("inventory.bodies") || inventory.contains(&format!("\"{}\"", path.display()))
        };
        files.retain(|path, _| !is_temporary(path) && is_needed(path));
        files
    }

    /// What was in the place before it.
    pub fn files_before(&self) -> BTreeMap<PathBuf, String> {
        Self::files(&self.before)
    }

    /// What is there after it.
    pub fn files_after(&self) -> BTreeMap<PathBuf, String> {
        let undisturbed = copied(&self.before);
        run(&mut self.command(&undisturbed)).expect_code(0);
        Self::files(&undisturbed)
    }

    /// The name of the command.
    pub fn name(&self) -> &str {
        &self.command[0]
    }

    /// Puts `fault` everywhere. Gives how many there were.
    fn everywhere(&self, fault: Fault) -> usize {
        let undisturbed = copied(&self.before);
        let calls = changes(&self.command(&undisturbed), undisturbed.root());
        let (before, after) = (Self::files(&self.before), Self::files(&undisturbed));
        assert_ne!(before, after, "it does something");
        let calls: Vec<_> = calls.into_iter().filter(|((name, _), _)| fault.is_for(name)).collect();
        let calls = picked(&calls, times(8, u32::MAX) as usize);
        each(&calls, |call| {
            let work = copied(&self.before);
            let Some(outcome) = with_fault(&self.command(&work), call, fault, work.root()) else { return false };
            let now = Self::files(&work);
            let inventory = |files: &BTreeMap<PathBuf, String>| files.get(&PathBuf::from("inventory.toml")).cloned();
            let is_after = inventory(&now) == inventory(&after);
            // What there is no file for is left out, and said.
            let is_short = call.0 == "openat" && outcome.stderr.contains("is not recorded");
            let is_before = inventory(&now) == inventory(&before);
            assert!(is_after || is_before || is_short, "an inventory of neither time: {outcome}");
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
            match (fault, outcome.code) {
                (Fault::Error(_), 0) => assert_eq!(now, after, "{call:?} {outcome}"),
                (Fault::Error(_), code) => {
                    assert!(code <= 3 && (is_short || outcome.stderr.contains("error: ")), "{outcome}")
                }
                (Fault::Signal(_), _) => {}
            }
            if self.name() != "fetch" {
                whole(&work);
            }
            // What was half done is in nobody's way.
            let again = run(&mut self.command(&work));
            assert_eq!(again.code, 0, "{call:?} {outcome}\nthen {again}");
            work.capture_sh(&self.origin, "true").expect_code(0);
            assert_eq!(Self::files(&work), after, "{call:?} {outcome}\nthen {again}");
            assert_eq!(left_over(&work), [""; 0], "{call:?} {outcome}");
            whole(&work);
            true
        })
    }

    fn figures(&self) -> String {
        let (kills, errors) = (self.everywhere(Fault::Signal("KILL")), self.everywhere(Fault::Error("EIO")));
        format!("`{}`: {kills} kills, {errors} errors", self.name())
    }
}

#[test]
fn a_fetch_that_comes_to_grief_at_any_call_is_made_good_by_the_next() {
    let lost = "rm -f \"$store\"/*-large \"$store\"/*-small";
    let figures = Scenario::new(lost, &["fetch"]).figures();
    shows!(
        Capture,
        "SIGKILL and EIO at each system call that changes the disk (strace); then it is run again",
        "{figures}"
    );
}

#[test]
fn a_merge_that_comes_to_grief_at_any_call_has_merged_or_not() {
    let figures = Scenario::apart(&["merge", "other/inventory.toml"]).figures();
    shows!(
        Capture,
        "SIGKILL and EIO at each system call that changes the disk (strace); then it is run again",
        "{figures}"
    );
}

#[test]
fn an_import_that_comes_to_grief_at_any_call_has_imported_or_not() {
    let figures = Scenario::exported(&["import", "all.har"]).figures();
    shows!(
        Capture,
        "SIGKILL and EIO at each system call that changes the disk (strace); then it is run again",
        "{figures}"
    );
}

#[test]
fn bodies_on_their_way_to_another_source_are_in_the_old_place_or_in_the_new_one() {
    let (large, small) = ("ORIGIN/plain/large*", "ORIGIN/plain/small*");
    let mut figures = Vec::new();
    for (to, glob, setup) in [
        ("file", large, ""),
        ("text", small, ""),
        ("fetch", large, "bp move --to file '*/plain/large*'"),
        ("store-path", large, ""),
        ("file", small, "bp move --to text '*/plain/small*'"),
    ] {
        let scenario = Scenario::new(setup, &["move", "--to", to, glob]);
        figures.push(format!("to {to}: {}", scenario.figures()));
    }
    let fixed = Scenario::new("", &["verify", "--refetch", "--fix"]);
    figures.push(fixed.figures());
    shows!(
        Capture,
        "SIGKILL and EIO at each system call that changes the disk (strace); then it is run again",
        "{}",
        figures.join(", ")
    );
}

#[test]
fn what_a_dead_run_left_does_not_replace_what_came_after_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/counter");
    let fetch = format!("curl -sSf -o /dev/null '{url}'");
    let buildproxy = |arguments: &[&str]| {
        let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
        command.args(arguments).env("BUILDPROXY_STORE", work.store());
        command
    };
    for n in 1..=2 {
        work.capture_sh(&origin, &fetch).expect_code(0);
        run(&mut buildproxy(&["export", "--to", "har", "-o", &format!("{n}.har")])).expect_code(0);
    }
    let mut capture = work.capturing(&origin.ca.pem);
    capture.args(["--", "sh", "-euc", &fetch]);
    for first in [&buildproxy(&["import", "1.har"]), &capture] {
        work.write("inventory.toml", "version = 1\n");
        let dead = with_fault(first, &("fsync".to_owned(), 1), Fault::Signal("KILL"), work.root()).unwrap();
        assert_eq!((dead.code, work.inventory().0.len()), (128 + 9, 0), "{dead}");
        run(&mut buildproxy(&["import", "2.har"])).expect_code(0);
        let next = work.capture_sh(&origin, "true").expect_code(0);
        assert_eq!(work.inventory().one(&url).body("text"), None);
        assert_eq!(whole(&work).one(&url).body("hash"), Some(sri(b"count 2\n").as_str()), "{next}");
        assert_eq!(left_over(&work), [""; 0], "{next}");
    }
}
