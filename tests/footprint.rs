//! What sending large bodies takes beside the bytes: memory, and the time of other clients.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(target_os = "linux")]

mod common;

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use common::{
    Sending,
    http1::Http1,
    process::{peak_kib_of, wait_for},
    sending::{drain, read_head},
    sri,
};

/// The peak of the server's resident memory so far, mapped pages of files included.
fn peak_mib(sending: &Sending) -> u64 {
    let peak = peak_kib_of(sending.serving.server.0.id());
    assert!(peak > 1 << 10, "the kernel tells the peak: {peak} KiB");
    println!("peak: {peak} KiB");
    peak >> 10
}

#[test]
fn downloads_of_256_different_files_at_once_take_less_than_128_mebibytes() {
    const COUNT: usize = 256;
    // More than a socket takes.
    const SIZE: u64 = 8 << 20;
    let mut peaks = Vec::new();
    for scheme in ["http", "https"] {
        let sending = Sending::sparse(COUNT, SIZE);
        let begin = |n| {
            let stream = sending.serving.connect();
            // So that the rest stays with the server.
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 16 << 10).unwrap();
            let mut client = sending.ask_on(stream, scheme, &format!("body{n}.bin"), "");
            read_head(&mut client);
            client
        };
        let clients: Vec<_> = (0..COUNT).map(begin).collect();
        // A connection and a file for each; a few of its own come on top, and go when it has started.
        let open = sending.descriptors();
        assert!(open > 2 * COUNT, "{scheme}: all have begun and none is at its end: {open} descriptors");
        let clients: Vec<_> =
            clients.into_iter().map(|mut client| thread::spawn(move || drain(&mut client).unwrap())).collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), SIZE, "{scheme}");
        }
        let peak = peak_mib(&sending);
        assert!(peak < 128, "{scheme}: {peak} MiB");
        peaks.push(peak);
    }
    shows!(
        Load,
        "each of another file of 8 MiB, by clients that take 16 KiB at a time",
        "{COUNT} at once: peak {} MiB plain, {} MiB encrypted",
        peaks[0],
        peaks[1]
    );
}

#[test]
fn parts_of_a_file_of_16_gibibytes_take_less_than_32_mebibytes_and_48_encrypted() {
    const SIZE: u64 = 16 << 30;
    const PART: u64 = 512 << 20;
    let mut peaks = Vec::new();
    for (scheme, most) in [("http", 32), ("https", 48)] {
        let sending = Sending::sparse(1, SIZE);
        for from in [0, SIZE - PART] {
            let mut client = sending.ask(scheme, &format!("Range: bytes={from}-{}\r\n", from + PART - 1));
            assert!(read_head(&mut client).starts_with("HTTP/1.1 206"));
            assert_eq!(drain(&mut client).unwrap(), PART);
        }
        let peak = peak_mib(&sending);
        assert!(peak < most, "{scheme}: {peak} MiB");
        peaks.push(peak);
    }
    shows!(Load, "the first and the last 512 MiB, by Range", "peak {} MiB plain, {} MiB encrypted", peaks[0], peaks[1]);
}

#[test]
fn small_answers_come_before_the_end_of_downloads_that_keep_every_thread_busy() {
    const SIZE: u64 = 4 << 30;
    let mut behind = Vec::new();
    for scheme in ["http", "https"] {
        let sending = Sending::of(&[(sri(b"sparse"), SIZE), (sri(b"small"), 5)], |n, mut file| match n {
            0 => file.set_len(SIZE).unwrap(),
            _ => file.write_all(b"small").unwrap(),
        });
        let (received, enough) = (Arc::new([0, 0].map(AtomicU64::new)), Arc::new(AtomicBool::new(false)));
        let download = |n: usize| {
            let mut client = sending.ask(scheme, "");
            let (received, enough) = (Arc::clone(&received), Arc::clone(&enough));
            thread::spawn(move || {
                let mut buffer = vec![0; 1 << 20];
                while !enough.load(Ordering::Relaxed) {
                    match client.read(&mut buffer).unwrap() {
                        0 => break,
                        length => received[n].fetch_add(length as u64, Ordering::Relaxed),
                    };
                }
            })
        };
        let downloads = [download(0), download(1)];
        let so_far = || [0, 1].map(|n: usize| received[n].load(Ordering::Relaxed));
        wait_for("both downloads", || so_far().iter().all(|&bytes| bytes > 16 << 20).then_some(()));
        let mut client = Http1(sending.serving.connect());
        for _ in 0..20 {
            assert_eq!(client.ask("GET http://h.test/body1.bin HTTP/1.1\nHost: h.test").text(), "small");
        }
        let then = so_far();
        enough.store(true, Ordering::Relaxed);
        downloads.into_iter().for_each(|download| download.join().unwrap());
        assert!(then.iter().all(|&bytes| bytes < SIZE / 2), "{scheme}: 20 small answers came behind {then:?} bytes");
        behind.push(then.iter().sum::<u64>() >> 20);
    }
    shows!(
        Load,
        "two downloads of 4 GiB on two threads, and a client of small answers beside them",
        "20 small answers came while {} MiB plain and {} MiB encrypted of {} did",
        behind[0],
        behind[1],
        SIZE >> 19
    );
}
