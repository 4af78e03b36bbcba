# shellcheck shell=bash
# What cargo would stop at, in the unpacked source: a lock file that is missing or another, a target that is not there.
# shellcheck disable=SC2154 # attributes of the derivation
for file in Cargo.toml Cargo.lock src/lib.rs src/main.rs; do
    if [ ! -f "$file" ]; then
        echo "the source has no $file" >&2
        exit 1
    fi
done
if [ -n "$lockFile" ] && ! cmp "$lockFile" Cargo.lock; then
    echo "ERROR: cargoLock.lockFile is not the Cargo.lock of the source" >&2
    exit 1
fi
while read -r file; do
    if [ ! -e "$file" ]; then
        echo "Cargo.toml names $file, which is not in the source" >&2
        exit 1
    fi
done < <(sed -n 's/^path = "\(.*\)".*/\1/p' Cargo.toml)
