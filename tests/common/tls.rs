//! Certificates of the test origins: a CA, and a leaf for the names of loopback.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A certificate authority that only the tests know, and what a server needs to show its certificate.
pub struct TestCa {
    /// The CA's certificate, for `SSL_CERT_FILE`.
    pub pem: String,
    /// The server's certificate.
    pub leaf_pem: String,
    /// The server's private key.
    pub leaf_key_pem: String,
}

impl TestCa {
    pub fn new() -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        ca.distinguished_name.push(DnType::CommonName, "CA of the test origins");
        let pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let leaf_key = KeyPair::generate().unwrap();
        // The made-up name is for clients that never use a proxy for loopback; their test makes it resolve.
        let names = ["localhost", "modules.test", "127.0.0.1", "::1"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names).unwrap();
        // rustls refuses a server whose own certificate says CA:TRUE.
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.distinguished_name.push(DnType::CommonName, "test origin");
        let leaf_pem = leaf.signed_by(&leaf_key, &issuer).unwrap().pem();
        Self { pem, leaf_pem, leaf_key_pem: leaf_key.serialize_pem() }
    }

    /// A TLS server that speaks HTTP/1.1 alone.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        let chain = vec![CertificateDer::from_pem_slice(self.leaf_pem.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(self.leaf_key_pem.as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}
