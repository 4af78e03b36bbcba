# `mkBuildproxyShell ./inventory.toml`, with the options of `mkBuildproxy`: the program `buildproxy-shell`, which opens a
# shell, or runs a command, behind the replay.
{
  lib,
  writeShellScriptBin,
  mkBuildproxy,
}:
arguments:
let
  hook = mkBuildproxy arguments;
in
writeShellScriptBin "buildproxy-shell" ''
  if [ $# = 0 ]; then
    echo "buildproxy: this shell sees what the inventory has; \`exit\` leaves it and reports" >&2
    set -- "''${SHELL:-/bin/sh}"
  fi
  exec ${lib.getExe hook.buildproxy} replay -i ${hook.index} ${lib.escapeShellArgs hook.flags} -- "$@"
''
