//! A name server for those who look names up themselves: every name has an address, which leads nowhere. What a client
//! then wants there shows under its name.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Where name servers are asked (RFC 1035 §4.2).
pub const NAME_SERVICE_PORT: u16 = 53;

/// The first address that is given out (RFC 2544: never a real host's), and how many names get one of their own.
const FIRST: u32 = u32::from_be_bytes([198, 18, 0, 1]);
const MOST: usize = 100_000;
/// What the same addresses begin with for those who want no other: a unique local one (RFC 4193), routed as any other.
const FIRST_6: [u16; 6] = [0xfd62, 0x7569, 0x6c64, 1, 0, 0];
/// Seconds that an answer is good for.
const LIFETIME: u32 = 60;

/// The length of a message's header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// The answer's flags: a response, recursion desired and available; and the code for "I cannot".
const RESPONSE: u16 = 0x8180;
const SERVER_FAILURE: u16 = 2;
/// A name that is the one of the question (RFC 1035 §4.1.4).
const POINTER_TO_QUESTION: u16 = 0xC000 | HEADER as u16;

/// The names that were asked for, and the addresses that they got.
#[derive(Debug, Default)]
pub struct Names {
    /// The machine's own name, which is no network, either.
    own: String,
    addresses: HashMap<String, Ipv4Addr>,
    names: HashMap<Ipv4Addr, String>,
    /// Those whose IPv4 address was asked for.
    asked: HashSet<Ipv4Addr>,
}

impl Names {
    /// On the machine that is called `own`.
    pub fn on(own: &str) -> Self {
        Self { own: own.trim().to_ascii_lowercase(), ..Self::default() }
    }

    /// The name that got `address`.
    pub fn name_of(&self, address: IpAddr) -> Option<&str> {
        let address = match address.to_canonical() {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) => short(address)?,
        };
        self.names.get(&address).map(String::as_str)
    }

    /// The answer to `query`: an address for an A record, and for an AAAA record where nobody asked for the other one,
    /// which most clients use; else that there is no such record. `None` where it is no question that could be answered.
    pub fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let (name, question) = question(query)?;
        let (kind, class) = (number(question, question.len() - 4)?, number(question, question.len() - 2)?);
        let wants_address = matches!(kind, TYPE_A | TYPE_AAAA) && class == CLASS_IN;
        let address = if wants_address { self.address_of(name) } else { None };
        let code = if wants_address && address.is_none() { SERVER_FAILURE } else { 0 };
        let address = address.and_then(|address| self.as_record(kind, address));
        let mut answer = query[..2].to_vec();
        for field in [RESPONSE | code, 1, u16::from(address.is_some()), 0, 0] {
            answer.extend(field.to_be_bytes());
        }
        answer.extend_from_slice(question);
        if let Some(address) = address {
            for field in [POINTER_TO_QUESTION, kind, CLASS_IN] {
                answer.extend(field.to_be_bytes());
            }
            answer.extend(LIFETIME.to_be_bytes());
            let octets = match address {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            // 4 or 16.
            answer.extend([0, octets.len() as u8]);
            answer.extend(octets);
        }
        Some(answer)
    }

    /// What a record of that kind says about `address`, if there is one.
    fn as_record(&mut self, kind: u16, address: Ipv4Addr) -> Option<IpAddr> {
        if kind == TYPE_A {
            self.asked.insert(address);
            return Some(address.into());
        }
        (!address.is_loopback() && !self.asked.contains(&address)).then(|| long(address).into())
    }

    fn address_of(&mut self, name: String) -> Option<Ipv4Addr> {
        // Its programs talk to each other by these (RFC 6761 §6.3).
        if name == "localhost" || name.ends_with(".localhost") || (!name.is_empty() && name == self.own) {
            return Some(Ipv4Addr::LOCALHOST);
        }
        if let Some(&address) = self.addresses.get(&name) {
            return Some(address);
        }
        let count = self.addresses.len();
        if count == MOST {
            return None;
        }
        let address = Ipv4Addr::from(FIRST + u32::try_from(count).ok()?);
        self.addresses.insert(name.clone(), address);
        self.names.insert(address, name);
        Some(address)
    }
}

fn long(address: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = FIRST_6;
    let [g, h] = [0, 2].map(|at| u16::from_be_bytes([address.octets()[at], address.octets()[at + 1]]));
    Ipv6Addr::from([a, b, c, d, e, f, g, h])
}

fn short(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., a, b, c, d] = address.octets();
    let short = Ipv4Addr::new(a, b, c, d);
    (long(short) == address).then_some(short)
}

/// The name that `query` asks for, in lower case, and the bytes of its one question. Characters that no host's name has
/// are replaced.
fn question(query: &[u8]) -> Option<(String, &[u8])> {
    let (flags, questions) = (number(query, 2)?, number(query, 4)?);
    let (is_response, operation) = (flags & 0x8000 != 0, flags & 0x7800);
    if is_response || operation != 0 || questions != 1 {
        return None;
    }
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..=63 => labels.push(label(query.get(at..at + length)?)),
            // A question has no name before it to point to.
            _ => return None,
        }
        at += length;
    }
    Some((labels.join("."), query.get(HEADER..at + 4)?))
}

fn label(bytes: &[u8]) -> String {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    bytes.iter().map(|&byte| if is_usual(byte) { char::from(byte.to_ascii_lowercase()) } else { '?' }).collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(labels: &[&[u8]], kind: u16) -> Vec<u8> {
        let mut query = vec![0xAB, 0xCD, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            query.push(u8::try_from(label.len()).unwrap());
            query.extend_from_slice(label);
        }
        query.push(0);
        query.extend(kind.to_be_bytes());
        query.extend(CLASS_IN.to_be_bytes());
        query
    }

    #[test]
    fn every_name_has_an_address_of_its_own_and_leads_back_to_the_name() {
        let mut names = Names::default();
        let address = |answer: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(&answer[answer.len() - 4..]).unwrap());
        let first = names.answer(&query(&[b"Example", b"org"], TYPE_A)).unwrap();
        assert_eq!(first[..12], [0xAB, 0xCD, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(address(&first), Ipv4Addr::new(198, 18, 0, 1));
        let second = names.answer(&query(&[b"h", b"test"], TYPE_A)).unwrap();
        assert_eq!(address(&second), Ipv4Addr::new(198, 18, 0, 2));
        assert_eq!(
            names.answer(&query(&[b"example", b"org"], TYPE_A)).map(|answer| address(&answer)),
            Some(address(&first))
        );
        assert_eq!(names.name_of(IpAddr::from([198, 18, 0, 1])), Some("example.org"));
        assert_eq!(names.name_of("::ffff:198.18.0.2".parse().unwrap()), Some("h.test"));
        assert_eq!(names.name_of(IpAddr::from([8, 8, 8, 8])), None);
    }

    #[test]
    fn the_machines_own_names_are_loopback() {
        let mut names = Names::on("Builder.lan\n");
        for own in ["localhost", "a.localhost", "builder.lan"] {
            assert_eq!(names.address_of(own.to_owned()), Some(Ipv4Addr::LOCALHOST), "{own}");
        }
        for other in ["builder", "notlocalhost", ""] {
            assert_ne!(names.address_of(other.to_owned()), Some(Ipv4Addr::LOCALHOST), "{other}");
        }
        assert_eq!(names.name_of(Ipv4Addr::LOCALHOST.into()), None);
    }

    #[test]
    fn who_wants_ipv6_alone_has_an_address_that_leads_back_to_the_name() {
        let mut names = Names::default();
        let asked = query(&[b"h", b"test"], TYPE_AAAA);
        let answer = names.answer(&asked).unwrap();
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(&answer[answer.len() - 16..]).unwrap());
        assert_eq!(answer[..12], [0xAB, 0xCD, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[answer.len() - 18..][..2], [0, 16]);
        assert_eq!(
            (address.to_string().as_str(), names.name_of(address.into())),
            ("fd62:7569:6c64:1::c612:1", Some("h.test"))
        );
        assert_eq!(names.answer(&asked), Some(answer), "also when it asks again");
        assert_eq!(names.name_of("fd62:7569:6c64:2::c612:1".parse().unwrap()), None);
        // Who can do with either is told of one.
        names.answer(&query(&[b"h", b"test"], TYPE_A)).unwrap();
        assert_eq!(names.answer(&asked).unwrap()[..12], [0xAB, 0xCD, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn other_records_do_not_exist_and_what_is_no_question_has_no_answer() {
        let mut names = Names::default();
        let answer = names.answer(&query(&[b"h", b"test"], 16)).unwrap();
        assert_eq!((&answer[2..8], answer.len()), (&[0x81, 0x80, 0, 1, 0, 0][..], query(&[b"h", b"test"], 16).len()));
        let whole = query(&[b"h\x1b\0", b"test"], TYPE_A);
        names.answer(&whole).unwrap();
        assert_eq!(names.name_of(IpAddr::from([198, 18, 0, 1])), Some("h??.test"));
        for length in 0..whole.len() {
            assert_eq!(names.answer(&whole[..length]), None, "{length} bytes");
        }
        let mut pointer = whole.clone();
        pointer[12] = 0xC0;
        assert_eq!(names.answer(&pointer), None);
        let mut response = whole;
        response[2] |= 0x80;
        assert_eq!(names.answer(&response), None);
    }

    #[test]
    fn a_flood_of_names_does_not_fill_the_memory() {
        let mut names = Names::default();
        for number in 0..MOST {
            assert!(names.address_of(number.to_string()).is_some());
        }
        let answer = names.answer(&query(&[b"one", b"more"], TYPE_A)).unwrap();
        assert_eq!(answer[3] & 0xF, 2);
        assert!(names.address_of("7".to_owned()).is_some());
        let last = names.addresses.values().max().unwrap();
        assert!(*last < super::super::network::NAME_SERVER);
    }
}
