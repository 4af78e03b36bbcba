//! Names and store paths.

use buildproxy::{FileIngestionMethod, NixHash, StorePath, StorePathName, build_ca_path, build_text_path};
use proptest::{collection::vec, prelude::*, sample::select};

use super::{evaluate, hashes, in_parallel, nix_lines, quoted, sample};

const NAME_CHARACTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+-._?=";

/// Names of every allowed length and character.
fn names() -> impl Strategy<Value = StorePathName> {
    let length = prop_oneof![1 => Just(1), 1 => Just(StorePathName::MAX_LENGTH), 8 => 1..=StorePathName::MAX_LENGTH];
    let text = length.prop_flat_map(|length| vec(select(NAME_CHARACTERS), length));
    text.prop_filter_map("starts with a dot", |text| StorePathName::new(String::from_utf8(text).ok()?).ok())
}

fn methods() -> impl Strategy<Value = FileIngestionMethod> {
    prop_oneof![1 => Just(FileIngestionMethod::Flat), 1 => Just(FileIngestionMethod::Recursive)]
}

#[test]
fn paths_are_those_of_nix_store() {
    // The command line takes a leading `-` for a flag; derivations, below, have such names.
    let names = names().prop_filter("a flag", |name| !name.as_str().starts_with('-'));
    in_parallel(&sample(&(names, methods(), hashes()), 250), |(name, method, hash)| {
        let hex = hash.to_hex();
        let mut arguments = vec!["--print-fixed-path", hash.algo().as_str(), &hex, name.as_str()];
        if *method == FileIngestionMethod::Recursive {
            arguments.insert(1, "--recursive");
        }
        let ours = build_ca_path(name, *method, hash).to_absolute_path();
        assert_eq!(nix_lines("nix-store", &arguments), [ours], "{method:?} {hash} {name}");
    });
}

/// A fixed output as `fetchurl` evaluates to it.
fn derivation(name: &str, mode: FileIngestionMethod, hash: &NixHash) -> String {
    let mode = if mode == FileIngestionMethod::Flat { "flat" } else { "recursive" };
    format!(
        r#"(derivation {{ name = {}; outputHashMode = "{mode}"; outputHash = "{hash}"; outputHashAlgo = null;
             system = "none"; builder = "none"; }}).outPath"#,
        quoted(name)
    )
}

#[test]
fn paths_are_those_of_fixed_output_derivations() {
    let mut cases = sample(&(names(), methods(), hashes()), 4000);
    let dashed = StorePathName::new("-rf").unwrap();
    cases.push((dashed, FileIngestionMethod::Flat, NixHash::sha256(b"")));
    let list: String =
        cases.iter().map(|(name, method, hash)| derivation(name.as_str(), *method, hash) + "\n").collect();
    let theirs = evaluate(&format!("[ {list} ]")).unwrap();
    assert_eq!(theirs.len(), cases.len());
    for ((name, method, hash), theirs) in cases.iter().zip(theirs) {
        assert_eq!(build_ca_path(name, *method, hash).to_absolute_path(), theirs, "{method:?} {hash} {name}");
    }
}

/// A text and the earlier ones that it refers to, some of them twice and in any order.
fn texts() -> impl Strategy<Value = (StorePathName, String, Vec<prop::sample::Index>)> {
    let content = prop_oneof![1 => Just(String::new()), 8 => "[ -~\t\n\ré€𝄞]{0,80}", 1 => "[a-z\n]{5000}"];
    let references = prop_oneof![1 => Just(0), 2 => 1..5usize, 1 => 5..20usize];
    let references = references.prop_flat_map(|count| vec(any::<prop::sample::Index>(), count));
    (names(), content, references)
}

#[test]
fn paths_of_texts_are_those_of_to_file() {
    let cases = sample(&texts(), 3000);
    let (mut list, mut bindings, mut ours) = (String::new(), String::new(), Vec::<StorePath>::new());
    let mut with_references = 0;
    for (number, (name, content, references)) in cases.iter().enumerate() {
        let references: Vec<usize> = references.iter().filter(|_| number > 0).map(|at| at.index(number)).collect();
        with_references += usize::from(references.len() > 1);
        let named: String = references.iter().map(|at| format!("${{t{at}}}\n")).collect();
        let nix = quoted(content);
        bindings +=
            &format!("t{number} = builtins.toFile {} {}{named}\";\n", quoted(name.as_str()), &nix[..nix.len() - 1]);
        list += &format!("t{number}\n");
        let referred = || references.iter().map(|at| &ours[*at]);
        let text = referred().fold(content.clone(), |text, path| text + &path.to_absolute_path() + "\n");
        let path = build_text_path(name, text.as_bytes(), referred());
        ours.push(path);
    }
    assert!(with_references > cases.len() / 2, "only {with_references}");
    let theirs = evaluate(&format!("let {bindings} in [ {list} ]")).unwrap();
    assert_eq!(theirs.len(), cases.len());
    for ((case, ours), theirs) in cases.iter().zip(ours).zip(theirs) {
        assert_eq!(ours.to_absolute_path(), theirs, "{case:?}");
    }
}

/// Names at the limits, and ones that Nix refuses.
fn border_names() -> Vec<String> {
    let long = |length| "n".repeat(length);
    let mut names =
        ["", "a b", "a/b", "é", "~", "a\tb", "a:b", "a,b", "x.drv", "drv", "a.drv.b", "-", "--help", "a?b=c", "+"]
            .map(str::to_owned)
            .to_vec();
    names.extend([1, 2, 206, 207, 208, 210, 211, 212, 500].map(long));
    names
}

#[test]
fn names_are_taken_where_a_derivation_has_them() {
    let hash = NixHash::sha256(b"");
    in_parallel(&border_names(), |name| {
        let theirs = evaluate(&format!("[ {} ]", derivation(name, FileIngestionMethod::Flat, &hash)));
        assert_eq!(StorePathName::new(name).is_ok(), theirs.is_ok(), "{name:?}: {theirs:?}");
    });
}

#[test]
fn store_paths_are_read_where_nix_reads_them() {
    let digest = "58y8kfg8g06s8al5ma25x70qw5zs74v9";
    let digests = [digest.to_owned(), digest.replace('8', "e"), digest.replace('8', "Z"), digest[1..].to_owned()];
    let mut cases: Vec<String> = border_names().iter().map(|name| format!("{digest}-{name}")).collect();
    cases.extend(digests.iter().map(|digest| format!("{digest}-a")));
    cases.extend([digest.to_owned(), format!("{digest}a")]);
    in_parallel(&cases, |text| {
        let path = quoted(&format!("/nix/store/{text}"));
        let theirs = evaluate(&format!("[ (builtins.appendContext \"\" {{ {path} = {{ path = true; }}; }}) ]"));
        let ours = StorePath::from_base_name(text);
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{text:?}: {theirs:?}");
    });
}
