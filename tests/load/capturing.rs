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
        run,
        workdir::behind,
    },
    cost::descriptors,
    crowd::take_all_descriptors,
    shows,
};

const CLIENTS: usize = 1000;
/// Every so many asks over TLS.
const ENCRYPTED: usize = 10;
/// Every so many asks for a body that does not fit into one piece of memory.
const LARGE: usize = 100;

fn body(number: usize) -> Vec<u8> {
    let length = if number % LARGE == 0 { 1 << 20 } else { 500 + number * 7919 % 60_000 };
    let mut bytes = format!("body {number}\n").into_bytes();
    bytes.extend(pattern(length));
    bytes
}

/// A capture whose command waits until a file `done` is there; where its proxy is, and the CA file.
fn capturing(work: &Workdir, origin: &Nginx) -> (Guard, SocketAddr, Arc<ClientConfig>) {
    let mut command = work.capturing(&origin.ca.pem);
    let script = "printf '%s\\n' \"$BUILDPROXY_PROXY_URL\" \"$BUILDPROXY_CA_FILE\" >where.new; mv where.new where; \
                  until [ -e done ]; do sleep 0.05; done";
    command.args(["--", "sh", "-euc", script]);
    // With what shells begin with.
    let mut command = behind(&["sh", "-euc", "ulimit -Sn 1024 && exec \"$@\"", "sh"], &command);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_of_a_capture_at_once_each_get_their_body_and_all_are_recorded() {
    take_all_descriptors();
    let (origin, work) = (Nginx::start(""), Workdir::new());
    (0..CLIENTS).for_each(|number| fs::write(origin.www().join(format!("file{number}.gz")), body(number)).unwrap());
    let (mut capture, address, tls) = capturing(&work, &origin);
    let pid = capture.0.id();
    let memory = peak_kib_of(pid);
    let (arriving, all_here) = (Arc::new(Semaphore::new(200)), Arc::new(Barrier::new(CLIENTS + 1)));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (arriving, all_here, tls) = (Arc::clone(&arriving), Arc::clone(&all_here), Arc::clone(&tls));
        let is_encrypted = number % ENCRYPTED == 0;
        let port = if is_encrypted { origin.https } else { origin.http };
        let (host, path) = (format!("localhost:{port}"), format!("/file{number}.gz"));
        clients.spawn(async move {
            let turn = arriving.acquire().await.unwrap();
            let mut plain = connect(address, number).await.unwrap();
            let (mut stream, target): (Box<dyn Stream>, _) = if is_encrypted {
                client::tunnel(&mut plain, &host).await.unwrap();
                (client::encrypted(plain, &tls, "localhost").await.unwrap(), path)
            } else {
                (Box::new(plain), format!("http://{host}{path}"))
            };
            drop(turn);
            all_here.wait().await;
            let (status, got) = ask(&mut stream, &target, &host, "").await.unwrap();
            assert!(status == 200 && got == body(number), "client {number}: {status}, {} bytes", got.len());
        });
    }
    timeout(Duration::from_secs(60), all_here.wait()).await.expect("all of them are connected");
    let mut most = 0;
    while let Some(client) = clients.join_next().await {
        client.unwrap();
        most = most.max(descriptors(pid));
    }
    let grown = peak_kib_of(pid) - memory;
    work.write("done", "");
    let code = spawn_blocking(move || capture.wait(Duration::from_secs(120))).await.unwrap();
    assert_eq!(code, Some(0), "{}", String::from_utf8_lossy(&work.read("log")));
    let inventory = work.inventory();
    for number in 0..CLIENTS {
        let path = format!("/file{number}.gz");
        let url = if number % ENCRYPTED == 0 { origin.tls_url(&path) } else { origin.url(&path) };
        let (entry, body) = (inventory.one(&url), body(number));
        assert_eq!(entry.size(), Some(i64::try_from(body.len()).unwrap()));
        assert_eq!(entry.body("hash"), Some(crate::common::sri(&body).as_str()));
    }
    run(&mut work.buildproxy("verify")).expect_code(0);
    assert!(grown < 256 << 10, "{grown} KiB");
    shows!(
        Load,
        "a capture begun with `ulimit -Sn 1024`, all clients connected first, one in 10 encrypted, bodies of 0.5 KiB to 1 MiB \
         from nginx; then `verify`",
        "{CLIENTS} at once: each body right, each recorded with its hash, {} MiB more memory, {most} descriptors or more",
        grown >> 10
    );
}
