//! Bodies in the Nix store that are not as they should be: what `verify` says of what Nix knows, and what `fetch` does.

use std::fs;

use crate::common::{Awkward, Nix, nix::kinds, pattern, process::Outcome, run};

#[test]
fn fetch_puts_what_is_missing_into_the_nix_store_and_keeps_it() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let paths = nix.captured(&origin, 5);
        fs::remove_dir_all(nix.work.path(".buildproxy")).unwrap();
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths), [""; 0]);
        let mut fetch = nix.buildproxy("fetch");
        let outcome = run(fetch.env("SSL_CERT_FILE", nix.work.root().join("origin-ca.pem"))).expect_code(0);
        assert!(
            outcome.stderr.starts_with("fetched 6 bodies") && outcome.stderr.contains("nix-root/nix/store"),
            "{outcome}"
        );
        nix.collect_garbage();
        assert_eq!(nix.valid(&paths), paths);
        assert_eq!(nix.embedded_bodies(), [""; 0]);
        assert_eq!(fs::read_to_string(nix.work.path(".buildproxy/.gitignore")).unwrap(), "*\n");
        nix.verify().expect_code(0);
    });
}

#[test]
fn a_body_pinned_by_sha512_is_fetched_to_where_nix_looks_for_it() {
    Nix::each(|nix| {
        use sha2::{Digest, Sha512};
        let origin = Awkward::start();
        let hash = format!("sha512-{}", data_encoding::BASE64.encode(&Sha512::digest(pattern(1000))));
        let url = origin.url("/plain/x");
        nix.work.write(
            "inventory.toml",
            format!(
                "version = 1\n\n[[entry]]\nurl = \"{url}\"\nbody = {{ hash = \"{hash}\", size = 1000, name = \"x\" }}\n"
            ),
        );
        run(&mut nix.buildproxy("fetch")).expect_code(0);
        drop(origin);
        let expression = format!("import <nix/fetchurl.nix> {{ url = \"{url}\"; hash = \"{hash}\"; name = \"x\"; }}");
        run(nix.command("nix-build").args(["--no-out-link", "-E", &expression])).expect_code(0);
        nix.verify().expect_code(0);
    });
}

#[test]
fn verify_finds_what_nix_knows_otherwise_and_what_it_says_helps() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let paths = nix.captured(&origin, 4);
        let clean = |outcome: Outcome| assert_eq!(kinds(&outcome.expect_code(0)), [""; 0]);
        clean(nix.verify());
        let other = "0".repeat(64);
        nix.sql(&format!("update ValidPaths set hash = 'sha256:{other}' where path = '{}'", paths[0]));
        nix.sql(&format!("update ValidPaths set ca = 'fixed:sha256:{}' where path = '{}'", "0".repeat(52), paths[1]));
        nix.sql(&format!("update ValidPaths set ca = null where path = '{}'", paths[4]));
        let found = nix.verify().expect_code(1);
        assert_eq!(kinds(&found), ["wrong-registration", "wrong-content-address"], "{found}");
        // Altered bytes are one finding, not two.
        let altered = nix.file(&paths[2]);
        let length = fs::metadata(&altered).unwrap().len();
        fs::remove_file(&altered).unwrap();
        fs::write(&altered, vec![b'x'; length.try_into().unwrap()]).unwrap();
        let found = nix.verify().expect_code(1);
        assert_eq!(kinds(&found), ["wrong-registration", "wrong-content-address", "wrong-hash"], "{found}");
        // The command in the message, and then `fetch`.
        for path in &paths[..3] {
            let repair =
                format!("nix-store --delete --ignore-liveness $(nix-store --query --referrers-closure {path})");
            assert!(found.stderr.contains(&repair), "{found}");
            run(nix.command("sh").args(["-euc", &repair])).expect_code(0);
        }
        run(nix.buildproxy("fetch").env("SSL_CERT_FILE", nix.work.root().join("origin-ca.pem"))).expect_code(0);
        clean(nix.verify());
        assert_eq!(nix.valid(&paths), paths);
    });
}

#[test]
fn a_body_that_lies_in_the_folder_unregistered_is_found_and_taken_by_fetch() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let paths = nix.captured(&origin, 3);
        let bytes = fs::read(nix.file(&paths[1])).unwrap();
        run(nix.command("sh").args(["-euc", "rm .buildproxy/inventory.toml.root; nix-store --gc"])).expect_code(0);
        run(nix.buildproxy("fetch").env("SSL_CERT_FILE", nix.work.root().join("origin-ca.pem"))).expect_code(0);
        let drop_one =
            format!("nix-store --delete --ignore-liveness $(nix-store --query --referrers-closure {})", paths[1]);
        run(nix.command("sh").args(["-euc", &drop_one])).expect_code(0);
        fs::write(nix.file(&paths[1]), &bytes).unwrap();
        let found = nix.verify().expect_code(1).expect_stderr(&["has not registered it; run `buildproxy fetch`"]);
        assert_eq!(kinds(&found), ["not-registered"], "{found}");
        drop(origin);
        run(&mut nix.buildproxy("fetch")).expect_code(0).expect_stderr(&["put 1 body"]);
        nix.verify().expect_code(0);
        assert_eq!(fs::read(nix.file(&paths[1])).unwrap(), bytes);
    });
}

#[test]
fn what_lies_in_the_folder_unregistered_and_damaged_is_fetched_again() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let paths = nix.captured(&origin, 2);
        let remove = "rm .buildproxy/inventory.toml.root; nix-store --gc";
        run(nix.command("sh").args(["-euc", remove])).expect_code(0);
        fs::write(nix.file(&paths[0]), "damaged").unwrap();
        nix.verify().expect_code(1);
        let mut fetch = nix.buildproxy("fetch");
        run(fetch.env("SSL_CERT_FILE", nix.work.root().join("origin-ca.pem"))).expect_code(0);
        nix.verify().expect_code(0);
        assert_eq!(nix.valid(&paths), paths);
    });
}

#[test]
fn a_body_that_nix_holds_damaged_is_not_lost_when_it_is_captured_again() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        let script = format!("curl -sSf -o /dev/null '{}'", origin.url("/plain/a?size=500"));
        nix.capture_sh(&origin, &script).expect_code(0);
        let file = nix.file(&nix.fetched()[0]);
        fs::remove_file(&file).unwrap();
        fs::write(&file, pattern(499)).unwrap();
        let again = nix.capture_sh(&origin, &script).expect_code(0);
        again.expect_stderr(&["is registered, but does not have its bytes", "buildproxy verify"]);
        let kept = nix.embedded_bodies();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(nix.embedded().join(&kept[0])).unwrap(), pattern(500));
    });
}

#[test]
fn verify_does_without_a_database_and_without_nix() {
    Nix::each(|nix| {
        let origin = Awkward::start();
        nix.captured(&origin, 2);
        // A container that was given the store's files alone.
        fs::rename(nix.file("/nix/var"), nix.work.root().join("var")).unwrap();
        let quiet =
            |outcome: Outcome| assert_eq!(outcome.expect_code(0).stderr, "verified 3 entries, 295.90 KiB: all good\n");
        quiet(run(&mut nix.buildproxy("verify")));
        assert!(!nix.file("/nix/var").exists(), "Nix was not asked to make one");
        fs::rename(nix.work.root().join("var"), nix.file("/nix/var")).unwrap();
        quiet(run(nix.buildproxy("verify").env("PATH", "/var/empty")));
    });
}
