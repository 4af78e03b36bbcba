lib:
let
  inherit (builtins)
    concatStringsSep
    filter
    genList
    isString
    match
    replaceStrings
    split
    stringLength
    substring
    ;

  upper = lib.stringToCharacters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  lower = lib.stringToCharacters "abcdefghijklmnopqrstuvwxyz";
in
{
  inherit (builtins)
    baseNameOf
    concatStringsSep
    dirOf
    hashString
    isString
    match
    readFile
    replaceStrings
    split
    splitVersion
    stringLength
    substring
    unsafeDiscardStringContext
    ;

  optionalString = condition: text: if condition then text else "";
  concatStrings = concatStringsSep "";
  concatMapStrings = f: xs: concatStringsSep "" (map f xs);
  concatMapStringsSep =
    separator: f: xs:
    concatStringsSep separator (map f xs);
  concatImapStringsSep =
    separator: f: xs:
    concatStringsSep separator (lib.imap1 f xs);
  concatLines = lib.concatMapStrings (line: line + "\n");
  join = concatStringsSep;
  intersperse =
    separator: xs:
    lib.tail (
      lib.concatMap (x: [
        separator
        x
      ]) xs
    );

  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix =
    suffix: text:
    let
      rest = stringLength text - stringLength suffix;
    in
    rest >= 0 && substring rest (-1) text == suffix;
  hasInfix =
    infix: text: match ".*${lib.escapeRegex infix}.*" "${replaceStrings [ "\n" ] [ " " ] text}" != null;
  removePrefix =
    prefix: text: if lib.hasPrefix prefix text then substring (stringLength prefix) (-1) text else text;
  removeSuffix =
    suffix: text:
    if lib.hasSuffix suffix text then
      substring 0 (stringLength text - stringLength suffix) text
    else
      text;

  stringToCharacters = text: genList (i: substring i 1 text) (stringLength text);
  splitString = separator: text: filter isString (split (lib.escapeRegex separator) text);
  toLower = replaceStrings upper lower;
  toUpper = replaceStrings lower upper;
  escape = characters: replaceStrings characters (map (c: "\\${c}") characters);
  escapeRegex = lib.escape (lib.stringToCharacters "\\[{()^$?*+|.");
  trim = text: builtins.head (match "[[:space:]]*(|.*[^[:space:]])[[:space:]]*" text);
  escapeXML = replaceStrings [ "\"" "'" "<" ">" "&" ] [ "&quot;" "&apos;" "&lt;" "&gt;" "&amp;" ];
  escapeNixString = text: lib.escape [ "$" ] (builtins.toJSON text);

  escapeShellArg =
    arg:
    let
      text = toString arg;
    in
    if match "[[:alnum:],._+:@%/-]+" text == null then
      "'${replaceStrings [ "'" ] [ "'\\''" ] text}'"
    else
      text;
  escapeShellArgs = lib.concatMapStringsSep " " lib.escapeShellArg;
  isValidPosixName = name: match "[a-zA-Z_][a-zA-Z0-9_]*" name != null;
  toShellVar =
    name: value:
    lib.throwIfNot (lib.isValidPosixName name) "toShellVar: ${name} is not a valid shell variable name"
      (
        if builtins.isAttrs value && !lib.isStringLike value then
          "declare -A ${name}=(${
            concatStringsSep " " (
              lib.mapAttrsToList (n: v: "[${lib.escapeShellArg n}]=${lib.escapeShellArg v}") value
            )
          })"
        else if builtins.isList value then
          "declare -a ${name}=(${lib.escapeShellArgs value})"
        else
          "${name}=${lib.escapeShellArg value}"
      );
  toShellVars = vars: concatStringsSep "\n" (lib.mapAttrsToList lib.toShellVar vars);

  isStringLike = x: isString x || builtins.isPath x || x ? outPath || x ? __toString;
  isStorePath =
    x:
    lib.isStringLike x && dirOf (toString x) == builtins.storeDir && substring 0 1 (toString x) == "/";
  hasContext = builtins.hasContext;
  fileContents = file: lib.removeSuffix "\n" (builtins.readFile file);
  toInt = builtins.fromJSON;
  fixedWidthString =
    width: filler: text:
    if stringLength text >= width then text else lib.fixedWidthString width filler (filler + text);

  # What Nix takes for the name of a store path.
  sanitizeDerivationName =
    text:
    let
      # Without the leading dots, and with each run of other characters as one dash.
      stripped = builtins.head (match "\\.*(.*)" (builtins.unsafeDiscardStringContext (toString text)));
      clean = lib.concatMapStrings (part: if isString part then part else "-") (
        split "[^[:alnum:]+._?=-]+" stripped
      );
      length = stringLength clean;
    in
    if clean == "" then "unknown" else substring (lib.max 0 (length - 207)) (-1) clean;

  getName =
    x:
    if isString x then
      (builtins.parseDrvName x).name
    else
      x.pname or (builtins.parseDrvName x.name).name;
  getVersion =
    x:
    if isString x then
      (builtins.parseDrvName x).version
    else
      x.version or (builtins.parseDrvName x.name).version;
  versionOlder = a: b: builtins.compareVersions b a == 1;
  versionAtLeast = a: b: !lib.versionOlder a b;

  makeSearchPath =
    folder: packages:
    concatStringsSep ":" (
      map (package: "${package}/${folder}") (filter (package: package != null) packages)
    );
  makeSearchPathOutput =
    output: folder: packages:
    lib.makeSearchPath folder (map (lib.getOutput output) packages);
  makeBinPath = lib.makeSearchPathOutput "bin" "bin";
  makeLibraryPath = lib.makeSearchPathOutput "lib" "lib";
}
