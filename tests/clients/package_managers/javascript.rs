//! npm, yarn, bun and deno.

use super::*;

/// A registry of npm's that has two documents of its one package, by what is accepted.
fn npm_registry() -> Nginx {
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
    origin
}

#[test]
fn npm_gets_the_variant_of_a_package_document_that_it_accepts() {
    let origin = npm_registry();
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

/// A project that needs the one package of [`npm_registry`].
const MANIFEST: &str = r#"{"name": "app", "version": "1.0.0", "dependencies": {"greeting": "^1"}}"#;

#[test]
fn bun_installs_and_installs_again_from_its_lock_file() {
    let origin = npm_registry();
    let registry = origin.tls_url("/npm/");
    let script = format!(
        "export npm_config_registry='{registry}'; bun='{}'
        $bun install >&2; rm -r node_modules ~/.bun; $bun install --frozen-lockfile >&2",
        npm_tool("bun")
    );
    let seen = with_and_without_the_origin(origin, &[("package.json", MANIFEST)], &script);
    let times = ["greeting", "greeting-1.0.0.tgz"].map(|path| seen.times(&format!("GET /npm/{path} 200")));
    assert_eq!(times, [1, 2], "with a lock file, packages alone: {:#?}", seen.asked);
    assert_eq!(seen.work.read("project/node_modules/greeting/index.js"), b"module.exports = \"hello\"\n");
}

#[test]
fn deno_gets_modules_by_url_and_packages_of_npm() {
    let origin = npm_registry();
    let registry = origin.tls_url("/npm/");
    make(&origin.www(), "echo 'export const name: string = \"reader\";' >name.ts");
    let main =
        format!("import hello from 'npm:greeting@1';\nimport {{ name }} from '{}';\n", origin.tls_url("/name.ts"));
    let main = main + "console.log(hello, name);\n";
    let script = format!(
        "export NPM_CONFIG_REGISTRY='{registry}'; deno='{}'; install='install --allow-import --entrypoint main.ts'
        $deno $install >&2; rm -r ~/.cache/deno; $deno $install --frozen >&2; $deno run --cached-only main.ts",
        python_tool("deno")
    );
    let seen = with_and_without_the_origin(origin, &[("main.ts", &main)], &script);
    assert_eq!(seen.replayed.text(), "hello reader\n");
}

#[test]
fn yarn_of_the_newer_line_installs_behind_the_proxy() {
    let origin = npm_registry();
    let configuration = format!(
        "npmRegistryServer: '{}'\nnodeLinker: node-modules\nenableTelemetry: false\nnpmMinimalAgeGate: 0\n\
        httpsProxy: 'http://127.0.0.1:9'\n",
        origin.tls_url("/npm")
    );
    let script = format!(
        "yarn='{} {}'; $yarn install >&2; rm -r node_modules ~/.yarn; $yarn install --immutable >&2
        rm node_modules/.yarn-state.yml",
        python_tool("node"),
        npm_tool("yarn")
    );
    let project = [("package.json", MANIFEST), (".yarnrc.yml", &*configuration), ("yarn.lock", "")];
    let seen = with_and_without_the_origin(origin, &project, &script);
    seen.was_asked("GET /npm/greeting-1.0.0.tgz 200");
}

/// What npm's package `electron` downloads its binaries with, in both lines that are in use: the older one with Debian's
/// Node, which reads no proxy variable itself.
#[test]
fn electron_gets_its_binaries_behind_the_proxy() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        "mkdir -p electron/v30.0.0 && cd electron/v30.0.0 && echo binary >electron-v30.0.0-linux-x64.zip
        sha256sum -b *.zip >SHASUMS256.txt",
    );
    let get = "import fs from 'node:fs'; const { downloadArtifact } = await import(process.argv[2]);
        const what = { version: '30.0.0', artifactName: 'electron', platform: 'linux', arch: 'x64' };
        const path = await downloadArtifact({ ...what, cacheRoot: process.argv[3] });
        process.stdout.write(fs.readFileSync(path));\n";
    let script = format!(
        "export ELECTRON_MIRROR='{}'; node get.mjs '{}' \"$HOME/2\"; '{}' get.mjs '{}' \"$HOME/5\"",
        origin.tls_url("/electron/"),
        npm_tool("../electron-get-2/dist/cjs/index.js"),
        python_tool("node"),
        npm_tool("../electron-get-5/dist/index.js")
    );
    let seen = with_and_without_the_origin(origin, &[("get.mjs", get)], &script);
    assert_eq!(seen.replayed.text(), "binary\nbinary\n");
}
