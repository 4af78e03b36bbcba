//! What is counted. Arguments are made outside of the count.

use std::{hint::black_box, sync::Arc};

use buildproxy::{
    CertificateAuthority, Entry, FileIngestionMethod, Inventory, NixHash, NormalizedUrl, StorePathName, build_ca_path,
    counted::{self, Index},
    inventory_to_toml, parse_inventory,
};
use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use http::{HeaderMap, HeaderName};

use crate::samples::{self, LookUps};

/// How often what is small is done, so that neither a first call nor the state of the heap is what is counted.
const TIMES: usize = 100;

const SRI: &str = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// Keeps what is made for ever, so that dropping it is not counted.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn repeat<T>(work: impl Fn() -> T) {
    for _ in 0..TIMES {
        black_box(work());
    }
}

#[library_benchmark]
#[bench::normal("https://registry.example.org/packages/left-pad/-/left-pad-1.3.0.tgz")]
#[bench::not_normal("HTTPS://Files.Example.ORG.:443/a/./b/../%7euser/caf%c3%a9.tar.gz?q=%2f#top")]
fn normalize_url(text: &str) {
    repeat(|| black_box(text).parse::<NormalizedUrl>().unwrap());
}

#[library_benchmark]
#[bench::entry(kept(LookUps::of_entries(100_000)))]
#[bench::hop(kept(LookUps::of_hops(100_000)))]
#[bench::ignored_query(kept(LookUps::of_other_signatures(100_000)))]
fn look_up(look_ups: &LookUps) {
    black_box(look_ups).run();
}

/// The first entry, and a request with the header `name`.
fn asked(name: &'static str, value: &'static str) -> &'static (Entry, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", "curl/7.88.1".parse().unwrap());
    headers.insert(HeaderName::from_static(name), value.parse().unwrap());
    kept((samples::inventory(1).entries.remove(0), headers))
}

#[library_benchmark]
#[bench::whole(asked("accept", "*/*"))]
#[bench::range(asked("range", "bytes=1000-1999"))]
#[bench::not_modified(asked("if-none-match", "\"5f3d2a71-bc53\""))]
fn response_head((entry, headers): &(Entry, HeaderMap)) {
    repeat(|| counted::response_head(black_box(entry), 48211, headers));
}

#[library_benchmark]
#[bench::toml(kept(samples::inventory(1_000)))]
fn write_inventory(inventory: &Inventory) -> String {
    inventory_to_toml(black_box(inventory))
}

#[library_benchmark]
#[bench::toml(kept(samples::toml(1_000)))]
#[bench::json(kept(samples::json(1_000)))]
fn read_inventory(text: &str) -> Inventory {
    parse_inventory(black_box(text)).unwrap()
}

#[library_benchmark]
#[bench::small(Arc::new(samples::inventory(1_000)))]
fn index_inventory(inventory: Arc<Inventory>) -> Index {
    Index::new(black_box(inventory), "x86_64-linux").unwrap()
}

// Together, because alone the first is so small that what the compiler inlines elsewhere makes 5% of it.
#[library_benchmark]
#[bench::sri_to_path(kept(StorePathName::new("left-pad-1.3.0.tgz").unwrap()))]
fn hash_set_up(name: &StorePathName) {
    let hash = || black_box(SRI).parse::<NixHash>().unwrap();
    repeat(|| build_ca_path(black_box(name), FileIngestionMethod::Flat, &hash()));
}

/// A CA that has made a certificate for `host`.
fn knowing(host: &str) -> CertificateAuthority {
    let authority = CertificateAuthority::new().unwrap();
    counted::certificate(&authority, host).unwrap();
    authority
}

#[library_benchmark]
#[bench::made((0..TIMES).map(|number| format!("h{number}.example.org")).collect(), CertificateAuthority::new().unwrap())]
#[bench::cached(vec!["h.example.org".to_owned(); TIMES], knowing("h.example.org"))]
fn certificate(hosts: Vec<String>, authority: CertificateAuthority) -> CertificateAuthority {
    for host in &hosts {
        counted::certificate(&authority, black_box(host)).unwrap();
    }
    authority
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks = [
        normalize_url,
        look_up,
        response_head,
        write_inventory,
        read_inventory,
        index_inventory,
        hash_set_up,
        certificate
    ]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no", "--dump-line=no"])),
    library_benchmark_groups = hot_paths
);

/// gungraun's own `main`.
pub fn harness() {
    main();
}
