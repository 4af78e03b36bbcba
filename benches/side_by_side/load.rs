//! What is asked of a server, and what it took.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    client,
    material::{Folder, Material},
    process::Processes,
    servers::Server,
};

/// How a body is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Http2,
}

/// What is asked.
#[derive(Debug, Clone)]
pub enum Load {
    /// A body, on so many connections at once, so many times one after the other.
    Download { scheme: Scheme, material: Material, connections: usize, times: u64 },
    /// Bodies of their own for so many connections at once.
    DownloadEach { scheme: Scheme, materials: Vec<Material> },
    /// Small answers on connections that are kept.
    KeepAlive { material: Material, connections: usize, requests: u64 },
    /// Small answers on connections of their own: tunnel, handshake, request.
    Connect { material: Material, at_once: usize, requests: usize },
    /// Small answers, one after the other, while a large body is downloaded that has to come from the disk first.
    Beside { material: Material, large: Material, cold: bool },
}

/// What one run of a load took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Bodies: 10^6 bytes a second. Small answers: answers a second.
    pub rate: f64,
    /// Processor seconds of the server for 2^30 bytes; for small answers, microseconds for each.
    pub cpu: f64,
    /// Peak of the server's resident memory, in MiB.
    pub peak: f64,
    /// From request to answer, in microseconds; for small answers.
    pub p50: f64,
    pub p99: f64,
}

impl Load {
    /// Whether the answers count, not the bytes.
    pub fn is_small(&self) -> bool {
        matches!(self, Self::KeepAlive { .. } | Self::Connect { .. } | Self::Beside { .. })
    }

    /// The bodies that are on their way at one time, in bytes.
    pub fn bytes_at_once(&self) -> u64 {
        match self {
            Self::Download { material, connections, .. } | Self::KeepAlive { material, connections, .. } => {
                material.size * *connections as u64
            }
            Self::Connect { material, at_once, .. } => material.size * *at_once as u64,
            Self::DownloadEach { materials, .. } => materials.iter().map(|material| material.size).sum(),
            Self::Beside { large, .. } => large.size,
        }
    }

    /// A part of it for what is slower by more than ten times: the rates stay comparable.
    pub fn scaled_for(&self, server: &str) -> Self {
        let mut scaled = self.clone();
        if server.starts_with("mitmproxy") {
            match &mut scaled {
                Self::KeepAlive { requests, .. } => *requests /= 20,
                Self::Connect { requests, .. } => *requests /= 10,
                Self::Download { times, .. } => *times = (*times / 10).max(1),
                Self::DownloadEach { .. } | Self::Beside { .. } => {}
            }
        }
        scaled
    }

    /// Brings what is asked for into the page cache, so that nobody does it for those that come later.
    pub fn warm(&self, folder: &Folder) -> io::Result<()> {
        match self {
            Self::Download { material, .. } | Self::KeepAlive { material, .. } | Self::Connect { material, .. } => {
                folder.read(material)
            }
            Self::DownloadEach { materials, .. } => materials.iter().try_for_each(|material| folder.read(material)),
            Self::Beside { cold: true, .. } => Ok(()),
            Self::Beside { large, .. } => folder.read(large),
        }
    }

    /// Runs it once.
    ///
    /// # Errors
    /// Where the server hangs, or answers something else.
    pub fn run(&self, server: &Server, folder: &Folder) -> io::Result<Sample> {
        if let Self::Beside { large, cold: true, .. } = self {
            folder.drop_from_cache(large)?;
        }
        // What the run before left to do is not this one's.
        thread::sleep(Duration::from_millis(30));
        server.processes.reset_peaks();
        let meter = Meter::start(&server.processes);
        match self {
            Self::Download { scheme, material, connections, times } => {
                let (mut bytes, mut took) = (0, Duration::ZERO);
                for _ in 0..*times {
                    let received = download(server, *scheme, &vec![material.clone(); *connections])?;
                    bytes += material.size * *connections as u64;
                    took += received;
                }
                Ok(meter.bytes(bytes, took))
            }
            Self::DownloadEach { scheme, materials } => {
                let took = download(server, *scheme, materials)?;
                Ok(meter.bytes(materials.iter().map(|material| material.size).sum(), took))
            }
            Self::KeepAlive { material, connections, requests } => {
                let each = requests / *connections as u64;
                let ask = |_| server.target.plain(&material.path(), each);
                let asking: Vec<_> = (0..*connections).map(ask).collect::<io::Result<_>>()?;
                let received = client::receive(asking)?;
                Ok(meter.answers(received.took, received.latencies))
            }
            Self::Connect { material, at_once, requests } => {
                let (took, latencies) = connect(server, material, *at_once, *requests)?;
                Ok(meter.answers(took, latencies))
            }
            Self::Beside { material, large, .. } => {
                let (took, latencies) = beside(server, material, large)?;
                Ok(meter.answers(took, latencies))
            }
        }
    }
}

/// Receives a body on a connection for each of `materials`.
fn download(server: &Server, scheme: Scheme, materials: &[Material]) -> io::Result<Duration> {
    let target = &server.target;
    let ask = |material: &Material| match scheme {
        Scheme::Http => target.whole(&material.path(), material.size),
        Scheme::Https => target.encrypted(&material.path(), material.size),
        Scheme::Http2 => target.http2(&material.path(), material.size),
    };
    let asking: Vec<_> = materials.iter().map(ask).collect::<io::Result<_>>()?;
    Ok(client::receive(asking)?.took)
}

/// Whole exchanges by several threads, until `requests` are done.
fn connect(
    server: &Server,
    material: &Material,
    at_once: usize,
    requests: usize,
) -> io::Result<(Duration, Vec<Duration>)> {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let work = || -> io::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < requests {
            let start = Instant::now();
            let answer = server.target.exchange(&material.path())?;
            if !answer.starts_with(b"HTTP/1.1 200") || (answer.len() as u64) < material.size {
                return Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
            }
            latencies.push(start.elapsed());
        }
        Ok(latencies)
    };
    let latencies = thread::scope(|scope| {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a client failed"))));
        results.collect::<io::Result<Vec<_>>>()
    })?;
    Ok((start.elapsed(), latencies.concat()))
}

/// Small requests on one connection as long as a large download goes on on another.
fn beside(server: &Server, material: &Material, large: &Material) -> io::Result<(Duration, Vec<Duration>)> {
    let done = Arc::new(AtomicBool::new(false));
    let (target, path, size, end) = (server.target.clone(), large.path(), large.size, Arc::clone(&done));
    let download = thread::spawn(move || {
        let took = target.whole(&path, size).and_then(|asking| client::receive(vec![asking]));
        end.store(true, Ordering::Relaxed);
        took
    });
    let (start, mut latencies) = (Instant::now(), Vec::new());
    while !done.load(Ordering::Relaxed) {
        latencies.extend(client::receive(vec![server.target.plain(&material.path(), 50)?])?.latencies);
    }
    download.join().unwrap_or_else(|_| Err(io::Error::other("the download failed")))?;
    Ok((start.elapsed(), latencies))
}

/// What a server spends from here on.
struct Meter<'a> {
    processes: &'a Processes,
    before: Duration,
}

impl<'a> Meter<'a> {
    fn start(processes: &'a Processes) -> Self {
        Self { processes, before: processes.cpu() }
    }

    fn cpu(&self) -> f64 {
        (self.processes.cpu() - self.before).as_secs_f64()
    }

    fn bytes(&self, bytes: u64, took: Duration) -> Sample {
        let gibibytes = bytes as f64 / f64::from(1 << 30);
        let rate = bytes as f64 / 1e6 / took.as_secs_f64();
        Sample { rate, cpu: self.cpu() / gibibytes, peak: self.processes.peak_mib(), p50: f64::NAN, p99: f64::NAN }
    }

    fn answers(&self, took: Duration, mut latencies: Vec<Duration>) -> Sample {
        latencies.sort();
        let count = latencies.len().max(1);
        let at = |part: f64| {
            latencies.get((count as f64 * part) as usize).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e6)
        };
        Sample {
            rate: latencies.len() as f64 / took.as_secs_f64(),
            cpu: self.cpu() * 1e6 / count as f64,
            peak: self.processes.peak_mib(),
            p50: at(0.5),
            p99: at(0.99),
        }
    }
}
