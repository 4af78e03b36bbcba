# `rustPlatform.buildRustPackage`: checks what nixpkgs would need of its arguments and of the source, then installs the
# program that the tests have built already, from `config.prebuilt` or from `prebuilt/` beside this file.
{
  lib,
  stdenv,
  config,
}:
let
  prebuilt =
    let
      variable = builtins.getEnv "BUILDPROXY_TEST_PREBUILT";
    in
    if config ? prebuilt then
      config.prebuilt
    else if builtins.pathExists ./prebuilt then
      ./prebuilt
    else if variable != "" then
      /. + variable
    else
      throw (
        "the tests' nixpkgs compiles nothing: put the programs into nix/tests/stub/prebuilt, pass"
        + " config.prebuilt, or name their folder by BUILDPROXY_TEST_PREBUILT"
      );

  # Of a lock file: crates from elsewhere than the registry need a hash each.
  checkLock =
    {
      lockFile ? null,
      lockFileContents ? builtins.readFile lockFile,
      outputHashes ? { },
      allowBuiltinFetchGit ? false,
    }:
    let
      packages = (builtins.fromTOML lockFileContents).package;
      missing = lib.filter (
        package:
        lib.hasPrefix "git+" (package.source or "") && !outputHashes ? "${package.name}-${package.version}"
      ) packages;
    in
    if missing == [ ] || allowBuiltinFetchGit then
      packages
    else
      throw "No hash was found while vendoring the git dependency ${(lib.head missing).name}: use cargoLock.outputHashes";

  lockOf =
    attrs:
    if attrs ? cargoLock then
      checkLock attrs.cargoLock
    else if attrs ? cargoHash || attrs ? cargoDeps || attrs ? cargoVendorDir then
      null
    else
      throw "cargoHash, cargoVendorDir, cargoDeps, or cargoLock must be set";

  withDefaults =
    attrs:
    let
      packages = lockOf attrs;
      locked = lib.filter (
        package: package.name == attrs.pname && package.version == attrs.version
      ) packages;
      program = attrs.meta.mainProgram or attrs.pname;
      features =
        attrs.buildFeatures or [ ] ++ attrs.cargoBuildFlags or [ ] ++ attrs.cargoTestFlags or [ ];
    in
    assert lib.isList features;
    lib.throwIf (packages != null && locked == [ ])
      "${attrs.pname} ${attrs.version} is not in the lock file: is `version` that of Cargo.toml?"
      (
        removeAttrs attrs [ "cargoLock" ]
        // {
          strictDeps = attrs.strictDeps or true;
          lockFile = attrs.cargoLock.lockFile or "";
          prebuiltProgram = "${prebuilt}/${program}";
          inherit program;
          # The source is checked where nixpkgs would read it.
          buildPhase =
            attrs.buildPhase or ''
              runHook preBuild
              ${builtins.readFile ./rust-platform.sh}
              runHook postBuild
            '';
          # Its tests have run before.
          doCheck = false;
          installPhase =
            attrs.installPhase or ''
              runHook preInstall
              install -D -m 755 "$prebuiltProgram" "$out/bin/$program"
              runHook postInstall
            '';
        }
      );
in
{
  buildRustPackage =
    attrs:
    if lib.isFunction attrs then
      stdenv.mkDerivation (final: withDefaults (attrs final))
    else
      stdenv.mkDerivation (withDefaults attrs);
}
