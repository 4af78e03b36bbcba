//! Builds that download, captured outside and then built through `mkBuildproxy` in Nix's real sandbox.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{
    Nginx, Workdir,
    git::GitServer,
    pattern, run,
    sandbox::{Nix, Sandbox, nix_path, nix_string, repository},
    tree,
};

with_either_nix! {
    a_cmake_build_makes_the_same_inside_as_it_made_outside
    curl_git_and_python_get_the_same_inside_as_they_got_outside
    every_body_is_fetched_to_the_store_path_that_we_print
    run_command_subshells_strict_scripts_and_sourcing_are_served
}

/// The origin of the demo, which signs one of its URLs; stopped when dropped.
struct DemoOrigin<'a> {
    work: &'a Workdir,
    url: String,
    ca: String,
}

impl<'a> DemoOrigin<'a> {
    fn start(work: &'a Workdir) -> Self {
        run(work.command(repository("fixtures/demo/origin.sh")).args(["start", "origin", "600"])).expect_code(0);
        let read = |name: &str| String::from_utf8(work.read(&format!("origin/{name}"))).unwrap();
        Self { work, url: read("url").trim().to_owned(), ca: read("ca.pem") }
    }
}

impl Drop for DemoOrigin<'_> {
    fn drop(&mut self) {
        run(self.work.command(repository("fixtures/demo/origin.sh")).args(["stop", "origin"]));
    }
}

/// `mkBuildproxy` for the inventory captured in `work`, whose origins are on loopback.
fn hook(work: &Workdir, more: &str) -> String {
    format!("(mkBuildproxy {{ inventory = {}; proxyLoopback = true; {more} }})", nix_path(&work.path("inventory.toml")))
}

/// A build of `script`, behind the hook and a look for a network, that leaves its files in `$out`.
fn build(hook: &str, inputs: &str, script: &str) -> String {
    format!(
        "pkgs.runCommand \"built\" {{ nativeBuildInputs = [ {hook} {inputs} ]; }} \
         (noNetwork + \"mkdir $out; cd $out\\n\" + {})",
        nix_string(script)
    )
}

fn a_cmake_build_makes_the_same_inside_as_it_made_outside(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = DemoOrigin::start(&work);
    let project = repository("fixtures/demo/project");
    let outside = format!("cmake -S {} -B tree -DORIGIN={}; cmake --build tree", project.display(), origin.url);
    run(work.capturing(&origin.ca).args(["--", "sh", "-euc", &outside])).expect_code(0);
    let hook = hook(&work, "");
    // Each body becomes a store path of its own; from here on there is no origin.
    sandbox.built(&hook);
    let package = format!(
        "pkgs.stdenv.mkDerivation {{
            name = \"demo\";
            src = {};
            nativeBuildInputs = [ pkgs.cmake pkgs.curl {hook} ];
            preConfigure = noNetwork;
            configurePhase = \"runHook preConfigure; cmake -B tree -DORIGIN={}\";
            buildPhase = \"cmake --build tree\";
            installPhase = \"cp -r tree $out\";
        }}",
        nix_path(&project),
        origin.url,
    );
    drop(origin);
    let inside = sandbox.built(&package);
    for file in ["demo", "banner.txt", "proverbs.txt", "_deps/greeting-build/libgreeting.a"] {
        assert_eq!(fs::read(inside.join(file)).unwrap(), work.read(&format!("tree/{file}")), "{file}");
    }
    let sources = |tree_of: &Path| tree(&tree_of.join("_deps/greeting-src"));
    assert_eq!(sources(&inside), sources(&work.path("tree")));
    let printed = run(&mut work.command(inside.join("demo"))).expect_code(0);
    assert!(printed.text().contains("reader"), "{printed}");
}

/// A file server and a git server in one, and what three clients do with it.
struct ThreeClients {
    origin: GitServer,
    script: String,
}

impl ThreeClients {
    fn start() -> Self {
        let origin = GitServer::start();
        fs::write(origin.nginx.www().join("small.txt"), "a small file\n").unwrap();
        fs::write(origin.nginx.www().join("large.bin"), pattern(3_000_000)).unwrap();
        let script = format!(
            "curl -sSfO {small}; curl -sSf -r 1000-1999 -o part {large}; curl -sS -o absent.txt {absent}
             git clone --quiet {git} project; git -C project log --format=%H >commits; rm -rf project/.git
             python3 -c 'import sys, urllib.request
open(\"python.bin\", \"wb\").write(urllib.request.urlopen(sys.argv[1]).read())' {large}
            ",
            small = origin.nginx.url("/small.txt"),
            large = origin.nginx.tls_url("/large.bin"),
            absent = origin.nginx.tls_url("/absent"),
            git = origin.url(),
        );
        Self { origin, script }
    }

    /// Captures what the clients do, into `outside`.
    fn capture(&self, work: &Workdir) {
        let script = format!("mkdir outside; cd outside; {}", self.script);
        run(work.capturing(&self.origin.nginx.ca.pem).args(["--", "bash", "-euc", &script])).expect_code(0);
    }
}

fn curl_git_and_python_get_the_same_inside_as_they_got_outside(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let clients = ThreeClients::start();
    clients.capture(&work);
    let hook = hook(&work, "");
    sandbox.built(&hook);
    let script = clients.script.clone();
    drop(clients);
    let inside = sandbox.built(&build(&hook, "pkgs.curl pkgs.git pkgs.python3", &script));
    let (inside, outside) = (tree(&inside), tree(&work.path("outside")));
    assert!(outside.len() > 40, "{outside:?}");
    assert_eq!(inside, outside);
}

fn every_body_is_fetched_to_the_store_path_that_we_print(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = DemoOrigin::start(&work);
    let script = format!("curl -sSfLO {0}/banner/latest -O {0}/archive/greeting-1.0.tar.gz", origin.url);
    run(work.capturing(&origin.ca).args(["--", "sh", "-euc", &script])).expect_code(0);
    let printed = run(&mut work.buildproxy("paths")).expect_code(0);
    let ours: BTreeSet<_> = printed.text().split_whitespace().filter(|word| word.starts_with("/nix/store/")).collect();
    assert_eq!(ours.len(), 2, "{printed}");
    let built = sandbox.build(&format!("{}.bodies", hook(&work, ""))).expect_code(0);
    assert_eq!(built.text().lines().collect::<BTreeSet<_>>(), ours);
    for path in ours {
        assert!(sandbox.real(path).is_file(), "{path}");
    }
}

/// One file on an origin, captured; then the origin is gone and the file is in the store.
fn one_file(work: &Workdir, sandbox: &Sandbox) -> (String, String) {
    let origin = Nginx::start("");
    fs::write(origin.www().join("file"), "a file\n").unwrap();
    let url = origin.tls_url("/file");
    run(work.capturing(&origin.ca.pem).args(["--", "curl", "-sSfO", &url])).expect_code(0);
    let hook = hook(work, "");
    sandbox.built(&hook);
    (url, hook)
}

fn run_command_subshells_strict_scripts_and_sourcing_are_served(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let get = format!("curl -sSf {url}");
    let cases = [
        // The hook among the inputs.
        build(
            &hook,
            "pkgs.curl",
            &format!("{get} >a; ({get}) >b; (set -euo pipefail; {get} | cat >c); x=$({get}); echo $x >d"),
        ),
        build(&hook, "pkgs.curl", &format!("bash -c '(set -eu; {get} >a)'; set -euo pipefail; {get} >b; exit 0")),
        // Sourced: in the script itself, under strict options, in a subshell, twice, in a script that has a trap.
        build("", "pkgs.curl", &format!("source HOOK; {get} >a")),
        build("", "pkgs.curl", &format!("set -euo pipefail; source HOOK; {get} >a; source HOOK; {get} >b")),
        build("", "pkgs.curl", &format!("(source HOOK; {get} >a); (set -euo pipefail; source HOOK; {get} >b)")),
        build(
            "",
            "pkgs.curl",
            &format!("bash -euo pipefail -c 'trap \"echo ended >c\" EXIT; source HOOK; {get} >a'; [ -e c ]"),
        ),
    ];
    for case in cases {
        let case = case.replace("HOOK", &format!("${{{hook}}}"));
        let files = tree(&sandbox.built(&case));
        assert_eq!(files.values().next().map(String::as_str), Some("a file\n"), "{case}: {files:?}");
        assert!(files.iter().all(|(name, text)| text == "a file\n" || name == Path::new("c")), "{case}: {files:?}");
    }
}
