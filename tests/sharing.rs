//! Keeping and sharing inventories: compared, united, taken over from other programs and given to them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, path::Path, process::Stdio};

use common::{
    Awkward, Outcome, Workdir, pattern,
    process::{Guard, wait_for},
    run,
    serving::{inventory, sparse_entry, text_entry},
    sri,
};
use rustix::process::Signal;
use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn diff(work: &Workdir, before: impl AsRef<Path>, after: impl AsRef<Path>) -> Outcome {
    let mut command = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    run(command.arg("diff").args([before.as_ref(), after.as_ref()]))
}

#[test]
fn a_diff_says_what_changed_and_nothing_where_nothing_did() {
    let work = Workdir::new();
    let (a, b) = (text_entry("https://a.test/x", "one"), text_entry("https://b.test/y", "two"));
    work.write("before.toml", inventory(&[a.clone(), b.clone()]));
    work.write("same.toml", inventory(&[b, a.clone()]));
    work.write("after.toml", inventory(&[a.replace("one", "uno").replace(&sri(b"one"), &sri(b"uno"))]));
    assert_eq!(diff(&work, "before.toml", "same.toml").expect_code(0).text(), "");
    let outcome = diff(&work, "before.toml", "after.toml").expect_code(1);
    let expected = format!(
        "a.test\n  ~ GET https://a.test/x\n      hash: {} → {}\n      text: one → uno\n\nb.test\n  - GET https://b.test/y\n      \
         200, 3 B, text, {}\n\n-1 entry, 3 B; 1 changed, 3 B\n",
        sri(b"one"),
        sri(b"uno"),
        sri(b"two")
    );
    assert_eq!(outcome.text(), expected);
    diff(&work, "before.toml", "absent.toml").expect_code(2).expect_stderr(&["absent.toml"]);
    let mut json = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    let outcome = run(json.args(["diff", "--json", "before.toml", "after.toml"])).expect_code(1);
    let json: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((&json["same"], &json["totals"]["removed"]["entries"]), (&false.into(), &1.into()), "{json}");
    assert_eq!(json["entries"][0]["fields"][0]["field"], "hash");
}

#[test]
fn a_diff_says_which_of_the_answers_to_one_url_is_another_one() {
    let work = Workdir::new();
    let variant = |accept: &str, text: &str| {
        text_entry("https://a.test/x", text)
            .replace("body =", &format!("request-headers = {{ accept = {accept:?} }}\nbody ="))
    };
    work.write("before.toml", inventory(&[variant("a/a", "one"), variant("b/b", "two")]));
    work.write("after.toml", inventory(&[variant("a/a", "one"), variant("b/b", "three")]));
    let outcome = diff(&work, "before.toml", "after.toml").expect_code(1);
    assert!(outcome.text().contains("  ~ GET https://a.test/x (request-header accept: b/b)\n"), "{outcome}");
    let mut json = work.command(env!("CARGO_BIN_EXE_buildproxy"));
    let outcome = run(json.args(["diff", "--json", "before.toml", "after.toml"])).expect_code(1);
    let json: Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(json["entries"][0]["request-headers"], serde_json::json!({ "accept": "b/b" }), "{json}");
    assert_eq!(json["totals"]["changed-after"]["bytes"], 5);
}

#[test]
fn git_shows_the_diff_of_a_commit() {
    let work = Workdir::new();
    let git = |arguments: &[&str]| {
        let mut git = work.command("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t.test"]).args(arguments);
        run(&mut git).expect_code(0)
    };
    git(&["init", "-q"]);
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/x", "one")]));
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/y", "two")]));
    work.write("new.toml", inventory(&[text_entry("https://a.test/z", "three")]));
    git(&["add", "."]);
    let tool = format!("{} diff", env!("CARGO_BIN_EXE_buildproxy"));
    let outcome = git(&["difftool", "--no-prompt", "--extcmd", &tool, "HEAD", "--", "inventory.toml", "new.toml"]);
    for line in ["- GET https://a.test/x", "+ GET https://a.test/y", "+ GET https://a.test/z"] {
        assert!(outcome.text().contains(line), "{line}: {outcome}");
    }
}

/// By the two commands that the documentation gives.
#[test]
fn git_diff_itself_shows_it_once_the_driver_is_named() {
    let work = Workdir::new();
    let documentation = fs::read_to_string(Path::new(HERE).join("docs/inventories.md")).unwrap();
    let lines = documentation.lines().map(str::trim);
    let commands: Vec<&str> =
        lines.filter(|line| line.contains("diff=buildproxy") || line.contains("diff.buildproxy")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    let commit = "git add .gitattributes *.toml && git -c user.name=t -c user.email=t@t.test commit -q -m";
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/x", "one")]));
    work.write("next.toml", inventory(&[text_entry("https://a.test/y", "two")]));
    let script = format!(
        "PATH={}:$PATH; git init -q; {}; {commit} one; cp next.toml inventory.toml; git diff >diff; {commit} two; \
         echo broken >inventory.toml; git diff >broken 2>&1; git log -p --ext-diff >log; git diff --no-ext-diff HEAD~ HEAD >lines",
        Path::new(env!("CARGO_BIN_EXE_buildproxy")).parent().unwrap().display(),
        commands.join("; "),
    );
    run(work.command("sh").args(["-euc", &script])).expect_code(0);
    let text = |name: &str| String::from_utf8(work.read(name)).unwrap();
    assert!(text("diff").starts_with("inventory.toml\na.test\n  - GET https://a.test/x\n"), "{}", text("diff"));
    assert!(text("diff").ends_with("+1 entry, 3 B; -1 entry, 3 B\n"), "{}", text("diff"));
    assert!(text("broken").contains("error: ") && text("broken").contains("inventory.toml:1:"), "{}", text("broken"));
    assert_eq!(text("log").matches("GET https://a.test/x\n").count(), 2, "new, then gone: {}", text("log"));
    assert!(text("lines").contains("-url = \"https://a.test/x\""), "{}", text("lines"));
}

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
    run(work.buildproxy("export").args(["--to", "har", "--no-bodies"])).expect_code(0);
}

/// What Nix makes of an expression. `dummy://` is no store at all: nothing outside the test is touched.
fn evaluated(work: &Workdir, expression: &str) -> Value {
    let mut nix = work.command("nix-instantiate");
    nix.args(["--eval", "--strict", "--json", "-E", expression]).env("NIX_REMOTE", "dummy://");
    serde_json::from_slice(&run(&mut nix).expect_code(0).stdout).unwrap()
}

#[test]
fn nix_reads_the_exported_expression_whatever_is_in_the_urls() {
    let work = Workdir::new();
    let urls = ["https://h.test/${builtins.abort", "https://h.test/$$%7Ba}?q=''${x}&\\", "https://h.test/a'b\"c$"];
    let entries = urls.iter().map(|url| {
        let quoted = toml::Value::String((*url).to_owned());
        format!(
            "[[entry]]\nurl = {quoted}\nbody = {{ hash = \"{}\", size = 1, name = \"a\", fetch = {quoted} }}\n",
            sri(b"x")
        )
    });
    work.write("inventory.toml", inventory(&entries.collect::<Vec<_>>()));
    let exported = run(work.buildproxy("export").args(["--to", "fetchurl"])).expect_code(0);
    work.write("sources.nix", &exported.stdout);
    let value =
        evaluated(&work, &format!("import {} {{ fetchurl = args: args; }}", work.path("sources.nix").display()));
    let found: Vec<&str> = value.as_object().unwrap().values().map(|one| one["url"].as_str().unwrap()).collect();
    assert_eq!(found.len(), 3);
    assert!(urls.iter().all(|url| found.contains(url)), "{found:?}");
    assert!(value.as_object().unwrap().values().all(|one| one["hash"] == sri(b"x").as_str()));
    shows!(
        HostileInput,
        "the real Nix evaluates what `export --to fetchurl` wrote",
        "{} URLs with `${{`, `''`, quotes and backslashes, none evaluated",
        found.len()
    );
}

fn proxy_content(origin: &Awkward) -> String {
    let one = origin.url("/plain/a");
    format!(
        r#"{{ fetchurl }}: [
          {{ url = "{one}"; file = fetchurl {{ url = "{one}"; hash = "{hash}"; }}; status_code = 200;
             headers = {{ "content-type" = "text/plain"; "Content-Length" = "7"; "content-disposition" = "a; filename=\"b\""; }}; }}
          {{ url = "{gone}"; file = null; status_code = 302; headers = {{ location = "/plain/a"; }}; }}
          {{ url = "{changed}"; file = fetchurl {{ urls = [ "{changed}" ]; sha256 = "{other}"; }}; status_code = 200; headers = {{}}; }}
        ]"#,
        hash = sri(&pattern(1000)),
        gone = origin.url("/moved-away"),
        changed = origin.url("/plain/changed"),
        other = "0".repeat(64),
    )
}

#[test]
fn a_list_of_nix_buildproxy_is_imported_as_the_nix_side_reads_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    work.write("proxy_content.nix", proxy_content(&origin));
    let outcome = run(work.buildproxy("import").args(["proxy_content.nix", "--no-fetch"])).expect_code(1);
    outcome.expect_stderr(&["/plain/a is not recorded", "only the hash", "/plain/changed is not recorded"]);
    let outcome = run(work.buildproxy("import").arg("proxy_content.nix")).expect_code(1);
    outcome.expect_stderr(&["/plain/changed is not recorded", "the origin changed them"]);
    let inventory = work.inventory();
    assert_eq!(inventory.urls(), [origin.url("/moved-away"), origin.url("/plain/a")]);
    let nix = format!(
        "let read = import {HERE}/nix/inventory {{ lib = import {HERE}/nix/tests/stub/lib; \
         fetchurl = args: args.hash or \"\"; }}; in map (entry: removeAttrs entry [ \"folder\" ]) (read {}).entry",
        work.path("proxy_content.nix").display()
    );
    for theirs in evaluated(&work, &nix).as_array().unwrap() {
        let url = theirs["url"].as_str().unwrap();
        let Some(ours) = inventory.of(url).pop() else { continue };
        assert_eq!(ours.status(), theirs["status"].as_i64().unwrap());
        assert_eq!(ours.body("hash"), theirs["body"]["store-path"].as_str());
        let headers = theirs["headers"].as_object().unwrap();
        assert_eq!(headers.len(), ours.get(&["headers"]).unwrap().as_table().unwrap().len());
        for (name, value) in headers {
            assert_eq!(ours.header(name), value.as_str(), "{name}");
        }
    }
    run(&mut work.buildproxy("verify")).expect_code(0);
    // One that was made to get at what its reader has.
    fs::write(work.root().join("secret"), "a secret of the reader's\n").unwrap();
    let secret = work.root().join("secret").display().to_string();
    work.write("linked", "");
    fs::remove_file(work.path("linked")).unwrap();
    std::os::unix::fs::symlink(&secret, work.path("linked")).unwrap();
    let answer = |file: &str| format!("{{ fetchurl }}: [ {{ url = \"http://h.test/x\"; file = {file}; }} ]");
    for (file, code) in [
        (format!("\"{secret}\""), 1),
        ("./linked".to_owned(), 1),
        ("../secret".to_owned(), 1),
        (format!("builtins.toFile \"x\" (builtins.readFile {secret})"), 2),
        (format!("builtins.fetchurl \"file://{secret}\""), 2),
        (format!("fetchurl {{ url = builtins.readFile {secret}; }}"), 2),
    ] {
        work.write("evil.nix", answer(&file));
        let outcome = run(work.buildproxy("import").args(["evil.nix", "-o", "evil.toml"])).expect_code(code);
        assert!(!outcome.stderr.contains("of the reader's"), "{outcome}");
        let made = fs::read_to_string(work.path("evil.toml")).unwrap_or_default();
        assert!(!made.contains("h.test/x") && !work.path("evil.bodies").exists(), "{made}");
    }
    work.write("broken.nix", "{ fetchurl }: [ { url = \"${fetchurl}\"; } ]");
    run(work.buildproxy("import").arg("broken.nix"))
        .expect_code(2)
        .expect_stderr(&["broken.nix", "Nix cannot evaluate"]);
    let mut without = work.buildproxy("import");
    without.arg("proxy_content.nix").env("PATH", work.root());
    run(&mut without).expect_code(2).expect_stderr(&["nix-instantiate", "hint:"]);
}

#[test]
fn a_lock_file_of_mitm_cache_is_imported_and_answers_without_queries() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let lock = format!(
        r#"{{"!version": 1, "{}": {{"hash": "{}"}}, "{}": {{"text": "<a/>"}}, "{}": {{"redirect": "{}"}}}}"#,
        origin.url("/plain/a.jar"),
        sri(&pattern(1000)),
        origin.url("/maven-metadata.xml"),
        origin.url("/latest"),
        origin.url("/plain/a.jar"),
    );
    work.write("deps.json", lock);
    run(work.buildproxy("import").arg("deps.json")).expect_code(0).expect_stderr(&["imported 3 answers"]);
    let imported = work.inventory();
    assert_eq!(imported.one(&origin.url("/maven-metadata.xml")).body("text"), Some("<a/>"));
    let before = work.read("inventory.toml");
    run(work.buildproxy("import").args(["deps.json", "--no-fetch"])).expect_code(0);
    assert_eq!(work.read("inventory.toml"), before, "once more changes nothing, and downloads nothing");
    work.replay_sh(&format!(
        "curl -sSfL -o jar '{}?a=b'; test \"$(curl -sSf '{}')\" = '<a/>'",
        origin.url("/latest"),
        origin.url("/maven-metadata.xml")
    ))
    .expect_code(0);
    assert_eq!(work.read("jar"), pattern(1000));
    work.write("other.toml", inventory(&[text_entry("https://a.test/x?y", "one")]));
    run(work.buildproxy("import").args(["deps.json", "-o", "other.toml"])).expect_code(2).expect_stderr(&["merge"]);
}

#[test]
fn a_damaged_har_file_changes_nothing() {
    let work = Workdir::new();
    let entry = r#"{"request": {"method": "GET", "url": "http://h.test/a"}, "response": {"status": 200, "content": {"size": 1, "text": "x"}}}"#;
    work.write("cut.har", format!("{{\"log\": {{\"entries\": [\n{entry},\n{entry}"));
    run(work.buildproxy("import").arg("cut.har")).expect_code(2).expect_stderr(&["cut.har", "line 3"]);
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
fn what_is_no_file_is_written_to_and_not_replaced() {
    let work = Workdir::new();
    work.write("inventory.toml", inventory(&[text_entry("https://a.test/x", "one")]));
    work.write("file", "");
    let program = env!("CARGO_BIN_EXE_buildproxy");
    for command in ["export --to fetchurl", "index"] {
        let script = format!(
            "rm -f pipe link; mkfifo pipe; ln -s file link; timeout 20 cat pipe >got & \
             {program} {command} -o pipe; wait $!; test -p pipe; {program} {command} -o link; test -L link; cmp got file; test -s got"
        );
        run(work.command("sh").args(["-euc", &script])).expect_code(0);
    }
    for command in ["export --to fetchurl", "export --to har", "paths", "paths --json"] {
        let full = format!("exec {program} {command} >/dev/full");
        run(work.command("sh").args(["-euc", &full])).expect_code(3).expect_stderr(&["No space left"]);
    }
    // Bodies would have to be beside it.
    run(work.buildproxy("merge").args(["inventory.toml", "-o", "pipe"]))
        .expect_code(2)
        .expect_stderr(&["pipe", "no file"]);
    run(work.buildproxy("merge").args(["inventory.toml", "-o", "."])).expect_code(2).expect_stderr(&["no file"]);
}
