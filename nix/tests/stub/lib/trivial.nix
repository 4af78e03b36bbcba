# Functions, extensions, warnings, files.
lib:
let
  inherit (builtins) functionArgs isFunction;

  fix =
    f:
    let
      x = f x;
    in
    x;

  composeExtensions =
    f: g: final: prev:
    let
      first = f final prev;
      prev' = prev // first;
    in
    first // g final prev';

  fixedPoints = {
    inherit fix composeExtensions;
    extends =
      overlay: f: final:
      let
        prev = f final;
      in
      prev // overlay final prev;
    composeManyExtensions = lib.foldr composeExtensions (_: _: { });
    toExtension =
      f:
      if !lib.isFunction f then
        _: _: f
      else
        final: prev:
        let
          once = f prev;
        in
        # `final: prev: …`, or only `prev: …`.
        if lib.isFunction once then f final prev else once;
  };
in
fixedPoints
// {
  inherit fixedPoints;

  id = x: x;
  const = x: _: x;
  flip =
    f: a: b:
    f b a;
  pipe = builtins.foldl' (x: f: f x);
  mergeAttrs = a: b: a // b;
  min = a: b: if a < b then a else b;
  max = a: b: if a > b then a else b;
  mod = a: b: a - b * (a / b);
  boolToString = b: if b then "true" else "false";

  # A function, or a set that is called as one.
  isFunction = f: isFunction f || (f ? __functor && lib.isFunction (f.__functor f));
  functionArgs = f: f.__functionArgs or (functionArgs f);
  setFunctionArgs = f: args: {
    __functor = _: f;
    __functionArgs = args;
  };
  mirrorFunctionArgs = f: g: lib.setFunctionArgs g (lib.functionArgs f);
  toFunction = v: if lib.isFunction v then v else _: v;

  importJSON = path: builtins.fromJSON (builtins.readFile path);
  importTOML = path: builtins.fromTOML (builtins.readFile path);

  warn = message: builtins.trace "evaluation warning: ${message}";
  warnIf = condition: message: if condition then lib.warn message else x: x;
  warnIfNot = condition: lib.warnIf (!condition);
  throwIf = condition: message: if condition then throw message else x: x;
  throwIfNot = condition: lib.throwIf (!condition);
  assertMsg = condition: message: condition || throw message;
  showWarnings = warnings: x: builtins.foldl' (x: message: lib.warn message x) x warnings;

  trivial.release = "0.0";
  versions = {
    major = version: builtins.elemAt (builtins.splitVersion version) 0;
    minor = version: builtins.elemAt (builtins.splitVersion version) 1;
  };

  inherit (builtins)
    add
    addErrorContext
    bitAnd
    compareVersions
    deepSeq
    fromJSON
    fromTOML
    isBool
    isFloat
    isInt
    isPath
    lessThan
    pathExists
    readDir
    readFile
    seq
    sub
    throw
    toJSON
    trace
    tryEval
    typeOf
    ;
}
