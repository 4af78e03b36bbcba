//! Spellings of hashes.

use buildproxy::{Encoding, FileIngestionMethod, HashAlgo, NixHash, StorePathName, build_ca_path};
use proptest::prelude::*;

use super::{evaluate, hashes, in_parallel, nix_lines, quoted, sample};

const ENCODINGS: [Encoding; 3] = [Encoding::Base16, Encoding::Nix32, Encoding::Base64];

#[test]
fn spellings_of_a_hash_are_those_of_nix_hash() {
    for algo in [HashAlgo::Sha256, HashAlgo::Sha512] {
        let hashes = sample(&hashes().prop_filter("algorithm", |hash| hash.algo() == algo), 500);
        let spelled = |encoding| hashes.iter().map(|hash| hash.to_bare(encoding)).collect::<Vec<_>>();
        let [hex, nix32, base64] = ENCODINGS.map(spelled);
        let sri: Vec<String> = hashes.iter().map(NixHash::to_string).collect();
        let convert = |to: &str, from: &[String]| {
            let options = ["--type", algo.as_str(), to];
            let arguments: Vec<&str> = options.into_iter().chain(from.iter().map(String::as_str)).collect();
            nix_lines("nix-hash", &arguments)
        };
        assert_eq!(convert("--to-base32", &hex), nix32);
        assert_eq!(convert("--to-base16", &nix32), hex);
        assert_eq!(convert("--to-base16", &base64), hex);
        for (to, expected) in [("to-sri", &sri), ("to-base64", &base64)] {
            let options = ["--extra-experimental-features", "nix-command", "hash", to, "--type", algo.as_str()];
            let arguments: Vec<&str> = options.into_iter().chain(nix32.iter().map(String::as_str)).collect();
            assert_eq!(&nix_lines("nix", &arguments), expected);
        }
        let parsed: Vec<NixHash> = sri.iter().map(|sri| sri.parse().unwrap()).collect();
        assert_eq!(parsed, hashes);
    }
}

/// The path of a fixed output whose hash is spelled as `text`, where nothing but `algo` says by which algorithm.
fn fixed_output(text: &str, algo: Option<HashAlgo>) -> String {
    let algo = algo.map_or("null".to_owned(), |algo| format!("\"{}\"", algo.as_str()));
    format!(
        r#"(derivation {{ name = "n"; outputHashMode = "flat"; outputHash = {}; outputHashAlgo = {algo};
             system = "none"; builder = "none"; }}).outPath"#,
        quoted(text)
    )
}

fn our_path(hash: &NixHash) -> String {
    build_ca_path(&StorePathName::new("n").unwrap(), FileIngestionMethod::Flat, hash).to_absolute_path()
}

#[test]
fn every_spelling_is_read_as_a_derivation_reads_it() {
    let mut cases = Vec::new();
    for hash in sample(&hashes(), 400) {
        let algo = Some(hash.algo());
        for encoding in ENCODINGS {
            cases.push((hash.to_bare(encoding), algo));
            cases.extend([None, algo].map(|algo| (hash.to_prefixed(encoding), algo)));
        }
        cases.push((hash.to_hex().to_uppercase(), algo));
        cases.extend([None, algo].map(|algo| (hash.to_string(), algo)));
        cases.push((hash.to_string().trim_end_matches('=').to_owned(), None));
    }
    let list: String = cases.iter().map(|(text, algo)| fixed_output(text, *algo) + "\n").collect();
    let theirs = evaluate(&format!("[ {list} ]")).unwrap();
    assert_eq!(theirs.len(), cases.len());
    for ((text, algo), theirs) in cases.iter().zip(theirs) {
        let ours = NixHash::parse_any(text, *algo).map(|hash| our_path(&hash));
        assert_eq!(ours, Ok(theirs), "{text} {algo:?}");
    }
}

/// A spelling with one thing changed: another character, one less, one more, another prefix.
fn changed_spellings() -> impl Strategy<Value = (String, Option<HashAlgo>)> {
    let characters = prop_oneof![
        Just(String::new()),
        "[0-9a-zA-Z+/=_.:-]",
        prop_oneof![Just("\n"), Just(" "), Just("=="), Just("é")].prop_map(str::to_owned)
    ];
    let spelling = (hashes(), 0..7usize).prop_map(|(hash, form)| match form {
        0..3 => (hash.to_bare(ENCODINGS[form]), Some(hash.algo())),
        3..6 => (hash.to_prefixed(ENCODINGS[form - 3]), None),
        _ => (hash.to_string(), None),
    });
    let algos = prop_oneof![Just(None), Just(Some(HashAlgo::Sha256)), Just(Some(HashAlgo::Sha512))];
    // Half of the changes are near the end, where padding and stray bits are.
    let place = prop_oneof![any::<prop::sample::Index>().prop_map(Ok), (1..4usize).prop_map(Err)];
    (spelling, algos, any::<bool>(), place, characters).prop_map(|((mut text, algo), other, keep, place, with)| {
        let place = match place {
            Ok(place) => place.index(text.len()),
            Err(from_end) => text.len() - from_end,
        };
        text.replace_range(place..=place, &with);
        (text, if keep { algo } else { other })
    })
}

#[test]
fn a_changed_spelling_is_read_or_refused_as_a_derivation_does() {
    let mut cases = sample(&changed_spellings(), 200);
    let (hex, base64) = (NixHash::sha256(b"x").to_hex(), NixHash::sha256(b"x").to_string());
    for text in [
        format!("SHA256:{hex}"),
        format!("md6:{hex}"),
        format!("sha256:sha256:{hex}"),
        format!("sha256-{hex}"),
        format!("sha512:{hex}"),
        format!(" {hex}"),
        "sha256-".to_owned(),
        "sha256:".to_owned(),
        ":".to_owned(),
        "-".to_owned(),
        format!("{base64}="),
        format!("{base64} and more"),
        base64.replace('+', "-").replace('/', "_"),
    ] {
        cases.extend([None, Some(HashAlgo::Sha256)].map(|algo| (text.clone(), algo)));
    }
    let read = std::sync::atomic::AtomicUsize::new(0);
    in_parallel(&cases, |(text, algo)| {
        let theirs = evaluate(&format!("[ {} ]", fixed_output(text, *algo)));
        let ours = NixHash::parse_any(text, *algo).map(|hash| vec![our_path(&hash)]);
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!(ours, theirs, "{text:?} {algo:?}");
                read.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            (Err(_), Err(_)) => {}
            (ours, theirs) => panic!("{text:?} {algo:?}: {ours:?}, Nix: {theirs:?}"),
        }
    });
    let read = read.into_inner();
    assert!((20..cases.len() - 20).contains(&read), "{read} of {} were read: a check that sees one side", cases.len());
}
