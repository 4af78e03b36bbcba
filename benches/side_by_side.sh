#!/usr/bin/env bash
# Measures buildproxy beside nginx and mitmproxy, in one run, and prints the tables; `--quick` in under three minutes.
# Installs what that needs. Options: benches/side_by_side.sh --help
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=fixtures/install.sh
. fixtures/install.sh

need nginx=nginx-light curl=curl openssl=openssl nix-store=nix-bin
# Another one, of a newer Python say: MITMDUMP=FILE.
if [ -z "${MITMDUMP-}" ]; then
    python_tools=target/tools/mitmproxy need_python mitmdump=mitmproxy
    export MITMDUMP=$PWD/target/tools/mitmproxy/bin/mitmdump
fi
# The memory of the servers is looked at, also where nobody is root.
export BUILDPROXY_DUMPABLE=1
cargo bench --locked --bench side_by_side -- "$@"
