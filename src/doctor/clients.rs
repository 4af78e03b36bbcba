//! The clients on this machine: each is asked to fetch a page through a proxy of ours, over HTTPS, and either comes or not.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, StatusCode};
use tokio::{process::Command, task::JoinSet, time::timeout};

use super::{Finding, State};
use crate::{
    proxy::{HandshakeFailure, Running, StartError, StartOptions, Upload, plain_text},
    text::printable,
};

/// The time that a client has: some start a virtual machine first.
const TIME: Duration = Duration::from_secs(40);

/// Where the page of each client is, below its name. No name server knows hosts of `invalid` (RFC 6761 §6.4), so what goes
/// past the proxy gets nowhere.
const DOMAIN: &str = "doctor.invalid";

/// A client, and how it is asked for a page.
struct Client {
    /// The program.
    name: &'static str,
    /// Its arguments: `URL` stands for the page, `DIR` for an empty folder.
    arguments: &'static [&'static str],
    /// Variables that it needs for that.
    variables: &'static [(&'static str, &'static str)],
    /// What to do where it does not come.
    hint: &'static str,
}

const fn client(name: &'static str, arguments: &'static [&'static str], hint: &'static str) -> Client {
    Client { name, arguments, variables: &[], hint }
}

const CLIENTS: [Client; 13] = [
    client("curl", &["-sS", "-o", "/dev/null", "URL"], "look for `proxy`, `noproxy` and `cacert` in ~/.curlrc"),
    client(
        "wget",
        &["-q", "-t", "1", "-O", "/dev/null", "URL"],
        "look for `use_proxy` and `ca_certificate` in ~/.wgetrc and /etc/wgetrc",
    ),
    client("git", &["ls-remote", "URL"], "look for http.proxy and http.sslCAInfo in `git config --list --show-origin`"),
    client(
        "python3",
        &["-c", "import urllib.request; urllib.request.urlopen('URL', timeout=30)"],
        "Python reads the proxy variables and SSL_CERT_FILE: look for a sitecustomize that changes that",
    ),
    client(
        "pip",
        &["download", "-q", "--no-deps", "--no-cache-dir", "--retries=0", "--index-url=URL/", "--dest=DIR", "absent"],
        "look for `proxy`, `cert` and `index-url` in `pip config list`",
    ),
    client(
        "uv",
        &["pip", "install", "-q", "--dry-run", "--no-cache", "--index-url=URL/", "--target=DIR", "absent"],
        "look for uv.toml in this folder and in ~/.config/uv",
    ),
    client(
        "node",
        &["-e", "fetch('URL').catch(() => {})"],
        "Node's own fetch knows proxy variables from version 24 on; give a program for an earlier one a proxy agent with \
         $BUILDPROXY_PROXY_URL",
    ),
    client(
        "npm",
        &["view", "absent", "--registry=URL/", "--fetch-retries=0", "--cache=DIR"],
        "look for `proxy`, `noproxy` and `cafile` in `npm config list --long`",
    ),
    client("cargo", &["search", "absent", "--index=sparse+URL/"], "look for [http] in ~/.cargo/config.toml"),
    Client {
        name: "go",
        arguments: &["list", "-m", "-versions", "absent.invalid/module"],
        variables: &[("GOPROXY", "URL"), ("GOSUMDB", "off"), ("GOFLAGS", ""), ("GOPRIVATE", ""), ("GOMODCACHE", "DIR")],
        hint: "look at GOPROXY and GOPRIVATE in `go env`",
    },
    client(
        "aria2c",
        &["-q", "--max-tries=1", "--dir=DIR", "URL"],
        "aria2 reads no variable for certificates: give it --ca-certificate=\"$BUILDPROXY_CA_FILE\"",
    ),
    client("javac", &["URL"], "look for what drops JAVA_TOOL_OPTIONS, or sets a trust store of its own"),
    client("nix-prefetch-url", &["--name", "absent", "URL"], "look for `ssl-cert-file` in nix.conf"),
];

/// A program of one file, which fetches what its argument names.
const FETCH_JAVA: &str = "class Fetch { public static void main(String[] a) throws Exception { \
                          new java.net.URI(a[0]).toURL().openStream(); } }";

/// The hosts whose pages were asked for.
type Came = Arc<Mutex<BTreeSet<String>>>;

/// A finding for each client that is in `PATH`.
///
/// # Errors
/// Where the proxy cannot be started.
pub async fn check() -> Result<Vec<Finding>, StartError> {
    let came = Came::default();
    let seen = Arc::clone(&came);
    let service = tower::service_fn(move |request: Request<Upload>| {
        let host = request.uri().host().unwrap_or_default().to_owned();
        if request.uri().scheme_str() == Some("https") {
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
        }
        let text = "a page of `buildproxy doctor`\n";
        std::future::ready(Ok::<_, Infallible>(plain_text(request.method(), StatusCode::NOT_FOUND, text)))
    });
    let proxy = Running::start(StartOptions::local(), service).await?;
    let mut running = JoinSet::new();
    for (place, client) in CLIENTS.iter().enumerate() {
        let Some(program) = in_path(client.name) else { continue };
        let asked = asked(client, &program, &proxy);
        running.spawn(async move {
            let output = match asked {
                Ok((mut command, folder)) => {
                    let output = timeout(TIME, command.output()).await;
                    drop(folder);
                    output.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
                }
                Err(error) => Err(error),
            };
            (place, client, output)
        });
    }
    let mut ended = running.join_all().await;
    ended.sort_by_key(|(place, ..)| *place);
    let failures = proxy.handshake_failures().list();
    proxy.stop().await;
    let came = came.lock().unwrap_or_else(PoisonError::into_inner);
    let finding = |(_, client, output): (usize, &Client, io::Result<Output>)| {
        let host = host(client);
        let failure = failures.iter().find(|failure| failure.host == host);
        finding(client, came.contains(&host), failure, output)
    };
    Ok(ended.into_iter().map(finding).collect())
}

fn host(client: &Client) -> String {
    format!("{}.{DOMAIN}", client.name)
}

/// The command that asks for the client's page, and the empty folder that it may use.
fn asked(client: &Client, program: &Path, proxy: &Running) -> io::Result<(Command, tempfile::TempDir)> {
    let folder = tempfile::Builder::new().prefix(".buildproxy-").tempdir()?;
    let (url, dir) = (format!("https://{}", host(client)), folder.path().to_string_lossy().into_owned());
    let filled = |text: &str| text.replace("URL", &url).replace("DIR", &dir);
    let mut command = std::process::Command::new(program);
    if client.name == "javac" {
        let source = folder.path().join("Fetch.java");
        fs::write(&source, FETCH_JAVA)?;
        command = std::process::Command::new(program.with_file_name("java"));
        command.arg(source);
    }
    proxy.environment().apply(&mut command);
    command.args(client.arguments.iter().map(|argument| filled(argument)));
    command.envs(client.variables.iter().map(|(name, value)| (name, filled(value))));
    command.current_dir(folder.path()).stdin(Stdio::null());
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    Ok((command, folder))
}

fn finding(client: &Client, came: bool, failure: Option<&HandshakeFailure>, output: io::Result<Output>) -> Finding {
    let name = if client.name == "javac" { "java" } else { client.name };
    if came {
        return Finding {
            state: State::Good,
            text: format!("{name} goes through the proxy and trusts its CA"),
            hint: None,
        };
    }
    let problem = match (failure, output) {
        (Some(failure), _) if failure.client_distrusts_ca => "does not trust the proxy's CA".to_owned(),
        (Some(failure), _) => format!("came to the proxy, but TLS failed: {}", failure.reason),
        (None, Err(error)) => format!("could not be tried: {error}"),
        (None, Ok(output)) => match last_line(&output) {
            Some(line) => format!("did not come to the proxy: {line}"),
            None => "did not come to the proxy".to_owned(),
        },
    };
    Finding {
        state: State::Warning,
        text: format!("{name} {}", printable(&problem)),
        hint: Some(client.hint.to_owned()),
    }
}

/// The last line that the client wrote to stderr.
fn last_line(output: &Output) -> Option<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().rfind(|line| !line.trim().is_empty())?;
    Some(line.trim().chars().take(200).collect())
}

/// The file of `program` in `PATH`.
fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}
