//! Git's pkt-lines (gitprotocol-common), as far as two requests of one meaning have to be recognised.
//!
//! A clone over smart HTTP asks by `POST`, and its bytes differ between versions of git, and with whether git has a
//! terminal to show progress on, though it asks for the same objects.

/// Longest packet, in bytes with its length.
const MAX_PACKET: usize = 65_520;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A line, with whatever ends it.
    Data(&'a [u8]),
    /// `0000`, `0001` or `0002`: the end of a message, of a section, of a stateless response.
    End(u8),
}

/// Takes `body` apart; `None` where it is not packets from its first byte to its last.
pub fn packets(mut body: &[u8]) -> Option<Vec<Packet<'_>>> {
    let mut packets = Vec::new();
    while !body.is_empty() {
        let length = body.get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
        let end = match length {
            0..=2 => {
                // 0, 1 or 2.
                packets.push(Packet::End(length as u8));
                4
            }
            4..=MAX_PACKET => {
                packets.push(Packet::Data(body.get(4..length)?));
                length
            }
            _ => return None,
        };
        body = &body[end..];
    }
    Some(packets)
}

/// What the request `body` of `git-upload-pack` asks for, as pkt-lines again: the lines of each section sorted, the
/// capabilities on the first `want` of protocol version 0 as lines of their own, and without what says who asks and how
/// much it wants to be told: `agent=`, `session-id=`, `no-progress`. `None` where it is not made of pkt-lines.
///
/// Commands, wants, haves, depths, filters and all other capabilities count: they change the answer.
pub fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let mut canonical = Vec::with_capacity(body.len());
    let mut section: Vec<Vec<u8>> = Vec::new();
    for packet in packets(body)? {
        match packet {
            Packet::Data(line) => section.extend(meanings(line)),
            Packet::End(kind) => {
                write_section(&mut canonical, &mut section);
                canonical.extend_from_slice(&[b'0', b'0', b'0', b'0' + kind]);
            }
        }
    }
    write_section(&mut canonical, &mut section);
    Some(canonical)
}

/// The lines that one line stands for, without those that make no difference.
fn meanings(line: &[u8]) -> Vec<Vec<u8>> {
    let line = without_line_ends(line);
    let mut words = line.split(|byte| *byte == b' ');
    let lines = match (words.next(), words.next()) {
        (Some(b"want"), Some(object)) => {
            // gitprotocol-pack: `want OBJECT [SP CAPABILITY…]`
            let capabilities = words.map(without_line_ends).filter(|word| !word.is_empty()).map(<[u8]>::to_vec);
            [[b"want ", without_line_ends(object)].concat()].into_iter().chain(capabilities).collect()
        }
        _ => vec![line.to_vec()],
    };
    lines.into_iter().filter(|line| counts(line)).collect()
}

fn without_line_ends(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    &line[..end]
}

fn counts(line: &[u8]) -> bool {
    !line.starts_with(b"agent=") && !line.starts_with(b"session-id=") && line != b"no-progress"
}

fn write_section(canonical: &mut Vec<u8>, section: &mut Vec<Vec<u8>>) {
    section.sort();
    for line in section.drain(..) {
        canonical.extend_from_slice(format!("{:04x}", line.len() + 4).as_bytes());
        canonical.extend_from_slice(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as packets; `0000`, `0001`, `0002` stand for themselves.
    fn body(lines: &[&str]) -> Vec<u8> {
        let packet = |line: &&str| match *line {
            "0000" | "0001" | "0002" => (*line).to_owned(),
            line => format!("{:04x}{line}", line.len() + 4),
        };
        lines.iter().map(packet).collect::<String>().into_bytes()
    }

    fn form(lines: &[&str]) -> Vec<u8> {
        canonical(&body(lines)).unwrap()
    }

    const A: &str = "want 1111111111111111111111111111111111111111";
    const B: &str = "want 2222222222222222222222222222222222222222";

    #[test]
    fn a_fetch_of_version_2_is_the_same_from_every_git() {
        let old = form(&[
            "command=fetch",
            "agent=git/2.39.2",
            "object-format=sha1",
            "0001",
            "ofs-delta",
            A,
            B,
            "done\n",
            "0000",
        ]);
        let new = form(&[
            "command=fetch\n",
            "agent=git/2.47.3-Linux",
            "session-id=x-1",
            "object-format=sha1",
            "0001",
            "no-progress",
            B,
            A,
            "ofs-delta",
            "done\n",
            "0000",
        ]);
        assert_eq!(old, new);
        let expected = ["command=fetch", "object-format=sha1", "0001", "done", "ofs-delta", A, B, "0000"];
        assert_eq!(old, body(&expected));
    }

    #[test]
    fn the_capabilities_of_version_0_are_lines_of_their_own() {
        let first = format!("{A} multi_ack_detailed no-progress ofs-delta agent=git/2.47.3\n");
        let swapped = format!("{A} ofs-delta  agent=git/2.39.2 multi_ack_detailed\n");
        assert_eq!(form(&[&first, B, "0000", "done"]), form(&[&swapped, B, "0000", "done\n"]));
        assert_eq!(
            form(&[&format!("{A}\n \n ofs-delta\n")]),
            body(&["ofs-delta", A]),
            "line ends are nothing anywhere"
        );
        assert_eq!(form(&[&first, "0000", "done"]), body(&["multi_ack_detailed", "ofs-delta", A, "0000", "done"]));
    }

    #[test]
    fn what_changes_the_answer_counts() {
        let plain = form(&["command=fetch", "0001", A, "done", "0000"]);
        for other in [
            &["command=ls-refs", "0001", A, "done", "0000"][..],
            &["command=fetch", "0001", B, "done", "0000"],
            &["command=fetch", "0001", A, "0000"],
            &["command=fetch", "0001", A, "deepen 1", "done", "0000"],
            &["command=fetch", "0001", A, "filter blob:none", "done", "0000"],
            &["command=fetch", "0001", A, "thin-pack", "done", "0000"],
            &["command=fetch", "0001", A, "done", "0000", "0000"],
            &["command=fetch", A, "0001", "done", "0000"],
        ] {
            assert_ne!(form(other), plain, "{other:?}");
        }
    }

    #[test]
    fn what_is_not_made_of_packets_has_no_form() {
        for text in ["{}", "0003", "000", "0005", "zzzz", "fff1", "0000PACK", "+123", "0006a"] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
        }
        assert_eq!(packets(b"0004"), Some(vec![Packet::Data(b"")]));
        assert_eq!(canonical(b""), Some(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_is_its_own_canonical_form(
            lines in proptest::collection::vec("(0000|0001|want [a-c \n]{0,9}|agent=x|have [ab]|no-progress|[a-z =\n]{0,6})", 0..12),
        ) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let once = form(&lines);
            proptest::prop_assert_eq!(canonical(&once), Some(once.clone()));
        }
    }
}
