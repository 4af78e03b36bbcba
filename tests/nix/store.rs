//! Bodies in the Nix store: put there by a capture, and kept as long as the inventory.
//!
//! With each Nix of the machine, on stores of the tests' own.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::common::{
    Awkward, Nix,
    nix::kinds,
    pattern,
    process::{Guard, wait_for},
    run, sri,
    workdir::within,
};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn after_a_capture_nix_builds_the_same_downloads_with_its_origin_gone() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let odd = origin.url("/plain/-odd+name_1.0~%C3%A9.tar.gz?size=70000");
        let urls = [odd, origin.tls_url("/redirect/3"), origin.url("/missing"), origin.tls_url("/plain/b?size=5")];
        let script = format!(
            "for url in {}; do curl -sSL -o /dev/null $url; done",
            urls.map(|url| format!("'{url}'")).join(" ")
        );
        let captured = nix.capture_sh(&origin, &script).expect_code(0);
        let said = format!("wrote inventory.toml (4 entries), bodies in {}/nix/store\n", nix.root.display());
        assert!(captured.stderr.ends_with(&said), "{captured}");
        assert_eq!(nix.embedded_bodies(), [""; 0]);
        let recorded = nix.work.inventory();
        drop(origin);
        let bodies: Vec<_> = recorded.0.iter().filter(|entry| entry.source() == "fetch").collect();
        assert_eq!(bodies.len(), 3);
        for entry in bodies {
            let (url, hash, name) = (entry.text("url"), entry.body("hash").unwrap(), entry.body("name").unwrap());
            let expression =
                format!("import <nix/fetchurl.nix> {{ url = \"{url}\"; hash = \"{hash}\"; name = \"{name}\"; }}");
            let built = run(nix.command("nix-build").args(["--no-out-link", "-E", &expression])).expect_code(0);
            let bytes = fs::read(nix.file(built.text().trim())).unwrap();
            assert_eq!(sri(&bytes), hash, "{built}");
        }
        nix.verify().expect_code(0);
        nix.replay_sh(&script).expect_code(0);
    });
}

#[test]
fn a_body_that_nobody_captured_cannot_be_built_without_its_origin() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let url = origin.url("/plain/never");
        drop(origin);
        let hash = sri(&pattern(1000));
        let expression =
            format!("import <nix/fetchurl.nix> {{ url = \"{url}\"; hash = \"{hash}\"; name = \"never\"; }}");
        let mut build = nix.command("nix-build");
        build.args(["--no-out-link", "--option", "connect-timeout", "1", "--option", "download-attempts", "1"]);
        let outcome = run(build.args(["-E", &expression]));
        assert_ne!(outcome.code, 0, "{outcome}");
    });
}

#[test]
fn garbage_collection_takes_the_bodies_only_when_the_inventory_has_gone() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let paths = nix.captured(&origin, 3);
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths), paths);
        nix.verify().expect_code(0);
        // A second capture keeps what the first one did, and an inventory beside it has a root of its own.
        let more = format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/more?size=99"));
        nix.capture_sh(&origin, &more).expect_code(0);
        let other = format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/other?size=98"));
        run(nix.capturing(&origin).args(["-i", "other.toml", "--", "sh", "-euc", &other])).expect_code(0);
        let others = run(nix.buildproxy("paths").args(["-i", "other.toml"])).expect_code(0);
        let others = vec![others.text().split_whitespace().last().unwrap().to_owned()];
        nix.collect_garbage();
        let paths = nix.fetched();
        assert_eq!((paths.len(), nix.valid(&paths), nix.valid(&others)), (5, paths.clone(), others.clone()));
        // What the inventory loses goes; so does what an inventory kept that is not there any more.
        fs::remove_file(nix.work.path("other.toml")).unwrap();
        run(nix.capturing(&origin).args(["--prune", "--", "sh", "-euc", &more])).expect_code(0);
        nix.collect_garbage();
        let kept = nix.fetched();
        assert_eq!((kept.len(), nix.valid(&paths)), (1, kept.clone()));
        assert_eq!(nix.valid(&others), [""; 0]);
        fs::remove_dir_all(nix.work.path("")).unwrap();
        fs::create_dir(nix.work.path("")).unwrap();
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths), [""; 0]);
        assert_eq!(nix.embedded_bodies(), [""; 0]);
    });
}

#[test]
fn two_thousand_bodies_are_added_and_kept_at_once() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let script = format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/[1-2000].bin?size=1000"));
        let started = Instant::now();
        let outcome = nix.capture_sh(&origin, &script).expect_code(0);
        let with_nix = started.elapsed();
        assert!(!outcome.stderr.contains("warning"), "{outcome}");
        let paths = nix.fetched();
        assert_eq!(paths.len(), 2000);
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths).len(), paths.len());
        let verified = nix.verify().expect_code(0);
        eprintln!("2000 bodies: captured in {with_nix:?}, verified in {:?}", verified.took);
        assert_eq!(nix.embedded_bodies(), [""; 0]);
    });
}

#[test]
fn a_capture_killed_while_nix_takes_its_bodies_is_recovered_by_the_next() {
    Nix::each(|nix| {
        // Before Nix has done anything, in the middle of a batch, and when all is done but nobody knows.
        for (number, work) in ["", "\"$next\" \"$1\" \"$2\" \"$3\"", "\"$next\" \"$@\""].into_iter().enumerate() {
            let origin = Awkward::start();
            let hang = format!(
                "[ \"$1\" = --add-fixed ] || exec \"$next\" \"$@\"\n{work}\necho $$ >pid~; mv pid~ pid; exec sleep 60"
            );
            let slow = nix.with_program("nix-store", &hang);
            let (small, large) = (
                origin.url(&format!("/plain/small{number}")),
                origin.tls_url(&format!("/plain/large{number}?size=400000")),
            );
            let script = format!("curl -sSf -o /dev/null '{small}' -o /dev/null '{large}'");
            let mut command = slow.capturing(&origin);
            command
                .args(["--", "sh", "-euc", &script])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let mut capture = Guard(command.spawn().unwrap());
            let pid = wait_for("Nix", || fs::read_to_string(nix.work.path("pid")).ok());
            capture.signal(Signal::KILL);
            assert_eq!(capture.wait(Duration::from_secs(5)), Some(128 + 9));
            kill_process(Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), Signal::KILL).unwrap();
            fs::remove_file(nix.work.path("pid")).unwrap();
            drop(origin);
            let origin = Awkward::start();
            nix.capture_sh(&origin, "true").expect_code(0).expect_stderr(&["recovered 2 exchanges", "bodies in"]);
            let inventory = nix.work.inventory();
            assert_eq!(inventory.one(&large).body("hash"), Some(sri(&pattern(400_000)).as_str()));
            assert_eq!(inventory.one(&small).size(), Some(1000));
            nix.collect_garbage();
            let paths = nix.fetched();
            assert_eq!((paths.len(), nix.valid(&paths).len()), (2 * (number + 1), 2 * (number + 1)));
            nix.verify().expect_code(0);
        }
        let left = fs::read_dir(nix.embedded().join(".spool")).unwrap().map(|entry| entry.unwrap().path());
        assert_eq!(
            left.collect::<Vec<_>>(),
            [""; 0].map(std::path::PathBuf::from),
            "nothing is left of the killed ones"
        );
    });
}

#[test]
fn what_a_collection_takes_before_it_is_kept_goes_to_the_embedded_store() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let old = nix.captured(&origin, 1);
        let urls = [origin.url("/plain/new?size=10"), origin.url("/plain/large?size=100000")];
        let script = format!("curl -sSf -o /dev/null '{}' -o /dev/null '{}'", urls[0], urls[1]);
        let collecting = nix.with_program("nix-instantiate", "nix-store --gc >gc.log 2>&1\nexec \"$next\" \"$@\"");
        let outcome = collecting.capture_sh(&origin, &script).expect_code(0);
        assert_eq!(nix.embedded_bodies().len(), 2, "{outcome}");
        nix.collect_garbage();
        assert_eq!(nix.valid(&old), old, "what was kept before is kept still");
        drop(origin);
        nix.replay_sh(&script).expect_code(0);
        run(&mut nix.buildproxy("fetch")).expect_code(0).expect_stderr(&["put 2 bodies"]);
        nix.collect_garbage();
        assert_eq!(nix.valid(&nix.fetched()).len(), 4);
    });
}

#[test]
fn where_nix_takes_nothing_the_embedded_store_does_and_one_warning_says_why() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        nix.nix_store(["--gc"]); // makes the store
        let urls = [origin.url("/plain/a?size=10"), origin.url("/plain/b?size=100000")];
        let script = format!("curl -sSf -o /dev/null '{}' -o /dev/null '{}'", urls[0], urls[1]);
        let root = nix.root.display();
        let read_only = format!("mount --bind '{root}' '{root}' && mount -o remount,bind,ro '{root}' && exec \"$@\"");
        let read_only = within(nix.capturing(&origin).args(["--", "sh", "-euc", &script]), "-rm", &read_only);
        let no_daemon = {
            let mut command = nix.capturing(&origin);
            command.env("NIX_REMOTE", format!("unix://{root}/no-socket?root={root}"));
            command.args(["--", "sh", "-euc", &script]);
            command
        };
        let failing = nix.with_program(
            "nix-store",
            "[ \"$1\" != --add-fixed ] || { echo error: No space left on device >&2; exit 1; }\nexec \"$next\" \"$@\"",
        );
        let full = {
            let mut command = failing.capturing(&origin);
            command.args(["--", "sh", "-euc", &script]);
            command
        };
        for (mut command, reason) in [(read_only, "writable"), (no_daemon, "no-socket"), (full, "no space left")] {
            let _absent = fs::remove_file(nix.work.path("inventory.toml"));
            let outcome =
                run(&mut command).expect_code(0).expect_stderr(&[reason, "`buildproxy fetch` puts them there"]);
            assert_eq!(outcome.stderr.matches("warning").count(), 1, "{outcome}");
            assert!(!outcome.stderr.contains("bodies in /"), "{outcome}");
            assert_eq!(nix.embedded_bodies().len(), 2);
            run(&mut nix.buildproxy("verify")).expect_code(0);
            fs::remove_dir_all(nix.embedded()).unwrap();
        }
        run(failing.capturing(&origin).args(["--", "sh", "-euc", &script])).expect_code(0);
        // And then it does what the warning says.
        let fetched_again =
            run(&mut nix.buildproxy("fetch")).expect_code(0).expect_stderr(&["put 2 bodies", "nix-root/nix/store"]);
        assert!(!fetched_again.stderr.contains("warning"), "{fetched_again}");
        nix.collect_garbage();
        assert_eq!(nix.valid(&nix.fetched()), nix.fetched());
        assert_eq!(
            run(&mut nix.buildproxy("fetch")).expect_code(0).stderr,
            "fetched nothing: every body that can be fetched is there\n"
        );
    });
}

#[test]
fn a_store_of_ones_own_and_no_nix_store_leave_nix_alone() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let mut touched = nix.with_root("nix-root");
        for name in ["nix-store", "nix-instantiate", "nix"] {
            touched = touched.with_program(
                name,
                &format!("echo \"$0 $@\" >>'{}'; exit 1", nix.work.root().join("touched").display()),
            );
        }
        let script = format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/a"));
        let own = nix.work.store();
        for options in [vec!["--no-nix-store"], vec!["--store", own.to_str().unwrap()]] {
            let with = |command: &mut std::process::Command| run(command.args(&options));
            let mut capture = touched.capturing(&origin);
            let captured = run(capture.args(&options).args(["--", "sh", "-euc", &script])).expect_code(0);
            assert!(captured.stderr.ends_with("wrote inventory.toml (1 entry)\n"), "{captured}");
            for subcommand in ["verify", "fetch", "paths"] {
                with(&mut touched.buildproxy(subcommand)).expect_code(0);
            }
            run(touched.buildproxy("replay").args(&options).args(["--proxy-loopback", "--", "sh", "-euc", &script]))
                .expect_code(0);
        }
        let touched_by = fs::read_to_string(nix.work.root().join("touched")).unwrap_or_default();
        assert_eq!(touched_by, "", "a command of Nix was run");
        assert!(!nix.root.exists());
        run(touched.buildproxy("push").args(["--no-nix-store", "--to", "file:///x"])).expect_code(2);
    });
}

#[test]
fn through_a_daemon_all_is_the_same() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let socket = nix.work.root().join("daemon.socket");
        let mut daemon = nix.command("nix-daemon");
        daemon.env("NIX_DAEMON_SOCKET_PATH", &socket).stderr(std::process::Stdio::null());
        let daemon = Guard(daemon.spawn().unwrap());
        wait_for("the daemon", || socket.exists().then_some(()));
        let remote = format!("unix://{}?root={}", socket.display(), nix.root.display());
        let nix = nix.with_remote(&remote);
        let paths = nix.captured(&origin, 20);
        assert_eq!((nix.valid(&paths), nix.embedded_bodies()), (paths.clone(), vec![]));
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths), paths);
        assert_eq!(kinds(&nix.verify().expect_code(0)), [""; 0]);
        fs::remove_dir_all(nix.work.path(".buildproxy")).unwrap();
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths), [""; 0]);
        drop(daemon);
    });
}
