//! Where bodies come from: what is fetched again and why, what the origins say about it later, and moving bodies.

use std::{fs, process::Command};

use crate::common::{Awkward, Nix, Outcome, Workdir, pattern, run, sri};

/// A script that downloads each of `urls`, whatever the status.
fn downloads(urls: &[&str]) -> String {
    format!("curl -sSL {}", urls.iter().map(|url| format!("-o /dev/null '{url}' ")).collect::<String>())
}

/// The command, which trusts the origin that was captured from.
fn trusting(work: &Workdir, subcommand: &str) -> Command {
    let mut command = work.buildproxy(subcommand);
    command.env("SSL_CERT_FILE", work.root().join("origin-ca.pem"));
    command
}

fn moving(work: &Workdir, to: &str, globs: &[&str]) -> Outcome {
    run(trusting(work, "move").args(["--to", to]).args(globs))
}

fn json(outcome: &Outcome) -> serde_json::Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome}"))
}

/// The files beside the inventory.
fn beside(work: &Workdir) -> Vec<String> {
    let files = fs::read_dir(work.path("inventory.bodies")).into_iter().flatten();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".gitattributes").collect()
}

#[test]
fn what_is_fetched_and_what_is_kept_is_said_with_the_reason() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let cases = [
        ("/plain/foo-1.0.tar.gz", "fetch", "file"),
        ("/plain/archive/refs/heads/main.tar.gz", "text", "moving"),
        ("/plain/nightly/tool?size=5000", "file", "moving"),
        ("/plain/a/1.0-SNAPSHOT/a.jar", "text", "snapshot"),
        ("/plain/dists/InRelease", "text", "index"),
        ("/page", "text", "page"),
        ("/api", "text", "api"),
        ("/missing", "text", "status"),
        ("/releases/latest/tool", "fetch", "pinned-by-redirect"),
    ];
    let urls = cases.map(|(path, ..)| origin.url(path));
    let script = downloads(&urls.each_ref().map(String::as_str));
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    captured.expect_stderr(&["2 kept: the URL is that of whatever is newest", "1 kept: an HTML page"]);
    let said = run(work.buildproxy("paths").arg("--why")).expect_code(0);
    let rows = json(&run(work.buildproxy("paths").args(["--why", "--json"])).expect_code(0));
    for (url, (_, source, rule)) in urls.iter().zip(cases) {
        let entry = work.inventory();
        assert_eq!(entry.one(url).source(), source, "{url}");
        let row = rows.as_array().unwrap().iter().find(|row| row["url"] == url.as_str()).unwrap();
        assert_eq!((row["source"].as_str(), row["rule"].as_str()), (Some(source), Some(rule)), "{row}");
        assert_eq!(row["by-rule"], true, "{row}");
        let line = said.text().lines().find(|line| line.starts_with(&format!("{url} "))).unwrap();
        assert!(line.contains(&format!("# {source}: ")) && line.ends_with(&format!("({rule})")), "{line}");
    }
    assert!(!run(&mut work.buildproxy("paths")).expect_code(0).text().contains('#'), "only when asked");
}

#[test]
fn a_request_that_got_different_answers_is_said_with_what_may_be_the_reason() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [counter, silent, vary] = ["/counter", "/silent-vary", "/vary"].map(|path| origin.url(path));
    let twice = |url: &str| format!("curl -sSf -H 'Accept: a/json' '{url}'; curl -sSf -H Accept: '{url}'");
    let script = format!("curl -sSf '{counter}'; curl -sSf '{counter}'; {}; {}", twice(&silent), twice(&vary));
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    let warnings: Vec<_> = captured.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    let warning = |url: &str| {
        format!("warning: GET {url} got 2 different answers; replay gives them in that order, and then the last")
    };
    assert_eq!(warnings, [warning(&counter), warning(&silent)], "{captured}");
    assert_eq!(captured.stderr.matches("hint: ").count(), 1, "{captured}");
    captured.expect_stderr(&["differ in `Accept` (`a/json`, none)", "request-headers = { accept = "]);
    // With what the hint says it is right in any order.
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    let mut accepts = ["a/json", ""].iter();
    let line = format!("url = \"{silent}\"\n");
    let parts = text.split(&line).collect::<Vec<_>>();
    assert_eq!(parts.len(), 3, "{text}");
    let keyed = parts[1..]
        .iter()
        .map(|rest| format!("{line}request-headers = {{ accept = \"{}\" }}\n{rest}", accepts.next().unwrap()));
    work.write("inventory.toml", format!("{}{}", parts[0], keyed.collect::<String>()));
    drop(origin);
    let turned = format!("curl -sSf -H Accept: '{silent}'; curl -sSf -H 'Accept: a/json' '{silent}'");
    assert_eq!(work.replay_sh(&turned).expect_code(0).text(), "kind: text\n{\"kind\": \"json\"}\n");
}

#[test]
fn a_latest_link_is_fetched_from_the_version_that_it_led_to() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (url, version) = (origin.tls_url("/releases/latest/tool"), origin.tls_url("/plain/releases/1.2.3/tool"));
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    assert_eq!(work.inventory().one(&url).body("fetch"), Some(version.as_str()));
    // Also when it comes back from elsewhere.
    let captured = work.read("inventory.toml");
    moving(&work, "file", &[&url]).expect_code(0);
    moving(&work, "fetch", &[&url]).expect_code(0);
    assert_eq!(work.read("inventory.toml"), captured);
    fs::remove_dir_all(work.store()).unwrap();
    run(&mut trusting(&work, "fetch")).expect_code(0);
    assert_eq!(origin.requests_for("/releases/latest/tool").len(), 1, "that has moved on");
    run(trusting(&work, "verify").arg("--refetch")).expect_code(0);
}

#[test]
fn a_source_that_no_rule_would_choose_is_marked() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/foo-1.0.tar.gz");
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    moving(&work, "file", &[&url]).expect_code(0);
    let kept = run(work.buildproxy("paths").arg("--why")).expect_code(0);
    assert!(kept.text().contains("# file: ! by the choice of somebody"), "{kept}");
}

#[test]
fn large_bodies_that_nobody_can_fetch_again_are_pointed_out_before_they_are_committed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let large = origin.url("/plain/latest?size=6000000");
    let urls = [large.as_str(), &origin.url("/plain/latest?size=4000"), &origin.url("/plain/1.0.tar?size=6000000")];
    let captured = work.capture_sh(&origin, &downloads(&urls)).expect_code(0);
    let warnings: Vec<_> = captured.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(warnings, [format!("warning: {large} is kept as a file of 5.72 MiB")], "{captured}");
    captured.expect_stderr(&["buildproxy move --to store-path"]);
    // Whatever brings them there.
    let warning = "/plain/1.0.tar?size=6000000 is kept as a file of 5.72 MiB";
    moving(&work, "file", &["*/1.0.tar*"]).expect_code(0).expect_stderr(&[warning, "buildproxy move --to store-path"]);
}

/// An inventory with a body for each thing that can have become of it.
fn with_all_fates() -> (Awkward, Workdir, [String; 6]) {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let paths = ["/plain/same", "/counter", "/once/404", "/once/410", "/once/401", "/once/503"];
    let urls = paths.map(|path| origin.url(path));
    work.capture_sh(&origin, &downloads(&urls.each_ref().map(String::as_str))).expect_code(0);
    for url in &urls {
        assert_eq!(work.inventory().one(url).source(), "fetch", "{url}");
    }
    (origin, work, urls)
}

#[test]
fn refetch_tells_changed_gone_private_and_unreachable_apart_with_a_proposal_for_each() {
    let (origin, work, urls) = with_all_fates();
    let outcome = run(trusting(&work, "verify").args(["--refetch", "--json"])).expect_code(1);
    let rows = json(&outcome)["refetch"].clone();
    let verdict = |url: &String| {
        let row = rows.as_array().unwrap().iter().find(|row| row["url"] == url.as_str()).unwrap();
        (row["verdict"].as_str().unwrap().to_owned(), row["proposal"]["action"].as_str().unwrap_or("-").to_owned())
    };
    let pair = |verdict: &str, action: &str| (verdict.to_owned(), action.to_owned());
    assert_eq!(verdict(&urls[0]), pair("same", "-"));
    assert_eq!(verdict(&urls[1]), pair("changed", "keep"));
    assert_eq!(verdict(&urls[2]), pair("gone", "keep"));
    assert_eq!(verdict(&urls[3]), pair("gone", "keep"));
    assert_eq!(verdict(&urls[4]), pair("needs-credentials", "credentials"));
    assert_eq!(verdict(&urls[5]), pair("unreachable", "later"));
    outcome.expect_stderr(&["2 gone", "1 changed", "proposal: ", "netrc", &sri(b"count 2\n")]);
    let asked = &origin.requests_for("/plain/same")[1];
    assert_eq!(asked.header("accept"), Some("*/*"));
    assert!(asked.header("user-agent").unwrap().starts_with("curl/"), "{asked:?}");
    assert!(asked.header("authorization").is_none() && asked.header("cookie").is_none());
}

#[test]
fn fix_keeps_what_is_changed_or_gone_and_drops_nothing() {
    let (origin, work, urls) = with_all_fates();
    let before = work.inventory();
    let fixed = run(trusting(&work, "verify").args(["--refetch", "--fix"])).expect_code(1);
    let after = work.inventory();
    for (url, source) in urls.iter().zip(["fetch", "text", "file", "file", "fetch", "fetch"]) {
        assert_eq!(after.one(url).source(), source, "{url}");
        assert_eq!(after.one(url).body("hash"), before.one(url).body("hash"), "{url}");
        assert_eq!(after.one(url).size(), before.one(url).size(), "{url}");
    }
    assert_eq!(fixed.text().lines().filter(|line| line.starts_with("-body = ")).count(), 3, "{fixed}");
    assert_eq!(fixed.text().lines().filter(|line| line.starts_with("+body = ")).count(), 3, "{fixed}");
    assert_eq!(beside(&work).len(), 2);
    run(&mut work.buildproxy("verify")).expect_code(0);
    let again = run(trusting(&work, "verify").args(["--refetch", "--fix"])).expect_code(1);
    assert_eq!(again.text(), "", "nothing is left to be done: {again}");
    drop(origin);
    let script = format!("curl -sSf '{}'; curl -sSf -o gone '{}'", urls[1], urls[2]);
    assert_eq!(work.replay_sh(&script).expect_code(0).text(), "count 1\n");
    assert_eq!(work.read("gone"), pattern(6000));
}

#[test]
fn fix_pins_to_the_version_that_the_redirects_show_where_that_gives_the_same() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/releases/latest/tool");
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    let version = origin.url("/plain/releases/1.2.3/tool");
    let pin = format!(", fetch = \"{version}\"");
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    assert!(text.contains(&pin), "{text}");
    // As somebody wrote it before that was done.
    work.write("inventory.toml", text.replace(&pin, ""));
    let proposed = run(trusting(&work, "verify").arg("--refetch")).expect_code(1);
    proposed.expect_stderr(&[&format!("write `fetch = \"{version}\"`")]);
    let fixed = run(trusting(&work, "verify").args(["--refetch", "--fix"])).expect_code(0);
    assert!(fixed.text().contains(&pin), "{fixed}");
    assert_eq!(work.inventory().one(&url).body("fetch"), Some(version.as_str()));
    run(trusting(&work, "verify").arg("--refetch")).expect_code(0);
}

#[test]
fn what_is_gone_and_nowhere_kept_stays_in_the_inventory_and_is_said() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/once/404");
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    fs::remove_dir_all(work.store()).unwrap();
    let text = work.read("inventory.toml");
    let fixed = run(trusting(&work, "verify").args(["--refetch", "--fix"])).expect_code(1);
    fixed.expect_stderr(&["cannot be kept", &url]);
    assert_eq!(work.read("inventory.toml"), text);
}

#[test]
fn what_the_origins_said_is_reported_where_the_repair_fails() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/once/404");
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    let text = work.read("inventory.toml");
    // Where the folder would be.
    work.write("inventory.bodies", "");
    let failed = run(trusting(&work, "verify").args(["--refetch", "--fix"])).expect_code(3);
    failed.expect_stderr(&["cannot write", "nothing was changed", &format!("gone: {url}"), "proposal: ", "1 gone"]);
    assert_eq!(work.read("inventory.toml"), text);
}

#[test]
fn a_body_goes_through_every_source_and_keeps_its_hash() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/foo-1.0.txt?size=3000");
    let other = origin.url("/plain/latest?size=5000");
    work.capture_sh(&origin, &downloads(&[&url, &other])).expect_code(0);
    let original = work.read("inventory.toml");
    for to in ["file", "text", "file", "store-path", "text", "store-path", "fetch", "store-path", "file", "fetch"] {
        let moved = moving(&work, to, &["https://*/foo-1.0.txt*"]).expect_code(0);
        let inventory = work.inventory();
        let entry = inventory.one(&url);
        assert_eq!((entry.source(), entry.size()), (to, Some(3000)), "{moved}");
        assert_eq!(entry.body("hash"), Some(sri(&pattern(3000)).as_str()));
        assert_eq!(entry.body("nar-hash").is_some(), to == "store-path");
        assert_eq!(inventory.one(&other).source(), "file", "what was not named stays");
        assert_eq!(beside(&work).len(), if to == "file" { 2 } else { 1 }, "{to}: {:?}", beside(&work));
        assert!(moved.text().contains("\n-body = ") && moved.text().contains("\n+body = "), "{moved}");
        run(&mut work.buildproxy("verify")).expect_code(0);
        let replayed = work.replay_sh(&format!("curl -sSf -o got '{url}'; curl -sSf -o /dev/null '{other}'"));
        replayed.expect_code(0);
        assert_eq!(work.read("got"), pattern(3000), "{to}");
    }
    assert_eq!(work.read("inventory.toml"), original, "back where it was");
    assert_eq!(moving(&work, "fetch", &[&url.replace('?', "[?]")]).expect_code(0).text(), "", "it is there already");
}

#[test]
fn all_bodies_are_moved_or_none() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [one, two] = ["/plain/one?size=5000", "/plain/two?size=6000"].map(|path| origin.url(path));
    work.capture_sh(&origin, &downloads(&[&one, &two])).expect_code(0);
    let stored = fs::read_dir(work.store()).unwrap().map(|file| file.unwrap().path());
    let file = stored.into_iter().find(|path| path.to_string_lossy().ends_with("-two")).unwrap();
    fs::remove_file(&file).unwrap();
    let text = work.read("inventory.toml");
    let glob = format!("{}*", origin.url("/plain/"));
    for (damage, what) in [(None, "is missing"), (Some(pattern(5999)), "is short"), (Some(vec![0; 6000]), "has hash")] {
        if let Some(bytes) = damage {
            fs::write(&file, bytes).unwrap();
        }
        for to in ["file", "store-path"] {
            moving(&work, to, &[&glob]).expect_code(1).expect_stderr(&[&two, what, "nothing was changed"]);
            assert_eq!(work.read("inventory.toml"), text);
            assert_eq!(beside(&work), [""; 0]);
        }
    }
    moving(&work, "text", &[&one.replace('?', "[?]")]).expect_code(1).expect_stderr(&["no text for the inventory"]);
}

#[test]
fn only_what_its_origin_gives_anybody_is_moved_to_fetch() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [gone, page, echo] = ["/once/404", "/page", "/echo"].map(|path| origin.url(path));
    let script = format!("{}; curl -sSf -d x '{echo}'", downloads(&[&gone, &page]));
    work.capture_sh(&origin, &script).expect_code(0);
    moving(&work, "file", &[&gone]).expect_code(0);
    moving(&work, "fetch", &[&gone]).expect_code(1).expect_stderr(&["answered 404", "nothing was changed"]);
    moving(&work, "fetch", &[&echo]).expect_code(1).expect_stderr(&["the request is no GET"]);
    // Somebody who knows better than the rules can have it, since the origin was asked.
    moving(&work, "fetch", &[&page]).expect_code(0);
    let said = run(work.buildproxy("paths").arg("--why")).expect_code(0);
    assert!(said.text().contains("# fetch: ! though an HTML page"), "{said}");
}

#[test]
fn what_cannot_be_moved_is_a_usage_error() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/a");
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    moving(&work, "file", &[&url, "https://nowhere/*"]).expect_code(2).expect_stderr(&["https://nowhere/*"]);
    moving(&work, "file", &["["]).expect_code(2);
    moving(&work, "elsewhere", &[&url]).expect_code(2).expect_stderr(&["store-path"]);
    run(work.buildproxy("index").args(["-o", "compiled"])).expect_code(0);
    let compiled = run(work.buildproxy("move").args(["-i", "compiled", "--to", "file", &url]));
    compiled.expect_code(2).expect_stderr(&["is no TOML"]);
    let dry = run(work.buildproxy("move").args(["--dry-run", "--to", "file", &url])).expect_code(0);
    assert_eq!(dry.text(), format!("{url} -> file\n"));
    assert_eq!(work.inventory().one(&url).source(), "fetch");
}

#[test]
fn what_is_moved_and_what_is_in_the_way_is_json_for_programs() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/a?size=5000");
    work.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
    let move_to = |to: &str, more: &[&str]| run(trusting(&work, "move").args(["--json", "--to", to, "*"]).args(more));
    let moves = |is_dry: bool| {
        serde_json::json!({
            "moves": [{ "entry": 0, "url": url, "from": "fetch", "to": "file" }], "obstacles": [], "dry-run": is_dry,
        })
    };
    assert_eq!(json(&move_to("file", &["--dry-run"]).expect_code(0)), moves(true));
    assert_eq!(json(&move_to("file", &[]).expect_code(0)), moves(false));
    let refused = json(&move_to("text", &[]).expect_code(1));
    assert_eq!((&refused["moves"], &refused["obstacles"][0]["url"]), (&serde_json::json!([]), &url.as_str().into()));
    assert!(refused["obstacles"][0]["reason"].as_str().unwrap().contains("no text for the inventory"), "{refused}");
}

/// What a git server packs, hundreds of megabytes of it, has no place in git.
#[test]
fn a_large_file_goes_to_the_nix_store_from_where_push_shares_it() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let url = origin.url("/plain/latest/pack?size=30000000");
        nix.capture_sh(&origin, &downloads(&[&url])).expect_code(0);
        assert_eq!(nix.work.inventory().one(&url).source(), "file");
        let moved = run(nix.buildproxy("move").args(["--to", "store-path", &url.replace('?', "[?]")])).expect_code(0);
        assert!(moved.peak_kib < 64 << 10, "{} KiB: {moved}", moved.peak_kib);
        let inventory = nix.work.inventory();
        let path = inventory.one(&url).body("store-path").unwrap().to_owned();
        let nar_hash = nix.nix_store(["--query", "--hash", &path]);
        let nar_digest = inventory.one(&url).body("nar-hash").unwrap().trim_start_matches("sha256-").to_owned();
        let mut to_sri = nix.command("nix-hash");
        to_sri.args(["--type", "sha256", "--to-base32"]);
        let hex = data_encoding::HEXLOWER.encode(&data_encoding::BASE64.decode(nar_digest.as_bytes()).unwrap());
        let ours = run(to_sri.arg(hex)).expect_code(0);
        assert_eq!(nar_hash, [format!("sha256:{}", ours.text().trim())]);
        assert_eq!(beside(nix.work), [""; 0]);
        nix.collect_garbage();
        assert_eq!(nix.valid(std::slice::from_ref(&path)), [path.as_str()], "the inventory keeps it");
        run(&mut nix.buildproxy("verify")).expect_code(0);
        let cache = format!("file://{}", nix.work.root().join("cache").display());
        let pushed = run(nix.buildproxy("push").args(["--json", "--to", &cache])).expect_code(0);
        assert_eq!(json(&pushed)["paths"], serde_json::json!([path]));
        drop(origin);
        nix.replay_sh(&format!("curl -sSf -o got '{url}'")).expect_code(0);
        assert_eq!(nix.work.read("got"), pattern(30_000_000));
    });
}
