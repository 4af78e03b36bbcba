//! `mkBuildproxy` as packages use it, in Nix's real sandbox: every phase, the overlay, what the predecessors wrote, the
//! shell, the update script.

use std::fs;

use crate::common::{
    Nginx, Workdir,
    captured::{build, hook, one_file},
    run,
    sandbox::{Nix, Sandbox, nix_path, nix_string, repository},
    sri, tree,
};

crate::with_either_nix! {
    every_phase_can_download_with_structured_attributes_too
    a_miss_in_the_last_phase_fails_the_build
    the_overlay_has_the_function_in_the_package_set_and_in_lib
    a_proxy_content_of_nix_buildproxy_is_replayed
    a_lock_file_of_mitm_cache_is_replayed
    a_lock_file_of_gradle_is_replayed_with_the_lists_of_versions_that_it_describes
    a_body_inside_of_a_store_path_is_kept_by_the_hook_and_replayed
    what_is_patched_is_the_same_in_every_build
    the_shell_replays_to_a_command_and_reports
    in_a_nix_shell_the_hook_waits_until_it_is_asked
    the_update_script_records_what_the_package_downloads_now
}

/// A package with a download in each phase, the first to the last.
fn package_with_downloads(hook: &str, get: &str, more: &str) -> String {
    let get = |name: &str| nix_string(&format!("{get} >\"$NIX_BUILD_TOP/{name}\""));
    let mut phases = String::new();
    for phase in ["first", "unpack", "patch", "configure", "build", "check", "fixup", "installCheck", "last"] {
        phases += &format!("{phase}Phase = {};\n", get(phase));
    }
    format!(
        "pkgs.stdenv.mkDerivation {{
            pname = \"phases\";
            version = \"1\";
            nativeBuildInputs = [ pkgs.curl {hook} ];
            strictDeps = true;
            prePhases = [ \"firstPhase\" ];
            postPhases = [ \"lastPhase\" ];
            sourceRoot = \".\";
            doCheck = true;
            doInstallCheck = true;
            preInstall = {in_a_hook};
            {phases}
            installPhase = \"runHook preInstall; ({in_a_subshell}); mkdir $out; cp -r $NIX_BUILD_TOP/* $out; rm $out/env-vars\";
            {more}
        }}",
        in_a_hook = get("hook"),
        in_a_subshell = "set -euo pipefail; x=$(cat \\\"$NIX_BUILD_TOP/hook\\\"); echo \\\"$x\\\" >$NIX_BUILD_TOP/subshell",
    )
}

fn every_phase_can_download_with_structured_attributes_too(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    // Everything in the build's folder is installed: there is nothing of ours in it.
    for structured in [false, true] {
        let more = format!("__structuredAttrs = {structured};");
        let package = package_with_downloads(&hook, &format!("curl -sSf {url}"), &more);
        let outcome = sandbox.build(&package).expect_code(0);
        let files = tree(&sandbox.real(outcome.text().trim()));
        let names: Vec<_> = files.keys().map(|name| name.to_str().unwrap()).collect();
        assert_eq!(names, ["build", "check", "configure", "first", "hook", "patch", "subshell", "unpack"], "{outcome}");
        assert!(files.values().all(|text| text == "a file\n"), "{files:?}");
        // Those of the phases after the installation are counted, too.
        outcome.expect_stderr(&["10 requests answered from 1 of 1 entry, 0 misses"]);
    }
}

fn a_miss_in_the_last_phase_fails_the_build(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let more = format!("lastPhase = {};", nix_string(&format!("curl -sS {url}/more")));
    let package = package_with_downloads(&hook, &format!("curl -sSf {url}"), "");
    let package = format!("({package}).overrideAttrs {{ {more} }}");
    sandbox.fails(&package).expect_stderr(&[
        "Running phase: lastPhase",
        "requests that nothing answered",
        &format!("GET {url}/more"),
        "failed with exit code 4",
    ]);
}

fn the_overlay_has_the_function_in_the_package_set_and_in_lib(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, _) = one_file(&work, &sandbox);
    let inventory = format!("{{ inventory = {}; proxyLoopback = true; }}", nix_path(&work.path("inventory.toml")));
    let overlaid = format!("(pkgs.extend (import {}))", nix_path(&repository("nix/overlay.nix")));
    for function in ["mkBuildproxy", "lib.mkBuildproxy"] {
        let hook = format!("({overlaid}.{function} {inventory})");
        let files = tree(&sandbox.built(&build(&hook, "pkgs.curl", &format!("curl -sSfO {url}"))));
        assert_eq!(files.into_values().collect::<Vec<_>>(), ["a file\n"]);
    }
    let program = sandbox.built(&format!("{overlaid}.buildproxy")).join("bin/buildproxy");
    assert_eq!(fs::read(program).unwrap(), fs::read(env!("CARGO_BIN_EXE_buildproxy")).unwrap());
}

fn a_proxy_content_of_nix_buildproxy_is_replayed(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = Nginx::start("");
    fs::write(origin.www().join("tool-1.0.txt"), "a tool\n").unwrap();
    // As its capture writes it, with the hash of what was sent and the length of something else.
    let content = format!(
        "{{ fetchurl }}: [\n\
         {{ url = \"https://example.org/tool-1.0.txt\"; file = fetchurl {{ url = {url:?}; hash = {hash:?}; name = \"tool\"; }};\n\
            status_code = 200; headers = {{ \"Content-Type\" = \"text/x-tool\"; \"Content-Length\" = \"3\"; }}; }}\n]",
        url = origin.url("/tool-1.0.txt"),
        hash = sri(b"a tool\n"),
    );
    work.write("proxy_content.nix", content);
    let hook = format!("(mkBuildproxy {})", nix_path(&work.path("proxy_content.nix")));
    sandbox.built(&hook);
    drop(origin);
    let script = "curl -sSf -o tool -w '%{content_type} %{size_download}' https://example.org/tool-1.0.txt >told";
    // Its users source the hook in a phase.
    let sourced = build("", "pkgs.curl", &format!("source HOOK; {script}"));
    for case in [build(&hook, "pkgs.curl", script), sourced.replace("HOOK", &format!("${{{hook}}}"))] {
        let files = tree(&sandbox.built(&case));
        assert_eq!(files.into_values().collect::<Vec<_>>(), ["text/x-tool 7", "a tool\n"]);
    }
}

fn a_lock_file_of_mitm_cache_is_replayed(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = Nginx::start("");
    fs::write(origin.www().join("a.jar"), "a jar\n").unwrap();
    let (there, pom) = (origin.tls_url("/a.jar"), origin.tls_url("/a.pom"));
    let moved = origin.tls_url("/moved.jar");
    let lock = serde_json::json!({
        "!version": 1,
        &there: { "hash": sri(b"a jar\n") },
        &pom: { "text": "<project/>\n" },
        &moved: { "redirect": &there },
    });
    work.write("deps.json", lock.to_string());
    let hook = format!("(mkBuildproxy {{ inventory = {}; proxyLoopback = true; }})", nix_path(&work.path("deps.json")));
    sandbox.built(&hook);
    drop(origin);
    let script = format!("curl -sSfLo moved {moved} -o pom '{pom}?query=1' -o there {there}");
    let files = tree(&sandbox.built(&build(&hook, "pkgs.curl", &script)));
    assert_eq!(files.into_values().collect::<Vec<_>>(), ["a jar\n", "<project/>\n", "a jar\n"]);
}

fn a_lock_file_of_gradle_is_replayed_with_the_lists_of_versions_that_it_describes(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = Nginx::start("");
    fs::create_dir_all(origin.www().join("m2/org/lib/1.0")).unwrap();
    fs::write(origin.www().join("m2/org/lib/1.0/lib-1.0.jar"), "a jar\n").unwrap();
    let repository = origin.tls_url("/m2");
    let lock = serde_json::json!({
        "!comment": "nixpkgs writes one",
        "!version": 1,
        &repository: {
            "org#lib/1.0": { "jar": sri(b"a jar\n") },
            "org/lib/maven-metadata": { "xml": { "groupId": "org", "lastUpdated": "20240102030405" } },
        },
    });
    work.write("deps.json", lock.to_string());
    let hook = format!("(mkBuildproxy {{ inventory = {}; proxyLoopback = true; }})", nix_path(&work.path("deps.json")));
    sandbox.built(&hook);
    drop(origin);
    let script = format!(
        "curl -sSfo jar {repository}/org/lib/1.0/lib-1.0.jar -o metadata {repository}/org/lib/maven-metadata.xml"
    );
    let files = tree(&sandbox.built(&build(&hook, "pkgs.curl", &script)));
    let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata modelVersion=\"1.1.0\">\n  <groupId>org</groupId>\n  \
                    <artifactId>lib</artifactId>\n  <versioning>\n    <latest>1.0</latest>\n    <release>1.0</release>\n    \
                    <versions>\n      <version>1.0</version>\n    </versions>\n    <lastUpdated>20240102030405</lastUpdated>\n  \
                    </versioning>\n</metadata>\n";
    assert_eq!(files.into_values().collect::<Vec<_>>(), ["a jar\n", expected]);
}

/// A hook with a patched text, and patched archives of the usual forms.
const PATCHED: &str = r#"
let
  archive = name: command: pkgs.runCommand name { nativeBuildInputs = with pkgs; [ gnutar gzip xz zstd zip ]; } ''
    mkdir -p tool/bin
    printf 'one\ntwo\n' >tool/lines
    echo exit 0 >tool/bin/tool
    chmod +x tool/bin/tool
    ln -s bin/tool tool/link
    ${command}
  '';
  bodies = {
    lines = pkgs.writeText "lines" "one\ntwo\n";
    gz = archive "gz" "tar -cz tool >$out";
    xz = archive "xz" "tar -cJ tool >$out";
    zst = archive "zst" "tar -c --zstd tool >$out";
    zip = archive "zip" "zip -qry all.zip tool; mv all.zip $out";
  };
  urls = lib.mapAttrs' (name: body: lib.nameValuePair "https://example.org/${name}" body) bodies;
in
mkBuildproxy {
  inventory = { version = 1; };
  extraEntries = lib.mapAttrsToList (url: body: { inherit url; body.store-path = body; }) urls;
  patches = lib.mapAttrs (_: _: [ (pkgs.writeText "patch" "--- a/lines\n+++ b/lines\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n") ]) urls;
}
"#;

fn what_is_patched_is_the_same_in_every_build(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    let index = sandbox.build(&format!("({PATCHED}).index")).expect_code(0);
    let lines = |command: &mut std::process::Command| -> Vec<String> {
        run(command).expect_code(0).text().lines().map(str::to_owned).collect()
    };
    let patched = lines(sandbox.command("nix-store").args(["--query", "--references", index.text().trim()]));
    assert_eq!(patched.len(), 5, "{patched:?}");
    let derivations = lines(sandbox.command("nix-store").args(["--query", "--deriver"]).args(&patched));
    // Later, and in another second: times must not get into an archive.
    std::thread::sleep(std::time::Duration::from_secs(2));
    run(sandbox.command("nix-store").args(["--realise", "--check"]).args(&derivations)).expect_code(0);

    let script = "for name in lines gz xz zst zip; do curl -sSfO https://example.org/$name; done
        mkdir a b c d; tar -xzf gz -C a; tar -xJf xz -C b; tar -x --zstd -f zst -C c; unzip -q zip -d d; rm gz xz zst zip
        for made in a b c d; do
            [ -x $made/tool/bin/tool ]; cmp $made/tool/lines lines
        done
        for made in a b c d; do [ \"$(readlink $made/tool/link)\" = bin/tool ]; done";
    let inputs = "pkgs.curl pkgs.gnutar pkgs.gzip pkgs.xz pkgs.zstd pkgs.unzip";
    let built = sandbox.built(&build(&format!("({PATCHED})"), inputs, script));
    assert_eq!(fs::read_to_string(built.join("lines")).unwrap(), "one\n2\n");
}

fn a_body_inside_of_a_store_path_is_kept_by_the_hook_and_replayed(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    fs::create_dir_all(work.path("tool/share")).unwrap();
    work.write("tool/share/file", "inside\n");
    let mut add = sandbox.command("nix-store");
    let added = run(add.arg("--add").arg(work.path("tool"))).expect_code(0);
    let (object, hash) = (added.text().trim(), sri(b"inside\n"));
    work.write(
        "inventory.toml",
        format!(
            "version = 1\n[[entry]]\nurl = \"https://example.org/f\"\n\
             body = {{ hash = \"{hash}\", size = 7, store-path = \"{object}/share/file\" }}\n"
        ),
    );
    let built = sandbox.built(&build(&hook(&work, ""), "pkgs.curl", "curl -sSf -o file https://example.org/f"));
    assert_eq!(fs::read_to_string(built.join("file")).unwrap(), "inside\n");
    let index = sandbox.build(&format!("({}).index", hook(&work, ""))).expect_code(0);
    let kept = run(sandbox.command("nix-store").args(["--query", "--references", index.text().trim()])).expect_code(0);
    assert_eq!(kept.text().trim(), object);
}

fn the_shell_replays_to_a_command_and_reports(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let shell = hook.replace("mkBuildproxy", "mkBuildproxyShell");
    let got = run(sandbox.running(&shell).args(["curl", "-sSf", &url])).expect_code(0);
    assert_eq!(got.text(), "a file\n");
    let missed = run(sandbox.running(&shell).args(["curl", "-sS", &format!("{url}/more")])).expect_code(4);
    missed.expect_stderr(&["requests that nothing answered", &format!("GET {url}/more")]);
}

fn in_a_nix_shell_the_hook_waits_until_it_is_asked(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let shell = format!("(pkgs.mkShell {{ packages = [ pkgs.curl {hook} ]; }})");
    let enter = format!(
        "pkgs.writeShellScriptBin \"enter\" ''
            export NIX_BUILD_SHELL=bash
            exec nix-shell ${{builtins.unsafeDiscardOutputDependency {shell}.drvPath}} --run \"$1\"
        ''"
    );
    // The origin is gone: 7 is that nobody listens where the URL says.
    let ask = format!("curl -sS {url} || echo \"none: $?\"");
    let script = format!("{ask}; buildproxyStart; {ask}; buildproxyStop; {ask}; buildproxyStart; {ask}");
    let entered = run(sandbox.running(&enter).arg(script)).expect_code(0);
    assert_eq!(entered.text(), "none: 7\na file\nnone: 7\na file\n", "{entered}");
    entered.expect_stderr(&["Failed to connect to localhost port", "1 request answered from 1 of 1 entry, 0 misses"]);
}

fn the_update_script_records_what_the_package_downloads_now(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = Nginx::start("");
    let (old, new) = (origin.tls_url("/tool-1.0"), origin.tls_url("/tool-1.1"));
    fs::write(origin.www().join("tool-1.0"), "old\n").unwrap();
    fs::write(origin.www().join("tool-1.1"), "new\n").unwrap();
    run(work.capturing(&origin.ca.pem).args(["--", "curl", "-sSfO", &old])).expect_code(0);
    let package = |url: &str| {
        format!(
            "(pkgs.stdenv.mkDerivation (finalAttrs: {{
                name = \"updated\";
                dontUnpack = true;
                nativeBuildInputs = [ pkgs.curl finalAttrs.passthru.downloads ];
                buildPhase = {};
                installPhase = \"cp got $out\";
                passthru.downloads = {};
            }}))",
            nix_string(&format!("runHook preBuild; curl -sSfo got {url}; runHook postBuild")),
            hook(&work, "package = finalAttrs.finalPackage;"),
        )
    };
    assert_eq!(fs::read_to_string(sandbox.built(&package(&old))).unwrap(), "old\n");
    sandbox.fails(&package(&new)).expect_stderr(&[&format!("GET {new}")]);

    let update = format!(
        "pkgs.writeShellScriptBin \"update\" \"exec ${{{}.downloads.updateScript}} \\\"$@\\\"\"",
        package(&new)
    );
    let ca = work.root().join("origin-ca.pem");
    let mut command = sandbox.running(&update);
    run(command.env("SSL_CERT_FILE", ca).env("BUILDPROXY_STORE", work.store())).expect_code(0);
    assert_eq!(work.inventory().urls(), [new.as_str()]);
    assert_eq!(fs::read_to_string(sandbox.built(&package(&new))).unwrap(), "new\n");
    // `env-vars` is what stdenv writes in any nix-shell.
    let left = sandbox.leftovers();
    assert!(left.iter().all(|path| path.ends_with("env-vars")), "{left:?}");
}
