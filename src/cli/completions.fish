# After `--` comes a command, with arguments of its own: as fish completes them.
function __buildproxy_command
    set -l words (commandline -opc)
    set -l command $words[(math (contains -i -- -- $words) + 1)..-1]
    complete -C (string join ' ' -- (string escape -- $command) (commandline -ct))
end
complete -c buildproxy -n 'contains -- -- (commandline -opc)' -x -a '(__buildproxy_command)'
