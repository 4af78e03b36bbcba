//! Real clients, without a flag for a proxy or a certificate: captured, then replayed where there is no network.

use std::fs;

use crate::common::{Nginx, TestCa, Workdir, git::GitServer, in_empty_network, pattern, python_tool, run, tree};
use sha2::{Digest, Sha256};

/// A few files of different sizes behind nginx, and a redirect to one of them.
fn files() -> Nginx {
    let nginx = Nginx::start("location = /latest { return 302 /large.bin; }");
    fs::write(nginx.www().join("small.txt"), "a small file\n").unwrap();
    fs::write(nginx.www().join("large.bin"), pattern(3_000_000)).unwrap();
    nginx
}

/// Runs `script` in the folder `captured` behind a capture and in `replayed` behind a replay without network, after the
/// origin has gone, both times from an empty home; both must leave the same files behind.
#[track_caller]
fn same_with_and_without_the_origin<O>(origin: O, ca: impl Fn(&O) -> &TestCa, script: &str) {
    same_with_variables(origin, ca, &[], script);
}

/// The same where `variables` were set before.
#[track_caller]
fn same_with_variables<O>(origin: O, ca: impl Fn(&O) -> &TestCa, variables: &[(&str, &str)], script: &str) {
    let work = Workdir::new();
    let variables = || variables.iter().copied();
    let within = |folder: &str| format!("mkdir {folder}; cd {folder}; {script}");
    let mut capturing = work.capturing(&ca(&origin).pem);
    capturing.envs(variables()).args(["--", "sh", "-euc", &within("captured")]);
    run(&mut capturing).expect_code(0);
    drop(origin);
    work.empty_home();
    let mut replaying = work.replaying();
    replaying.envs(variables()).args(["--", "sh", "-euc", &within("replayed")]);
    let replayed = run(&mut in_empty_network(&replaying)).expect_code(0);
    assert!(!replayed.stderr.contains("unused entries"), "the same requests, no fewer: {replayed}");
    let (captured, replayed) = (tree(&work.path("captured")), tree(&work.path("replayed")));
    assert!(!captured.is_empty(), "the script leaves files to compare");
    assert_eq!(captured, replayed);
    run(work.buildproxy("verify").arg("--quiet")).expect_code(0);
}

/// Has `command` run `program`, a file called `name`, which gets what [`files`] has: all that is in the list `urls`, names
/// and URLs. Under each name it leaves the status and what it got.
#[track_caller]
fn gets_all_of_a_list(variables: &[(&str, &str)], name: &str, program: &str, command: &str) {
    let nginx = files();
    let urls = [("large", "/large.bin"), ("redirected", "/latest"), ("missing", "/absent")];
    let mut list: String = urls.iter().map(|(name, path)| format!("{name} {}\n", nginx.tls_url(path))).collect();
    list += &format!("small {}\n", nginx.url("/small.txt"));
    let script = format!(
        "cat >urls <<'END'\n{list}END\ncat >{name} <<'END'\n{program}END\n{command}
        grep -q '^200 .*line 0 ' large; grep -q '^200 .*a small' small; grep -q ^200 redirected; grep -q ^404 missing"
    );
    same_with_variables(nginx, |nginx| &nginx.ca, variables, &script);
}

#[test]
fn curl() {
    let nginx = files();
    let script = format!(
        "curl -sSf -O '{}' -O '{}'; curl -sSf -L -o redirected '{}'; curl -sS -o missing -w '%{{http_code}}' '{}' >code; \
         test \"$(cat code)\" = 404; curl -sSf --http1.1 -r 100-200 -o part '{}'",
        nginx.tls_url("/large.bin"),
        nginx.url("/small.txt"),
        nginx.tls_url("/latest"),
        nginx.tls_url("/absent"),
        nginx.tls_url("/large.bin"),
    );
    same_with_and_without_the_origin(nginx, |nginx| &nginx.ca, &script);
}

#[test]
fn wget() {
    let nginx = files();
    let script = format!(
        "wget -q '{}'; wget -q -O over-http '{}'; wget -q -O redirected '{}'; \
         head -c 1000 large.bin >continued; wget -q -c -O continued '{}'; cmp continued large.bin",
        nginx.tls_url("/large.bin"),
        nginx.url("/small.txt"),
        nginx.tls_url("/latest"),
        nginx.tls_url("/large.bin"),
    );
    same_with_and_without_the_origin(nginx, |nginx| &nginx.ca, &script);
}

#[test]
fn git_over_smart_http() {
    let server = GitServer::start();
    let url = server.url();
    let script = format!(
        "git clone -q '{url}' clone; git -C clone fsck --strict; git -C clone for-each-ref >refs; \
         git clone -q --depth 1 --branch v7 '{url}' shallow; git -C shallow rev-parse HEAD >head; \
         git ls-remote '{url}' >remote; rm -rf clone/.git shallow/.git"
    );
    same_with_and_without_the_origin(server, |server| &server.nginx.ca, &script);
}

#[test]
fn git_in_the_first_version_of_its_protocol() {
    let server = GitServer::start();
    let script =
        format!("git -c protocol.version=0 clone -q '{}' clone; git -C clone fsck; rm -rf clone/.git", server.url());
    same_with_and_without_the_origin(server, |server| &server.nginx.ca, &script);
}

#[test]
fn git_with_shallow_submodules() {
    let server = GitServer::start();
    // A repository whose submodule is a commit in the middle of the other one's history.
    let script = r#"git init -q --bare outer.git; git init -q outer; cd outer
        git config user.name Tests; git config user.email tests@example.org; git checkout -q -b main
        printf '[submodule "inner"]\n\tpath = inner\n\turl = ../project.git\n' >.gitmodules; git add .gitmodules
        git update-index --add --cacheinfo "160000,$(git -C ../project.git rev-parse v7^0),inner"
        git commit -q -m 'With a submodule'; git push -q ../outer.git main
        git -C ../outer.git symbolic-ref HEAD refs/heads/main"#;
    let mut make = std::process::Command::new("sh");
    make.args(["-euc", script]).current_dir(server.nginx.www().join("git")).env("GIT_CONFIG_GLOBAL", "/dev/null");
    run(&mut make).expect_code(0);
    let script = format!(
        "git clone -q --depth 1 --recurse-submodules --shallow-submodules '{}' clone
        git -C clone/inner log --format=%H >history; test \"$(wc -l <history)\" = 1
        test -e clone/inner/numbers-7.txt; test ! -e clone/inner/numbers-8.txt; rm -rf clone/.git",
        server.nginx.tls_url("/git/outer.git")
    );
    same_with_and_without_the_origin(server, |server| &server.nginx.ca, &script);
}

#[test]
fn cmake_file_download_with_verification() {
    let nginx = files();
    let digest = |bytes: &[u8]| data_encoding::HEXLOWER.encode(&Sha256::digest(bytes));
    let cmake = format!(
        "file(DOWNLOAD \"{}\" large.bin EXPECTED_HASH SHA256={} TLS_VERIFY ON)\n\
         file(DOWNLOAD \"{}\" small.txt EXPECTED_HASH SHA256={} TLS_VERIFY ON)\n",
        nginx.tls_url("/latest"),
        digest(&pattern(3_000_000)),
        nginx.url("/small.txt"),
        digest(b"a small file\n"),
    );
    let script = format!("cat >download.cmake <<'END'\n{cmake}END\ncmake -P download.cmake");
    same_with_and_without_the_origin(nginx, |nginx| &nginx.ca, &script);
}

#[test]
fn cmake_fetch_content() {
    let nginx = files();
    let pack =
        "mkdir library && echo 'set(library_found yes)' >library/CMakeLists.txt && tar czf library.tar.gz library";
    run(std::process::Command::new("sh").args(["-euc", pack]).current_dir(nginx.www())).expect_code(0);
    let archive = fs::read(nginx.www().join("library.tar.gz")).unwrap();
    let project = format!(
        "cmake_minimum_required(VERSION 3.19)\nproject(p LANGUAGES NONE)\nset(CMAKE_TLS_VERIFY ON)\ninclude(FetchContent)\n\
         FetchContent_Declare(library URL \"{}\" URL_HASH SHA256={})\nFetchContent_MakeAvailable(library)\n",
        nginx.tls_url("/library.tar.gz"),
        data_encoding::HEXLOWER.encode(&Sha256::digest(&archive)),
    );
    let script = format!(
        "mkdir project; cat >project/CMakeLists.txt <<'END'\n{project}END\n\
         cmake -S project -B build -Wno-dev >/dev/null; cp build/_deps/library-src/CMakeLists.txt fetched; rm -r build"
    );
    same_with_and_without_the_origin(nginx, |nginx| &nginx.ca, &script);
}

#[test]
fn cmake_fetch_content_by_git() {
    let server = GitServer::start();
    let project = format!(
        "cmake_minimum_required(VERSION 3.19)\nproject(p LANGUAGES NONE)\ninclude(FetchContent)\n\
         FetchContent_Declare(shallow GIT_REPOSITORY \"{url}\" GIT_TAG v7 GIT_SHALLOW TRUE)\n\
         FetchContent_Declare(whole GIT_REPOSITORY \"{url}\" GIT_TAG v9)\n\
         FetchContent_MakeAvailable(shallow whole)\n",
        url = server.url(),
    );
    let script = format!(
        "mkdir project; cat >project/CMakeLists.txt <<'END'\n{project}END\n\
         cmake -S project -B build -Wno-dev >/dev/null; mv build/_deps/shallow-src build/_deps/whole-src .
         rm -rf build shallow-src/.git whole-src/.git; test -e whole-src/numbers-9.txt; test ! -e shallow-src/numbers-8.txt"
    );
    same_with_and_without_the_origin(server, |server| &server.nginx.ca, &script);
}

#[test]
fn python_urllib() {
    let program = "import urllib.error, urllib.request
for name, url in map(str.split, open('urls')):
    try:
        response = urllib.request.urlopen(url)
    except urllib.error.HTTPError as error:
        response = error
    open(name, 'wb').write(b'%d ' % response.status + response.read())
";
    gets_all_of_a_list(&[], "get.py", program, "/usr/bin/python3 get.py");
}

#[test]
fn python_requests() {
    let program = "import requests
session = requests.Session()
for name, url in map(str.split, open('urls')):
    response = session.get(url)
    open(name, 'wb').write(b'%d ' % response.status_code + response.content)
    headers = [response.headers.get(name) for name in ('etag', 'content-type', 'last-modified')]
    open(name + '.headers', 'w').write(f'{headers} {len(response.history)}')
";
    gets_all_of_a_list(&[], "get.py", program, "/usr/bin/python3 get.py");
}

#[test]
fn python_urllib3_by_a_proxy_manager() {
    // Its pools read no variable: a program tells them.
    let program = "import os, urllib3
manager = urllib3.ProxyManager(os.environ['https_proxy'], ca_certs=os.environ['SSL_CERT_FILE'])
for name, url in map(str.split, open('urls')):
    response = manager.request('GET', url)
    open(name, 'wb').write(b'%d ' % response.status + response.data)
";
    gets_all_of_a_list(&[], "get.py", program, "/usr/bin/python3 get.py");
}

#[test]
fn python_aiohttp_that_trusts_its_environment() {
    let program = "import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession(trust_env=True) as session:
        for name, url in map(str.split, open('urls')):
            async with session.get(url) as response:
                open(name, 'wb').write(b'%d ' % response.status + await response.read())
asyncio.run(main())
";
    gets_all_of_a_list(&[], "get.py", program, "/usr/bin/python3 get.py");
}

#[test]
fn python_httpx_with_many_streams_of_one_connection() {
    let program = "import asyncio, httpx
async def get(client, name, url):
    response = await client.get(url)
    open(name, 'wb').write(b'%d %s ' % (response.status_code, response.http_version.encode()) + response.content)
async def main():
    urls = dict(map(str.split, open('urls')))
    urls |= {f'large-{n}': urls['large'] for n in range(10)}
    async with httpx.AsyncClient(http2=True, follow_redirects=True) as client:
        await asyncio.gather(*(get(client, *item) for item in urls.items()))
asyncio.run(main())
";
    let command = format!("'{}' get.py; grep -q '^200 HTTP/2 line 0 ' large-9", python_tool("python3"));
    gets_all_of_a_list(&[], "get.py", program, &command);
}

#[test]
fn node_fetch_and_https_of_a_version_that_reads_proxy_variables() {
    let program = "import { readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
const urls = readFileSync('urls', 'utf8').trim().split('\\n').map((line) => line.split(' '));
for (const [name, url] of urls) {
    const response = await fetch(url);
    writeFileSync(name, `${response.status} ${response.redirected} ` + await response.text());
}
const body = await new Promise((resolve, reject) => https.get(urls[0][1], async (response) => {
    resolve(await response.toArray());
}).on('error', reject));
writeFileSync('by-https', Buffer.concat(body));
";
    let command =
        format!("'{}' get.mjs; grep -q '^200 true line 0 ' redirected; test -s by-https", python_tool("node"));
    gets_all_of_a_list(&[], "get.mjs", program, &command);
}

#[test]
fn java_by_both_of_its_clients_with_options_that_were_there_before() {
    // In Groovy, which needs no compiler of Java's: both clients are Java's own.
    let program = "import java.net.http.*
assert System.getProperty('greeting') == 'good day'
def client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build()
new File('urls').splitEachLine(' ') { name, url ->
    def answer = client.send(HttpRequest.newBuilder(URI.create(url)).build(), HttpResponse.BodyHandlers.ofString())
    new File(name).text = answer.statusCode() + ' ' + answer.body()
    if (name != 'missing') new File(name + '-by-connection').bytes = new URL(url).bytes
}
";
    let command = "JAVA_HOME=$(readlink -f \"$(command -v java)\"); export JAVA_HOME=${JAVA_HOME%/bin/java}
        groovy get.groovy; test -s small-by-connection";
    gets_all_of_a_list(&[("JAVA_TOOL_OPTIONS", "-Dgreeting='good day'")], "get.groovy", program, command);
}

#[test]
fn aria2_downloads_a_file_in_parts() {
    let nginx = files();
    // The one client here that reads no variable for certificates. Without a limit, its first connection can have the
    // whole file before the second one has shaken hands.
    let script = format!(
        "get() {{ aria2c -q -s 2 -x 2 -k 1M --max-download-limit=3M --ca-certificate=\"$BUILDPROXY_CA_FILE\" --log=log \"$@\"
            grep -q '^Range: bytes=[1-9]' log; rm log; }}
        get '{}'; get -o over-http '{}'; get -o redirected '{}'",
        nginx.tls_url("/large.bin"),
        nginx.url("/large.bin"),
        nginx.tls_url("/latest"),
    );
    same_with_and_without_the_origin(nginx, |nginx| &nginx.ca, &script);
}

#[test]
fn apt_from_a_repository_over_https() {
    let nginx = Nginx::start("");
    let make = r#"mkdir -p greeting/DEBIAN repository; cd repository; chmod 755 ../greeting ../greeting/DEBIAN
        printf '%s\n' 'Package: greeting' 'Version: 1' 'Architecture: all' 'Maintainer: Tests <tests@example.org>' \
            'Description: a greeting' >../greeting/DEBIAN/control
        dpkg-deb --build ../greeting greeting.deb >&2
        { cat ../greeting/DEBIAN/control; echo 'Filename: ./greeting.deb'; stat -c 'Size: %s' greeting.deb
            sha256sum greeting.deb | sed 's/\([^ ]*\).*/SHA256: \1/'; } >Packages
        { echo 'SHA256:'; sha256sum Packages | sed "s/ .*/ $(stat -c %s Packages) Packages/;s/^/ /"; } >Release"#;
    run(std::process::Command::new("sh").args(["-euc", make]).current_dir(nginx.www())).expect_code(0);
    // No option for the proxy, the certificates, or the user that apt downloads as.
    let script = format!(
        "mkdir -p apt/lists/partial apt/cache/archives/partial; echo 'deb [trusted=yes] {} ./' >sources.list
        apt() {{
            apt-get -o Dir::Etc::SourceList=\"$PWD/sources.list\" -o Dir::Etc::SourceParts=- -o Dir::State=\"$PWD/apt\" \
                -o Dir::State::Status=/dev/null -o Dir::Cache=\"$PWD/apt/cache\" -o APT::Update::Post-Invoke-Success= \
                -o APT::Update::Post-Invoke= \"$@\"
        }}
        apt update --error-on=any; apt download greeting=1; rm -r apt; test -s greeting_1_all.deb",
        nginx.tls_url("/repository"),
    );
    same_with_and_without_the_origin(nginx, |nginx| &nginx.ca, &script);
}

/// Clients that are given another CA, or none: the name of a host of its own, the process, something that it reads, and
/// the command.
const DISTRUSTING: &str = r#"
curl    curl            CURL_CA_BUNDLE      curl -sS --cacert other.pem https://curl.test/
wget    wget            WGETRC              wget -q -t 1 --ca-certificate=other.pem https://wget.test/
aria    aria2c          --ca-certificate="$ aria2c -q -m 1 https://aria.test/
git     git-remote-http GIT_SSL_CAINFO      env GIT_SSL_CAINFO="$PWD/other.pem" git ls-remote https://git.test/x
urllib  python3.        SSL_CERT_FILE       env SSL_CERT_FILE=other.pem /usr/bin/python3 -c 'import urllib.request as r; r.urlopen("https://urllib.test/")'
pip     python3.        PIP_CERT            env REQUESTS_CA_BUNDLE=other.pem "$python" -m pip --retries 0 download -i https://pip.test/simple x
new     node            NODE_EXTRA_CA_CERTS env -u NODE_EXTRA_CA_CERTS "$node" -e 'fetch("https://new.test/").catch(() => process.exit(1))'
old     node            NODE_EXTRA_CA_CERTS env -u NODE_EXTRA_CA_CERTS /usr/bin/node old.js "$port"
npm     node            npm_config_cafile   env npm_config_cafile=other.pem NODE_EXTRA_CA_CERTS=other.pem npm --fetch-retries=0 --registry=https://npm.test/ view x
java    java            JAVA_TOOL_OPTIONS   env JAVA_TOOL_OPTIONS="-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=$port" groovy -e 'new URL("https://java.test/").bytes'
go      go              SSL_CERT_FILE       env SSL_CERT_FILE=other.pem GOTOOLCHAIN=local GOSUMDB=off GOPROXY=https://go.test go list -m example.org/x@latest
cargo   cargo           CARGO_HTTP_CAINFO   env CARGO_HTTP_CAINFO=other.pem "$cargo" --config net.retry=0 search --index sparse+https://cargo.test/ x
"#;

#[test]
fn clients_that_do_not_trust_the_ca_are_named_with_what_they_read() {
    let work = Workdir::new();
    work.write("other.pem", TestCa::new().pem);
    work.write("inventory.toml", "version = 1\n");
    let by_hand =
        "require('http').request({ host: '127.0.0.1', port: process.argv[2], method: 'CONNECT', path: 'old.test:443' })
        .on('connect', (_, socket) => require('tls').connect({ socket, servername: 'old.test' })
            .on('error', () => process.exit(1))).end();";
    work.write("old.js", by_hand);
    let column = |line: &str, at: std::ops::Range<usize>| line[at].trim().to_owned();
    let clients: Vec<_> = DISTRUSTING.lines().filter(|line| !line.is_empty()).collect();
    let all: String = clients
        .iter()
        .map(|line| {
            let (host, command) = (column(line, 0..8), &line[44..]);
            format!("if {command} >{host}.log 2>&1; then touch {host}.trusts; fi &\n")
        })
        .collect();
    let script = format!(
        "java=$(readlink -f \"$(command -v java)\"); export JAVA_HOME=\"${{java%/bin/java}}\"
        python='{}' node='{}' cargo='{}' port=\"${{https_proxy##*:}}\"\n{all}wait",
        python_tool("python3"),
        python_tool("node"),
        env!("CARGO")
    );
    let mut replaying = work.replaying();
    let outcome = run(&mut in_empty_network(replaying.args(["--json", "--", "sh", "-euc", &script]))).expect_code(0);
    let report: serde_json::Value = serde_json::from_str(outcome.text()).unwrap();
    let failed = report["failed-handshakes"].as_array().unwrap();
    for line in clients {
        let [host, process, variable] = [0..8, 8..24, 24..44].map(|at| column(line, at));
        assert!(!work.path(&format!("{host}.trusts")).exists(), "{host} does not check");
        let of_host: Vec<_> = failed.iter().filter(|failure| failure["host"] == *format!("{host}.test")).collect();
        let log = || String::from_utf8_lossy(&work.read(&format!("{host}.log"))).into_owned();
        assert_eq!(of_host.len(), 1, "{host}: {report:#} {}", log());
        let text = |name: &str| of_host[0][name].as_str().unwrap_or_default();
        assert!(text("process").starts_with(&process), "{host}: {report:#}");
        let words = "does not trust buildproxy's CA, which it finds by ";
        assert!(text("problem").contains(words) && text("problem").contains(&variable), "{host}: {}", text("problem"));
    }
}
