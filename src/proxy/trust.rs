//! What a client needs that does not trust the CA, by its name.

use super::environment;

/// Clients that are known, and where they take their trusted certificates from. The variables are set: a client that does
/// not trust the CA was given others, or a setting of its own.
const CLIENTS: &[(&[&str], &str)] = &[
    (&["curl"], "SSL_CERT_FILE or CURL_CA_BUNDLE, unless --cacert or a .curlrc says otherwise"),
    (&["git", "git-remote-http", "git-remote-https"], "GIT_SSL_CAINFO alone"),
    (
        &["python", "pypy", "pip"],
        "SSL_CERT_FILE, or REQUESTS_CA_BUNDLE for requests and PIP_CERT for pip; a program with a list of its own \
         (certifi) has to be given os.environ[\"BUILDPROXY_CA_FILE\"]",
    ),
    (&["uv", "go", "ruby"], "SSL_CERT_FILE"),
    (
        &["php"],
        "SSL_CERT_FILE, unless openssl.cafile in php.ini or `cafile` in Composer's configuration says otherwise",
    ),
    (
        &["java"],
        "JAVA_TOOL_OPTIONS alone: leave that variable as it is; a build with a trust store of its own has to import \
         $BUILDPROXY_CA_FILE (keytool -importcert)",
    ),
    (
        &["node"],
        "NODE_EXTRA_CA_CERTS, npm by npm_config_cafile; a program that sets `ca` itself has to add the file to that",
    ),
    (&["deno"], "DENO_CERT"),
    (&["bun"], "SSL_CERT_FILE or NODE_EXTRA_CA_CERTS"),
    (&["wget"], "the file that WGETRC names, or --ca-certificate=\"$BUILDPROXY_CA_FILE\""),
    (&["aria2c"], "no variable: give it --ca-certificate=\"$BUILDPROXY_CA_FILE\""),
    (&["cargo"], "CARGO_HTTP_CAINFO or SSL_CERT_FILE, unless http.cainfo in its configuration says otherwise"),
    (&["cmake", "ctest"], "SSL_CERT_FILE, unless the project sets CMAKE_TLS_CAINFO"),
    (&["nix", "nix-build", "nix-prefetch-url"], "NIX_SSL_CERT_FILE or SSL_CERT_FILE"),
];

/// By what `client`, a program's name, finds the CA; by what all of them do where it is not known.
pub fn found_by(client: Option<&str>) -> String {
    let name = client.unwrap_or_default();
    let plain = name.trim_end_matches(|character: char| character.is_ascii_digit() || character == '.');
    match CLIENTS.iter().find(|(names, _)| names.contains(&plain)) {
        Some((_, found_by)) => format!("which it finds by {found_by}"),
        None => {
            let variables: Vec<&str> = environment::ca_variables().collect();
            format!("which others find by {}", variables.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_is_told_of_variables_that_are_set() {
        let set: Vec<&str> = environment::ca_variables().chain(["BUILDPROXY_CA_FILE", "CMAKE_TLS_CAINFO"]).collect();
        for (names, text) in CLIENTS {
            for word in text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_') {
                let is_variable = word.contains('_');
                assert!(!is_variable || set.contains(&word), "{names:?}: {word} is not set");
            }
            assert!(found_by(Some(names[0])).contains(text));
        }
    }

    #[test]
    fn a_version_in_a_name_does_not_hide_the_client() {
        assert!(found_by(Some("python3.11")).contains("SSL_CERT_FILE, or REQUESTS_CA_BUNDLE"));
        for unknown in [None, Some("a.out"), Some("7")] {
            let text = found_by(unknown);
            assert!(text.contains("others find by SSL_CERT_FILE, ") && text.contains("JAVA_TOOL_OPTIONS"), "{text}");
        }
    }
}
