//! The CA's key: where it is, and who can get at it.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::{unix::fs::FileExt, unix::process::ExitStatusExt},
    process::{Command, Stdio},
};

use rustix::process::Signal;

use crate::{
    common::{
        Outcome, Serving, Workdir,
        process::{run, wait_for},
        serving::text_entry,
        tree_of_files,
        workdir::behind,
    },
    shows,
};

/// How a private key on P-256 begins (PKCS #8, RFC 5208, RFC 5915); its 32 secret bytes come next.
const KEY_START: &[u8] =
    b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\
    \x04\x6d\x30\x6b\x02\x01\x01\x04\x20";

fn serve(work: Workdir, change: impl FnOnce(&mut Command)) -> Serving {
    Serving::start_in(work, &text_entry("https://h.test/a", "over TLS\n"), change)
}

/// Has the server make a certificate and sign with its keys.
fn use_keys(serving: &Serving) {
    assert_eq!(run(serving.curl().arg("https://h.test/a")).expect_code(0).text(), "over TLS\n");
}

fn found(haystack: &[u8], needle: &[u8]) -> Vec<usize> {
    let first = haystack.windows(needle.len()).enumerate();
    first.filter(|(_, window)| *window == needle).map(|(at, _)| at).collect()
}

/// The private keys in the memory of process `pid`.
fn keys_in_memory(pid: u32) -> BTreeSet<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut keys = BTreeSet::new();
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(number(end) - number(start)).unwrap()];
        // Guard pages and what was unmapped meanwhile cannot be read.
        if memory.read_exact_at(&mut bytes, number(start)).is_ok() {
            let key = |at: usize| bytes[at + KEY_START.len()..][..32].to_vec();
            keys.extend(found(&bytes, KEY_START).into_iter().map(key));
        }
    }
    keys
}

#[test]
fn the_keys_are_in_memory_and_in_no_file_and_no_log_however_much_is_logged() {
    let work = Workdir::new();
    let log = File::create(work.root().join("log")).unwrap();
    let serving = serve(work, |command| {
        command.env("BUILDPROXY_DUMPABLE", "1").env("BUILDPROXY_LOG", "trace").stderr(log);
    });
    use_keys(&serving);
    let keys = keys_in_memory(serving.server.0.id());
    assert!(!keys.is_empty(), "the search finds what is there");
    let spelled = |key: &Vec<u8>| {
        let base64 =
            |skip: usize| data_encoding::BASE64.encode(&key[skip..]).trim_end_matches('=').as_bytes()[..30].to_vec();
        let hex = data_encoding::HEXLOWER.encode(key);
        let debug = format!("{key:?}").trim_matches(['[', ']']).as_bytes().to_vec();
        [key.clone(), base64(0), base64(1), base64(2), hex.to_uppercase().into_bytes(), hex.into_bytes(), debug]
    };
    let needles: Vec<Vec<u8>> = keys.iter().flat_map(spelled).chain([b"PRIVATE KEY".to_vec()]).collect();
    let mut places = tree_of_files(serving.work.root());
    places.extend(tree_of_files(serving.ca_file.parent().unwrap()));
    let mut bytes_read = 0;
    for place in &places {
        let bytes = fs::read(place).unwrap();
        bytes_read += bytes.len();
        for needle in &needles {
            assert!(found(&bytes, needle).is_empty(), "a key is in {}", place.display());
        }
    }
    let log = fs::read_to_string(serving.work.root().join("log")).unwrap();
    assert!(log.contains("TRACE"), "{log}");
    shows!(
        Secrets,
        "the keys are taken from the memory of a running replay and looked for in all that it wrote, at `trace`",
        "{} keys, {} files of {bytes_read} bytes, none found",
        keys.len(),
        places.len()
    );
}

/// `command` without what root can do, where root runs the tests: as the same user and no more.
fn as_ordinary_user(command: &Command) -> Command {
    if !rustix::process::geteuid().is_root() {
        return behind(&["env"], command);
    }
    behind(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"], command)
}

/// What another process of the same user gets of process `pid`.
fn looked_into(pid: u32) -> Outcome {
    let script = format!("head -c 1 /proc/{pid}/environ >/dev/null && head -c 1 /proc/{pid}/maps >/dev/null");
    run(&mut as_ordinary_user(Command::new("sh").args(["-c", &script])))
}

/// A server as an ordinary user's, which may write cores.
fn ordinary(change: impl FnOnce(&mut Command)) -> Serving {
    serve(Workdir::new(), |command| {
        change(command);
        let mut outer = as_ordinary_user(&behind(&["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"], command));
        std::mem::swap(command, &mut outer);
        command.stderr(Stdio::null());
    })
}

/// Ends the server as a fault does, and tells whether the kernel wrote a core.
fn dumps(mut serving: Serving) -> bool {
    serving.server.signal(Signal::ABORT);
    let status = wait_for("the end", || serving.server.0.try_wait().unwrap());
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    status.core_dumped()
}

#[test]
fn a_running_proxy_shows_its_memory_to_nobody_else_and_leaves_it_in_no_core() {
    let open = ordinary(|command| {
        command.env("BUILDPROXY_DUMPABLE", "1");
    });
    let closed = ordinary(|_| {});
    [&open, &closed].into_iter().for_each(use_keys);
    looked_into(open.server.0.id()).expect_code(0);
    let refused = looked_into(closed.server.0.id()).expect_code(1);
    assert!(refused.stderr.contains("ermission denied"), "{refused}");
    let cores_are_written = dumps(open);
    assert!(!dumps(closed), "a core");
    let cores = if cores_are_written { "1 core where allowed, 0 else" } else { "this system writes no cores at all" };
    shows!(
        Secrets,
        "another process of the same user, and SIGABRT with `ulimit -c unlimited`",
        "{cores}; memory refused"
    );
}

#[test]
fn what_a_proxy_starts_can_be_debugged_as_ever() {
    let work = Workdir::new();
    work.write("inventory.toml", "version = 1\n");
    let mut replay = work.replaying();
    replay.args([
        "--",
        "sh",
        "-c",
        "head -c 1 /proc/$$/environ >/dev/null; sleep 0; cat /proc/$$/limits | grep -i core",
    ]);
    run(&mut as_ordinary_user(&replay)).expect_code(0);
    let mut isolated = work.replaying();
    isolated.args([
        "--isolate",
        "--",
        "sh",
        "-c",
        "test -r /proc/self/environ && head -c 1 /proc/$$/environ >/dev/null",
    ]);
    run(&mut isolated).expect_code(0);
}

#[test]
fn the_certificate_of_the_ca_can_sign_servers_and_nothing_else() {
    let serving = serve(Workdir::new(), |_| {});
    let mut openssl = serving.work.command("openssl");
    let text = run(openssl.args(["x509", "-noout", "-text", "-in"]).arg(&serving.ca_file)).expect_code(0);
    for line in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "X509v3 Basic Constraints: critical"] {
        assert!(text.text().contains(line), "{line}: {text}");
    }
    // What a server shows is signed by it, and is no authority itself.
    let chain = format!(
        "openssl s_client -proxy {} -connect h.test:443 -servername h.test -showcerts </dev/null 2>/dev/null |
         sed -n '/BEGIN CERT/,/END CERT/p' >leaf.pem && openssl x509 -in leaf.pem -noout -text",
        serving.address
    );
    let leaf = run(serving.work.command("sh").args(["-euc", &chain])).expect_code(0);
    for line in ["CA:FALSE", "TLS Web Server Authentication", "DNS:h.test"] {
        assert!(leaf.text().contains(line), "{line}: {leaf}");
    }
    let verify = |purpose: &str| {
        let mut openssl = serving.work.command("openssl");
        openssl.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]).arg(&serving.ca_file).arg("leaf.pem");
        run(&mut openssl).code
    };
    assert_eq!(verify("sslserver"), 0);
    for other in ["sslclient", "smimesign", "timestampsign"] {
        assert_ne!(verify(other), 0, "{other}");
    }
    shows!(
        Secrets,
        "openssl, strictly; that a further authority is refused is a test beside the code",
        "1 purpose of 4 is accepted"
    );
}
