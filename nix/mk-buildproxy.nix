# `mkBuildproxy ./inventory.toml`: a setup hook that answers what a build downloads, from the store.
#
#     nativeBuildInputs = [ (mkBuildproxy ./inventory.toml) ];
#
# The hook is one file, so `source ${mkBuildproxy ./inventory.toml}` in a phase or a script works as well.
{
  lib,
  buildproxy,
  fetchurl,
  runCommand,
  writeTextFile,
  writeShellScript,
  stdenv,
  callPackage,
}:
let
  readInventory = import ./inventory { inherit lib fetchurl; };
  locate = import ./bodies.nix {
    inherit lib fetchurl;
    system = stdenv.hostPlatform.system;
  };
  applyPatches = callPackage ./patch-body.nix { };
  makeUpdateScript = import ./update-script.nix { inherit lib buildproxy writeShellScript; };

  make =
    {
      # What `buildproxy capture` wrote (a path), or a string with the path of a derivation's file, or the data itself; a lock
      # file of mitm-cache (.json) or a proxy_content.nix of nix-buildproxy; or a list of these, one behind the other.
      inventory,
      # The name of the hook's store path.
      name ? "buildproxy-hook",
      # Other artifacts for URLs of the inventory: `overrides."https://…" = drv;`, a derivation or a path that is one file.
      overrides ? { },
      # Patches for what URLs of the inventory give, text or archive: `patches."https://…" = [ ./fix.patch ];`. Those for an
      # archive are applied with -p1 inside its one top folder, or at its top where it has more.
      patches ? { },
      # More entries, in the inventory's own form; the `store-path` of a body can be a derivation or a path.
      extraEntries ? [ ],
      # Whether the build fails when it asks for what the inventory has not.
      strict ? true,
      # The status of the answer to such a request. Some clients try the next mirror on 404 only.
      missStatus ? 404,
      # Whether requests to loopback are answered from the inventory, too.
      proxyLoopback ? false,
      # Whether every body is hashed before its first use; what Nix fetched it has hashed already.
      checkBodies ? false,
      # The package that the inventory is for: `passthru.updateScript` builds it anew behind a capture.
      package ? null,
      # The inventory's place in the working tree, from the folder that `passthru.updateScript` is run in. Found out where the
      # inventory is a path.
      inventoryFile ? null,
    }:
    let
      data = readInventory inventory;
      located = locate {
        entries = data.entry ++ map (entry: entry // { folder = null; }) extraEntries;
        inherit overrides patches applyPatches;
      };

      # What replay reads: it starts at once, however many entries there are. Its references keep the bodies.
      index =
        runCommand "${name}-inventory"
          {
            nativeBuildInputs = [ buildproxy ];
            # An entry a line, for messages.
            inventory = ''
              {"version":1,"match":${builtins.toJSON data.match},"entry":[
              ${lib.concatMapStringsSep ",\n" builtins.toJSON located.entries}
              ]}
            '';
            passAsFile = [ "inventory" ];
            preferLocalBuild = true;
            allowSubstitutes = false;
          }
          ''
            buildproxy index -q -i "$inventoryPath" -o "$out"
          '';

      flags =
        lib.optionals (!strict) [ "--allow-misses" ]
        ++ lib.optionals (missStatus != 404) [
          "--miss-status"
          (toString missStatus)
        ]
        ++ lib.optionals proxyLoopback [ "--proxy-loopback" ]
        ++ lib.optionals checkBodies [ "--check-bodies" ];

      hook = writeTextFile {
        inherit name;
        text =
          builtins.replaceStrings
            [
              "@buildproxy@"
              "@index@"
              "@flags@"
            ]
            [
              (lib.getExe buildproxy)
              "${index}"
              (lib.escapeShellArgs flags)
            ]
            (builtins.readFile ./setup-hook.sh);
        passthru = {
          inherit index flags buildproxy;
          # What Nix fetches, each body a derivation of its own.
          inherit (located) bodies;
          updateScript = makeUpdateScript {
            inherit
              name
              inventory
              inventoryFile
              package
              proxyLoopback
              hook
              ;
          };
          tests = {
            # Every body is there and has its hash, and the entries do not contradict each other.
            verified = runCommand "${name}-verified" { nativeBuildInputs = [ buildproxy ]; } ''
              export HOME=$TMPDIR
              buildproxy verify -i ${index} 2>&1 | tee "$out"
            '';
            # The server starts, gives its environment and stops.
            starts = runCommand "${name}-starts" { } ''
              source ${hook}
              printf '%s\n' "$BUILDPROXY_PROXY_URL" >"$out"
              buildproxyStop
            '';
          };
        };
        meta = {
          description = "Setup hook that answers what a build downloads, from the store";
        };
      };
    in
    hook;
in
arguments:
make (
  if
    builtins.isAttrs arguments
    && !(lib.isDerivation arguments)
    && !(arguments ? version)
    && !(arguments ? "!version")
  then
    arguments
  else
    { inventory = arguments; }
)
