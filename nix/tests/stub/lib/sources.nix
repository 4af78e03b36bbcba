# What of a folder gets into the store.
lib:
let
  # A filtered source keeps what it was made of, so that it can be filtered again.
  unfiltered =
    src:
    if src ? _isLibCleanSourceWith then
      src
    else
      {
        origSrc = src;
        filter = _: _: true;
        name = "source";
      };
in
{
  cleanSourceFilter =
    name: type:
    let
      base = baseNameOf (toString name);
    in
    !(
      base == ".git"
      || (
        type == "directory"
        && lib.elem base [
          ".svn"
          "CVS"
          ".hg"
          ".jj"
        ]
      )
      || lib.hasSuffix "~" base
      || builtins.match "^\\.sw[a-z]$" base != null
      || builtins.match "^\\..*\\.sw[a-z]$" base != null
      || lib.hasSuffix ".o" base
      || lib.hasSuffix ".so" base
      || (type == "symlink" && lib.hasPrefix "result" base)
      || type == "unknown"
    );

  cleanSource =
    src:
    lib.cleanSourceWith {
      filter = lib.cleanSourceFilter;
      inherit src;
    };

  cleanSourceWith =
    {
      src,
      filter ? _: _: true,
      name ? null,
    }:
    let
      inner = unfiltered src;
      both = path: type: filter path type && inner.filter path type;
      name' = if name != null then name else inner.name;
    in
    {
      _isLibCleanSourceWith = true;
      inherit (inner) origSrc;
      filter = both;
      name = name';
      outPath = builtins.path {
        path = inner.origSrc;
        filter = both;
        name = name';
      };
    };

  sourceByRegex =
    src: regexes:
    lib.cleanSourceWith {
      filter =
        path: _:
        let
          relative = lib.removePrefix "${toString (unfiltered src).origSrc}/" (toString path);
        in
        lib.any (regex: builtins.match regex relative != null) regexes;
      inherit src;
    };

  sourceFilesBySuffices =
    src: suffixes:
    lib.cleanSourceWith {
      filter =
        path: type:
        type == "directory" || lib.any (suffix: lib.hasSuffix suffix (baseNameOf path)) suffixes;
      inherit src;
    };
}
