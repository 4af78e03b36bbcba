//! Lists of hashes: nix-buildproxy's, mitm-cache's and nixpkgs', and ours for `fetchurl`.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use crate::{shows, with_either_nix};

use super::{
    HERE,
    common::{
        Awkward, Workdir, pattern, run,
        sandbox::{Nix, Sandbox, nix_path, nix_string},
        serving::text_entry,
        sri,
    },
    evaluated, inventory,
};

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

with_either_nix! {
    an_exported_list_is_built_by_nix_into_the_bytes_that_were_captured
}

fn an_exported_list_is_built_by_nix_into_the_bytes_that_were_captured(nix: Nix) {
    let (origin, work, sandbox) = (Awkward::start(), Workdir::new(), Sandbox::new(nix));
    let paths =
        ["/plain/a'b$%7Bx%7D%22.tar.gz?q=$%7By%7D", "/plain/.hidden.zip", "/redirect/2", "/gzip-always", "/missing"];
    let script: String = paths
        .iter()
        .map(|path| format!("curl -sSL -o /dev/null \"{}\"\n", origin.url(path).replace('$', "\\$")))
        .collect();
    work.capture_sh(&origin, &script).expect_code(0);
    let outcome = run(work.buildproxy("export").args(["--to", "fetchurl", "-o", "sources.nix"])).expect_code(0);
    let outcome = outcome.expect_stderr(&["/gzip-always: its body cannot be downloaded again", "/missing: its body"]);
    assert_eq!(outcome.stderr.matches("not exported").count(), 2, "{outcome}");
    let inventory = work.inventory();
    let fetched: Vec<_> = inventory.0.iter().filter(|entry| entry.source() == "fetch").collect();
    assert_eq!(fetched.len(), 3);
    let sources = format!("import {} {{ inherit (pkgs) fetchurl; }}", nix_path(&work.path("sources.nix")));
    let stored = run(work.buildproxy("paths").arg("--json")).expect_code(0);
    let stored: Value = serde_json::from_slice(&stored.stdout).unwrap();
    for entry in fetched {
        let url = entry.text("url");
        let built = sandbox.built(&format!("({sources}).{}", nix_string(url)));
        assert_eq!(Some(sri(&fs::read(&built).unwrap()).as_str()), entry.body("hash"), "{url}");
        let row = stored.as_array().unwrap().iter().find(|row| row["url"] == url).unwrap();
        assert!(built.ends_with(row["store-path"].as_str().unwrap().trim_start_matches('/')), "{row}");
    }
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
    let get = |path: &str, file: &str| format!("curl -sSf -o {file} '{}'\n", origin.url(path));
    work.replay_sh(&(get("/plain/a", "a") + &get("/moved-away", "moved"))).expect_code(0);
    assert_eq!((work.read("a"), work.read("moved")), (pattern(1000), vec![]), "a redirect stays one");
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

/// `gradle.json`, a lock file of nixpkgs' Gradle support, or what it stands for, of files that `origin` has.
fn gradle(origin: &Awkward, name: &str) -> String {
    let text = fs::read_to_string(format!("{HERE}/tests/sharing/{name}")).unwrap();
    let plain = origin.url("/plain");
    let (scheme, rest) = plain.split_once("//").unwrap();
    let mut text = text.replace("https://m2.test", &plain).replace("https://snapshots.test", &plain);
    text = text.replace("https://plain.test", &plain).replace("\"https:/\"", &format!("\"{scheme}/\""));
    text = text.replace("plain.test", rest);
    for hash in ["x6Hn+H0n5RCK0jLZfVZ9qSD3VVdKtbbLrqlmUd/AqKs=", "EO8z/AIwqIxBpWQ3/aU0Dr4L2qgS4VmXgR9s0mmeZlQ="] {
        assert!(text.contains(hash), "{text}");
        text = text.replace(&format!("sha256-{hash}"), &sri(&pattern(1000)));
    }
    text
}

/// `gradle-expanded.json` is what nixpkgs' own expression makes of `gradle.json`: fetch-deps.nix, from before and after
/// 2025, on the real `nixpkgs.lib`.
#[test]
fn a_lock_file_of_gradle_becomes_here_and_in_nix_what_nixpkgs_makes_of_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    work.write("deps.json", gradle(&origin, "gradle.json"));
    let expected: BTreeMap<String, Value> = serde_json::from_str(&gradle(&origin, "gradle-expanded.json")).unwrap();
    run(work.buildproxy("import").arg("deps.json")).expect_code(0);
    let imported = work.inventory();
    let nix = format!(
        "let read = import {HERE}/nix/inventory {{ lib = import {HERE}/nix/tests/stub/lib; fetchurl = abort \"\"; }}; \
         in builtins.listToAttrs (map (entry: {{ name = entry.url; value = entry.body; }}) (read {}).entry)",
        work.path("deps.json").display()
    );
    let theirs = evaluated(&work, &nix);
    assert_eq!((imported.0.len(), theirs.as_object().unwrap().len()), (expected.len(), expected.len()));
    let mut texts = 0;
    for (url, answer) in &expected {
        let key = if answer["text"].is_string() { "text" } else { "hash" };
        assert_eq!(imported.one(url).body(key), answer[key].as_str(), "{url}");
        assert_eq!(theirs[url][key], answer[key], "{url}");
        texts += usize::from(key == "text");
    }
    assert_eq!(texts, 4, "what is made of what the lock file says is among it");
    let url = origin.url("/plain/repo/com/s/core/2.2.4-SNAPSHOT/maven-metadata.xml");
    work.replay_sh(&format!("curl -sSf -o metadata '{url}'")).expect_code(0);
    assert_eq!(String::from_utf8(work.read("metadata")).unwrap(), expected[&url]["text"]);
}
