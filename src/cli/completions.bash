# shellcheck shell=bash
# After `--` comes a command, with arguments of its own.
_buildproxy_or_command() {
    local at
    for ((at = 1; at < COMP_CWORD; at++)); do
        [[ ${COMP_WORDS[at]} == -- ]] || continue
        if declare -F _command_offset >/dev/null; then
            # Of the package bash-completion: as that command completes them.
            _command_offset $((at + 1))
        elif ((at + 1 == COMP_CWORD)); then
            mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
        fi
        # With nothing in COMPREPLY, names of files.
        return
    done
    _buildproxy "$@"
}
complete -F _buildproxy_or_command -o bashdefault -o default buildproxy
