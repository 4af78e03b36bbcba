//! The room on the wire: a real server on loopback, driven with raw sockets and with curl.

mod bodies;
mod curl;
mod framing;
mod matching;
mod report;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};

use super::{ReplayOptions, Replayer, report::Report};
use crate::{
    inventory::{
        Body, BodyFiles, Entry, Hop, Inventory, MatchRules, Rewrite, Source, UrlMatch, request_body::BodyDigest,
    },
    store::{Stores, embedded::EmbeddedStore, hash::NixHash, path::StorePathName},
};

/// A replaying server and the folders behind it.
struct Server {
    addr: SocketAddr,
    replayer: Arc<Replayer>,
    folder: tempfile::TempDir,
}

/// Prepares the folders, then what is replayed from them.
struct Setup {
    folder: tempfile::TempDir,
    files: BodyFiles,
    options: ReplayOptions,
    match_rules: MatchRules,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inventory_dir = folder.path().join("project");
        std::fs::create_dir_all(inventory_dir.join("inventory.bodies")).unwrap();
        let embedded = EmbeddedStore::new(folder.path().join("store"));
        embedded.prepare().unwrap();
        let files = BodyFiles { inventory_dir, stores: Stores::new(None, embedded) };
        Self { folder, files, options: ReplayOptions::default(), match_rules: MatchRules::default() }
    }

    /// A body in the embedded store.
    fn stored(&self, bytes: &[u8], name: &str) -> Body {
        let name = StorePathName::new(name).unwrap();
        self.files.stores.embedded().insert_bytes(bytes, &name).unwrap();
        Body { source: Source::Fetch(None), name: Some(name), ..pinned(bytes) }
    }

    /// A body in a file beside the inventory.
    fn beside(&self, bytes: &[u8], name: &str) -> Body {
        let path = format!("inventory.bodies/{name}");
        std::fs::write(self.files.inventory_dir.join(&path), bytes).unwrap();
        Body { source: Source::File(path), ..pinned(bytes) }
    }

    fn serve(self, entries: Vec<Entry>) -> Server {
        let inventory = Inventory { match_rules: self.match_rules, entries };
        let replayer = Arc::new(Replayer::new(inventory, self.files, self.options).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let replaying = Arc::clone(&replayer);
        std::thread::spawn(move || run(listener, replaying));
        Server { addr, replayer, folder: self.folder }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn run(listener: TcpListener, replayer: Arc<Replayer>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(Arc::clone(&replayer).service());
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().auto_date_header(false);
        builder.http2().auto_date_header(false);
        tokio::spawn(async move { builder.serve_connection(TokioIo::new(stream), service).await.is_ok() });
    }
}

/// A body with hash and size, written in the inventory.
fn pinned(bytes: &[u8]) -> Body {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let (hash, size) = (Some(NixHash::sha256(bytes)), Some(bytes.len() as u64));
    Body { hash, size, name: None, source: Source::Text(text) }
}

fn get(url: &str, text: &str) -> Entry {
    Entry { body: Some(pinned(text.as_bytes())), ..Entry::get(url.parse().unwrap()) }
}

fn with_headers(mut entry: Entry, headers: &[(&str, &str)]) -> Entry {
    headers.iter().for_each(|(name, value)| entry.headers.append(name, value).unwrap());
    entry
}

fn with_hops(mut entry: Entry, hops: &[(u16, &str)]) -> Entry {
    let hop = |(status, location): &(u16, &str)| Hop {
        status: *status,
        location: (*location).to_owned(),
        headers: <_>::default(),
    };
    entry.redirects = hops.iter().map(hop).collect();
    entry
}

fn serve(entries: Vec<Entry>) -> Server {
    Setup::new().serve(entries)
}

impl Server {
    fn client(&self) -> Client {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(stream)
    }

    /// One request on a connection of its own.
    fn ask(&self, request_line: &str) -> Answer {
        self.client().ask(request_line, "")
    }

    fn get(&self, url: &str) -> Answer {
        self.ask(&format!("GET {url}"))
    }

    fn report(&self) -> Report {
        self.replayer.report()
    }

    fn embedded(&self) -> &EmbeddedStore {
        self.replayer.files.stores.embedded()
    }

    fn project(&self) -> &Path {
        assert!(self.replayer.files.inventory_dir.starts_with(self.folder.path()));
        &self.replayer.files.inventory_dir
    }
}

/// A connection that is kept alive.
struct Client(TcpStream);

/// A response as it came.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    /// With the status line, without the empty line.
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let field = |line: &'_ str| line.split_once(": ").map(|(name, _)| name.to_owned());
        let line = self.head.lines().skip(1).find(|line| field(line).as_deref() == Some(name))?;
        Some(&line[name.len() + 2..])
    }
}

impl Client {
    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends a request (`METHOD URL`, then more lines) and reads the answer to it.
    fn ask(&mut self, request_line: &str, fields: &str) -> Answer {
        let (method, _) = request_line.split_once(' ').unwrap();
        self.send(format!("{request_line} HTTP/1.1\r\nHost: ignored\r\n{fields}\r\n").as_bytes());
        self.answer(method)
    }

    fn post(&mut self, url: &str, fields: &str, body: &[u8]) -> Answer {
        let head = format!("POST {url} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
        self.send(&[head.as_bytes(), body].concat());
        self.answer("POST")
    }

    /// Reads a head, and as many bytes as a body has by RFC 9112 §6.3.
    fn answer(&mut self, method: &str) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(self.0.read(&mut byte).unwrap(), 1, "closed within {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().trim_end().to_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if method != "HEAD" && !matches!(status, 204 | 304) {
            let length = answer.header("content-length").expect("a length").parse().unwrap();
            answer.body = vec![0; length];
            self.0.read_exact(&mut answer.body).unwrap();
        }
        answer
    }

    /// Whether nothing more comes while the connection stays open.
    fn is_quiet(&mut self) -> bool {
        self.0.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let nothing = self
            .0
            .read(&mut [0])
            .is_err_and(|error| matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
        self.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        nothing
    }
}

#[test]
fn nothing_in_this_room_can_reach_out() {
    let rooms = ["src/replay", "src/representation"].map(|room| Path::new(env!("CARGO_MANIFEST_DIR")).join(room));
    let sources = rooms.iter().flat_map(|room| std::fs::read_dir(room).unwrap()).map(|file| file.unwrap().path());
    let sources: Vec<_> = sources.filter(|path| path.extension().is_some_and(|ending| ending == "rs")).collect();
    assert!(sources.len() > 10);
    for path in sources {
        let source = std::fs::read_to_string(&path).unwrap();
        for name in ["TcpStream", "UdpSocket", "UnixStream", "lookup_host", "ToSocketAddrs", "reqwest", "Command"] {
            assert!(!source.contains(name), "{} names {name}", path.display());
        }
    }
}
