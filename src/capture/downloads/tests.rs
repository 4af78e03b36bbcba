use std::path::PathBuf;

use super::*;
use crate::capture::arriving::Progress;

fn key(url: &str, fields: &[(&'static str, &str)]) -> DownloadKey {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    DownloadKey::new(&url.parse().unwrap(), &headers)
}

fn download() -> (Arc<Download>, Progress) {
    let (progress, arriving) = Progress::new(PathBuf::from("nowhere"));
    let (url, none) = ("http://h/a".parse().unwrap(), HeaderMap::new());
    (Arc::new(Download::new(&url, &none, &none, 10, arriving).unwrap()), progress)
}

fn fields(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
}

/// The lead that a request for a part gets, or without a `part` one for the whole.
async fn lead(downloads: &Arc<Downloads>, key: DownloadKey, part: bool) -> Option<Lead> {
    let asked = if part { fields("range", "bytes=0-1") } else { HeaderMap::new() };
    match downloads.turn(key, &asked).await {
        Turn::Lead(lead) => Some(lead),
        Turn::Follow(_) => None,
    }
}

async fn followed(downloads: &Arc<Downloads>, key: DownloadKey) -> Arc<Download> {
    match downloads.turn(key, &fields("range", "bytes=0-1")).await {
        Turn::Lead(_) => panic!("nothing to follow"),
        Turn::Follow(download) => download,
    }
}

#[test]
fn requests_for_parts_have_one_key_and_other_credentials_or_clients_another() {
    let plain = key("http://h/a", &[("accept", "a/b"), ("user-agent", "x")]);
    let part = [("user-agent", "x"), ("range", "bytes=1-2"), ("if-range", "x"), ("accept", "a/c"), ("host", "h")];
    assert_eq!(plain, key("http://H:80/a", &part));
    let secret = ("authorization", "Basic x");
    let private = key("http://h/a", &[("accept", "a/b"), ("user-agent", "x"), secret]);
    let part = [("user-agent", "x"), secret, ("range", "bytes=1-2"), ("accept", "a/b"), ("accept-encoding", "gzip")];
    assert_eq!(private, key("http://h/a", &part));
    for other in [
        key("http://h/b", &[("user-agent", "x")]),
        key("http://h/a", &[("user-agent", "y")]),
        key("http://h/a", &[("accept", "a/c"), ("user-agent", "x"), secret]),
        key("http://h/a", &[("accept", "a/b"), ("user-agent", "x"), ("authorization", "Basic y")]),
    ] {
        assert!(other != plain && other != private);
    }
}

#[tokio::test]
async fn an_answer_that_varies_answers_only_its_like() {
    let (downloads, key) = (Arc::new(Downloads::default()), key("http://h/a", &[]));
    let asked = |accept: &str| {
        let mut asked = fields("range", "bytes=0-1");
        asked.insert("accept", accept.parse().unwrap());
        asked
    };
    let shared = |accept: &str, vary: &str| {
        let (progress, arriving) = Progress::new(PathBuf::new());
        let url = "http://h/a".parse().unwrap();
        (Download::new(&url, &asked(accept), &fields("vary", vary), 10, arriving).map(Arc::new), progress)
    };
    let mut leads = Vec::new();
    for accept in ["a/b", "a/c"] {
        let Turn::Lead(lead) = downloads.turn(key, &asked(accept)).await else { panic!("{accept}") };
        let (download, progress) = shared(accept, "Accept, Range");
        lead.share(download.unwrap());
        leads.push((accept, lead, progress));
    }
    for (accept, ..) in &leads {
        let Turn::Follow(download) = downloads.turn(key, &asked(accept)).await else { panic!("{accept}") };
        assert_eq!(download.varied[0].1, *accept);
    }
    assert!(shared("a/b", "*").0.is_none());
}

#[tokio::test]
async fn whoever_may_follow_follows_the_newest_download_that_is_not_broken() {
    let (downloads, key) = (Arc::new(Downloads::default()), key("http://h/a", &[]));
    let first = lead(&downloads, key, true).await.unwrap();
    let second = lead(&downloads, key, false).await.expect("a plain request asks anew");
    let ((one, progress_of_one), (two, progress_of_two)) = (download(), download());
    let waiting = {
        let downloads = Arc::clone(&downloads);
        tokio::spawn(async move { followed(&downloads, key).await })
    };
    tokio::task::yield_now().await;
    first.share(Arc::clone(&one));
    assert!(Arc::ptr_eq(&waiting.await.unwrap(), &one));
    second.share(Arc::clone(&two));
    progress_of_one.whole();
    first.finish();
    assert!(Arc::ptr_eq(&followed(&downloads, key).await, &two));
    progress_of_two.failed(&"cut off");
    let third = lead(&downloads, key, true).await.expect("a broken one cannot be followed");
    let waiting = {
        let downloads = Arc::clone(&downloads);
        tokio::spawn(async move { lead(&downloads, key, true).await.is_some() })
    };
    tokio::task::yield_now().await;
    drop((second, third));
    assert!(waiting.await.unwrap(), "it was not shared");
}

#[tokio::test]
async fn only_so_many_finished_downloads_are_kept() {
    let downloads = Arc::new(Downloads::default());
    let keys: Vec<_> = (0..=FINISHED).map(|n| key(&format!("http://h/{n}"), &[])).collect();
    for key in &keys {
        let lead = lead(&downloads, *key, true).await.unwrap();
        let (download, progress) = download();
        lead.share(download);
        progress.whole();
        lead.finish();
    }
    assert!(lead(&downloads, keys[0], true).await.is_some(), "the oldest went");
    assert!(lead(&downloads, keys[1], true).await.is_none());
    assert_eq!(downloads.slots().by_key.len(), FINISHED);
}

#[tokio::test]
async fn a_revalidation_follows_what_is_on_its_way_and_asks_anew_afterwards() {
    let (downloads, key) = (Arc::new(Downloads::default()), key("http://h/a", &[]));
    let first = lead(&downloads, key, false).await.unwrap();
    let (download, progress) = download();
    first.share(Arc::clone(&download));
    let revalidation = fields("if-none-match", "\"x\"");
    let Turn::Follow(followed) = downloads.turn(key, &revalidation).await else { panic!("it is on its way") };
    assert!(Arc::ptr_eq(&followed, &download));
    progress.whole();
    first.finish();
    assert!(matches!(downloads.turn(key, &revalidation).await, Turn::Lead(_)));
}

#[tokio::test]
async fn who_wants_no_stored_answer_asks_anew_and_later_parts_are_of_that() {
    let (downloads, key) = (Arc::new(Downloads::default()), key("http://h/a", &[]));
    let asking = |fields: &[(&'static str, &'static str)]| {
        let mut asked = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let mut asked: HeaderMap = asked.by_ref().collect();
        asked.insert("range", "bytes=0-1".parse().unwrap());
        asked
    };
    let mut newest = {
        let lead = lead(&downloads, key, true).await.unwrap();
        let (download, progress) = download();
        lead.share(Arc::clone(&download));
        progress.whole();
        lead.finish();
        download
    };
    for fields in [
        &[("cache-control", "no-cache")][..],
        &[("cache-control", "no-transform, Max-Age=0")],
        &[("cache-control", "max-age=\"0\"")],
        &[("pragma", "no-cache")],
    ] {
        let asked = asking(fields);
        let Turn::Lead(lead) = downloads.turn(key, &asked).await else { panic!("{fields:?}") };
        assert!(Arc::ptr_eq(&followed(&downloads, key).await, &newest), "until there is a newer one");
        let (download, progress) = download();
        lead.share(Arc::clone(&download));
        let Turn::Follow(coming) = downloads.turn(key, &asked).await else {
            panic!("{fields:?}: it is not stored yet")
        };
        assert!(Arc::ptr_eq(&coming, &download));
        progress.whole();
        lead.finish();
        assert!(Arc::ptr_eq(&followed(&downloads, key).await, &download), "{fields:?}");
        newest = download;
    }
    for fields in [
        &[("cache-control", "max-age=60, max-stale")][..],
        &[("cache-control", "x=\"no-cache\"")],
        &[("cache-control", "no-transform"), ("pragma", "no-cache")],
    ] {
        let Turn::Follow(download) = downloads.turn(key, &asking(fields)).await else { panic!("{fields:?}") };
        assert!(Arc::ptr_eq(&download, &newest));
    }
}
