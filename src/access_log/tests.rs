use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};

use super::*;
use crate::request_id::RequestIds;

fn answered(url: &str, headers: &[(&'static str, &str)]) -> Answered {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()));
    Answered {
        id: RequestIds::of(3).next(),
        client: Some(SocketAddr::from(([127, 0, 0, 1], 4242))),
        method: Method::GET,
        uri: url.parse::<Uri>().unwrap(),
        version: Version::HTTP_11,
        headers: HeaderMap::from_iter(headers),
        status: Some(StatusCode::OK),
        sent: 11,
    }
}

/// 2000-10-10 13:55:36 UTC.
fn time() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(971_186_136)
}

#[test]
fn a_line_is_what_web_servers_write() {
    let mut hider = Hider::default();
    let mut line = |answered: &Answered| Entry::new(answered, time(), &mut hider).to_string();
    assert_eq!(
        line(&answered("http://h.test/a?b", &[("user-agent", "curl/7"), ("referer", "http://r.test/")])),
        r#"127.0.0.1 3.1 - [10/Oct/2000:13:55:36 +0000] "GET http://h.test/a?b HTTP/1.1" 200 11 "http://r.test/" "curl/7""#
    );
    // No field can end itself, the line, or make a terminal do something.
    let mut odd = answered("http://h.test/", &[("user-agent", "a\"b\\c\td")]);
    odd.headers.insert("referer", HeaderValue::from_bytes(b"\xc3\xa4 \x80").unwrap());
    (odd.client, odd.status, odd.version, odd.sent) = (None, None, Version::HTTP_2, 0);
    assert_eq!(
        line(&odd),
        r#"- 3.1 - [10/Oct/2000:13:55:36 +0000] "GET http://h.test/ HTTP/2.0" 499 0 "\xC3\xA4 \xEF\xBF\xBD" "a\x22b\x5Cc\x09d""#
    );
}

#[test]
fn what_one_request_shows_of_who_asks_is_in_the_line_of_no_other() {
    let mut hider = Hider::default();
    let mut line = |answered: &Answered| Entry::new(answered, time(), &mut hider).to_string();
    let asked = answered("http://u:pw@h.test/?token=s3cret", &[("authorization", "Bearer Zm9vYmFyYmF6")]);
    let later = answered("http://h.test/Zm9vYmFyYmF6/a", &[("user-agent", "x Zm9vYmFyYmF6")]);
    let lines = [line(&asked), line(&later)].join("\n");
    for secret in ["pw", "s3cret", "Zm9vYmFyYmF6"] {
        assert!(!lines.contains(secret), "{secret} in {lines}");
    }
    assert_eq!(lines.matches(crate::credentials::DUMMY).count(), 3, "{lines}");
}

/// A log whose printer waits for the lock, and what it printed.
fn held_log() -> (AccessLog, Arc<Mutex<Vec<String>>>) {
    let printed = Arc::<Mutex<Vec<String>>>::default();
    let printer = Arc::clone(&printed);
    let print = move |entry: &Entry| printer.lock().unwrap_or_else(PoisonError::into_inner).push(entry.url.clone());
    (AccessLog::start(Destination::Printer(Box::new(print)), "held".to_owned()).unwrap(), printed)
}

#[tokio::test]
async fn the_end_waits_for_all_lines_and_for_whoever_still_answers() {
    let (log, printed) = held_log();
    let callback = log.callback();
    for number in 0..1000 {
        callback(answered(&format!("http://h.test/{number}"), &[]));
    }
    let late = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        callback(answered("http://h.test/last", &[]));
    });
    log.close().await;
    late.join().unwrap();
    let printed = printed.lock().unwrap();
    assert_eq!(
        (printed.len(), printed[999].as_str(), printed[1000].as_str()),
        (1001, "http://h.test/999", "http://h.test/last")
    );
}

#[test]
fn a_log_that_nobody_takes_holds_up_neither_answers_nor_the_end_and_bounds_its_memory() {
    let (log, printed) = held_log();
    let held = printed.lock().unwrap();
    let (callback, queue) = (log.callback(), Arc::clone(&log.queue));
    let long = format!("http://h.test/{}", "x".repeat(60_000));
    for _ in 0..1000 {
        callback(answered(&long, &[]));
    }
    let lost = queue.lost.load(Ordering::Relaxed);
    assert!((800..900).contains(&lost), "{lost}");
    assert!(queue.bytes.load(Ordering::Relaxed) <= MOST_WAITING && queue.has_told.load(Ordering::Relaxed));
    drop(callback);
    // It ends without the lines that are held, and knows that they are lost as well.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(log.close());
    assert_eq!(queue.lost.load(Ordering::Relaxed), 1000);
    drop(held);
}
