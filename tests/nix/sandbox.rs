//! Nix's real sandbox, and the tests' own nixpkgs in it: what every other test of the Nix side relies on.

use std::{fs, path::Path};

use crate::common::{
    Nginx, Workdir, pattern, run,
    sandbox::{NO_NETWORK, Nix, Sandbox},
    sri,
    workdir::within,
};
use buildproxy::{FileIngestionMethod, HashAlgo, Hasher, NixHash, StorePathName, build_ca_path};

crate::with_either_nix! {
    a_build_sees_no_network_and_a_fixed_output_sees_that_of_the_machine
    a_build_leaves_the_certificates_of_the_machine_as_they_are
    fetchurl_gives_what_has_the_hash_under_the_path_that_we_compute
    fetchurl_takes_the_next_of_its_urls_and_refuses_other_bytes
    phases_hooks_and_variables_are_as_in_nixpkgs
    a_failing_phase_runs_the_failure_hook_and_fails_the_build
    what_is_no_input_is_not_in_path
}

#[test]
fn the_two_nix_are_not_the_same() {
    let (installed, newer) = (Nix::Installed.version(), Nix::Newer.version());
    println!("the sandbox is that of Nix {installed:?} and of Nix {newer:?}");
    assert!(installed >= vec![2, 8], "Nix {installed:?} in PATH");
    assert!(newer >= vec![2, 26] && newer > installed, "{newer:?} beside {installed:?}");
}

#[test]
fn the_check_for_a_network_finds_one() {
    let work = Workdir::new();
    let checked_in = |network: &str| {
        let mut check = work.command("bash");
        check.args(["-euc", NO_NETWORK]);
        run(&mut within(&check, "-rn", &format!("{network}; exec \"$@\""))).code
    };
    let outside = "ip link set lo up; ip address add 192.0.2.1/32 dev lo";
    assert_eq!(checked_in("ip link set lo up"), 0);
    assert_eq!(checked_in("ip link set lo up; ip route add 192.0.2.0/24 dev lo"), 90);
    let listener = "python3 -c 'import socket; s = socket.create_server((\"192.0.2.1\", 80)); s.settimeout(30); \
                    print(flush=True); s.accept()' | { read -r _; ";
    let mut check = work.command("bash");
    check.args(["-euc", &format!("{listener} {NO_NETWORK} }}")]);
    assert_eq!(run(&mut within(&check, "-rn", &format!("{outside}; exec \"$@\""))).code, 91);
    assert_eq!(checked_in(outside), 92);
}

/// A derivation that runs `script` with the programs of the machine, and as a fixed output where it has a hash.
fn derivation(script: &str, more: &str) -> String {
    format!(
        "derivation {{
            name = \"bare\";
            system = builtins.currentSystem;
            builder = \"/bin/bash\";
            args = [ \"-euc\" ''
                PATH=/usr/bin
                {script}
                exit 0
            '' ];
            {more}
        }}"
    )
}

fn a_build_sees_no_network_and_a_fixed_output_sees_that_of_the_machine(nix: Nix) {
    let (nginx, sandbox) = (Nginx::start(""), Sandbox::new(nix));
    fs::write(nginx.www().join("x"), "from outside\n").unwrap();
    let ask = format!("curl -sS --noproxy '*' --max-time 20 {} >$out", nginx.url("/x"));
    let fixed = format!("outputHashMode = \"flat\"; outputHash = {:?};", sri(b"from outside\n"));
    let fetched = sandbox.built(&derivation(&ask, &fixed));
    assert_eq!(fs::read_to_string(fetched).unwrap(), "from outside\n");
    // The same command in a build of any other kind: 7 is that nobody listens.
    sandbox.fails(&derivation(&ask, "")).expect_stderr(&["curl: (7)"]);
    let alone = "
        ${noNetwork}
        [ $(ls /proc/sys/net/ipv4/conf | grep -vcE '^(all|default|lo)$') = 0 ]
        [ ! -e /etc/resolv.conf ]
        echo alone >$out";
    assert_eq!(fs::read_to_string(sandbox.built(&derivation(alone, ""))).unwrap(), "alone\n");
}

fn a_build_leaves_the_certificates_of_the_machine_as_they_are(nix: Nix) {
    // Newer Nix mounts its own certificates into a fixed output, and empties the file that it mounts them on: where its
    // folder is the machine's, the machine is left without any, and nobody there can trust a server.
    let sandbox = Sandbox::new(nix);
    let ask = "/usr/bin/awk '$5 ~ \"^/etc/ssl(/certs)?$\" { print; exit 9 }' /proc/self/mountinfo >&2; echo none >$out";
    let fixed = format!("outputHashMode = \"flat\"; outputHash = {:?};", sri(b"none\n"));
    sandbox.built(&derivation(ask, &fixed));
}

fn fetchurl_gives_what_has_the_hash_under_the_path_that_we_compute(nix: Nix) {
    let (nginx, sandbox) = (Nginx::start(""), Sandbox::new(nix));
    let bytes = pattern(100_000);
    fs::write(nginx.www().join("file.bin"), &bytes).unwrap();
    let mut sha512 = Hasher::new(HashAlgo::Sha512);
    sha512.update(&bytes);
    let hashes = [NixHash::sha256(&bytes), sha512.finish()];
    // Over HTTP and HTTPS, by every attribute that there is for a hash, with a name given and with none.
    let cases = [
        (nginx.url("/file.bin"), format!("hash = {:?};", hashes[0].to_string()), "file.bin", &hashes[0]),
        (
            nginx.tls_url("/file.bin"),
            format!("sha256 = {:?}; name = \"a+b-1.0\";", hashes[0].to_hex()),
            "a+b-1.0",
            &hashes[0],
        ),
        (nginx.tls_url("/file.bin"), format!("sha512 = {:?}; name = \"c\";", hashes[1].to_hex()), "c", &hashes[1]),
    ];
    for (url, arguments, name, hash) in cases {
        let outcome = sandbox.build(&format!("pkgs.fetchurl {{ url = {url:?}; {arguments} }}")).expect_code(0);
        let name = StorePathName::new(name).unwrap();
        let path = build_ca_path(&name, FileIngestionMethod::Flat, hash).to_absolute_path();
        assert_eq!(outcome.text().trim(), path);
        assert_eq!(fs::read(sandbox.real(&path)).unwrap(), bytes);
    }
}

fn fetchurl_takes_the_next_of_its_urls_and_refuses_other_bytes(nix: Nix) {
    let (nginx, sandbox) = (Nginx::start(""), Sandbox::new(nix));
    fs::write(nginx.www().join("x"), "one\n").unwrap();
    let fetch = |urls: &[String], bytes: &str| {
        let urls: Vec<_> = urls.iter().map(|url| format!("{url:?}")).collect();
        format!("pkgs.fetchurl {{ urls = [ {} ]; hash = {:?}; }}", urls.join(" "), sri(bytes.as_bytes()))
    };
    let (absent, there) = (nginx.url("/absent"), nginx.url("/x"));
    sandbox.build(&fetch(&[absent.clone(), there.clone()], "one\n")).expect_code(0);
    let other = sandbox.fails(&fetch(&[there], "other\n"));
    other.expect_stderr(&["hash mismatch in fixed-output derivation", &sri(b"one\n")]);
    let none = sandbox.fails(&fetch(&[absent], "another\n"));
    none.expect_stderr(&["cannot download absent from any mirror"]);
}

/// A package in the style of nixpkgs, with a setup hook of ours among its inputs.
const PACKAGE: &str = r#"
let
  hook = pkgs.writeText "hook.sh" ''
    echo "sourced in: ''${FUNCNAME[*]}; certificates: ''${SSL_CERT_FILE-none}"
    atTheEndOfSetup() { echo "post: $SSL_CERT_FILE $NIX_SSL_CERT_FILE"; }
    postHooks+=(atTheEndOfSetup)
    ended() { echo "exit hook: $exitCode"; }
    exitHooks+=(ended)
    failed() { echo "failure hook: $exitCode"; }
    failureHooks+=(failed)
  '';
  package = pkgs.stdenv.mkDerivation (finalAttrs: {
    pname = "thing";
    version = "1.0";
    dontUnpack = true;
    nativeBuildInputs = [ hook ];
    env.GREETING = "hello";
    prePhases = [ "firstPhase" ];
    firstPhase = "echo first";
    preBuild = "echo implicit hook";
    buildPhase = ''
      runHook preBuild
      echo "options: $- $(shopt -po pipefail) $(shopt -p nullglob inherit_errexit | tr '\n' ' ')"
      (set -euo pipefail; echo "$GREETING ${finalAttrs.version}" >text)
      printf 'int main(void) { return 0; }' >main.c
      cc main.c -o thing
      runHook postBuild
    '';
    installPhase = "install -D thing $out/bin/thing; cp text $out/text";
    passthru.tests.runs = pkgs.runCommand "runs" { nativeBuildInputs = [ finalAttrs.finalPackage ]; } "thing; touch $out";
    meta.mainProgram = "thing";
  });
in
"#;

fn phases_hooks_and_variables_are_as_in_nixpkgs(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    let text = |path: &Path| fs::read_to_string(path.join("text")).unwrap();
    let outcome = sandbox.build(&format!("({PACKAGE} package)")).expect_code(0).expect_stderr(&[
        "sourced in: source activatePackage",
        "certificates: none",
        "post: /no-cert-file.crt /no-cert-file.crt",
        "Running phase: firstPhase\nfirst\n",
        "implicit hook\noptions: ehB set -o pipefail shopt -s nullglob shopt -s inherit_errexit",
        "exit hook: 0",
    ]);
    assert_eq!(text(&sandbox.real(outcome.text().trim())), "hello 1.0\n");
    let overridden = "package.overrideAttrs (old: { version = old.version + \".1\"; __structuredAttrs = true; })";
    assert_eq!(text(&sandbox.built(&format!("({PACKAGE} {overridden})"))), "hello 1.0.1\n");
    sandbox.built(&format!("({PACKAGE} package.tests.runs)"));
}

fn a_failing_phase_runs_the_failure_hook_and_fails_the_build(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    for phase in ["(false; echo reached)", "false | cat; echo reached", "x=$(false; echo 1); echo reached"] {
        let failing = format!("({PACKAGE} package.overrideAttrs {{ buildPhase = {phase:?}; }})");
        let outcome = sandbox.fails(&failing);
        assert!(!outcome.stderr.contains("reached\n"), "{outcome}");
        outcome.expect_stderr(&["failure hook: 1"]);
    }
}

fn what_is_no_input_is_not_in_path(nix: Nix) {
    let sandbox = Sandbox::new(nix);
    let with = |inputs: &str| {
        format!("pkgs.runCommand \"with\" {{ nativeBuildInputs = [ {inputs} ]; }} \"jq --version >$out\"")
    };
    sandbox.build(&with("pkgs.jq")).expect_code(0);
    sandbox.fails(&with("pkgs.curl")).expect_stderr(&["jq: command not found"]);
}
