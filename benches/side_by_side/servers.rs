//! The contenders: buildproxy, nginx, and mitmproxy with an addon that does what nix-buildproxy's replay does.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, pem::PemObject},
    version::TLS13,
};

use crate::{
    client::Target,
    common::{
        TestCa,
        process::{Guard, wait_for},
    },
    process::Processes,
};

/// A server that runs; it ends when this is dropped.
pub struct Server {
    pub name: String,
    pub target: Target,
    pub processes: Processes,
    process: Guard,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's workers end only when their master tells them.
        self.process.signal(rustix::process::Signal::TERM);
        let _killed_otherwise = self.process.wait(Duration::from_secs(5));
    }
}

/// `buildproxy replay` of `inventory`, as it is, with bodies in `store`.
pub fn buildproxy(name: &str, program: &Path, inventory: &Path, store: &Path) -> io::Result<Server> {
    let folder = tempfile::tempdir()?;
    let log = fs::File::create(folder.path().join("log"))?;
    let mut process = Guard(replay(program, inventory, store, folder.path()).stderr(log).spawn()?);
    let environment = environment_of(&mut process, folder.path());
    let address = environment.address;
    let config = client_config(&fs::read(&environment.ca_file)?)?;
    let target = Target { http: address, tls: address, connect: true, config };
    let processes = Processes::of(process.0.id());
    Ok(Server { name: name.to_owned(), target, processes, process, _folder: folder })
}

/// The command, which writes `env.sh` into `folder` when it is ready.
pub fn replay(program: &Path, inventory: &Path, store: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["replay", "--allow-misses", "-q", "--env-file"]).arg(folder.join("env.sh"));
    command.arg("-i").arg(inventory).arg("--store").arg(store).stdin(Stdio::null());
    command
}

struct Environment {
    address: SocketAddr,
    ca_file: PathBuf,
}

fn environment_of(process: &mut Guard, folder: &Path) -> Environment {
    let text = wait_for("buildproxy", || match process.wait(Duration::from_millis(2)) {
        Some(code) => panic!("buildproxy ended with {code}: {}", log_in(folder)),
        None => fs::read_to_string(folder.join("env.sh")).ok(),
    });
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim_matches('\'').to_owned()
    };
    let address = value("BUILDPROXY_PROXY_URL").trim_start_matches("http://").trim_end_matches('/').to_owned();
    let address = address.parse().unwrap_or_else(|error| panic!("{address}: {error}"));
    Environment { address, ca_file: value("BUILDPROXY_CA_FILE").into() }
}

/// nginx with the files in `www`, with the congestion control that the system has or the one named.
pub fn nginx(name: &str, www: &Path, congestion: Option<&str>) -> io::Result<Server> {
    let (folder, ca) = (tempfile::tempdir()?, TestCa::new());
    let (http, https) = (listener(congestion)?, listener(congestion)?);
    let (http_at, https_at) = (http.local_addr()?, https.local_addr()?);
    fs::write(folder.path().join("leaf.pem"), &ca.leaf_pem)?;
    fs::write(folder.path().join("leaf.key"), &ca.leaf_key_pem)?;
    fs::write(folder.path().join("nginx.conf"), nginx_conf(http_at, https_at, www))?;
    let log = fs::File::create(folder.path().join("log"))?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf")).args(["-e", "error.log"]);
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    // nginx takes over listening sockets whose numbers are here, as it does when it replaces itself.
    command.env("NGINX", format!("{};{};", http.as_raw_fd(), https.as_raw_fd()));
    for socket in [&http, &https] {
        // It does not ask for this again: a worker that lost the race for a connection would wait for the next.
        socket.set_nonblocking(true)?;
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty())?;
    }
    let mut process = Guard(command.stderr(log).stdin(Stdio::null()).spawn()?);
    drop((http, https));
    wait_until_it_answers(&mut process, http_at, folder.path());
    let target = Target { http: http_at, tls: https_at, connect: false, config: client_config(ca.pem.as_bytes())? };
    let processes = Processes::of(process.0.id());
    Ok(Server { name: name.to_owned(), target, processes, process, _folder: folder })
}

/// As its own documentation has it for static files, with the limits taken off that would end a benchmark early.
fn nginx_conf(http: SocketAddr, https: SocketAddr, www: &Path) -> String {
    format!(
        "daemon off; pid nginx.pid; error_log error.log; worker_processes auto;
events {{ worker_connections 4096; }}
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
    keepalive_requests 1000000000; keepalive_timeout 300;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    default_type application/octet-stream;
    server {{
        listen {http};
        listen {https} ssl http2;
        ssl_certificate leaf.pem;
        ssl_certificate_key leaf.key;
        ssl_protocols TLSv1.3;
        ssl_session_cache shared:tls:10m;
        root {};
    }}
}}
",
        www.display()
    )
}

/// `mitmdump` with `linear_replay.py` and the list `list`.
pub fn mitmproxy(name: &str, program: &Path, list: &Path) -> io::Result<Server> {
    let folder = tempfile::tempdir()?;
    let address = listener(None)?.local_addr()?;
    let log = fs::File::create(folder.path().join("log"))?;
    let mut command = mitmdump(program, address, list, folder.path());
    let mut process = Guard(command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log).spawn()?);
    wait_until_it_answers(&mut process, address, folder.path());
    let ca = wait_for("mitmproxy's CA", || fs::read(folder.path().join("mitmproxy-ca-cert.pem")).ok());
    let target = Target { http: address, tls: address, connect: true, config: client_config(&ca)? };
    let processes = Processes::of(process.0.id());
    Ok(Server { name: name.to_owned(), target, processes, process, _folder: folder })
}

/// The command, with its own files in `folder`.
pub fn mitmdump(program: &Path, address: SocketAddr, list: &Path, folder: &Path) -> Command {
    let addon = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/side_by_side/linear_replay.py");
    let mut command = Command::new(program);
    command.args(["-q", "--listen-host", "127.0.0.1", "--listen-port", &address.port().to_string(), "-s", addon]);
    command.arg("--set").arg(format!("inventory={}", list.display()));
    command.arg("--set").arg(format!("confdir={}", folder.display()));
    // Else it asks the real host on CONNECT.
    command.args(["--set", "connection_strategy=lazy"]);
    command
}

fn wait_until_it_answers(process: &mut Guard, address: SocketAddr, folder: &Path) {
    wait_for("a server", || match process.wait(Duration::from_millis(10)) {
        Some(code) => panic!("a server ended with {code}: {}", log_in(folder)),
        None => TcpStream::connect(address).ok(),
    });
    // A server that was handed its sockets lets connect before it is there.
    std::thread::sleep(Duration::from_millis(300));
}

fn log_in(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn listener(congestion: Option<&str>) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    if let Some(congestion) = congestion {
        rustix::net::sockopt::set_tcp_congestion(&listener, congestion)?;
    }
    Ok(listener)
}

/// One protocol version and one cipher suite, which OpenSSL's clients prefer, so that all servers do the same work; and
/// no resumption, so that each handshake is a whole one.
fn client_config(ca_pem: &[u8]) -> io::Result<Arc<ClientConfig>> {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384;
    let provider = CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem).map_err(io::Error::other)?).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13]);
    let mut config = config.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
