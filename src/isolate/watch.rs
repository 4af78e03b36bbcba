//! Reads what an isolated command sends past the proxy: refuses it, and notes it.

use std::{
    collections::HashMap,
    fs, io,
    net::UdpSocket,
    os::fd::OwnedFd,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{
    bypass::{Bypass, Bypasses},
    frame::{Content, Frame},
    names::{NAME_SERVICE_PORT, Names},
};
use crate::{
    process::{Finder, Network, ProcessName, Protocol},
    text::printable,
};

/// How long may be looked in all for those who go past the proxy to one port. They wait for it, nobody else does.
const LOOKING: Duration = Duration::from_secs(5);
/// How many ports have that long, each for itself: so that nobody who asks a thousand hosts hides the others.
const PORTS: usize = 16;
/// Larger than any frame of the pair of interfaces: what a sender has put together for the kernel to split.
const LONGEST_FRAME: usize = 70_000;
/// Longer than any question about one name (RFC 1035 §4.2.1).
const LONGEST_QUESTION: usize = 512;

/// What is being watched.
#[derive(Debug)]
pub struct Watch {
    // Ends the thread when dropped.
    stop: io::PipeWriter,
    thread: JoinHandle<Vec<Bypass>>,
}

/// Where it shows what a command wants past the proxy.
#[derive(Debug)]
pub struct Openings {
    /// The far end of its network.
    pub far: OwnedFd,
    /// Where it asks for names, if that is not there.
    pub name_server: Option<UdpSocket>,
}

impl Watch {
    /// Watches `network`.
    ///
    /// # Errors
    /// Where the system gives no pipe or thread.
    pub fn start(openings: Openings, network: Network) -> io::Result<Self> {
        let (stopped, stop) = io::pipe()?;
        let own_name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let names = Names::on(&own_name);
        let watcher = Watcher { openings, network, names, finders: HashMap::new(), seen: Bypasses::default() };
        let thread = thread::Builder::new().name("bypasses".to_owned()).spawn(move || watcher.watch(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// What was tried until now. Blocks for no longer than it takes to read what is there.
    pub fn stop(self) -> Vec<Bypass> {
        drop(self.stop);
        // A thread that panicked has said so.
        self.thread.join().unwrap_or_default()
    }
}

struct Watcher {
    openings: Openings,
    network: Network,
    names: Names,
    finders: HashMap<u16, Finder>,
    seen: Bypasses,
}

impl Watcher {
    fn watch(mut self, stopped: &io::PipeReader) -> Vec<Bypass> {
        loop {
            let Openings { far, name_server } = &self.openings;
            let mut ready = vec![PollFd::new(stopped, PollFlags::IN), PollFd::new(far, PollFlags::IN)];
            ready.extend(name_server.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)));
            match poll(&mut ready, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!("what goes past the proxy can no longer be seen: {error}");
                    break;
                }
            }
            let is_over = !ready[0].revents().is_empty();
            self.read_all();
            self.answer_questions();
            if is_over {
                break;
            }
        }
        self.seen.into_list()
    }

    /// Handles every frame that is there.
    fn read_all(&mut self) {
        let mut buffer = vec![0; LONGEST_FRAME];
        loop {
            match recv(&self.openings.far, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    let answer = Frame::read(&buffer[..length]).and_then(|frame| self.answer(&frame));
                    // The command may be gone, and its network with it.
                    let _ = answer.map(|answer| send(&self.openings.far, &answer, SendFlags::DONTWAIT));
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Handles every question to the name server on loopback that is there.
    fn answer_questions(&mut self) {
        let Some(socket) = &self.openings.name_server else { return };
        let mut buffer = [0; LONGEST_QUESTION];
        // It does not block, and of a client that has gone it tells here.
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = self.names.answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, client);
            }
        }
    }

    /// The process that sent `frame`.
    fn find(&mut self, protocol: Protocol, frame: &Frame<'_>) -> Option<ProcessName> {
        let port = frame.to.port();
        let group = if self.finders.len() < PORTS || self.finders.contains_key(&port) { port } else { 0 };
        let finder = self.finders.entry(group).or_insert_with(|| Finder::with_budget(self.network.clone(), LOOKING));
        finder.find(protocol, frame.from, frame.to)
    }

    /// The answer to a frame, of which a note is taken before the client gets it: until then its socket is there.
    fn answer(&mut self, frame: &Frame<'_>) -> Option<Vec<u8>> {
        let protocol = match frame.content {
            Content::Connection { .. } => Protocol::Tcp,
            // Announcements to whoever is in the network.
            Content::Datagram(_) if frame.to.ip().is_multicast() => return None,
            Content::Datagram(query) if frame.to.port() == NAME_SERVICE_PORT => {
                return self.names.answer(query).map_or_else(|| frame.refusal(), |answer| frame.reply(&answer));
            }
            Content::Datagram(_) => Protocol::Udp,
        };
        let (address, port) = (frame.to.ip(), frame.to.port());
        let host = self.names.name_of(address).map_or_else(|| address.to_string(), str::to_owned);
        let is_known = self.seen.are_known(protocol, &host, port);
        let process = if is_known { None } else { self.find(protocol, frame) };
        let who = process.as_ref().map_or_else(|| "a process".to_owned(), ToString::to_string);
        let refused = format!("{who} tried to reach {host}:{port} past the proxy, and was refused");
        // In full it is for the end of the run: clients try again and again.
        match self.seen.add(Bypass { process, protocol, host, port, count: 1 }) {
            true => tracing::warn!("{}", printable(&refused)),
            false => tracing::debug!("{}", printable(&refused)),
        }
        frame.refusal()
    }
}
