//! `buildproxy doctor`, with the clients that are installed, and with some that are not as they should be.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use crate::common::{Outcome, Workdir, run};
use serde_json::Value;

/// The finding whose text starts with `start`.
fn finding<'a>(findings: &'a Value, start: &str) -> &'a Value {
    let found =
        findings.as_array().unwrap().iter().find(|finding| finding["text"].as_str().unwrap().starts_with(start));
    found.unwrap_or_else(|| panic!("nothing about {start} in {findings}"))
}

fn json(outcome: Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap()
}

#[test]
fn the_clients_that_are_installed_are_asked_and_come() {
    let work = Workdir::new();
    let mut doctor = work.buildproxy("doctor");
    // Where cargo is rustup's, that has to find its toolchains.
    let toolchains = |home: std::ffi::OsString| std::path::Path::new(&home).join(".rustup").into_os_string();
    let toolchains = std::env::var_os("RUSTUP_HOME").or_else(|| std::env::var_os("HOME").map(toolchains));
    doctor.envs(toolchains.map(|toolchains| ("RUSTUP_HOME", toolchains)));
    let findings = json(run(doctor.arg("--json")).expect_code(0));
    for client in ["curl", "wget", "git", "python3", "npm", "go", "java", "cargo", "nix-prefetch-url"] {
        let finding = finding(&findings, &format!("{client} "));
        assert_eq!(finding["state"], "good", "{finding}");
    }
    assert_eq!(finding(&findings, "aria2c ")["text"], "aria2c does not trust the proxy's CA");
    assert_eq!(finding(&findings, "a port can be opened")["state"], "good");
}

/// `doctor` where these are the programs in `PATH`.
fn with_programs(work: &Workdir, programs: &[(&str, &str)]) -> Command {
    fs::create_dir(work.path("bin")).unwrap();
    for (name, script) in programs {
        work.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(work.path(&format!("bin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut doctor = work.buildproxy("doctor");
    doctor.env("PATH", work.path("bin"));
    doctor
}

#[test]
fn a_client_that_does_not_come_is_named_with_its_own_words_and_what_to_do() {
    let work = Workdir::new();
    let curl = "exec /usr/bin/curl --noproxy '*' \"$@\"";
    let programs =
        [("curl", curl), ("git", "exec /usr/bin/git -c http.sslCAInfo=/dev/null \"$@\""), ("wget", "kill -9 $$")];
    let said = run(&mut with_programs(&work, &programs)).expect_code(0);
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(text.contains("warn curl did not come to the proxy: curl: (6) Could not resolve host"), "{text}");
    assert!(text.contains("hint: look for `proxy`, `noproxy` and `cacert` in ~/.curlrc"), "{text}");
    assert!(text.contains("warn wget did not come to the proxy\n"), "{text}");
    assert!(text.contains("warn there is no Nix: bodies go to the embedded store"), "{text}");
    assert!(!text.contains("python3"), "what is not there is not asked: {text}");
    assert!(said.stderr.is_empty(), "{}", said.stderr);
}

#[test]
fn what_no_capture_could_do_without_makes_it_fail() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\nbad\n");
    work.write("file", "");
    let said = run(work.command(env!("CARGO_BIN_EXE_buildproxy")).args(["doctor", "--store", "file"]).env("PATH", ""))
        .expect_code(1);
    let text = String::from_utf8(said.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.starts_with("BAD  ")).count(), 2, "{text}");
    assert!(text.contains("inventory.toml:2"), "{text}");
}
