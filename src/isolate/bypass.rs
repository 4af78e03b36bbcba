//! An attempt to reach something past the proxy, and what to do about it.

use std::fmt;

use serde::Serialize;

use crate::{
    process::{ProcessName, Protocol},
    text::printable,
};

/// Different attempts that are kept; of a new client, or to a new port, as many again. A client that asks for ever new
/// addresses must neither fill the memory nor hide the others.
const KEPT: usize = 1000;
/// Attempts whose process is looked up, of those with one destination: whoever makes more than that makes the same again.
const NAMED: u64 = 3;
/// Destinations that a sentence has.
const SHOWN: usize = 3;

/// What an isolated command wanted to reach past the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    /// Who wanted it, where the system told.
    pub process: Option<ProcessName>,
    /// How.
    pub protocol: Protocol,
    /// The host's name, or its address where the client knew that.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How often.
    pub count: u64,
}

/// The same for programs that read reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BypassReport {
    /// The name of the process that wanted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The host's name, or its address where the client knew that.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How often.
    pub count: u64,
    /// What happened and what to do, in words.
    pub problem: String,
}

/// The different attempts, each once.
#[derive(Debug, Default)]
pub struct Bypasses(Vec<Bypass>);

impl Bypasses {
    /// Whether so many attempts with this destination are known that nobody has to look who makes the next one.
    pub fn are_known(&self, protocol: Protocol, host: &str, port: u16) -> bool {
        let same = self.0.iter().filter(|known| (known.protocol, &*known.host, known.port) == (protocol, host, port));
        same.map(|known| known.count).sum::<u64>() >= NAMED
    }

    /// Counts an attempt, and says whether people should be told at once: of each kind of the first few. Where its process
    /// is not known, it is taken for one that another process was seen to make.
    pub fn add(&mut self, attempt: Bypass) -> bool {
        let is_it = |known: &&mut Bypass| {
            known.host == attempt.host
                && (known.kind() == attempt.kind()
                    || attempt.process.is_none() && known.port == attempt.port && known.protocol == attempt.protocol)
        };
        if let Some(known) = self.0.iter_mut().find(is_it) {
            known.count += 1;
            return false;
        }
        let of_its_kind = self.0.iter().filter(|known| known.kind() == attempt.kind()).count();
        let limit = if of_its_kind == 0 { 2 * KEPT } else { KEPT };
        if self.0.len() < limit {
            self.0.push(attempt);
        }
        of_its_kind < SHOWN
    }

    /// All of them, by time.
    pub fn into_list(self) -> Vec<Bypass> {
        self.0
    }
}

/// A sentence for each client and what it should do instead, with the first of the destinations.
pub fn sentences(bypasses: &[Bypass]) -> Vec<String> {
    let mut groups: Vec<Vec<&Bypass>> = Vec::new();
    for bypass in bypasses {
        let name = |of: &Bypass| (of.process.as_ref().map(|process| process.name.clone()), of.fix());
        match groups.iter_mut().find(|group| name(group[0]) == name(bypass)) {
            Some(group) => group.push(bypass),
            None => groups.push(vec![bypass]),
        }
    }
    groups.iter().map(|group| sentence(group)).collect()
}

/// One sentence about attempts of one client, of which there is at least one.
fn sentence(attempts: &[&Bypass]) -> String {
    let who = attempts[0].process.as_ref().map_or("a process that is not known".to_owned(), ToString::to_string);
    let mut where_to = attempts.iter().take(SHOWN).map(|attempt| attempt.destination()).collect::<Vec<_>>().join(", ");
    if attempts.len() > SHOWN {
        where_to += &format!(" and {} more", attempts.len() - SHOWN);
    }
    let count: u64 = attempts.iter().map(|attempt| attempt.count).sum();
    let times = if count == 1 { String::new() } else { format!(", {count} times") };
    format!("{who} tried to reach {where_to} past the proxy{times}, which --isolate refused: {}", attempts[0].fix())
}

impl Bypass {
    /// Who wanted what, whichever the host was.
    fn kind(&self) -> (Option<&str>, Protocol, u16) {
        (self.process.as_ref().map(|process| &*process.name), self.protocol, self.port)
    }

    fn destination(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let how = if self.protocol == Protocol::Udp { " over UDP" } else { "" };
        format!("{host}:{}{how}", self.port)
    }

    /// The same for a report.
    pub fn report(&self) -> BypassReport {
        BypassReport {
            process: self.process.as_ref().map(|process| printable(&process.name)),
            pid: self.process.as_ref().map(|process| process.pid),
            protocol: match self.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            },
            host: self.host.clone(),
            port: self.port,
            count: self.count,
            problem: self.to_string(),
        }
    }

    /// What to do, by what was wanted, else by who wanted it.
    fn fix(&self) -> &'static str {
        match (self.protocol, self.port) {
            (Protocol::Tcp, 20 | 21) => {
                "FTP is not recorded: use an https:// URL of the same file, or fetch it beforehand with Nix's fetchurl"
            }
            (Protocol::Tcp, 22) => {
                "SSH is not recorded: git asks over HTTPS with GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=url.https://HOST/.insteadOf \
                 GIT_CONFIG_VALUE_0=git@HOST: (or ssh://git@HOST/) in its environment"
            }
            (Protocol::Tcp, 9418) => {
                "the git protocol is not recorded: git asks over HTTPS with GIT_CONFIG_COUNT=1 \
                 GIT_CONFIG_KEY_0=url.https://.insteadOf GIT_CONFIG_VALUE_0=git:// in its environment"
            }
            (Protocol::Tcp, 873) => {
                "rsync is not recorded: use an https:// URL, or fetch the files beforehand and give the build a store path"
            }
            (Protocol::Udp, 443) => "HTTP/3 does not go through a proxy: switch it off in the client",
            (Protocol::Udp, _) => "only HTTP over TCP is recorded",
            (Protocol::Tcp, _) => self.process.as_ref().map_or(OTHER_CLIENT, |process| fix_for_client(&process.name)),
        }
    }
}

const OTHER_CLIENT: &str = "it ignores the proxy variables, or was told not to use a proxy: give it the proxy and the CA \
                            by its own options, from $BUILDPROXY_PROXY_URL and $BUILDPROXY_CA_FILE (docs/clients.md \
                            lists the variables that clients read)";

/// What is known about clients that do not use the proxy although the variables are set.
fn fix_for_client(name: &str) -> &'static str {
    let name = name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
    match name {
        "node" => {
            "Node's own fetch and http read the proxy variables from version 24 on; before, give the client a proxy agent \
             with $BUILDPROXY_PROXY_URL"
        }
        "python" | "pypy" => {
            "urllib3's PoolManager and aiohttp ignore the proxy variables: use requests, httpx or urllib, \
             ProxyManager(os.environ[\"BUILDPROXY_PROXY_URL\"]), or trust_env=True for aiohttp"
        }
        "java" => {
            "Java reads the proxy from JAVA_TOOL_OPTIONS alone, and a program can take other settings: leave that variable \
             as it is, and -Dhttp.proxyHost, java.net.useSystemProxies and the like out"
        }
        "curl" | "wget" | "aria2c" | "git" | "git-remote-http" | "cargo" | "cmake" | "nix" => {
            "it would use the proxy if it were not told otherwise: look for --noproxy, no_proxy, a proxy setting of its own, \
             or a command that unsets http_proxy"
        }
        "ssh" | "sftp" | "scp" => "SSH is not recorded: use HTTPS",
        _ => OTHER_CLIENT,
    }
}

/// One sentence for people, with what to do.
impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&sentence(&[self]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(process: Option<&str>, protocol: Protocol, host: &str, port: u16) -> Bypass {
        let process = process.map(|name| ProcessName { pid: 7, name: name.to_owned() });
        Bypass { process, protocol, host: host.to_owned(), port, count: 1 }
    }

    #[test]
    fn the_fix_is_that_of_the_protocol_else_of_the_client() {
        for (process, protocol, port, words) in [
            ("git", Protocol::Tcp, 9418, "GIT_CONFIG_VALUE_0=git://"),
            ("ssh", Protocol::Tcp, 22, "ssh://git@HOST"),
            ("curl", Protocol::Tcp, 21, "FTP is not recorded"),
            ("rsync", Protocol::Tcp, 873, "rsync is not recorded"),
            ("curl", Protocol::Udp, 443, "HTTP/3"),
            ("ntpd", Protocol::Udp, 123, "only HTTP"),
            ("python3.11", Protocol::Tcp, 443, "PoolManager"),
            ("node", Protocol::Tcp, 443, "version 24"),
            ("java", Protocol::Tcp, 80, "JAVA_TOOL_OPTIONS"),
            ("curl", Protocol::Tcp, 443, "--noproxy"),
            ("a.out", Protocol::Tcp, 443, "BUILDPROXY_PROXY_URL"),
        ] {
            let text = attempt(Some(process), protocol, "h.test", port).to_string();
            assert!(text.starts_with(&format!("{process} (process 7) tried to reach h.test:{port}")), "{text}");
            assert!(text.contains(words), "{text}");
        }
        let text = attempt(None, Protocol::Tcp, "2001:db8::1", 443).to_string();
        assert!(text.starts_with("a process that is not known tried to reach [2001:db8::1]:443 past"), "{text}");
    }

    #[test]
    fn equal_attempts_are_counted_and_their_number_is_bounded() {
        let mut bypasses = Bypasses::default();
        for is_first in [true, false, false] {
            assert!(!bypasses.are_known(Protocol::Tcp, "h.test", 443));
            assert_eq!(bypasses.add(attempt(Some("curl"), Protocol::Tcp, "h.test", 443)), is_first);
        }
        assert!(bypasses.are_known(Protocol::Tcp, "h.test", 443) && !bypasses.are_known(Protocol::Tcp, "h.test", 80));
        bypasses.add(attempt(None, Protocol::Tcp, "h.test", 443));
        bypasses.add(attempt(Some("wget"), Protocol::Tcp, "h.test", 443));
        let counts: Vec<u64> = bypasses.0.iter().map(|bypass| bypass.count).collect();
        assert_eq!(counts, [4, 1]);
        for number in 0..2000 {
            let told = bypasses.add(attempt(Some("node"), Protocol::Tcp, &format!("h{number}.test"), 443));
            assert_eq!(told, number < SHOWN, "{number}");
        }
        assert_eq!(bypasses.0.len(), KEPT);
        // What is of another kind has a place all the same.
        for port in 0..3000 {
            bypasses.add(attempt(Some("git"), Protocol::Tcp, "h.test", port));
        }
        let list = bypasses.into_list();
        assert_eq!((list.len(), list[KEPT].process.as_ref().unwrap().name.as_str()), (2 * KEPT, "git"));
    }

    #[test]
    fn a_client_has_one_sentence_for_all_that_has_the_same_remedy() {
        let hosts = ["a.test", "b.test", "c.test", "d.test"];
        let mut bypasses: Vec<_> = hosts.map(|host| attempt(Some("node"), Protocol::Tcp, host, 443)).into();
        bypasses.insert(1, attempt(Some("node"), Protocol::Tcp, "a.test", 9418));
        bypasses.push(attempt(Some("curl"), Protocol::Tcp, "a.test", 443));
        bypasses[0].count = 7;
        let sentences = sentences(&bypasses);
        let starts = [
            "node (process 7) tried to reach a.test:443, b.test:443, c.test:443 and 1 more past the proxy, 10 times, which",
            "node (process 7) tried to reach a.test:9418 past the proxy, which --isolate refused: the git protocol",
            "curl (process 7) tried to reach a.test:443 past the proxy, which",
        ];
        assert_eq!(sentences.len(), starts.len(), "{sentences:?}");
        assert!(sentences.iter().zip(starts).all(|(sentence, start)| sentence.starts_with(start)), "{sentences:?}");
    }
}
