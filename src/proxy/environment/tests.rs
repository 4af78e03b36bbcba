use std::collections::{HashMap, HashSet};

use super::*;

fn create(dir: &Path, proxy: &str, proxy_loopback: bool, previous: &[(&str, &str)]) -> ClientEnvironment {
    let previous: HashMap<_, _> = previous.iter().copied().collect();
    let look_up = |name: &str| previous.get(name).map(OsString::from);
    ClientEnvironment::create(dir, proxy.parse().unwrap(), "OURS\n", Some("THEIRS\n"), proxy_loopback, &look_up)
        .unwrap()
}

fn value(environment: &ClientEnvironment, name: &str) -> Option<String> {
    let (_, value) = environment.variables().find(|(known, _)| *known == name).unwrap();
    value.map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn every_variable_is_listed_once() {
    let names: HashSet<&str> = VARIABLES.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names.len(), VARIABLES.len());
    assert!(ca_variables().all(|name| names.contains(name)));
    assert!(ca_variables().any(|name| name == "SSL_CERT_FILE"));
}

/// What the documentation says of a value.
fn in_words(value: Value) -> String {
    match value {
        Value::ProxyUrl => "the proxy's URL".to_owned(),
        Value::NoProxy => format!("`{LOOPBACK_HOSTS}`; unset with `--proxy-loopback`"),
        Value::CaFile => "the CA file".to_owned(),
        Value::Wgetrc => format!("a `{WGETRC_FILE}` that begins with yours"),
        Value::JavaToolOptions => format!("yours, then proxy properties and the trust store `{KEY_STORE_FILE}`"),
        Value::AptConfig => format!("an `{APT_FILE}` that includes yours"),
        Value::Capture => "`1` in a capture, else unset".to_owned(),
        Value::Fixed(text) => format!("`{text}`"),
        Value::Unset => "unset".to_owned(),
    }
}

#[test]
fn the_documentation_has_every_variable_and_who_reads_it() {
    let rows: String = VARIABLES
        .iter()
        .map(|(name, value, readers)| format!("| `{name}` | {} | {readers} |\n", in_words(*value)))
        .collect();
    let table = format!("| variable | set to | read by |\n| --- | --- | --- |\n{rows}\n");
    let page = include_str!("../../../docs/clients.md");
    assert!(page.contains(&table), "docs/clients.md needs this table:\n{table}");
}

#[test]
fn both_cases_hold_the_proxy_and_loopback_stays_direct() {
    let dir = tempfile::tempdir().unwrap();
    let environment = create(dir.path(), "[::1]:8080", false, &[]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        assert_eq!(value(&environment, name).as_deref(), Some("http://[::1]:8080"), "{name}");
    }
    assert_eq!(value(&environment, "NO_PROXY").as_deref(), Some("localhost,127.0.0.1,::1"));
    assert_eq!(value(&environment, "SSL_CERT_DIR"), None);
    let environment = create(dir.path(), "127.0.0.1:8080", true, &[]);
    assert_eq!((value(&environment, "no_proxy"), value(&environment, "NO_PROXY")), (None, None));
}

#[test]
fn the_ca_file_holds_the_roots_that_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let environment = create(dir.path(), "127.0.0.1:8080", false, &[]);
    let file = value(&environment, "SSL_CERT_FILE").unwrap();
    assert_eq!(fs::read_to_string(file).unwrap(), "OURS\n\nTHEIRS\n");
}

#[test]
fn only_a_capture_says_that_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let told = |user_roots| {
        let address = "127.0.0.1:8080".parse().unwrap();
        let environment = ClientEnvironment::create(dir.path(), address, "", user_roots, false, &|_| None).unwrap();
        value(&environment, "BUILDPROXY_CAPTURE")
    };
    assert_eq!((told(Some("THEIRS")).as_deref(), told(None)), (Some("1"), None));
}

#[test]
fn the_users_own_wgetrc_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".wgetrc"), "tries = 7").unwrap();
    fs::write(home.path().join("other"), "tries = 9").unwrap();
    let (home_dir, other) = (home.path().to_str().unwrap(), home.path().join("other"));
    for (previous, first) in [
        (vec![("HOME", home_dir)], "tries = 7\n"),
        (vec![("HOME", home_dir), ("WGETRC", other.to_str().unwrap())], "tries = 9\n"),
        (vec![("HOME", "/nowhere")], "\n"),
        (vec![], "\n"),
    ] {
        let environment = create(dir.path(), "127.0.0.1:8080", false, &previous);
        let text = fs::read_to_string(value(&environment, "WGETRC").unwrap()).unwrap();
        let ca_line = format!("\nca_certificate = {}\n", value(&environment, "SSL_CERT_FILE").unwrap());
        assert!(text.starts_with(first) && text.contains(&ca_line), "{previous:?}: {text}");
    }
}

#[test]
fn a_strict_shell_reads_the_lines_back() {
    let dir = tempfile::Builder::new().prefix("it's $HOME `a` \"b\"\n").tempdir().unwrap();
    let environment = create(dir.path(), "127.0.0.1:8080", false, &[("JAVA_TOOL_OPTIONS", "-Da='b c'")]);
    let script =
        "set -eu; eval \"$LINES_TO_READ\"; printf '%s' \"$SSL_CERT_FILE|$JAVA_TOOL_OPTIONS|${PIP_PROXY-unset}\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).env("LINES_TO_READ", environment.shell_lines()).env("PIP_PROXY", "http://other");
    let read = String::from_utf8(shell.output().unwrap().stdout).unwrap();
    let expected = [value(&environment, "SSL_CERT_FILE"), value(&environment, "JAVA_TOOL_OPTIONS")];
    assert_eq!(read, format!("{}|unset", expected.map(Option::unwrap).join("|")));
}

#[test]
fn a_command_gets_the_variables() {
    let dir = tempfile::tempdir().unwrap();
    let environment = create(dir.path(), "127.0.0.1:8080", false, &[]);
    let mut command = Command::new("sh");
    command.args(["-c", "printf %s \"$http_proxy ${SSL_CERT_DIR-unset}\""]).env("SSL_CERT_DIR", "/certs");
    environment.apply(&mut command);
    assert_eq!(command.output().unwrap().stdout, b"http://127.0.0.1:8080 unset");
}
