#!/usr/bin/env bash
# Makes the table of docs/reliability.md: runs the tests that show something for it at their full size, fuzzes for
# FUZZ_SECONDS (600), and writes down what was shown. `--check` runs nothing: it compares the rows that the last
# `./test` left with those of the table, whatever their figures.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
page=docs/reliability.md rows=target/reliability mark='<!-- Below: made by benches/reliability.sh. -->'

table() {
    jq -rs '
        def cell: gsub("\\|"; "\\|");
        {Capture: "Capture", Replay: "Replay", Load: "Load", Verify: "Verify", HostileInput: "Hostile input",
         Secrets: "Secrets and keys"} as $titles
        | sort_by(.order, .file, .promise) | group_by(.order)[]
        | "\n## \($titles[.[0].part])\n\n| Promise | How it is tested | Measured |\n| --- | --- | --- |",
          (.[] | "| [\(.promise | cell)](../\(.file)) | \(.how | cell) | \(.figure | cell) |")' "$rows"/*.json
}

# Of each row all but its figures: two runs on two machines agree in that.
promises() {
    sed -E 's/ \| [^|]*(\\\|[^|]*)* \|$//'
}

case "$*" in
--check)
    diff <(sed "1,/^$mark/d" "$page" | grep '^| \[' | promises) <(table | grep '^| \[' | promises) || {
        echo "the rows of $page (<) are not those that the tests show (>): run benches/reliability.sh" >&2
        exit 1
    }
    ;;
'')
    rm -rf "$rows"
    # One file is a test of its own, or a module of the one whose folder it is in; the macro's own is neither.
    mapfile -t tests < <(grep -rl 'shows!(' tests | sed -E 's:^tests/([^/.]+).*:\1:' | grep -vx common | sort -u)
    RELIABILITY=full cargo test --locked --release "${tests[@]/#/--test=}"
    FUZZ_SECONDS=${FUZZ_SECONDS:-600} fuzz/run.sh
    text=$(sed "/^$mark/,\$d" "$page")
    {
        printf '%s\n\n%s\n' "$text" "$mark"
        printf 'On %s cores, %s, %s.\n' "$(nproc)" "$(uname -sr | cut -d- -f1)" "$(date -u +%F)"
        table
    } >"$page.new"
    mv "$page.new" "$page"
    ;;
*) echo "usage: benches/reliability.sh [--check]" >&2 && exit 2 ;;
esac
