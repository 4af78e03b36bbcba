//! The kernel's own look-up of a connection (sock_diag(7)). Its table, which `/proc` has as text, takes it as long as the
//! machine has memory, tens of milliseconds; this takes microseconds.

use std::{
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with},
};

/// Asks about the connections of one network; one question at a time.
#[derive(Debug)]
pub(crate) struct Connections(Mutex<OwnedFd>);

impl Connections {
    /// Those of the network that this thread is in.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        Ok(socket_with(family, kind, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?.into())
    }

    /// The inode of the socket whose own address is `own`, with the other end at `other`, if there is one.
    ///
    /// # Errors
    /// Where the kernel does not tell.
    pub fn inode(&self, own: SocketAddr, other: SocketAddr) -> io::Result<Option<u64>> {
        let bytes = question(own, other);
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        send(&*socket, &bytes, SendFlags::empty())?;
        let mut answer = [0; 4096];
        let (length, _) = recv(&*socket, &mut answer, RecvFlags::empty())?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer[..length]);
        match answer.map_err(io::Error::other)?.payload {
            // Where there is no connection, there can be a socket that waits for some.
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => Ok(Some(response.header)
                .filter(|header| header.socket_id.destination_port == other.port())
                .map(|header| header.inode.into())),
            NetlinkPayload::Error(error) if error.to_io().raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
                Ok(None)
            }
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl From<OwnedFd> for Connections {
    fn from(socket: OwnedFd) -> Self {
        Self(Mutex::new(socket))
    }
}

/// For another process.
impl From<Connections> for OwnedFd {
    fn from(connections: Connections) -> Self {
        connections.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

fn question(own: SocketAddr, other: SocketAddr) -> Vec<u8> {
    let socket_id = SocketId {
        source_port: own.port(),
        destination_port: other.port(),
        source_address: own.ip(),
        destination_address: other.ip(),
        interface_id: 0,
        // It is not known.
        cookie: [0xff; 8],
    };
    let request = InetRequest {
        family: if own.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
