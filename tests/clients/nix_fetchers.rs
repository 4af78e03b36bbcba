//! What Nix fetches itself, while it evaluates and while it builds: captured, then replayed into a new store where there
//! is no network.

use std::{fs, path::Path, process::Command};

use crate::common::{
    Nginx, Outcome, Workdir,
    git::GitServer,
    pattern, run,
    sandbox::{Nix, Sandbox},
    sri,
    workdir::behind,
};

crate::with_either_nix! {
    files_and_archives_have_the_same_hashes_and_paths
    an_evaluation_reads_what_it_fetches
    a_fixed_output_of_nix_itself_is_built
    git_repositories_are_fetched_by_revision
}

/// Runs a shell script behind `command`, a capture or a replay, where `nix` is the one of a new store.
fn in_a_new_store(nix: Nix, mut command: Command, script: &str) -> (Sandbox, Command) {
    let sandbox = Sandbox::new(nix);
    let of_nix = sandbox.command("nix");
    let program = Path::new(of_nix.get_program());
    if let Some(folder) = program.parent().filter(|folder| folder.is_absolute()) {
        command.env("PATH", format!("{}:{}", folder.display(), std::env::var("PATH").unwrap()));
    }
    command.envs(
        of_nix
            .get_envs()
            .filter(|(name, _)| name.to_string_lossy().starts_with("NIX_"))
            .map(|(name, value)| (name, value.unwrap())),
    );
    command.args(["--", "bash", "-euo", "pipefail", "-c", script]);
    (sandbox, command)
}

/// What `script` prints behind a capture of what `origin` serves, and the same behind a replay; it must be the same.
#[track_caller]
fn with_and_without_the_origin<O>(nix: Nix, origin: O, ca: &str, script: &str) -> (Workdir, Outcome) {
    let work = Workdir::new();
    let (_outside, mut capturing) = in_a_new_store(nix, work.capturing(ca), script);
    let captured = run(&mut capturing).expect_code(0);
    drop(origin);
    // Nix keeps what it fetched there, too.
    fs::remove_dir_all(work.root().join("home")).unwrap();
    let (_inside, replaying) = in_a_new_store(nix, work.replaying(), script);
    let replayed = run(&mut in_an_empty_network_as_this_user(&replaying)).expect_code(0);
    assert!(!replayed.stderr.contains("unused entries"), "the same requests, no fewer: {replayed}");
    assert_eq!(captured.text(), replayed.text());
    (work, captured)
}

/// Nix gives up groups before it builds, if it is root. Root of a namespace that others made may not.
fn in_an_empty_network_as_this_user(command: &Command) -> Command {
    let flags: &[&str] = if rustix::process::geteuid().is_root() { &["-n"] } else { &["-cn", "--keep-caps"] };
    behind(&[&["unshare"], flags, &["sh", "-euc", r#"ip link set lo up && exec "$@""#, "sh"]].concat(), command)
}

/// A file that has two names, and an archive.
fn files() -> Nginx {
    let nginx = Nginx::start("location = /latest { return 302 /file.bin; }");
    fs::write(nginx.www().join("file.bin"), pattern(300_000)).unwrap();
    fs::write(nginx.www().join("text.txt"), "a text\n").unwrap();
    let pack = "mkdir -p library/folder; echo inside >library/folder/file; tar czf library.tar.gz library";
    run(Command::new("sh").args(["-euc", pack]).current_dir(nginx.www())).expect_code(0);
    nginx
}

fn files_and_archives_have_the_same_hashes_and_paths(nix: Nix) {
    let (nginx, hash) = (files(), sri(&pattern(300_000)));
    let script = format!(
        "nix-prefetch-url --print-path {file}; nix-prefetch-url --print-path --name latest {latest}
         nix-prefetch-url --print-path --unpack {archive}; nix store prefetch-file --json {text}",
        file = nginx.tls_url("/file.bin"),
        latest = nginx.tls_url("/latest"),
        archive = nginx.url("/library.tar.gz"),
        text = nginx.tls_url("/text.txt"),
    );
    let ca = nginx.ca.pem.clone();
    let (_, captured) = with_and_without_the_origin(nix, nginx, &ca, &script);
    let printed = captured.text();
    let hex = run(Command::new("nix-hash").args(["--to-base32", "--type", "sha256", &hash])).expect_code(0);
    assert_eq!(printed.matches(hex.text().trim()).count(), 2, "by both names: {printed}");
    assert_eq!(printed.matches("/nix/store/").count(), 4, "{printed}");
    assert!(printed.contains(&sri(b"a text\n")), "{printed}");
}

fn an_evaluation_reads_what_it_fetches(nix: Nix) {
    let nginx = files();
    let expression = format!(
        "[ (builtins.readFile (builtins.fetchurl {text:?}))
           (builtins.hashFile \"sha256\" (builtins.fetchurl {{ url = {latest:?}; name = \"latest\"; }}))
           (builtins.readFile (builtins.fetchTarball {archive:?} + \"/folder/file\")) ]",
        text = nginx.tls_url("/text.txt"),
        latest = nginx.tls_url("/latest"),
        archive = nginx.tls_url("/library.tar.gz"),
    );
    // Twice: the second time Nix asks whether the archive is still that.
    let evaluate = format!("nix-instantiate --eval --strict --option tarball-ttl 0 --expr '{expression}'");
    let ca = nginx.ca.pem.clone();
    let (_, captured) = with_and_without_the_origin(nix, nginx, &ca, &format!("{evaluate}; {evaluate}"));
    assert_eq!(captured.text().matches(r#""a text\n""#).count(), 2, "{captured}");
    assert_eq!(captured.text().matches(r#""inside\n""#).count(), 2, "{captured}");
}

fn a_fixed_output_of_nix_itself_is_built(nix: Nix) {
    let nginx = files();
    let fetch =
        |url: String, bytes: &[u8]| format!("import <nix/fetchurl.nix> {{ url = {url:?}; hash = {:?}; }}", sri(bytes));
    let script = format!(
        "cd \"$TMPDIR\"; nix-build --no-out-link --expr '{}'; nix-build --no-out-link --expr '{}'",
        fetch(nginx.tls_url("/latest"), &pattern(300_000)),
        fetch(nginx.url("/text.txt"), b"a text\n"),
    );
    let ca = nginx.ca.pem.clone();
    let (work, captured) = with_and_without_the_origin(nix, nginx, &ca, &script);
    assert_eq!(captured.text().matches("/nix/store/").count(), 2, "{captured}");
    assert_eq!(work.inventory().0.len(), 2);
}

fn git_repositories_are_fetched_by_revision(nix: Nix) {
    let server = GitServer::start();
    let revision =
        run(Command::new("git").args(["rev-parse", "v7"]).current_dir(server.nginx.www().join("git/project.git")));
    let revision = revision.expect_code(0).text().trim().to_owned();
    let fetched = format!("builtins.fetchGit {{ url = {:?}; rev = {revision:?}; ref = \"main\"; }}", server.url());
    let script = format!(
        "nix-instantiate --eval --strict --json --expr 'let it = {fetched}; in {{ inherit (it) rev revCount narHash; files = builtins.readDir it; }}'"
    );
    let ca = server.nginx.ca.pem.clone();
    let (_, captured) = with_and_without_the_origin(nix, server, &ca, &script);
    let value: serde_json::Value = serde_json::from_slice(&captured.stdout).unwrap();
    assert_eq!((&value["rev"], &value["revCount"]), (&revision.into(), &7.into()));
    assert_eq!(value["files"].as_object().unwrap().len(), 7);
}
