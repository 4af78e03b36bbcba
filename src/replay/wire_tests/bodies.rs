//! Bodies in files: whole, in parts, missing, of the wrong size, altered.

use super::*;

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n / 3 % 251) as u8).collect()
}

fn entry(url: &str, body: Body) -> Entry {
    Entry { body: Some(body), ..Entry::get(url.parse().unwrap()) }
}

#[test]
fn bodies_come_from_the_store_and_from_beside_the_inventory() {
    let setup = Setup::new();
    let data = bytes(3_000_001);
    let entries = vec![
        entry("http://h/store", setup.stored(&data, "store.bin")),
        entry("http://h/beside", setup.beside(&data, "beside.bin")),
    ];
    let server = setup.serve(entries);
    for path in ["store", "beside"] {
        let mut client = server.client();
        let url = format!("http://h/{path}");
        assert!(client.ask(&format!("GET {url}"), "").body == data);
        let part = client.ask(&format!("GET {url}"), "Range: bytes=1048575-2097153\r\n");
        assert!(part.body == data[1_048_575..2_097_154]);
        let parts = client.ask(&format!("GET {url}"), "Range: bytes=5-9,2999999-\r\n");
        let holds = |wanted: &[u8]| parts.body.windows(wanted.len()).any(|window| window == wanted);
        assert!(parts.status == 206 && holds(&data[5..10]) && holds(&data[2_999_999..]));
        assert_eq!(client.ask(&format!("HEAD {url}"), "").header("content-length"), Some("3000001"));
    }
}

#[test]
fn a_missing_body_is_a_500_with_a_reason_and_no_empty_200() {
    let setup = Setup::new();
    let stored = setup.stored(b"hello", "gone.txt");
    let path = stored.store_path().unwrap();
    let server = setup.serve(vec![entry("http://h/a", stored)]);
    std::fs::remove_file(server.embedded().path_of(&path)).unwrap();
    let mut client = server.client();
    for _ in 0..2 {
        let answer = client.ask("GET http://h/a", "");
        assert_eq!((answer.status, answer.header("content-type")), (500, Some("text/plain; charset=utf-8")));
        for part in [path.to_absolute_path().as_str(), "missing", "buildproxy fetch", "GET http://h/a"] {
            assert!(answer.text().contains(part), "{part:?} in {}", answer.text());
        }
    }
    let report = server.report();
    assert_eq!((report.broken_bodies.len(), report.broken_bodies[0].count, report.unused.len()), (1, 2, 0));
    assert!(report.failed(true), "allowing misses allows no broken bodies");
}

#[test]
fn a_body_of_another_size_is_a_500_that_tells_both() {
    let setup = Setup::new();
    let short = setup.beside(b"hello world", "short");
    let long = setup.beside(b"hello", "long");
    let text = Body { size: Some(3), ..pinned(b"hello") };
    let server = setup.serve(vec![entry("http://h/s", short), entry("http://h/l", long), entry("http://h/t", text)]);
    std::fs::write(server.project().join("inventory.bodies/short"), "hello").unwrap();
    std::fs::write(server.project().join("inventory.bodies/long"), "hello world").unwrap();
    for (path, parts) in [
        ("s", ["short: 5 of 11 bytes", "bodies/short"]),
        ("l", ["11 instead of 5 bytes", "bodies/long"]),
        ("t", ["5 bytes", "3"]),
    ] {
        let answer = server.get(&format!("http://h/{path}"));
        assert_eq!(answer.status, 500);
        assert!(parts.iter().all(|part| answer.text().contains(part)), "{}", answer.text());
    }
    assert_eq!(server.report().broken_bodies.len(), 3);
}

#[test]
fn altered_bytes_are_found_when_bodies_are_checked() {
    for check_bodies in [false, true] {
        let mut setup = Setup::new();
        setup.options.check_bodies = check_bodies;
        let good = setup.stored(&bytes(600_000), "good");
        let altered = setup.beside(b"hello", "altered");
        let text = Body { hash: Some(NixHash::sha256(b"other")), ..pinned(b"hello") };
        let server =
            setup.serve(vec![entry("http://h/g", good), entry("http://h/a", altered), entry("http://h/t", text)]);
        std::fs::write(server.project().join("inventory.bodies/altered"), "HELLO").unwrap();
        let expected = if check_bodies { 500 } else { 200 };
        for _ in 0..2 {
            assert_eq!(server.get("http://h/g").body.len(), 600_000);
            let answer = server.get("http://h/a");
            assert_eq!(answer.status, expected);
            assert_eq!(answer.text().contains(&NixHash::sha256(b"HELLO").to_string()), check_bodies);
            assert_eq!(server.get("http://h/t").status, expected);
        }
        assert_eq!(server.ask("HEAD http://h/a").status, 200, "a HEAD sends no bytes that could be wrong");
        assert_eq!(server.report().failed(true), check_bodies);
    }
}

#[test]
fn a_body_that_was_put_in_anothers_place_has_its_own_size() {
    let setup = Setup::new();
    let body = Body { hash: None, size: None, ..setup.beside(b"replaced", "patched") };
    let entry = with_headers(entry("http://h/a", body), &[("etag", r#""a""#), ("content-type", "text/x")]);
    let server = setup.serve(vec![entry]);
    let head = server.ask("HEAD http://h/a");
    let got = server.get("http://h/a");
    assert_eq!((head.head.as_str(), got.text(), got.header("etag")), (got.head.as_str(), "replaced", None));
    assert_eq!(got.header("content-length"), Some("8"));
    std::fs::remove_file(server.project().join("inventory.bodies/patched")).unwrap();
    assert_eq!(server.ask("HEAD http://h/a").status, 500);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_cuts_the_connection_and_fails_the_run() {
    let setup = Setup::new();
    let body = setup.beside(&bytes(64 << 20), "shrinks");
    let server = setup.serve(vec![entry("http://h/a", body)]);
    let mut client = server.client();
    client.send(b"GET http://h/a HTTP/1.1\r\nHost: h\r\n\r\n");
    client.0.read_exact(&mut [0; 1000]).unwrap();
    let file = std::fs::File::options().write(true).open(server.project().join("inventory.bodies/shrinks")).unwrap();
    file.set_len(1000).unwrap();
    let mut rest = Vec::new();
    let _ = client.0.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20);
    assert!(server.report().failed(true));
}
