//! What a replaying server writes: its environment file, and its state where it is in the background.

use std::{
    fs,
    process::{Command, Stdio},
};

use crate::{
    common::{Workdir, process::Guard, run, serving::text_entry, shown::times},
    shows,
    strace::{Fault, changes, each, picked, with_fault},
};

/// A place with an inventory, and a process that ends soon: the server ends with it.
fn place() -> (Workdir, Guard) {
    let work = Workdir::new();
    work.write("inventory.toml", format!("version = 1\n{}", text_entry("http://h.test/a", "a")));
    fs::create_dir(work.path("state")).unwrap();
    let parent = Command::new("sleep").arg("0.4").stdin(Stdio::null()).spawn().unwrap();
    (work, Guard(parent))
}

/// The server that `replay --background` starts, in the foreground.
fn server(work: &Workdir, parent: &Guard) -> Command {
    let mut server = work.replaying();
    server.args(["--env-file", "env.sh", "--background-state", "state", "--parent-pid", &parent.0.id().to_string()]);
    server.env("TOKIO_WORKER_THREADS", "1");
    server
}

#[test]
fn an_environment_file_is_whole_or_not_there_and_a_dead_server_is_said_to_be_dead() {
    let (undisturbed, mut parent) = place();
    let command = server(&undisturbed, &parent);
    // A dead process that nobody has waited for is still there.
    let reaped = std::thread::spawn(move || parent.0.wait());
    let calls = changes(&command, undisturbed.root());
    reaped.join().unwrap().unwrap();
    let lines = fs::read_to_string(undisturbed.path("env.sh")).unwrap().lines().count();
    let mut figures = Vec::new();
    for fault in [Fault::Signal("KILL"), Fault::Error("EIO"), Fault::Error("ENOSPC")] {
        let calls: Vec<_> = calls.iter().filter(|((name, _), _)| fault.is_for(name)).cloned().collect();
        let hits = each(&picked(&calls, times(6, u32::MAX) as usize), |call| {
            let (work, mut parent) = place();
            let command = server(&work, &parent);
            let reaped = std::thread::spawn(move || parent.0.wait());
            let outcome = with_fault(&command, call, fault, work.root());
            reaped.join().unwrap().unwrap();
            let Some(outcome) = outcome else { return false };
            assert!(!outcome.stderr.contains("panicked"), "{outcome}");
            if let Ok(text) = fs::read_to_string(work.path("env.sh")) {
                assert!(text.ends_with('\n') && text.lines().count() == lines, "{call:?} {text}");
            }
            match (fault, outcome.code) {
                (Fault::Error(_), 0) => assert!(work.path("env.sh").exists(), "{call:?} {outcome}"),
                (Fault::Error(_), code) => assert!(code == 3 && outcome.stderr.contains("error: "), "{outcome}"),
                (Fault::Signal(_), code) => assert_eq!(code, 128 + 9, "{outcome}"),
            }
            if work.path("state").exists() {
                let stop = run(work.command(env!("CARGO_BIN_EXE_buildproxy")).args(["stop", "--state-dir", "state"]));
                stop.expect_code(3).expect_stderr(&["cannot stop the server of state"]);
            }
            true
        });
        figures.push(format!("{hits} times {fault}"));
    }
    shows!(
        Replay,
        "a server killed, and failed, at each system call by which it writes its files (strace)",
        "{}; the environment file whole each time that it was there",
        figures.join(", ")
    );
}
