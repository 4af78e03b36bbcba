# shellcheck shell=bash
# The second half of the generic builder: substitution, unpacking, the phases. setup.sh sources it.
# shellcheck disable=SC2154,SC2086,SC2048,SC2068,SC1090,SC2034,SC2178,SC2164

# Writes $2 from $1 with the replacements that follow.
substitute() {
    local input=$1 output=$2 content pattern replacement kind
    shift 2
    if [ ! -f "$input" ]; then
        echo "substitute(): ERROR: file '$input' does not exist" >&2
        return 1
    fi
    if IFS='' read -r -d '' content <"$input"; then
        echo "substitute(): ERROR: '$input' contains null bytes" >&2
        return 1
    fi
    while (($#)); do
        kind=$1
        case "$kind" in
        --replace | --replace-fail | --replace-warn | --replace-quiet) pattern=$2 replacement=$3 && shift 3 ;;
        --subst-var) pattern=@$2@ replacement=${!2} && shift 2 ;;
        --subst-var-by) pattern=@$2@ replacement=$3 && shift 3 ;;
        *) echo "substitute(): ERROR: invalid command line argument: $1" >&2 && return 1 ;;
        esac
        if [[ $kind == --replace-fail && $content != *"$pattern"* ]]; then
            echo "substitute(): ERROR: pattern '$pattern' doesn't match anything in file '$input'" >&2
            return 1
        fi
        content=${content//"$pattern"/"$replacement"}
    done
    if [ -e "$output" ]; then chmod +w "$output"; fi
    printf '%s' "$content" >"$output"
}

substituteInPlace() {
    local files=() file
    while (($#)) && [[ $1 != --* ]]; do
        files+=("$1")
        shift
    done
    for file in "${files[@]}"; do substitute "$file" "$file" "$@"; done
}

# Replaces `@name@` by every exported variable that starts with a small letter.
substituteAll() {
    local input=$1 output=$2 name args=()
    export system pname name version
    for name in $(compgen -e | grep '^[a-z][a-zA-Z0-9_]*$'); do
        [ -z "${!name+x}" ] || args+=(--subst-var "$name")
    done
    substitute "$input" "$output" "${args[@]}"
}

dumpVars() {
    if [[ ${noDumpEnvVars:-0} != 1 && -n ${NIX_BUILD_TOP-} ]]; then
        export 2>/dev/null >|"$NIX_BUILD_TOP/env-vars" || true
    fi
}

stripHash() {
    local name
    name=$(basename -- "$1")
    if [[ $name =~ ^[a-z0-9]{32}- ]]; then echo "${name:33}"; else echo "$name"; fi
}

echoCmd() {
    printf '%s:' "$1"
    shift
    printf ' %q' "$@"
    echo
}

# ---- Phases ---------------------------------------------------------------------------------------------------------

unpackCmdHooks+=(_defaultUnpack)
_defaultUnpack() {
    local file=$1 to
    if [ -d "$file" ]; then
        to=$(stripHash "$file")
        if [ -e "$to" ]; then
            echo "Cannot copy $file to $to: destination already exists!"
            return 1
        fi
        cp -pr --reflink=auto -- "$file" "$to"
        return
    fi
    case "$file" in
    *.tar | *.tar.* | *.tgz | *.tbz2 | *.txz) tar xf "$file" --warning=no-timestamp ;;
    *) return 1 ;;
    esac
}

unpackFile() {
    curSrc=$1
    echo "unpacking source archive $curSrc"
    if ! runOneHook unpackCmd "$curSrc"; then
        echo "do not know how to unpack source archive $curSrc"
        exit 1
    fi
}

unpackPhase() {
    runHook preUnpack
    if [ -z "${srcs:-}" ]; then
        if [ -z "${src:-}" ]; then
            # shellcheck disable=SC2016
            echo 'variable $src or $srcs should point to the source'
            exit 1
        fi
        srcs=$src
    fi
    local before=" " each
    for each in */; do before+="$each "; done
    for each in ${srcs[*]}; do unpackFile "$each"; done
    : "${sourceRoot=}"
    if [ -n "${setSourceRoot:-}" ]; then
        runOneHook setSourceRoot
    elif [ -z "$sourceRoot" ]; then
        for each in */; do
            [[ $before != *" $each "* ]] || continue
            if [ -n "$sourceRoot" ]; then
                echo "unpacker produced multiple directories"
                exit 1
            fi
            sourceRoot=${each%/}
        done
    fi
    if [ -z "$sourceRoot" ]; then
        echo "unpacker appears to have produced no directories"
        exit 1
    fi
    echo "source root is $sourceRoot"
    if [ "${dontMakeSourcesWritable:-0}" != 1 ]; then chmod -R u+w -- "$sourceRoot"; fi
    runHook postUnpack
}

patchPhase() {
    runHook prePatch
    local each
    for each in ${patches[*]-}; do
        echo "applying patch $each"
        patch ${patchFlags:--p1} <"$each"
    done
    runHook postPatch
}

configurePhase() {
    runHook preConfigure
    : "${configureScript=}"
    if [[ -z $configureScript && -x ./configure ]]; then configureScript=./configure; fi
    if [ -n "$configureScript" ]; then
        local flagsArray=()
        if [[ -z "${dontAddPrefix:-}" && -n $prefix ]]; then prependToVar configureFlags "${prefixKey:---prefix=}$prefix"; fi
        _accumFlagsArray configureFlags configureFlagsArray
        echoCmd 'configure flags' "${flagsArray[@]}"
        $configureScript "${flagsArray[@]}"
    else
        echo "no configure script, doing nothing"
    fi
    runHook postConfigure
}

_hasMakefile() {
    [[ -n "${makefile:-}" || -e Makefile || -e makefile || -e GNUmakefile ]]
}

# `make` with the flags that are named, and these targets.
_make() {
    local what=$1 targets=$2 flagsArray=(SHELL="$SHELL")
    shift 2
    _accumFlagsArray makeFlags makeFlagsArray "$@"
    echoCmd "$what flags" "${flagsArray[@]}"
    make ${makefile:+-f $makefile} "${flagsArray[@]}" $targets
}

buildPhase() {
    runHook preBuild
    if [[ -n "${makeFlags-}" ]] || _hasMakefile; then
        _make build "${enableParallelBuilding:+-j$NIX_BUILD_CORES}" buildFlags buildFlagsArray
    else
        echo "no Makefile or custom buildPhase, doing nothing"
    fi
    runHook postBuild
}

checkPhase() {
    runHook preCheck
    local target=${checkTarget-} each
    if _hasMakefile; then
        for each in check test; do
            if [ -z "$target" ] && make -n ${makefile:+-f $makefile} "$each" >/dev/null 2>&1; then target=$each; fi
        done
    fi
    if [ -n "$target" ]; then _make check "$target" checkFlags checkFlagsArray; else echo "no check/test target, doing nothing"; fi
    runHook postCheck
}

installPhase() {
    runHook preInstall
    if [[ -n "${makeFlags-}" ]] || _hasMakefile; then
        mkdir -p "$prefix"
        _make install "${installTargets[*]:-install}" installFlags installFlagsArray
    else
        echo "no Makefile or custom installPhase, doing nothing"
    fi
    runHook postInstall
}

installCheckPhase() {
    runHook preInstallCheck
    if _hasMakefile && make -n ${makefile:+-f $makefile} "${installCheckTarget:-installcheck}" >/dev/null 2>&1; then
        _make installcheck "${installCheckTarget:-installcheck}" installCheckFlags installCheckFlagsArray
    else
        echo "no Makefile or custom installCheckPhase, doing nothing"
    fi
    runHook postInstallCheck
}

fixupPhase() {
    local output support hook
    for output in $(getAllOutputNames); do
        if [ -e "${!output}" ]; then chmod -R u+w "${!output}"; fi
    done
    runHook preFixup
    for output in $(getAllOutputNames); do
        prefix=${!output} runHook fixupOutput
    done
    support=${dev:-$out}/nix-support
    if [ -n "${propagatedBuildInputs[*]:-}" ]; then
        mkdir -p "$support"
        printf '%s ' ${propagatedBuildInputs[*]} >"$support/propagated-build-inputs"
    fi
    if [ -n "${propagatedNativeBuildInputs[*]:-}" ]; then
        mkdir -p "$support"
        printf '%s ' ${propagatedNativeBuildInputs[*]} >"$support/propagated-native-build-inputs"
    fi
    if [ -n "${setupHook:-}" ]; then
        mkdir -p "$support"
        substituteAll "$setupHook" "$support/setup-hook"
    fi
    for hook in ${setupHooks[*]-}; do
        mkdir -p "$support"
        substituteAll "$hook" "$NIX_BUILD_TOP/.setup-hook"
        cat "$NIX_BUILD_TOP/.setup-hook" >>"$support/setup-hook"
    done
    runHook postFixup
}

distPhase() {
    runHook preDist
    _make dist "${distTarget:-dist}" distFlags distFlagsArray
    mkdir -p "$out/tarballs"
    cp -pd ${tarballs[*]:-*.tar.gz} "$out/tarballs"
    runHook postDist
}

# Whether the phase is not to be run: each has a variable that switches it off, or on.
_skips() {
    case "$1" in
    unpackPhase) [ -n "${dontUnpack:-}" ] ;;
    patchPhase) [ -n "${dontPatch:-}" ] ;;
    configurePhase) [ -n "${dontConfigure:-}" ] ;;
    buildPhase) [ -n "${dontBuild:-}" ] ;;
    checkPhase) [ -z "${doCheck:-}" ] ;;
    installPhase) [ -n "${dontInstall:-}" ] ;;
    fixupPhase) [ -n "${dontFixup:-}" ] ;;
    installCheckPhase) [ -z "${doInstallCheck:-}" ] ;;
    distPhase) [ -z "${doDist:-}" ] ;;
    *) false ;;
    esac
}

genericBuild() {
    export GZIP_NO_TIMESTAMPS=1
    if [ -f "${buildCommandPath:-}" ]; then
        source "$buildCommandPath"
        return
    fi
    if [ -n "${buildCommand:-}" ]; then
        eval "$buildCommand"
        return
    fi
    if [ -z "${phases[*]:-}" ]; then
        phases="${prePhases[*]:-} unpackPhase patchPhase ${preConfigurePhases[*]:-} configurePhase \
            ${preBuildPhases[*]:-} buildPhase checkPhase ${preInstallPhases[*]:-} installPhase \
            ${preFixupPhases[*]:-} fixupPhase installCheckPhase ${preDistPhases[*]:-} distPhase ${postPhases[*]:-}"
    fi
    for curPhase in ${phases[*]}; do
        if _skips "$curPhase"; then continue; fi
        if [[ -n ${NIX_LOG_FD-} ]]; then
            echo "@nix { \"action\": \"setPhase\", \"phase\": \"$curPhase\" }" >&"$NIX_LOG_FD"
        fi
        echo "Running phase: $curPhase"
        dumpVars
        # The variable of that name, else the function.
        eval "${!curPhase:-$curPhase}"
        if [ "$curPhase" = unpackPhase ]; then
            [ -z "${sourceRoot}" ] || chmod +x -- "$sourceRoot"
            cd -- "${sourceRoot:-.}"
        fi
    done
}
