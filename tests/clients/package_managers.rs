//! Package managers against registries of the tests' own, each with the habit that a naive replay breaks.
//!
//! Each is captured, then replayed from an empty home where there is no network, and must leave the same files.

mod java;
mod javascript;
mod python;
mod ruby_php_perl;

use std::{fs, path::Path, process::Command};

use crate::common::{
    Entries, Entry, Nginx, Outcome, Workdir, in_empty_network, npm_tool, python_tool, run, tree, workdir::within,
};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256, Sha512};

/// What was seen of a package manager that was captured, then replayed.
struct Seen {
    work: Workdir,
    captured: Outcome,
    replayed: Outcome,
    inventory: Entries,
    /// What the origin was asked and what it answered, by its own log: `GET /path 200`.
    asked: Vec<String>,
}

impl Seen {
    /// Fails where a log of the package manager's own, of the capture or of the replay, is without `text`.
    #[track_caller]
    fn told_both_times(&self, text: &str) {
        for outcome in [&self.captured, &self.replayed] {
            assert!(outcome.stderr.contains(text), "`{text}` is not on stderr of {outcome}");
        }
    }

    /// How often the origin was asked this, and answered so.
    fn times(&self, request_and_status: &str) -> usize {
        self.asked.iter().filter(|asked| *asked == request_and_status).count()
    }

    /// Fails where the origin was not asked this, or answered something else.
    #[track_caller]
    fn was_asked(&self, request_and_status: &str) {
        assert!(self.times(request_and_status) > 0, "{request_and_status}: {:#?}", self.asked);
    }
}

/// Captures `script` from `origin`, which then ends, and replays it where there is no network. It runs in the folder
/// `project` both times, which begins as the files given, and both times there is nothing at home. It must print the
/// same and leave the same files.
#[track_caller]
fn with_and_without_the_origin(origin: Nginx, project: &[(&str, &str)], script: &str) -> Seen {
    let work = Workdir::new();
    let script = format!("mkdir project; cp -r input/. project; cd project; {script}");
    fs::create_dir(work.path("input")).unwrap();
    for (name, content) in project {
        work.write(&format!("input/{name}"), content);
    }
    // A name that is not loopback's, for clients that never use a proxy for that.
    let hosts = work.root().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost modules.test\n").unwrap();
    let mut capturing = work.capturing(&origin.ca.pem);
    capturing.args(["--", "sh", "-euc", &script]);
    let mount = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    let captured = run(&mut within(&capturing, "-rm", &mount)).expect_code(0);
    let asked = asked(&origin);
    drop(origin);

    fs::rename(work.path("project"), work.path("captured")).unwrap();
    work.empty_home();
    let mut replaying = work.replaying();
    replaying.args(["--", "sh", "-euc", &script]);
    let replayed = run(&mut in_empty_network(&replaying)).expect_code(0);
    assert!(!replayed.stderr.contains("unused entries"), "the same requests, no fewer: {replayed}");
    assert_eq!(captured.text(), replayed.text());
    assert_eq!(tree(&work.path("captured")), tree(&work.path("project")));
    run(work.buildproxy("verify").arg("--quiet")).expect_code(0);
    let inventory = work.inventory();
    Seen { work, captured, replayed, inventory, asked }
}

/// What `origin` has logged so far, in short.
fn asked(origin: &Nginx) -> Vec<String> {
    let log = fs::read_to_string(origin.folder().join("access.log")).unwrap();
    let request = |line: &str| {
        let (_, rest) = line.split_once('"')?;
        let (request, rest) = rest.split_once(" HTTP/")?;
        Some(format!("{request} {}", rest.split(' ').nth(1)?))
    };
    log.lines().map(|line| request(line).expect("a line of nginx's log")).collect()
}

/// Runs a shell script that makes what an origin serves.
#[track_caller]
fn make(folder: &Path, script: &str) {
    run(Command::new("sh").args(["-euc", script]).current_dir(folder)).expect_code(0);
}

fn sha256(file: &Path) -> String {
    HEXLOWER.encode(&Sha256::digest(fs::read(file).unwrap()))
}

#[test]
fn cargo_revalidates_its_index_over_http_2() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        r#"mkdir -p greeting-1.0.0/src index/gr/ee crates
        echo 'pub fn greet() {}' >greeting-1.0.0/src/lib.rs
        printf '[package]\nname = "greeting"\nversion = "1.0.0"\nedition = "2021"\n' >greeting-1.0.0/Cargo.toml
        tar czf crates/greeting-1.0.0.crate greeting-1.0.0"#,
    );
    let digest = sha256(&origin.www().join("crates/greeting-1.0.0.crate"));
    let config = format!(r#"{{"dl":"{}/{{crate}}-{{version}}.crate"}}"#, origin.tls_url("/crates"));
    let line =
        format!(r#"{{"name":"greeting","vers":"1.0.0","deps":[],"cksum":"{digest}","features":{{}},"yanked":false}}"#);
    fs::write(origin.www().join("index/config.json"), config).unwrap();
    fs::write(origin.www().join("index/gr/ee/greeting"), line + "\n").unwrap();
    let toolchain = Path::new(env!("CARGO")).parent().unwrap().display();
    let index = origin.tls_url("/index/");
    let script = format!(
        r#"PATH="{toolchain}:$PATH"; mkdir src .cargo; : >src/lib.rs
        printf '[registries.local]\nindex = "sparse+{index}"\n' >.cargo/config.toml
        export CARGO_HTTP_DEBUG=true CARGO_LOG=network=debug
        cargo vendor >config; cargo update"#
    );
    let manifest = "[workspace]\n[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                    [dependencies]\ngreeting = { version = \"1\", registry = \"local\" }\n";
    let seen = with_and_without_the_origin(origin, &[("Cargo.toml", manifest)], &script);
    for told in ["> if-none-match: ", "< HTTP/2 304", "< HTTP/2 200"] {
        seen.told_both_times(told);
    }
    assert_eq!(seen.inventory.one(&format!("{index}gr/ee/greeting")).status(), 200, "not the 304");
}

#[test]
fn go_falls_through_to_the_proxy_that_has_the_module() {
    let origin = Nginx::start("location /first/example.org/greeting/ { return 410; }");
    make(
        &origin.www(),
        r#"module() {
            path=example.org/$1 at=second/example.org/$1/@v && mkdir -p "$at" "$path@v1.0.0"
            printf '%s\n' "module $path" "go 1.19" "$2" >"$path@v1.0.0/go.mod"
            printf '%s\n' "package $1" "$3" >"$path@v1.0.0/code.go"
            echo v1.0.0 >"$at/list" && cp "$path@v1.0.0/go.mod" "$at/v1.0.0.mod"
            echo '{"Version": "v1.0.0", "Time": "2024-05-06T07:08:09Z"}' >"$at/v1.0.0.info"
            /usr/bin/python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as file: [file.write(name) for name in sys.argv[2:]]' "$at/v1.0.0.zip" "$path@v1.0.0"/*
        }
        module farewell '' ''
        module greeting 'require example.org/farewell v1.0.0' 'import _ "example.org/farewell"'"#,
    );
    // Go asks loopback directly, whatever it is told; and it is to meet both schemes.
    let of_name = |url: String| url.replace("localhost", "modules.test");
    let script = format!(
        "export GOPROXY='{},{}' GOSUMDB=off GOFLAGS='-mod=mod -modcacherw' GOTOOLCHAIN=local
        go get -x example.org/greeting@latest; go list -m -json all; go mod vendor -v",
        of_name(origin.tls_url("/first")),
        of_name(origin.url("/second"))
    );
    let main = "package main\nimport _ \"example.org/greeting\"\nfunc main() {}\n";
    let seen = with_and_without_the_origin(origin, &[("go.mod", "module app\ngo 1.19\n"), ("main.go", main)], &script);
    for (request, status, told) in [
        ("/first/example.org/greeting/@v/v1.0.0.zip", 410, "410 Gone"),
        ("/first/example.org/farewell/@v/v1.0.0.zip", 404, "404 Not Found"),
        ("/second/example.org/greeting/@v/v1.0.0.zip", 200, "200 OK"),
    ] {
        seen.was_asked(&format!("GET {request} {status}"));
        seen.told_both_times(&format!("{request}: {told}"));
    }
}
