//! What Java reads instead of everybody else's variables: a trust store in its own format, and system properties.

use sha1::{Digest, Sha1};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};

/// The password of the trust store. It protects nothing: the store holds public certificates alone.
const PASSWORD: &str = "changeit";
/// `JKS`, version 2, as `sun.security.provider.JavaKeyStore` writes it.
const MAGIC: u32 = 0xFEED_FEED;
const VERSION: u32 = 2;
/// An entry that is a trusted certificate.
const TRUSTED_CERTIFICATE: u32 = 2;

/// A JKS key store with every certificate in `pem` as a trusted one. What is no certificate is left out.
pub fn trust_store(pem: &str) -> Vec<u8> {
    let certificates: Vec<CertificateDer<'_>> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect();
    let mut store = Vec::new();
    store.extend(MAGIC.to_be_bytes());
    store.extend(VERSION.to_be_bytes());
    store.extend(length(&certificates));
    for (number, certificate) in certificates.iter().enumerate() {
        store.extend(TRUSTED_CERTIFICATE.to_be_bytes());
        push_text(&mut store, &format!("buildproxy-{number}"));
        // When it was added, in milliseconds since 1970: always the same, so that the file is, too.
        store.extend(0_u64.to_be_bytes());
        push_text(&mut store, "X.509");
        store.extend(length(certificate));
        store.extend_from_slice(certificate);
    }
    let digest = integrity(&store);
    store.extend(digest);
    store
}

/// A length as the format has it: 32 bits. No list of certificates comes near that.
fn length<T>(items: &[T]) -> [u8; 4] {
    u32::try_from(items.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// `DataOutput.writeUTF` for short ASCII text: its length in 16 bits, and its bytes.
fn push_text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend(text.bytes());
}

/// The store's own check sum: SHA-1 over the password in UTF-16, a fixed phrase, and the data.
fn integrity(data: &[u8]) -> [u8; 20] {
    let mut digest = Sha1::new();
    for unit in PASSWORD.encode_utf16() {
        digest.update(unit.to_be_bytes());
    }
    digest.update(b"Mighty Aphrodite");
    digest.update(data);
    digest.finalize().into()
}

/// The value of `JAVA_TOOL_OPTIONS`: what was there before, then the proxy and the trust store, unless they were there; of
/// two equal properties Java takes the last. With `proxy_loopback`, loopback hosts go through the proxy too.
pub fn tool_options(before: Option<&str>, host: &str, port: u16, trust_store: &str, proxy_loopback: bool) -> String {
    let mut options = Vec::new();
    for scheme in ["http", "https"] {
        options.push(format!("-D{scheme}.proxyHost={host}"));
        options.push(format!("-D{scheme}.proxyPort={port}"));
    }
    if proxy_loopback {
        options.push("-Dhttp.nonProxyHosts=".to_owned());
    }
    options.push(quoted(&format!("-Djavax.net.ssl.trustStore={trust_store}")));
    options.push("-Djavax.net.ssl.trustStoreType=JKS".to_owned());
    options.push(format!("-Djavax.net.ssl.trustStorePassword={PASSWORD}"));
    let options = options.join(" ");
    match before {
        Some(before) if before.contains(&options) => before.to_owned(),
        Some(before) => format!("{before} {options}"),
        None => options,
    }
}

/// The JVM splits the variable at white space and takes quotes off; it knows no escapes, but quotes can be joined.
pub fn quoted(option: &str) -> String {
    if !option.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
        return option.to_owned();
    }
    format!("'{}'", option.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_added_behind_those_that_were_there() {
        let options = tool_options(Some("-Xmx1g"), "::1", 8080, "/tmp/it's here/ca.jks", true);
        assert!(options.starts_with("-Xmx1g -Dhttp.proxyHost=::1 -Dhttp.proxyPort=8080 -Dhttps.proxyHost=::1 "));
        assert!(options.contains(" -Dhttp.nonProxyHosts= "));
        assert!(options.contains(r#" '-Djavax.net.ssl.trustStore=/tmp/it'"'"'s here/ca.jks' "#));
        let again = tool_options(Some(&options), "::1", 8080, "/tmp/it's here/ca.jks", true);
        assert_eq!(again, options, "a shell behind a proxy has them already");
        assert!(!tool_options(None, "::1", 8080, "/ca.jks", false).contains("nonProxyHosts"));
    }

    #[test]
    fn a_store_without_certificates_is_still_a_store() {
        assert_eq!(trust_store("no certificate")[..12], [0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2, 0, 0, 0, 0]);
    }
}
