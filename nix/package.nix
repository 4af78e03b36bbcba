# The program `buildproxy`.
{
  lib,
  rustPlatform,
  stdenv,
}:
let
  manifest = lib.importTOML ../Cargo.toml;
in
rustPlatform.buildRustPackage {
  pname = manifest.package.name;
  inherit (manifest.package) version;

  # Only what is compiled: editing a test or a page of the documentation rebuilds nothing.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../benches
    ];
  };

  cargoLock.lockFile = ../Cargo.lock;

  # 23 ms less of CPU at each start; `.cargo/config.toml` has the reason.
  env.AWS_LC_SYS_NO_JITTER_ENTROPY = "1";

  # The tests capture from origins of their own and ask for curl, git, nginx, Nix and others: `./test` runs them.
  doCheck = false;

  # The program makes them of its own arguments, so it has to run here.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    buildproxy=$out/bin/buildproxy
    mkdir -p $out/share/{man/man1,bash-completion/completions,zsh/site-functions,fish/vendor_completions.d,elvish/lib,nushell/vendor/autoload}
    $buildproxy man $out/share/man/man1
    $buildproxy completions bash >$out/share/bash-completion/completions/buildproxy
    $buildproxy completions zsh >$out/share/zsh/site-functions/_buildproxy
    $buildproxy completions fish >$out/share/fish/vendor_completions.d/buildproxy.fish
    $buildproxy completions elvish >$out/share/elvish/lib/buildproxy.elv
    $buildproxy completions nushell >$out/share/nushell/vendor/autoload/buildproxy.nu
  '';

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    mainProgram = "buildproxy";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}
