//! Floods of HTTP/2 frames, each of which is allowed on its own.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{
    common::{
        Serving,
        process::{peak_kib_of, wait_for},
    },
    cost::{cpu_ticks, descriptors},
    hostile::{others_are_served, serving},
    shows,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// The flag of HEADERS and CONTINUATION that the head ends (RFC 9113 §6.2).
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A compressed head (RFC 7541): the method at this place of the static table, `http`, `/text` and the authority.
fn head(method: u8) -> Vec<u8> {
    [&[0x80 | method, 0x86, 0x04, 5][..], b"/text", &[0x41, 6], b"h.test"].concat()
}

const GET: u8 = 2;
const POST: u8 = 3;

/// What a flood is made of: frames for the beginning, and those of each round.
type Flood = (&'static str, Vec<u8>, fn(u32) -> Vec<u8>);

fn floods() -> Vec<Flood> {
    let opened = |method| frame(HEADERS, END_HEADERS, 1, &head(method));
    vec![
        // CVE-2023-44487.
        ("requests that are reset at once", Vec::new(), |n| {
            let stream = 2 * n + 1;
            [frame(HEADERS, END_HEADERS | 1, stream, &head(GET)), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        }),
        // CVE-2024-27316 and its kin.
        ("a head that goes on and on", frame(HEADERS, 0, 1, &head(GET)), |n| {
            let field = [&[0x40, 6][..], format!("x{:05}", n % 100_000).as_bytes(), &[1, b'1']].concat();
            frame(CONTINUATION, 0, 1, &field)
        }),
        ("a head that goes on empty", frame(HEADERS, 0, 1, &head(GET)), |_| frame(CONTINUATION, 0, 1, &[])),
        ("settings", Vec::new(), |n| frame(SETTINGS, 0, 0, &[&[0, 4, 0, 1][..], &(n as u16).to_be_bytes()].concat())),
        ("pings", Vec::new(), |n| frame(PING, 0, 0, &u64::from(n).to_be_bytes())),
        ("empty pieces of a body", opened(POST), |_| frame(DATA, 0, 1, &[])),
        ("padding for a body", opened(POST), |_| frame(DATA, 8, 1, &[255; 256])),
        ("priorities", Vec::new(), |n| frame(PRIORITY, 0, 2 * n + 1, &[0, 0, 0, 0, 16])),
        ("window updates", Vec::new(), |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        // RFC 9113 §6.4: on a stream that nobody has.
        ("resets of nothing", opened(GET), |_| frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])),
        ("frames of a kind that there is not", Vec::new(), |_| frame(0xbe, 0, 0, b"grease")),
        ("windows that do not open", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), |n| {
            frame(HEADERS, END_HEADERS | 1, 2 * n + 1, &head(GET))
        }),
    ]
}

/// What became of a flood.
#[derive(Debug)]
struct Ended {
    rounds: u32,
    /// The error code of GOAWAY, where one came.
    goaway: Option<u32>,
    /// The server takes no more as long as nobody takes what it has to say.
    is_held_back: bool,
}

/// Sends a flood of so many rounds, and reads nothing before its end.
fn send(serving: &Serving, (_, first, round): &Flood, rounds: u32) -> (TcpStream, Ended) {
    let mut stream = serving.connect();
    stream.set_write_timeout(Some(Duration::from_millis(1500))).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    stream.write_all(&[&frame(SETTINGS, 0, 0, &[]), first.as_slice()].concat()).unwrap();
    let mut ended = Ended { rounds: 0, goaway: None, is_held_back: false };
    for start in (0..rounds).step_by(100) {
        let batch: Vec<u8> = (start..start + 100).flat_map(round).collect();
        match stream.write_all(&batch) {
            Ok(()) => ended.rounds += 100,
            Err(error) => {
                ended.is_held_back = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                break;
            }
        }
    }
    (stream, ended)
}

/// The code of the GOAWAY among what has come; everything else is passed over.
fn goaway(stream: &mut TcpStream) -> Option<u32> {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    loop {
        let mut start = [0; 9];
        stream.read_exact(&mut start).ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, start[0], start[1], start[2]]) as usize];
        stream.read_exact(&mut payload).ok()?;
        if start[3] == GOAWAY {
            return Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
}

#[test]
fn floods_of_http2_frames_take_bounded_memory_and_hold_up_nobody() {
    const ROUNDS: u32 = 60_000;
    let serving = serving();
    let pid = serving.server.0.id();
    others_are_served(&serving);
    let (memory, open, ticks) = (peak_kib_of(pid), descriptors(pid), cpu_ticks(pid));
    let (mut refused, mut held_back) = (0, 0);
    let floods = floods();
    for flood in &floods {
        let (mut stream, mut ended) = thread::scope(|scope| {
            let sending = scope.spawn(|| send(&serving, flood, ROUNDS));
            others_are_served(&serving);
            sending.join().unwrap()
        });
        others_are_served(&serving);
        ended.goaway = goaway(&mut stream);
        println!("{}: {ended:?}, peak {} KiB", flood.0, peak_kib_of(pid));
        refused +=
            usize::from(ended.goaway.is_some_and(|code| code != 0) || ended.rounds < ROUNDS && !ended.is_held_back);
        held_back += usize::from(ended.is_held_back);
        drop(stream);
        wait_for("its connection to be gone", || (descriptors(pid) <= open).then_some(()));
    }
    let (grown, ticks) = (peak_kib_of(pid) - memory, cpu_ticks(pid) - ticks);
    assert!(grown < 24 << 10, "{grown} KiB");
    shows!(
        HostileInput,
        "rapid reset, CONTINUATION, SETTINGS, PING, empty and padded DATA, PRIORITY, WINDOW_UPDATE, RST_STREAM, unknown \
         frames, streams with windows of 0; nothing is read",
        "{} floods of up to {ROUNDS} rounds: {refused} ended by the server, {held_back} held back, the others carried; \
         {grown} KiB more memory, {}.{:02} s of processor time, others served meanwhile",
        floods.len(),
        ticks / 100,
        ticks % 100
    );
}
