//! Running a program to its end: bounded in time, with what it printed and the memory that it took.

use std::{
    fmt, fs,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

/// Far above what any step needs on a slow machine: only a program that hangs gets there.
const PATIENCE: Duration = Duration::from_secs(180);

/// How a program ended.
pub struct Outcome {
    /// Its exit code, or 128 + N where signal N ended it.
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
    /// The peak of its own resident memory, in KiB.
    pub peak_kib: u64,
    pub took: Duration,
    command: String,
}

impl Outcome {
    /// The standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on stdout")
    }

    /// Fails the test where the exit code is another.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// Fails the test where one of `parts` is not on stderr, in any case of letters.
    #[track_caller]
    pub fn expect_stderr(self, parts: &[&str]) -> Self {
        let lower = self.stderr.to_lowercase();
        for part in parts {
            assert!(lower.contains(&part.to_lowercase()), "`{part}` is not on stderr of {self}");
        }
        self
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.command)?;
        writeln!(f, "-- exit code {}, stdout:\n{}", self.code, String::from_utf8_lossy(&self.stdout))?;
        write!(f, "-- stderr:\n{}", self.stderr)
    }
}

/// Runs `command` with an empty stdin, in a process group of its own, and collects what it prints.
///
/// # Panics
/// Where it cannot be started, does not end in time, or leaves something behind that holds its output open.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    let shown = format!("{command:?}");
    let started = Instant::now();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let mut peak_kib = 0;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if started.elapsed() > PATIENCE {
            kill_group(&child);
            child.wait().unwrap();
            break None;
        }
        peak_kib = peak_kib.max(peak_kib_of(child.id()));
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = started.elapsed();
    let patience = Duration::from_secs(10);
    let printed = (stdout.recv_timeout(patience), stderr.recv_timeout(patience));
    let (Some(status), (Ok(stdout), Ok(stderr))) = (status, printed) else {
        panic!("{shown} did not end, or left something behind that holds its output open");
    };
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    Outcome { code, stdout, stderr, peak_kib, took, command: shown }
}

/// Ends a child when dropped, so that a failing test leaves nothing behind.
pub struct Guard(pub Child);

impl Guard {
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Its exit code, or `None` where it still runs after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Option<i32> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until `condition` gives something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The kernel's own high-water mark of the resident memory of process `pid`.
pub fn peak_kib_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

fn kill_group(child: &Child) {
    let _ended = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL);
}

fn collect(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _read = pipe.read_to_end(&mut bytes);
        let _sent = sender.send(bytes);
    });
    receiver
}
