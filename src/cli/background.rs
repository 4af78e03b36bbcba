//! A replay server in the background: its start, its state folder, its end.
//!
//! The state folder has a file `lock`, locked by the server as long as it lives and holding its process id; `log`, its
//! stderr; and, once it has ended, `outcome.json`.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::{Deserialize, Serialize};

use super::{DONE, FAILED, output};
use crate::{replay::Report, text::shell_quoted};

/// The variable by which `buildproxy stop` finds the server.
const STATE_VARIABLE: &str = "BUILDPROXY_STATE_DIR";
/// How long a server may take to end; it promises two seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often is looked for what the kernel does not tell: the lock of a server that ends, and on other systems than Linux
/// the end of a process.
const POLL: Duration = Duration::from_millis(20);

/// Runs the command in `$0` and `$@` without the descriptors that a shell script can have opened. A server that kept one of
/// them would keep a pipe of its caller's open for as long as it lives.
const CLOSE_AND_RUN: &str = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec \"$0\" \"$@\"";

/// What a server leaves when it has ended.
#[derive(Serialize, Deserialize)]
struct Outcome {
    code: u8,
    text: String,
    report: serde_json::Value,
}

/// Starts this same command again as a server in the background, waits until it is ready, and prints its environment.
pub fn start() -> Result<u8, u8> {
    let failed = |error: io::Error| {
        output::error(&format!("cannot start a server in the background: {error}"));
        FAILED
    };
    // Hidden: a build that installs all that is in its folder must not install this.
    let state = tempfile::Builder::new().prefix(".buildproxy-").tempdir().map_err(failed)?.keep();
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--background");
    let log = File::create(state.join("log")).map_err(failed)?;
    let mut server = Command::new("/bin/sh")
        .args(["-c", CLOSE_AND_RUN])
        .arg(std::env::current_exe().map_err(failed)?)
        .args(arguments)
        .arg("--background-state")
        .arg(&state)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed)?;
    // The server closes its stdout when it is ready, or when it has failed.
    let mut lines = String::new();
    if let Some(stdout) = &mut server.stdout {
        stdout.read_to_string(&mut lines).map_err(failed)?;
    }
    if lines.is_empty() {
        let code = server.wait().ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
        // What the server wrote before it failed is the message.
        let _ = io::stderr().write_all(&fs::read(state.join("log")).unwrap_or_default());
        let _ = fs::remove_dir_all(&state);
        return Err(code.filter(|&code| code != DONE).unwrap_or(FAILED));
    }
    output::data(&lines);
    Ok(DONE)
}

/// In the server: it is ready, so leave the session of whoever started it, and tell.
///
/// # Errors
/// Where the state folder cannot be written.
pub fn ready(state: &Path, lines: &str) -> io::Result<()> {
    // It fails only for the leader of a process group, and this process was just started by another.
    let _ = rustix::process::setsid();
    let mut lock = File::create(state.join("lock"))?;
    lock.lock()?;
    write!(lock, "{}", std::process::id())?;
    // Held until the process ends.
    std::mem::forget(lock);
    let mut stdout = io::stdout();
    writeln!(stdout, "{lines}export {STATE_VARIABLE}={}", shell_quoted(&state.to_string_lossy()))?;
    stdout.flush()?;
    // Whoever waits for the end of our output, as `$(…)` does, can go on.
    let null = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

/// In the server: leaves its report for `buildproxy stop`.
pub fn ended(state: &Path, text: &str, report: &Report, code: u8) {
    let report = serde_json::to_value(report).unwrap_or_default();
    let outcome = Outcome { code, text: text.to_owned(), report };
    let json = serde_json::to_vec(&outcome).unwrap_or_default();
    if let Err(error) = crate::inventory::write_atomically(&state.join("outcome.json"), &mut json.as_slice()) {
        tracing::warn!("cannot leave the report in {}: {error}", state.display());
    }
}

/// In the server: nobody is left who could ask for its report.
pub fn abandoned(state: &Path) {
    // What stays of it is only a few small files in the temporary folder.
    let _ = fs::remove_dir_all(state);
}

/// Waits until process `pid` has ended; not at all where there is none.
pub async fn end_of_process(pid: Pid) {
    #[cfg(target_os = "linux")]
    if end_by_descriptor(pid).await.is_ok() {
        return;
    }
    end_by_looking(pid).await;
}

/// The same, told by the kernel (Linux 5.3 and newer).
#[cfg(target_os = "linux")]
async fn end_by_descriptor(pid: Pid) -> io::Result<()> {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        process::{PidfdFlags, pidfd_open},
    };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread that sleeps: tokio's own way to wait for a descriptor is not safe Rust. It does not hold up the end of
    // the program. A process that has ended is readable (pidfd_open(2)).
    std::thread::Builder::new().spawn(move || {
        let mut process = [PollFd::new(&process, PollFlags::IN)];
        let result = loop {
            match poll(&mut process, None) {
                Err(rustix::io::Errno::INTR) => {}
                result => break result,
            }
        };
        // Nobody waits any more where the server has ended for another reason.
        let _ = tell.send(result);
    })?;
    told.await.map_err(io::Error::other)??;
    Ok(())
}

/// The same, where nobody tells.
async fn end_by_looking(pid: Pid) {
    // EPERM is a process, too: somebody else's.
    while !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH)) {
        tokio::time::sleep(POLL).await;
    }
}

/// End the server that `replay --background` left running, print its report, and exit with its code
#[derive(clap::Args)]
#[command(after_help = "Example:
  eval \"$(buildproxy replay --background --parent-pid $$)\"
  …
  buildproxy stop")]
pub struct Stop {
    /// The server's state folder
    #[arg(long, value_name = "DIR", env = super::unless_empty(STATE_VARIABLE), hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// Print the report as JSON on stdout
    #[arg(long)]
    json: bool,
}

impl Stop {
    pub fn run(self, quiet: bool) -> u8 {
        let Some(state) = &self.state_dir else {
            output::error(&format!("no server is known here: {STATE_VARIABLE} is not set"));
            output::hint("run this in the shell that evaluated the lines of `buildproxy replay --background`");
            return super::USAGE;
        };
        match stop(state) {
            Ok(outcome) => {
                if self.json {
                    output::json(&outcome.report);
                }
                if !quiet {
                    output::report(outcome.code == DONE, outcome.text.trim_end(), outcome.report);
                }
                outcome.code
            }
            Err(error) => {
                output::error(&format!("cannot stop the server of {}: {error}", state.display()));
                if !state.exists() {
                    output::hint("it was stopped before, or it ended with its parent process");
                }
                FAILED
            }
        }
    }
}

fn stop(state: &Path) -> io::Result<Outcome> {
    let path = state.join("lock");
    let mut lock = File::options().read(true).write(true).open(&path)?;
    let mut pid = String::new();
    lock.read_to_string(&mut pid)?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    let mut is_told = false;
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() > deadline => return Err(io::ErrorKind::TimedOut.into()),
            Err(TryLockError::WouldBlock) => {
                if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw).filter(|_| !is_told) {
                    // The lock shows that it lives, so the id is still its own.
                    kill_process(pid, Signal::TERM)?;
                    is_told = true;
                }
                std::thread::sleep(POLL);
            }
        }
    }
    let outcome = fs::read(state.join("outcome.json")).map_err(|error| {
        io::Error::new(error.kind(), format!("it ended without a report ({error}); see its log there"))
    })?;
    let outcome = serde_json::from_slice(&outcome)?;
    // What stays of it is only a few small files in the temporary folder.
    let _ = fs::remove_dir_all(state);
    Ok(outcome)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_process_is_noticed_either_way() {
        for by_looking in [false, true] {
            let mut process = Command::new("sleep").arg("60").spawn().unwrap();
            let pid = Pid::from_child(&process);
            let watch = tokio::spawn(async move {
                if by_looking { end_by_looking(pid).await } else { end_by_descriptor(pid).await.unwrap() }
            });
            tokio::time::sleep(3 * POLL).await;
            assert!(!watch.is_finished());
            process.kill().unwrap();
            process.wait().unwrap();
            tokio::time::timeout(Duration::from_secs(5), watch).await.unwrap().unwrap();
            // What is gone already has no descriptor, and is no reason to wait.
            tokio::time::timeout(Duration::from_secs(5), end_of_process(pid)).await.unwrap();
        }
    }
}
