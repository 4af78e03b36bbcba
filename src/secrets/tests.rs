use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256, Sha512};

use super::*;

/// Characters that look random and are the same in every run.
fn random(seed: u64, length: usize, alphabet: &[u8]) -> String {
    let bytes = (0u64..).flat_map(|block| Sha512::digest([seed, block].map(u64::to_le_bytes).concat()));
    bytes.take(length).map(|byte| char::from(alphabet[usize::from(byte) % alphabet.len()])).collect()
}

const LETTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[test]
fn every_kind_of_key_is_found_wherever_it_stands() {
    for seed in 0..200 {
        let letters = |length| random(seed, length, LETTERS);
        let hex = |length| random(seed, length, b"0123456789abcdef");
        let uuid = hex(32);
        let parts = [&uuid[..8], &uuid[8..12], &uuid[12..16], &uuid[16..20], &uuid[20..]];
        let of_anaconda = format!("ab-{}", parts.join("-"));
        let in_path = format!("https://conda.test/t/{of_anaconda}/main/linux-64/repodata.json");
        assert_eq!(find(&in_path).map(|(found, _)| found), Some("a token of Anaconda"), "{in_path}");
        assert!(!redacted(&in_path).contains(&of_anaconda), "{in_path}");
        let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n", letters(64));
        let keys = [
            ("a private key", pem.replace('\n', "\\n")),
            ("a private key", pem.replace("RSA ", "").replace("KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\n\n")),
            ("a private key", pem),
            ("a token of GitHub", format!("ghp_{}", letters(36))),
            ("a token of GitHub", format!("github_pat_{}_{}", letters(22), letters(59))),
            ("a token of GitLab", format!("glpat-{}", letters(20))),
            ("an access key of Amazon", format!("AKIA{}", random(seed, 16, b"234567ABCDEFGHIJKLMNOPQRSTUVWXYZ"))),
            ("a token of Slack", format!("xoxb-{}-{}", random(seed, 12, b"0123456789"), letters(24))),
            ("a token of npm", format!("npm_{}", letters(36))),
            ("a token of PyPI", format!("pypi-AgEIcHlwaS5vcmc{}", letters(130))),
            ("a token of crates.io", format!("cio{}", letters(32))),
            ("a token of RubyGems", format!("rubygems_{}", hex(48))),
            ("a token of Docker", format!("dckr_pat_{}", letters(27))),
            ("a token of Hugging Face", format!("hf_{}", letters(34))),
            ("a key of JFrog", format!("AKCp{}", letters(69))),
            ("an API key (`sk-…`)", format!("sk-{}", letters(48))),
            ("an API key (`sk-…`)", format!("sk-ant-api03-{}", letters(80))),
            ("a password in a URL", format!("https://user:{}@", letters(12))),
        ];
        for (what, key) in keys {
            for text in [format!("{key}h"), format!("token: \"{key}example.org\""), format!("a=1&k={key}h/x\n")] {
                // What a URL ends its userinfo with is a host; what ends a token is something else.
                let text = if what.contains("URL") { text } else { text.replace(&key, &format!("{key}\n")) };
                assert_eq!(find(&text).map(|(found, _)| found), Some(what), "{text}");
                assert!(!redacted(&text).contains(&key), "{text}");
            }
        }
    }
}

/// 10,000 of each: what inventories are full of.
#[test]
fn hashes_ids_and_signatures_are_no_keys() {
    for seed in 0..10_000u64 {
        let digest = Sha256::digest(seed.to_le_bytes());
        let long = Sha512::digest(seed.to_le_bytes());
        let (hex, base64) = (HEXLOWER.encode(&digest), BASE64.encode(&digest));
        let signature = BASE64URL_NOPAD.encode(&long);
        let access_key = format!("AKIA{}", random(seed, 16, b"234567ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
        for text in [
            hex.clone(),
            base64.clone(),
            format!("sha256-{base64}"),
            format!("sha512-{}", BASE64.encode(&long)),
            signature.clone(),
            format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32]),
            format!("\"{hex}-12\""),
            format!(
                "https://bucket.s3.amazonaws.com/{hex}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={access_key}%2F20240101%2F\
                 us-east-1%2Fs3%2Faws4_request&X-Amz-Date=20240101T000000Z&X-Amz-Signature={hex}"
            ),
            format!(
                "https://h.test/a?AWSAccessKeyId={access_key}&Expires=1700000000&Signature={}",
                base64.replace('+', "%2B")
            ),
            format!(
                "https://h.test/a?se=2024-01-01T00%3A00%3A00Z&sp=r&sv=2018-11-09&sr=b&sig={}",
                base64.replace('/', "%2F")
            ),
            format!(
                "https://cdn.test/a?Expires=1700000000&Signature={signature}&Key-Pair-Id=K{}",
                &hex[..13].to_uppercase()
            ),
            format!("https://h.test/a?jwt=eyJhbGciOiJIUzI1NiJ9.{signature}.{}", &signature[..43]),
        ] {
            assert_eq!(find(&text), None, "{text}");
        }
    }
}

#[test]
fn examples_in_documents_are_no_keys() {
    for text in [
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "npm_000000000000000000000000000000000000",
        "hf_transformers_and_datasets_and_more_words",
        "cioppino",
        "https://h.test/t/ab-00000000-0000-0000-0000-000000000000/x",
        "npm_config_registry_and_other_variables_of_npm",
        "AKIAXXXXXXXXXXXXXXXX",
        "AKIAIOSFODNN7EXAMPLE",
        "glpat-your-token-goes-here-please",
        "sk-this-is-a-long-name-of-a-css-class-in-a-stylesheet",
        "risk-averse-and-desk-bound-people-and-their-many-words",
        "https://user:password@example.org/",
        "https://user:pass@example.org/",
        "https://example.org:8443/@scope/name",
        "https://user@example.org/",
        "-----BEGIN PRIVATE KEY-----",
        "a file with -----BEGIN PRIVATE KEY----- in its first line",
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE0123456789abcdefghijklmnopqrs\n",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ0123456789abcdefghijklmnopqrstuvwxyzABCDEF\n",
    ] {
        assert_eq!(find(text), None, "{text}");
    }
}

#[test]
fn every_part_of_an_entry_is_looked_at_and_what_is_fetched_is_not() {
    let key = format!("ghp_{}", random(7, 36, LETTERS));
    let entry = || Entry::get("https://h.test/a".parse().unwrap());
    let hop = |location: &str, headers| crate::inventory::Hop { status: 302, location: location.to_owned(), headers };
    let headers = || {
        let mut headers = crate::inventory::Headers::default();
        headers.append("x-key", &key).unwrap();
        headers
    };
    let place = |entry: &Entry| in_entry(entry).map(|suspect| suspect.place);
    let with_url = Entry { url: format!("https://h.test/a?k={key}").parse().unwrap(), ..entry() };
    assert_eq!(place(&with_url).as_deref(), Some("the URL"));
    assert_eq!(place(&Entry { headers: headers(), ..entry() }).as_deref(), Some("header `x-key`"));
    let location = format!("https://h.test/{key}/b");
    let redirects = vec![hop(&location, Default::default())];
    assert_eq!(place(&Entry { redirects, ..entry() }).as_deref(), Some("a redirect"));
    assert_eq!(place(&Entry { redirects: vec![hop("/b", headers())], ..entry() }).as_deref(), Some("header `x-key`"));
    let request_headers = [("x-a".to_owned(), key.clone())].into();
    assert_eq!(place(&Entry { request_headers, ..entry() }).as_deref(), Some("request header `x-a`"));
    let body = |source| Some(crate::inventory::Body { hash: None, size: None, name: None, source });
    let text = Entry { body: body(Source::Text(format!("{{\"k\": \"{key}\"}}"))), ..entry() };
    assert_eq!(place(&text).as_deref(), Some("the body"));
    assert_eq!(place(&Entry { body: body(Source::Fetch(None)), ..entry() }), None);
    assert!(in_bytes(key.as_bytes()).is_some() && in_bytes(&[&[0xff], key.as_bytes()].concat()).is_none());
}
