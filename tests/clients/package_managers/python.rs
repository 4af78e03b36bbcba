//! pip and uv.

use super::*;

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
