//! HAR: from mitmproxy, to everybody, and there and back.

use std::{fs, path::Path, process::Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    HERE,
    common::{
        self, Awkward, Workdir,
        process::{Guard, wait_for},
        run,
        serving::sparse_entry,
    },
    diff, inventory,
};

/// Runs mitmdump with these options, has `script` go through it, and ends it as a user does.
fn through_mitmproxy(work: &Workdir, options: &[&str], script: &str) {
    let mitmdump = Path::new(HERE).join("target/tools/mitmproxy/bin/mitmdump");
    assert!(mitmdump.exists(), "{} is missing: run ./test, which installs it", mitmdump.display());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let conf = format!("confdir={}", work.path("conf").display());
    let mut command = work.command(&mitmdump);
    command.args(["-q", "--ssl-insecure", "--set", &conf, "--listen-host", "127.0.0.1", "-p", &port.to_string()]);
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null());
    let mut proxy = Guard(command.spawn().unwrap());
    wait_for("mitmdump", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    let address = format!("http://127.0.0.1:{port}");
    let mut client = work.command("sh");
    client.args(["-euc", script]).envs([("http_proxy", &address), ("https_proxy", &address)]);
    client.env("CURL_CA_BUNDLE", work.path("conf/mitmproxy-ca-cert.pem"));
    run(&mut client).expect_code(0);
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait(std::time::Duration::from_secs(60)), Some(0));
}

#[test]
fn what_mitmproxy_recorded_is_replayed_byte_for_byte() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = ["/plain/a", "/redirect/3", "/gzip-always", "/missing", "/cached", "/odd-headers"];
    let fetch = |folder: &str| {
        let lines = urls.iter().enumerate().map(|(number, path)| {
            let url = if number % 2 == 0 { origin.tls_url(path) } else { origin.url(path) };
            format!("curl -sS -L --max-time 30 --compressed -o {folder}/{number} '{url}'\n")
        });
        let posted = format!("curl -sSf --max-time 30 -d q=1 -o {folder}/posted '{}'\n", origin.url("/echo"));
        let private =
            format!("curl -sSf --max-time 30 -u user:secret -o {folder}/private '{}' || true\n", origin.url("/basic"));
        format!("mkdir {folder}\n{}{posted}{private}", lines.collect::<String>())
    };
    through_mitmproxy(&work, &["--set", "hardump=flows.har", "-w", "flows"], &fetch("recorded"));
    run(work.buildproxy("import").arg("flows")).expect_code(2).expect_stderr(&["flow file", "hardump="]);
    assert!(!work.path("inventory.toml").exists());
    let imported = run(work.buildproxy("import").arg("flows.har"));
    imported.expect_code(1).expect_stderr(&["/basic is not recorded", "credentials", "imported"]);
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    assert!(!text.contains("secret") && !text.contains("c2VjcmV0"), "{text}");
    let inventory = work.inventory();
    assert_eq!(inventory.one(&origin.url("/redirect/3")).hops().len(), 3, "{text}");
    assert_eq!(inventory.one(&origin.tls_url("/plain/a")).source(), "fetch");
    assert!(
        !work
            .path(".buildproxy")
            .read_dir()
            .unwrap()
            .any(|item| { item.unwrap().file_name().to_string_lossy().starts_with("journal") })
    );
    run(&mut work.buildproxy("verify")).expect_code(0);
    let replayed = fetch("replayed").lines().filter(|line| !line.contains("/basic")).collect::<Vec<_>>().join("\n");
    work.replay_sh(&replayed).expect_code(0);
    assert_eq!(common::tree(&work.path("recorded")), common::tree(&work.path("replayed")));
}

#[test]
fn an_inventory_comes_back_whole_from_har() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = [
        "/plain/a",
        "/plain/b?x=%20&y",
        "/redirect/3",
        "/gzip-always",
        "/missing",
        "/odd-headers",
        "/repeated-headers",
        "/no-content",
        "/empty",
        "/until-close",
        "/counter",
        "/counter",
        "/temporary",
    ];
    let mut script: String =
        urls.iter().map(|path| format!("curl -sS -L -o /dev/null '{}'\n", origin.tls_url(path))).collect();
    script += &format!(
        "curl -sSf -d q=1 '{echo}'\ncurl -sSf -L -d q=1 '{moved}'\ncurl -sSf -I '{head}'\n\
         curl -sSf -H 'Accept: a/b' '{vary}'\ncurl -sSf -H 'Content-Type: application/json' -d '[1]' '{echo}'\n",
        echo = origin.url("/echo"),
        moved = origin.url("/see-other"),
        head = origin.url("/plain/head"),
        vary = origin.url("/vary"),
    );
    work.capture_sh(&origin, &script).expect_code(0);
    let captured = work.inventory();
    let sources: std::collections::BTreeSet<&str> = captured.0.iter().map(common::Entry::source).collect();
    assert!(captured.0.len() >= 18 && sources.len() == 3, "{} entries, {sources:?}", captured.0.len());
    run(work.buildproxy("export").args(["--to", "har", "-o", "all.har"])).expect_code(0);
    let har: Value = serde_json::from_slice(&work.read("all.har")).unwrap();
    assert_eq!(har["log"]["version"], "1.2");
    let other = work.root().join("other-store");
    let mut import = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    import.args(["import", "all.har", "-o", "back.toml", "--store"]).arg(&other);
    run(&mut import).expect_code(0);
    let outcome = diff(&work, "inventory.toml", "back.toml");
    let text = outcome.text().replace("inventory.bodies", "back.bodies");
    // The folder of bodies has the inventory's name; nothing else differs.
    work.write(
        "renamed.toml",
        String::from_utf8(work.read("inventory.toml")).unwrap().replace("inventory.bodies", "back.bodies"),
    );
    assert_eq!(diff(&work, "renamed.toml", "back.toml").text(), "", "{text}");
    let mut verify = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    run(verify.args(["verify", "-i", "back.toml", "--store"]).arg(&other)).expect_code(0);
}

#[test]
fn a_har_file_of_large_bodies_is_written_in_little_memory() {
    let work = Workdir::new();
    let entry = sparse_entry(&work, "http://h.test/large", "large", 200 << 20);
    work.write("inventory.toml", inventory(&[entry]));
    let command = format!(
        "exec {} export --to har --store {} >/dev/null",
        env!("CARGO_BIN_EXE_buildproxy"),
        work.store().display()
    );
    let outcome = run(work.command("sh").args(["-c", &command])).expect_code(0);
    assert!(outcome.peak_kib < 32 << 10, "{} KiB", outcome.peak_kib);
    fs::remove_dir_all(work.path("inventory.bodies")).unwrap();
    let outcome = run(work.buildproxy("export").args(["--to", "har", "-o", "none.har"])).expect_code(1);
    outcome.expect_stderr(&["http://h.test/large", "missing"]);
    assert!(!work.path("none.har").exists());
}

#[test]
fn a_damaged_har_file_changes_nothing() {
    let work = Workdir::new();
    let entry = r#"{"request": {"method": "GET", "url": "http://h.test/a"}, "response": {"status": 200, "content": {"size": 1, "text": "x"}}}"#;
    work.write("cut.har", format!("{{\"log\": {{\"entries\": [\n{entry},\n{entry}"));
    run(work.buildproxy("import").arg("cut.har")).expect_code(2).expect_stderr(&["cut.har:3:"]);
    assert!(!work.path("inventory.toml").exists());
    work.write("whole.har", format!("{{\"log\": {{\"entries\": [{entry}]}}}}"));
    run(work.buildproxy("import").arg("whole.har")).expect_code(0);
    assert_eq!(work.inventory().one("http://h.test/a").source(), "fetch");
    for name in ["text.txt", "absent.har"] {
        if name == "text.txt" {
            work.write(name, "version = 1\n");
        }
        run(work.buildproxy("import").arg(name)).expect_code(2).expect_stderr(&[name]);
    }
}

#[test]
fn what_is_piped_is_imported_and_an_export_never_replaces_what_it_is_made_of() {
    let work = Workdir::new();
    let har = r#"{"log": {"entries": [{"request": {"method": "GET", "url": "http://h.test/a"}, "response":
        {"status": 200, "content": {"size": 1, "text": "x"}}}]}}"#;
    // As some Windows programs begin a file.
    work.write("a.har", format!("\u{feff}{har}"));
    run(work.command("sh").args([
        "-euc",
        "exec \"$0\" import - --store store <a.har",
        env!("CARGO_BIN_EXE_buildproxy"),
    ]))
    .expect_code(0);
    let before = work.read("inventory.toml");
    assert_eq!(work.inventory().urls(), ["http://h.test/a"]);
    let token = format!("ghp_{}", "k3Vq9XzT7bLmW2cRf8HsYd4GjNp6aEuQo1Ki");
    let failed = format!(
        r#"{{"log": {{"entries": [{{"request": {{"method": "GET", "url": "data:,x"}}}},
            {{"request": {{"method": "GET", "url": "http://h.test/b?{token}"}}}},
            {{"request": {{"method": "GET", "url": "http://h.test/{long}", "cookies": [{{}}]}}, "response": {{"status": 204}}}},
            {{"request": {{"method": "GET", "url": "http://h.test/{long}?c"}}}}]}}}}"#,
        long = "l".repeat(4000),
    );
    work.write("b.har", failed);
    let outcome = run(work.buildproxy("import").args(["b.har", "--json"])).expect_code(1);
    let outcome =
        outcome.expect_stderr(&["… is not imported: it was not answered", "… is not recorded: the request carried"]);
    let json: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((&json["answers"], &json["entries"]), (&0.into(), &1.into()), "{json}");
    assert_eq!(json["left-out"][1]["reason"], "it was not answered");
    assert_eq!((&json["left-out"][0]["needless"], &json["left-out"][1]["needless"]), (&true.into(), &false.into()));
    assert!(!format!("{json}{}", outcome.stderr).contains(&token), "{outcome}");
    run(work.buildproxy("import").arg("a.har")).expect_code(0);
    assert_eq!(work.read("inventory.toml"), before);
    std::os::unix::fs::symlink("inventory.toml", work.path("link")).unwrap();
    for (format, output) in [("har", "inventory.toml"), ("fetchurl", "link")] {
        let outcome = run(work.buildproxy("export").args(["--to", format, "-o", output])).expect_code(2);
        outcome.expect_stderr(&["is the inventory itself", "hint:"]);
    }
    run(work.buildproxy("import").args(["a.har", "-o", "a.har"])).expect_code(2).expect_stderr(&["a.har"]);
    assert_eq!(work.read("inventory.toml"), before);
    run(work.buildproxy("export").args(["--to", "har", "-o", "absent/x.har"]))
        .expect_code(3)
        .expect_stderr(&["cannot write absent/x.har: there is no folder absent"]);
    run(work.command("mkfifo").arg("pipe")).expect_code(0);
    let script = "cat pipe >copy & exec \"$0\" export --store store --to fetchurl -o pipe";
    run(work.command("sh").args(["-euc", script, env!("CARGO_BIN_EXE_buildproxy")])).expect_code(0);
    wait_for("what went through the pipe", || work.read("copy").ends_with(b"}\n").then_some(()));
    assert!(!work.path("pipe").metadata().unwrap().is_file());
}
