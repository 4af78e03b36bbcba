//! The certificate authority of one run, and the server certificates that it makes on demand.
//!
//! Its key lives in memory alone: it is never written, never logged, and gone with the process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, date_time_ymd,
};
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::PrivateKeyDer,
    server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
    sign::{CertifiedKey, SigningKey, SingleCertAndKey},
};

use super::authority::{HostError, alternative_names};

/// The name in the CA's certificate, by which people recognise it in error messages.
const CA_NAME: &str = "buildproxy CA";
/// The name in every server certificate. Clients compare the alternative name alone (RFC 9110 §4.3.4).
const LEAF_NAME: &str = "buildproxy";
/// Hosts whose certificates are kept. Past it all are dropped: making one again takes some 50 µs.
const CACHED_HOSTS: usize = 1024;
/// TLS 1.2 sessions that are remembered for clients without tickets.
const CACHED_SESSIONS: usize = 1024;
/// The protocols that a client can choose from (RFC 7301). `http/1.0` is what `curl --http1.0` insists on.
const ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CaError(#[from] Problem);

/// Apart, so that the libraries that make certificates and speak TLS are nobody else's concern.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    /// Neither a DNS name nor an IP address.
    #[error("no certificate can be made: {0}")]
    Host(#[from] HostError),
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused what was made.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gave no random bytes.
    #[error("the system's random number generator failed")]
    Random,
}

/// A CA made for one run.
pub struct CertificateAuthority {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    leaf_key_pair: KeyPair,
    leaf_signing_key: Arc<dyn SigningKey>,
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions>,
    configs: Mutex<HashMap<Vec<String>, Arc<ServerConfig>>>,
}

/// Without the keys, so that none can slip into a log.
impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority").finish_non_exhaustive()
    }
}

impl CertificateAuthority {
    /// Makes the CA's key and certificate (ECDSA P-256), and the one key that all server certificates share.
    ///
    /// # Errors
    /// Where the system's random number generator or the TLS library fails.
    pub fn new() -> Result<Self, CaError> {
        Ok(Self::make()?)
    }

    fn make() -> Result<Self, Problem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key_pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(random_serial(&provider)?);
        let certificate_pem = params.self_signed(&key_pair)?.pem();
        let leaf_key_pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf_key = PrivateKeyDer::Pkcs8(leaf_key_pair.serialized_der().to_vec().into());
        Ok(Self {
            certificate_pem,
            issuer: Issuer::new(params, key_pair),
            leaf_signing_key: provider.key_provider.load_private_key(leaf_key)?,
            leaf_key_pair,
            provider,
            ticketer: aws_lc_rs::Ticketer::new()?,
            sessions: ServerSessionMemoryCache::new(CACHED_SESSIONS),
            configs: Mutex::new(HashMap::new()),
        })
    }

    /// The CA's own certificate, for clients to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// What TLS needs to be `host`: a certificate for it, made now or kept from before. `host` is a DNS name or an IP
    /// address, IPv6 with or without brackets.
    ///
    /// # Errors
    /// Where `host` is neither, or the TLS library fails.
    pub(crate) fn server_config(&self, host: &str) -> Result<Arc<ServerConfig>, CaError> {
        let names = alternative_names(host).map_err(Problem::from)?;
        // A poisoned lock is no danger: the map is valid between any two of its calls.
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = configs.get(&names) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.make_config(&names)?);
        if configs.len() >= CACHED_HOSTS {
            configs.clear();
        }
        configs.insert(names, Arc::clone(&config));
        Ok(config)
    }

    fn make_config(&self, names: &[String]) -> Result<ServerConfig, Problem> {
        let params = leaf_params(names, random_serial(&self.provider)?)?;
        let certificate = params.signed_by(&self.leaf_key_pair, &self.issuer)?;
        let certified = CertifiedKey::new(vec![certificate.into()], Arc::clone(&self.leaf_signing_key));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        // Shared by all hosts: rustls resumes a session only under the name it was made for.
        config.ticketer = Arc::clone(&self.ticketer);
        config.session_storage = Arc::clone(&self.sessions);
        Ok(config)
    }
}

fn ca_params(serial: SerialNumber) -> CertificateParams {
    let mut params = common_params(CA_NAME, serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(names: &[String], serial: SerialNumber) -> Result<CertificateParams, Problem> {
    let alternative = |name: &String| match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => name.as_str().try_into().map(SanType::DnsName),
    };
    let mut params = common_params(LEAF_NAME, serial);
    params.subject_alt_names = names.iter().map(alternative).collect::<Result<_, _>>()?;
    // Written out, so that the key identifiers are there too: strict verifiers ask for them (RFC 5280 §4.2.1.2).
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Name, serial number and dates. The dates are wide, so that a build under faketime accepts the certificate.
fn common_params(common_name: &str, serial: SerialNumber) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(serial);
    params.not_before = date_time_ymd(1970, 1, 2);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

/// A random positive serial number of 127 bits: unique, as RFC 5280 §4.1.2.2 asks, without keeping count.
fn random_serial(provider: &CryptoProvider) -> Result<SerialNumber, Problem> {
    let mut bytes = [0; 16];
    provider.secure_random.fill(&mut bytes).map_err(|_| Problem::Random)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_host_share_one_certificate() {
        let ca = CertificateAuthority::new().unwrap();
        let config = |host: &str| ca.server_config(host).unwrap();
        assert!(Arc::ptr_eq(&config("Files.Example.test"), &config("files.example.test")));
        assert!(Arc::ptr_eq(&config("[::1]"), &config("0:0:0:0:0:0:0:1")));
        assert!(!Arc::ptr_eq(&config("127.0.0.1"), &config("localhost")));
        assert!(matches!(ca.server_config("a..b"), Err(CaError(Problem::Host(_)))));
    }

    /// Who had the key could sign another authority; its clients would not believe that.
    #[test]
    fn an_authority_that_this_one_signs_is_refused() {
        let ca = CertificateAuthority::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut under = ca_params(random_serial(&ca.provider).unwrap());
        under.distinguished_name = DistinguishedName::new();
        under.distinguished_name.push(DnType::CommonName, "another");
        let under_pem = under.signed_by(&key, &ca.issuer).unwrap().pem();
        let under = Issuer::new(under, key);
        let leaf = |issuer| {
            let params = leaf_params(&["h.test".to_owned()], random_serial(&ca.provider).unwrap()).unwrap();
            params.signed_by(&ca.leaf_key_pair, issuer).unwrap().pem()
        };
        for (name, pem) in
            [("ca", ca.certificate_pem()), ("under", &under_pem), ("good", &leaf(&ca.issuer)), ("bad", &leaf(&under))]
        {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        let verify = |leaf: &str| {
            let mut openssl = std::process::Command::new("openssl");
            openssl.args(["verify", "-CAfile", "ca", "-untrusted", "under", leaf]).current_dir(folder.path());
            let output = openssl.output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        assert!(verify("good").0);
        let (is_accepted, why) = verify("bad");
        assert!(!is_accepted && why.contains("path length constraint exceeded"), "{why}");
    }

    #[test]
    fn the_cache_of_certificates_is_bounded() {
        let ca = CertificateAuthority::new().unwrap();
        for host in 0..=CACHED_HOSTS {
            ca.server_config(&format!("h{host}.example.test")).unwrap();
        }
        assert_eq!(ca.configs.lock().unwrap().len(), 1);
    }

    #[test]
    fn each_error_says_what_cannot_be_made_and_why() {
        for (error, text) in [
            (
                Problem::Host(HostError("a..b".to_owned())),
                "no certificate can be made: `a..b` is neither an IP address nor a DNS name of labels of 1 to 63 letters, \
                 digits, `-` and `_`",
            ),
            (
                Problem::Certificate(rcgen::Error::CouldNotParseCertificate),
                "cannot make a certificate: Could not parse certificate",
            ),
            (Problem::Tls(rustls::Error::DecryptError), "cannot set up TLS: cannot decrypt peer's message"),
            (Problem::Random, "the system's random number generator failed"),
        ] {
            assert_eq!(CaError(error).to_string(), text);
        }
    }
}
