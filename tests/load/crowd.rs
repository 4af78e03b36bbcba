//! Thousands of clients at once, and few of them for long.

use std::{
    fs::File,
    io::Write,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::{
    io::AsyncReadExt,
    sync::{Barrier, Semaphore},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};

use crate::{
    client::{self, Stream, ask, connect},
    common::{
        Sending,
        http2::{Client, whole},
        pattern,
        process::peak_kib_of,
        run,
        shown::times,
        sri,
    },
    cost::{descriptors, resident_kib},
    shows,
};

/// Lets this process have as many descriptors as it may.
pub fn take_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

/// Small bodies, each of its own, and a large one behind them.
const BODIES: usize = 50;
const LARGE: usize = 16 << 20;

fn body(number: usize) -> Vec<u8> {
    match number {
        BODIES => pattern(LARGE),
        _ => pattern(100_000)[number * 1000..].iter().copied().take(500 + number * 997).collect(),
    }
}

/// A server of those bodies, whose misses are no failure.
fn sending() -> Sending {
    let bodies: Vec<_> = (0..=BODIES).map(body).collect();
    let described: Vec<_> = bodies.iter().map(|body| (sri(body), body.len() as u64)).collect();
    Sending::by(
        &described,
        |number, mut file| file.write_all(&bodies[number]).unwrap(),
        |command| {
            let log = File::create(command.get_current_dir().unwrap().join("log")).unwrap();
            command.arg("--allow-misses").env("MALLOC_ARENA_MAX", "2").stderr(log).stdout(Stdio::null());
        },
    )
}

fn target(scheme: &str, number: usize) -> String {
    format!("{scheme}://h.test/body{number}.bin")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_at_once_are_each_answered_right_and_closed_at_sigterm() {
    const CLIENTS: usize = 10_000;
    /// Every so many is encrypted.
    const ENCRYPTED: usize = 20;
    const ROUNDS: usize = 2;
    take_all_descriptors();
    let most = getrlimit(Resource::Nofile).maximum;
    assert!(most.is_none_or(|most| most > 14_000), "the limit of descriptors is {most:?}: raise it (ulimit -Hn)");
    let mut sending = sending();
    let (address, pid) = (sending.serving.address, sending.serving.server.0.id());
    let memory = resident_kib(pid);
    let tls = Arc::new(sending.serving.tls(&["http/1.1"]));
    let bodies: Arc<Vec<_>> = Arc::new((0..BODIES).map(body).collect());
    let (arriving, all_here) = (Arc::new(Semaphore::new(500)), Arc::new(Barrier::new(CLIENTS + 1)));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (arriving, all_here, tls, bodies) =
            (Arc::clone(&arriving), Arc::clone(&all_here), Arc::clone(&tls), Arc::clone(&bodies));
        clients.spawn(async move {
            let is_encrypted = number.is_multiple_of(ENCRYPTED);
            let turn = arriving.acquire().await.unwrap();
            let plain = connect(address, number).await.unwrap();
            let mut stream: Box<dyn Stream> = match is_encrypted {
                true => client::encrypted(plain, &tls, "h.test").await.unwrap(),
                false => Box::new(plain),
            };
            drop(turn);
            all_here.wait().await;
            for round in 0..ROUNDS {
                let wanted = (number + round) % BODIES;
                let target = if is_encrypted { format!("/body{wanted}.bin") } else { target("http", wanted) };
                let (status, got) = ask(&mut stream, &target, "h.test", "").await.unwrap();
                assert!(status == 200 && got == bodies[wanted], "client {number}: {status}, {} bytes", got.len());
            }
            stream
        });
    }
    timeout(Duration::from_secs(120), all_here.wait()).await.expect("all of them are connected");
    assert!(descriptors(pid) > CLIENTS, "all of them are connected: {}", descriptors(pid));
    let mut kept = Vec::new();
    while let Some(client) = clients.join_next().await {
        kept.push(client.unwrap());
    }
    let (each, peak) = ((resident_kib(pid) - memory) / CLIENTS as u64, peak_kib_of(pid));
    assert!(each < 48, "{each} KiB each");
    // Some are at something when the end comes.
    for client in kept.iter_mut().take(100) {
        let request = b"GET http://h.test/body50.bin HTTP/1.1\r\nHost: h.test\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(client, request).await.unwrap();
    }
    let start = Instant::now();
    sending.serving.server.signal(Signal::TERM);
    let code = spawn_blocking(move || sending.serving.server.wait(Duration::from_secs(20))).await.unwrap();
    let took = start.elapsed();
    assert_eq!(code, Some(0));
    shows!(
        Load,
        "connections opened first and all asking then, one in 20 encrypted; files of 0.5 to 49 KiB compared byte for byte; \
         SIGTERM with all of them open and 100 downloads begun",
        "{CLIENTS} at once, {} answers right, {each} KiB each, peak {} MiB, ended {} ms after SIGTERM",
        CLIENTS * ROUNDS,
        peak >> 10,
        took.as_millis()
    );
}

/// What the clients of a long run share.
struct Soak {
    sending: Sending,
    bodies: Vec<Vec<u8>>,
    is_over: AtomicBool,
    answers: AtomicU64,
}

impl Soak {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }

    fn expect(&self, (status, got): (u16, Vec<u8>), number: usize, range: Option<(usize, usize)>) {
        let (expected, right) = match range {
            Some((from, to)) => (206, &self.bodies[number][from..=to]),
            None => (200, &self.bodies[number][..]),
        };
        assert!(status == expected && got == right, "body {number} {range:?}: {status}, {} bytes", got.len());
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    async fn connect(&self, number: usize) -> tokio::net::TcpStream {
        connect(self.sending.serving.address, number).await.unwrap()
    }

    /// Keeps connections for a while.
    async fn plain(self: Arc<Self>, client: usize) {
        for visit in (client..).step_by(7).take_while(|_| self.goes_on()) {
            let mut stream = self.connect(client).await;
            for number in (visit..visit + 20).map(|number| number % BODIES) {
                let answer = ask(&mut stream, &target("http", number), "h.test", "").await.unwrap();
                self.expect(answer, number, None);
            }
        }
    }

    async fn encrypted(self: Arc<Self>, client: usize) {
        let config = Arc::new(self.sending.serving.tls(&["http/1.1"]));
        for visit in (client..).step_by(7).take_while(|_| self.goes_on()) {
            let mut stream = client::encrypted(self.connect(client).await, &config, "h.test").await.unwrap();
            for number in (visit..visit + 5).map(|number| number % BODIES) {
                let answer = ask(&mut stream, &format!("/body{number}.bin"), "h.test", "").await.unwrap();
                self.expect(answer, number, None);
            }
        }
    }

    async fn http2(self: Arc<Self>, way: &str) {
        for visit in (0..).take_while(|_| self.goes_on()) {
            let client = Client::open(&self.sending.serving, way).await;
            for number in (visit..visit + 30).map(|number| number % BODIES) {
                let answer = client.get(&format!("body{number}.bin")).await;
                let status = answer.status().as_u16();
                self.expect((status, whole(answer.into_body()).await), number, None);
            }
        }
    }

    /// Parts of the large body.
    async fn ranges(self: Arc<Self>) {
        let mut stream = self.connect(0).await;
        for visit in (0usize..).take_while(|_| self.goes_on()) {
            let from = visit * 7_919_993 % (LARGE - 1);
            let to = (from + visit * 104_729 % 3_000_000).min(LARGE - 1);
            let fields = format!("Range: bytes={from}-{to}\r\n");
            let answer = ask(&mut stream, &target("http", BODIES), "h.test", &fields).await.unwrap();
            self.expect(answer, BODIES, Some((from, to)));
        }
    }

    /// Leaves in the middle, by turns in plain text and encrypted.
    async fn leaves(self: Arc<Self>) {
        let config = Arc::new(self.sending.serving.tls(&["http/1.1"]));
        for visit in (0..).take_while(|_| self.goes_on()) {
            let plain = self.connect(visit).await;
            let mut stream: Box<dyn Stream> = match visit % 2 {
                0 => Box::new(plain),
                _ => client::encrypted(plain, &config, "h.test").await.unwrap(),
            };
            let target = if visit % 2 == 0 { target("http", BODIES) } else { format!("/body{BODIES}.bin") };
            let request = format!("GET {target} HTTP/1.1\r\nHost: h.test\r\n\r\n");
            tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
            stream.read_exact(&mut vec![0; 1 + visit * 997 % 200_000]).await.unwrap();
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn misses(self: Arc<Self>) {
        for visit in (0..).take_while(|_| self.goes_on()) {
            let mut stream = self.connect(visit).await;
            let answer = ask(&mut stream, &format!("http://h.test/absent{}", visit % 20), "h.test", "").await.unwrap();
            assert_eq!(answer.0, 404);
            self.answers.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn curl(&self) {
        for visit in (0..).take_while(|_| self.goes_on()) {
            let number = visit * 3 % BODIES;
            let mut curl = self.sending.serving.curl();
            curl.arg(["--http1.1", "--http2", "--http2-prior-knowledge"][visit % 3]);
            let scheme = if visit % 2 == 0 { "https" } else { "http" };
            let got = run(curl.args(["-f", &target(scheme, number)])).expect_code(0);
            self.expect((200, got.stdout), number, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_of_mixed_clients_leaves_memory_and_descriptors_as_they_were() {
    let seconds = u64::from(times(8, 240));
    let soak = Soak {
        sending: sending(),
        bodies: (0..=BODIES).map(body).collect(),
        is_over: AtomicBool::new(false),
        answers: AtomicU64::new(0),
    };
    let pid = soak.sending.serving.server.0.id();
    let open = descriptors(pid);
    let soak = Arc::new(soak);
    let mut clients = JoinSet::new();
    for client in 0..4 {
        clients.spawn(Arc::clone(&soak).plain(client));
    }
    for client in 0..2 {
        clients.spawn(Arc::clone(&soak).encrypted(client));
    }
    for way in ["straight", "plain"] {
        clients.spawn(Arc::clone(&soak).http2(way));
    }
    clients.spawn(Arc::clone(&soak).ranges());
    clients.spawn(Arc::clone(&soak).leaves());
    clients.spawn(Arc::clone(&soak).misses());
    let curl = Arc::clone(&soak);
    clients.spawn_blocking(move || curl.curl());
    // By quarters: the most memory and descriptors of each.
    let mut most = [(0, 0); 4];
    for quarter in &mut most {
        let until = Instant::now() + Duration::from_millis(seconds * 250);
        while Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
            *quarter = (quarter.0.max(resident_kib(pid)), quarter.1.max(descriptors(pid)));
        }
    }
    soak.is_over.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    let answers = soak.answers.load(Ordering::Relaxed);
    let (middle, end) = (most[0].max(most[1]), most[3]);
    assert!(end.0 < middle.0 + (8 << 10), "KiB and descriptors by quarters: {most:?}");
    assert!(end.1 < middle.1 + 50, "KiB and descriptors by quarters: {most:?}");
    let mut soak = Arc::into_inner(soak).unwrap();
    let server = &mut soak.sending.serving.server;
    let left = crate::common::process::wait_for("the descriptors to go", || {
        let left = descriptors(pid);
        (left <= open).then_some(left)
    });
    server.signal(Signal::TERM);
    assert_eq!(server.wait(Duration::from_secs(20)), Some(0));
    shows!(
        Load,
        "curl, HTTP/1.1, TLS, HTTP/2, parts, aborted downloads and misses, every byte compared",
        "{answers} answers in {seconds} s; most memory by quarters of the time {} KiB; descriptors {open} before, {left} after",
        most.map(|(memory, _)| memory.to_string()).join(", ")
    );
}
