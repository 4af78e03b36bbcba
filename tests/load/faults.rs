//! What happens to a body whose file is damaged while it is sent.

use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    common::{
        Sending,
        http2::{Client, chunk},
        pattern,
        sending::{BODY, read_head},
        sri,
        workdir::behind,
    },
    shows,
};

/// More than what sockets and windows hold.
const LARGE: usize = 9 << 20;
/// Read at once, before anything of it is sent.
const SMALL: usize = 50_000;

/// What is asked for: all of a body, most of it, and three parts of it. The file is cut within each.
const RANGES: [&str; 3] = ["", "bytes=1000-", "bytes=0-3999999,5-9,5000000-"];

/// What befalls a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    CutShort,
    Emptied,
    Replaced,
    Deleted,
    Unreadable,
    AppendedTo,
}

const FAULTS: [Fault; 6] =
    [Fault::CutShort, Fault::Emptied, Fault::Replaced, Fault::Deleted, Fault::Unreadable, Fault::AppendedTo];

impl Fault {
    fn befall(self, file: &Path) {
        let open = || File::options().append(true).open(file).unwrap();
        match self {
            Self::CutShort => open().set_len(fs::metadata(file).unwrap().len() - 4096).unwrap(),
            Self::Emptied => open().set_len(0).unwrap(),
            Self::Replaced => {
                let other = file.with_extension("other");
                fs::write(&other, "something else").unwrap();
                fs::rename(other, file).unwrap();
            }
            Self::Deleted => fs::remove_file(file).unwrap(),
            Self::Unreadable => fs::set_permissions(file, Permissions::from_mode(0o000)).unwrap(),
            Self::AppendedTo => open().write_all(b"more").unwrap(),
        }
    }

    /// Whether what is on its way cannot be completed.
    fn breaks_off(self) -> bool {
        matches!(self, Self::CutShort | Self::Emptied)
    }
}

/// A server of a large and a small body, which root's privileges do not let into unreadable files.
fn sending(large: &[u8], small: &[u8]) -> Sending {
    let bodies = [(sri(large), large.len() as u64), (sri(small), small.len() as u64)];
    let make = |n: usize, mut file: &File| file.write_all(if n == 0 { large } else { small }).unwrap();
    Sending::by(&bodies, make, |command| {
        let no_override = "--bounding-set=-dac_override,-dac_read_search";
        command.arg("--json");
        if rustix::process::geteuid().is_root() {
            *command = behind(&["setpriv", no_override], command);
        }
        let output = File::create(command.get_current_dir().unwrap().join("report")).unwrap();
        command.stdout(output);
    })
}

/// The bytes of what is asked for by `range`, and how many the answer to it has in all.
fn begins_with(bytes: &[u8], range: &str, got: &[u8]) -> bool {
    match range {
        "" => bytes.starts_with(got),
        "bytes=1000-" => bytes[1000..].starts_with(got),
        // Behind the head of the first part.
        _ => {
            let start = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(got.len()) + 4;
            let first = got.get(start..).unwrap_or_default();
            bytes.starts_with(&first[..first.len().min(4_000_000)])
        }
    }
}

/// What one client got: the status, and the bytes up to the end, or up to where the answer broke off.
struct Got {
    status: u16,
    bytes: Vec<u8>,
    is_whole: bool,
}

/// Reads the rest of an answer of HTTP/1.1 whose head says its length.
fn rest_of_http1(mut client: impl Read, head: &str) -> Got {
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
    }
    let is_whole = bytes.len() == length.parse::<usize>().unwrap();
    Got { status, bytes, is_whole }
}

async fn rest_of_http2(answer: http::Response<h2::RecvStream>) -> Got {
    let status = answer.status().as_u16();
    let (mut body, mut bytes, mut is_whole) = (answer.into_body(), Vec::new(), true);
    while let Some(more) = chunk(&mut body).await {
        match more {
            Ok(more) => bytes.extend_from_slice(&more),
            Err(_) => is_whole = false,
        }
        if !is_whole {
            break;
        }
    }
    Got { status, bytes, is_whole }
}

/// Asks by HTTP/1.1; what is not read stays with the server.
fn ask_http1(sending: &Sending, scheme: &str, body: &str, range: &str) -> (impl Read + use<>, String) {
    let stream = sending.serving.connect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 16 << 10).unwrap();
    let field = if range.is_empty() { String::new() } else { format!("Range: {range}\r\n") };
    let mut client = sending.ask_on(stream, scheme, body, &field);
    let head = read_head(&mut client);
    (client, head)
}

async fn ask_http2(client: &Client, body: &str, range: &str) -> http::Response<h2::RecvStream> {
    let mut request = client.request(http::Method::GET, body);
    if !range.is_empty() {
        request.headers_mut().insert("range", range.parse().unwrap());
    }
    client.send(request).await.unwrap()
}

#[tokio::test]
async fn a_body_whose_file_is_damaged_while_it_is_sent_comes_whole_or_breaks_off_and_the_run_says_so() {
    let (large, small) = (pattern(LARGE), pattern(SMALL));
    let (mut whole, mut broken, mut refused) = (0, 0, 0);
    for fault in FAULTS {
        let mut sending = sending(&large, &small);
        let clients = [Client::open(&sending.serving, "tls").await, Client::open(&sending.serving, "plain").await];
        let (mut http1, mut http2) = (Vec::new(), Vec::new());
        for range in RANGES {
            for scheme in ["http", "https"] {
                http1.push((range, ask_http1(&sending, scheme, BODY, range)));
            }
            for client in &clients {
                http2.push((range, ask_http2(client, BODY, range).await));
            }
        }
        sending.files.iter().for_each(|file| fault.befall(file));
        let readers = http1.into_iter().map(|(range, (client, head))| {
            let reader = thread::spawn(move || rest_of_http1(client, &head));
            (range, reader)
        });
        let readers: Vec<_> = readers.collect();
        let mut all = Vec::new();
        for (range, answer) in http2 {
            all.push((range, rest_of_http2(answer).await));
        }
        all.extend(readers.into_iter().map(|(range, reader)| (range, reader.join().unwrap())));
        for (range, got) in &all {
            assert_eq!(got.status, if range.is_empty() { 200 } else { 206 }, "{fault:?}");
            assert!(begins_with(&large, range, &got.bytes), "{fault:?}: wrong bytes of `{range}`");
            assert_eq!(got.is_whole, !fault.breaks_off(), "{fault:?} `{range}`: {} bytes", got.bytes.len());
        }
        let count = all.iter().filter(|(_, got)| got.is_whole).count();
        (whole, broken) = (whole + count, broken + all.len() - count);
        // Who comes later is told, be the body large or small.
        for body in [BODY, "body1.bin"] {
            for scheme in ["http", "https"] {
                let (client, head) = ask_http1(&sending, scheme, body, "");
                let got = rest_of_http1(client, &head);
                assert!(got.status == 500 && got.bytes.starts_with(b"buildproxy:"), "{fault:?} {body}: {head}");
            }
            for client in &clients {
                let got = rest_of_http2(ask_http2(client, body, "").await).await;
                assert!(got.status == 500 && got.bytes.starts_with(b"buildproxy:"), "{fault:?} {body}: {}", got.status);
            }
            refused += 4;
        }
        let (code, broken) = end(&mut sending);
        assert_eq!(code, 4, "{fault:?}");
        // By the URLs of both schemes: what broke off, each and every one, and what was refused.
        let broke_off = all.iter().filter(|(_, got)| !got.is_whole).count();
        assert_eq!(broken, 8 + broke_off as u64, "{fault:?}");
    }
    shows!(
        Replay,
        "files truncated, emptied, replaced by rename, deleted, made unreadable and appended to under HTTP/1.1 and HTTP/2, \
         plain and TLS, whole, Range and several ranges",
        "{} faults: {whole} answers whole and right, {broken} cut off, {refused} later ones 500, exit code 4 each time",
        FAULTS.len()
    );
}

/// Ends the server; its exit code, and how many answers its report counts as broken. What it says of files that were
/// written to is about no answer of its own.
fn end(sending: &mut Sending) -> (i32, u64) {
    sending.serving.server.signal(Signal::TERM);
    let code = sending.serving.server.wait(Duration::from_secs(10)).expect("it ends");
    let report: serde_json::Value = serde_json::from_slice(&sending.serving.work.read("report")).unwrap();
    let broken = report["broken-bodies"].as_array().unwrap();
    let is_of_answers = |body: &&serde_json::Value| !body["problem"].as_str().unwrap().contains("was written to");
    (code, broken.iter().filter(is_of_answers).map(|body| body["count"].as_u64().unwrap()).sum())
}

#[test]
fn a_checked_body_that_is_replaced_or_altered_is_checked_again() {
    let (large, small) = (pattern(LARGE), pattern(SMALL));
    let bodies = [(sri(&large), large.len() as u64), (sri(&small), small.len() as u64)];
    let all = [&large, &small];
    let mut sending = Sending::by(
        &bodies,
        |n, mut file| file.write_all(all[n]).unwrap(),
        |command| {
            let output = File::create(command.get_current_dir().unwrap().join("report")).unwrap();
            command.args(["--check-bodies", "--json"]).stdout(output);
        },
    );
    let mut answers = (0, 0);
    let mut expect = |status: u16| {
        for (n, bytes) in all.iter().enumerate() {
            for scheme in ["http", "https"] {
                let (client, head) = ask_http1(&sending, scheme, &format!("body{n}.bin"), "");
                let got = rest_of_http1(client, &head);
                assert_eq!(got.status, status, "{scheme} {n}");
                assert!((status == 200) == (got.bytes == **bytes), "{scheme} {n}");
                if status == 200 { answers.0 += 1 } else { answers.1 += 1 }
            }
        }
    };
    let replace = |with: &dyn Fn(&[u8]) -> Vec<u8>| {
        for (file, bytes) in sending.files.iter().zip(all) {
            let other = file.with_extension("other");
            fs::write(&other, with(bytes)).unwrap();
            fs::rename(other, file).unwrap();
        }
    };
    expect(200);
    replace(&|bytes| vec![b'x'; bytes.len()]);
    expect(500);
    replace(&<[u8]>::to_vec);
    expect(200);
    for file in &sending.files {
        File::options().write(true).open(file).unwrap().write_all(b"altered in its place").unwrap();
    }
    expect(500);
    assert_eq!(end(&mut sending).0, 4);
    shows!(
        Replay,
        "`--check-bodies`, files replaced by others of the same length, put right, and written to in their place",
        "{} answers whole and right, {} refused with 500, exit code 4",
        answers.0,
        answers.1
    );
}

/// What the kernel sends from a file it sends from the file's own pages, until the client has them: nginx has it no other
/// way. So a file that is written to in its place, which no store does, can still spoil what was sent of it.
#[test]
fn a_file_that_was_written_to_in_its_place_fails_the_run_though_all_of_it_was_sent() {
    const SIZE: usize = 300_000;
    let bytes = pattern(SIZE);
    let mut spoilt = 0;
    type Damage = fn(&File);
    let damages: [Damage; 2] =
        [|file| file.set_len(SIZE as u64 - 50_001).unwrap(), |mut file| file.write_all(b"something else").unwrap()];
    for damage in damages {
        for scheme in ["http", "https"] {
            let mut sending = Sending::by(
                &[(sri(&bytes), SIZE as u64)],
                |_, mut file| file.write_all(&bytes).unwrap(),
                |command| {
                    let output = File::create(command.get_current_dir().unwrap().join("report")).unwrap();
                    command.arg("--json").stdout(output);
                },
            );
            // All of it is with the kernel when the head is here.
            let (client, head) = ask_http1(&sending, scheme, BODY, "");
            thread::sleep(Duration::from_millis(300));
            damage(&File::options().write(true).open(&sending.files[0]).unwrap());
            let got = rest_of_http1(client, &head);
            spoilt += usize::from(got.is_whole && got.bytes != bytes);
            assert_eq!(end(&mut sending).0, 4, "{scheme}");
            let report = String::from_utf8(sending.serving.work.read("report")).unwrap();
            assert!(report.contains("was written to"), "{report}");
        }
    }
    shows!(
        Replay,
        "store files cut short and overwritten in place, against what a store promises, once all was handed to the kernel",
        "exit code 4 each of {} times, though {spoilt} of the answers had come whole and wrong",
        2 * damages.len()
    );
}
