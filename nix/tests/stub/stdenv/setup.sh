# shellcheck shell=bash
# The generic builder of the tests' own nixpkgs. In what a setup hook can see of it, it behaves as nixpkgs' own: shell
# options, the order of things, names and meaning of the functions and variables, hooks, phases, errors, the trap.
# Written for the tests; `stdenv` puts `SHELL`, `initialPath` and `defaultNativeBuildInputs` in front of it.
#
# Variables come from the derivation, and are lists of words where there is no `__structuredAttrs`:
# shellcheck disable=SC2154,SC2086,SC2048,SC2068,SC2206,SC2123,SC1090,SC1091,SC2034,SC2178,SC2128

__stub_original_options=$-
set -eu
set -o pipefail
shopt -s inherit_errexit

if [ -f .attrs.sh ]; then
    __structuredAttrs=1
    for outputName in "${!outputs[@]}"; do
        export "$outputName=${outputs[$outputName]}"
    done
    export NIX_ATTRS_JSON_FILE="$NIX_BUILD_TOP/.attrs.json" NIX_ATTRS_SH_FILE="$NIX_BUILD_TOP/.attrs.sh"
else
    __structuredAttrs=
    : "${outputs:=out}"
fi

getAllOutputNames() {
    if [ -n "$__structuredAttrs" ]; then echo "${!outputs[*]}"; else echo "$outputs"; fi
}

# ---- Hooks ----------------------------------------------------------------------------------------------------------

# Runs the implicit hook, a function, a file in PATH or a variable of that name, then each of the array `<name>Hooks`.
runHook() {
    local name=$1 each
    shift
    local more="${name%Hook}Hooks[@]"
    for each in "_callImplicitHook 0 $name" ${!more+"${!more}"}; do
        _eval "$each" "$@"
    done
    return 0
}

# The same, until one of them succeeds.
runOneHook() {
    local name=$1 each
    shift
    local more="${name%Hook}Hooks[@]"
    for each in "_callImplicitHook 1 $name" ${!more+"${!more}"}; do
        if _eval "$each" "$@"; then return 0; fi
    done
    return 1
}

_callImplicitHook() {
    local otherwise=$1 name=$2
    if declare -F "$name" >/dev/null; then
        "$name"
    elif type -p "$name" >/dev/null; then
        source "$name"
    elif [ -n "${!name:-}" ]; then
        eval "${!name}"
    else
        return "$otherwise"
    fi
}

# A function of its own, so that `return` in a hook leaves the hook alone.
_eval() {
    if declare -F "$1" >/dev/null 2>&1; then
        "$@"
    else
        eval "$1"
    fi
}

# ---- The end --------------------------------------------------------------------------------------------------------

# A hook that wants the build to fail has to call `exit`: here nothing else is looked at, and `set -e` is off.
exitHandler() {
    exitCode=$?
    set +e
    if ((exitCode != 0)); then
        runHook failureHook
        if [ -n "${succeedOnFailure:-}" ]; then
            echo "build failed with exit code $exitCode (ignored)"
            mkdir -p "$out/nix-support"
            printf '%s' "$exitCode" >"$out/nix-support/failed"
            exit 0
        fi
    else
        runHook exitHook
    fi
    return "$exitCode"
}
trap exitHandler EXIT

# ---- Variables ------------------------------------------------------------------------------------------------------

addToSearchPathWithCustomDelimiter() {
    local delimiter=$1 variable=$2 folder=$3
    case "$delimiter${!variable-}$delimiter" in
    *"$delimiter$folder$delimiter"*) ;;
    *) [ ! -d "$folder" ] || export "$variable=${!variable:+${!variable}$delimiter}$folder" ;;
    esac
}

addToSearchPath() {
    addToSearchPathWithCustomDelimiter : "$@"
}

_isArray() {
    [[ -n $__structuredAttrs || "$(declare -p "$1" 2>/dev/null)" == "declare -a"* ]]
}

prependToVar() {
    local name=$1
    local -n variable=$1
    shift
    if _isArray "$name"; then variable=("$@" ${variable+"${variable[@]}"}); else variable="$* ${variable-}"; fi
}

appendToVar() {
    local name=$1
    local -n variable=$1
    shift
    if _isArray "$name"; then variable=(${variable+"${variable[@]}"} "$@"); else variable="${variable-} $*"; fi
}

# Adds the words of the variables named to the array `flagsArray`.
_accumFlagsArray() {
    local name
    for name in "$@"; do
        local -n variable=$name
        if [[ -n $__structuredAttrs || $name == *Array ]]; then
            flagsArray+=(${variable+"${variable[@]}"})
        else
            flagsArray+=(${variable-})
        fi
    done
}

if [ -n "$__structuredAttrs" ]; then
    for envVar in "${!env[@]}"; do
        declare -x "$envVar=${env[$envVar]}"
    done
fi

export SOURCE_DATE_EPOCH
: "${SOURCE_DATE_EPOCH:=315532800}"
shopt -s nullglob

PATH=
HOST_PATH=
for i in $initialPath; do
    addToSearchPath PATH "$i/bin"
    [ -n "${strictDeps-}" ] || addToSearchPath HOST_PATH "$i/bin"
done
unset i

BASH=$SHELL
export CONFIG_SHELL="$SHELL" PATH
[ -n "${shell:-}" ] || export shell="$SHELL"

runHook preHook
runHook addInputsHook

# ---- Inputs ---------------------------------------------------------------------------------------------------------

: "${depsBuildBuild=}" "${nativeBuildInputs=}" "${propagatedNativeBuildInputs=}" "${defaultNativeBuildInputs=}"
: "${buildInputs=}" "${propagatedBuildInputs=}" "${defaultBuildInputs=}"

declare -a envBuildHostHooks envHostTargetHooks pkgsBuildHost pkgsHostTarget
declare -a preFixupHooks fixupOutputHooks preConfigureHooks postFixupHooks postUnpackHooks unpackCmdHooks

# Every platform is the same here, so that there are two kinds of inputs: -1 for tools and 0 for libraries.
addEnvHooks() {
    local offset=$1
    shift
    if ((offset < 0)); then envBuildHostHooks+=("$@"); else envHostTargetHooks+=("$@"); fi
}

findInputs() {
    local pkg=$1 offset=$2 list=pkgsHostTarget file next
    if ((offset < 0)); then list=pkgsBuildHost; fi
    local -n found=$list
    case " ${found[*]-} " in *" $pkg "*) return 0 ;; esac
    if ! [ -e "$pkg" ]; then
        echo "build input $pkg does not exist" >&2
        exit 1
    fi
    found+=("$pkg")
    for file in propagated-native-build-inputs propagated-build-inputs; do
        [[ -f "$pkg/nix-support/$file" ]] || continue
        read -r -d '' next <"$pkg/nix-support/$file" || true
        for next in $next; do findInputs "$next" "$offset"; done
    done
}

for pkg in ${depsBuildBuild[@]} ${nativeBuildInputs[@]} ${propagatedNativeBuildInputs[@]}; do
    findInputs "$pkg" -1
done
for pkg in ${buildInputs[@]} ${propagatedBuildInputs[@]}; do
    findInputs "$pkg" 0
done
for pkg in ${defaultNativeBuildInputs[@]}; do
    findInputs "$pkg" -1
done

# An input that is a file is a setup hook itself.
activatePackage() {
    local pkg=$1 offset=$2
    if [ -f "$pkg" ]; then
        source "$pkg"
    fi
    if [[ -z "${strictDeps-}" || $offset -lt 0 ]]; then
        addToSearchPath _PATH "$pkg/bin"
    fi
    if ((offset == 0)); then
        addToSearchPath _HOST_PATH "$pkg/bin"
    fi
    if [[ -f "$pkg/nix-support/setup-hook" ]]; then
        source "$pkg/nix-support/setup-hook"
    fi
}

for pkg in ${pkgsBuildHost[@]+"${pkgsBuildHost[@]}"}; do
    activatePackage "$pkg" -1
done
for pkg in ${pkgsHostTarget[@]+"${pkgsHostTarget[@]}"}; do
    activatePackage "$pkg" 0
done
for pkg in ${pkgsBuildHost[@]+"${pkgsBuildHost[@]}"} ${pkgsHostTarget[@]+"${pkgsHostTarget[@]}"}; do
    runHook envBuildHostHook "$pkg"
    runHook envHostTargetHook "$pkg"
done

export TZ=UTC
: "${prefix:=${out-}}"
PATH="${_PATH-}${_PATH:+${PATH:+:}}$PATH"
HOST_PATH="${_HOST_PATH-}${_HOST_PATH:+${HOST_PATH:+:}}$HOST_PATH"
unset _PATH _HOST_PATH

NIX_BUILD_CORES="${NIX_BUILD_CORES:-1}"
if ((NIX_BUILD_CORES <= 0)); then NIX_BUILD_CORES=$(nproc 2>/dev/null || echo 1); fi
export NIX_BUILD_CORES

# No client may find certificates of this machine by chance.
for name in NIX_SSL_CERT_FILE SSL_CERT_FILE; do
    if [[ -z "${!name:-}" && "${IN_NIX_SHELL:-}" != impure ]]; then
        export "$name=/no-cert-file.crt"
    fi
done
unset name

source "${BASH_SOURCE[0]%/*}/phases"

runHook postHook
runHook userHook
dumpVars

# `nix-shell` sources this in a shell that a person goes on with.
[[ $__stub_original_options == *e* ]] || set +e
[[ $__stub_original_options == *u* ]] || set +u
unset -v __stub_original_options
