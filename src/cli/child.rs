//! Running a command behind the proxy.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitStatus},
};

use rustix::process::{Pid, kill_process};
use tokio::process::Child;

use super::{FAILED, output, signals::Signals};
use crate::{
    isolate::{Bypass, Isolated, Remains, Running},
    proxy::{ClientEnvironment, raise_descriptor_limit},
    text::printable,
};

/// What a shell gives for a command that does not exist (POSIX, Shell and Utilities §2.8.2).
const NOT_FOUND: u8 = 127;
/// What a shell gives for a file that cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// How a command ended.
pub struct Ended {
    /// Its exit code; 128+N where signal N ended it.
    pub code: u8,
    /// What it tried to reach past the proxy, where it was isolated.
    pub bypasses: Vec<Bypass>,
    /// Whether it ran at all.
    pub has_run: bool,
}

/// Runs `command` in `environment` to its end; where `isolated` is the place that was made for it, there.
///
/// Signals that people send to end a program go to the command, which decides; its end is then ours.
pub async fn run(
    command: &[OsString],
    environment: &ClientEnvironment,
    isolated: Option<Isolated>,
    signals: &mut Signals,
) -> Ended {
    output::share_terminal();
    let running = match isolated {
        Some(isolated) => isolated.run(environment),
        None => start(command, environment).map(Running::open),
    };
    let Running { child, end } = match running {
        Ok(running) => running,
        Err(error) => {
            return Ended { code: cannot_run(command, &error), bypasses: Vec::new(), has_run: false };
        }
    };
    // Now that the command has begun with what was before.
    raise_descriptor_limit();
    let code = match wait(child, signals).await {
        Ok(status) => exit_code(status),
        Err(error) => {
            output::error(&format!("cannot wait for the command: {error}"));
            FAILED
        }
    };
    let Remains { bypasses, left_running } = end();
    if !left_running.is_empty() {
        let names: Vec<_> = left_running.iter().map(ToString::to_string).collect();
        tracing::warn!("the command left processes running, which --isolate ended: {}", names.join(", "));
    }
    Ended { code, bypasses, has_run: true }
}

/// Says that `command` cannot be run, and gives the exit code for it.
pub fn cannot_run(command: &[OsString], error: &io::Error) -> u8 {
    let name = command.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    output::error(&format!("cannot run `{}`: {error}", printable(&name)));
    match error.kind() {
        io::ErrorKind::NotFound => NOT_FOUND,
        _ => NOT_EXECUTABLE,
    }
}

fn start(command: &[OsString], environment: &ClientEnvironment) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments);
    environment.apply(&mut command);
    tokio::process::Command::from(command).spawn()
}

async fn wait(mut child: Child, signals: &mut Signals) -> io::Result<ExitStatus> {
    loop {
        let received = tokio::select! {
            status = child.wait() => {
                // What was sent before its end was for the command.
                signals.forget().await;
                return status;
            }
            received = signals.received() => received,
        };
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| !signals.is_key(received)) {
            // It may just have ended.
            let _ = kill_process(pid, received);
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}
