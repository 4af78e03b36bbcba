//! The environment that sends every client through the proxy and lets it trust the CA.
//!
//! Each client reads variables of its own; `VARIABLES` is the whole list, with who reads what.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use super::{apt, java, proxy_url::ProxyUrl};
use crate::text::shell_quoted;

/// What a variable is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// The proxy's URL, with scheme: some clients refuse it without.
    ProxyUrl,
    /// The hosts that are asked directly.
    NoProxy,
    /// The file of trusted certificates, in PEM.
    CaFile,
    /// The configuration file made for wget.
    Wgetrc,
    /// The configuration file made for apt.
    AptConfig,
    /// Options for every Java machine.
    JavaToolOptions,
    /// `1` in a capture, else nothing.
    Capture,
    /// Always the same.
    Fixed(&'static str),
    /// Nothing: the variable would lead around the proxy, or to other certificates.
    Unset,
}

/// Every variable, with its value and the clients that read it.
const VARIABLES: &[(&str, Value, &str)] = &[
    ("http_proxy", Value::ProxyUrl, "curl, wget, git, cmake, Nix and aria2 read this one in lower case only"),
    ("HTTP_PROXY", Value::ProxyUrl, "Go, Node and some others look here first"),
    ("https_proxy", Value::ProxyUrl, "every client that knows proxy variables; wget and aria2 in lower case only"),
    ("HTTPS_PROXY", Value::ProxyUrl, "the same, in the other case"),
    ("all_proxy", Value::ProxyUrl, "curl, git, cmake, requests, httpx, uv, pip, deno, bun, cargo, Nix, aria2"),
    ("ALL_PROXY", Value::ProxyUrl, "the same, in the other case"),
    ("no_proxy", Value::NoProxy, "the same clients; wget in lower case only"),
    ("NO_PROXY", Value::NoProxy, "the same, in the other case"),
    ("NODE_USE_ENV_PROXY", Value::Fixed("1"), "Node from 24 on: without it the proxy variables do nothing"),
    ("ELECTRON_GET_USE_PROXY", Value::Fixed("1"), "Electron's downloads: the same, with any Node"),
    ("CARGO_HTTP_PROXY", Value::Unset, "cargo: comes before the others"),
    ("PIP_PROXY", Value::Unset, "pip: comes before the others"),
    ("npm_config_proxy", Value::Unset, "npm, pnpm, yarn 1: come before the others"),
    ("npm_config_https_proxy", Value::Unset, "npm, pnpm, yarn 1"),
    ("npm_config_noproxy", Value::Unset, "npm, pnpm"),
    ("YARN_HTTP_PROXY", Value::ProxyUrl, "yarn from 2 on, which reads none of the above"),
    ("YARN_HTTPS_PROXY", Value::ProxyUrl, "the same"),
    (
        "SSL_CERT_FILE",
        Value::CaFile,
        "OpenSSL: curl, cmake, Python, httpx, uv, aiohttp, bun, Ruby, Composer, Perl; Go; cargo",
    ),
    ("SSL_CERT_DIR", Value::Unset, "the same: certificates beside those of SSL_CERT_FILE"),
    ("CURL_CA_BUNDLE", Value::CaFile, "curl's command, requests, pip"),
    ("GIT_SSL_CAINFO", Value::CaFile, "git, and nothing else works for it"),
    ("REQUESTS_CA_BUNDLE", Value::CaFile, "requests, pip: comes before PIP_CERT"),
    ("PIP_CERT", Value::CaFile, "pip"),
    ("NODE_EXTRA_CA_CERTS", Value::CaFile, "Node, bun, yarn from 2 on; npm and pnpm where they have no cafile"),
    ("npm_config_cafile", Value::CaFile, "npm, pnpm, yarn 1"),
    ("DENO_CERT", Value::CaFile, "deno"),
    ("CARGO_HTTP_CAINFO", Value::CaFile, "cargo"),
    ("NIX_SSL_CERT_FILE", Value::CaFile, "Nix, and what nixpkgs patches: git, curl, Go"),
    ("AWS_CA_BUNDLE", Value::CaFile, "the AWS command and its libraries"),
    ("WGETRC", Value::Wgetrc, "wget, which reads no variable for certificates"),
    ("APT_CONFIG", Value::AptConfig, "apt, which reads the variables for proxies, but none for certificates"),
    ("JAVA_TOOL_OPTIONS", Value::JavaToolOptions, "Java, Maven, Gradle, which read no other variable"),
    ("npm_config_update_notifier", Value::Fixed("false"), "npm: asks for its own newest version otherwise"),
    ("PIP_DISABLE_PIP_VERSION_CHECK", Value::Fixed("1"), "pip: the same"),
    ("BUILDPROXY_PROXY_URL", Value::ProxyUrl, "scripts, for clients that have to be told on their command line"),
    ("BUILDPROXY_CA_FILE", Value::CaFile, "the same"),
    ("BUILDPROXY_CAPTURE", Value::Capture, "the setup hook for Nix, which replays nothing to a build that is captured"),
];

/// The hosts that are not the network: a build's own test servers.
const LOOPBACK_HOSTS: &str = "localhost,127.0.0.1,::1";

/// The variables by which clients find the CA, ours for scripts apart.
pub fn ca_variables() -> impl Iterator<Item = &'static str> {
    let holds_ca = |value| matches!(value, Value::CaFile | Value::Wgetrc | Value::AptConfig | Value::JavaToolOptions);
    let read = VARIABLES.iter().filter(move |(name, value, _)| holds_ca(*value) && !name.starts_with("BUILDPROXY_"));
    read.map(|(name, ..)| *name)
}

/// The value `options` of `JAVA_TOOL_OPTIONS`, with another home: Java takes it from the system's list of users, not from
/// `HOME`.
pub fn with_java_home(options: &str, home: &str) -> String {
    let home = java::quoted(&format!("-Duser.home={home}"));
    if options.is_empty() { home } else { format!("{options} {home}") }
}

/// A variable, for those who write it down.
#[derive(Debug, Clone, Copy)]
pub struct Variable<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its value; `None` is to be unset.
    pub value: Option<&'a str>,
    /// Who reads it, and what there is to know about that.
    pub readers: &'static str,
}

/// The files that some clients need beside the CA's certificates.
const KEY_STORE_FILE: &str = "ca.jks";
const WGETRC_FILE: &str = "wgetrc";
const APT_FILE: &str = "apt.conf";

/// The variables that a command needs to run behind the proxy, and the files that they name.
#[derive(Debug, Clone)]
pub struct ClientEnvironment {
    variables: Vec<(&'static str, Option<String>)>,
}

/// What the values are made of.
struct Values {
    proxy_url: String,
    proxy_loopback: bool,
    ca_file: String,
    /// Where it was not made, the variable stays what it is. The same goes for the next two.
    wgetrc: Option<String>,
    java_options: Option<String>,
    apt_config: Option<String>,
    is_capture: bool,
}

impl Values {
    /// `None`: the variable stays what it is. `Some(None)`: it is to be unset.
    fn of(&self, value: Value) -> Option<Option<String>> {
        Some(match value {
            Value::ProxyUrl => Some(self.proxy_url.clone()),
            Value::NoProxy if self.proxy_loopback => None,
            Value::NoProxy => Some(LOOPBACK_HOSTS.to_owned()),
            Value::CaFile => Some(self.ca_file.clone()),
            Value::Wgetrc => Some(self.wgetrc.clone()?),
            Value::JavaToolOptions => Some(self.java_options.clone()?),
            Value::AptConfig => Some(self.apt_config.clone()?),
            // Only a replay's clients trust nobody but its own CA.
            Value::Capture => self.is_capture.then(|| "1".to_owned()),
            Value::Fixed(text) => Some(text.to_owned()),
            Value::Unset => None,
        })
    }
}

impl ClientEnvironment {
    /// Writes `ca.pem`, `ca.jks`, `wgetrc` and `apt.conf` into `dir`, a directory that is private to this run and outlives
    /// the command.
    ///
    /// Clients will trust `ca_pem`, and `user_roots_pem` too where it is given. With `proxy_loopback`, requests to
    /// loopback go through the proxy as well. `previous` is the environment that is replaced: `JAVA_TOOL_OPTIONS`
    /// and the configurations of wget and apt keep what was in them.
    ///
    /// # Errors
    /// Where a file cannot be written, or `dir` is not UTF-8.
    pub(crate) fn create(
        dir: &Path,
        proxy: SocketAddr,
        ca_pem: &str,
        user_roots_pem: Option<&str>,
        proxy_loopback: bool,
        previous: &dyn Fn(&str) -> Option<OsString>,
    ) -> io::Result<Self> {
        let ca_file = dir.join("ca.pem");
        let trusted = [ca_pem, user_roots_pem.unwrap_or_default()].join("\n");
        fs::write(&ca_file, &trusted)?;
        let proxy = ProxyUrl::from(proxy);
        write_files(dir, &ca_file, &trusted, &proxy, previous)?;
        Self::describe(&proxy, &ca_file, Some(dir), proxy_loopback, user_roots_pem.is_some(), previous)
    }

    /// The environment for a proxy that runs elsewhere or later, whose certificate is or will be in `ca_file`; with the
    /// variables for wget, Java and apt where `files` is the folder that [`write_files`] wrote theirs into. The others are as
    /// for [`create`](Self::create).
    ///
    /// # Errors
    /// Where a path is not UTF-8.
    pub(crate) fn describe(
        proxy: &ProxyUrl,
        ca_file: &Path,
        files: Option<&Path>,
        proxy_loopback: bool,
        is_capture: bool,
        previous: &dyn Fn(&str) -> Option<OsString>,
    ) -> io::Result<Self> {
        let java_before = previous("JAVA_TOOL_OPTIONS").and_then(|options| options.into_string().ok());
        let (wgetrc, java_options, apt_config) = match files {
            Some(dir) => {
                let key_store = text(&dir.join(KEY_STORE_FILE))?;
                let options =
                    java::tool_options(java_before.as_deref(), &proxy.host, proxy.port, &key_store, proxy_loopback);
                (Some(text(&dir.join(WGETRC_FILE))?), Some(options), Some(text(&dir.join(APT_FILE))?))
            }
            None => (None, None, None),
        };
        let (proxy_url, ca_file) = (proxy.to_string(), text(ca_file)?);
        let values = Values { proxy_url, proxy_loopback, ca_file, wgetrc, java_options, apt_config, is_capture };
        let variables = VARIABLES.iter().filter_map(|(name, value, _)| Some((*name, values.of(*value)?)));
        Ok(Self { variables: variables.collect() })
    }

    /// Every variable with its value and its readers.
    pub(crate) fn described(&self) -> impl Iterator<Item = Variable<'_>> {
        let readers = |name| VARIABLES.iter().find(|(known, ..)| *known == name).map_or("", |(.., readers)| readers);
        self.variables.iter().map(move |(name, value)| Variable {
            name,
            value: value.as_deref(),
            readers: readers(*name),
        })
    }

    /// Every variable with its value; `None` is to be unset.
    pub fn variables(&self) -> impl Iterator<Item = (&str, Option<&OsStr>)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_deref().map(OsStr::new)))
    }

    /// Gives `command` this environment on top of its own.
    pub fn apply(&self, command: &mut Command) {
        for (name, value) in self.variables() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
    }

    /// The same as lines for a POSIX shell, safe under `set -eu`.
    pub fn shell_lines(&self) -> String {
        let line = |(name, value): &(&str, Option<String>)| match value {
            Some(value) => format!("export {name}={}\n", shell_quoted(value)),
            None => format!("unset {name}\n"),
        };
        self.variables.iter().map(line).collect()
    }
}

/// Writes the files for wget, Java and apt into `dir`: clients will trust the certificates in the text `trusted`, which is that
/// of `ca_file`.
///
/// # Errors
/// Where a file cannot be written, or `ca_file` is not UTF-8.
pub fn write_files(
    dir: &Path,
    ca_file: &Path,
    trusted: &str,
    proxy: &ProxyUrl,
    previous: &dyn Fn(&str) -> Option<OsString>,
) -> io::Result<()> {
    fs::write(dir.join(KEY_STORE_FILE), java::trust_store(trusted))?;
    let apt_before = previous("APT_CONFIG").map(PathBuf::from);
    fs::write(dir.join(APT_FILE), apt::configuration(apt_before.as_deref(), &text(ca_file)?))?;
    fs::write(dir.join(WGETRC_FILE), wgetrc_text(previous, &text(ca_file)?, &proxy.to_string()))
}

/// Whether `dir` has the files that [`write_files`] writes.
pub fn has_files(dir: &Path) -> bool {
    [KEY_STORE_FILE, WGETRC_FILE, APT_FILE].iter().all(|name| dir.join(name).is_file())
}

/// A path as text, which shells and configuration files want.
fn text(path: &Path) -> io::Result<String> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{}` is not UTF-8", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(refused)
}

/// The user's own configuration of wget, then ours: of two equal settings wget takes the last.
fn wgetrc_text(previous: &dyn Fn(&str) -> Option<OsString>, ca_file: &str, proxy_url: &str) -> Vec<u8> {
    let at_home = || Some(PathBuf::from(previous("HOME")?).join(".wgetrc"));
    let own = previous("WGETRC").filter(|path| !path.is_empty()).map(PathBuf::from).or_else(at_home);
    let mut text = own.map(|path| read_own_wgetrc(&path)).unwrap_or_default();
    let ours = [
        format!("ca_certificate = {ca_file}"),
        "use_proxy = on".to_owned(),
        format!("http_proxy = {proxy_url}"),
        format!("https_proxy = {proxy_url}"),
    ];
    text.extend(format!("\n# buildproxy\n{}\n", ours.join("\n")).bytes());
    text
}

/// A configuration that cannot be read is left out: wget itself goes on without it, too.
fn read_own_wgetrc(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(%error, path = %path.display(), "cannot read wget's configuration");
        }
        Vec::new()
    })
}

#[cfg(test)]
mod tests;
