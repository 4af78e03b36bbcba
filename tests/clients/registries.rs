//! Package managers against the registries that this machine is set up for, whatever these are: captured, then replayed
//! from an empty home where there is no network, with bodies that were fetched anew as anybody could.
//!
//! A registry can be slow, or fail for minutes: each capture is tried three times, and a test is skipped, with the
//! reason on stderr, where the registry does not answer a small question of the package manager without us either.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::common::{
    Entries, Entry, Outcome, Workdir, in_empty_network, python_tool, run,
    sandbox::{Nix, Sandbox, nix_path},
    tree,
};

/// How often a capture is tried.
const TRIES: usize = 3;
/// Seconds that a script has: far above what it needs.
const PATIENCE: &str = "50";

/// Configuration of clients, below the user's home.
const CONFIGURATION: &[&str] = &[".npmrc", ".config/pip/pip.conf", ".config/uv/uv.toml", ".pip/pip.conf"];
/// Beginnings of the names of variables that say where registries are, and how to get there.
const VARIABLES: &[&str] =
    &["pip_", "uv_", "npm_config_", "cargo_registr", "cargo_source_", "cargo_net_", "cargo_http_"];
const OTHER_VARIABLES: &[&str] =
    &["http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"];

/// So that a registry that is down does not take minutes: we try again ourselves.
const FEW_RETRIES: &[(&str, &str)] = &[
    ("PIP_RETRIES", "1"),
    ("UV_HTTP_RETRIES", "1"),
    ("CARGO_NET_RETRY", "1"),
    ("npm_config_fetch_retries", "1"),
    ("npm_config_fetch_retry_mintimeout", "1000"),
];

/// This machine's variables for its package managers, without what leads to its caches.
fn registry_variables() -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy().to_lowercase();
        let is_wanted = VARIABLES.iter().any(|start| name.starts_with(start)) || OTHER_VARIABLES.contains(&&*name);
        is_wanted && !name.contains("cache") && !name.contains("prefix")
    })
}

/// The user's configuration files of package managers, with their places below a home.
fn registry_files() -> Vec<(PathBuf, PathBuf)> {
    let home = PathBuf::from(env::var_os("HOME").unwrap());
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let at_home = CONFIGURATION.iter().map(|name| (home.join(name), PathBuf::from(name)));
    let of_cargo = ["config.toml", "config"].map(|name| (cargo_home.join(name), Path::new(".cargo").join(name)));
    at_home.chain(of_cargo).filter(|(file, _)| file.is_file()).collect()
}

/// A home and a folder for temporary files with nothing in them but where the registries are.
fn begin_anew(work: &Workdir) {
    work.empty_home();
    for (file, place) in registry_files() {
        let place = work.root().join("home").join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::copy(file, place).unwrap();
    }
}

/// `command` with this machine's registries, running `script` in the new folder `project`, for a limited time.
fn running(mut command: Command, script: &str) -> Command {
    let toolchain = Path::new(env!("CARGO")).parent().unwrap().display();
    let script = format!("PATH=\"{toolchain}:$PATH\"; mkdir project; cd project\n{script}");
    command.envs(registry_variables()).envs(FEW_RETRIES.iter().copied());
    command.args(["timeout", PATIENCE, "sh", "-euc", &script]);
    command
}

/// What was seen of a package manager that was captured, then replayed.
struct Seen {
    work: Workdir,
    captured: Outcome,
    replayed: Outcome,
    inventory: Entries,
    /// What both left in their folders.
    files: BTreeMap<PathBuf, String>,
}

impl Seen {
    /// How many entries have a URL that ends like this.
    fn count(&self, end: &str) -> usize {
        self.inventory.urls().iter().filter(|url| url.ends_with(end)).count()
    }

    /// Fails where Nix would fetch an index page again: it asks for no media type, and would get another one.
    #[track_caller]
    fn keeps_index_pages_beside_the_inventory(&self) {
        let pages: Vec<_> = self.inventory.0.iter().filter(|entry| is_index_page(entry)).collect();
        assert!(!pages.is_empty(), "{:?}", self.inventory.urls());
        for page in pages {
            assert_ne!(page.source(), "fetch", "{} {:?}", page.text("url"), page.header("content-type"));
        }
    }

    #[track_caller]
    fn has_file(&self, path: &str) {
        assert!(self.files.contains_key(Path::new(path)), "no {path} among {:#?}", self.files.keys());
    }
}

fn is_index_page(entry: &Entry) -> bool {
    entry.header("content-type").is_some_and(|kind| kind.contains("json") || kind.contains("html"))
}

/// Captures `script`; empties the store, and fetches what anybody could; and replays that where there is no network. It
/// must print the same and leave the same files. `None` where the registry does not answer `question` either, a small
/// script.
#[track_caller]
fn with_and_without_the_registry(question: &str, script: &str) -> Option<Seen> {
    let mut work = Workdir::new();
    let captured = tried(question, || {
        work = Workdir::new();
        begin_anew(&work);
        let mut capturing = work.buildproxy("capture");
        capturing.arg("--");
        run(&mut running(capturing, script))
    })?;
    fs::rename(work.path("project"), work.path("captured")).unwrap();
    begin_anew(&work);
    fs::remove_dir_all(work.store()).unwrap();
    tried(question, || run(work.buildproxy("fetch").envs(registry_variables())))?;
    let mut replaying = work.buildproxy("replay");
    replaying.arg("--");
    let replayed = run(&mut in_empty_network(&running(replaying, script))).expect_code(0);
    assert!(!replayed.stderr.contains("unused entries"), "the same requests, no fewer: {replayed}");
    assert_eq!(captured.text(), replayed.text());
    let files = tree(&work.path("captured"));
    assert_eq!(files, tree(&work.path("project")));
    run(work.buildproxy("verify").arg("--quiet")).expect_code(0);
    Some(Seen { captured, replayed, inventory: work.inventory(), files, work })
}

/// The first outcome that is a success.
#[track_caller]
fn tried(question: &str, mut attempt: impl FnMut() -> Outcome) -> Option<Outcome> {
    let mut outcome = attempt();
    for _ in 1..TRIES {
        if outcome.code != 0 {
            outcome = attempt();
        }
    }
    if outcome.code == 0 {
        return Some(outcome);
    }
    let work = Workdir::new();
    begin_anew(&work);
    let directly = run(&mut running(work.command("env"), question));
    assert_ne!(directly.code, 0, "the registry answers the package manager itself, but not this: {outcome}");
    // Not `eprintln!`, which nobody sees of a test that passes.
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let reason = directly.stderr.lines().find(|line| line.to_lowercase().contains("err")).unwrap_or_default();
    let note = format!("SKIPPED {name}: the registry does not answer without buildproxy either: {reason}\n");
    std::io::stderr().write_all(note.as_bytes()).unwrap();
    None
}

#[test]
fn the_configuration_of_this_machine_is_passed_on_without_its_caches() {
    let passed = |name: &str| registry_variables().any(|(passed, _)| passed == *name);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let is_index = ["PIP_INDEX_URL", "UV_INDEX_URL", "npm_config_registry", "SSL_CERT_FILE"].contains(&&*name);
        assert!(!is_index || passed(&name), "{name}");
        assert!(!(name.to_lowercase().contains("cache") && passed(&name)), "{name}");
    }
}

fn pip_question() -> String {
    format!("'{}' -m pip download -q --no-deps -d . idna", python_tool("python3"))
}

#[test]
fn pip_of_two_versions_downloads_wheels_and_their_dependencies() {
    let python = python_tool("python3");
    let script = format!(
        "python='{python}'
        $python -m pip download -q -d older requests
        $python -m pip install -q --target \"$HOME/pip\" pip >&2
        PYTHONPATH=\"$HOME/pip\" $python -m pip --version | cut -d ' ' -f 2
        $python -m pip --version | cut -d ' ' -f 2
        PYTHONPATH=\"$HOME/pip\" $python -m pip install -q --no-compile --target newer requests >&2"
    );
    let Some(seen) = with_and_without_the_registry(&pip_question(), &script) else { return };
    let versions: Vec<_> = seen.captured.text().lines().collect();
    assert!(versions.len() == 2 && versions[0] != versions[1], "{versions:?}");
    assert!(seen.files.keys().any(|file| file.starts_with("older") && file.to_string_lossy().contains("urllib3-")));
    seen.keeps_index_pages_beside_the_inventory();
    seen.has_file("newer/requests/__init__.py");
    seen.has_file("newer/urllib3/__init__.py");
}

#[test]
fn pip_builds_a_source_distribution_with_what_its_build_needs() {
    let script =
        format!("'{}' -m pip install --no-compile --no-binary idna --target built idna >&2", python_tool("python3"));
    let Some(seen) = with_and_without_the_registry(&pip_question(), &script) else { return };
    assert_eq!(seen.count(".tar.gz"), 1, "{:?}", seen.inventory.urls());
    assert!(seen.count(".whl") >= 1, "the build's own needs: {:?}", seen.inventory.urls());
    seen.has_file("built/idna/core.py");
}

#[test]
fn uv_installs_wheels_and_builds_a_source_distribution() {
    let script = format!(
        "export UV_PYTHON=/usr/bin/python3 UV_PYTHON_DOWNLOADS=never
        uv='{}'; $uv pip install --target wheels requests >&2; $uv pip install --no-binary idna --target built idna >&2",
        python_tool("uv")
    );
    let Some(seen) = with_and_without_the_registry(&pip_question(), &script) else { return };
    assert_eq!(seen.count(".tar.gz"), 1, "{:?}", seen.inventory.urls());
    seen.keeps_index_pages_beside_the_inventory();
    seen.has_file("wheels/urllib3/__init__.py");
    seen.has_file("built/idna/core.py");
}

const NPM_QUESTION: &str = "npm view ms version";

#[test]
fn npm_installs_and_installs_again_from_its_lock_file_and_does_the_same_in_the_sandbox() {
    let script = r#"echo '{"name": "app", "version": "1.0.0"}' >package.json
        npm install --no-audit debug@4 >&2; rm -r node_modules ~/.npm; npm ci --no-audit >&2; npm config get registry"#;
    let Some(seen) = with_and_without_the_registry(NPM_QUESTION, script) else { return };
    seen.keeps_index_pages_beside_the_inventory();
    seen.has_file("node_modules/debug/package.json");
    seen.has_file("node_modules/ms/package.json");
    assert_eq!(seen.count(".tgz"), 2, "{:?}", seen.inventory.urls());

    // Nix fetches the packages from the registry, and npm gets them from the hook.
    let sandbox = Sandbox::new(Nix::Newer);
    let expression = format!(
        "pkgs.runCommand \"built\" {{ nativeBuildInputs = [ (mkBuildproxy {inventory}) ]; }} ''
            ${{noNetwork}}
            export HOME=$TMPDIR PATH=\"$PATH:/usr/bin:/bin\" npm_config_registry={registry}
            cp ${{{project}}}/package*.json . && npm ci --no-audit && cp -r node_modules $out
        ''",
        inventory = nix_path(&seen.work.path("inventory.toml")),
        registry = seen.captured.text().trim(),
        project = nix_path(&seen.work.path("captured")),
    );
    let Some(built) = tried(NPM_QUESTION, || sandbox.build(&expression)) else { return };
    assert_eq!(tree(&sandbox.real(built.text().trim())), tree(&seen.work.path("captured/node_modules")));
}

#[test]
fn pnpm_and_yarn_install_from_npms_registry() {
    // Two files hold the time of the installation. As root, yarn would keep its cache outside of the home.
    let script = r#"npm_config_registry=$(npm config get registry); export npm_config_registry YARN_CACHE_FOLDER="$HOME/yarn"
        npm install --prefix "$HOME/tools" pnpm@9 yarn@1 >&2; PATH="$HOME/tools/node_modules/.bin:$PATH"
        echo '{"name": "app", "version": "1.0.0", "license": "MIT", "dependencies": {"debug": "^4"}}' >package.json
        mkdir pnpm yarn; cp package.json pnpm; cp package.json yarn
        cd pnpm; pnpm install >&2; cp -rL node_modules/debug copied; rm node_modules/.modules.yaml
        cd ../yarn; yarn install --no-progress >&2"#;
    let Some(seen) = with_and_without_the_registry(NPM_QUESTION, script) else { return };
    seen.has_file("pnpm/pnpm-lock.yaml");
    seen.has_file("pnpm/copied/package.json");
    seen.has_file("yarn/yarn.lock");
    seen.has_file("yarn/node_modules/ms/package.json");
}

#[test]
fn cargo_fetches_and_vendors_from_a_sparse_index_over_http_2() {
    let script = r#"mkdir src; : >src/lib.rs
        printf '[workspace]\n[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nhttp = "1"\n' >Cargo.toml
        export CARGO_HTTP_DEBUG=true CARGO_LOG=network=debug
        cargo fetch >&2; cargo vendor >config; cargo update"#;
    let Some(seen) = with_and_without_the_registry("cargo info itoa", script) else { return };
    for outcome in [&seen.captured, &seen.replayed] {
        assert!(outcome.stderr.contains("< HTTP/2 200"), "{outcome}");
    }
    seen.has_file("vendor/http/src/lib.rs");
    seen.has_file("vendor/bytes/src/lib.rs");
    assert_eq!(seen.count("/config.json"), 1, "{:?}", seen.inventory.urls());
    let is_line = |entry: &&Entry| entry.text("url").ends_with("/bytes") || entry.text("url").ends_with("/http");
    let lines: Vec<_> = seen.inventory.0.iter().filter(is_line).map(Entry::source).collect();
    assert_eq!(lines, ["file", "file"], "the index has a new line for each new version");
}

/// apt with folders of its own, and the smallest of the suites that this machine has.
const APT: &str = r#"apt-get indextargets --format 'deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' >all
    (grep -- '-security ' all || cat all) | head -n 1 >sources.list
    mkdir -p apt/lists/partial apt/cache/archives/partial parts
    apt() {
        apt-get -o Dir::Etc::SourceList="$PWD/sources.list" -o Dir::Etc::SourceParts="$PWD/parts" \
            -o Dir::State="$PWD/apt" -o Dir::State::Lists="$PWD/apt/lists" -o Dir::State::Status=/var/lib/dpkg/status \
            -o Dir::Cache="$PWD/apt/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none \
            -o APT::Update::Post-Invoke= -o APT::Update::Post-Invoke-Success= "$@"
    }
    apt update --error-on=any >&2
"#;

#[test]
fn apt_updates_its_lists_and_downloads_a_package() {
    let script = r#"smallest=$(apt indextargets --format '$(FILENAME)' 'Created-By: Packages' |
            xargs /usr/lib/apt/apt-helper cat-file |
            awk '/^Package:/ { name = $2 } /^Version:/ { version = $2 } /^Size:/ { print $2, name "=" version }' | sort -n |
            head -n 1 | cut -d ' ' -f 2)
        echo "$smallest"; apt download "$smallest" >&2; rm -r apt/cache apt/lists/lock"#;
    let Some(seen) = with_and_without_the_registry(APT, &[APT, script].concat()) else { return };
    assert_eq!(seen.count(".deb"), 1, "{:?}", seen.inventory.urls());
    for entry in &seen.inventory.0 {
        let is_package = entry.text("url").ends_with(".deb");
        assert_eq!(entry.source() == "fetch", is_package, "{}: the lists are others tomorrow", entry.text("url"));
    }
}
