# `buildproxy`, `mkBuildproxy` and `mkBuildproxyShell` in the package set; the functions in `lib` as well, where packages
# written for nix-buildproxy look for them.
final: prev:
let
  scope = import ./. { pkgs = final; };
in
{
  inherit (scope) buildproxy mkBuildproxy mkBuildproxyShell;
  lib = prev.lib // {
    inherit (scope) mkBuildproxy mkBuildproxyShell;
  };
}
