//! Package managers against registries of the tests' own, each with the habit that a naive replay breaks.
//!
//! Each is captured, then replayed from an empty home where there is no network, and must leave the same files.

use std::{fs, path::Path, process::Command};

use crate::common::{
    Entries, Entry, Nginx, Outcome, Workdir, in_empty_network, python_tool, run, tree, workdir::within,
};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256, Sha512};

/// What was seen of a package manager that was captured, then replayed.
struct Seen {
    work: Workdir,
    captured: Outcome,
    replayed: Outcome,
    inventory: Entries,
    /// What the origin was asked and what it answered, by its own log: `GET /path 200`.
    asked: Vec<String>,
}

impl Seen {
    /// Fails where a log of the package manager's own, of the capture or of the replay, is without `text`.
    #[track_caller]
    fn told_both_times(&self, text: &str) {
        for outcome in [&self.captured, &self.replayed] {
            assert!(outcome.stderr.contains(text), "`{text}` is not on stderr of {outcome}");
        }
    }

    /// Fails where the origin was not asked this, or answered something else.
    #[track_caller]
    fn was_asked(&self, request_and_status: &str) {
        assert!(self.asked.iter().any(|asked| asked == request_and_status), "{request_and_status}: {:#?}", self.asked);
    }
}

/// Captures `script` from `origin`, which then ends, and replays it where there is no network. It runs in the folder
/// `project` both times, which begins as the files given, and both times there is nothing at home. It must print the
/// same and leave the same files.
#[track_caller]
fn with_and_without_the_origin(origin: Nginx, project: &[(&str, &str)], script: &str) -> Seen {
    let work = Workdir::new();
    let script = format!("mkdir project; cp -r input/. project; cd project; {script}");
    fs::create_dir(work.path("input")).unwrap();
    for (name, content) in project {
        work.write(&format!("input/{name}"), content);
    }
    // A name that is not loopback's, for clients that never use a proxy for that.
    let hosts = work.root().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost modules.test\n").unwrap();
    let mut capturing = work.capturing(&origin.ca.pem);
    capturing.args(["--", "sh", "-euc", &script]);
    let mount = format!("mount --bind '{}' /etc/hosts && exec \"$@\"", hosts.display());
    let captured = run(&mut within(&capturing, "-rm", &mount)).expect_code(0);
    let asked = asked(&origin);
    drop(origin);

    fs::rename(work.path("project"), work.path("captured")).unwrap();
    work.empty_home();
    let mut replaying = work.replaying();
    replaying.args(["--", "sh", "-euc", &script]);
    let replayed = run(&mut in_empty_network(&replaying)).expect_code(0);
    assert!(!replayed.stderr.contains("unused entries"), "the same requests, no fewer: {replayed}");
    assert_eq!(captured.text(), replayed.text());
    assert_eq!(tree(&work.path("captured")), tree(&work.path("project")));
    run(work.buildproxy("verify").arg("--quiet")).expect_code(0);
    let inventory = work.inventory();
    Seen { work, captured, replayed, inventory, asked }
}

/// What `origin` has logged so far, in short.
fn asked(origin: &Nginx) -> Vec<String> {
    let log = fs::read_to_string(origin.folder().join("access.log")).unwrap();
    let request = |line: &str| {
        let (_, rest) = line.split_once('"')?;
        let (request, rest) = rest.split_once(" HTTP/")?;
        Some(format!("{request} {}", rest.split(' ').nth(1)?))
    };
    log.lines().map(|line| request(line).expect("a line of nginx's log")).collect()
}

/// Runs a shell script that makes what an origin serves.
#[track_caller]
fn make(folder: &Path, script: &str) {
    run(Command::new("sh").args(["-euc", script]).current_dir(folder)).expect_code(0);
}

fn sha256(file: &Path) -> String {
    HEXLOWER.encode(&Sha256::digest(fs::read(file).unwrap()))
}

#[test]
fn cargo_revalidates_its_index_over_http_2() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        r#"mkdir -p greeting-1.0.0/src index/gr/ee crates
        echo 'pub fn greet() {}' >greeting-1.0.0/src/lib.rs
        printf '[package]\nname = "greeting"\nversion = "1.0.0"\nedition = "2021"\n' >greeting-1.0.0/Cargo.toml
        tar czf crates/greeting-1.0.0.crate greeting-1.0.0"#,
    );
    let digest = sha256(&origin.www().join("crates/greeting-1.0.0.crate"));
    let config = format!(r#"{{"dl":"{}/{{crate}}-{{version}}.crate"}}"#, origin.tls_url("/crates"));
    let line =
        format!(r#"{{"name":"greeting","vers":"1.0.0","deps":[],"cksum":"{digest}","features":{{}},"yanked":false}}"#);
    fs::write(origin.www().join("index/config.json"), config).unwrap();
    fs::write(origin.www().join("index/gr/ee/greeting"), line + "\n").unwrap();
    let toolchain = Path::new(env!("CARGO")).parent().unwrap().display();
    let index = origin.tls_url("/index/");
    let script = format!(
        r#"PATH="{toolchain}:$PATH"; mkdir src .cargo; : >src/lib.rs
        printf '[registries.local]\nindex = "sparse+{index}"\n' >.cargo/config.toml
        export CARGO_HTTP_DEBUG=true CARGO_LOG=network=debug
        cargo vendor >config; cargo update"#
    );
    let manifest = "[workspace]\n[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                    [dependencies]\ngreeting = { version = \"1\", registry = \"local\" }\n";
    let seen = with_and_without_the_origin(origin, &[("Cargo.toml", manifest)], &script);
    for told in ["> if-none-match: ", "< HTTP/2 304", "< HTTP/2 200"] {
        seen.told_both_times(told);
    }
    assert_eq!(seen.inventory.one(&format!("{index}gr/ee/greeting")).status(), 200, "not the 304");
}

/// A package index whose wheels are long enough that reading their metadata alone is worth a client's while. It has no
/// file of metadata beside a wheel, so clients look for them inside, by ranges.
fn python_index() -> Nginx {
    let origin = Nginx::start("types { application/octet-stream whl; text/html html; }");
    let script = r#"/usr/bin/python3 - <<'END'
import hashlib, os, zipfile

def wheel(name, version, needs):
    path, info = f'files/{name}-{version}-py3-none-any.whl', f'{name}-{version}.dist-info'
    noise = b''.join(hashlib.sha256(b'%d' % number).digest() for number in range(20000))
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr(f'{name}/__init__.py', '')
        file.writestr(f'{name}/noise.bin', noise)
        file.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}')
        file.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
        names = file.namelist()
        file.writestr(f'{info}/RECORD', ''.join(f'{name},,\n' for name in [*names, f'{info}/RECORD']))
    digest = hashlib.sha256(open(path, 'rb').read()).hexdigest()
    os.makedirs(f'simple/{name}')
    with open(f'simple/{name}/index.html', 'w') as page:
        page.write(f'<!DOCTYPE html><a href="../../{path}#sha256={digest}">{os.path.basename(path)}</a>\n')

os.mkdir('files')
wheel('greeting', '1.0', 'Requires-Dist: farewell>=2\n')
wheel('farewell', '2.0', '')
END"#;
    make(&origin.www(), script);
    origin
}

#[test]
fn pip_reads_a_wheels_metadata_by_ranges_and_revalidates_its_index() {
    let origin = python_index();
    let script = format!(
        "export PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL='{}'; pip() {{ '{}' -m pip install --no-compile -vvv \"$@\" >&2; }}
        pip --target by-ranges --use-feature=fast-deps greeting; pip --target whole greeting; diff -r by-ranges whole",
        origin.tls_url("/simple"),
        python_tool("python3")
    );
    let seen = with_and_without_the_origin(origin, &[], &script);
    seen.told_both_times(r#"/greeting-1.0-py3-none-any.whl HTTP/1.1" 206"#);
    seen.told_both_times(r#"/simple/greeting/ HTTP/1.1" 304"#);
    seen.was_asked("HEAD /files/greeting-1.0-py3-none-any.whl 200");
    assert_eq!(seen.inventory.0.len(), 4, "two pages and two wheels: {:?}", seen.inventory.urls());
}

#[test]
fn uv_reads_a_wheels_metadata_by_head_and_ranges() {
    let origin = python_index();
    let script = format!(
        "export UV_NO_CONFIG=1 UV_DEFAULT_INDEX='{}' UV_PYTHON=/usr/bin/python3 UV_PYTHON_DOWNLOADS=never
        RUST_LOG=uv_client=trace '{}' pip install --target installed greeting",
        origin.tls_url("/simple"),
        python_tool("uv")
    );
    let seen = with_and_without_the_origin(origin, &[], &script);
    seen.told_both_times("Getting metadata for `greeting-1.0-py3-none-any.whl` by range request");
    for outcome in [&seen.captured, &seen.replayed] {
        assert!(!outcome.stderr.contains("Range requests not supported"), "{outcome}");
    }
    seen.was_asked("HEAD /files/greeting-1.0-py3-none-any.whl 200");
    assert_eq!(seen.inventory.0.len(), 4, "two pages and two wheels: {:?}", seen.inventory.urls());
}

#[test]
fn npm_gets_the_variant_of_a_package_document_that_it_accepts() {
    let origin = Nginx::start(
        r#"location = /npm/greeting {
            if ($http_accept ~ "vnd.npm.install-v1") { rewrite ^ /npm/abbreviated.json last; }
            rewrite ^ /npm/full.json last;
        }
        location ~ \.json$ { default_type application/json; add_header Vary Accept; }
        location /npm/-/npm/v1/security/ { default_type application/json; return 200 "{}"; }"#,
    );
    make(
        &origin.www(),
        r#"mkdir -p npm package && cd package && echo 'module.exports = "hello"' >index.js
        echo '{"name": "greeting", "version": "1.0.0"}' >package.json && cd .. && tar czf npm/greeting-1.0.0.tgz package"#,
    );
    let tarball = fs::read(origin.www().join("npm/greeting-1.0.0.tgz")).unwrap();
    let dist = format!(
        r#"{{"tarball": "{}", "integrity": "sha512-{}"}}"#,
        origin.tls_url("/npm/greeting-1.0.0.tgz"),
        BASE64.encode(&Sha512::digest(tarball))
    );
    for (file, more) in [("abbreviated", ""), ("full", r#", "description": "only in the full document""#)] {
        let document = format!(
            r#"{{"name": "greeting", "dist-tags": {{"latest": "1.0.0"}}{more},
            "versions": {{"1.0.0": {{"name": "greeting", "version": "1.0.0"{more}, "dist": {dist}}}}}}}"#
        );
        fs::write(origin.www().join(format!("npm/{file}.json")), document).unwrap();
    }
    let (registry, document) = (origin.tls_url("/npm/"), origin.tls_url("/npm/greeting"));
    let script = format!(
        "export npm_config_registry='{registry}'; export npm_config_loglevel=http
        npm install >&2; npm pack greeting; npm view --json greeting"
    );
    let manifest = r#"{"name": "app", "version": "1.0.0", "dependencies": {"greeting": "^1"}}"#;
    let seen = with_and_without_the_origin(origin, &[("package.json", manifest)], &script);
    let accepted = |entry: &Entry| entry.get(&["request-headers", "accept"]).unwrap().as_str().unwrap().to_owned();
    let variants: Vec<_> = seen.inventory.of(&document).into_iter().map(accepted).collect();
    assert!(matches!(&variants[..], [full, short] if full == "application/json" && short.contains("install-v1")));
    seen.told_both_times("(cache revalidated)");

    let mut replaying = seen.work.replaying();
    replaying.args(["--allow-misses", "--", "curl", "-sS", "-w", "%{http_code}", "-H", "Accept: text/html", &document]);
    let outcome = run(&mut in_empty_network(&replaying)).expect_code(0);
    assert!(outcome.text().ends_with("404"), "{outcome}");
    for variant in &variants {
        assert!(
            outcome.text().contains(&format!("recorded with \"{variant}\", asked with \"text/html\"")),
            "{outcome}"
        );
    }
}

#[test]
fn maven_asks_for_checksums_that_exist_and_for_some_that_do_not() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        r#"artifact() {
            folder=maven/$(echo "$1" | tr . /)/$2/$3 && mkdir -p "$folder" && cd "$folder"
            echo "<project><modelVersion>4.0.0</modelVersion>$5<groupId>$1</groupId><artifactId>$2</artifactId>" \
                "<version>$3</version><packaging>$4</packaging></project>" >"$2-$3.pom"
            [ "$4" = pom ] || /usr/bin/python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").writestr("a", "a")' "$2-$3.jar"
            for file in *; do [ "$2" = grandparent ] || sha1sum "$file" | cut -c 1-40 >"$file.sha1"; done
            cd "$OLDPWD"
        }
        artifact org.example grandparent 1 pom ''
        artifact org.example parent 1 pom \
            '<parent><groupId>org.example</groupId><artifactId>grandparent</artifactId><version>1</version></parent>'
        artifact org.example extension 1 jar ''
        # Maven gives this one to every extension.
        artifact org.codehaus.plexus plexus-utils 1.1 jar ''"#,
    );
    let repository = origin.tls_url("/maven");
    let settings = format!(
        "<settings><mirrors><mirror><id>mirror</id><mirrorOf>*</mirrorOf><url>{repository}</url></mirror></mirrors></settings>"
    );
    let project = "<project><modelVersion>4.0.0</modelVersion>
        <parent><groupId>org.example</groupId><artifactId>parent</artifactId><version>1</version><relativePath/></parent>
        <artifactId>app</artifactId><packaging>pom</packaging>
        <build><extensions><extension><groupId>org.example</groupId><artifactId>extension</artifactId><version>1</version>
        </extension></extensions></build></project>";
    // Java takes the home from the system's list of users, not from the environment.
    let script = "export MAVEN_OPTS=-Duser.home=$HOME; mvn -X --batch-mode -s settings.xml validate >&2; cp -r ~/.m2/repository .
        rm -r $(find repository -name '_*' -o -name '*.lastUpdated')";
    let seen = with_and_without_the_origin(origin, &[("pom.xml", project), ("settings.xml", &settings)], script);
    let of = |path: &str| format!("/maven/org/example/{path}");
    for (path, status) in [
        ("parent/1/parent-1.pom.sha1", 200),
        ("extension/1/extension-1.jar.sha1", 200),
        ("grandparent/1/grandparent-1.pom.sha1", 404),
    ] {
        seen.was_asked(&format!("GET {} {status}", of(path)));
        assert_eq!(seen.inventory.one(&format!("{repository}/org/example/{path}")).status(), status);
    }
    seen.told_both_times("no checksums available from mirror");
}

#[test]
fn gradle_takes_each_module_from_the_repository_that_has_it() {
    let origin = Nginx::start("types { text/xml xml pom; }");
    make(
        &origin.www(),
        r#"module() {
            folder=$1/org/example/$2 && mkdir -p "$folder/1.2" && cd "$folder"
            echo "<metadata><groupId>org.example</groupId><artifactId>$2</artifactId><versioning><latest>1.2</latest>" \
                "<versions><version>1.2</version></versions></versioning></metadata>" >maven-metadata.xml
            echo "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>$2</artifactId>" \
                "<version>1.2</version>$3</project>" >"1.2/$2-1.2.pom"
            /usr/bin/python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").writestr("a", "a")' "1.2/$2-1.2.jar"
            for file in 1.2/*.jar 1.2/*.pom; do sha1sum "$file" | cut -c 1-40 >"$file.sha1"; done
            cd "$OLDPWD"
        }
        module first farewell ''
        module second greeting '<dependencies><dependency><groupId>org.example</groupId><artifactId>farewell</artifactId>
            <version>1.2</version></dependency></dependencies>'"#,
    );
    let build = format!(
        "repositories {{ maven {{ url '{}' }}; maven {{ url '{}' }} }}
        configurations {{ wanted }}
        dependencies {{ wanted 'org.example:greeting:1.+' }}
        task copy(type: Copy) {{ from configurations.wanted; into 'libs' }}\n",
        origin.tls_url("/first"),
        origin.url("/second")
    );
    let script = "export GRADLE_USER_HOME=\"$HOME/gradle\"
        gradle --no-daemon --info --project-cache-dir \"$HOME/cache\" copy >&2; rm -rf build; ls libs";
    let seen = with_and_without_the_origin(origin, &[("build.gradle", &build), ("settings.gradle", "")], script);
    assert_eq!(seen.captured.text(), "farewell-1.2.jar\ngreeting-1.2.jar\n");
    for (path, status) in [
        ("first/org/example/greeting/maven-metadata.xml", 404),
        ("second/org/example/greeting/maven-metadata.xml", 200),
        ("first/org/example/farewell/1.2/farewell-1.2.jar", 200),
    ] {
        seen.was_asked(&format!("GET /{path} {status}"));
    }
}

#[test]
fn go_falls_through_to_the_proxy_that_has_the_module() {
    let origin = Nginx::start("location /first/example.org/greeting/ { return 410; }");
    make(
        &origin.www(),
        r#"module() {
            path=example.org/$1 at=second/example.org/$1/@v && mkdir -p "$at" "$path@v1.0.0"
            printf '%s\n' "module $path" "go 1.19" "$2" >"$path@v1.0.0/go.mod"
            printf '%s\n' "package $1" "$3" >"$path@v1.0.0/code.go"
            echo v1.0.0 >"$at/list" && cp "$path@v1.0.0/go.mod" "$at/v1.0.0.mod"
            echo '{"Version": "v1.0.0", "Time": "2024-05-06T07:08:09Z"}' >"$at/v1.0.0.info"
            /usr/bin/python3 -c 'import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as file: [file.write(name) for name in sys.argv[2:]]' "$at/v1.0.0.zip" "$path@v1.0.0"/*
        }
        module farewell '' ''
        module greeting 'require example.org/farewell v1.0.0' 'import _ "example.org/farewell"'"#,
    );
    // Go asks loopback directly, whatever it is told; and it is to meet both schemes.
    let of_name = |url: String| url.replace("localhost", "modules.test");
    let script = format!(
        "export GOPROXY='{},{}' GOSUMDB=off GOFLAGS='-mod=mod -modcacherw' GOTOOLCHAIN=local
        go get -x example.org/greeting@latest; go list -m -json all; go mod vendor -v",
        of_name(origin.tls_url("/first")),
        of_name(origin.url("/second"))
    );
    let main = "package main\nimport _ \"example.org/greeting\"\nfunc main() {}\n";
    let seen = with_and_without_the_origin(origin, &[("go.mod", "module app\ngo 1.19\n"), ("main.go", main)], &script);
    for (request, status, told) in [
        ("/first/example.org/greeting/@v/v1.0.0.zip", 410, "410 Gone"),
        ("/first/example.org/farewell/@v/v1.0.0.zip", 404, "404 Not Found"),
        ("/second/example.org/greeting/@v/v1.0.0.zip", 200, "200 OK"),
    ] {
        seen.was_asked(&format!("GET {request} {status}"));
        seen.told_both_times(&format!("{request}: {told}"));
    }
}
