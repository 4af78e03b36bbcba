# Sets of files: `lib.fileset` of nixpkgs. A path is the set of all files below it.
lib:
let
  # `contains` says of a file whether it is in the set, `reaches` of a folder whether it is worth looking into: what is
  # not is never read, however large it is.
  make = contains: reaches: {
    _type = "fileset";
    inherit contains reaches;
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

  isBelow = top: path: path == top || lib.hasPrefix "${top}/" path;

  below =
    path:
    let
      top = toString path;
    in
    make (isBelow top) (folder: isBelow top folder || isBelow folder top);

  ask =
    question: combine: sets: path:
    combine (map (set: (coerce set).${question} path) sets);
  either = lib.any lib.id;
  each = lib.all lib.id;
in
{
  maybeMissing = path: if builtins.pathExists path then below path else make (_: false) (_: false);
  unions = sets: make (ask "contains" either sets) (ask "reaches" either sets);
  union =
    a: b:
    lib.fileset.unions [
      a
      b
    ];
  intersection =
    a: b:
    make
      (ask "contains" each [
        a
        b
      ])
      (
        ask "reaches" each [
          a
          b
        ]
      );
  difference =
    a: b: make (path: (coerce a).contains path && !(coerce b).contains path) (coerce a).reaches;

  # The files below `root` for which `predicate { name, type, hasExt }` holds.
  fileFilter =
    predicate: root:
    let
      all = below root;
      contains =
        path:
        all.contains path
        && predicate {
          name = baseNameOf path;
          type = "regular";
          hasExt = ext: lib.hasSuffix ".${ext}" (baseNameOf path);
        };
      item =
        folder: name: type:
        if type == "directory" then has "${folder}/${name}" else contains "${folder}/${name}";
      has = folder: either (lib.mapAttrsToList (item folder) (builtins.readDir folder));
    in
    make contains (folder: if all.contains folder then has folder else all.reaches folder);

  toSource =
    { root, fileset }:
    let
      set = coerce fileset;
    in
    lib.cleanSourceWith {
      name = "source";
      src = root;
      filter = path: type: if type == "directory" then set.reaches path else set.contains path;
    };
}
