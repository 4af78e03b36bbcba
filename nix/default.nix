# Everything that buildproxy has for Nix, for one package set.
{
  # A nixpkgs package set.
  pkgs,
}:
let
  # What runs in a build runs on the machine that builds, whatever the package is for.
  inherit (pkgs) buildPackages;
  buildproxyForBuild = buildPackages.callPackage ./package.nix { };
in
rec {
  # The program, for the packages' own platform.
  buildproxy = pkgs.callPackage ./package.nix { };

  # `mkBuildproxy ./inventory.toml`, or with options: a setup hook that replays the inventory to a build.
  mkBuildproxy = buildPackages.callPackage ./mk-buildproxy.nix { buildproxy = buildproxyForBuild; };

  # `mkBuildproxyShell ./inventory.toml`, with the same options: a program that opens a shell behind the replay.
  mkBuildproxyShell = buildPackages.callPackage ./mk-buildproxy-shell.nix { inherit mkBuildproxy; };
}
