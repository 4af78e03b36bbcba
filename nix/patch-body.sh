# shellcheck shell=bash
# Applies `$patches` to the file `$body`, which was got from `$url`, and writes `$out` in the same form: a text, a tar
# archive, a zip archive, or either of the first two compressed.
#
# Times in archives stay as they were; what a patch has changed gets the newest of them, so that every build makes the
# same bytes. shellcheck: the variables are the derivation's.
# shellcheck disable=SC2154

patchBody() {
    local work=$PWD/work compression
    mkdir "$work"
    compression=$(compressionOf "$body")
    # What a program cannot undo as a filter is no text and no archive to it.
    unpack "$compression" <"$body" >"$work/plain"
    case "$(formOf "$work/plain")" in
    tar) patchTar "$work" ;;
    zip) patchZip "$work" ;;
    text) patchText "$work/plain" ;;
    esac
    pack "$compression" <"$work/plain" >"$out"
}

# The bytes of a file from byte $2 on, $3 of them, in hexadecimal; fewer where it is shorter.
bytesOf() {
    head -c "$(($2 + $3))" "$1" | tail -c "+$(($2 + 1))" | od -A n -t x1 | tr -d ' \n'
}

compressionOf() {
    case "$(bytesOf "$1" 0 6)" in
    1f8b*) echo gzip ;;
    425a68*) echo bzip2 ;;
    fd377a585a00) echo xz ;;
    28b52ffd*) echo zstd ;;
    *) echo none ;;
    esac
}

formOf() {
    if [ "$(bytesOf "$1" 257 5)" = 7573746172 ]; then
        echo tar
    elif [ "$(bytesOf "$1" 0 4)" = 504b0304 ]; then
        echo zip
    else
        echo text
    fi
}

unpack() {
    case "$1" in
    none) cat ;;
    *) "$1" -dc ;;
    esac
}

# Without names and times in the head, and in one thread: threads cut the output where they please.
pack() {
    case "$1" in
    gzip) gzip -nc ;;
    bzip2) bzip2 -c ;;
    xz) xz -T1 -c ;;
    zstd) zstd -q -T1 -c ;;
    none) cat ;;
    esac
}

applyPatch() {
    if ! patch --force --no-backup-if-mismatch "$@"; then
        echo "buildproxy: a patch for $url does not apply (see above): make it anew against what $body holds" >&2
        exit 1
    fi
}

patchText() {
    local one
    for one in $patches; do
        echo "applying $one to $url"
        applyPatch -o "$1.patched" "$1" "$one"
        mv "$1.patched" "$1"
    done
}

# Applies the patches in the folder $1, or in its one folder where there is nothing else.
patchFolder() {
    local one entries=()
    mapfile -d '' entries < <(find "$1" -mindepth 1 -maxdepth 1 -print0)
    if [ ${#entries[@]} = 1 ] && [ -d "${entries[0]}" ]; then
        set -- "${entries[0]}"
    fi
    for one in $patches; do
        echo "applying $one inside of $url"
        (cd "$1" && applyPatch -p1 -i "$one")
    done
}

# The newest time below the folder $1, in whole seconds. Links are left out: unzip gives them the time of the unpacking.
newestIn() {
    find "$1" -mindepth 1 ! -type l -printf '%T@\n' | sort -n | tail -n 1 | cut -d . -f 1
}

patchTar() {
    local newest members='*'
    mkdir "$1/tree"
    case "$(tar -tf "$1/plain" | sed -n 1p)" in
    ./*) members=. ;;
    esac
    tar -xf "$1/plain" -C "$1/tree" --delay-directory-restore --same-permissions
    newest=$(newestIn "$1/tree")
    patchFolder "$1/tree"
    (
        shopt -s dotglob nullglob
        cd "$1/tree" || exit
        # shellcheck disable=SC2086 # It is a pattern.
        tar -cf "$1/plain" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner \
            --clamp-mtime --mtime="@$newest" -- $members
    )
}

patchZip() {
    local newest
    mkdir "$1/tree"
    (cd "$1/tree" && TZ=UTC unzip -qq "$1/plain")
    newest=$(newestIn "$1/tree")
    patchFolder "$1/tree"
    find "$1/tree" -newermt "@$newest" -exec touch -h -d "@$newest" {} +
    rm "$1/plain"
    # Sorted, without the users and times that zip would add of its own.
    (cd "$1/tree" && find . -mindepth 1 -printf '%P\n' | LC_ALL=C sort | TZ=UTC zip -q -X -y -@ "$1/plain.zip")
    mv "$1/plain.zip" "$1/plain"
}
