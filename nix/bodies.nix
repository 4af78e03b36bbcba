# Gives every body of an inventory a file in the store: what Nix fetches, what lies beside the inventory, what was put in
# the place of something else.
{
  lib,
  fetchurl,
  # The system that builds; entries that are for others are left out.
  system,
}:
{
  # Entries with the `folder` that their files are in.
  entries,
  # Files by URL.
  overrides,
  # Lists of patches by URL.
  patches,
  # Makes a patched file.
  applyPatches,
}:
let
  names = import ./inventory/names.nix { inherit lib; };

  isHere =
    entry:
    let
      systems = entry.systems or [ ];
    in
    systems == [ ] || lib.elem system systems;

  here = lib.filter isHere entries;

  isFetched =
    entry:
    let
      body = entry.body or { };
    in
    body ? hash && !(body ? file || body ? text || body ? store-path);

  urlOf = entry: entry.body.fetch or entry.url;

  # Entries with the same bytes under the same name are one derivation, with all their URLs to try.
  fetchKey = entry: "${entry.body.hash} ${entry.body.name or (unnamed entry)}";

  unnamed =
    entry:
    throw ''
      buildproxy: the body of ${entry.url} has no `name`, so it has no store path.
      Capture it again, or write the name into the inventory: the last segment of the URL's path.'';

  fetched = lib.mapAttrs (
    _: same:
    let
      first = lib.head same;
    in
    fetchurl {
      inherit (first.body) hash;
      name = first.body.name;
      urls = lib.unique (map urlOf same);
    }
  ) (lib.groupBy fetchKey (lib.filter (entry: isFetched entry && !(overrides ? ${entry.url})) here));

  # The file of a body that lies beside the inventory, under the store path that its name and hash give it.
  beside =
    entry:
    let
      inherit (entry.body) file;
      path = entry.folder + "/${file}";
    in
    if entry.folder == null then
      throw ''
        buildproxy: ${entry.url}: the body is in `${file}`, and there is no folder that this could be in.
        Give the inventory as a path, or the body as `store-path`.''
    else if lib.hasPrefix "/" file || lib.elem ".." (lib.splitString "/" file) then
      throw "buildproxy: ${entry.url}: the body's file `${file}` is not below the inventory's folder: move it there"
    else if !(builtins.pathExists path) then
      throw ''
        buildproxy: ${entry.url}: the body's file ${toString path} does not exist.
        Commit it beside the inventory (a flake sees only what `git add` was told of), or capture it again.''
    else if !(hasHash path entry.body.hash) then
      throw ''
        buildproxy: ${entry.url}: the body's file ${toString path} does not have the hash ${entry.body.hash}.
        Restore it from version control, or capture it again.''
    else
      builtins.path {
        inherit path;
        name = entry.body.name or (baseNameOf file);
        recursive = false;
      };

  # Whether the file has the hash, which can be of any algorithm and spelling. Nix compares hashes where it makes store
  # paths of them.
  hasHash =
    path: hash:
    let
      algorithm = lib.head (builtins.split "[-:]" hash);
      storePath =
        outputHash:
        (derivation {
          name = "hash";
          system = "none";
          builder = "none";
          outputHashMode = "flat";
          outputHashAlgo = null;
          inherit outputHash;
        }).outPath;
    in
    storePath "${algorithm}:${builtins.hashFile algorithm path}" == storePath hash;

  # A string with the context that keeps the store path; one from a file has none.
  inStore =
    path:
    let
      object = builtins.match "(${builtins.storeDir}/[^/]+).*" path;
    in
    if lib.isDerivation path || lib.isPath path then
      "${path}"
    else if builtins.hasContext path || object == null then
      path
    else
      builtins.appendContext path { ${lib.head object}.path = true; };

  # The body with its bytes in the store.
  placed =
    entry:
    let
      body = entry.body;
      at =
        path:
        removeAttrs body [
          "fetch"
          "file"
          "text"
        ]
        // {
          store-path = path;
        };
    in
    if body ? text && body ? hash then
      body
    else if body ? text then
      at (builtins.toFile (body.name or "text") body.text)
    else if body ? store-path then
      body // { store-path = inStore body.store-path; }
    else if body ? file then
      at "${beside entry}"
    else if !(body ? hash) then
      throw "buildproxy: the body of ${entry.url} has no `hash`: capture it again, or take it from `store-path`"
    else
      at "${fetched.${fetchKey entry}}";

  # The file that a body's bytes are in, for those who change them.
  fileOf =
    entry:
    if !(entry ? body) then
      throw "buildproxy: patches.\"${entry.url}\": the answer has no body that could be patched"
    else if entry.body ? text then
      builtins.toFile (entry.body.name or "text") entry.body.text
    else
      (placed entry).store-path;

  # What replaces the entry's body, or null.
  replacement =
    entry:
    let
      given = overrides.${entry.url} or null;
      patchesHere = patches.${entry.url} or [ ];
    in
    if (entry.method or "GET") != "GET" then
      null
    else if patchesHere != [ ] then
      applyPatches {
        file = if given != null then given else fileOf entry;
        patches = lib.toList patchesHere;
        inherit (entry) url;
        name = entry.body.name or (names.ofUrl entry.url);
      }
    else
      given;

  answer =
    entry:
    let
      replaced = replacement entry;
      plain = removeAttrs entry [ "folder" ];
    in
    if replaced != null then
      # Without a hash: replay then leaves out what the headers say of the bytes.
      plain // { body.store-path = inStore replaced; }
    else if entry ? body then
      plain // { body = placed entry; }
    else
      plain;

  # Every URL that something was given for has to be one of the inventory's.
  checked =
    what: given: result:
    let
      unknown = lib.filter (url: !(lib.any (entry: entry.url == url) entries)) (lib.attrNames given);
      url = lib.head unknown;
      near = lib.filter (entry: baseNameOf entry.url == baseNameOf url) entries;
    in
    if unknown == [ ] then
      result
    else
      throw ''
        buildproxy: ${what}."${url}": the inventory has no entry for this URL.
        ${
          if near == [ ] then
            "URLs are spelled as in the inventory; what is not in it goes to `extraEntries`."
          else
            "Did you mean one of these?\n${lib.concatMapStringsSep "\n" (entry: "  ${entry.url}") near}"
        }'';
in
checked "overrides" overrides (
  checked "patches" patches {
    # The entries for this system, each body with the place of its bytes.
    entries = map answer here;
    # The derivations of what Nix fetches.
    bodies = lib.attrValues fetched;
  }
)
