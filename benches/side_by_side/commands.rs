//! Whole commands: from start to first answer, a capture beside the same download without it, and `verify` beside what
//! else hashes files.

use std::{
    fs, io,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::process::Guard,
    material::{Folder, Material},
    process::Processes,
    servers::Server,
};

/// A server that has not answered after this long does not start.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one kind of command took, one line each.
pub struct Figures {
    title: &'static str,
    columns: &'static [&'static str],
    lines: Vec<(String, Vec<f64>)>,
}

impl Figures {
    fn new(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self { title, columns, lines: Vec::new() }
    }

    /// Adds a line with the medians of what each of `samples` has.
    fn add(&mut self, name: &str, samples: &[Vec<f64>]) {
        let median = |column: usize| {
            let mut values: Vec<f64> = samples.iter().map(|sample| sample[column]).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        self.lines.push((name.to_owned(), (0..self.columns.len()).map(median).collect()));
    }

    /// For people.
    pub fn table(&self) -> String {
        let cells = |cells: Vec<String>| cells.iter().map(|cell| format!(" {cell:>14}")).collect::<String>();
        let columns = cells(self.columns.iter().map(ToString::to_string).collect());
        let mut text = format!("\n{:<44}{columns}\n", self.title);
        for (name, values) in &self.lines {
            let values = values.iter().map(|value| if value.is_nan() { String::new() } else { format!("{value:.2}") });
            text += &format!("  {name:<42}{}\n", cells(values.collect()));
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let line = |(name, values): &(String, Vec<f64>)| json!({ "name": name, "values": values });
        json!({ "title": self.title, "columns": self.columns, "lines": self.lines.iter().map(line).collect::<Vec<_>>() })
    }
}

/// Starts `command`, which is to listen on the address that it is given, and waits for its first answer. Gives the time,
/// the processor time until then (both in milliseconds), and the memory a moment later, in MiB.
fn start(command: impl Fn(SocketAddr) -> Command, path: &str) -> io::Result<Vec<f64>> {
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let begin = Instant::now();
    let mut process = Guard(command(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let request = format!("GET http://localhost{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answered = || -> io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    while !answered().unwrap_or(false) {
        if begin.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a server does not start"));
        }
        sleep(Duration::from_micros(200));
    }
    let took = begin.elapsed();
    let processes = Processes::of(process.0.id());
    let cpu = processes.cpu();
    sleep(Duration::from_millis(50));
    let memory = processes.resident_mib();
    process.signal(rustix::process::Signal::TERM);
    let _killed_otherwise = process.wait(Duration::from_secs(5));
    Ok(vec![took.as_secs_f64() * 1e3, cpu.as_secs_f64() * 1e3, memory])
}

/// From start to first answer: buildproxy with more and more entries, from TOML and compiled, and mitmproxy.
pub fn starts(folder: &Folder, material: &Material, mitmdump: Option<&Path>, rounds: usize) -> io::Result<Figures> {
    let mut figures = Figures::new("start to first answer", &["ms", "CPU ms", "idle MiB"]);
    let buildproxy = env!("CARGO_BIN_EXE_buildproxy");
    let (store, materials) = (folder.path("store"), [material.clone()]);
    for entries in [10, 10_000, 100_000] {
        let toml = folder.inventory("start", &materials, entries)?;
        let compiled = toml.with_extension("index");
        let made = Command::new(buildproxy).arg("index").arg("-i").arg(&toml).arg("-o").arg(&compiled).output()?;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for (form, inventory) in [("TOML", &toml), ("compiled", &compiled)] {
            let command = |address: SocketAddr| {
                let mut command = Command::new(buildproxy);
                command
                    .args(["replay", "--listen", &address.to_string(), "-i"])
                    .arg(inventory)
                    .arg("--store")
                    .arg(&store);
                command
            };
            let samples: Vec<_> = (0..rounds).map(|_| start(command, &material.path())).collect::<io::Result<_>>()?;
            figures.add(&format!("buildproxy, {entries} entries, {form}"), &samples);
        }
    }
    if let Some(program) = mitmdump {
        let home = tempfile::tempdir()?;
        let list = folder.list(&materials)?;
        let command = |address: SocketAddr| crate::servers::mitmdump(program, address, &list, home.path());
        let samples: Vec<_> =
            (0..rounds.min(3)).map(|_| start(command, &material.path())).collect::<io::Result<_>>()?;
        figures.add("mitmproxy, 2 entries", &samples);
    }
    Ok(figures)
}

/// curl's rate in 10^6 bytes a second, and the seconds that the whole command took.
fn curl(prefix: &[&str], url: &str) -> io::Result<Vec<f64>> {
    let all = [prefix, &["curl", "-q", "-s", "-S", "-f", "-o", "/dev/null", "-w", "%{speed_download}", url]].concat();
    let begin = Instant::now();
    let mut command = Command::new(all[0]);
    for variable in ["http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        command.env_remove(variable);
    }
    let output = command.args(&all[1..]).output()?;
    let took = begin.elapsed();
    let rate = String::from_utf8_lossy(&output.stdout).trim().parse::<f64>();
    let rate = rate.map_err(|_| io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))?;
    Ok(vec![rate / 1e6, took.as_secs_f64()])
}

/// A body from nginx by curl alone, and through a capture.
pub fn captures(folder: &Folder, nginx: &Server, material: &Material, rounds: usize) -> io::Result<Figures> {
    let mut figures = Figures::new("capture of 1 GiB over HTTP", &["curl MB/s", "command s"]);
    let url = format!("http://{}{}", nginx.target.http, material.path());
    let (mut direct, mut captured) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let place = tempfile::tempdir_in(folder.path(""))?;
        // Memory that this virtual machine has not used for a moment is dear: neither run is to pay for it.
        let warm = place.path().join("warm");
        fs::copy(folder.path("www").join(&material.name), &warm)?;
        fs::remove_file(&warm)?;
        direct.push(curl(&[], &url)?);
        let path = |name: &str| place.path().join(name).display().to_string();
        let (inventory, store) = (path("inventory.toml"), path("store"));
        let buildproxy = env!("CARGO_BIN_EXE_buildproxy");
        captured.push(curl(
            &[buildproxy, "capture", "-q", "--proxy-loopback", "-i", &inventory, "--store", &store, "--"],
            &url,
        )?);
    }
    figures.add("curl alone", &direct);
    figures.add("curl in buildproxy capture", &captured);
    Ok(figures)
}

/// The bytes of `materials` hashed by `verify` and others, in 10^6 bytes a second.
pub fn verifies(folder: &Folder, materials: &[Material], rounds: usize) -> io::Result<Figures> {
    let mut figures = Figures::new("hashing 2 GiB in 4 files", &["MB/s", "seconds"]);
    let inventory = folder.inventory("verify", materials, 0)?;
    let bytes: u64 = materials.iter().map(|material| material.size).sum();
    let files: Vec<PathBuf> = materials.iter().map(|material| folder.path("www").join(&material.name)).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    let mut commands = vec![("buildproxy verify", {
        let mut command = Command::new(env!("CARGO_BIN_EXE_buildproxy"));
        command.args(["verify", "-q", "-i"]).arg(inventory).arg("--store").arg(folder.path("store"));
        command
    })];
    let mut sum = Command::new("sha256sum");
    sum.args(&files);
    commands.push(("sha256sum", sum));
    let mut parallel = Command::new("sh");
    parallel.args(["-c", r#"printf '%s\0' "$@" | xargs -0 -n 1 -P "$0" sha256sum"#, &cores]).args(&files);
    commands.push(("sha256sum on every core", parallel));
    let nix = nix_store(folder, &files)?;
    commands.extend(nix.map(|command| ("nix-store --verify-path", command)));
    let mut samples = vec![Vec::new(); commands.len()];
    let mut openssl = Vec::new();
    for _ in 0..rounds {
        for ((name, command), samples) in commands.iter_mut().zip(&mut samples) {
            let begin = Instant::now();
            let output = command.output()?;
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let took = begin.elapsed().as_secs_f64();
            samples.push(vec![bytes as f64 / 1e6 / took, took]);
        }
        openssl.push(vec![openssl_speed(&cores)?, f64::NAN]);
    }
    commands.iter().zip(&samples).for_each(|((name, _), samples)| figures.add(name, samples));
    figures.add("openssl speed sha256, every core", &openssl);
    Ok(figures)
}

/// What `openssl speed` says of SHA-256 in blocks of 16 KiB, all cores together: the limit, without any memory to read.
fn openssl_speed(cores: &str) -> io::Result<f64> {
    let arguments = ["speed", "-mr", "-evp", "sha256", "-bytes", "16384", "-seconds", "1", "-multi", cores];
    let output = Command::new("openssl").args(arguments).stderr(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    let line = text.lines().find(|line| line.starts_with("+f:") && line.contains("sha256")).unwrap_or_default();
    let rate = line.rsplit(':').next().and_then(|rate| rate.parse::<f64>().ok());
    rate.map(|rate| rate / 1e6).ok_or_else(|| io::Error::other(format!("openssl speed prints no rate: {text}")))
}

/// The check of `files` in a Nix store of their own; `None` where there is no Nix.
fn nix_store(folder: &Folder, files: &[PathBuf]) -> io::Result<Option<Command>> {
    let nix = |arguments: &[&str], files: &[PathBuf]| {
        let mut command = Command::new("nix-store");
        let root = folder.path("nix");
        command.args(arguments).args(files).env("NIX_REMOTE", format!("local?root={}", root.display()));
        command
    };
    let Ok(added) = nix(&["--add-fixed", "sha256"], files).output() else { return Ok(None) };
    if !added.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&added.stderr).into_owned()));
    }
    let paths: Vec<PathBuf> = String::from_utf8_lossy(&added.stdout).lines().map(PathBuf::from).collect();
    Ok(Some(nix(&["--verify-path"], &paths)))
}
