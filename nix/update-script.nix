# `passthru.updateScript`: builds the package behind a capture, with the network, and writes the inventory anew.
{
  lib,
  buildproxy,
  writeShellScript,
}:
{
  # The hook's name.
  name,
  # The inventory as it was given.
  inventory,
  # Its place in the working tree, or null where that follows from `inventory`.
  inventoryFile,
  # The package, or null.
  package,
  # Whether requests to loopback are recorded, too.
  proxyLoopback,
  # The hook itself, which is not part of the build that is captured.
  hook,
}:
let
  path = toString inventory;

  # A flake's files are copies in the store: what follows the copy's own name is the place in the working tree.
  inFlake = builtins.match "${builtins.storeDir}/[^/]+/(.*)" path;

  target =
    if inventoryFile != null then
      toString inventoryFile
    else if !(lib.isPath inventory) then
      throw "buildproxy: the updateScript of ${name} has to know where to write: give mkBuildproxy `inventoryFile`"
    else if inFlake != null then
      lib.head inFlake
    else
      path;

  captured =
    if package == null then
      throw ''
        buildproxy: the updateScript of ${name} has to know what to build: give mkBuildproxy the package, as in
          mkBuildproxy { inventory = ./inventory.toml; package = finalAttrs.finalPackage; }''
    else
      package.overrideAttrs (old: {
        nativeBuildInputs = lib.filter (input: input != hook) (old.nativeBuildInputs or [ ]);
      });

  # What is needed is how to build it. Its inputs are built when the script runs.
  derivation = builtins.unsafeDiscardOutputDependency captured.drvPath;
in
writeShellScript "update-${name}" ''
  # update-${name} [INVENTORY]: builds the package with the network and records what it downloads.
  set -euo pipefail
  inventory=''${1-${lib.escapeShellArg target}}
  case $inventory in
  /*) ;;
  *) inventory=$PWD/$inventory ;;
  esac
  if [ ! -d "$(dirname "$inventory")" ]; then
    echo "buildproxy: cannot write $inventory: run this in the folder that it is relative to, or name another file" >&2
    exit 2
  fi
  work=$(mktemp -d)
  trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
  export NIX_BUILD_SHELL=''${NIX_BUILD_SHELL-bash} TMPDIR=$work work
  cd "$work"
  # The phases up to the one that compiles; what follows puts things into $out, which is no place in a shell.
  ${lib.getExe buildproxy} capture -i "$inventory" --prune ${lib.optionalString proxyLoopback "--proxy-loopback "}-- \
    nix-shell ${derivation} --run '
      set -eo pipefail
      export NIX_BUILD_TOP=$work out=$work/out prefix=$work/out
      phases=''${updatePhases-unpackPhase patchPhase ''${preConfigurePhases-} configurePhase ''${preBuildPhases-} buildPhase}
      genericBuild
    '
''
