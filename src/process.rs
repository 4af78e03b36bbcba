//! Which process a connection belongs to, from what `/proc` tells.

#[cfg(target_os = "linux")]
mod connections;

use std::{
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicI32, AtomicU64, Ordering},
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
pub(crate) use connections::Connections;

#[cfg(target_os = "linux")]
use procfs::{
    ProcResult,
    net::{TcpNetEntry, UdpNetEntry},
    process::{FDTarget, Process},
};

use crate::text::printable;

/// How long may be looked in all, unless said otherwise. It takes some milliseconds where there are many processes, or
/// where the kernel gives its table alone, and a build can open thousands of connections; what goes wrong in a build mostly
/// goes wrong early, or again and again.
const BUDGET: Duration = Duration::from_secs(2);

/// A process with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessName {
    /// Its number, as this process sees it.
    pub pid: i32,
    /// The name of its program.
    pub name: String,
}

impl ProcessName {
    /// Process `pid` with its name; `None` where it has ended, or nobody tells.
    #[cfg(target_os = "linux")]
    pub fn of(pid: i32) -> Option<Self> {
        let process = Process::new(pid).ok()?;
        // Where the system does not tell the program, there is the name that the process gave itself.
        let program = process.exe().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = program.or_else(|| process.stat().ok().map(|stat| stat.comm))?;
        Some(Self { pid, name: name.trim_end_matches(" (deleted)").to_owned() })
    }
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

/// A network whose sockets are looked at.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// A process in it; this one where that is `None`.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    member: Option<i32>,
    /// Where the kernel tells by itself.
    #[cfg(target_os = "linux")]
    connections: Option<std::sync::Arc<Connections>>,
}

impl Network {
    /// That of this process.
    pub fn own() -> Self {
        Self {
            member: None,
            #[cfg(target_os = "linux")]
            connections: Connections::open().ok().map(std::sync::Arc::new),
        }
    }

    /// That of process `member`.
    #[cfg(target_os = "linux")]
    pub fn of(member: i32, connections: Option<Connections>) -> Self {
        Self { member: Some(member), connections: connections.map(std::sync::Arc::new) }
    }
}

/// Looks processes up, for a bounded time in all.
#[derive(Debug)]
pub struct Finder {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    network: Network,
    budget: Duration,
    spent_micros: AtomicU64,
    /// The process that was found last: it is looked at first, since a client mostly opens more than one connection.
    last: AtomicI32,
}

impl Default for Finder {
    fn default() -> Self {
        Self::of(Network::own())
    }
}

impl Finder {
    /// One that looks among the sockets of `network`.
    pub fn of(network: Network) -> Self {
        Self::with_budget(network, BUDGET)
    }

    /// One that looks for no longer than `budget` in all.
    pub fn with_budget(network: Network, budget: Duration) -> Self {
        Self { network, budget, spent_micros: AtomicU64::new(0), last: AtomicI32::new(0) }
    }

    /// The process that has a socket with the address `own`, and with the other end at `other` unless it is UDP.
    pub fn find(&self, protocol: Protocol, own: SocketAddr, other: SocketAddr) -> Option<ProcessName> {
        if self.is_spent() {
            return None;
        }
        let start = Instant::now();
        let last = self.last.load(Ordering::Relaxed);
        let process = find(&self.network, protocol, canonical(own), canonical(other), last);
        if let Some(process) = &process {
            self.last.store(process.pid, Ordering::Relaxed);
        }
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.spent_micros.fetch_add(micros, Ordering::Relaxed);
        process
    }

    /// Has nothing more looked up.
    pub fn give_up(&self) {
        let budget = u64::try_from(self.budget.as_micros()).unwrap_or(u64::MAX);
        self.spent_micros.fetch_max(budget, Ordering::Relaxed);
    }

    /// Whether no more is looked up.
    pub fn is_spent(&self) -> bool {
        Duration::from_micros(self.spent_micros.load(Ordering::Relaxed)) >= self.budget
    }
}

/// Other systems do not tell without privilege.
#[cfg(not(target_os = "linux"))]
fn find(_: &Network, _: Protocol, _: SocketAddr, _: SocketAddr, _: i32) -> Option<ProcessName> {
    None
}

#[cfg(target_os = "linux")]
fn find(network: &Network, protocol: Protocol, own: SocketAddr, other: SocketAddr, last: i32) -> Option<ProcessName> {
    let told = network.connections.as_ref().filter(|_| protocol == Protocol::Tcp);
    let inode = match told.map(|connections| connections.inode(own, other)) {
        Some(Ok(found)) => found,
        // It keeps that to itself, and its table is slower.
        None | Some(Err(_)) => inode(network.member, protocol, own, other).ok().flatten(),
    };
    // A socket that nobody has any more has none.
    let inode = inode.filter(|inode| *inode != 0)?;
    ProcessName::of(if has(last, inode) { last } else { holder(inode)? })
}

/// The inode of that socket.
#[cfg(target_os = "linux")]
fn inode(member: Option<i32>, protocol: Protocol, own: SocketAddr, other: SocketAddr) -> ProcResult<Option<u64>> {
    let member = member.map_or_else(Process::myself, Process::new)?;
    let is_tcp = |local, remote| canonical(local) == own && canonical(remote) == other;
    // A socket without an address of its own has the one that the route gives it.
    let is_udp = |local: SocketAddr| {
        local.port() == own.port() && (local.ip().is_unspecified() || canonical(local).ip() == own.ip())
    };
    let tcp = |sockets: Vec<TcpNetEntry>| {
        sockets
            .into_iter()
            .find(|socket| is_tcp(socket.local_address, socket.remote_address))
            .map(|socket| socket.inode)
    };
    let udp = |sockets: Vec<UdpNetEntry>| {
        sockets.into_iter().find(|socket| is_udp(socket.local_address)).map(|socket| socket.inode)
    };
    // Those of IPv6 can have IPv4 addresses as well.
    let found = match (protocol, own.is_ipv4()) {
        (Protocol::Tcp, true) => tcp(member.tcp()?).or_else(|| tcp(member.tcp6().unwrap_or_default())),
        (Protocol::Tcp, false) => tcp(member.tcp6()?),
        (Protocol::Udp, true) => udp(member.udp()?).or_else(|| udp(member.udp6().unwrap_or_default())),
        (Protocol::Udp, false) => udp(member.udp6()?),
    };
    Ok(found)
}

/// The process that has the socket `inode`: the newest of those that we may look into, since children inherit what their
/// parents forget to close, and since clients are mostly new.
#[cfg(target_os = "linux")]
fn holder(inode: u64) -> Option<i32> {
    let numbers = std::fs::read_dir("/proc").ok()?.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<i32> = numbers.collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    numbers.into_iter().find(|number| has(*number, inode))
}

/// Whether process `number` has the socket `inode`.
#[cfg(target_os = "linux")]
fn has(number: i32, inode: u64) -> bool {
    let descriptors = Process::new(number).and_then(|process| process.fd()).into_iter().flatten();
    descriptors.filter_map(Result::ok).any(|descriptor| descriptor.target == FDTarget::Socket(inode))
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
    fn the_process_at_the_other_end_is_found_over_both_families_by_either_way() {
        let table = Network::default();
        assert!(Network::own().connections.is_some(), "this kernel tells by itself");
        for (listening, asked) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("0.0.0.0:0", "::ffff:127.0.0.1")]
        {
            let listener = TcpListener::bind(listening).unwrap();
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((asked, port)).unwrap();
            let (own, other) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            for network in [Network::own(), table.clone()] {
                let found = Finder::of(network).find(Protocol::Tcp, own, other).unwrap();
                let expected = ProcessName { pid: i32::try_from(std::process::id()).unwrap(), name: own_program() };
                assert_eq!(found, expected, "{asked}");
            }
            drop(client);
            for network in [Network::own(), table.clone()] {
                assert_eq!(Finder::of(network).find(Protocol::Tcp, own, other), None, "{asked}");
            }
        }
    }

    #[test]
    fn a_socket_that_waits_for_connections_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, nobody) = (listener.local_addr().unwrap(), SocketAddr::from(([127, 0, 0, 1], 9)));
        assert_eq!(Connections::open().unwrap().inode(own, nobody).unwrap(), None);
    }

    #[test]
    fn a_datagram_socket_is_found_by_its_port() {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
        let other = SocketAddr::from(([127, 0, 0, 1], 9));
        let found = Finder::default().find(Protocol::Udp, own, other).unwrap();
        assert_eq!(found.name, own_program());
    }

    #[test]
    fn looking_ends_when_its_time_is_spent() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = socket.local_addr().unwrap();
        let finder = Finder::default();
        assert!(finder.find(Protocol::Udp, own, own).is_some() && !finder.is_spent());
        finder.give_up();
        assert!(finder.is_spent());
        assert_eq!(finder.find(Protocol::Udp, own, own), None);
    }
}
