//! The program at a real terminal, under tmux, and what it keeps out of everything that is none.

use std::{fs, process::Command};

use crate::common::{
    Nginx, Outcome, Tmux, Workdir, captured, run,
    sandbox::{Nix, Sandbox},
    serving::{inventory, sparse_entry},
    sri,
};

/// A file that takes five seconds where it is sent slowly, and one that takes two.
const LONG: usize = 1500 << 10;
const SHORT: usize = 600 << 10;

/// An origin that sends what is below `/slow/` slowly; the files are named by their sizes.
fn slow_origin() -> Nginx {
    let origin = Nginx::start("location /slow/ { limit_rate 300k; }");
    fs::create_dir(origin.www().join("slow")).unwrap();
    for size in [LONG, SHORT] {
        fs::write(origin.www().join(format!("slow/{size}.tar.gz")), vec![b'x'; size]).unwrap();
    }
    fs::write(origin.www().join("quick.tar.gz"), "quick").unwrap();
    origin
}

/// The URL of a slow file.
fn slow(origin: &Nginx, size: usize) -> String {
    origin.url(&format!("/slow/{size}.tar.gz"))
}

/// Captures the shell script `script`, to which the long file is `$1` and the quick one `$2`.
fn capturing(work: &Workdir, origin: &Nginx, script: &str) -> Command {
    let mut capture = work.capturing(&origin.ca.pem);
    capture.args(["--", "sh", "-euc", script, "sh", &slow(origin, LONG), &origin.url("/quick.tar.gz")]);
    capture
}

/// Writes an inventory of a slow file, which is in no store.
fn pinned(work: &Workdir, origin: &Nginx, size: usize) {
    let (url, hash) = (slow(origin, size), sri(&vec![b'x'; size]));
    let entry = format!("[[entry]]\nurl = {url:?}\nbody = {{ hash = {hash:?}, size = {size}, name = \"a.tar.gz\" }}\n");
    work.write("inventory.toml", inventory(&[entry]));
}

/// The lines of a screen that begin with `verb`.
fn said<'a>(screen: &'a str, verb: &str) -> Vec<&'a str> {
    screen.lines().filter(|line| line.starts_with(&format!("{verb} "))).collect()
}

/// Fails where `bytes` have an escape code, or are nothing.
#[track_caller]
fn assert_plain(what: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{what}: nothing");
    assert!(!bytes.contains(&0x1b), "{what}: {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn a_long_download_is_told_in_lines_that_fit_the_terminal_and_begin_at_its_edge() {
    let origin = slow_origin();
    let at_width = |columns: u16, expected: &[&str]| {
        let work = Workdir::new();
        // What is left in a line when ours comes.
        let script = "printf 'a line without an end'; curl -sSfO $2; curl -sSf -o got $1; printf 'and another'";
        let tmux = Tmux::start(&work, columns, 40, &capturing(&work, &origin, script));
        assert_eq!(tmux.end(), 0);
        let screen = tmux.screen();
        println!("{screen}\n");
        let [told, ..] = &said(&screen, "receiving")[..] else { panic!("nothing told: {screen}") };
        for text in expected {
            assert!(told.contains(text), "`{text}` at {columns} columns: {screen}");
        }
        let lines: Vec<&str> = screen.lines().collect();
        assert!(lines.iter().any(|line| line.starts_with("          1 answer, ")), "no count: {screen}");
        for whole in ["a line without an end", "and another"] {
            assert!(lines.contains(&whole), "`{whole}` is torn: {screen}");
        }
        // Which is cut in two where the terminal is narrow.
        assert!(screen.replace('\n', "").contains("captured 2 answers from 1 host, 1.46 MiB"), "{screen}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| at_width(40, &["KiB of 1.46 MiB"]));
        scope.spawn(|| at_width(80, &["KiB of 1.46 MiB (", "KiB/s) from localhost:"]));
        scope.spawn(|| at_width(200, &["KiB of 1.46 MiB (", "KiB/s, ", "s left) from localhost:"]));
    });
}

#[test]
fn in_a_captured_shell_keys_are_the_shells_and_its_end_is_the_captures() {
    let (origin, work) = (slow_origin(), Workdir::new());
    fs::write(work.root().join("home/.bashrc"), "PS1='ready> '\n").unwrap();
    let mut capture = work.capturing(&origin.ca.pem);
    capture.env("SHELL", "/bin/bash");
    let tmux = Tmux::start(&work, 80, 40, &capture);
    tmux.wait_for_text("`exit` ends the capture");
    tmux.wait_for_text("ready>");
    tmux.line(&format!("curl -sSfO {} && echo got it", origin.url("/quick.tar.gz")));
    tmux.wait_for("the file", |screen| screen.lines().any(|line| line == "got it"));
    tmux.line("sleep 1000; echo it ended by $?");
    tmux.keys(&["C-c"]);
    tmux.line("cat");
    tmux.line("to be stopped");
    tmux.wait_for("an answer of cat", |screen| screen.matches("to be stopped").count() == 2);
    tmux.keys(&["C-z"]);
    tmux.wait_for_text("Stopped");
    tmux.line("fg");
    tmux.line("back again");
    tmux.wait_for("an answer of cat", |screen| screen.matches("back again").count() == 2);
    tmux.keys(&["C-d"]);
    tmux.line("exit 3");
    assert_eq!(tmux.end(), 3);
    let screen = tmux.screen();
    assert_eq!(said(&screen, "captured"), ["captured 1 answer from 1 host, 5 B"], "{screen}");
    assert!(!screen.contains("it ended by 0"), "{screen}");
}

/// Runs `command` in a terminal whose width changes while it is at work, and gives the screen at its end.
fn watched(work: &Workdir, verb: &str, command: &Command) -> String {
    let tmux = Tmux::start(work, 100, 30, command);
    let drawn = tmux.wait_for("a bar with all that it can say", |screen| {
        said(screen, verb).iter().any(|line| line.contains("iB/s") && line.contains(" left)"))
    });
    let bar = *said(&drawn, verb).last().unwrap();
    assert!(bar.contains(&format!("{verb} [")) && bar.contains("iB of 1.46 MiB ("), "{drawn}");
    tmux.resize(40, 30);
    let narrow = tmux.wait_for("a bar for a narrow terminal", |screen| {
        said(screen, verb).last().is_some_and(|line| line.len() < 40 && !line.contains("left"))
    });
    println!("{drawn}\n{narrow}\n");
    tmux.end();
    tmux.screen()
}

#[test]
fn downloads_of_fetch_and_refetch_are_drawn_in_the_width_that_the_terminal_has() {
    let origin = slow_origin();
    let in_work = |verb: &str, arguments: &[&str]| {
        let work = Workdir::new();
        pinned(&work, &origin, LONG);
        let mut command = work.buildproxy(arguments[0]);
        watched(&work, verb, command.args(&arguments[1..]))
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = in_work("fetching", &["fetch"]);
            assert_eq!(said(&end, "fetched").len(), 1, "{end}");
        });
        scope.spawn(|| {
            let end = in_work("asking again", &["verify", "--refetch"]);
            assert_eq!(said(&end, "asked for"), ["asked for 1 body: 1 same"], "{end}");
        });
    });
}

#[test]
fn what_verify_hashes_is_drawn_and_nothing_of_it_is_left() {
    let work = Workdir::new();
    // Some seconds of hashing, by an optimised program or another.
    let size = if cfg!(debug_assertions) { 1 << 30 } else { 4 << 30 };
    let entry = sparse_entry(&work, "http://h.test/large", "large", size);
    work.write("inventory.toml", inventory(&[entry]));
    let tmux = Tmux::start(&work, 80, 30, &work.buildproxy("verify"));
    let drawn = tmux.wait_for("a bar", |screen| said(screen, "verifying").iter().any(|line| line.contains("iB/s")));
    assert!(drawn.contains(".00 GiB ("), "{drawn}");
    assert_eq!(tmux.end(), 1);
    let screen = tmux.screen();
    assert!(screen.contains("error: ") && said(&screen, "verified").len() == 1, "{screen}");
    assert!(!screen.contains("verifying"), "{screen}");
}

#[test]
fn downloads_whose_clients_have_left_are_drawn_until_they_end_or_are_left_out() {
    let origin = slow_origin();
    let waiting = |leave_out: bool| {
        let work = Workdir::new();
        let script = "curl -sS -m 0.3 -o got $1 || curl -sSfO $2; printf 'the end'";
        let tmux = Tmux::start(&work, 80, 30, &capturing(&work, &origin, script));
        let drawn = tmux.wait_for("a line about the download", |screen| {
            said(screen, "receiving").last().is_some_and(|line| line.contains("] ") || line.contains("KiB/s"))
                && said(screen, "so far").len() == 1
        });
        println!("{drawn}\n");
        assert!(drawn.contains("Ctrl-C leaves them out"), "{drawn}");
        if leave_out {
            tmux.keys(&["C-c"]);
        }
        assert_eq!(tmux.end(), 0);
        let screen = tmux.screen();
        let expected = if leave_out { "captured 1 answer from" } else { "captured 2 answers from" };
        assert!(screen.contains(expected) && screen.lines().any(|line| line == "the end"), "{screen}");
        assert!(said(&screen, "receiving").is_empty() && said(&screen, "so far").is_empty(), "{screen}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| waiting(false));
        scope.spawn(|| waiting(true));
    });
}

#[test]
fn without_colour_nothing_is_drawn_either() {
    let origin = slow_origin();
    std::thread::scope(|scope| {
        for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let origin = &origin;
            scope.spawn(move || {
                let work = Workdir::new();
                pinned(&work, origin, SHORT);
                let commands = [
                    work.buildproxy("fetch"),
                    work.buildproxy("verify"),
                    capturing(&work, origin, "curl -sS -m 2.1 -o got $1 || true"),
                    work.buildproxy("verify"),
                ];
                for (number, mut command) in commands.into_iter().enumerate() {
                    if number == 3 {
                        command.args(["-i", "absent"]);
                    }
                    let tmux = Tmux::start(&work, 80, 30, command.env(name, value));
                    tmux.end();
                    println!("{}\n", tmux.screen());
                    assert_plain(name, &tmux.written());
                    assert!(number != 2 || !said(&tmux.screen(), "receiving").is_empty(), "{}", tmux.screen());
                }
            });
        }
    });
}

#[test]
fn what_does_not_go_to_the_terminal_has_no_escape_codes() {
    let (origin, work) = (slow_origin(), Workdir::new());
    pinned(&work, &origin, SHORT);
    work.write("other.toml", "version = 1\n");
    let script = format!(
        "buildproxy() {{ {} \"$@\" --store ../store; }}; \
         buildproxy fetch 2>stderr-of-fetch; buildproxy fetch -v 2>&1 | cat >stderr-of-log; \
         buildproxy verify -i absent 2>stderr-of-verify; buildproxy diff other.toml inventory.toml >stdout-of-diff; \
         buildproxy diff other.toml inventory.toml",
        env!("CARGO_BIN_EXE_buildproxy")
    );
    let tmux = Tmux::start(&work, 200, 30, work.command("bash").args(["-c", &script]));
    assert_eq!(tmux.end(), 1, "{}", tmux.screen());
    for name in ["stderr-of-fetch", "stderr-of-log", "stderr-of-verify", "stdout-of-diff"] {
        assert_plain(name, &work.read(name));
    }
    let shown = tmux.coloured();
    assert!(shown.contains("\u{1b}[32m+"), "no colours where there is a terminal: {shown:?}");
    // Nothing is cut where nothing has a width.
    let long = slow(&origin, SHORT);
    assert!(String::from_utf8_lossy(&work.read("stdout-of-diff")).contains(&long));
}

/// The log of `expression`, as Nix keeps it.
fn log_of(sandbox: &Sandbox, outcome: &Outcome) -> Vec<u8> {
    let logs = crate::common::tree_of_files(&sandbox.root().join("nix/var/log/nix/drvs"));
    let built = logs.iter().find(|log| log.to_str().unwrap().contains("-built.drv"));
    let log = built.unwrap_or_else(|| panic!("no log among {logs:?}: {outcome}"));
    run(Command::new("bzip2").args(["-dc"]).arg(log)).expect_code(0).stdout
}

#[test]
fn the_log_of_a_build_in_nix_has_nothing_that_is_for_terminals() {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(Nix::Newer));
    let (_, hook) = captured::one_file(&work, &sandbox);
    // Nix gives its builders a terminal, which nobody looks at.
    let script = "[ -t 2 ] && echo it is a terminal; [ \"$TERM\" != dumb ] && echo it is not dumb\n\
                  buildproxy verify -i absent || true; buildproxy replay -v -i absent -- true || true\n\
                  curl -s http://h.test/miss || true; buildproxy capture -- sh -c 'sleep 1.5; exit 3' || true\n";
    let expression = captured::build(&hook, "buildproxy pkgs.curl", script);
    let outcome = sandbox.build(&expression);
    let log = log_of(&sandbox, &outcome);
    let text = String::from_utf8_lossy(&log);
    println!("{text}");
    for expected in
        ["it is a terminal", "it is not dumb", "error: cannot read the inventory absent", "captured nothing"]
    {
        assert!(text.contains(expected), "`{expected}`: {text}");
    }
    assert_plain("the log", &log);
    assert!(!text.contains("watch at"), "{text}");
}

#[test]
fn help_is_as_wide_as_the_terminal_and_no_wider_than_a_hundred_columns() {
    let work = Workdir::new();
    for (columns, widest) in [(60, 60), (80, 80), (160, 100)] {
        let tmux = Tmux::start(&work, columns, 90, work.buildproxy("capture").arg("--help"));
        assert_eq!(tmux.end(), 0);
        let screen = tmux.screen();
        let widths = screen.lines().map(|line| line.chars().count());
        assert!(widths.max().unwrap() <= widest, "{screen}");
        let text = screen.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("goes on when its client leaves, and is recorded."), "{screen}");
        let order = ["--prune", "Options of every command", "--inventory", "Example:"].map(|text| screen.find(text));
        assert!(order.is_sorted() && order[0].is_some(), "what is the command's own comes first: {screen}");
    }
}
