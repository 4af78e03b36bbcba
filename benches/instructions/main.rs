//! How many instructions the hot paths take, counted under valgrind and compared with `benches/instructions.toml`.
//!
//! The program has three roles. Started by cargo it starts itself as gungraun's harness, and compares what that counted.
//! The harness starts gungraun's runner, which starts the program once more, under valgrind, for each benchmark in
//! [`counted`].
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used)] // a benchmark that cannot be set up has to stop

mod baseline;
mod counted;
mod samples;

use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    process::{Command, ExitCode, Stdio},
};

use baseline::{Counts, compare};
use serde_json::Value;

/// Where the accepted counts are. Cargo starts benchmarks in the package's folder.
const BASELINE: &str = "benches/instructions.toml";
/// gungraun's own variable. Where it is set, gungraun does what it is told on its command line, and nothing is compared.
const OUTPUT_FORMAT: &str = "GUNGRAUN_OUTPUT_FORMAT";

fn main() -> ExitCode {
    let has = |wanted: &str| env::args().any(|argument| argument == wanted);
    if has("--gungraun-run") || env::var_os(OUTPUT_FORMAT).is_some() {
        level_heap();
        counted::harness();
        return ExitCode::SUCCESS;
    }
    if !has("--bench") {
        eprintln!("nothing is counted: this is no test but a benchmark, started by `cargo bench`");
        return ExitCode::SUCCESS;
    }
    run(has("--accept")).unwrap_or_else(|error| {
        eprintln!("error: {error}\n\nhint: benches/instructions.sh installs what is needed; --accept makes {BASELINE}");
        ExitCode::from(3)
    })
}

/// Leaves one free block of each small size, as the arguments leave some whose size is the length of this program's path.
fn level_heap() {
    for size in (8..1024).step_by(16) {
        drop(std::hint::black_box(vec![0_u8; size]));
    }
}

/// Counts, then compares or accepts.
fn run(accept: bool) -> io::Result<ExitCode> {
    let accepted = match accepted() {
        Ok(counts) => counts,
        Err(_) if accept => Counts::default(),
        Err(error) => return Err(error),
    };
    let now = Counts { made_with: made_with()?, instructions: count()? };
    let comparison = compare(&accepted, &now);
    print!("{comparison}");
    if accept {
        let text = now.to_text().map_err(io::Error::other)?;
        fs::write(BASELINE, text).map_err(|error| about(BASELINE, error))?;
        println!("\naccepted: commit {BASELINE}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("\n{}", comparison.conclusion());
    Ok(if comparison.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The baseline.
fn accepted() -> io::Result<Counts> {
    let text = fs::read_to_string(BASELINE).map_err(|error| about(BASELINE, error))?;
    Counts::parse(&text).map_err(|error| about(BASELINE, error))
}

/// The instructions of each benchmark, by name.
fn count() -> io::Result<BTreeMap<String, u64>> {
    let mut harness = Command::new(env::current_exe()?);
    harness.arg("--bench").env(OUTPUT_FORMAT, "json");
    // Address randomisation makes no difference, and where containers forbid to switch it off, nothing would be counted.
    harness.env("GUNGRAUN_ALLOW_ASLR", "yes").env("GUNGRAUN_PARALLEL", "auto");
    let output = harness.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("counting failed: {}", output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| read_summary(line).ok_or_else(|| about("no count in gungraun's summary", line))).collect()
}

/// Name and count of one benchmark in gungraun's words.
fn read_summary(line: &str) -> Option<(String, u64)> {
    let summary: Value = serde_json::from_str(line).ok()?;
    let name = format!("{}/{}", summary["function_name"].as_str()?, summary["id"].as_str()?);
    let count = summary.pointer("/profiles/0/data/total/metrics/Ir/values/new")?.as_u64()?;
    // None at all: the functions were not found.
    (count > 0).then_some((name, count))
}

/// What counts depend on beside the code: a difference in any of it makes them no longer comparable.
fn made_with() -> io::Result<BTreeMap<String, String>> {
    let rustc = env::var("RUSTC").unwrap_or("rustc".to_owned());
    let answers = [
        ("rustc", answer(&rustc, "--version")?),
        ("valgrind", answer("valgrind", "--version")?),
        ("libc", answer("getconf", "GNU_LIBC_VERSION")?),
        ("cpu", cpu()),
    ];
    Ok(answers.map(|(name, answer)| (name.to_owned(), answer)).into())
}

/// The same error, of which it is known what it is about.
fn about(what: &str, error: impl fmt::Display) -> io::Error {
    io::Error::other(format!("{what}: {error}"))
}

/// What a program says to one argument.
fn answer(program: &str, argument: &str) -> io::Result<String> {
    let output = Command::new(program).arg(argument).output().map_err(|error| about(program, error))?;
    if !output.status.success() {
        return Err(about(program, output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What valgrind shows of this machine's processor. It has one face for all that have AVX2, and poorer ones below.
fn cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let has = if is_x86_feature_detected!("avx2") { " with AVX2" } else { " without AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    let has = "";
    format!("{}{has}", env::consts::ARCH)
}
