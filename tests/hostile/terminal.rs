//! What an inventory, an archive or an origin says, on a terminal and in a log.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    common::{TestCa, Workdir, run, sri},
    raw::Raw,
    shows,
};

/// Sets the window's title, rings, clears the screen, hides text, turns it round; and the same for terminals that take C1.
const ATTACK: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[8m\u{9b}2J\u{9d}0;owned\u{9c}\u{202e}\u{2066}\u{7f}\u{8}";
/// The part of it that the value of a header can have: its bytes are of texts that are not in ASCII.
const IN_HEADERS: &str = "\u{9b}2J\u{9d}0;owned\u{9c}\u{202e}\u{2066}";

/// `text` as a string of TOML or JSON, all of it spelled out.
fn escaped(text: &str) -> String {
    text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Fails where `shown` has a character that a terminal acts on, but for line ends, colours and what draws progress.
#[track_caller]
fn assert_harmless(what: &str, shown: &[u8]) {
    let mut text = String::from_utf8_lossy(shown).replace("\r\u{1b}[2K", "");
    for own in ["0", "1", "1;31", "1;33", "1;36", "2", "3", "31", "32", "33", "34", "35"] {
        text = text.replace(&format!("\u{1b}[{own}m"), "");
    }
    let is_harmful = |character: char| {
        let is_bidi = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        is_bidi || character.is_control() && !matches!(character, '\n' | '\r' | '\t')
    };
    assert!(!text.contains(is_harmful), "{what}: {text:?}");
}

/// What `command` shows on a terminal, and on pipes; a terminal is as wide as it is.
fn shown(command: &Command) -> Vec<u8> {
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', r"'\''"));
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(quoted);
    let line = words.collect::<Vec<_>>().join(" ");
    let mut shown = Vec::new();
    let mut on_terminal = Command::new("script");
    // One that people look at has a size.
    on_terminal.args(["-qec", &format!("stty columns 100; {line}"), "/dev/null"]).env("TERM", "xterm-256color");
    let mut on_pipes = Command::new("sh");
    on_pipes.args(["-c", &line]);
    for mut outer in [on_terminal, on_pipes] {
        outer.env_clear().current_dir(command.get_current_dir().unwrap());
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", "xterm-256color");
        let outcome = run(&mut outer);
        assert!(outcome.code < 126, "{outcome}");
        shown.extend([outcome.stdout, outcome.stderr.into_bytes()].concat());
    }
    shown
}

/// Entries that say [`ATTACK`] wherever an inventory can say it.
fn hostile_inventory(body: &str) -> String {
    let (attack, header) = (escaped(ATTACK), escaped(IN_HEADERS));
    let pattern = attack.replace(&escaped("["), "");
    let text = format!(
        "[[entry]]\nurl = \"http://h.test/text\"\nbody = {{ hash = \"{}\", size = {}, text = \"{}\" }}\n",
        sri(body.as_bytes()),
        body.len(),
        escaped(body)
    );
    format!(
        "version = 1\n\
         [match]\nignore-query = [\"{pattern}*\"]\nrewrite = [{{ from = \"{pattern}\", to = \"{attack}\" }}]\n\
         {text}[entry.headers]\nx-odd = \"{header}\"\n\
         [[entry]]\nurl = \"http://h.test/chain\"\nstatus = 404\n\
         redirects = [{{ status = 302, location = \"/{header}\", headers = {{ x-hop = \"{header}\" }} }}]\n\
         [[entry]]\nurl = \"http://h.test/varied\"\nrequest-headers = {{ accept = \"{header}\" }}\n\
         [[entry]]\nurl = \"http://h.test/%1b%5d0;owned%07?a={header}\"\n\
         body = {{ hash = \"{hash}\", size = 1, name = \"a\" }}\n\
         [[entry]]\nurl = \"http://h.test/file\"\n\
         body = {{ hash = \"{hash}\", size = 1, file = \"inventory.bodies/absent\" }}\n",
        hash = sri(b"x"),
    )
}

/// Inventories that cannot be read, each with [`ATTACK`] in what the message is about.
fn unreadable() -> Vec<String> {
    let (attack, hash) = (escaped(ATTACK), sri(b""));
    let entry = |rest: &str| format!("version = 1\n[[entry]]\nurl = \"http://h.test/\"\n{rest}\n");
    let body = |rest: &str| entry(&format!("body = {{ hash = \"{hash}\", size = 0, {rest} }}"));
    vec![
        entry(&format!("\"{attack}\" = 1")),
        entry(&format!("method = \"{attack}\"")),
        entry(&format!("match = \"{attack}\"")),
        entry(&format!("request-body = \"{attack}\"")),
        entry(&format!("request-body-as = \"{attack}\"")),
        entry(&format!("systems = [\"{attack}\"]")),
        entry(&format!("headers = {{ \"{attack}\" = \"1\" }}")),
        entry(&format!("headers = {{ a = \"{attack}\" }}")),
        entry(&format!("redirects = [{{ status = 302, location = \"{attack}\" }}]")),
        body(&format!("name = \"{attack}\"")),
        body(&format!("file = \"{attack}\"")),
        body(&format!("store-path = \"/nix/store/{attack}\"")),
        body(&format!("name = \"a\", fetch = \"http://h.test/{attack}\"")),
        body(&format!("name = \"a\", fetch = \"{attack}\"")),
        format!("version = 1\n[match]\nignore-query = [\"[{attack}\"]\n"),
        format!("version = 1\n[match]\nrewrite = [{{ from = \"({attack}\", to = \"\" }}]\n"),
        format!("version = 1\n[[entry]]\nurl = \"{attack}\"\n"),
        // As they are, which TOML forbids of some and not of others.
        format!("version = 1 # {ATTACK}\n"),
        format!("version = 1\n[[entry]]\nurl = 1 # {IN_HEADERS}\n"),
        format!("{{\"version\": 1, \"{attack}\": 1}}"),
        format!("{{\"version\": 1, \"entry\": [{{\"url\": \"{attack}\"}}]}}"),
        format!("{{\"version\": 1, \"entry\": [{{\"url\": {ATTACK}}}]}}"),
    ]
}

#[test]
fn no_control_character_of_an_inventory_reaches_a_terminal_or_a_log() {
    let work = Workdir::new();
    let mut commands = 0;
    let mut try_command = |what: &str, command: &Command| {
        let shown = shown(command);
        assert_harmless(what, &shown);
        commands += 1;
        String::from_utf8(shown).unwrap()
    };
    let (one, other) = (hostile_inventory(&format!("one {ATTACK}")), hostile_inventory(&format!("two {ATTACK}")));
    work.write("one.toml", one.replace("url = \"http://h.test/chain\"", "url = \"http://h.test/other\""));
    work.write("inventory.toml", one);
    work.write("two.toml", other);
    let odd = format!("{}.toml", ATTACK.replace('/', ""));
    work.write(&odd, "version = 2\n");
    let har = format!(
        "{{\"log\": {{\"entries\": [{{\"request\": {{\"method\": \"{0}\", \"url\": \"http://h.test/{0}\", \"headers\": []}}, \
         \"response\": {{\"status\": 200, \"headers\": [{{\"name\": \"{0}\", \"value\": \"{0}\"}}], \"content\": {{}}}}}}]}}}}",
        escaped(ATTACK)
    );
    work.write("a.har", har);
    work.write(
        "lock.json",
        format!("{{\"!version\": 1, \"http://h.test/{0}\": {{\"hash\": \"{0}\"}}}}", escaped(ATTACK)),
    );
    // What its answers have in them is what their origin sent, and is not for us to change: it is written to a file.
    let asked = "for at in text chain varied missing 'text?b=1'; do curl -s \"http://h.test/$at\" -o got; \
                 curl -s -H 'Accept: x' \"http://h.test/$at\" >/dev/null; done; true";
    for (arguments, expected) in [
        (&["verify"][..], "is missing"),
        (&["verify", "--json"], "\"findings\""),
        (&["paths", "--why"], "http://h.test/text"),
        (&["paths", "--json", "--why"], "http://h.test/text"),
        (&["diff", "inventory.toml", "two.toml"], "hash: "),
        (&["diff", "--json", "two.toml", "inventory.toml"], "changed"),
        (&["diff", "one.toml", "inventory.toml"], "/chain"),
        (&["merge", "inventory.toml", "two.toml", "-o", "merged.toml"], "they differ on"),
        (&["export", "--to", "har", "--no-bodies"], "h.test/varied"),
        (&["export", "--to", "fetchurl"], "fetchurl {"),
        (&["index", "-o", "inventory.bpx"], "wrote"),
        (&["fetch"], "h.test/"),
        (&["import", "a.har", "-o", "new.toml"], "is not imported"),
        (&["import", "lock.json", "-o", "newer.toml"], "is not"),
        (&["move", "--to", "text", "http://h.test/file"], "nothing was changed"),
        (&["move", "--to", "file", "--dry-run", "http://h.test/text"], "would move"),
        (&["replay", "-vv", "--json", "--", "sh", "-c", asked], "\"misses\""),
        (&["replay", "-vv", "--", "sh", "-c", asked], "unused entries"),
        (&["verify", "-i", &odd], "version 2"),
        (&["replay", "-i", &odd, "--", "true"], "version 2"),
        (&["export", "--to", "har", "-i", &odd], "version 2"),
    ] {
        let mut command = work.buildproxy(arguments[0]);
        command.args(&arguments[1..]);
        let shown = try_command(arguments[0], &command);
        assert!(shown.contains(expected), "{arguments:?}: {shown}");
    }
    for text in unreadable() {
        work.write("bad.toml", &text);
        for arguments in [&["verify", "-i", "bad.toml"][..], &["replay", "-i", "bad.toml", "--", "true"]] {
            let mut command = work.buildproxy(arguments[0]);
            let shown = try_command(&text, command.args(&arguments[1..]));
            assert!(shown.contains("error"), "{text}\n{shown}");
        }
    }
    shows!(
        HostileInput,
        "commands in a real terminal (`script`) and on pipes",
        "{commands} command lines, 0 characters"
    );
}

#[test]
fn what_a_person_reviews_shows_every_character_that_could_deceive() {
    let work = Workdir::new();
    work.write("inventory.toml", hostile_inventory(ATTACK));
    work.write("none.toml", "version = 1\n");
    fs::create_dir(work.path("inventory.bodies")).unwrap();
    work.write("inventory.bodies/absent", "x");
    run(work.buildproxy("merge").args(["inventory.toml", "none.toml", "-o", "written.toml"])).expect_code(0);
    let written = work.read("written.toml");
    assert_harmless("the inventory", &written);
    // And all is still there.
    let diff = run(work.buildproxy("diff").args(["inventory.toml", "written.toml", "--json"])).expect_code(1);
    let diff: serde_json::Value = serde_json::from_str(diff.text()).unwrap();
    let places = ["/file"].map(|path| format!("http://h.test{path}"));
    let changed = diff["entries"].as_array().unwrap().iter().map(|one| one["url"].as_str().unwrap().to_owned());
    assert_eq!(changed.collect::<Vec<_>>(), places, "only a file has another place: {diff}");
}

#[test]
fn no_control_character_of_an_origin_reaches_a_terminal_or_a_log() {
    let in_reason = format!("HTTP/1.1 200 {IN_HEADERS}\r\nContent-Length: 1\r\n\r\nx");
    let in_value = |name: &str| format!("HTTP/1.1 302 Found\r\n{name}: /{IN_HEADERS}\r\nContent-Length: 1\r\n\r\nx");
    let answers = [
        in_reason,
        format!("HTTP/1.1 200 {ATTACK}\r\nContent-Length: 1\r\n\r\nx"),
        in_value("Location"),
        in_value("Set-Cookie"),
        in_value("Content-Disposition"),
        in_value("WWW-Authenticate").replace("302", "401"),
        format!("HTTP/1.1 200 OK\r\n{ATTACK}: 1\r\nContent-Length: 1\r\n\r\nx"),
        format!("{ATTACK}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {ATTACK}\r\n\r\nx"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {ATTACK}\r\n\r\nx"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{ATTACK}\r\nx"),
    ];
    let count = answers.len();
    let (origin, work) = (Raw::start(answers.map(String::into_bytes).to_vec()), Workdir::new());
    let folder: PathBuf = work.path(&ATTACK.replace('/', ""));
    fs::create_dir(&folder).unwrap();
    let mut asked = String::new();
    for number in 0..count {
        asked += &format!("curl -s -o /dev/null '{}' || true; ", origin.url(number));
        asked += &format!("curl -s -o /dev/null '{}/%1b%5d0;owned%07' || true; ", origin.url(number));
    }
    let mut capture = work.capturing(&TestCa::new().pem);
    capture.args(["-vv", "-i"]).arg(folder.join("inventory.toml")).args(["--", "sh", "-c", &asked]);
    let capture = shown(&capture);
    assert_harmless("capture", &capture);
    assert!(String::from_utf8_lossy(&capture).contains("is not recorded"), "{}", String::from_utf8_lossy(&capture));
    shows!(HostileInput, "a capture with `-vv` in a real terminal", "{count} kinds of answers, 0 characters");
}
