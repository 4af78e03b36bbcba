//! Real clients that know nothing but the environment.

use super::*;

#[tokio::test]
async fn curl_gets_plain_urls_in_absolute_form() {
    let proxy = Proxy::start().await;
    let url = "http://files.example.test:8080//a/%7E..%2f?q=%20&";
    assert_eq!(proxy.curl(&["--path-as-is", url]).await, format!("GET {url} \n"));
    assert_eq!(proxy.curl(&["-0", "http://files.example.test/"]).await, "GET http://files.example.test/ \n");
    assert_eq!(proxy.curl(&["-d", "body", "http://h.example.test/"]).await, "POST http://h.example.test/ body\n");
}

#[tokio::test]
async fn curl_gets_https_urls_over_both_versions() {
    let proxy = Proxy::start().await;
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1"), ("--http1.0", "1"), ("--tls-max=1.2", "2")] {
        let option: Vec<&str> = option.split('=').collect();
        let url = "https://files.example.test:8443/a?b";
        let answer = proxy.curl(&[&option[..], &["-w", "%{http_version} %{http_connect}", url]].concat()).await;
        assert_eq!(answer, format!("GET {url} \n{version} 200"), "{option:?}");
    }
    assert!(proxy.failures.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_request_says_more_than_the_tunnel_it_is_in() {
    let proxy = Proxy::start().await;
    let other = ["-H", "Host: other.example.test:99", "https://files.example.test:8443/a"];
    for version in ["--http2", "--http1.1"] {
        let answer = proxy.curl(&[&[version], &other[..]].concat()).await;
        assert_eq!(answer, "GET https://other.example.test:99/a \n", "{version}");
    }
    let absolute = ["--request-target", "http://other.example.test/b", "https://files.example.test:8443/a"];
    let answer = proxy.curl(&[&["--http1.1"], &absolute[..]].concat()).await;
    assert_eq!(answer, "GET http://other.example.test/b \n");
}

#[tokio::test]
async fn uploads_wait_for_100_continue() {
    let proxy = Proxy::start().await;
    let upload = ["-H", "Expect: 100-continue", "--expect100-timeout", "20", "-m", "10", "-d", "body"];
    for url in ["http://files.example.test/", "https://files.example.test/"] {
        let answer = proxy.curl(&[&["--http1.1"], &upload[..], &[url]].concat()).await;
        assert_eq!(answer, format!("POST {url} body\n"));
    }
}

#[tokio::test]
async fn large_bodies_arrive_whole_over_every_version() {
    const SIZE: usize = 24 << 20;
    let service = fixed(|| Body::from(vec![b'x'; SIZE]));
    let proxy = Proxy::start_with(service, "127.0.0.1:0", Duration::ZERO, true).await;
    let (plain, secure) = ("http://files.example.test/", "https://files.example.test/");
    for arguments in [&[plain][..], &["-p", plain], &["--http1.1", secure], &["--http2", secure]] {
        let size = proxy.curl(&[&["-o", "/dev/null", "-w", "%{size_download}"], arguments].concat()).await;
        assert_eq!(size, SIZE.to_string(), "{arguments:?}");
    }
}

#[tokio::test]
async fn hosts_can_be_ip_addresses() {
    let proxy = Proxy::start().await;
    for url in ["https://127.0.0.1:8443/", "https://[::1]:8443/a", "https://192.0.2.1/", "http://[2001:db8::1]:81/"] {
        assert_eq!(proxy.curl(&["-g", url]).await, format!("GET {url} \n"));
    }
}

#[tokio::test]
async fn plain_http_goes_through_connect_too() {
    let proxy = Proxy::start().await;
    let url = "http://files.example.test:8080/a";
    assert_eq!(proxy.curl(&["-p", url]).await, format!("GET {url} \n"));
    assert_eq!(proxy.curl(&["-p", "--http2-prior-knowledge", url]).await, format!("GET {url} \n"));
    let tls_inside = ["-p", "--proxy1.0", &format!("127.0.0.1:{}", proxy.address.port())];
    let url = "https://files.example.test/";
    assert_eq!(proxy.curl(&[&tls_inside[..], &[url]].concat()).await, format!("GET {url} \n"));
}

#[tokio::test]
async fn tls_straight_to_the_port_works() {
    let proxy = Proxy::start().await;
    let port = proxy.address.port();
    let resolve = format!("files.example.test:{port}:127.0.0.1");
    let url = format!("https://files.example.test:{port}/a");
    for version in ["--http2", "--http1.1"] {
        let answer = proxy.curl(&["--noproxy", "*", "--resolve", &resolve, version, &url]).await;
        assert_eq!(answer, format!("GET {url} \n"));
    }
}

#[tokio::test]
async fn a_proxy_spoken_to_over_tls_is_a_proxy_too() {
    let proxy = Proxy::start().await;
    let secure = format!("https://127.0.0.1:{}", proxy.address.port());
    let proxied = ["--proxy-cacert", proxy.ca_file(), "-x", &secure];
    for url in ["http://files.example.test/a", "https://files.example.test/a"] {
        assert_eq!(proxy.curl(&[&proxied[..], &[url]].concat()).await, format!("GET {url} \n"));
    }
}

#[tokio::test]
async fn an_offer_of_h2c_is_answered_in_http1() {
    let proxy = Proxy::start().await;
    let url = "http://files.example.test/";
    assert_eq!(proxy.curl(&["--http2", "-w", "%{http_version}", url]).await, format!("GET {url} \n1.1"));
}

#[tokio::test]
async fn loopback_is_not_the_network_unless_asked() {
    let proxy = Proxy::start_with(echo_service(), "127.0.0.1:0", Duration::ZERO, false).await;
    let other = Proxy::start().await;
    let url = format!("http://127.0.0.1:{}/", other.address.port());
    // The other one's own answer: it is a proxy, asked as if it were a web server.
    assert_eq!(proxy.curl(&[&url]).await, "GET http://buildproxy.internal/ \n");
}

#[tokio::test]
async fn an_ipv6_listener_has_an_environment_that_works() {
    let proxy = Proxy::start_with(echo_service(), "[::1]:0", Duration::ZERO, true).await;
    let url = "https://files.example.test/";
    assert_eq!(proxy.curl(&[url]).await, format!("GET {url} \n"));
}

#[tokio::test]
async fn wget_follows_the_environment() {
    let proxy = Proxy::start().await;
    for url in ["http://files.example.test/a?b", "https://files.example.test/a?b", "https://192.0.2.1/"] {
        assert_eq!(proxy.output("wget", &["-q", "-t1", "-O-", url]).await, format!("GET {url} \n"));
    }
}

#[tokio::test]
async fn python_urllib_follows_the_environment() {
    let proxy = Proxy::start().await;
    let script =
        "import sys, urllib.request as r\nfor u in sys.argv[1:]: sys.stdout.write(r.urlopen(u).read().decode())";
    let urls = ["http://files.example.test/a", "https://files.example.test/a", "https://192.0.2.1:8443/"];
    let expected: String = urls.iter().map(|url| format!("GET {url} \n")).collect();
    assert_eq!(proxy.output("python3", &[&["-c", script], &urls[..]].concat()).await, expected);
}

#[tokio::test]
async fn java_follows_the_environment() {
    let proxy = Proxy::start().await;
    if std::process::Command::new("javac").arg("-version").output().is_err() {
        eprintln!("skipped: no Java compiler on this machine");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("Fetch.java");
    let source = "public class Fetch { public static void main(String[] urls) throws Exception {
        for (String url : urls) new java.net.URL(url).openStream().transferTo(System.out); } }";
    std::fs::write(&program, source).unwrap();
    let urls = ["http://files.example.test/a", "https://files.example.test/a", "https://127.0.0.1:8443/"];
    let expected: String = urls.iter().map(|url| format!("GET {url} \n")).collect();
    assert_eq!(proxy.output("java", &[&[program.to_str().unwrap()], &urls[..]].concat()).await, expected);

    let store = std::path::Path::new(proxy.ca_file()).with_file_name("ca.jks");
    let list = ["-list", "-storepass", "changeit", "-keystore", store.to_str().unwrap()];
    let listed = proxy.output("keytool", &list).await;
    assert!(listed.contains("JKS") && listed.contains("buildproxy-0,") && listed.contains("trustedCertEntry"));
}
