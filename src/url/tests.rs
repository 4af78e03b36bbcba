use super::*;

fn normalized(text: &str) -> String {
    text.parse::<NormalizedUrl>().unwrap().to_string()
}

#[test]
fn spellings_of_one_url_become_one_text() {
    for spelling in [
        "http://example.org/~a/b?x=1",
        "HTTP://EXAMPLE.org:80/%7Ea/b?x=1",
        "http://example.org./~a/./c/../b?x=1#fragment",
        "http://user:secret@example.org/%7ea/b?x=%31",
    ] {
        assert_eq!(normalized(spelling), "http://example.org/~a/b?x=1", "{spelling}");
    }
    assert_eq!(normalized("https://[0:0::1]:443"), "https://[::1]/");
    assert_eq!(normalized("http://bücher.example/"), "http://xn--bcher-kva.example/");
    assert_eq!(normalized("http://h/%zz%2f%"), "http://h/%zz%2F%");
}

#[test]
fn each_part_has_one_spelling() {
    for (spelling, expected) in [
        // Scheme, host and port: RFC 3986 §6.2.2.1 and §6.2.3.
        ("HtTpS://ExAmPlE.OrG", "https://example.org/"),
        ("https://h:443/", "https://h/"),
        ("http://h:80/", "http://h/"),
        ("http://h:/", "http://h/"),
        ("http://h:080/", "http://h/"),
        ("http://h:443/", "http://h:443/"),
        ("https://h:80/", "https://h:80/"),
        ("http://h.:8080/", "http://h:8080/"),
        ("http://%65xample.org/", "http://example.org/"),
        // The host parser of the URL standard: IDNA, IPv4 and IPv6.
        ("http://BÜCHER.example/", "http://xn--bcher-kva.example/"),
        ("http://b%C3%BCcher.example/", "http://xn--bcher-kva.example/"),
        ("http://xn--bcher-kva.example./", "http://xn--bcher-kva.example/"),
        ("http://日本語。jp/", "http://xn--wgv71a119e.jp/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1./", "http://127.0.0.1/"),
        ("http://[::FFFF:7f00:1]/", "http://[::ffff:7f00:1]/"),
        // Dot segments: RFC 3986 §5.2.4 and §6.2.2.3; encoded ones in the URL standard too.
        ("http://h/a/./b/../c", "http://h/a/c"),
        ("http://h/a/%2e/b/%2E%2e/c", "http://h/a/c"),
        ("http://h/a/.%2e/c", "http://h/c"),
        ("http://h/a/..", "http://h/"),
        ("http://h/a/.", "http://h/a/"),
        ("http://h/../../a", "http://h/a"),
        ("http://h/a//../b", "http://h/a/b"),
        ("http://h/a/...", "http://h/a/..."),
        ("http://h/?a=/../b", "http://h/?a=/../b"),
        // Percent-encoding: RFC 3986 §6.2.2.1 and §6.2.2.2.
        ("http://h/%41%7a%30%2D%2e%5f%7E?%41%7a%30%2D%2e%5f%7E", "http://h/Az0-._~?Az0-._~"),
        ("http://h/%c3%bc?%c3%bc", "http://h/%C3%BC?%C3%BC"),
        ("http://h/ü?ü", "http://h/%C3%BC?%C3%BC"),
        ("http://h/a b", "http://h/a%20b"),
        ("http://h/%252e%2541", "http://h/%252e%2541"),
        ("http://h/%ff%00", "http://h/%FF%00"),
        // A backslash is a character of a name, whatever a browser makes of it before it asks.
        ("http://h/a\\b", "http://h/a%5Cb"),
        ("http://h/a%5cb", "http://h/a%5Cb"),
    ] {
        assert_eq!(normalized(spelling), expected, "{spelling}");
    }
}

#[test]
fn a_percent_sign_that_starts_no_code_never_becomes_one() {
    for (spelling, expected) in [
        ("http://h/%%34%31", "http://h/%%341"),
        ("http://h/%4%31", "http://h/%4%31"),
        ("http://h/%%341", "http://h/%%341"),
        ("http://h/%4%67", "http://h/%4g"),
        ("http://h/%%7e%31", "http://h/%~%31"),
        ("http://h/%-%2d%31", "http://h/%--1"),
        ("http://h/%%%41", "http://h/%%%41"),
        ("http://h/?%%34%31", "http://h/?%%341"),
    ] {
        assert_eq!(normalized(spelling), expected, "{spelling}");
        assert_eq!(normalized(expected), expected);
    }
}

#[test]
fn a_reference_is_resolved_as_rfc_3986_says() {
    let base: NormalizedUrl = "http://h/a/b?c".parse().unwrap();
    for (reference, expected) in [
        ("", "http://h/a/b?c"),
        ("?d", "http://h/a/b?d"),
        ("../d", "http://h/d"),
        ("//o/d", "http://o/d"),
        ("/d\\e?\\", "http://h/d%5Ce?\\"),
        ("\\d", "http://h/a/%5Cd"),
        ("?//a\\b", "http://h/a/b?//a\\b"),
        ("/d/http://o\\e", "http://h/d/http://o%5Ce"),
        ("https://o.:443/%7e#f", "https://o/~"),
    ] {
        assert_eq!(base.join(reference).unwrap().as_str(), expected, "{reference}");
    }
}

#[test]
fn urls_that_servers_tell_apart_stay_apart() {
    for (a, b) in [
        ("http://h/a", "https://h/a"),
        ("http://h/a", "http://h:8080/a"),
        ("http://h/a", "http://h/A"),
        ("http://h/a", "http://h/a/"),
        ("http://h/a", "http://h//a"),
        ("http://h/a", "http://h/a?"),
        ("http://h/a%2Fb", "http://h/a/b"),
        ("http://h/a%2fb", "http://h/a%252fb"),
        ("http://h/a%5Cb", "http://h/a/b"),
        ("http://h/a\\b", "http://h/a/b"),
        ("http://h/a", "http://h/a//"),
        ("http://h/a", "http://h/a;"),
        ("http://h/a;b", "http://h/a%3Bb"),
        ("http://h/a+b", "http://h/a%20b"),
        ("http://h/a+b", "http://h/a%2Bb"),
        ("http://h/a:b@c", "http://h/a%3Ab%40c"),
        ("http://h/a%3Fb", "http://h/a?b"),
        ("http://h/a%23b", "http://h/a"),
        ("http://h/%C3%BC", "http://h/u%CC%88"),
        ("http://h/%zz", "http://h/%25zz"),
        ("http://h/%2F..", "http://h/"),
        ("http://h/a%2E%2Fb", "http://h/a/b"),
        ("http://h/?", "http://h/?&"),
        ("http://h/?a", "http://h/?a="),
        ("http://h/?a", "http://h/?a&"),
        ("http://h/?a&b", "http://h/?a&&b"),
        ("http://h/?a&b", "http://h/?a;b"),
        ("http://h/?a=1&a=2", "http://h/?a=2&a=1"),
        ("http://h/?a+b", "http://h/?a%20b"),
        ("http://h/?a+b", "http://h/?a%2Bb"),
        ("http://h/?a%26b", "http://h/?a&b"),
        ("http://h/?a%3D1", "http://h/?a=1"),
        ("http://h/?a%2F", "http://h/?a/"),
        ("http://h/?A", "http://h/?a"),
        ("http://h/?a?", "http://h/?a"),
        ("http://h.test/", "http://www.h.test/"),
        ("http://h/?a=1&b=2", "http://h/?b=2&a=1"),
    ] {
        assert_ne!(normalized(a), normalized(b));
    }
}

#[test]
fn other_schemes_and_broken_urls_are_refused() {
    for text in [
        "ftp://h/a",
        "/path",
        "http://",
        "http://./",
        "http://h../",
        "http://h\\a",
        "http://a b/",
        "file:///etc/passwd",
    ] {
        assert!(text.parse::<NormalizedUrl>().is_err(), "{text}");
    }
}

#[test]
fn what_people_see_has_no_userinfo() {
    for (target, shown) in [
        ("http://u:s3cret@h.test/@scope/a?b@c", "http://h.test/@scope/a?b@c"),
        ("http://u:s3@cret@h.test:1", "http://h.test:1"),
        ("ftp://u:s3cret@h.test?x", "ftp://h.test?x"),
        ("//u:s3cret@h.test/a", "//h.test/a"),
        ("u:s3cret@h.test:80", "h.test:80"),
        ("u:s3/cret@h.test", "h.test"),
        ("u:s3//cret@h.test", "h.test"),
        ("/@scope/a", "/@scope/a"),
        ("*", "*"),
    ] {
        assert_eq!(without_userinfo(target), shown, "{target}");
    }
    for text in ["ftp://u:s3cret@h/", "http://u:s3cret@h h/", "http://u:s3cret@./"] {
        assert!(!text.parse::<NormalizedUrl>().unwrap_err().to_string().contains("s3cret"), "{text}");
    }
}

#[test]
fn ignored_query_parameters_go_and_the_rest_keeps_its_order() {
    let without = |text: &str| {
        let url: NormalizedUrl = text.parse().unwrap();
        url.without_query_parameters(|name| name.starts_with("X-Amz-")).to_string()
    };
    assert_eq!(without("http://h/a?z=1&X-Amz-Date=2&b=3"), "http://h/a?z=1&b=3");
    assert_eq!(without("http://h/a?X%2DAmz-Date=2"), "http://h/a");
    assert_eq!(without("http://h/a?"), "http://h/a?");
}

#[test]
fn the_store_path_name_is_the_last_segment_decoded() {
    let name = |text: &str| text.parse::<NormalizedUrl>().unwrap().store_path_name().to_string();
    assert_eq!(name("http://h/a/foo-1.0.tar.gz?raw=1"), "foo-1.0.tar.gz");
    assert_eq!(name("http://h/a%20b%2Fc"), "a-b-c");
    assert_eq!(name("http://h/dir/"), "source");
    assert_eq!(name("http://h/.hidden"), "hidden");
    assert_eq!(name("http://h"), "source");
}

proptest::proptest! {
    #[test]
    fn normalising_twice_changes_nothing(rest in "([ -~]|%[0-9a-f]{0,2}){0,40}") {
        if let Ok(url) = format!("http://example.org/{rest}").parse::<NormalizedUrl>() {
            proptest::prop_assert_eq!(url.as_str().parse::<NormalizedUrl>(), Ok(url.clone()));
        }
    }

    #[test]
    fn what_is_taken_as_normal_is_what_parsing_would_make_of_it(
        text in "https?://([a-z0-9.-]{1,8}|xn--[a-z0-9-]{1,6}|h|0x1|[A-Z_%@ü])(:[0-9]{0,6})?(/([ -~ü]|[a-z]{3}|%[0-9A-F]{2}|%[0-9a-f]?|\\.{1,2}|/){0,8}){0,2}(\\?([ -~]|%[0-9A-F]{2}){0,8})?"
    ) {
        if is_normal(&text) {
            let parsed = Url::parse(&with_encoded_backslashes(&text)).map_err(|error| error.to_string());
            let slowly = parsed.and_then(|url| NormalizedUrl::try_from(url).map_err(|error| error.to_string()));
            proptest::prop_assert_eq!(slowly, Ok(NormalizedUrl(text)));
        }
    }
}

#[test]
fn ordinary_urls_are_seen_to_be_normal_and_others_are_not() {
    for text in [
        "http://h/",
        "https://repo1.maven.org:8443/maven2/a/b-1.0_x~y.jar;v=1?a=b&c=%2F,(d)*!$+:@/?",
        "https://packages.example.org/@scope%2Fname/it's",
    ] {
        assert!(is_normal(text), "{text}");
    }
    for text in [
        "http://h",
        "HTTP://h/",
        "http://H/",
        "http://h./",
        "http://h:80/",
        "http://h:/",
        "http://h:080/",
        "http://h:70000/",
        "http://1.2.3.4/",
        "http://a.0x1/",
        "http://xn--a/",
        "http://u@h/",
        "http://[::1]/",
        "http://h/./a",
        "http://h/a/..",
        "http://h/%7E",
        "http://h/%2f",
        "http://h/%",
        "http://h/a b",
        "http://h/a\\b",
        "http://h/#a",
        "http://h/?'",
        "ftp://h/",
    ] {
        assert!(!is_normal(text), "{text}");
    }
}
