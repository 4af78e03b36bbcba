# `stdenv` and `stdenv.mkDerivation`.
{
  lib,
  system,
  pkgs,
}:
let
  # What `stdenv.hostPlatform` says of a system.
  platform =
    let
      parts = lib.splitString "-" system;
      cpu = lib.head parts;
      kernel = lib.last parts;
    in
    {
      inherit system;
      config = if kernel == "darwin" then "${cpu}-apple-darwin" else "${cpu}-unknown-linux-gnu";
      isLinux = kernel == "linux";
      isDarwin = kernel == "darwin";
      isUnix = true;
      isWindows = false;
      isx86_64 = cpu == "x86_64";
      isAarch64 = cpu == "aarch64";
      isStatic = false;
      isMusl = false;
      is64bit = true;
      parsed = {
        cpu.name = cpu;
        kernel.name = kernel;
      };
      rust.rustcTarget = if kernel == "darwin" then "${cpu}-apple-darwin" else "${cpu}-unknown-linux-gnu";
      canExecute = other: other.system == system;
      extensions = {
        sharedLibrary = if kernel == "darwin" then ".dylib" else ".so";
        executable = "";
      };
      emulatorAvailable = _: false;
    };

  # One package that `$stdenv` names: its `setup` is what a builder sources first.
  make =
    name: cc:
    let
      setup = derivation {
        inherit name system;
        builder = "/bin/bash";
        setup = ./setup.sh;
        phases = ./phases.sh;
        initialPath = [ pkgs.commonPath ];
        defaultNativeBuildInputs = lib.optional (cc != null) cc;
        preferLocalBuild = true;
        args = [
          "-euc"
          ''
            PATH=/usr/bin:/bin
            mkdir "$out"
            {
                printf 'export SHELL=/bin/bash\ninitialPath="%s"\n' "$initialPath"
                printf 'defaultNativeBuildInputs="%s"\n' "$defaultNativeBuildInputs"
                cat "$setup"
            } >"$out/setup"
            # Not last: bash would become cp, which closes its output before it exits, and Nix kills a builder that does.
            cp "$phases" "$out/phases"
            exit 0
          ''
        ];
      };
    in
    setup
    // {
      inherit cc;
      inherit (platform)
        isLinux
        isDarwin
        isx86_64
        isAarch64
        ;
      hasCC = cc != null;
      shell = "/bin/bash";
      hostPlatform = platform;
      buildPlatform = platform;
      targetPlatform = platform;
      mkDerivation = import ./make-derivation.nix { inherit lib system setup; };
    };
in
{
  stdenv = make "stdenv-linux" pkgs.gcc;
  stdenvNoCC = make "stdenv-linux-nocc" null;
}
