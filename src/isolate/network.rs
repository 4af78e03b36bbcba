//! The network inside: loopback, and a pair of interfaces into which everything else is routed.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, OwnedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use nix::sys::socket::{AddressFamily as Family, SockFlag, SockProtocol, SockType};
use rustix::net::{
    RecvFlags, SendFlags, SocketFlags, SocketType,
    netdevice::name_to_index,
    recv, send, socket_with,
    sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force},
};

use super::setup_error::{SetupError, failed};

/// Where name servers are asked. Like the next, of a range that is for tests of networks and never a real host's
/// (RFC 2544), of which `names` gives out the rest.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 253);
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 19, 255, 254);
/// A unique local address (RFC 4193), so that clients with IPv6 have one to start from.
const OWN_ADDRESS_6: Ipv6Addr = Ipv6Addr::new(0xfd62, 0x7569, 0x6c64, 0, 0, 0, 0, 1);

/// How much can wait at the far end, in bytes: what some thousand clients ask at once.
const WAITING: usize = 8 << 20;
const LOOPBACK: &str = "lo";
/// The near end, which the default routes lead to, and the far end, which is read.
const NEAR: &str = "buildproxy0";
const FAR: &str = "buildproxy1";

/// The kernel's side of an rtnetlink socket (rtnetlink(7)).
pub struct Network(OwnedFd);

impl Network {
    /// Of the namespace that this thread is in.
    ///
    /// # Errors
    /// Where the kernel gives no socket.
    pub fn open() -> io::Result<Self> {
        let family = rustix::net::AddressFamily::NETLINK;
        // No protocol is NETLINK_ROUTE, whose number is 0.
        Ok(Self(socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// Starts loopback.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn start_loopback(&self) -> io::Result<()> {
        self.set_flags(LOOPBACK, LinkFlags::Up)
    }

    /// Routes everything but loopback into the pair, and gives a socket that reads and writes its far end.
    ///
    /// # Errors
    /// What the kernel says; for example that it has no such interfaces.
    pub fn catch_the_rest(&self) -> Result<OwnedFd, SetupError> {
        self.request(RouteNetlinkMessage::NewLink(veth_pair()), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(failed("this kernel gives no virtual interfaces (as root: modprobe veth)"))?;
        for name in [NEAR, FAR] {
            // Without ARP and neighbour discovery: nobody is there to answer them.
            self.set_flags(name, LinkFlags::Up | LinkFlags::Noarp)
                .map_err(failed("cannot start a virtual interface"))?;
        }
        let far = far_end().map_err(failed("this kernel gives no packet socket (as root: modprobe af_packet)"))?;
        self.route(OWN_ADDRESS.into()).map_err(failed("cannot route into a virtual interface"))?;
        // Some systems have IPv6 switched off, and then nobody uses it.
        if let Err(error) = self.route(OWN_ADDRESS_6.into()) {
            tracing::debug!("no IPv6 inside: {error}");
        }
        Ok(far)
    }

    /// Gives the near end `address`, and a default route of that family.
    fn route(&self, address: IpAddr) -> io::Result<()> {
        let index = self.index(NEAR)?;
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let mut message = AddressMessage::default();
        message.header.family = family;
        message.header.prefix_len = if address.is_ipv4() { 32 } else { 128 };
        message.header.index = index;
        // It is used from the first moment on; nobody else could have it.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?;

        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = if address.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Oif(index)];
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    fn set_flags(&self, name: &str, flags: LinkFlags) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        message.header.flags = flags;
        message.header.change_mask = flags;
        self.request(RouteNetlinkMessage::SetLink(message), 0)
    }

    fn index(&self, name: &str) -> io::Result<u32> {
        Ok(name_to_index(&self.0, name)?)
    }

    /// Sends `message` and waits for the answer.
    fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.0, &bytes, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::empty())?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer[..length]);
        match answer.map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(()),
        }
    }
}

fn veth_pair() -> LinkMessage {
    let mut far = LinkMessage::default();
    far.attributes = vec![LinkAttribute::IfName(FAR.to_owned())];
    let mut near = LinkMessage::default();
    near.attributes = vec![
        LinkAttribute::IfName(NEAR.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
        ]),
    ];
    near
}

/// A socket for whole frames at the far end.
fn far_end() -> io::Result<OwnedFd> {
    let socket = nix::sys::socket::socket(Family::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
    let mut interfaces = nix::ifaddrs::getifaddrs()?.filter(|interface| interface.interface_name == FAR);
    let address = interfaces.find_map(|interface| interface.address?.as_link_addr().copied());
    let address = address.ok_or(io::ErrorKind::NotFound)?;
    // What does not fit is lost, and asked for again after seconds. Who is not root gets what the system allows.
    let larger = set_socket_recv_buffer_size_force(&socket, WAITING);
    if let Err(error) = larger.or_else(|_| set_socket_recv_buffer_size(&socket, WAITING)) {
        tracing::debug!("frames wait in a small buffer: {error}");
    }
    // The address names the interface; the protocol stays that of the socket (packet(7)).
    nix::sys::socket::bind(socket.as_raw_fd(), &address)?;
    Ok(socket)
}
