//! Which process a connection belongs to, from what `/proc` tells.

use std::{
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use procfs::{
    ProcResult,
    process::{FDTarget, Process},
};

use crate::text::printable;

/// How long may be looked in all. It takes about a millisecond each time, and a build can open thousands of connections;
/// what goes wrong in a build mostly goes wrong early, or again and again.
const BUDGET: Duration = Duration::from_millis(500);

/// A process with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessName {
    /// Its number, as this process sees it.
    pub pid: i32,
    /// The name of its program.
    pub name: String,
}

/// `NAME (process N)`.
impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", printable(&self.name), self.pid)
    }
}

/// The kinds of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Looks processes up, for a bounded time in all.
#[derive(Debug, Default)]
pub struct Finder {
    spent_micros: AtomicU64,
}

impl Finder {
    /// The process that has a socket with the address `own`, and with the other end at `other` unless it is UDP; among
    /// the sockets of the network namespace that `member` is in, or this process where that is `None`.
    pub fn find(
        &self,
        member: Option<i32>,
        protocol: Protocol,
        own: SocketAddr,
        other: SocketAddr,
    ) -> Option<ProcessName> {
        if self.is_spent() {
            return None;
        }
        let start = Instant::now();
        let process = find(member, protocol, canonical(own), canonical(other));
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.spent_micros.fetch_add(micros, Ordering::Relaxed);
        process
    }

    /// Has nothing more looked up.
    pub fn give_up(&self) {
        self.spent_micros.fetch_add(BUDGET.as_micros() as u64, Ordering::Relaxed);
    }

    /// Whether no more is looked up.
    pub fn is_spent(&self) -> bool {
        Duration::from_micros(self.spent_micros.load(Ordering::Relaxed)) >= BUDGET
    }
}

/// Other systems do not tell without privilege.
#[cfg(not(target_os = "linux"))]
fn find(_: Option<i32>, _: Protocol, _: SocketAddr, _: SocketAddr) -> Option<ProcessName> {
    None
}

#[cfg(target_os = "linux")]
fn find(member: Option<i32>, protocol: Protocol, own: SocketAddr, other: SocketAddr) -> Option<ProcessName> {
    holder(inode(member, protocol, own, other).ok().flatten()?)
}

/// The inode of that socket.
#[cfg(target_os = "linux")]
fn inode(member: Option<i32>, protocol: Protocol, own: SocketAddr, other: SocketAddr) -> ProcResult<Option<u64>> {
    let member = member.map_or_else(Process::myself, Process::new)?;
    let found = match protocol {
        Protocol::Tcp => {
            let is_it = |local, remote| canonical(local) == own && canonical(remote) == other;
            let sockets = member.tcp()?.into_iter().chain(member.tcp6().unwrap_or_default());
            sockets
                .filter(|socket| is_it(socket.local_address, socket.remote_address))
                .map(|socket| socket.inode)
                .next()
        }
        Protocol::Udp => {
            // A socket without an address of its own has the one that the route gives it.
            let is_it = |local: SocketAddr| {
                local.port() == own.port() && (local.ip().is_unspecified() || canonical(local).ip() == own.ip())
            };
            let sockets = member.udp()?.into_iter().chain(member.udp6().unwrap_or_default());
            sockets.filter(|socket| is_it(socket.local_address)).map(|socket| socket.inode).next()
        }
    };
    // A socket that nobody has any more has none.
    Ok(found.filter(|inode| *inode != 0))
}

/// The process that has the socket `inode`: the newest of those that we may look into, since children inherit what their
/// parents forget to close, and since clients are mostly new.
#[cfg(target_os = "linux")]
fn holder(inode: u64) -> Option<ProcessName> {
    let numbers = std::fs::read_dir("/proc").ok()?.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let process = numbers.into_iter().filter_map(|number| Process::new(number).ok()).find(|process| {
        let descriptors = process.fd().into_iter().flatten().filter_map(Result::ok);
        descriptors.into_iter().any(|descriptor| descriptor.target == FDTarget::Socket(inode))
    })?;
    // Where the system does not tell the program, there is the name that the process gave itself.
    let program = process.exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let name = program.or_else(|| process.stat().ok().map(|stat| stat.comm))?;
    Some(ProcessName { pid: process.pid(), name: name.trim_end_matches(" (deleted)").to_owned() })
}

/// An IPv4 address that a socket for IPv6 has is that IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn own_program() -> String {
        let path = std::env::current_exe().unwrap();
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn the_process_at_the_other_end_is_found_over_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (own, other) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let found = Finder::default().find(None, Protocol::Tcp, own, other).unwrap();
            let expected = ProcessName { pid: i32::try_from(std::process::id()).unwrap(), name: own_program() };
            assert_eq!(found, expected);
            drop(client);
            assert_eq!(Finder::default().find(None, Protocol::Tcp, own, other), None);
        }
    }

    #[test]
    fn a_datagram_socket_is_found_by_its_port() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
        let other = SocketAddr::from(([127, 0, 0, 1], 9));
        let found = Finder::default().find(None, Protocol::Udp, own, other).unwrap();
        assert_eq!(found.name, own_program());
    }

    #[test]
    fn looking_ends_when_its_time_is_spent() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap();
        let finder = Finder::default();
        assert!(finder.find(None, Protocol::Udp, own, own).is_some() && !finder.is_spent());
        finder.give_up();
        assert!(finder.is_spent());
        assert_eq!(finder.find(None, Protocol::Udp, own, own), None);
    }
}
