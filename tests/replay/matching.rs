//! Which requests are the same: rules, prefixes, request bodies, and what a miss says of it.

use std::process::Command;

use std::fs;

use crate::common::{Awkward, Outcome, Workdir, git::GitServer, in_empty_network, run};

const HEAD: &str = "version = 1\n";

/// An entry for `url` with the answer `text`, and `more` lines.
fn entry(url: &str, text: &str, more: &str) -> String {
    let (hash, size) = (crate::common::sri(text.as_bytes()), text.len());
    format!("\n[[entry]]\nurl = \"{url}\"\n{more}body = {{ hash = \"{hash}\", size = {size}, text = \"{text}\" }}\n")
}

/// Replays `script` from an inventory with this text.
fn replay(inventory: &str, options: &[&str], script: &str) -> (Workdir, Outcome) {
    let work = Workdir::new();
    work.write("inventory.toml", inventory);
    let mut command = work.replaying();
    command.args(options).args(["--", "sh", "-euc", script]);
    let outcome = run(&mut in_empty_network(&command));
    (work, outcome)
}

#[test]
fn every_rule_that_took_part_in_an_answer_is_in_the_log() {
    let inventory = [
        HEAD,
        "[match]\nignore-query = [\"t\"]\nrewrite = [{ from = '^http://m\\d+\\.test/', to = 'http://h.test/' }]\n",
        &entry("http://h.test/a", "a", ""),
        &entry("http://h.test/p/", "p", "match = \"prefix\"\n"),
        &entry("http://h.test/q?", "q", "match = \"prefix\"\n"),
        &entry("http://h.test/j", "j", "method = \"POST\"\nrequest-body = \"sha256-RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=\"\nrequest-body-as = \"json\"\n"),
    ]
    .concat();
    let script = "curl -sSf http://m12.test/a?t=3; curl -sSf http://h.test/p/q; curl -sSf 'http://h.test/q?t=1'; \
                  curl -sSf http://h.test/a; \
                  curl -sSf http://h.test/j --data-binary ' { } '";
    let (_work, outcome) = replay(&inventory, &["-v"], script);
    let outcome = outcome.expect_code(0);
    assert_eq!(outcome.text(), "apqaj");
    for (url, rules) in [
        ("http://m12.test/a?t=3", "rules=rewrite 1, ignore-query t"),
        ("http://h.test/p/q", "rules=match prefix"),
        ("http://h.test/q?t=1", "rules=ignore-query t, match prefix"),
        ("http://h.test/a", "rules=none"),
        ("http://h.test/j", "rules=request-body-as json"),
    ] {
        let line = outcome.stderr.lines().find(|line| line.contains(&format!("url={url} ")) && line.contains("hit"));
        assert!(line.is_some_and(|line| line.contains(rules)), "{rules}: {outcome}");
    }
}

#[test]
fn a_rule_that_is_none_is_an_error_with_its_line() {
    for (line, message) in [
        ("ignore-query = [\"a[\"]", "`a[` is not a pattern"),
        ("rewrite = [{ from = \"(\", to = \"\" }]", "`(` is not a regular expression"),
        ("rewrite = [{ from = \"x*\", to = \"y\" }]", "also matches an empty text"),
        ("rewrite = [{ from = \"x\" }]", "the key `to` is missing"),
        ("rewrite = [{ from = \"(a{1000}){1000}\", to = \"\" }]", "is not a regular expression"),
        (&format!("ignore-query = [\"{}a{}\"]", "{".repeat(95), "}".repeat(95)), ""),
        (&format!("ignore-query = [\"{}\"]", "{".repeat(100_000)), "hint: it can have 200"),
    ] {
        let (_work, outcome) = replay(&format!("{HEAD}\n[match]\n{line}\n"), &[], "true");
        if message.is_empty() {
            outcome.expect_code(0);
            continue;
        }
        outcome.expect_code(2).expect_stderr(&["inventory.toml:4", message]);
    }
}

#[test]
fn a_miss_says_in_all_places_what_to_paste_and_pasting_it_helps() {
    let inventory = format!("{HEAD}{}", entry("http://h.test/builds/41/log", "log", ""));
    let script = "curl -sS http://h.test/builds/42/log >answer; false";
    let (work, outcome) = replay(&inventory, &["--json"], script);
    let rule = r#"rewrite = [{ from = "^http://h\\.test/builds/[^/]+/", to = "http://h.test/builds/41/" }]"#;
    let answer = String::from_utf8(work.read("answer")).unwrap();
    assert!(answer.contains(&format!("\n[match]\n{rule}\n")), "{answer}");
    let outcome = outcome.expect_stderr(&["nearest=http://h.test/builds/41/log"]);
    let report: toml::Value = serde_json::from_str(outcome.text()).unwrap();
    let suggestion = report["misses"][0]["suggestion"].as_str().unwrap();
    assert_eq!(suggestion, format!("[match]\n{rule}\n"));

    let pasted = inventory.replace(HEAD, &format!("{HEAD}\n{suggestion}"));
    let (_work, outcome) = replay(&pasted, &[], "curl -sSf http://h.test/builds/42/log");
    assert_eq!(outcome.expect_code(0).text(), "log");
}

#[test]
fn what_a_prefix_covers_is_not_captured_again() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/plain/stamp");
    let inventory = format!("{HEAD}{}", entry(&url, "fixed", "match = \"prefix\"\n"));
    work.write("inventory.toml", &inventory);
    let script = format!("curl -sSf -o /dev/null '{url}?1' '{url}?2'");
    work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(work.inventory().urls(), [url.as_str()]);
    let outcome = work.replay_sh(&format!("curl -sSf '{url}?3'")).expect_code(0);
    assert_eq!(outcome.text(), "fixed");
}

#[test]
fn an_entry_that_compares_json_keeps_doing_so_when_it_is_captured_again() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/echo");
    let post = |json: &str| format!("curl -sSf '{url}' --data-binary '{json}'");
    work.capture_sh(&origin, &post(r#"{"a": 1, "b": 2}"#)).expect_code(0);
    work.replay_sh(&post(r#"{"b":2,"a":1}"#)).expect_code(22);

    let as_json = crate::common::sri(br#"{"a":1,"b":2}"#);
    let text = String::from_utf8(work.read("inventory.toml")).unwrap();
    let as_bytes = crate::common::sri(br#"{"a": 1, "b": 2}"#);
    let edited =
        text.replace(&as_bytes, &as_json).replace("request-body = ", "request-body-as = \"json\"\nrequest-body = ");
    work.write("inventory.toml", &edited);
    work.replay_sh(&post(r#"{"b":2,"a":1}"#)).expect_code(0);

    work.capture_sh(&origin, &post(r#"{ "b": 2, "a": 1 }"#)).expect_code(0);
    let entries = work.inventory();
    assert_eq!(entries.one(&url).text("request-body"), as_json);
    assert_eq!(entries.one(&url).text("request-body-as"), "json");
}

/// Clones behind a capture with `captured` before the command, then in an empty network with `replayed`.
#[track_caller]
fn cloned_with_another_git(captured: &str, replayed: &str) -> (Workdir, String) {
    let server = GitServer::start();
    let (work, url) = (Workdir::new(), server.url());
    let clone = |settings: &str| {
        // Forty tags make a request of more than 1,024 bytes, which git compresses.
        format!(
            "{settings} GIT_TRACE_CURL=$PWD/trace git -c transfer.advertiseSID=true clone -q '{url}' clone && git -C clone rev-parse HEAD v7 && rm -rf clone"
        )
    };
    let outcome = run(work.capturing(&server.nginx.ca.pem).args(["--", "sh", "-euc", &clone(captured)])).expect_code(0);
    drop(server);
    let traced = |text: &str| String::from_utf8_lossy(&work.read("trace")).to_lowercase().contains(text);
    assert!(traced("content-encoding: gzip"), "git compresses what it asks");
    assert!(traced("session-id="), "and names its session");
    fs::remove_file(work.path("trace")).unwrap();
    assert_eq!(work.replay_sh(&clone(replayed)).expect_code(0).text(), outcome.text());
    assert!(traced("content-encoding: gzip") && traced("session-id="), "in the replay, too");
    run(work.buildproxy("verify").arg("--quiet")).expect_code(0);
    (work, url)
}

#[test]
fn a_clone_is_answered_whatever_git_says_of_itself() {
    let (work, url) = cloned_with_another_git("GIT_USER_AGENT=git/9.9.9", "GIT_USER_AGENT=git/1.0-of-another-kind");
    let entries = work.inventory();
    let posted = entries.of(&format!("{url}/git-upload-pack"));
    assert!(posted.len() >= 2, "ls-refs and fetch: {:?}", entries.urls());
    for entry in posted {
        assert_eq!(entry.text("request-body-as"), "git");
        assert_eq!(entry.get(&["request-headers", "git-protocol"]).and_then(toml::Value::as_str), Some("version=2"));
    }
}

#[test]
fn a_clone_by_one_version_of_git_is_answered_to_another() {
    let settings = ["PATH=/usr/bin:$PATH", "PATH=/usr/local/bin:$PATH"];
    let versions = settings.map(|setting| {
        let version = run(Command::new("sh").args(["-euc", &format!("{setting} git version")])).expect_code(0);
        version.text().trim().to_owned()
    });
    // Where a machine has but one git, this is the test above once more.
    eprintln!("captured with {}, replayed with {}", versions[0], versions[1]);
    cloned_with_another_git(settings[0], settings[1]);
}

#[test]
fn both_versions_of_gits_protocol_are_kept_apart_in_one_capture() {
    let server = GitServer::start();
    let (work, url) = (Workdir::new(), server.url());
    let clone = |version: u8| {
        format!(
            "git -c protocol.version={version} clone -q '{url}' c{version} && git -C c{version} fsck && rm -rf c{version};"
        )
    };
    let script = format!("{}{}{}", clone(2), clone(2), clone(0));
    run(work.capturing(&server.nginx.ca.pem).args(["--", "sh", "-euc", &script])).expect_code(0);
    drop(server);
    // In another order than they were captured in, and more often.
    work.replay_sh(&format!("{}{}{}{}", clone(0), clone(2), clone(0), clone(2))).expect_code(0);
}
