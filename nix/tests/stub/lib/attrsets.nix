lib:
let
  inherit (builtins)
    attrNames
    foldl'
    isAttrs
    listToAttrs
    mapAttrs
    ;
in
{
  inherit (builtins)
    attrNames
    attrValues
    getAttr
    hasAttr
    intersectAttrs
    isAttrs
    listToAttrs
    mapAttrs
    removeAttrs
    zipAttrsWith
    ;

  nameValuePair = name: value: { inherit name value; };
  mapAttrs' = f: set: listToAttrs (lib.mapAttrsToList f set);
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  attrsToList = lib.mapAttrsToList lib.nameValuePair;
  genAttrs = names: f: listToAttrs (map (name: lib.nameValuePair name (f name)) names);
  genAttrs' = xs: f: listToAttrs (map f xs);
  filterAttrs =
    predicate: set:
    removeAttrs set (builtins.filter (name: !predicate name set.${name}) (attrNames set));
  concatMapAttrs = f: set: foldl' lib.mergeAttrs { } (lib.mapAttrsToList f set);
  foldlAttrs =
    f: first: set:
    foldl' (acc: name: f acc name set.${name}) first (attrNames set);
  optionalAttrs = condition: set: if condition then set else { };
  mergeAttrsList = foldl' lib.mergeAttrs { };
  zipAttrs = builtins.zipAttrsWith (_: values: values);
  getAttrs = names: set: lib.genAttrs names (name: set.${name});
  cartesianProduct =
    sets:
    foldl' (
      rows: name: lib.concatMap (row: map (value: row // { ${name} = value; }) sets.${name}) rows
    ) [ { } ] (attrNames sets);

  recursiveUpdate =
    a: b:
    a
    // mapAttrs (
      name: value:
      if isAttrs value && isAttrs (a.${name} or null) then lib.recursiveUpdate a.${name} value else value
    ) b;
  mapAttrsRecursive =
    f:
    let
      below =
        path:
        mapAttrs (
          name: value: if isAttrs value then below (path ++ [ name ]) value else f (path ++ [ name ]) value
        );
    in
    below [ ];
  attrByPath =
    path: default: set:
    if path == [ ] then
      set
    else if isAttrs set && set ? ${lib.head path} then
      lib.attrByPath (lib.tail path) default set.${lib.head path}
    else
      default;
  hasAttrByPath =
    path: set:
    path == [ ]
    || (
      isAttrs set && set ? ${lib.head path} && lib.hasAttrByPath (lib.tail path) set.${lib.head path}
    );
  getAttrFromPath =
    path: lib.attrByPath path (throw "cannot find attribute `${lib.concatStringsSep "." path}'");
  setAttrByPath = path: value: lib.foldr (name: inner: { ${name} = inner; }) value path;

  isDerivation = x: x.type or null == "derivation";
  recurseIntoAttrs = set: set // { recurseForDerivations = true; };
  dontRecurseIntoAttrs = set: set // { recurseForDerivations = false; };

  getOutput =
    output: package:
    if package.outputSpecified or false then package else package.${output} or package.out or package;
  getBin = lib.getOutput "bin";
  getDev = lib.getOutput "dev";
  getLib = lib.getOutput "lib";
}
