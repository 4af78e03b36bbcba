//! A replaying server with large bodies in its store, and HTTP/1.1 clients that ask for them.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    sync::Arc,
};

use tokio_rustls::rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::{Serving, Workdir, http1::Http1, run, sri};

/// The name of the first body; it is at this path of the host `h.test`, by both schemes.
pub const BODY: &str = "body0.bin";

/// The server and the files of its bodies.
pub struct Sending {
    pub serving: Serving,
    pub files: Vec<PathBuf>,
}

/// What a client reads from and writes to.
pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

impl Sending {
    /// Of the bodies with these hashes and sizes, which `make` writes.
    pub fn of(bodies: &[(String, u64)], make: impl FnMut(usize, &File)) -> Self {
        Self::by(bodies, make, |_| {})
    }

    /// The same by a command that `change` completes.
    pub fn by(bodies: &[(String, u64)], mut make: impl FnMut(usize, &File), change: impl FnOnce(&mut Command)) -> Self {
        let work = Workdir::new();
        let mut inventory = "version = 1\n".to_owned();
        for (n, (hash, size)) in bodies.iter().enumerate() {
            let body = format!("{{ hash = \"{hash}\", size = {size}, name = \"body{n}.bin\" }}");
            for scheme in ["http", "https"] {
                inventory += &format!("\n[[entry]]\nurl = \"{scheme}://h.test/body{n}.bin\"\nbody = {body}\n");
            }
        }
        work.write("inventory.toml", inventory);
        let paths = run(work.buildproxy("paths").arg("--json")).expect_code(0);
        fs::create_dir(work.store()).unwrap();
        let file = |n| {
            let mut names = paths.text().split('"').filter_map(|text| text.strip_prefix("/nix/store/"));
            let file = work.store().join(names.find(|name| name.ends_with(&format!("-body{n}.bin"))).unwrap());
            make(n, &File::create(&file).unwrap());
            fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
            file
        };
        let files = (0..bodies.len()).map(file).collect();
        // As many threads as on a small machine: the more there are, the less one download is in another's way.
        let serving = Serving::captured(work, |command| {
            // Tests look into the process, and need not be root for that.
            command.env("TOKIO_WORKER_THREADS", "2").env("BUILDPROXY_DUMPABLE", "1");
            change(command);
        });
        Self { serving, files }
    }

    /// Of one body.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::of(&[(sri(bytes), bytes.len() as u64)], |_, mut file| file.write_all(bytes).unwrap())
    }

    /// Of `count` bodies of `size` zeros that take no room on the disk.
    pub fn sparse(count: usize, size: u64) -> Self {
        let bodies: Vec<_> = (0..count).map(|n| (sri(format!("sparse {n}").as_bytes()), size)).collect();
        Self::of(&bodies, |_, file| file.set_len(size).unwrap())
    }

    /// A connection by `scheme` on which the first body was asked for, with these header lines.
    pub fn ask(&self, scheme: &str, headers: &str) -> Box<dyn Stream> {
        self.ask_on(self.serving.connect(), scheme, BODY, headers)
    }

    /// The same for any body, on this connection.
    pub fn ask_on(&self, stream: TcpStream, scheme: &str, body: &str, headers: &str) -> Box<dyn Stream> {
        let (mut client, target): (Box<dyn Stream>, _) = match scheme {
            "http" => (Box::new(stream), "http://h.test"),
            _ => (Box::new(self.encrypted(stream, self.serving.tls(&["http/1.1"]))), ""),
        };
        write!(client, "GET {target}/{body} HTTP/1.1\r\nHost: h.test\r\nConnection: close\r\n{headers}\r\n").unwrap();
        client.flush().unwrap();
        client
    }

    /// TLS by `config` in a tunnel on this connection.
    pub fn encrypted(&self, stream: TcpStream, config: ClientConfig) -> StreamOwned<ClientConnection, TcpStream> {
        assert_eq!(Http1(&stream).ask("CONNECT h.test:443 HTTP/1.1\nHost: h.test:443").status, 200);
        let name = ServerName::try_from("h.test").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }

    /// The answer's head and body.
    pub fn get(&self, scheme: &str, headers: &str) -> (String, Vec<u8>) {
        let mut client = self.ask(scheme, headers);
        let head = read_head(&mut client);
        let mut body = Vec::new();
        client.read_to_end(&mut body).unwrap();
        (head, body)
    }

    /// How many files and connections the server has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.serving.server.0.id())).unwrap().count()
    }

    pub fn minor_faults(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.serving.server.0.id())).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    /// Has the kernel forget what it has in memory of the first body.
    pub fn make_cold(&self) {
        let file = File::open(&self.files[0]).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

/// Reads to the end of the head, and no further.
pub fn read_head(client: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Reads to the end, and gives the number of bytes.
pub fn drain(client: &mut impl Read) -> io::Result<u64> {
    let (mut buffer, mut received) = (vec![0; 256 << 10], 0);
    loop {
        match client.read(&mut buffer)? {
            0 => return Ok(received),
            length => received += length as u64,
        }
    }
}
