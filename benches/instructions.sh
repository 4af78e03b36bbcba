#!/usr/bin/env bash
# Counts the instructions of the hot paths and compares them with benches/instructions.toml: growth fails.
# `--accept` makes the counts of now the baseline. Installs what that needs.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=fixtures/install.sh
. fixtures/install.sh

case "$*" in
'' | --accept) ;;
*) echo "usage: benches/instructions.sh [--accept]" >&2 && exit 2 ;;
esac

need valgrind=valgrind
# The runner refuses a library of another version.
version=$(awk '/^name = "gungraun-runner"$/ { getline; gsub(/"/, ""); print $3 }' Cargo.lock)
runner=target/tools/bin/gungraun-runner
[ ! -x $runner ] || [ "$($runner --version)" = "gungraun-runner $version" ] || rm $runner
# It only waits for valgrind: nothing is gained where the compiler takes long over it.
CARGO_PROFILE_RELEASE_OPT_LEVEL=0 need_crate gungraun-runner=gungraun-runner@"$version"
export PATH="$PWD/target/tools/bin:$PATH"
cargo bench --locked --bench instructions -- "$@"
