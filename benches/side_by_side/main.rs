//! Side by side: buildproxy, nginx, and mitmproxy as nix-buildproxy uses it, in one interleaved run. `../README.md`
//! tells what is measured and how.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod commands;
#[path = "../../tests/common/mod.rs"]
mod common;
mod load;
mod material;
mod process;
mod servers;
mod table;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use clap::Parser;
use serde_json::json;

use self::{
    commands::Figures,
    load::{Load, Scheme},
    material::{Folder, Material},
    servers::Server,
    table::{Bar, Figure, Row},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Measures buildproxy beside nginx and mitmproxy
#[derive(Parser)]
struct Arguments {
    /// Under three minutes: fewer rounds, no 4 GiB, no cold files
    #[arg(long)]
    quick: bool,
    /// Rounds, of which medians are shown
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only cases whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Only servers whose name has this in it
    #[arg(long, value_name = "TEXT", default_value = "")]
    server: String,
    /// Where all samples go, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// mitmproxy's program; without it mitmproxy is left out
    #[arg(long, value_name = "FILE", env = "MITMDUMP")]
    mitmdump: Option<PathBuf>,
    /// Another build of buildproxy to measure beside this one
    #[arg(long, value_name = "FILE")]
    beside: Vec<PathBuf>,
    /// Where the files are that are served; gigabytes, kept for the next time
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/side_by_side"))]
    folder: PathBuf,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

struct Case {
    name: String,
    load: Load,
    rounds: usize,
}

/// What is served.
struct Materials {
    small: Material,
    medium: Material,
    large: Material,
    huge: Option<Material>,
    cold: Option<Material>,
    sparse: Option<Material>,
    many: Vec<Material>,
}

impl Materials {
    fn make(folder: &Folder, quick: bool) -> io::Result<Self> {
        let full = |name: &str, size: u64, sparse| (!quick).then(|| folder.material(name, size, sparse)).transpose();
        let many = (0..256).map(|number| folder.material(&format!("16-mib-{number}"), 16 * MIB, true));
        Ok(Self {
            small: folder.material("1-kib", 1 << 10, false)?,
            medium: folder.material("1-mib", MIB, false)?,
            large: folder.material("256-mib", 256 * MIB, false)?,
            huge: full("4-gib", 4 * GIB, false)?,
            cold: full("8-gib", 8 * GIB, false)?,
            sparse: full("16-gib", 16 * GIB, true)?,
            many: if quick { Vec::new() } else { many.collect::<io::Result<_>>()? },
        })
    }

    fn all(&self) -> Vec<Material> {
        let mut all = vec![self.small.clone(), self.medium.clone(), self.large.clone()];
        all.extend([&self.huge, &self.cold, &self.sparse].into_iter().flatten().cloned());
        all.extend(self.many.iter().cloned());
        all
    }

    fn cases(&self, rounds: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        let mut add = |name: &str, load, rounds| cases.push(Case { name: name.to_owned(), load, rounds });
        let download = |scheme, material: &Material, connections, times| Load::Download {
            scheme,
            material: material.clone(),
            connections,
            times,
        };
        let keep_alive =
            |connections, requests| Load::KeepAlive { material: self.small.clone(), connections, requests };
        let connect = |at_once, requests| Load::Connect { material: self.small.clone(), at_once, requests };
        add("HTTP 1 KiB, 1 connection", keep_alive(1, 10_000), rounds);
        add("HTTP 1 KiB, 16 connections", keep_alive(16, 64_000), rounds);
        for (scheme, label) in [(Scheme::Http, "HTTP"), (Scheme::Https, "HTTPS")] {
            add(&format!("{label} 1 MiB, 1 connection"), download(scheme, &self.medium, 1, 100), rounds);
            add(&format!("{label} 1 MiB, 16 connections"), download(scheme, &self.medium, 16, 10), rounds);
            add(&format!("{label} 256 MiB, 1 connection"), download(scheme, &self.large, 1, 4), rounds);
            add(&format!("{label} 256 MiB, 16 connections"), download(scheme, &self.large, 16, 1), rounds);
            if let Some(huge) = &self.huge {
                add(&format!("{label} 4 GiB, 1 connection"), download(scheme, huge, 1, 1), rounds);
            }
        }
        add("HTTP/2 256 MiB, 1 connection", download(Scheme::Http2, &self.large, 1, 4), rounds);
        add("CONNECT, TLS, 1 KiB, 1 at a time", connect(1, 1000), rounds);
        add("CONNECT, TLS, 1 KiB, 8 at a time", connect(8, 2000), rounds);
        let beside = |large: &Material, cold| Load::Beside { material: self.small.clone(), large: large.clone(), cold };
        add("HTTP 1 KiB beside 256 MiB", beside(&self.large, false), rounds);
        if let Some(cold) = &self.cold {
            add("HTTP 1 KiB beside 8 GiB, cold", beside(cold, true), 1);
        }
        if let Some(sparse) = &self.sparse {
            add("HTTP 16 GiB, 1 connection", download(Scheme::Http, sparse, 1, 1), 1);
            add("HTTPS 16 GiB, 1 connection", download(Scheme::Https, sparse, 1, 1), 1);
        }
        if !self.many.is_empty() {
            for (scheme, label) in [(Scheme::Http, "HTTP"), (Scheme::Https, "HTTPS")] {
                let load = Load::DownloadEach { scheme, materials: self.many.clone() };
                add(&format!("{label} 256 files of 16 MiB at once"), load, rounds);
            }
        }
        cases
    }
}

const BARS: &[Bar] = &[
    bar("HTTP 256 MiB, 1 connection", "nginx, reno", Figure::Rate, true, 1.),
    bar("HTTP 256 MiB, 1 connection", "nginx, reno", Figure::Cpu, false, 1.),
    bar("HTTP 4 GiB, 1 connection", "nginx, reno", Figure::Rate, true, 1.),
    bar("HTTP 4 GiB, 1 connection", "nginx, reno", Figure::Cpu, false, 1.),
    bar("HTTPS 256 MiB, 1 connection", "nginx, reno", Figure::Rate, true, 1.),
    bar("HTTPS 256 MiB, 1 connection", "nginx, reno", Figure::Cpu, false, 0.9),
    bar("HTTPS 4 GiB, 1 connection", "nginx, reno", Figure::Rate, true, 1.),
    bar("HTTPS 4 GiB, 1 connection", "nginx, reno", Figure::Cpu, false, 0.9),
    Bar { ours: "buildproxy, 100,000", ..bar("HTTP 1 KiB, 16 connections", "nginx, reno", Figure::Rate, true, 0.8) },
    Bar { ours: "buildproxy, 100,000", ..bar("HTTP 1 KiB, 16 connections", "buildproxy", Figure::Rate, true, 0.95) },
    bar("HTTP/2 256 MiB, 1 connection", "nginx, reno", Figure::Rate, true, 1.),
    bar("CONNECT, TLS, 1 KiB, 1 at a time", "nginx, reno", Figure::Rate, true, 0.7),
    bar("CONNECT, TLS, 1 KiB, 8 at a time", "nginx, reno", Figure::Rate, true, 0.7),
    bar("HTTP 1 KiB, 16 connections", "mitmproxy", Figure::Rate, true, 40.),
    bar("HTTP 4 GiB, 1 connection", "mitmproxy", Figure::Peak, false, 1. / 200.),
    bar("HTTP 4 GiB, 1 connection", "mitmproxy", Figure::Cpu, false, 0.25),
    bar("HTTPS 256 MiB, 1 connection", "mitmproxy", Figure::Cpu, false, 1. / 6.),
];

const fn bar(case: &'static str, rival: &'static str, figure: Figure, at_least: bool, ratio: f64) -> Bar {
    Bar { case, ours: "buildproxy", rival, figure, at_least, ratio }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    assert!(Command::new("nginx").arg("-v").output().is_ok(), "no nginx: benches/side_by_side.sh installs it");
    if arguments.mitmdump.is_none() {
        println!("mitmproxy is left out: benches/side_by_side.sh installs it");
    }
    fs::create_dir_all(&arguments.folder)?;
    let folder = Folder::new(arguments.folder.clone())?;
    let materials = Materials::make(&folder, arguments.quick)?;
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 5 });
    let servers = servers(&arguments, &folder, &materials.all())?;
    let mut rows = Vec::new();
    for case in materials.cases(rounds).into_iter().filter(|case| case.name.contains(&arguments.only)) {
        let first = rows.len();
        rows.extend(servers.iter().map(|server| Row {
            case: case.name.clone(),
            server: server.name.clone(),
            is_small: case.load.is_small(),
            samples: Vec::new(),
            problem: None,
        }));
        case.load.warm(&folder)?;
        for round in 0..case.rounds {
            // Each is the first in its turn: what ran before it leaves its traces in caches and memory.
            for number in (0..servers.len()).map(|number| (number + round) % servers.len()) {
                let (row, server) = (&mut rows[first + number], &servers[number]);
                measure(row, server, &case.load, &folder, if arguments.quick { GIB } else { 4 * GIB });
            }
        }
        print!("{}", table::table(&rows[first..]));
    }
    let bars = table::bars(&rows, BARS);
    if !bars.is_empty() {
        print!("\n{bars}");
    }
    let commands = commands(&arguments, &folder, &materials, &servers, rounds)?;
    if let Some(file) = &arguments.json {
        let results = json!({
            "about": about(arguments.mitmdump.as_deref()),
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "commands": commands.iter().map(Figures::json).collect::<Vec<_>>(),
        });
        fs::write(file, serde_json::to_string_pretty(&results)? + "\n")?;
    }
    Ok(())
}

/// What is no load on a server: starts, captures, verifications.
fn commands(
    arguments: &Arguments,
    folder: &Folder,
    materials: &Materials,
    servers: &[Server],
    rounds: usize,
) -> io::Result<Vec<Figures>> {
    let wanted = |name: &str| name.contains(&arguments.only);
    let mut all = Vec::new();
    let mut add = |figures: Figures| {
        print!("{}", figures.table());
        all.push(figures);
    };
    if wanted("start") {
        add(commands::starts(folder, &materials.small, arguments.mitmdump.as_deref(), rounds)?);
    }
    if let Some(nginx) = servers.iter().find(|server| server.name.starts_with("nginx")).filter(|_| wanted("capture")) {
        add(commands::captures(folder, nginx, &folder.material("1-gib", GIB, false)?, rounds)?);
    }
    if wanted("verify") {
        let files = (0..4).map(|number| folder.material(&format!("512-mib-{number}"), 512 * MIB, false));
        add(commands::verifies(folder, &files.collect::<io::Result<Vec<_>>>()?, rounds)?);
    }
    Ok(all)
}

/// A server that failed once is not asked again: it can take a minute each time.
fn measure(row: &mut Row, server: &Server, load: &Load, folder: &Folder, most_for_mitmproxy: u64) {
    if server.name.starts_with("mitmproxy") && load.bytes_at_once() > most_for_mitmproxy {
        row.problem = Some("left out: it takes long, and two or three times the memory".to_owned());
        return;
    }
    // mitmproxy is so much slower that one run of a large load says enough.
    let enough = server.name.starts_with("mitmproxy") && !row.samples.is_empty() && !load.is_small();
    if row.problem.is_some() || enough {
        return;
    }
    match load.scaled_for(&server.name).run(server, folder) {
        Ok(sample) => row.samples.push(sample),
        Err(error) => row.problem = Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn servers(arguments: &Arguments, folder: &Folder, materials: &[Material]) -> io::Result<Vec<Server>> {
    let (store, www) = (folder.path("store"), folder.path("www"));
    let own = folder.inventory("inventory", materials, 0)?;
    let many = folder.inventory("inventory", materials, 100_000)?;
    let wanted = |name: &str| name.contains(&arguments.server);
    let mut servers = Vec::new();
    let this = Path::new(env!("CARGO_BIN_EXE_buildproxy"));
    for (name, inventory) in [("buildproxy", &own), ("buildproxy, 100,000 entries", &many)] {
        if wanted(name) {
            servers.push(servers::buildproxy(name, this, inventory, &store)?);
        }
    }
    for other in &arguments.beside {
        servers.push(servers::buildproxy(&other.display().to_string(), other, &own, &store)?);
    }
    for (name, congestion) in [("nginx, system's", None), ("nginx, reno", Some("reno"))] {
        if wanted(name) {
            servers.push(servers::nginx(name, &www, congestion)?);
        }
    }
    if let Some(program) = arguments.mitmdump.as_ref().filter(|_| wanted("mitmproxy")) {
        servers.push(servers::mitmproxy(&version("mitmproxy", program), program, &folder.list(materials)?)?);
    }
    Ok(servers)
}

/// The first line of what `program --version` prints, with its name before it.
fn version(name: &str, program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    format!("{name} {}", text.lines().next().unwrap_or_default().rsplit(' ').next().unwrap_or_default())
}

fn about(mitmdump: Option<&Path>) -> serde_json::Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    json!({
        "processor": model,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "congestion-control": read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "buildproxy": env!("CARGO_PKG_VERSION"),
        "mitmproxy": mitmdump.map(|program| version("mitmproxy", program)),
    })
}
