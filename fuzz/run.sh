#!/usr/bin/env bash
# Runs every fuzz target, from the committed inputs on, for its share of FUZZ_SECONDS (60); 0 is the committed inputs
# alone. Installs what that needs, and leaves a row for docs/reliability.md of each.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=fixtures/install.sh
. fixtures/install.sh

seconds=${FUZZ_SECONDS:-60} made=target/fuzz rows=target/reliability fuzz=target/tools/bin/cargo-fuzz
options=(--dev --sanitizer none --target-dir "$made")
need jq=jq c++=g++
need_crate cargo-fuzz=cargo-fuzz@0.13.2
mapfile -t targets < <("$fuzz" list)
[ ${#targets[@]} -ge 5 ] || { echo "only ${#targets[@]} fuzz targets found" >&2 && exit 1; }
[ "$seconds" = 0 ] && limit=-runs=0 || limit=-max_total_time=$((seconds / ${#targets[@]} + 1))
mkdir -p "$rows"
"$fuzz" build "${options[@]}"
for target in "${targets[@]}"; do
    mkdir -p "$made/inputs/$target" "$made/crashes/$target"
    # What is found is put into the first folder.
    "$fuzz" run "${options[@]}" "$target" "$made/inputs/$target" "fuzz/corpus/$target" -- "$limit" -timeout=10 \
        -artifact_prefix="$PWD/$made/crashes/$target/" >"$made/$target.log" 2>&1 || {
        tail -n 40 "$made/$target.log" >&2
        echo "the input on which $target failed is in $made/crashes/$target; a fix starts with a unit test for it" >&2
        exit 1
    }
    echo "$target: $(grep -w 'DONE\|INITED' "$made/$target.log" | tail -n 1)"
    # The first paragraph of the target's own words is what it promises.
    promise=$(awk '!/^\/\/! / { exit } { sub(/^\/\/! /, ""); printf "%s%s", gap, $0; gap = " " }' "fuzz/fuzz_targets/$target.rs")
    tried=$(awk '/^Done [0-9]+ runs/ { print $2 }' "$made/$target.log")
    jq -n --arg promise "${promise%.}" --arg file "fuzz/fuzz_targets/$target.rs" \
        --arg figure "${tried:-0} inputs, no failure" \
        '{order: 4, part: "HostileInput", $promise, $file, how: "fuzzing, guided by coverage", $figure}' \
        >"$rows/fuzz.$target.json"
done
