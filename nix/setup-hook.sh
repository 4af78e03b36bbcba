# shellcheck shell=bash
# Runs a build behind `buildproxy replay`: as a setup hook from the end of stdenv's set-up on, or from the line on that
# sources this file. Works under `set -euo pipefail`, in subshells, and without stdenv.

# Starts the replay for this shell and exports its environment. The server ends with this shell at the latest.
buildproxyStart() {
    local lines shell=$BASHPID code=0
    if [ -n "${BUILDPROXY_CAPTURE-}" ]; then
        echo "buildproxy: this is recorded, so nothing is replayed" >&2
        return 0
    fi
    case "${_buildproxyIndex-}" in
    '') ;;
    '@index@') return 0 ;;
    *)
        echo "buildproxy: there are two inventories in one build, $_buildproxyIndex and @index@" >&2
        echo "hint: make them one: mkBuildproxy { inventory = [ ./a.toml ./b.toml ]; }" >&2
        return 2
        ;;
    esac
    lines=$('@buildproxy@' replay -i '@index@' @flags@ --background --parent-pid "$shell") || code=$?
    if [ "$code" != 0 ]; then
        echo "buildproxy: the replay of @index@ did not start" >&2
        return "$code"
    fi
    _buildproxyBefore=$(_buildproxyVariables "$lines")
    eval "$lines"
    _buildproxyIndex='@index@'
    _buildproxyEndWithShell
}

# Stops the replay, prints its report, and gives back the environment as it was before; the exit code is that of
# `buildproxy stop`: 4 where requests were missed.
buildproxyStop() {
    local code=0
    [ -n "${_buildproxyIndex-}" ] || return 0
    unset _buildproxyIndex
    '@buildproxy@' stop || code=$?
    eval "$_buildproxyBefore"
    return "$code"
}

# Commands that set the variables as they are now which the commands `$1` will set or unset.
_buildproxyVariables() {
    local command name
    while read -r command name; do
        name=${name%%=*}
        case $command in
        export | unset) [[ $name =~ ^[A-Za-z_]+$ ]] || continue ;;
        *) continue ;;
        esac
        if [ -n "${!name+set}" ]; then
            printf 'export %s=%q\n' "$name" "${!name}"
        else
            printf 'unset %s\n' "$name"
        fi
    done <<<"$1"
}

# Lets the report decide how this shell ends: by stdenv's hooks where they run, else by a trap. A subshell has neither
# the hooks nor the trap of its parent.
_buildproxyEndWithShell() {
    local trap parts=()
    # Once for each shell, however often the replay is started in it.
    [ "${_buildproxyShell-}" != "$BASHPID" ] || return 0
    _buildproxyShell=$BASHPID
    _buildproxyTrap=
    if [ "$BASHPID" = "$$" ]; then
        if declare -F exitHandler >/dev/null; then
            # Before others: that of nix-shell removes the temporary folder.
            exitHooks=(_buildproxySucceeded ${exitHooks+"${exitHooks[@]}"})
            failureHooks=(_buildproxyFailed ${failureHooks+"${failureHooks[@]}"})
            return 0
        fi
        trap=$(trap -p EXIT)
        # It is printed as a command, quoted for the shell: trap -- '…' EXIT
        eval "parts=($trap)"
        _buildproxyTrap=${parts[2]-}
    fi
    trap _buildproxyExit EXIT
}

# The build has what it wanted, and fails all the same if the inventory did not have all that it asked for.
_buildproxySucceeded() {
    local code=0
    buildproxyStop || code=$?
    [ "$code" = 0 ] || exit "$code"
}

# The build has failed, and the report may say why.
_buildproxyFailed() {
    buildproxyStop || true
}

_buildproxyExit() {
    local code=$? stopped=0
    buildproxyStop || stopped=$?
    [ "$code" != 0 ] || code=$stopped
    if [ -n "$_buildproxyTrap" ]; then
        # What was to be done at the end finds the exit code where it expects it.
        set +e
        (exit "$code")
        eval "$_buildproxyTrap"
    fi
    exit "$code"
}

# stdenv sources this file while it is set up, and exports an SSL_CERT_FILE of its own after that: so the start waits for
# the end of the set-up. A shell for development has a network, and no build to fail.
if [[ " ${FUNCNAME[*]-} " != *" activatePackage "* ]]; then
    buildproxyStart || case $- in
    *i*) ;;
    *) exit ;;
    esac
elif [ -z "${IN_NIX_SHELL-}" ]; then
    postHooks+=(buildproxyStart)
fi
