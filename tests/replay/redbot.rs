//! What REDbot, the checker of HTTP resources, says about replayed answers: no error of ranges, of conditional requests
//! or of framing.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::common::{Serving, Workdir, pattern, python_tool, run, sri};
use flate2::{Compression, GzBuilder};
use serde_json::Value;

/// What REDbot has against an answer that is right for replay.
const ALLOWED: [(&str, &str); 4] = [
    ("DATE_CLOCKLESS", "no Date is recorded, and replay adds none: the same request gets the same bytes every time"),
    ("DATE_CLOCKLESS_BAD_HDR", "the same, of a recorded Last-Modified, which RFC 9110 §8.8.2 does not bind to a Date"),
    ("FRESHNESS_HEURISTIC", "the recorded answers say nothing about caching"),
    ("VARY_ETAG_DOESNT_CHANGE", "one coding was recorded and is what every client gets, whatever it can decode"),
];

/// What the answers are to be praised for, so that a check that REDbot does not make is noticed.
const EXPECTED: [(&str, &[&str]); 8] = [
    ("/both", &["CL_CORRECT", "INM_304", "IMS_304", "RANGE_CORRECT"]),
    ("/bare", &["CL_CORRECT", "RANGE_CORRECT"]),
    ("/large", &["CL_CORRECT", "INM_304", "RANGE_CORRECT"]),
    ("/gzip", &["CL_CORRECT", "INM_304", "CONNEG_GZIP_GOOD", "RANGE_CORRECT"]),
    ("/missing", &["CL_CORRECT"]),
    ("/empty", &["CL_CORRECT"]),
    ("/start", &["CL_CORRECT"]),
    ("/end", &["CL_CORRECT", "INM_304", "RANGE_CORRECT"]),
];

#[test]
fn redbot_finds_no_error_in_ranges_conditions_and_framing() {
    let front = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", front.local_addr().unwrap());
    let work = Workdir::new();
    let inventory = inventory(&work, &origin);
    let serving = Serving::start_in(work, &inventory, |_| {});
    let back = serving.address;
    thread::spawn(move || relay(&front, back));
    for (path, praised) in EXPECTED {
        let mut redbot = serving.work.command(python_tool("redbot"));
        let outcome = run(redbot.args(["-o", "har"]).arg(format!("{origin}{path}"))).expect_code(0);
        let report: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        let entry = &report["log"]["entries"][0];
        let mut notes = Vec::new();
        collect(&entry["_red_messages"], &mut notes);
        let seen = notes.iter().fold(String::new(), |mut seen, note| {
            let _written = writeln!(seen, "{} {} {}: {}", note.level, note.category, note.id, note.summary);
            seen
        });
        let is_wrong = |note: &&Note| matches!(note.level, "BAD" | "WARN");
        let is_allowed = |note: &&Note| ALLOWED.iter().any(|(id, _)| *id == note.id);
        let wrong = notes.iter().filter(is_wrong).find(|note| !is_allowed(note));
        assert!(wrong.is_none(), "{path}: {}\n{seen}", wrong.map_or("", |note| note.id));
        let ids: BTreeSet<_> = notes.iter().map(|note| note.id).collect();
        for id in praised {
            assert!(ids.contains(id), "{path}: no {id} in\n{seen}");
        }
    }
}

struct Note<'a> {
    id: &'a str,
    level: &'a str,
    category: &'a str,
    summary: &'a str,
}

/// The notes with those below them.
fn collect<'a>(messages: &'a Value, notes: &mut Vec<Note<'a>>) {
    for message in messages.as_array().into_iter().flatten() {
        let text = |key: &str| message[key].as_str().unwrap();
        notes.push(Note {
            id: text("note_id"),
            level: text("level"),
            category: text("category"),
            summary: text("summary"),
        });
        collect(&message["subnotes"], notes);
    }
}

fn inventory(work: &Workdir, origin: &str) -> String {
    fs::create_dir(work.path("inventory.bodies")).unwrap();
    let text = pattern(20_000);
    let mut gzip = Vec::new();
    GzBuilder::new().read(text.as_slice(), Compression::best()).read_to_end(&mut gzip).unwrap();
    let modified = "last-modified = \"Tue, 02 Jan 2024 00:00:00 GMT\"";
    let ranges = "accept-ranges = \"bytes\"";
    let mut inventory = String::new();
    for (path, more, body, headers) in [
        ("/both", "", text.clone(), ["etag = '\"v1\"'", modified, ranges]),
        ("/bare", "", text.clone(), ["", "", ranges]),
        ("/large", "", pattern(3_000_000), ["etag = '\"v2\"'", "", ranges]),
        ("/gzip", "", gzip, ["etag = '\"v3\"'", "content-encoding = \"gzip\"\nvary = \"Accept-Encoding\"", ranges]),
        ("/missing", "status = 404", b"no such thing\n".to_vec(), ["", "", ""]),
        ("/empty", "", Vec::new(), ["", "", ""]),
        ("/start", "redirects = [{ status = 302, location = \"/end\" }]", text, ["etag = '\"v4\"'", "", ranges]),
    ] {
        let name = path.trim_start_matches('/');
        work.write(&format!("inventory.bodies/{name}"), &body);
        let (hash, size, headers) = (sri(&body), body.len(), headers.join("\n"));
        inventory += &format!(
            "[[entry]]\nurl = \"{origin}{path}\"\n{more}\n\
             body = {{ hash = \"{hash}\", size = {size}, file = \"inventory.bodies/{name}\" }}\n\
             [entry.headers]\ncontent-type = \"text/plain\"\n{headers}\n"
        );
    }
    inventory
}

/// REDbot knows no proxies, and the port of a proxy refuses to be an origin itself: so it has another number here.
/// Bytes are passed on as they are.
fn relay(front: &TcpListener, back: SocketAddr) {
    let pump = |mut from: TcpStream, mut to: TcpStream| {
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _closed = to.shutdown(Shutdown::Write);
        })
    };
    for client in front.incoming().map(Result::unwrap) {
        let server = TcpStream::connect(back).unwrap();
        pump(client.try_clone().unwrap(), server.try_clone().unwrap());
        pump(server, client);
    }
}
