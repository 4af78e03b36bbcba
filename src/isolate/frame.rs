//! Frames at the far end of the isolated network: what a client wants, and the answers that it gets.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    Ethernet2Header, Icmpv4Type, Icmpv6Type, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions,
    Ipv6Header, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice, icmpv4, icmpv6,
};

/// How much of a packet a message about it repeats: all that fits into the smallest one that every network takes
/// (RFC 1812 §4.3.2.3).
const QUOTED: usize = 548;
const HOP_LIMIT: u8 = 64;
/// The length of an Ethernet header.
const LINK_HEADER: usize = 14;

/// A packet that a client sent.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its sender.
    pub from: SocketAddr,
    /// Where it was to go.
    pub to: SocketAddr,
    /// What it is.
    pub content: Content<'a>,
    link: Ethernet2Header,
    packet: &'a [u8],
}

/// What a packet is.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// The first of a TCP connection. `next` is the number that comes after it in the stream.
    Connection {
        /// The number to acknowledge.
        next: u32,
    },
    /// A UDP datagram.
    Datagram(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// What is in `bytes`; `None` for what nobody has to answer.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(bytes).ok()?;
        let link = packet.link?.to_header()?.ethernet2()?;
        let (source, destination): (IpAddr, IpAddr) = match packet.net? {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => return None,
        };
        let (from, to, content) = match packet.transport? {
            TransportSlice::Tcp(tcp) if tcp.syn() && !tcp.ack() => {
                let sent = u32::try_from(tcp.payload().len()).ok()?;
                let next = tcp.sequence_number().wrapping_add(1).wrapping_add(sent);
                (tcp.source_port(), tcp.destination_port(), Content::Connection { next })
            }
            TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port(), Content::Datagram(udp.payload())),
            _ => return None,
        };
        let (from, to) = (SocketAddr::new(source, from), SocketAddr::new(destination, to));
        Some(Self { from, to, content, link, packet: bytes.get(LINK_HEADER..)? })
    }

    /// The frame that tells the client that nobody is there: a reset (RFC 9293 §3.10.7.1), or an ICMP message that the
    /// port cannot be reached (RFC 792, RFC 4443 §3.1).
    pub fn refusal(&self) -> Option<Vec<u8>> {
        let quoted = &self.packet[..self.packet.len().min(QUOTED)];
        let mut bytes = Vec::new();
        let written = match (&self.content, self.to.ip()) {
            (Content::Connection { next }, _) => {
                let reset = self.back(IpNumber::TCP)?.tcp(self.to.port(), self.from.port(), 0, 0).rst().ack(*next);
                reset.write(&mut bytes, &[])
            }
            (Content::Datagram(_), IpAddr::V4(_)) => {
                let reason = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
                self.back(IpNumber::ICMP)?.icmpv4(reason).write(&mut bytes, quoted)
            }
            (Content::Datagram(_), IpAddr::V6(_)) => {
                let reason = Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port);
                self.back(IpNumber::IPV6_ICMP)?.icmpv6(reason).write(&mut bytes, quoted)
            }
        };
        written.ok().map(|()| bytes)
    }

    /// The frame that answers a datagram with `payload`.
    pub fn reply(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let reply = self.back(IpNumber::UDP)?.udp(self.to.port(), self.from.port());
        reply.write(&mut bytes, payload).ok().map(|()| bytes)
    }

    /// The headers of a packet from where this one was to go to where it came from.
    fn back(&self, protocol: IpNumber) -> Option<PacketBuilderStep<IpHeaders>> {
        let headers = match (self.to.ip(), self.from.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Header::new(0, HOP_LIMIT, protocol, source.octets(), destination.octets()).ok()?;
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    next_header: protocol,
                    hop_limit: HOP_LIMIT,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            _ => return None,
        };
        Some(PacketBuilder::ethernet2(self.link.destination, self.link.source).ip(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const FAR: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn frame(from: &str, to: &str, write: impl FnOnce(PacketBuilderStep<IpHeaders>) -> Vec<u8>) -> Vec<u8> {
        let link = Ethernet2Header { source: FAR, destination: CLIENT, ..Ethernet2Header::default() };
        let (from, to) = (to.parse().unwrap(), from.parse().unwrap());
        // The way back of a way back.
        let backwards = Frame { from, to, content: Content::Datagram(&[]), link, packet: &[] };
        write(backwards.back(IpNumber::TCP).unwrap())
    }

    fn syn(from: &str, to: &str, sequence: u32) -> Vec<u8> {
        let ports = [from, to].map(|text| text.parse::<SocketAddr>().unwrap().port());
        frame(from, to, |step| {
            let mut bytes = Vec::new();
            step.tcp(ports[0], ports[1], sequence, 1000).syn().write(&mut bytes, &[]).unwrap();
            bytes
        })
    }

    fn datagram(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
        let ports = [from, to].map(|text| text.parse::<SocketAddr>().unwrap().port());
        frame(from, to, |step| {
            let mut bytes = Vec::new();
            step.udp(ports[0], ports[1]).write(&mut bytes, payload).unwrap();
            bytes
        })
    }

    #[test]
    fn the_first_packet_of_a_connection_is_answered_with_a_reset_that_acknowledges_it() {
        for (from, to) in [("198.19.255.254:40000", "198.18.0.1:9418"), ("[fd00::1]:40000", "[2001:db8::1]:22")] {
            let bytes = syn(from, to, u32::MAX);
            let frame = Frame::read(&bytes).unwrap();
            assert_eq!((frame.from.to_string(), frame.to.to_string()), (from.to_owned(), to.to_owned()));
            assert_eq!(frame.content, Content::Connection { next: 0 });
            let refusal = frame.refusal().unwrap();
            let packet = SlicedPacket::from_ethernet(&refusal).unwrap();
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{packet:?}") };
            assert!(tcp.rst() && tcp.ack() && !tcp.syn());
            assert_eq!((tcp.acknowledgment_number(), tcp.destination_port()), (0, 40000));
            let link = packet.link.unwrap().to_header().unwrap().ethernet2().unwrap();
            assert_eq!((link.source, link.destination), (FAR, CLIENT));
            assert!(Frame::read(&refusal).is_none(), "a refusal needs no answer");
        }
    }

    #[test]
    fn a_datagram_is_answered_or_refused_with_its_beginning() {
        for (from, to) in [("198.19.255.254:40000", "198.19.255.253:53"), ("[fd00::1]:40000", "[2001:db8::1]:443")] {
            let bytes = datagram(from, to, &[7; 1000]);
            let frame = Frame::read(&bytes).unwrap();
            assert_eq!(frame.content, Content::Datagram(&[7; 1000]));
            let reply = frame.reply(b"an answer").unwrap();
            let answer = Frame::read(&reply).unwrap();
            assert_eq!((answer.from, answer.to), (frame.to, frame.from));
            assert_eq!(answer.content, Content::Datagram(b"an answer"));
            let refusal = frame.refusal().unwrap();
            match SlicedPacket::from_ethernet(&refusal).unwrap().transport {
                Some(TransportSlice::Icmpv4(icmp)) => assert_eq!(icmp.payload(), &bytes[14..][..QUOTED]),
                Some(TransportSlice::Icmpv6(icmp)) => assert_eq!(icmp.payload(), &bytes[14..][..QUOTED]),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_passed_over() {
        let bytes = syn("198.19.255.254:40000", "198.18.0.1:443", 1);
        assert!((0..bytes.len()).all(|length| Frame::read(&bytes[..length]).is_none()));
        let mut other = bytes;
        other[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(Frame::read(&other).is_none());
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_client_sends_is_survived(
            mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            version in 0..3usize,
        ) {
            // Half of it past the first checks.
            if bytes.len() > 14 && version > 0 {
                bytes[12..15].copy_from_slice(&[[8, 0, 0x45], [0x86, 0xDD, 0x60]][version - 1]);
            }
            if let Some(frame) = Frame::read(&bytes) {
                frame.refusal();
                frame.reply(&bytes);
            }
            super::super::names::Names::default().answer(&bytes);
        }
    }
}
