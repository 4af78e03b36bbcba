//! Builds that download, captured outside and then built through `mkBuildproxy` in Nix's real sandbox.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use crate::common::{
    Nginx, Workdir,
    captured::{build, hook, one_file},
    git::GitServer,
    pattern,
    process::{Guard, wait_for},
    run,
    sandbox::{Nix, Sandbox, nix_path, repository},
    sri, tree,
};
use rustix::process::{Pid, Signal};

crate::with_either_nix! {
    a_cmake_build_makes_the_same_inside_as_it_made_outside
    curl_git_and_python_get_the_same_inside_as_they_got_outside
    every_body_is_fetched_to_the_store_path_that_we_print
    run_command_subshells_strict_scripts_and_sourcing_are_served
    a_request_that_the_inventory_has_not_fails_the_build_and_the_log_shows_the_nearest
    a_miss_fails_the_build_however_the_hook_was_started
    a_client_that_goes_past_the_replay_is_named_by_isolation_inside_the_sandbox
    a_body_that_is_gone_or_was_changed_at_its_origin_fails_before_the_build
    a_body_that_was_changed_in_the_store_fails_the_build
    two_builds_at_once_have_a_replay_each
    an_interrupted_build_leaves_no_process_and_no_file
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

fn a_request_that_the_inventory_has_not_fails_the_build_and_the_log_shows_the_nearest(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    // The client does not mind; what it makes of the answer is worth nothing all the same.
    let tolerant = format!("curl -sS {url} -o file '{url}?v=2' -o other; cat other");
    for script in [tolerant.clone(), format!("({tolerant}); exit 0")] {
        let log = sandbox.fails(&build(&hook, "pkgs.curl", &script));
        log.expect_stderr(&[
            "warning: requests that nothing answered",
            &format!("GET {url}?v=2"),
            "1 request answered from 1 of 1 entry, 1 miss",
            "failed with exit code 4",
        ]);
    }
    // Where the build fails by itself the report says why, and the exit code is the build's own.
    let strict = sandbox.fails(&build(&hook, "pkgs.curl", &format!("curl -sSf '{url}?v=2' || exit 77")));
    strict.expect_stderr(&["requests that nothing answered", &format!("GET {url}?v=2"), "failed with exit code 77"]);
    let lenient = hook.replace("proxyLoopback", "strict = false; proxyLoopback");
    sandbox.built(&build(&lenient, "pkgs.curl", &tolerant));
}

fn a_miss_fails_the_build_however_the_hook_was_started(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let miss = format!("curl -sS {url} {url}/more");
    let scripts = [
        format!("source HOOK; {miss}"),
        format!("(source HOOK; {miss}); echo not here"),
        format!("set -euo pipefail; source HOOK; {miss}; exit 0"),
        format!("bash -euo pipefail -c 'trap \"echo ended\" EXIT; source HOOK; {miss}'; echo not here"),
    ];
    for script in scripts {
        let case = build("", "pkgs.curl", &script).replace("HOOK", &format!("${{{hook}}}"));
        let log = sandbox.fails(&case);
        assert!(!log.stderr.contains("not here\n"), "{log}");
        log.expect_stderr(&[&format!("GET {url}/more"), "1 miss", "failed with exit code 4"]);
    }
}

fn a_client_that_goes_past_the_replay_is_named_by_isolation_inside_the_sandbox(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    // Who goes past the hook's replay gets nothing and is not seen; the report says how to see it.
    let past = format!("curl -sS --noproxy '*' {}", url.replace("localhost", "past.test"));
    sandbox.fails(&build(&hook, "pkgs.curl", &past)).expect_stderr(&["nothing was asked of the proxy", "--isolate"]);
    let script = format!(
        "cp $inventory inventory.toml; if {{ buildproxy replay --store none --isolate -- {past}; }} 2>log; then exit 9; fi; cat log >&2"
    );
    let package = build("", "pkgs.curl buildproxy", &script).replacen(
        "nativeBuildInputs",
        &format!("inventory = {}; nativeBuildInputs", nix_path(&work.path("inventory.toml"))),
        1,
    );
    let outcome = sandbox.build(&package).expect_code(0);
    // There is no file that names a name server, and the name is known all the same.
    outcome.expect_stderr(&["curl (process ", "tried to reach past.test:", "look for --noproxy"]);
}

fn a_body_that_is_gone_or_was_changed_at_its_origin_fails_before_the_build(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let origin = Nginx::start("");
    fs::write(origin.www().join("file.gz"), "a file\n").unwrap();
    let url = origin.tls_url("/file.gz");
    run(work.capturing(&origin.ca.pem).args(["--", "curl", "-sSfO", &url])).expect_code(0);
    let package = build(&hook(&work, ""), "pkgs.curl", &format!("echo started >&2; curl -sSfO {url}"));
    let failing = |why: &[&str]| {
        let log = sandbox.fails(&package);
        assert!(!log.stderr.contains("started\n"), "{log}");
        log.expect_stderr(why);
    };
    fs::write(origin.www().join("file.gz"), "another file\n").unwrap();
    failing(&["hash mismatch", "-file.gz.drv", &sri(b"a file\n"), &sri(b"another file\n")]);
    fs::remove_file(origin.www().join("file.gz")).unwrap();
    failing(&[&format!("trying {url}"), "cannot download file.gz from any mirror"]);
    drop(origin);
    failing(&[&format!("trying {url}"), "cannot download file.gz from any mirror"]);
}

fn a_body_that_was_changed_in_the_store_fails_the_build(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let body = sandbox.build(&format!("{hook}.bodies")).expect_code(0);
    let body = sandbox.real(body.text().trim());
    fs::set_permissions(&body, fs::Permissions::from_mode(0o644)).unwrap();
    let package = |hook: &str| build(hook, "pkgs.curl", &format!("curl -sS -o file {url}; cat file"));
    // Another size is seen by every replay, other bytes by one that is asked to look.
    fs::write(&body, "a fil").unwrap();
    sandbox.fails(&package(&hook)).expect_stderr(&["bodies that could not be sent", &url, "failed with exit code 4"]);
    fs::write(&body, "b file\n").unwrap();
    let checking = hook.replace("proxyLoopback", "checkBodies = true; proxyLoopback");
    sandbox.fails(&package(&checking)).expect_stderr(&[
        "bodies that could not be sent",
        &url,
        "failed with exit code 4",
    ]);
}

fn two_builds_at_once_have_a_replay_each(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let script = |name: &str| {
        let script = format!(
            "date +%s%N >begun; curl -sSfo a {url}; sleep 3; curl -sSfo b {url}; echo $BUILDPROXY_PROXY_URL; date +%s%N >ended"
        );
        build(&hook, "pkgs.curl", &script).replacen("built", name, 1)
    };
    let mut both = sandbox.building(&format!("[ ({}) ({}) ]", script("one"), script("two")));
    let outcome = run(both.args(["--max-jobs", "2"])).expect_code(0);
    let outputs: Vec<_> = outcome.text().lines().map(|path| sandbox.real(path)).collect();
    assert_eq!(outputs.len(), 2, "{outcome}");
    let at =
        |output: &Path, name: &str| -> u64 { fs::read_to_string(output.join(name)).unwrap().trim().parse().unwrap() };
    let (one, two) = (&outputs[0], &outputs[1]);
    assert!(at(one, "begun") < at(two, "ended") && at(two, "begun") < at(one, "ended"), "they ran one after the other");
    for output in &outputs {
        assert_eq!(fs::read_to_string(output.join("a")).unwrap(), "a file\n");
        assert_eq!(fs::read_to_string(output.join("b")).unwrap(), "a file\n");
    }
    outcome.expect_stderr(&["2 requests answered from 1 of 1 entry, 0 misses"]);
}

/// The processes of this machine that have `text` among their arguments.
fn processes_with(text: &str) -> Vec<Pid> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|item| item.unwrap().file_name().to_str()?.parse().ok());
    let has = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    };
    pids.filter(has).filter_map(Pid::from_raw).collect()
}

/// The parent of a process.
fn parent_of(pid: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    Pid::from_raw(parent.trim().parse().unwrap()).unwrap()
}

fn an_interrupted_build_leaves_no_process_and_no_file(nix: Nix) {
    let (work, sandbox) = (Workdir::new(), Sandbox::new(nix));
    let (url, hook) = one_file(&work, &sandbox);
    let index = sandbox.value(&format!("toString {hook}.index"));
    let index = index.as_str().unwrap();
    // The first two as from a person or a service manager; the last is for the build's shell, which can do nothing more.
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let name = format!("interrupted-by-{}", signal.as_raw());
        let script = format!("curl -sSfo a {url}; echo in the middle of {name} >&2; sleep 120");
        let log = sandbox.root().join(&name);
        let mut command = sandbox.building(&build(&hook, "pkgs.curl", &script).replacen("built", &name, 1));
        command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()).stdin(Stdio::null());
        let mut running = Guard(command.spawn().unwrap());
        let line = format!("in the middle of {name}\n");
        wait_for("the middle of the build", || match running.wait(Duration::from_millis(20)) {
            Some(code) => panic!("ended with {code}: {}", fs::read_to_string(&log).unwrap()),
            None => fs::read_to_string(&log).unwrap().contains(&line).then_some(()),
        });
        let replay = processes_with(index);
        assert_eq!(replay.len(), 1, "{replay:?}");
        let build = parent_of(replay[0]);
        assert_ne!(sandbox.leftovers(), Vec::<PathBuf>::new(), "the build has a folder while it runs");
        match signal {
            Signal::KILL => rustix::process::kill_process(build, signal).unwrap(),
            _ => running.signal(signal),
        }
        assert!(running.wait(Duration::from_secs(20)).is_some_and(|code| code != 0), "nix-build ends");
        wait_for("the replay's end", || processes_with(index).is_empty().then_some(()));
        assert!(rustix::process::test_kill_process(build).is_err(), "the build's shell has ended");
        assert_eq!(sandbox.leftovers(), Vec::<PathBuf>::new(), "after {signal:?}");
    }
}
