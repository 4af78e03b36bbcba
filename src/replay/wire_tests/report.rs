//! What a run says about itself.

use super::*;

#[test]
fn a_report_counts_answers_misses_and_what_was_not_used() {
    let server = serve(vec![
        get("http://h/used", "x"),
        with_hops(get("http://h/chain", "y"), &[(302, "/end")]),
        get("http://h/unused", "z"),
    ]);
    for path in ["used", "used", "chain", "end", "none?a=1", "none?a=1"] {
        server.get(&format!("http://h/{path}"));
    }
    server.ask("POST http://h/used");
    let report = server.report();
    let answered: Vec<(&str, u64)> = report.answered.iter().map(|a| (a.url.as_str(), a.count)).collect();
    assert_eq!(answered, [("http://h/used", 2), ("http://h/chain", 2)]);
    let misses: Vec<(&str, u64)> = report.misses.iter().map(|miss| (miss.url.as_str(), miss.count)).collect();
    assert_eq!(misses, [("http://h/none?a=1", 2), ("http://h/used", 1)]);
    assert_eq!(report.unused[0].url, "http://h/unused");
    assert_eq!((report.failed(false), report.failed(true)), (true, false));

    let text = report.to_string();
    assert!(text.starts_with("replay: 4 requests answered from 2 of 3 entries, 3 misses\n"), "{text}");
    assert!(
        text.contains("\nused entries:\n  GET http://h/used (2 times)\n  GET http://h/chain (2 times)\n"),
        "{text}"
    );
    assert!(text.find("unused entries:").unwrap() < text.find("warning: ").unwrap());
    assert!(text.contains("GET http://h/none?a=1 (2 times)\n    nothing was recorded for this URL\n"), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["requests-answered"], &json["misses"][1]["method"]), (&4.into(), &"POST".into()));
    assert_eq!(json["answered"][0]["count"], 2);
}

#[test]
fn a_summary_reads_as_the_report_and_lists_what_is_read_of_it() {
    let url = |number: usize| format!("http://h/{number}");
    let server = serve((0..60).map(|number| get(&url(number), "x")).collect());
    for number in (0..30).chain(25..30) {
        server.get(&url(number));
    }
    let (report, summary) = (server.report(), server.replayer.summary());
    assert_eq!(summary.to_string(), report.to_string());
    assert!(report.to_string().contains("used entries:\n  GET http://h/25 (2 times)\n"), "{report}");
    assert!(report.to_string().contains("  GET http://h/49\n  and 10 more (--json has them all)\n"), "{report}");
    assert_eq!((report.answered.len(), report.unused.len()), (30, 30));
    assert_eq!((summary.answered.len(), summary.unused.len()), (20, 20));
    assert_eq!(serde_json::to_value(&report).unwrap()["unused"].as_array().unwrap().len(), 30);
}

#[test]
fn a_clean_run_says_so_in_one_line() {
    let server = serve(vec![get("http://h/a", "x")]);
    server.get("http://h/a");
    assert_eq!(server.report().to_string(), "replay: 1 request answered from 1 of 1 entry, 0 misses\n");
    assert!(!server.report().failed(false));
}

#[test]
fn a_miss_explains_itself_to_the_client() {
    let server = serve(vec![get("http://h/f.tar?token=1&v=2", "x"), get("http://h/g.tar", "x")]);
    let answer = server.get("http://me:secret@h/f.tar?token=9&v=2");
    let expected = r#"buildproxy: no recorded answer

  GET http://h/f.tar?token=buildproxy-dummy-token&v=2

nothing was recorded for this URL:
  nearest: GET http://h/f.tar?token=1&v=2
    query parameter `token`: asked a credential, recorded another one
  nearest: GET http://h/g.tar
    recorded with the path /g.tar
    query parameter `token`: asked a credential, recorded without it
    query parameter `v`: asked "2", recorded without it

hint: where these parameters do not matter, put the rule below into the inventory's `[match]`; else record this request: run `buildproxy capture` again

[match]
ignore-query = ["token"]
"#;
    assert_eq!(answer.text(), expected);
}

#[test]
fn the_status_of_a_miss_can_be_chosen() {
    let mut setup = Setup::new();
    setup.options.miss_status = http::StatusCode::BAD_GATEWAY;
    let server = setup.serve(vec![]);
    assert_eq!(server.get("http://h/").status, 502);
}

#[test]
fn entries_for_other_systems_are_neither_used_nor_unused() {
    let mut setup = Setup::new();
    setup.options.system = "x86_64-linux".to_owned();
    let server = setup.serve(vec![Entry { systems: vec!["aarch64-darwin".to_owned()], ..get("http://h/a", "x") }]);
    let answer = server.get("http://h/a");
    assert!(answer.text().contains("recorded only for aarch64-darwin"), "{}", answer.text());
    assert!(server.report().unused.is_empty());
}
