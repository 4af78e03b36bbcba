# A nixpkgs of the tests' own: the functions and packages that the code under test uses, with the interface that they
# have in nixpkgs. What it builds runs in Nix's real sandbox, with the programs of this machine's /usr: the sandbox has
# to be given them (`sandbox-paths`; tests/common/sandbox.rs has the list).
#
#   system    the system to build for, and on
#   overlays  `final: prev: { … }`, as in nixpkgs
#   config    `prebuilt`: a folder with the programs that `rustPlatform.buildRustPackage` installs instead of compiling
#   lib       the real `nixpkgs.lib` can take the place of the stub's
{
  system ? builtins.currentSystem,
  overlays ? [ ],
  config ? { },
  lib ? import (
    let
      real = builtins.getEnv "BUILDPROXY_TEST_NIXPKGS_LIB";
    in
    if real == "" then ./lib else /. + real
  ),
  # As nixpkgs calls the same.
  localSystem ? { inherit system; },
}:
let
  packages =
    final:
    let
      inherit (final) callPackage;
      stdenvs = import ./stdenv {
        inherit lib system;
        pkgs = final;
      };
      builders = callPackage ./trivial-builders.nix { };
      hostTools = import ./host-tools.nix { inherit lib system; };
    in
    hostTools
    // {
      inherit config lib overlays;
      inherit (localSystem) system;
      pkgs = final;
      callPackage = final.newScope { };
      newScope = extra: lib.callPackageWith (final // extra);
      # Nothing is built for another platform.
      buildPackages = final;
      pkgsBuildHost = final;
      targetPackages = final;

      inherit (stdenvs) stdenv stdenvNoCC;
      inherit (final.stdenv) hostPlatform buildPlatform targetPlatform;
      fetchurl = callPackage ./fetchurl.nix { };
      rustPlatform = callPackage ./rust-platform.nix { };
      inherit (builders)
        runCommand
        runCommandCC
        runCommandLocal
        runCommandWith
        writeText
        writeTextFile
        writeTextDir
        writeScript
        writeScriptBin
        writeShellScript
        writeShellScriptBin
        writeShellApplication
        makeSetupHook
        symlinkJoin
        linkFarm
        linkFarmFromDrvs
        mkShell
        mkShellNoCC
        ;

      extend =
        overlay:
        import ./. {
          inherit
            system
            config
            lib
            localSystem
            ;
          overlays = overlays ++ [ overlay ];
        };
    };
in
lib.fix (builtins.foldl' (lib.flip lib.extends) packages overlays)
