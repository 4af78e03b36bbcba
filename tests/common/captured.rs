//! What was captured outside, as expressions for the sandbox.

use std::fs;

use super::{
    Nginx, Workdir, run,
    sandbox::{Sandbox, nix_path, nix_string},
};

/// `mkBuildproxy` for the inventory captured in `work`, whose origins are on loopback; `more` is more of its options.
pub fn hook(work: &Workdir, more: &str) -> String {
    format!("(mkBuildproxy {{ inventory = {}; proxyLoopback = true; {more} }})", nix_path(&work.path("inventory.toml")))
}

/// A build of `script` in `$out`, with the hook and other inputs, where there is no network.
pub fn build(hook: &str, inputs: &str, script: &str) -> String {
    format!(
        "pkgs.runCommand \"built\" {{ nativeBuildInputs = [ {hook} {inputs} ]; }} \
         (noNetwork + \"mkdir $out; cd $out\\n\" + {})",
        nix_string(script)
    )
}

/// Captures one file, `a file` and a line end under a name that is fetched again, and puts it into the store; its origin is gone then. Gives its URL and
/// the hook.
pub fn one_file(work: &Workdir, sandbox: &Sandbox) -> (String, String) {
    let origin = Nginx::start("");
    fs::write(origin.www().join("file.gz"), "a file\n").unwrap();
    let url = origin.tls_url("/file.gz");
    run(work.capturing(&origin.ca.pem).args(["--", "curl", "-sSfO", &url])).expect_code(0);
    let hook = hook(work, "");
    sandbox.built(&hook);
    (url, hook)
}
