//! Secrets stay out of everything that a capture writes.

use std::{fs, path::Path};

use crate::common::{
    Awkward, Workdir,
    awkward::answers::{COOKIE, PASSWORD, TOKEN, USER},
    run,
};

/// The files below `folder` that contain one of `needles`.
fn files_with(folder: &Path, needles: &[&[u8]]) -> Vec<String> {
    let mut found = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|item| item.unwrap().path()) {
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_with(&path, needles));
        } else if let Ok(bytes) = fs::read(&path) {
            let has = |needle: &&[u8]| bytes.windows(needle.len()).any(|window| window == *needle);
            if needles.iter().any(has) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// No file below the test's folder has a password, cookie, token or private key.
#[track_caller]
fn assert_clean(work: &Workdir) {
    let basic = data_encoding::BASE64.encode(format!("{USER}:{PASSWORD}").as_bytes());
    // A PKCS #8 private key on P-256, as PEM and as DER begin.
    let der_key = b"\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
    let secret = COOKIE.split_once('=').unwrap().1;
    let needles = [
        PASSWORD.as_bytes(),
        basic.as_bytes(),
        TOKEN.as_bytes(),
        secret.as_bytes(),
        b"PRIVATE KEY",
        der_key.as_slice(),
    ];
    assert_eq!(files_with(work.root(), &needles), Vec::<String>::new());
}

/// A build that logs in in every way there is.
fn logins(origin: &Awkward) -> String {
    let basic = origin.tls_url("/basic");
    let user_info = origin.url("/plain/by-userinfo").replace("http://", &format!("http://{USER}:{PASSWORD}@"));
    format!(
        "curl -sSf -u '{USER}:{PASSWORD}' '{basic}'; curl -sSf -o /dev/null '{user_info}'; \
         curl -sSf -D - '{}' | grep -i set-cookie; curl -sSf -H 'Cookie: {COOKIE}' '{}'; \
         curl -sSf -H 'Authorization: Bearer {TOKEN}' '{}'; curl -sSf -u '{USER}:{PASSWORD}' '{}'",
        origin.url("/set-cookie"),
        origin.url("/needs-cookie"),
        origin.tls_url("/bearer"),
        origin.tls_url("/token/members"),
    )
}

#[test]
fn credentials_cookies_and_keys_reach_no_file_while_capturing_or_after() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    // Verbose logs must not tell either; and what is only there for a while is looked for while it is there.
    let script = format!("{}; grep -rlE 'PRIVATE KEY|{PASSWORD}|{TOKEN}' ../ && exit 99; true", logins(&origin));
    let mut command = work.capturing(&origin.ca.pem);
    let outcome = run(command.args(["-v", "--", "sh", "-euc", &script])).expect_code(0);
    assert!(outcome.text().contains("for members") && outcome.text().contains("for cookie bearers"), "{outcome}");
    assert_clean(&work);
    for secret in [PASSWORD, TOKEN, COOKIE] {
        assert!(!outcome.stderr.contains(secret), "in the log: {outcome}");
    }
}

#[test]
fn answers_that_needed_credentials_are_left_out_with_the_reason() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let outcome = work.capture_sh(&origin, &logins(&origin)).expect_code(0);
    let urls = ["/basic", "/bearer"].map(|path| origin.tls_url(path));
    let outcome = outcome.expect_stderr(&[&urls[0], &urls[1], "--allow-private"]);
    assert!(outcome.stderr.contains(&origin.url("/needs-cookie")), "{outcome}");
    let inventory = work.inventory();
    for url in [&urls[0], &urls[1], &origin.url("/needs-cookie")] {
        assert!(inventory.of(url).iter().all(|entry| entry.status() != 200), "{url}");
    }
}

#[test]
fn what_is_allowed_is_recorded_beside_the_inventory_and_replayed_without_the_secret() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.tls_url("/basic");
    let pattern = origin.tls_url("/*");
    let mut command = work.capturing(&origin.ca.pem);
    let script = format!("curl -sSf -u '{USER}:{PASSWORD}' '{url}'");
    run(command.args(["--allow-private", &pattern, "--", "sh", "-euc", &script])).expect_code(0);
    let inventory = work.inventory();
    let entry = inventory.of(&url).into_iter().find(|entry| entry.status() == 200).expect("it is recorded");
    assert!(["file", "text"].contains(&entry.source()), "fetchurl could not get it");
    assert_clean(&work);
    drop(origin);
    let replayed = work.replay_sh(&format!("curl -sSf '{url}'; curl -sSf -u other:person '{url}'")).expect_code(0);
    assert_eq!(replayed.text(), "for members\nfor members\n");
}

#[test]
fn userinfo_is_no_part_of_a_recorded_url() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/plain/by-userinfo");
    let script = format!("curl -sSf -o /dev/null '{}'", url.replace("http://", &format!("http://{USER}:{PASSWORD}@")));
    let mut command = work.capturing(&origin.ca.pem);
    run(command.args(["--allow-private", "http://localhost*", "--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(work.inventory().urls(), [&url]);
    assert_clean(&work);
}

#[test]
fn a_token_is_replaced_by_a_dummy_with_which_the_replayed_build_goes_on() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (token, bearer) = (origin.tls_url("/token/anyone"), origin.tls_url("/bearer"));
    let script = format!(
        "token=$(curl -sSf '{token}' | sed 's/.*access_token\": \"\\([^\"]*\\)\".*/\\1/'); test -n \"$token\"; \
         curl -sSf -H \"Authorization: Bearer $token\" '{bearer}'"
    );
    let captured = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(captured.text(), "for token bearers\n");
    assert_clean(&work);
    let inventory = work.inventory();
    assert!(inventory.one(&token).body("text").unwrap().contains("\"expires_in\": 300"));
    drop(origin);
    assert_eq!(work.replay_sh(&script).expect_code(0).text(), "for token bearers\n");
}

#[test]
fn a_signature_in_a_location_stays_because_replay_needs_it() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/redirect/1");
    work.capture_sh(&origin, &format!("curl -sSf -L -o /dev/null '{url}'")).expect_code(0);
    assert!(work.inventory().one(&url).hops()[0].1.contains("X-Amz-Signature=abc%2Fdef"));
}

#[test]
fn credentials_that_wget_puts_into_the_url_are_credentials() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url("/basic").replace("http://", &format!("http://{USER}:{PASSWORD}@"));
    let outcome = work.capture_sh(&origin, &format!("wget -q -O - --auth-no-challenge '{url}'")).expect_code(0);
    assert_eq!(outcome.text(), "for members\n");
    outcome.expect_stderr(&["/basic is not recorded", "--allow-private", "`requireFile`", "`extraEntries`"]);
    assert_eq!(work.inventory().0.len(), 0);
    assert_clean(&work);
}

#[test]
fn tokens_are_found_in_forms_nested_answers_and_headers() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (form, nested) = (origin.url("/token/form"), origin.url("/token/nested"));
    let outcome = work.capture_sh(&origin, &format!("curl -sSf '{form}'; curl -sSf '{nested}'")).expect_code(0);
    assert_eq!(outcome.text().matches(TOKEN).count(), 2, "the client gets the real ones");
    assert_clean(&work);
    assert_eq!(work.inventory().one(&form).body("text"), Some("access_token=buildproxy-dummy-token&scope=repo"));
}

#[test]
fn a_credential_in_the_query_makes_a_request_private_unless_an_origin_sent_the_client_there() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let url = origin.url(&format!("/plain/secret?private_token={TOKEN}"));
    let outcome = work.capture_sh(&origin, &format!("curl -sSf -o /dev/null '{url}'")).expect_code(0);
    outcome.expect_stderr(&["is not recorded", "private_token"]);
    assert_clean(&work);
}

/// A text that looks like a token of GitHub, put together here so that nobody takes this file for one.
fn github_token() -> String {
    format!("gh{}_{}", 'p', "0aB1cD2eF3gH4iJ5kL6mN7oP8qR9sT0uV1wX")
}

#[test]
fn what_looks_like_a_long_lived_key_is_not_written_unless_it_is_allowed() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let key = github_token();
    let (echo, plain, latest) =
        (origin.url("/echo"), origin.url(&format!("/plain/a?k={key}")), origin.url("/plain/latest"));
    let script = format!(
        "curl -sSf -d 'token {key}' '{echo}'; curl -sSf -o /dev/null '{plain}'; curl -sSf -o /dev/null '{latest}'"
    );
    let outcome = work.capture_sh(&origin, &script).expect_code(0);
    assert_eq!(outcome.text(), format!("POST token {key}\n"), "the client gets it");
    let outcome = outcome.expect_stderr(&[
        &format!("POST {echo} is not recorded: the body has what looks like a token of GitHub"),
        "the URL has what looks like a token of GitHub",
        &format!("--allow-private '{echo}'"),
        "/plain/a[?]k=*'",
    ]);
    assert!(!outcome.stderr.contains(&key), "{outcome}");
    assert_eq!(work.inventory().urls(), [&latest]);
    assert_eq!(files_with(work.root(), &[key.as_bytes()]), Vec::<String>::new());

    let mut command = work.capturing(&origin.ca.pem);
    run(command.args(["--allow-private", &echo, "--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(work.inventory().one(&echo).body("text"), Some(format!("POST token {key}\n").as_str()));
}

#[test]
fn a_key_in_a_file_beside_the_inventory_is_found_and_one_in_what_is_fetched_is_everybodys() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let long = format!("{} {}", "x".repeat(5000), github_token());
    let url = origin.url("/echo");
    fs::write(work.path("long"), &long).unwrap();
    let outcome = work.capture_sh(&origin, &format!("curl -sSf -o /dev/null -d @long '{url}'")).expect_code(0);
    outcome.expect_stderr(&["the body has what looks like a token of GitHub"]);
    assert_eq!(work.inventory().0.len(), 0);
    assert!(!work.path("inventory.bodies").exists());
}

#[test]
fn verify_finds_keys_in_inventories_that_others_wrote() {
    let work = Workdir::new();
    let (key, text) = (github_token(), format!("my {}", github_token()));
    let entry = |path: &str, rest: &str| format!("[[entry]]\nurl = \"https://example.org/{path}\"\n{rest}\n\n");
    let body = |source: &str| {
        format!("body = {{ hash = \"{}\", size = {}, {source} }}", crate::common::sri(text.as_bytes()), text.len())
    };
    fs::create_dir(work.path("inventory.bodies")).unwrap();
    work.write("inventory.bodies/a", &text);
    let signed = "X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20240101%2Fus-east-1&X-Amz-Signature=0123456789abcdef";
    work.write(
        "inventory.toml",
        [
            "version = 1\n\n".to_owned(),
            entry("text", &body(&format!("text = \"{text}\""))),
            entry("file", &body("file = \"inventory.bodies/a\"")),
            entry("header", &format!("[entry.headers]\nx-key = \"{key}\"")),
            entry(&format!("a?k={key}"), ""),
            entry("signed", &format!("redirects = [{{ status = 302, location = \"https://cdn.test/a?{signed}\" }}]")),
        ]
        .concat(),
    );
    let outcome = run(&mut work.buildproxy("verify")).expect_code(1);
    let outcome = outcome.expect_stderr(&["/text: the body", "/file: the body", "header `x-key`", "the URL has"]);
    assert_eq!(outcome.stderr.matches("looks like").count(), 4, "{outcome}");
    assert!(!outcome.stderr.contains(&key), "{outcome}");
}

/// A value that no list knows.
const SECRET: &str = "S3cret-0f-the-client";

/// Where a secret can be in a request, each with a part of what is said of it.
fn requests_with_a_secret(origin: &Awkward) -> Vec<(String, &'static str)> {
    let url = |path: &str| origin.url(path);
    let in_query = ["token=", "TOKEN=", "access-token=", "auth_token[]=", "a=1;private_token=", "x&amp;jwt=", "pwd="];
    let mut requests: Vec<(String, &str)> = in_query
        .iter()
        .enumerate()
        .map(|(number, name)| (format!("'{}?{name}{SECRET}'", url(&format!("/plain/q{number}"))), "is not recorded"))
        .collect();
    let nested = format!("'{}?to=http%3A%2F%2Fh%2F%3Fapi_key%3D{SECRET}'", url("/plain/nested"));
    requests.extend([
        (nested, "(`api_key`)"),
        (format!("-L '{}?private_token={SECRET}'", url("/bounce")), "(`private_token`)"),
        (format!("-H 'X-My-Token: {SECRET}' '{}'", url("/reflect")), "(`x-my-token`)"),
        (format!("-H 'Referer: http://h/?token={SECRET}' -H 'X-Kind: k' '{}'", url("/vary-on-all")), ""),
        // What is sent under a name that says nothing, after it was known.
        (format!("-H 'X-Give: {SECRET}' '{}'", url("/reflect?again")), "repeats a credential"),
        (format!("-d 'user=x&password={SECRET}' '{}'", url("/echo")), "repeats a credential"),
        (format!("'{}'", url(&format!("/plain/{SECRET}/x"))), "in the URL"),
    ]);
    requests
}

#[test]
fn what_only_the_client_knows_comes_into_no_file_and_no_line_however_it_is_sent() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let requests = requests_with_a_secret(&origin);
    let lines = requests.iter().map(|(request, _)| format!("curl -sSf -o /dev/null {request}\n"));
    let script = format!("{}grep -rl '{SECRET}' ../ && exit 99; true", lines.collect::<String>());
    let mut command = work.capturing(&origin.ca.pem);
    command.args(["-vv", "--access-log", "access.log", "--", "sh", "-euc", &script]);
    command.env("BUILDPROXY_LOG", "trace,hyper=debug,reqwest=trace");
    let outcome = run(&mut command).expect_code(0);
    assert_eq!(files_with(work.root(), &[SECRET.as_bytes()]), Vec::<String>::new(), "{outcome}");
    assert!(!outcome.stderr.contains(SECRET), "{outcome}");
    let said: Vec<&str> = requests.iter().map(|(_, said)| *said).filter(|said| !said.is_empty()).collect();
    let outcome = outcome.expect_stderr(&said);
    let inventory = work.inventory();
    let mut urls = inventory.urls();
    urls.sort_unstable();
    assert_eq!(urls, [origin.url("/echo"), origin.url("/reflect?again"), origin.url("/vary-on-all")], "{outcome}");
    let reflected = inventory.one(&origin.url("/reflect?again"));
    assert!(reflected.body("text").unwrap().contains("x-give: buildproxy-dummy-token\n"));
    assert_eq!(
        (reflected.header("x-given"), reflected.header("x-session-token")),
        (Some("buildproxy-dummy-token"), None)
    );
    let varied = inventory.one(&origin.url("/vary-on-all"));
    let keyed: Vec<&String> = varied.get(&["request-headers"]).unwrap().as_table().unwrap().keys().collect();
    assert_eq!(keyed, ["x-kind"], "neither the secret's field nor what has it is part of the key");
}

#[test]
fn a_long_text_does_not_hide_what_a_client_sent() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (echo, plain) = (origin.url("/echo"), origin.url("/plain/private"));
    let long = format!("{{ head -c 200000 /dev/zero | tr '\\0' x; printf ' {SECRET}'; }}");
    let script = format!(
        "curl -sSf -H 'X-Api-Key: {SECRET}' -o /dev/null '{plain}'; {long} | curl -sSf -o /dev/null -d @- '{echo}'"
    );
    work.capture_sh(&origin, &script).expect_code(0).expect_stderr(&["repeats a credential"]);
    assert_eq!(files_with(work.root(), &[SECRET.as_bytes()]), Vec::<String>::new());
    let file = work.inventory().one(&echo).body("file").unwrap().to_owned();
    assert!(String::from_utf8(work.read(&file)).unwrap().ends_with("x buildproxy-dummy-token\n"));
    run(&mut work.buildproxy("verify")).expect_code(0);
}

#[test]
fn what_is_allowed_is_replayed_whatever_the_credential_in_the_query() {
    let (origin, work) = (Awkward::start(), Workdir::new());
    let (url, target) = (origin.url("/bounce"), origin.url("/plain/target"));
    let asked = |token: &str| format!("curl -sSfL -o got '{url}?private_token={token}&b=1'");
    let mut command = work.capturing(&origin.ca.pem);
    let globs = ["--allow-private", &format!("{url}*"), "--allow-private", &format!("{target}*")];
    let outcome = run(command.args(globs).args(["--", "sh", "-euc", &asked(SECRET)])).expect_code(0);
    let outcome = outcome.expect_stderr(&["ignoring `private_token`"]);
    assert_eq!(files_with(work.root(), &[SECRET.as_bytes()]), Vec::<String>::new(), "{outcome}");
    assert_eq!(work.inventory().urls(), [&format!("{url}?b=1"), &format!("{target}?b=1")]);
    fs::remove_file(work.path("got")).unwrap();
    let again = work.read("inventory.toml");
    drop(origin);
    work.replay_sh(&asked("an0ther-0ne")).expect_code(0);
    assert_eq!(work.read("got"), crate::common::pattern(1000));
    assert_eq!(work.read("inventory.toml"), again);
    // What is missed is said without it.
    let missed =
        format!("curl -sS '{}'; true", asked(SECRET).replace("/bounce", "/elsewhere").split('\'').nth(1).unwrap());
    let missed = work.replay_sh(&missed).expect_code(4);
    assert!(missed.text().contains("private_token=buildproxy-dummy-token"), "{missed}");
    assert!(!missed.text().contains(SECRET) && !missed.stderr.contains(SECRET), "{missed}");
}
