//! A capture whose command asks for a thousand things at once.

use std::{fs, net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use tokio::{
    sync::{Barrier, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::{
    client::{self, Stream, ask, connect},
    common::{
        Nginx, Workdir, pattern,
        process::{Guard, peak_kib_of, wait_for},
        run, sri,
        workdir::behind,
    },
    cost::descriptors,
    crowd::take_all_descriptors,
    shows,
};

/// Every so many asks over TLS.
const ENCRYPTED: usize = 10;
/// Every so many asks for a body that does not fit into one piece of memory.
const LARGE: usize = 100;

fn body(number: usize) -> Vec<u8> {
    let length = if number.is_multiple_of(LARGE) { 1 << 20 } else { 500 + number * 7919 % 60_000 };
    let mut bytes = format!("body {number}\n").into_bytes();
    bytes.extend(pattern(length));
    bytes
}

/// A capture whose command waits until a file `done` is there; where its proxy is, and the CA file.
fn capturing(work: &Workdir, origin: &Nginx, limits: &str) -> (Guard, SocketAddr, Arc<ClientConfig>) {
    let mut command = work.capturing(&origin.ca.pem);
    let script = "printf '%s\\n' \"$BUILDPROXY_PROXY_URL\" \"$BUILDPROXY_CA_FILE\" >where.new; mv where.new where; \
                  until [ -e done ]; do sleep 0.05; done";
    command.args(["--", "sh", "-euc", script]);
    let shell = format!("ulimit {limits} && exec \"$@\"");
    let mut command = behind(&["sh", "-euc", &shell, "sh"], &command);
    let log = fs::File::create(work.path("log")).unwrap();
    let guard = Guard(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
    let lines = wait_for("the capture", || fs::read_to_string(work.path("where")).ok());
    let (url, ca_file) = lines.trim().split_once('\n').unwrap();
    let address = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca_file).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    (guard, address, Arc::new(config.with_no_client_auth()))
}

/// What a capture was seen to do.
struct Captured {
    /// Memory beyond what it began with, in KiB.
    grown_kib: u64,
    /// The most descriptors that it had open.
    descriptors: usize,
}

/// Captures what so many clients ask for at once, each for a body of its own, with limits in the words of `ulimit`; all
/// are connected before the first one asks, where `together` says so. Each gets its body, and all are recorded.
async fn capture_for(clients: usize, limits: &str, together: bool) -> Captured {
    take_all_descriptors();
    let (origin, work) = (Nginx::start(""), Workdir::new());
    (0..clients).for_each(|number| fs::write(origin.www().join(format!("file{number}.gz")), body(number)).unwrap());
    let (mut capture, address, tls) = capturing(&work, &origin, limits);
    let pid = capture.0.id();
    let memory = peak_kib_of(pid);
    let all_here = Arc::new(Barrier::new(if together { clients + 1 } else { 1 }));
    let arriving = Arc::new(Semaphore::new(if together { 200 } else { clients }));
    let mut running = JoinSet::new();
    for number in 0..clients {
        let (arriving, all_here, tls) = (Arc::clone(&arriving), Arc::clone(&all_here), Arc::clone(&tls));
        let is_encrypted = number.is_multiple_of(ENCRYPTED);
        let port = if is_encrypted { origin.https } else { origin.http };
        let (host, path) = (format!("localhost:{port}"), format!("/file{number}.gz"));
        running.spawn(async move {
            let turn = arriving.acquire().await.unwrap();
            let mut plain = connect(address, number).await.unwrap();
            drop(turn);
            // Before a tunnel, in which nobody may be silent for long.
            all_here.wait().await;
            let (mut stream, target): (Box<dyn Stream>, _) = if is_encrypted {
                client::tunnel(&mut plain, &host).await.unwrap();
                (client::encrypted(plain, &tls, "localhost").await.unwrap(), path)
            } else {
                (Box::new(plain), format!("http://{host}{path}"))
            };
            let (status, got) = ask(&mut stream, &target, &host, "").await.unwrap();
            assert!(status == 200 && got == body(number), "client {number}: {status}, {} bytes", got.len());
        });
    }
    timeout(Duration::from_secs(60), all_here.wait()).await.expect("all of them are connected");
    let mut most = 0;
    while let Some(client) = running.join_next().await {
        client.unwrap();
        most = most.max(descriptors(pid));
    }
    let grown_kib = peak_kib_of(pid) - memory;
    work.write("done", "");
    let code = spawn_blocking(move || capture.wait(Duration::from_secs(120))).await.unwrap();
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&work.read("log")));
    let inventory = work.inventory();
    for number in 0..clients {
        let path = format!("/file{number}.gz");
        let url = if number.is_multiple_of(ENCRYPTED) { origin.tls_url(&path) } else { origin.url(&path) };
        let (entry, body) = (inventory.one(&url), body(number));
        assert_eq!(entry.size(), Some(i64::try_from(body.len()).unwrap()));
        assert_eq!(entry.body("hash"), Some(sri(&body).as_str()));
    }
    run(&mut work.buildproxy("verify")).expect_code(0);
    Captured { grown_kib, descriptors: most }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_of_a_capture_at_once_each_get_their_body_and_all_are_recorded() {
    const CLIENTS: usize = 1000;
    // What shells begin with.
    let captured = capture_for(CLIENTS, "-Sn 1024", true).await;
    assert!(captured.descriptors > CLIENTS, "they were there at once");
    assert!(captured.grown_kib < 256 << 10, "{} KiB", captured.grown_kib);
    shows!(
        Load,
        "a capture begun with `ulimit -Sn 1024`, all clients connected first, one in 10 encrypted, bodies of 0.5 KiB to 1 MiB \
         from nginx; then `verify`",
        "{CLIENTS} at once: each body right, each recorded with its hash, {} MiB more memory, up to {} descriptors",
        captured.grown_kib >> 10,
        captured.descriptors
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capture_with_few_descriptors_has_its_clients_wait_and_loses_none_of_their_bodies() {
    const CLIENTS: usize = 200;
    let captured = capture_for(CLIENTS, "-n 128", false).await;
    assert!(captured.descriptors <= 128, "{}", captured.descriptors);
    shows!(
        Capture,
        "`ulimit -n 128`, a descriptor or three for each client, one in 10 encrypted; then `verify`",
        "{CLIENTS} clients at once: each body right, each recorded with its hash, up to {} descriptors",
        captured.descriptors
    );
}
