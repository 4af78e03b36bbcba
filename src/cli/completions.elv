# What is generated knows no values: after an option, those that it has; names of files; and after `--` a command.
var buildproxy-words = $edit:completion:arg-completer[buildproxy]
set edit:completion:arg-completer[buildproxy] = {|@words|
    var last = (count $words[..-1])
    if (has-value $words[..-1] --) {
        var command = $words
        while (not-eq $command[0] --) { set command = $command[1..] }
        edit:complete-sudo $@command
    } elif (< $last 2) {
        $buildproxy-words $@words
    } elif (has-key $buildproxy-values $words[1]' '$words[(- $last 1)]) {
        all $buildproxy-values[$words[1]' '$words[(- $last 1)]]
    } else {
        # Which would take names of files for commands.
        $buildproxy-words $words[0] $words[1] $words[-1]
        edit:complete-filename $words[-1]
    }
}
