# Sets of files: `lib.fileset` of nixpkgs. A set is a predicate on the paths of files; a path is the set of what is below.
lib:
let
  make = contains: {
    _type = "fileset";
    inherit contains;
  };

  coerce =
    set:
    if set._type or null == "fileset" then
      set
    else if !builtins.isPath set then
      throw "lib.fileset: expected a path or a file set, but it is a ${builtins.typeOf set}"
    else if !builtins.pathExists set then
      throw "lib.fileset: ${toString set} is a path that does not exist; lib.fileset.maybeMissing allows that"
    else
      below set;

  below = top: make (path: path == toString top || lib.hasPrefix "${toString top}/" path);

  # Whether a folder has a file of the set in it: Nix asks for the folder before it asks for what is inside.
  reaches =
    set: path:
    let
      item =
        name: type:
        if type == "directory" then reaches set "${path}/${name}" else set.contains "${path}/${name}";
    in
    lib.any lib.id (lib.mapAttrsToList item (builtins.readDir path));

  fold = f: sets: make (path: f (map (set: (coerce set).contains path) sets));
in
{
  maybeMissing = path: if builtins.pathExists path then coerce path else make (_: false);
  unions = fold (lib.any lib.id);
  union =
    a: b:
    lib.fileset.unions [
      a
      b
    ];
  intersection =
    a: b:
    fold (lib.all lib.id) [
      a
      b
    ];
  difference = a: b: make (path: (coerce a).contains path && !(coerce b).contains path);

  # The files below `root` for which `predicate { name, type, hasExt }` holds.
  fileFilter =
    predicate: root:
    make (
      path:
      (below root).contains path
      && predicate {
        name = baseNameOf path;
        type = "regular";
        hasExt = ext: lib.hasSuffix ".${ext}" (baseNameOf path);
      }
    );

  toSource =
    { root, fileset }:
    let
      set = coerce fileset;
    in
    lib.cleanSourceWith {
      name = "source";
      src = root;
      filter = path: type: if type == "directory" then reaches set path else set.contains path;
    };
}
