//! The page that shows an inventory, in a real browser.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

use std::{fmt::Write, fs, path::Path, process::Command, time::Duration};

use common::{
    Awkward, Outcome, Workdir,
    process::{Guard, wait_for},
    run,
};
use serde_json::Value;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The script `name` beside this file, to be run by what controls the browser, with the browser as its first argument.
fn browsing(name: &str) -> Command {
    let mut command = Command::new(Path::new(HERE).join("target/tools/browser/bin/python3"));
    command.arg(Path::new(HERE).join("tests/report").join(name)).arg("/usr/bin/chromium-headless-shell");
    command
}

/// What a browser shows of the page of `work`; a search for `words` finds something there.
fn look(work: &Workdir, words: &str) -> Value {
    let outcome = run(browsing("look.py").args([work.path("report.html"), work.path(".")]).arg(words)).expect_code(0);
    serde_json::from_slice(&outcome.stdout).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// Nothing of what origins sent ran, nothing was asked for but the page, and the browser has nothing to say.
fn expect_harmless(seen: &Value) {
    assert_eq!(seen["messages"], serde_json::json!([]));
    assert_eq!(seen["hacked"], Value::Null);
    assert_eq!(seen["asked"].as_array().unwrap().len(), 1, "{}", seen["asked"]);
}

fn report(work: &Workdir, arguments: &[&str]) -> Outcome {
    run(work.buildproxy("report").args(arguments))
}

#[test]
fn ten_thousand_entries_are_searched_sorted_and_opened_without_lag_and_hostile_text_stays_text() {
    let work = Workdir::new();
    let mut inventory = "version = 1\n".to_owned();
    for number in 0..10_000 {
        let (host, size) = (number % 23, (number * 7919) % 10_007 + 10);
        let redirects = match number {
            77 => "redirects = [{ status = 302, location = \"https://cdn.test/chain?sig=1\" }]\n",
            _ => "",
        };
        write!(
            inventory,
            "\n[[entry]]\nurl = \"https://host{host}.test/{number}.tar.gz\"\n{redirects}body = {{ hash = \
             \"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", size = {size}, name = \"{number}.tar.gz\" }}\n"
        )
        .unwrap();
    }
    inventory.push_str(
        r#"
[[entry]]
url = "https://hostile.test/?q=</script><script>window.hacked=1</script>"
status = 404
body = { hash = "sha256-CYUd3HlmFaQxOjySCPcsC9nfv8lKeGnN64wIGeKVTAc=", size = 9, text = "</script><img src=x onerror=window.hacked=1>" }
[entry.headers]
content-type = "text/html; <script>window.hacked=1</script>"
x-evil = "<img src=x onerror=window.hacked=1>--><!--<script>"
"#,
    );
    work.write("inventory.toml", inventory);
    report(&work, &["-o", "report.html"]).expect_code(0);
    let seen = look(&work, "hostile 404");
    expect_harmless(&seen);
    assert_eq!(texts(&seen["parts"]), ["Overview", "Entries"]);
    assert_eq!(&texts(&seen["tiles"])[..2], ["10,001\nentries", "24\nhosts"]);
    assert!(seen["rows in the document"].as_u64().unwrap() < 100, "only what is in sight");
    assert_eq!(seen["first"], "https://host0.test/0.tar.gz");
    assert!(seen["last"].as_str().unwrap().starts_with("https://hostile.test/"), "{}", seen["last"]);
    assert_eq!(seen["opened"], "GET https://host17.test/9999.tar.gz");
    assert_eq!(seen["closed"], true);
    let size = |number: u64| (number * 7919) % 10_007 + 10;
    let by_size = |wanted: u64| (0..10_000).find(|&number| size(number) == wanted);
    let largest = by_size((0..10_000).map(size).max().unwrap()).unwrap();
    assert_eq!(seen["largest"], format!("https://host{}.test/{largest}.tar.gz", largest % 23));
    assert!(seen["smallest"].as_str().unwrap().starts_with("https://hostile.test/"), "{}", seen["smallest"]);
    assert_eq!(seen["found"], "1 entry, 9 B");
    for text in ["<img src=x onerror=window.hacked=1>--><!--<script>", "</script><img src=x onerror=window.hacked=1>"] {
        assert!(seen["details"].as_str().unwrap().contains(text), "{}", seen["details"]);
    }
    assert_eq!(
        texts(&seen["chain"]),
        ["302https://host8.test/77.tar.gz", "200https://cdn.test/chain?sig=1"],
        "the chain is drawn"
    );
    assert_ne!(seen["light"], seen["dark"]);
    assert_eq!(seen["light"], seen["light again"], "the button turns it");
    assert_eq!(seen["printed rows"], 3000);
}

#[test]
fn the_page_shows_the_last_capture_the_last_replay_and_what_was_changed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let [first, second, missed] = ["a", "b", "c"].map(|name| origin.url(&format!("/plain/{name}?size=1000")));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{first}'")).expect_code(0);
    work.write("before.toml", work.read("inventory.toml"));
    let private = format!("curl -sS -u me:secret -o /dev/null '{}'", origin.url("/plain/private?size=3&token=hidden"));
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{second}'; {private}")).expect_code(0);
    run(work.replaying().args(["--", "sh", "-c", &format!("curl -s -o /dev/null '{first}'; curl -s '{missed}'")]))
        .expect_code(4);
    report(&work, &["--diff", "before.toml", "-o", "report.html"]).expect_code(0);
    let seen = look(&work, "plain/a");
    expect_harmless(&seen);
    assert_eq!(
        texts(&seen["parts"]),
        ["Overview", "What is different from before.toml", "Entries", "Timeline of the last capture", "Last replay"]
    );
    let timeline = texts(&seen["timeline"]).join("\n");
    assert!(timeline.contains("/plain/b?size=1000"), "{timeline}");
    assert!(timeline.contains("/plain/private") && !timeline.contains("hidden"), "{timeline}");
    let replay = seen["replay"].as_str().unwrap();
    assert!(replay.contains(&format!("GET {missed}")) && replay.contains(&second), "{replay}");
    let differences = seen["differences"].as_str().unwrap();
    assert!(differences.contains("+1\nadded, 1000 B") && differences.contains(&second), "{differences}");
}

#[test]
fn a_page_that_cannot_be_made_or_written_is_said_so() {
    let work = Workdir::new();
    report(&work, &["-o", "report.html"]).expect_code(2).expect_stderr(&["inventory.toml"]);
    work.write("inventory.toml", "version = 1\n");
    report(&work, &["-o", "no/such/folder.html"]).expect_code(3).expect_stderr(&["cannot write no/such/folder.html"]);
    report(&work, &["--diff", "absent.toml"]).expect_code(2).expect_stderr(&["absent.toml"]);
    let page = String::from_utf8(report(&work, &[]).expect_code(0).stdout.clone()).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
}

/// What asks for `first` and, when it may, for `second`, having written where the proxy is.
fn stepwise([first, second]: [&str; 2]) -> String {
    let wait = |file| format!("until [ -e {file} ]; do sleep 0.05; done");
    format!(
        "curl -s -o /dev/null '{first}'; echo \"${{http_proxy%/}}/\" >proxy; {}; curl -s -o /dev/null '{second}'; {}",
        wait("go"),
        wait("done")
    )
}

/// Runs `command` with that, and watches it in a browser, where they are known by their `paths`.
fn watch(work: &Workdir, mut command: Command, urls: [&str; 2], paths: [&str; 2]) -> Value {
    for file in ["proxy", "go", "done"] {
        let _absent = fs::remove_file(work.path(file));
    }
    command.args(["--", "sh", "-c", &stepwise(urls)]);
    let address = || fs::read_to_string(work.path("proxy")).ok().filter(|text| text.ends_with('\n'));
    watch_at(work, command, address, paths)
}

/// Runs `command` and watches it in a browser at what `address` gives in the end.
fn watch_at(work: &Workdir, mut command: Command, address: impl FnMut() -> Option<String>, paths: [&str; 2]) -> Value {
    let mut running = Guard(command.spawn().unwrap());
    let url = wait_for("the address", address);
    let outcome = run(browsing("live.py").arg(url.trim()).arg(work.path(".")).args(paths)).expect_code(0);
    assert!(running.wait(Duration::from_secs(20)).is_some(), "a page that is open holds up nothing");
    serde_json::from_slice(&outcome.stdout).unwrap()
}

#[test]
fn a_run_that_goes_on_is_watched_at_the_proxys_address_and_by_its_name() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = ["first", "second"].map(|name| origin.url(&format!("/plain/{name}?size=1000")));
    let paths = ["/plain/first", "/plain/second"];
    let [first, second] = [0, 1].map(|number: usize| urls[number].as_str());
    let captured = watch(&work, work.capturing(&origin.ca.pem), [first, second], paths);
    assert_eq!(captured["messages"], serde_json::json!([]));
    assert_eq!(captured["second is there too early"], false);
    assert_eq!(captured["state"], "live");
    assert_eq!(captured["state at the end"], "the capture has ended");
    assert!(captured["title through the proxy"].as_str().unwrap().ends_with("inventory.toml"), "{captured}");
    assert_eq!(work.inventory().urls(), [first, second], "nothing of the page is recorded");
    let replayed =
        watch(&work, work.replaying(), ["http://h.test/missed", "http://h.test/other"], ["/missed", "/other"]);
    assert_eq!(replayed["messages"], serde_json::json!([]));
    assert_eq!(replayed["second is there too early"], false);
    assert!(replayed["tiles"].as_str().unwrap().contains("2\nmisses so far"), "{replayed}");
}

#[test]
fn an_isolated_capture_is_watched_at_an_address_that_nobody_guesses() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let urls = ["first", "second"].map(|name| origin.url(&format!("/plain/{name}?size=1000")));
    work.write("steps", stepwise([0, 1].map(|number: usize| urls[number].as_str())));
    let mut capture = work.capturing(&origin.ca.pem);
    capture.args(["--isolate", "--", "sh", "steps"]);
    let words = std::iter::once(capture.get_program()).chain(capture.get_args()).map(|word| word.to_str().unwrap());
    let words = words.collect::<Vec<_>>().join(" ");
    let screen = work.path("screen");
    let mut on_terminal = work.command("script");
    on_terminal.args(["-qefc", &format!("stty cols 80 rows 24; {words}")]).arg(&screen);
    on_terminal.envs(capture.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "dumb");
    let mut without_key = None;
    let address = || {
        let screen = fs::read_to_string(&screen).ok()?;
        let url = screen.split(" at ").nth(1)?.split_once("\r\n")?.0.to_owned();
        let (host, key) = url.strip_prefix("http://127.0.0.1:")?.split_once('/')?;
        assert_eq!(key.len(), 33, "{url}");
        without_key =
            Some(run(work.command("curl").args(["-s", "-w", "%{http_code}", &format!("http://127.0.0.1:{host}/")])));
        Some(url)
    };
    let seen = watch_at(&work, on_terminal, address, ["/plain/first", "/plain/second"]);
    assert_eq!(seen["messages"], serde_json::json!([]));
    assert_eq!(seen["state at the end"], "the capture has ended");
    assert!(without_key.unwrap().expect_code(0).text().ends_with("400"));
    assert_eq!(work.inventory().urls(), urls, "nothing of the page is recorded");
}

#[test]
fn a_server_has_metrics_and_health_and_says_what_it_is_to_who_takes_it_for_an_origin() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/a?size=1000");
    work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    let script = format!(
        "curl -s -o /dev/null '{url}'; curl -s -o /dev/null http://h.test/; curl -sS http://buildproxy.internal/metrics; \
         curl -sS https://buildproxy.internal/health; curl -sS -w '%{{http_code}}' --noproxy '*' \"$http_proxy/simple/x\""
    );
    let outcome = run(work.replaying().args(["--", "sh", "-c", &script])).expect_code(4);
    let said = String::from_utf8(outcome.stdout.clone()).unwrap();
    for line in [
        "# TYPE buildproxy_replayed_requests_total counter",
        "buildproxy_replayed_requests_total{outcome=\"answered\"} 1",
        "buildproxy_replayed_requests_total{outcome=\"missed\"} 1",
        "buildproxy_broken_bodies 0",
        "ok",
    ] {
        assert!(said.lines().any(|said| said == line), "{line} is not in {said}");
    }
    assert!(said.contains("this is buildproxy's proxy port, not a web server") && said.ends_with("400"), "{said}");
}
