//! The signals by which people end a program.

use std::{
    fs::{self, File},
    future::poll_fn,
    io,
    task::Poll,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    signal::unix::{self, SignalKind},
    time::timeout,
};

/// Those signals, taken over for the rest of the process's life: the system's own reaction to them does not come back.
pub struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
    /// Where there is one; it need not be stdin.
    terminal: Option<File>,
}

impl Signals {
    /// Takes over what is not ignored: what `nohup` protects from stays away from the command as well.
    ///
    /// # Errors
    /// Where the system does not allow it.
    pub fn new() -> io::Result<Self> {
        let ignored = ignored();
        let wanted = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::QUIT, SignalKind::quit()),
            (Signal::TERM, SignalKind::terminate()),
            (Signal::HUP, SignalKind::hangup()),
        ];
        let taken = wanted.into_iter().filter(|(signal, _)| ignored & (1 << (signal.as_raw() - 1)) == 0);
        let streams = taken.map(|(signal, kind)| Ok((signal, unix::signal(kind)?))).collect::<io::Result<_>>()?;
        Ok(Self { streams, terminal: File::open("/dev/tty").ok() })
    }

    /// The next signal.
    pub async fn received(&mut self) -> Signal {
        poll_fn(|context| {
            let mut streams = self.streams.iter_mut();
            let ready = streams.find_map(|(signal, stream)| stream.poll_recv(context).is_ready().then_some(*signal));
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Passes over what has come so far.
    pub async fn forget(&mut self) {
        while timeout(Duration::ZERO, self.received()).await.is_ok() {}
    }

    /// Whether `signal` came from a key of the terminal, which sends it to the whole foreground group.
    pub fn is_key(&self, signal: Signal) -> bool {
        let foreground = self.terminal.as_ref().map(rustix::termios::tcgetpgrp);
        matches!(signal, Signal::INT | Signal::QUIT)
            && foreground.is_some_and(|group| group == Ok(rustix::process::getpgrp()))
    }
}

/// The signals that are ignored, a bit each (proc_pid_status(5)); none where the system does not tell.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
