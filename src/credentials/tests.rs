use super::*;

fn fields(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn bare(query: &str) -> (String, Option<String>) {
    let url = format!("http://h/a?{query}").parse().unwrap();
    let bared = bared(&url, false, &Secrets::default());
    (bared.url.query().unwrap_or_default().to_owned(), bared.name)
}

#[test]
fn fields_are_known_by_their_names_in_every_spelling() {
    for name in [
        "authorization",
        "cookie",
        "private-token",
        "job-token",
        "x-api-key",
        "apikey",
        "x-plex-token",
        "x-auth-token",
        "x-nuget-apikey",
        "x-my-secret",
        "x-auth-key",
        "x-ms-authorization-auxiliary",
        "x-jfrog-art-api",
        "x-csrf-token",
    ] {
        assert!(is_field(name), "{name}");
    }
    for name in [
        "accept",
        "npm-auth-type",
        "npm-session",
        "sec-websocket-key",
        "access-control-allow-credentials",
        "access-control-expose-headers",
        "x-ms-continuationtoken",
        "x-amz-content-sha256",
        "x-goog-api-client",
        "etag",
        "www-authenticate",
        "git-protocol",
        "x-conan-server-capabilities",
        "x-nuget-session-id",
    ] {
        assert!(!is_field(name), "{name}");
    }
    assert_eq!(in_fields(&fields(&[("accept", "x"), ("cookie", "a"), ("authorization", "b")])), Some("authorization"));
    assert_eq!(in_fields(&fields(&[("accept", "x"), ("x-plex-token", "a")])), Some("x-plex-token"));
    assert_eq!(in_fields(&fields(&[("accept", "x")])), None);
}

#[test]
fn parameters_are_taken_out_of_a_url_in_every_spelling() {
    for (query, left, name) in [
        ("token=x&b=1", "b=1", "token"),
        ("b=1&TOKEN=x", "b=1", "TOKEN"),
        ("access%2Dtoken=x", "", "access-token"),
        ("auth_token[]=x", "", "auth_token[]"),
        ("a=1;private_token=x&b", "b", "private_token"),
        ("a=1&amp;token=x", "a=1", "token"),
        ("access_token%3Dx", "", "access_token"),
        ("to=http%3A%2F%2Fg%2F%3Fapi_key%3Dx", "", "api_key"),
        ("client_secret=x&password=y&z", "z", "client_secret"),
        ("key=AIzaSyA0123456789abcdefghijklmnopqrstu", "", "key"),
    ] {
        assert_eq!(bare(query), (left.to_owned(), Some(name.to_owned())), "{query}");
    }
    for query in [
        "",
        "token",
        "token=",
        "b=token",
        "key=linux-x86_64",
        "key=0xDEADBEEF12345678",
        "page_token=CAoQAA",
        "auth=basic",
        "continuation-token=abc",
        "X-Amz-Security-Token=x&X-Amz-Credential=AKIA&X-Amz-Signature=y",
        "sig=abc&se=1",
        "AWSAccessKeyId=x&Signature=y",
        "session=stable",
    ] {
        assert_eq!(bare(query), (query.to_owned(), None), "{query}");
    }
}

#[test]
fn what_an_origin_sent_the_client_to_is_its_own_unless_the_client_showed_it_before() {
    let url: NormalizedUrl = "http://h.test/b?token=s3cret-value".parse().unwrap();
    let mut secrets = Secrets::default();
    assert_eq!(bared(&url, true, &secrets).name, None);
    secrets.add(bared(&url, false, &secrets).secrets);
    assert_eq!(bared(&url, true, &secrets).url.as_str(), "http://h.test/b");
    let in_path = bared(&"http://h.test/s3cret-value/x?a".parse().unwrap(), false, &secrets);
    assert_eq!(in_path.url.as_str(), "http://h.test/buildproxy-dummy-token/x?a");
    assert!(in_path.name.is_some());
}

#[test]
fn what_clients_show_is_found_where_it_comes_back() {
    let shown = [
        ("authorization", "Bearer t0ken-of-bearer", "t0ken-of-bearer"),
        ("authorization", "token t0ken-of-github", "t0ken-of-github"),
        ("authorization", "Basic dXNlcjpwYXNzd29yZCB4", "password x"),
        ("authorization", "Basic dXNlcjpwYXNzd29yZCB4", "dXNlcjpwYXNzd29yZCB4"),
        ("authorization", "Basic dDBrZW4tb2YtdXNlcjp4LW9hdXRoLWJhc2lj", "t0ken-of-user"),
        ("cookie", "lang=en; sid=0123456789abcdef", "0123456789abcdef"),
        ("x-api-key", "a key of words", "a key of words"),
        ("referer", "http://h/?private_token=t0ken-of-referer", "t0ken-of-referer"),
    ];
    for (name, value, secret) in shown {
        let mut secrets = Secrets::default();
        secrets.add(secrets_in_fields(&fields(&[(name, value)])));
        let replaced = secrets.replaced_in(&format!("<{secret}>, <{secret}>"));
        assert_eq!(replaced.as_deref(), Some("<buildproxy-dummy-token>, <buildproxy-dummy-token>"), "{value}");
    }
    let mut secrets = Secrets::default();
    secrets.add(["a/b c&longer", "short", "anonymous", "20240101", "correcthorsebattery"].map(str::to_owned));
    assert!(secrets.are_in("/x?y=a%2Fb%20c%26longer") && secrets.are_in("correcthorsebattery"));
    assert!(!["short", "anonymous", "20240101"].into_iter().any(|text| secrets.are_in(text)));
    // Hashes of logins, and cookies of words and paths, are in nothing else.
    let others = fields(&[
        ("cookie", "oraclelicense=accept-securebackup-cookie; to=/downloads/jdk/17/x"),
        ("authorization", "Digest a=\"b\", c=d"),
    ]);
    assert_eq!(secrets_in_fields(&others), [""; 0]);
}

#[test]
fn credentials_in_forms_and_json_are_known() {
    assert_eq!(secrets_in_body(b"user=x&password=p%20w&grant_type=password"), ["p w"]);
    assert_eq!(secrets_in_body(br#"[{"user": "x", "login": {"Password": "pw"}, "apiKey": "k"}]"#).len(), 2);
    assert_eq!(secrets_in_body(b"\xff\0"), [""; 0]);
}
