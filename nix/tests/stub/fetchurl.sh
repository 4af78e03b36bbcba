# shellcheck shell=bash
# The builder of `fetchurl`; the variables are its arguments.
# shellcheck disable=SC2154,SC2086
file=$out
if [ -n "${downloadToTemp-}" ]; then file=$TMPDIR/file; fi
if [ -n "${netrcPhase-}" ]; then
    eval "$netrcPhase"
    curlOpts="$curlOpts --netrc-file $PWD/netrc"
fi
eval "more=($curlOptsList)"
downloaded=
# As in nixpkgs: a URL with a question mark is no pattern.
set -o noglob
for url in $urls; do
    echo "trying $url"
    # The hash is what this relies on, not the certificate.
    if curl --insecure --location --max-redirs 20 --retry 2 --disable-epsv --fail --silent --show-error \
        $curlOpts "${more[@]}" --output "$file" "$url"; then
        downloaded=1
        break
    fi
done
set +o noglob
if [ -z "$downloaded" ]; then
    echo "error: cannot download ${name} from any mirror"
    exit 1
fi
if [ -n "${executable-}" ]; then chmod +x "$file"; fi
if [ -n "$postFetch" ]; then eval "$postFetch"; fi
