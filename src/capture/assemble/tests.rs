use super::*;
use crate::inventory::{Headers, UrlMatch, request_body::BodyForm};

/// Exchanges come in the order in which they are made here; each answer is there before the next request.
#[derive(Default)]
struct Build(Vec<Exchange>);

impl Build {
    fn ask(mut self, method: &Method, url: &str, outcome: Outcome) -> Self {
        let arrival = self.0.len() as u64;
        let (method, url) = (method.clone(), url.parse().unwrap());
        self.0.push(Exchange {
            arrival,
            answered: arrival + 1,
            method,
            url,
            bared_of: vec![],
            request_body: vec![],
            accept: None,
            outcome,
        });
        self
    }

    fn get(self, url: &str, outcome: Outcome) -> Self {
        self.ask(&Method::GET, url, outcome)
    }

    fn entries(self) -> Vec<Entry> {
        assemble(self.0, &Inventory::default()).entries.into_iter().map(|(entry, _)| entry).collect()
    }
}

fn answer(status: u16, content: &str) -> Outcome {
    let body = (!content.is_empty()).then(|| RecordedBody {
        hash: NixHash::sha256(content.as_bytes()),
        size: content.len() as u64,
        bytes: RecordedBytes::Inline(content.as_bytes().to_vec()),
    });
    Outcome::Answered(Answer { status, headers: Headers::default(), varied: vec![], anonymous: true, body })
}

fn redirect(status: u16, location: &str) -> Outcome {
    let Outcome::Answered(mut redirect) = answer(status, "") else { unreachable!() };
    redirect.headers.append("location", location).unwrap();
    Outcome::Answered(redirect)
}

fn summary(entries: &[Entry]) -> Vec<String> {
    let hops = |entry: &Entry| entry.redirects.iter().map(|hop| format!(" {}", hop.location)).collect::<String>();
    entries.iter().map(|e| format!("{} {} {}{}", e.method, e.url.path(), e.status, hops(e))).collect()
}

#[test]
fn request_bodies_are_compared_as_the_inventory_and_git_have_it() {
    let digest = |form, bytes: &[u8]| BodyDigest { form, ..BodyDigest::of_bytes(bytes) };
    let forms = vec![digest(BodyForm::Bytes, b"raw"), digest(BodyForm::Git, b"git"), digest(BodyForm::Json, b"json")];
    let posted = |url: &str| {
        let mut build = Build::default().ask(&Method::POST, url, answer(200, "x"));
        build.0[0].request_body = forms.clone();
        build.0
    };
    let entry = Entry { method: Method::POST, ..Entry::get("http://h/api".parse().unwrap()) };
    let as_json = Entry { request_body: Some(digest(BodyForm::Json, b"another")), ..entry };
    let below = Entry { url_match: UrlMatch::Prefix, url: "http://h/all/".parse().unwrap(), ..as_json.clone() };
    let as_bytes = Entry { url: "http://h/both".parse().unwrap(), ..as_json.clone() };
    let also_bytes = Entry { request_body: Some(forms[0]), ..as_bytes.clone() };
    let inventory = Inventory { entries: vec![as_json, below, as_bytes, also_bytes], ..Inventory::default() };
    for (url, form) in [
        ("http://h/both", BodyForm::Bytes),
        ("http://h/api", BodyForm::Json),
        ("http://h/all/of/it", BodyForm::Json),
        ("http://h/other", BodyForm::Bytes),
        ("http://h/r.git/git-upload-pack", BodyForm::Git),
    ] {
        let assembled = assemble(posted(url), &inventory);
        let chosen = assembled.entries[0].0.request_body;
        assert_eq!(chosen, forms.iter().copied().find(|digest| digest.form == form), "{url}");
    }
}

#[test]
fn a_followed_redirect_is_one_entry_fetched_from_its_first_url() {
    let build = Build::default()
        .get("http://h/a.tar", redirect(302, "/b"))
        .get("http://h/b", redirect(307, "http://cdn/c?sig=1"))
        .get("http://cdn/c?sig=1", answer(200, "x"));
    let entries = build.entries();
    assert_eq!(summary(&entries), ["GET /a.tar 200 /b http://cdn/c?sig=1"]);
    let body = entries[0].body.as_ref().unwrap();
    assert_eq!(body.source, Source::Fetch(None));
    assert_eq!(body.name.as_ref().unwrap().as_str(), "a.tar");
}

#[test]
fn a_redirect_that_is_a_hop_of_a_chain_is_in_it_alone() {
    let build = Build::default()
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", redirect(307, "/c"))
        .get("http://h/c", answer(200, "x"))
        // The parts of one download: their last requests are no exchanges of their own.
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", redirect(307, "/c"));
    assert_eq!(summary(&build.entries()), ["GET /a 200 /b /c"]);
    let build = Build::default()
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", answer(200, "x"))
        .get("http://h/b2", redirect(302, "/c"));
    assert_eq!(summary(&build.entries()), ["GET /a 200 /b", "GET /b2 302"]);
}

#[test]
fn parallel_downloads_through_one_redirect_are_joined_each_with_its_own() {
    let mut build = Build::default()
        .get("http://h/a", redirect(302, "/c"))
        .get("http://h/b", redirect(302, "/c"))
        .get("http://h/c", answer(200, "x"))
        .get("http://h/c", answer(200, "x"));
    build.0[0].answered = 2;
    assert_eq!(summary(&build.entries()), ["GET /a 200 /c", "GET /b 200 /c"]);
}

#[test]
fn chains_that_replay_could_not_tell_apart_are_plain_redirects_and_a_sequence() {
    let direct = Build::default()
        .get("http://h/b", answer(200, "1"))
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", answer(200, "2"));
    assert_eq!(summary(&direct.entries()), ["GET /b 200", "GET /a 302", "GET /b 200"]);
    let two = Build::default()
        .get("http://h/a", redirect(302, "/c"))
        .get("http://h/c", answer(200, "1"))
        .get("http://h/b", redirect(302, "/c"))
        .get("http://h/c", answer(200, "2"));
    assert_eq!(summary(&two.entries()), ["GET /a 302", "GET /c 200", "GET /b 302", "GET /c 200"]);
    let itself = Build::default().get("http://h/a", redirect(302, "/a")).get("http://h/a", answer(200, "x"));
    assert_eq!(summary(&itself.entries()), ["GET /a 302", "GET /a 200"]);
    let retried = Build::default()
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", answer(503, "busy"))
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", answer(200, "x"));
    assert_eq!(summary(&retried.entries()), ["GET /a 200 /b"]);
}

#[test]
fn redirects_that_nobody_followed_or_that_lead_round_stay_plain() {
    let alone = Build::default().get("http://h/a", redirect(302, "/b"));
    assert_eq!(summary(&alone.entries()), ["GET /a 302"]);
    let round = Build::default()
        .get("http://h/a", redirect(302, "/b"))
        .get("http://h/b", redirect(302, "/a"))
        .get("http://h/a", redirect(302, "/b"));
    assert_eq!(summary(&round.entries()), ["GET /a 302", "GET /b 302"]);
    let both = Build::default()
        .get("http://h/a", redirect(302, "/b"))
        .ask(&Method::GET, "http://h/a", redirect(302, "/b"))
        .get("http://h/b", answer(200, "x"));
    assert_eq!(summary(&both.entries()), ["GET /a 200 /b"]);
}

#[test]
fn a_post_is_followed_by_a_get_after_303_and_by_itself_after_307() {
    let see_other =
        Build::default().ask(&Method::POST, "http://h/a", redirect(303, "/b")).get("http://h/b", answer(200, "x"));
    let entries = see_other.entries();
    assert_eq!(summary(&entries), ["POST /a 200 /b"]);
    assert!(matches!(entries[0].body.as_ref().unwrap().source, Source::Text(_)));
    let temporary = Build::default()
        .ask(&Method::POST, "http://h/a", redirect(307, "/b"))
        .get("http://h/b", answer(200, "y"))
        .ask(&Method::POST, "http://h/b", answer(200, "x"));
    assert_eq!(summary(&temporary.entries()), ["POST /a 200 /b", "GET /b 200"]);
}

#[test]
fn retries_and_repetitions_are_one_entry_and_changes_are_a_sequence() {
    let build = Build::default()
        .get("http://h/a", answer(503, "busy"))
        .get("http://h/a", answer(200, "1"))
        .get("http://h/a", answer(200, "1"))
        .get("http://h/a", answer(200, "2"))
        .get("http://h/gone", answer(404, "no"))
        .get("http://h/down", answer(503, "busy"));
    let entries = build.entries();
    assert_eq!(summary(&entries), ["GET /a 200", "GET /a 200", "GET /gone 404", "GET /down 503"]);
    assert_eq!(entries[0].body.as_ref().unwrap().source, Source::Text("1".to_owned()));
}

#[test]
fn a_head_is_kept_only_where_there_is_no_get() {
    let build = Build::default()
        .ask(&Method::HEAD, "http://h/a", answer(200, ""))
        .ask(&Method::HEAD, "http://h/b", answer(200, ""))
        .get("http://h/a", answer(200, "x"));
    assert_eq!(summary(&build.entries()), ["HEAD /b 200", "GET /a 200"]);
}

#[test]
fn what_needed_credentials_is_left_out_with_its_challenge() {
    let private = || Outcome::LeftOut(LeftOut::NeededCredentials("authorization".to_owned()));
    let build = Build::default()
        .get("http://h/a", answer(401, "who?"))
        .get("http://h/a", private())
        .get("http://h/b", redirect(302, "/a"))
        .get("http://h/a", private());
    let assembled = assemble(build.0, &Inventory::default());
    assert!(assembled.entries.is_empty());
    let left_out: Vec<_> = assembled.left_out.iter().map(|omission| omission.url.path()).collect();
    assert_eq!(left_out, ["/a", "/b"]);
}

#[test]
fn an_error_for_everybody_else_does_not_stand_for_a_private_answer() {
    let private = || Outcome::LeftOut(LeftOut::NeededCredentials("authorization".to_owned()));
    let after = |outcome: Outcome| {
        let build = Build::default().get("http://h/a", private()).get("http://h/a", outcome);
        let assembled = assemble(build.0, &Inventory::default());
        (assembled.left_out.len(), assembled.entries.len())
    };
    for status in [401, 403, 404] {
        assert_eq!(after(answer(status, "no")), (1, 0), "{status}");
    }
    assert_eq!(after(answer(200, "for all")), (0, 1));
}

#[test]
fn bodies_that_cannot_be_fetched_again_are_text_or_a_file() {
    let source = |content: &str| {
        let entries = Build::default().get("http://h/a", answer(404, content)).entries();
        entries[0].body.as_ref().unwrap().source.clone()
    };
    assert_eq!(source("line\r\n\tä"), Source::Text("line\r\n\tä".to_owned()));
    for content in ["\u{1b}[0m", "a\0", &"x".repeat(4097)] {
        assert!(matches!(source(content), Source::File(name) if name.ends_with("-a")), "{content:?}");
    }
}

#[test]
fn a_failure_is_said_unless_a_later_answer_made_it_good() {
    let failed = || Outcome::LeftOut(LeftOut::Failed("reset".to_owned()));
    let left_out = |build: Build| assemble(build.0, &Inventory::default()).left_out.len();
    assert_eq!(left_out(Build::default().get("http://h/a", failed()).get("http://h/a", answer(200, "x"))), 0);
    assert_eq!(left_out(Build::default().get("http://h/a", answer(200, "x")).get("http://h/a", failed())), 1);
    let chain = || Build::default().get("http://h/a", redirect(302, "/b")).get("http://h/b", failed());
    assert_eq!(left_out(chain()), 1);
    assert_eq!(left_out(chain().get("http://h/a", redirect(302, "/b")).get("http://h/b", answer(200, "x"))), 0);
}

#[test]
fn what_another_request_was_answered_makes_no_omission_good() {
    let failed = || Outcome::LeftOut(LeftOut::Failed("cut off".to_owned()));
    let left_out = |bodies: [&[u8]; 2], second: Outcome| {
        let build = Build::default().ask(&Method::POST, "http://h/api", failed());
        let mut exchanges = build.ask(&Method::POST, "http://h/api", second).0;
        for (exchange, body) in exchanges.iter_mut().zip(bodies) {
            exchange.request_body = vec![BodyDigest::of_bytes(body)];
        }
        assemble(exchanges, &Inventory::default()).left_out.len()
    };
    assert_eq!(left_out([b"a", b"a"], answer(200, "x")), 0, "a retry made it good");
    assert_eq!(left_out([b"a", b"b"], answer(200, "x")), 1);
    assert_eq!(left_out([b"a", b"a"], failed()), 1, "each once");
    let unchanged = |first: Outcome| {
        let build = Build::default().get("http://h/a", first);
        let build = build.get("http://h/a", Outcome::LeftOut(LeftOut::NotWhole(304)));
        assemble(build.0, &Inventory::default()).left_out.len()
    };
    assert_eq!(unchanged(answer(200, "x")), 0, "what it was before is recorded");
    assert_eq!(unchanged(failed()), 2);
}
