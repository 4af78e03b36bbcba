//! Clients that fetch a file in parts, go on where they stopped, or ask whether what they have is still good: replayed
//! where there is no network.

use std::{
    fs::{self, File},
    time::{Duration, UNIX_EPOCH},
};

use crate::common::{Nginx, Workdir, pattern, run};

/// Both URLs of a captured file of `size` bytes, whose origin is gone, and a copy of it as `whole`.
fn captured(size: usize) -> (Workdir, [String; 2]) {
    let (nginx, work) = (Nginx::start(""), Workdir::new());
    let file = nginx.www().join("file.bin");
    fs::write(&file, pattern(size)).unwrap();
    // 2024-01-02, so that there are dates on both sides.
    let modified = UNIX_EPOCH + Duration::from_secs(1_704_153_600);
    File::options().append(true).open(&file).unwrap().set_modified(modified).unwrap();
    let urls = [nginx.url("/file.bin"), nginx.tls_url("/file.bin")];
    let script = format!("curl -sSf -o whole '{}' -o /dev/null '{}'", urls[0], urls[1]);
    run(work.capturing(&nginx.ca.pem).args(["--", "sh", "-euc", &script])).expect_code(0);
    assert_eq!(work.read("whole"), pattern(size));
    (work, urls)
}

#[test]
fn aria2_fetches_a_file_in_sixteen_segments() {
    let (work, urls) = captured(40_000_000);
    for url in urls {
        // Without a limit, the first connection can have it all before the others have shaken hands.
        let outcome = work.replay_sh(&format!(
            "aria2c -q -x16 -s16 -k1M --max-download-limit=20M --file-allocation=none --ca-certificate=\"$SSL_CERT_FILE\" \
             --log=log --log-level=info --allow-overwrite -o segmented '{url}'; \
             cmp segmented whole; grep -o 'Range: bytes=[0-9]*-' log | sort -u | wc -l; rm log segmented"
        ));
        let ranges: usize = outcome.expect_code(0).text().trim().parse().unwrap();
        assert!(ranges >= 16, "{url}: asked for {ranges} ranges");
    }
}

#[test]
fn half_a_file_is_completed() {
    let (work, urls) = captured(4_000_000);
    for url in urls {
        work.replay_sh(&format!(
            "for version in --http1.1 --http2; do
               head -c 1999999 whole >half
               curl -sSf $version -C - -o half -w '%{{http_code}}' '{url}' >code
               test \"$(cat code)\" = 206; cmp half whole
             done
             head -c 1999999 whole >half; wget -q -c -O half '{url}'; cmp half whole
             head -c 1999999 whole >half; wget -q --start-pos=1999999 -O rest '{url}'
             cat rest >>half; cmp half whole"
        ))
        .expect_code(0);
    }
}

#[test]
fn a_file_that_is_complete_stays_as_it_is() {
    let (work, urls) = captured(100_000);
    for url in urls {
        work.replay_sh(&format!(
            "cp whole file; wget -nv -c -O file '{url}'; cmp file whole
             curl -sS -C - -o file -w '%{{http_code}}' '{url}' >code; test \"$(cat code)\" = 416; cmp file whole
             aria2c -q -c --file-allocation=none --ca-certificate=\"$SSL_CERT_FILE\" -o file '{url}'; cmp file whole"
        ))
        .expect_code(0);
    }
}

#[test]
fn several_ranges_come_as_parts() {
    let (work, urls) = captured(100_000);
    let whole = pattern(100_000);
    for url in urls {
        for version in ["--http1.1", "--http2"] {
            work.replay_sh(&format!("curl -sSf {version} -r 0-99,50000-50099,-7 -o parts '{url}'")).expect_code(0);
            let parts = work.read("parts");
            for (range, bytes) in
                [("0-99", &whole[..100]), ("50000-50099", &whole[50_000..50_100]), ("99993-99999", &whole[99_993..])]
            {
                let part =
                    [format!("ontent-Range: bytes {range}/100000\r\n\r\n").as_bytes(), bytes, b"\r\n--"].concat();
                assert!(parts.windows(part.len()).any(|window| window == part), "{range} in {version} of {url}");
            }
        }
    }
}

#[test]
fn what_is_still_good_is_not_fetched_again() {
    let (work, urls) = captured(100_000);
    for url in urls {
        let outcome = work.replay_sh(&format!(
            "ask() {{ rm -f got; curl -sS -o got -w '%{{http_code}} %{{size_download}}\\n' \"$@\" '{url}'; }}
             rm -f kept tag; ask -R --etag-save tag; mv got kept
             ask -z kept
             ask -z 'Mon, 01 Jan 2024 00:00:00 GMT'
             ask -z 'Wed, 03 Jan 2024 00:00:00 GMT'
             ask -z '-Mon, 01 Jan 2024 00:00:00 GMT'
             ask -z '-Wed, 03 Jan 2024 00:00:00 GMT'
             ask --etag-compare tag
             echo '\"other\"' >tag; ask --etag-compare tag --etag-save tag
             ask --etag-compare tag"
        ));
        let expected = "200 100000\n304 0\n200 100000\n304 0\n412 0\n200 100000\n304 0\n200 100000\n304 0\n";
        assert_eq!(outcome.expect_code(0).text(), expected, "{url}");
    }
}

#[test]
fn wget_fetches_what_is_newer_and_nothing_else() {
    let (work, urls) = captured(100_000);
    for url in urls {
        let script = format!(
            "rm -f file.bin; wget -nv -N '{url}'; cmp file.bin whole
             test \"$(date -u -r file.bin +%F)\" = 2024-01-02
             wget -S -N '{url}' 2>log; grep -q ' 304' log; cmp file.bin whole
             echo old >file.bin; touch -d 2020-01-01 file.bin
             wget -nv -N '{url}'; cmp file.bin whole"
        );
        work.replay_sh(&script).expect_code(0);
    }
}

#[test]
fn a_part_of_another_version_is_replaced_by_the_whole() {
    let (work, urls) = captured(100_000);
    for url in urls {
        let outcome = work.replay_sh(&format!(
            "etag=$(curl -sSfI '{url}' | tr -d '\\r' | sed -n 's/^etag: //Ip')
             for validator in \"$etag\" 'Tue, 02 Jan 2024 00:00:00 GMT' \
                 '\"other\"' \"W/$etag\" 'Mon, 01 Jan 2024 00:00:00 GMT' 'Wed, 03 Jan 2024 00:00:00 GMT'; do
               curl -sSf -r 60000- -H \"If-Range: $validator\" -o got -w '%{{http_code}} %{{size_download}}\\n' '{url}'
               tail -c +60001 whole | cmp -s got - || cmp got whole
             done"
        ));
        let expected = ["206 40000\n"; 2].concat() + &["200 100000\n"; 4].concat();
        assert_eq!(outcome.expect_code(0).text(), expected, "{url}");
    }
}
