//! A replaying server, `buildproxy replay`, for tests that speak to it themselves.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use tokio_rustls::rustls::{
    ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{
    Workdir,
    process::{Guard, wait_for},
};

/// The running server; ends when dropped.
pub struct Serving {
    pub work: Workdir,
    pub address: SocketAddr,
    /// The file with the CA's certificate, and nothing else in it.
    pub ca_file: PathBuf,
    pub server: Guard,
}

impl Serving {
    /// Replays `inventory`, without its first line.
    pub fn start(inventory: &str) -> Self {
        Self::start_in(Workdir::new(), inventory, |_| {})
    }

    /// The same in `work`, where the bodies are, by a command that `change` completes.
    pub fn start_in(work: Workdir, inventory: &str, change: impl FnOnce(&mut Command)) -> Self {
        work.write("inventory.toml", format!("version = 1\n{inventory}"));
        Self::captured(work, change)
    }

    /// Replays what was captured in `work`.
    pub fn captured(work: Workdir, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = work.buildproxy("replay");
        command.args(["--env-file", "env.sh"]);
        change(&mut command);
        let mut server = Guard(command.spawn().unwrap());
        let environment = wait_for("the server", || match server.wait(Duration::from_millis(5)) {
            Some(code) => panic!("the server ended with {code}"),
            None => fs::read_to_string(work.path("env.sh")).ok(),
        });
        let value = |name: &str| {
            let line = environment.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.unwrap_or_else(|| panic!("no {name} in {environment}")).trim_matches('\'').to_owned()
        };
        let address =
            value("BUILDPROXY_PROXY_URL").trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        Self { address, ca_file: value("BUILDPROXY_CA_FILE").into(), work, server }
    }

    /// A connection to the port; what does not answer for a long time fails the test.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A TLS client that verifies as strictly as any, with the server's CA as its only root.
    pub fn tls(&self, protocols: &[&str]) -> ClientConfig {
        self.tls_of(ALL_VERSIONS, protocols)
    }

    /// The same, of these versions alone.
    pub fn tls_of(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca_file).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// curl with every option that it needs to get through the proxy.
    pub fn curl(&self) -> Command {
        let mut curl = self.work.command("curl");
        curl.args(["-q", "-sS", "--max-time", "120", "--noproxy", "", "-x"]).arg(format!("http://{}", self.address));
        curl.arg("--cacert").arg(&self.ca_file);
        curl
    }
}

/// An inventory of these entries.
pub fn inventory(entries: &[String]) -> String {
    format!("version = 1\n\n{}", entries.join("\n"))
}

/// An entry of an inventory that answers `url` with `text`.
pub fn text_entry(url: &str, text: &str) -> String {
    format!(
        "[[entry]]\nurl = {url:?}\nbody = {{ hash = {:?}, size = {}, text = {text:?} }}\n",
        super::sri(text.as_bytes()),
        text.len()
    )
}

/// An entry that answers `url` with the file `inventory.bodies/NAME`, which `size` zeros are written to. Its hash is
/// that of something else: nobody asks for it here.
pub fn sparse_entry(work: &Workdir, url: &str, name: &str, size: u64) -> String {
    let folder = work.path("inventory.bodies");
    fs::create_dir_all(&folder).unwrap();
    fs::File::create(folder.join(name)).unwrap().set_len(size).unwrap();
    let hash = super::sri(b"");
    format!(
        "[[entry]]\nurl = {url:?}\nbody = {{ hash = {hash:?}, size = {size}, file = \"inventory.bodies/{name}\" }}\n"
    )
}
