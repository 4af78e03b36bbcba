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
/// How often the end of another process is looked for where the kernel cannot tell.
const POLL: Duration = Duration::from_millis(20);

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
    let state = tempfile::Builder::new().prefix("buildproxy-").tempdir().map_err(failed)?.keep();
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--background");
    let log = File::create(state.join("log")).map_err(failed)?;
    let mut server = Command::new(std::env::current_exe().map_err(failed)?)
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

/// Waits until process `pid` has ended; for ever without one.
pub async fn end_of_process(pid: Option<i32>) {
    let Some(pid) = pid.and_then(Pid::from_raw) else {
        return std::future::pending().await;
    };
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
    #[arg(long, value_name = "DIR", env = super::unless_empty(STATE_VARIABLE))]
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
                    output::say(outcome.text);
                }
                outcome.code
            }
            Err(error) => {
                output::error(&format!("cannot stop the server of {}: {error}", state.display()));
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
