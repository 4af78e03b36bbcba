# Reads what `mkBuildproxy` takes for an inventory and gives it in one form:
#
#     { match = { … }; entry = [ { folder, …an entry as the inventory has it… } ]; }
#
# where `folder` is what the entry's `file` body is relative to, or null.
{
  lib,
  fetchurl,
}:
let
  fromMitmCache = import ./mitm-cache.nix { inherit lib; };
  fromNixBuildproxy = import ./nix-buildproxy.nix { inherit lib fetchurl; };

  # The data of one file, by the end of its name.
  readFile =
    path:
    let
      ends = suffix: lib.hasSuffix suffix (toString path);
    in
    builtins.addErrorContext "while reading the inventory ${toString path}" (
      if ends ".toml" then
        builtins.fromTOML (builtins.readFile path)
      else if ends ".json" then
        builtins.fromJSON (builtins.readFile path)
      else if ends ".nix" then
        import path
      else
        throw ''
          buildproxy: ${toString path} is no inventory by its name.
          It has to end in .toml (an inventory), .json (an inventory, or a lock file of mitm-cache) or .nix (a
          proxy_content.nix of nix-buildproxy).''
    );

  # `data` in the inventory's own form, whatever it was made by.
  convert =
    what: data:
    if builtins.isFunction data || builtins.isList data then
      fromNixBuildproxy what data
    else if !(builtins.isAttrs data) then
      throw "buildproxy: ${what} is ${builtins.typeOf data}, and no inventory: record one with `buildproxy capture -- COMMAND`"
    else if data ? "!version" then
      fromMitmCache what data
    else if data.version or null == 1 then
      data
    else if data ? version then
      throw ''
        buildproxy: ${what} is an inventory of version ${toString data.version}, and this is the buildproxy of version 1.
        Take a newer buildproxy, or capture again with this one.''
    else
      throw ''
        buildproxy: ${what} has no `version`, so it is no inventory.
        An inventory begins with `version = 1`; `buildproxy capture -- COMMAND` records one.'';

  isFile =
    inventory: builtins.isPath inventory || builtins.isString inventory || lib.isDerivation inventory;

  read =
    inventory:
    if !(isFile inventory) then
      place null (convert "what was given as the inventory" inventory)
    else
      let
        # A string is a file of a derivation, such as "${src}/inventory.toml".
        path = if builtins.isPath inventory then inventory else "${inventory}";
      in
      if !(builtins.pathExists path) then
        throw ''
          buildproxy: there is no inventory at ${toString path}.
          Record one where the network is: `buildproxy capture -i ${baseNameOf path} -- COMMAND`.
          A flake sees only what git tracks: `git add ${baseNameOf path}` if it is there.''
      else
        place (dirOf path) (convert (toString path) (readFile path));

  place =
    folder: data:
    data
    // {
      match = data.match or { };
      entry = map (entry: entry // { inherit folder; }) (data.entry or [ ]);
    };

  # The rules of several inventories one behind the other.
  both = a: b: {
    entry = a.entry ++ b.entry;
    match = lib.zipAttrsWith (_: lib.concatLists) [
      a.match
      b.match
    ];
  };
in
# An inventory: a path, a string with the path of a derivation's file, the data itself, or a list of these.
inventory:
if builtins.isList inventory && lib.all (one: isFile one || (one ? version)) inventory then
  lib.foldl' both {
    match = { };
    entry = [ ];
  } (map read inventory)
else
  read inventory
