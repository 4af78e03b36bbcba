//! What a real browser records: Chromium's HAR files, by Playwright.

use std::{fs, path::Path};

use super::{
    HERE,
    common::{self, Nginx, Outcome, Workdir, pattern, run},
};

const LOCATIONS: &str = r#"
    msie_padding off; gzip_types *; gzip_min_length 1; gzip_http_version 1.0;
    location /coded/ { gzip on; types { text/css css; application/json json; text/plain txt; } charset utf-8; charset_types text/css; }
    location = /picture.png { default_type image/png; types {} alias www/picture; }
    location = /moved { return 302 /moved/again; }
    location = /moved/again { return 301 /picture.png; }
    location = /answer { default_type text/plain; return 200 "answered\n"; }
    location = /see-other { return 303 /picture.png?after; }
    location = /empty { return 204; }
    location = /large { default_type application/octet-stream; }
    location = /latin1 { default_type "text/plain; charset=iso-8859-1"; alias www/latin; }
    location = /unnamed { default_type text/plain; alias www/latin; }
    location = /marked { default_type "text/plain; charset=utf-8"; }
    location = /wide { default_type "text/plain; charset=utf-16le"; }
    location = /cookie { add_header Set-Cookie "session=open-sesame; Path=/private"; return 200 "for all"; }
    location = /private { return 200 "for one"; }
    location = /slow { limit_rate 1k; alias www/large; }
    location = /download { add_header Content-Disposition "attachment; filename=file.gz"; alias www/large; }
"#;

/// What is the same for whoever asks, and how. A browser decodes, so for the rest of them there is nothing to compare.
const ALIKE: [&str; 13] = [
    "page.html",
    "picture.png",
    "moved",
    "coded/style.css",
    "coded/list.json",
    "absent",
    "empty",
    "nothing",
    "large",
    "latin1",
    "unnamed",
    "marked",
    "picture.png?a=${b}&c=%22d%22",
];

fn origin() -> Nginx {
    let origin = Nginx::start(LOCATIONS);
    let write = |name: &str, bytes: &[u8]| fs::write(origin.www().join(name), bytes).unwrap();
    fs::create_dir(origin.www().join("coded")).unwrap();
    fs::copy(Path::new(HERE).join("tests/sharing/page.html"), origin.www().join("page.html")).unwrap();
    // A PNG's first bytes, which are no text in any charset.
    write("picture", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\xff\xfe");
    write("large", &pattern(5 << 20).iter().map(|byte| byte ^ 0x80).collect::<Vec<_>>());
    write("nothing", b"");
    write("latin", b"x\xe4y");
    write("marked", "\u{feff}ä".as_bytes());
    write("wide", b"\xe4\0b\0");
    write("coded/style.css", "body { color: red } /* ä */\n".repeat(200).as_bytes());
    write("coded/list.json", br#"{"a": [1, 2, "\u00e4"]}"#);
    write("coded/marked.txt", "\u{feff}ä".as_bytes());
    origin
}

/// Has Chromium show the page, over HTTP/1.1 and over HTTP/2, and write what it asked for into `file`.
fn browse(work: &Workdir, origin: &Nginx, file: &str, content: &str) -> Outcome {
    let python = Path::new(HERE).join("target/tools/browser/bin/python3");
    assert!(python.exists(), "{} is missing: run ./test, which installs it", python.display());
    let mut command = work.command(python);
    command.arg(Path::new(HERE).join("fixtures/browse.py"));
    command.args(["chromium-headless-shell", file, content]);
    command.args([origin.url("/page.html"), origin.tls_url("/page.html")]);
    run(&mut command).expect_code(0)
}

fn fetch(origin: &Nginx, folder: &str) -> String {
    let urls = ALIKE.iter().flat_map(|path| [origin.url(&format!("/{path}")), origin.tls_url(&format!("/{path}"))]);
    let gets =
        urls.enumerate().map(|(number, url)| format!("curl -g -sSL --max-time 30 -o {folder}/{number} '{url}'\n"));
    let posts = ["a=ä&b=1", "a=1&b=2", "q"].map(|body| {
        let to = if body == "q" { "/see-other" } else { "/answer" };
        format!("curl -sSL --max-time 30 -d '{body}' -o '{folder}/{body}' '{}'\n", origin.url(to))
    });
    format!("mkdir {folder}\n{}{}", gets.collect::<String>(), posts.concat())
}

/// Imports `file` and checks what is left out, and that what is not answers as the origin did.
fn check(work: &Workdir, origin: &Nginx, file: &str) -> Outcome {
    let imported = run(work.buildproxy("import").arg(file)).expect_code(1);
    let imported = imported.expect_stderr(&[
        "/private is not recorded: the request carried credentials (`cookie`)",
        "/picture.png?account is not recorded: the request carried credentials (`authorization`)",
        "/picture.png?part is not recorded: the origin answered 206",
        "/slow is not imported: it failed: net::ERR_ABORTED",
        "/download is not imported: it failed: net::ERR_ABORTED (the browser broke it off, or made a download of it",
        "/wide is not recorded: the file has its body as text decoded from `utf-16le`",
        "GET blob:http",
        "/socket is not imported: it is a WebSocket",
    ]);
    for secret in ["sesame", "dXNlcjpzZXNhbWU", "session"] {
        let found =
            run(work.command("grep").args(["-rl", secret, "inventory.toml", "inventory.bodies", ".buildproxy"]));
        assert_eq!(found.text(), "", "{secret} is there");
    }
    run(&mut work.buildproxy("verify")).expect_code(0);
    let mut asked = work.command("sh");
    asked.args(["-euc", &fetch(origin, "asked")]).env("CURL_CA_BUNDLE", work.path("origin.pem"));
    work.write("origin.pem", &origin.ca.pem);
    run(&mut asked).expect_code(0);
    work.replay_sh(&fetch(origin, "replayed")).expect_code(0);
    assert_eq!(common::tree(&work.path("asked")), common::tree(&work.path("replayed")));
    imported
}

#[test]
fn what_a_browser_embeds_is_replayed_byte_for_byte_and_the_rest_is_said() {
    let (origin, work) = (origin(), Workdir::new());
    let browsed = browse(&work, &origin, "browser.har", "embed");
    for result in ["large 200", "absent 404", "empty 204", "slow AbortError", "see-other 200", "picture.png?part 206"] {
        assert_eq!(browsed.text().lines().filter(|line| *line == result).count(), 2, "{browsed}");
    }
    let imported = check(&work, &origin, "browser.har");
    // Chromium writes no such body into the file itself, and says how long it is.
    imported.expect_stderr(&["/answer is not imported: the file does not have the body of the request"]);
    let inventory = work.inventory();
    let entry = |path: &str| inventory.one(&origin.tls_url(path));
    assert_eq!(entry("/moved").hops().len(), 2);
    assert_eq!((entry("/large").source(), entry("/picture.png").source()), ("fetch", "fetch"));
    // What was decoded, the origin may send otherwise.
    assert_eq!((entry("/coded/style.css").source(), entry("/coded/list.json").source()), ("file", "text"));
    assert_eq!(entry("/coded/style.css").header("content-encoding"), None);
    assert_eq!(inventory.of(&origin.url("/answer")).len(), 2);
}

#[test]
fn what_playwright_attaches_is_read_from_beside_the_file() {
    let (origin, work) = (origin(), Workdir::new());
    browse(&work, &origin, "recorded.zip", "attach");
    for told in [&["recorded.zip"][..], &["recorded.zip", "--from", "har"]] {
        run(work.buildproxy("import").args(told)).expect_code(2).expect_stderr(&["ZIP", "hint: unpack"]);
    }
    run(work.command("unzip").args(["-q", "-d", "recorded", "recorded.zip"])).expect_code(0);
    let imported = check(&work, &origin, "recorded/har.har");
    assert!(!imported.stderr.contains("the body of the request"), "{imported}");
    assert_eq!(work.inventory().of(&origin.url("/answer")).len(), 3);
}
