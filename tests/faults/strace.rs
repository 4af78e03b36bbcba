//! `strace`, which makes a system call of a program fail, or sends the program a signal just before it.

use std::{
    collections::{BTreeSet, HashMap},
    fmt, fs,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::common::{Outcome, run, workdir::behind};

/// The calls that change what is on the disk, or say that it has got there.
const CALLS: &str = "openat,write,writev,pwrite64,copy_file_range,sendfile,splice,fsync,fdatasync,syncfs,ftruncate,\
                     fchmod,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir";

/// A call: its name, and its number among those of that name in its thread, which is how strace counts.
pub type Call = (String, usize);

/// `command` with its calls written to `trace`; what it starts is left alone.
fn traced(command: &Command, trace: &Path, options: &[&str]) -> Command {
    let trace = trace.to_str().unwrap();
    let fixed = ["strace", "-f", "-b", "execve", "-qq", "-y", "-s", "300", "-o", trace];
    behind(&[&fixed, options].concat(), command)
}

/// Runs `command` undisturbed and gives the lines of those of its calls that change files below `root`, each with its
/// call.
pub fn changes(command: &Command, root: &Path) -> Vec<(Call, String)> {
    let trace = root.join("trace");
    run(&mut traced(command, &trace, &["-e", &format!("trace={CALLS}")])).expect_code(0);
    let text = fs::read_to_string(trace).unwrap();
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    let mut found = Vec::new();
    for line in text.lines() {
        // A line can be cut short by another one.
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let Some((name, arguments)) =
            rest.split_once('(').filter(|(name, _)| CALLS.split(',').any(|call| call == *name))
        else {
            continue;
        };
        let number = counts.entry((thread, name)).or_default();
        *number += 1;
        let is_ours = line.contains(root.to_str().unwrap());
        let changes_a_file = match name {
            "openat" => is_ours && arguments.contains("O_CREAT"),
            // Not what is printed of a file.
            "write" | "writev" => arguments.split(',').next().is_some_and(|to| to.contains(root.to_str().unwrap())),
            _ => true,
        };
        if changes_a_file {
            found.push(((name.to_owned(), *number), rest.to_owned()));
        }
    }
    found
}

/// What happens at a call.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The program gets this signal before the call.
    Signal(&'static str),
    /// The call fails with this error.
    Error(&'static str),
}

impl Fault {
    /// Whether it can be had at calls of this name. Threads wake each other by `write`, which does not fail in the real
    /// world; a disk on which files cannot be written is another test's.
    pub fn is_for(self, name: &str) -> bool {
        matches!(self, Self::Signal(_)) || !name.starts_with("write")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => write!(f, "SIG{signal}"),
            Self::Error(error) => f.write_str(error),
        }
    }
}

/// Runs `command` with `fault` at `call`; `None` where it did not come to that.
pub fn with_fault(command: &Command, call: &Call, fault: Fault, root: &Path) -> Option<Outcome> {
    let (name, number) = call;
    let trace = root.join("trace");
    let what = match fault {
        Fault::Signal(signal) => format!("signal={signal}"),
        Fault::Error(error) => format!("error={error}"),
    };
    let options = ["-e", &format!("trace={name}"), "-e", &format!("inject={name}:{what}:when={number}")];
    let outcome = run(&mut traced(command, &trace, &options));
    let trace = fs::read_to_string(trace).unwrap_or_else(|error| panic!("no trace: {error}; {outcome}"));
    let is_hit = match fault {
        Fault::Signal(signal) => trace.contains(&format!("SIG{signal}")),
        Fault::Error(_) => trace.contains("(INJECTED)"),
    };
    is_hit.then_some(outcome)
}

/// The different calls among `changes`; at most `most` of them, others in each run.
pub fn picked(changes: &[(Call, String)], most: usize) -> Vec<Call> {
    let all: BTreeSet<&Call> = changes.iter().map(|(call, _)| call).collect();
    let step = all.len().div_ceil(most).max(1);
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_micros() as usize % step;
    all.into_iter().skip(start).step_by(step).cloned().collect()
}

/// Does the work for each of `calls`, on two threads. Gives how often it could be done.
pub fn each(calls: &[Call], work: impl Fn(&Call) -> bool + Sync) -> usize {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(0));
    let one = || {
        while let Some(call) = calls.get(next.fetch_add(1, Ordering::SeqCst)) {
            let hit = work(call);
            *done.lock().unwrap() += usize::from(hit);
        }
    };
    thread::scope(|scope| {
        scope.spawn(one);
        scope.spawn(one);
    });
    let done = *done.lock().unwrap();
    // Threads do not make the same calls in each run.
    assert!(
        done > 0 && done * 4 >= calls.len(),
        "only {done} of {} calls were reached: nothing was tested",
        calls.len()
    );
    done
}
