//! Large bodies over plain HTTP: sent from the store's files, whatever happens to file and client on the way.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::FileExt,
};

use crate::common::{Sending, pattern, process::wait_for, sending::drain, sri};

#[test]
fn offsets_beyond_two_and_four_gibibytes_are_sent_from_the_right_place() {
    const SIZE: u64 = 5 << 30;
    let marks = [(1 << 31) - 3, (1 << 32) - 3, SIZE - 6];
    let sending = Sending::of(&[(sri(b"sparse"), SIZE)], |_, file| {
        file.set_len(SIZE).unwrap();
        marks.iter().for_each(|&mark| file.write_all_at(b"marked", mark).unwrap());
    });
    for mark in marks {
        let from = mark - 1_000_000;
        let (head, body) = sending.get("http", &format!("Range: bytes={from}-{}\r\n", mark + 5));
        assert!(head.contains(&format!("content-range: bytes {from}-{}/{SIZE}\r\n", mark + 5)), "{head}");
        assert!(body.len() == 1_000_006 && body.ends_with(b"\0marked"), "at {mark}");
    }
}

#[test]
fn a_gibibyte_is_sent_without_touching_its_pages() {
    const SIZE: u64 = 1 << 30;
    let sending = Sending::sparse(1, SIZE);
    let before = sending.minor_faults();
    let mut client = sending.ask("http", "");
    let received = drain(&mut client).unwrap();
    assert!(received > SIZE, "{received}");
    let faults = sending.minor_faults() - before;
    // A touched page is a fault, or one of sixteen around it: that were 16,384 at least.
    assert!(faults < 4000, "{faults} page faults");
}

#[test]
fn several_large_parts_come_in_their_order_with_what_is_between_them() {
    let bytes = pattern(1_000_000);
    let sending = Sending::of_bytes(&bytes);
    let (head, body) = sending.get("http", "Range: bytes=100000-399999,5-9,600000-999999\r\n");
    assert!(head.starts_with("HTTP/1.1 206"), "{head}");
    let boundary = head.split("boundary=").nth(1).unwrap().lines().next().unwrap().trim_matches('"');
    let mut expected = Vec::new();
    for (from, to) in [(100_000, 400_000), (5, 10), (600_000, 1_000_000)] {
        expected.extend(format!("\r\n--{boundary}\r\nContent-Range: bytes {from}-{}/1000000\r\n\r\n", to - 1).bytes());
        expected.extend(&bytes[from..to]);
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
    let lower = |bytes: &[u8]| bytes.to_ascii_lowercase();
    let body = if body.starts_with(b"--") { [b"\r\n", &body[..]].concat() } else { body };
    assert!(lower(&body) == lower(&expected), "{} of {} bytes", body.len(), expected.len());
}

#[test]
fn a_file_that_is_replaced_is_sent_to_its_end_as_it_was() {
    let bytes = pattern(64 << 20);
    let sending = Sending::of_bytes(&bytes);
    let mut client = sending.ask("http", "");
    client.read_exact(&mut [0; 1000]).unwrap();
    let other = sending.serving.work.path("other");
    fs::write(&other, vec![0; bytes.len()]).unwrap();
    fs::rename(&other, &sending.files[0]).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(&bytes[1 << 20..]));
}

#[test]
fn a_file_that_is_cut_short_ends_the_connection_and_not_the_server() {
    let bytes = pattern(64 << 20);
    let sending = Sending::of_bytes(&bytes);
    let mut client = sending.ask("http", "");
    client.read_exact(&mut [0; 1000]).unwrap();
    let cut = File::options().write(true).open(&sending.files[0]).unwrap();
    cut.set_len(32 << 20).unwrap();
    let mut rest = Vec::new();
    let _reset = client.read_to_end(&mut rest);
    assert!(rest.len() < bytes.len(), "a part is never taken for the whole: {}", rest.len());
    let (head, body) = sending.get("http", "");
    assert!(head.starts_with("HTTP/1.1 500") && body.starts_with(b"buildproxy:"), "{head}");
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let bytes = pattern(64 << 20);
    let sending = Sending::of_bytes(&bytes);
    let (_, body) = sending.get("http", "Range: bytes=-1000\r\n");
    assert!(bytes.ends_with(&body) && body.len() == 1000);
    let before = sending.descriptors();
    for _ in 0..20 {
        sending.ask("http", "").read_exact(&mut [0; 5000]).unwrap();
    }
    wait_for("the descriptors to go", || (sending.descriptors() <= before).then_some(()));
    let maps = fs::read_to_string(format!("/proc/{}/maps", sending.serving.server.0.id())).unwrap();
    assert!(!maps.contains("body0.bin"), "its mappings, too");
    assert!(sending.get("http", "").1 == bytes);
}
