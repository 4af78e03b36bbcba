//! A real nginx with TLS, on loopback, with all of its files in a temporary folder.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use super::{
    TestCa,
    process::{Guard, wait_for},
};

/// The running server; ends when dropped.
pub struct Nginx {
    pub ca: TestCa,
    pub http: u16,
    pub https: u16,
    root: tempfile::TempDir,
    _server: Guard,
}

impl Nginx {
    /// Serves the files below [`Nginx::www`], with `locations` added to the configuration of both servers.
    pub fn start(locations: &str) -> Self {
        let root = tempfile::Builder::new().prefix("nginx-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let ca = TestCa::new();
        fs::create_dir(root.path().join("www")).unwrap();
        fs::write(root.path().join("leaf.pem"), &ca.leaf_pem).unwrap();
        fs::write(root.path().join("leaf.key"), &ca.leaf_key_pem).unwrap();
        // Between choosing a port and nginx's binding it, another program can take it: then choose again.
        for _ in 0..5 {
            let (http, https) = (free_port(), free_port());
            fs::write(root.path().join("nginx.conf"), configuration(http, https, locations)).unwrap();
            let mut command = Command::new("nginx");
            command.arg("-p").arg(root.path()).arg("-c").arg(root.path().join("nginx.conf"));
            command.args(["-e", "error.log"]).current_dir(root.path()).stdin(Stdio::null());
            command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
            let log = fs::File::create(root.path().join("start.log")).unwrap();
            let mut server = Guard(command.stderr(log).spawn().expect("nginx is installed"));
            let ready = wait_for("nginx", || match server.wait(Duration::from_millis(10)) {
                Some(_) => Some(false),
                None => TcpStream::connect(("127.0.0.1", https)).ok().map(|_| true),
            });
            if ready {
                return Self { ca, http, https, root, _server: server };
            }
        }
        panic!("nginx does not start: {}", fs::read_to_string(root.path().join("start.log")).unwrap());
    }

    /// The folder that it serves.
    pub fn www(&self) -> PathBuf {
        self.root.path().join("www")
    }

    /// The folder in which it runs.
    pub fn folder(&self) -> PathBuf {
        self.root.path().to_owned()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.http)
    }

    pub fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https)
    }
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// One process that stays in the foreground and keeps its user, so that it can be ended as a plain child.
fn configuration(http: u16, https: u16, locations: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 4096; }}
http {{
    access_log access.log;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    client_max_body_size 100m;
    types {{ text/plain txt; text/html html; application/gzip gz; }}
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl http2;
        server_name localhost;
        ssl_certificate leaf.pem;
        ssl_certificate_key leaf.key;
        root www;
        {locations}
    }}
}}
"
    )
}
