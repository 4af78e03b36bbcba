//! What git posts: packets are taken apart without loss, and the canonical form is its own.

#![no_main]

use buildproxy_fuzz::inventory::request_body::pkt_line::{Packet, canonical, packets};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Some(packets) = packets(body) else {
        assert_eq!(canonical(body), None);
        return;
    };
    let length = |packet: &Packet| match packet {
        Packet::Data(line) => 4 + line.len(),
        Packet::End(_) => 4,
    };
    assert_eq!(packets.iter().map(length).sum::<usize>(), body.len(), "every byte is in a packet");

    let once = canonical(body).expect("what is made of packets has a form");
    assert_eq!(canonical(&once).as_ref(), Some(&once), "twice is as good as once");
    let reversed = once_more_with_sections_reversed(&packets);
    assert_eq!(canonical(&reversed), Some(once), "the order of lines within a section does not count");
});

/// The same packets, the lines of each section in the opposite order.
fn once_more_with_sections_reversed(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut section: Vec<&[u8]> = Vec::new();
    let write = |section: &mut Vec<&[u8]>, bytes: &mut Vec<u8>| {
        for line in section.drain(..).rev() {
            bytes.extend(format!("{:04x}", line.len() + 4).bytes());
            bytes.extend(line);
        }
    };
    for packet in packets {
        match packet {
            Packet::Data(line) => section.push(line),
            Packet::End(kind) => {
                write(&mut section, &mut bytes);
                bytes.extend([b'0', b'0', b'0', b'0' + kind]);
            }
        }
    }
    write(&mut section, &mut bytes);
    bytes
}
