# The shorter lock files that nixpkgs has for Gradle, expanded to those of mitm-cache. `buildproxy import` reads the same.
#
# The names on the way to a hash, joined by `/`, are a URL but for its last extension; what is behind `#` is the name and the
# version of a Maven artifact. Of a `maven-metadata.xml` there is only what the other URLs do not tell.
{ lib }:
let
  leaves =
    what: path: value:
    if lib.isAttrs value && value != { } && !(value ? groupId) then
      lib.concatLists (lib.mapAttrsToList (name: leaves what (path ++ [ name ])) value)
    else if lib.length path < 2 then
      throw "buildproxy: ${what}: ${lib.concatStringsSep "/" path} is none of what lock files have"
    else
      [
        {
          name = "${expanded what (lib.concatStringsSep "/" (lib.init path))}.${lib.last path}";
          inherit value;
        }
      ];

  # `repository#artifact/version` in the layout of Maven.
  expanded =
    what: text:
    let
      parts = lib.splitString "#" text;
      found = builtins.match "([^/]*)/([^/]*)(/SNAPSHOT)?(/(.*))?" (lib.last parts);
      part = lib.elemAt found;
      # A snapshot's folder has no time and number.
      timed = if part 2 == null then null else builtins.match "(.*)-[^-]*-[^-]*" (part 1);
      folder = if timed == null then part 1 else "${lib.head timed}-SNAPSHOT";
      classifier = lib.optionalString (part 4 != null) "-${part 4}";
    in
    if lib.length parts == 1 then
      text
    else if found == null then
      throw "buildproxy: ${what}: what is behind `#` in ${text} is not the name and the version of an artifact"
    else
      lib.concatStringsSep "/${part 0}/${folder}/" (
        lib.init parts ++ [ "${part 0}-${part 1}${classifier}" ]
      );

  # What the URL of a file of a repository says of it.
  artifactOf =
    url:
    let
      segments = lib.splitString "/" url;
      fromEnd = n: lib.elemAt segments (lib.length segments - n);
      extension = lib.last (lib.splitString "." url);
      rest = lib.removePrefix "${fromEnd 3}-" (lib.removeSuffix ".${extension}" (fromEnd 1));
      isSnapshot = lib.hasSuffix "-SNAPSHOT" (fromEnd 2);
      version =
        if isSnapshot && !(lib.hasPrefix "SNAPSHOT" rest) then
          lib.concatStringsSep "-" (lib.take 3 (lib.splitString "-" rest))
        else
          fromEnd 2;
    in
    {
      inherit extension isSnapshot version;
      classifier = if rest == version then null else lib.removePrefix "${version}-" rest;
    };

  withoutRepetitions = lib.foldl' (
    all: one: if all != [ ] && (lib.last all).version == one.version then all else all ++ [ one ]
  ) [ ];

  lines = lib.concatMapStrings (line: line + "\n");

  # The bytes that nixpkgs gives `url`, with all of their oddities, which builds were made with.
  metadata =
    what: url: known: urls:
    let
      base = lib.removeSuffix "/maven-metadata.xml" url;
      folders = lib.splitString "/" base;
      ofSnapshot = lib.hasSuffix "-SNAPSHOT" base;
      artifact = lib.elemAt folders (lib.length folders - (if ofSnapshot then 2 else 1));

      files = lib.sort (a: b: builtins.compareVersions a.version b.version < 0) (
        map artifactOf (lib.filter (other: lib.hasPrefix base other && other != url) urls)
      );
      distinct = withoutRepetitions files;
      versions = map (file: file.version) distinct;
      releases = lib.filter (file: !file.isSnapshot) distinct;
      release = known.release or (if releases == [ ] then null else (lib.last releases).version);
      latest = known.latest or known.release or (lib.last versions);
      # Gradle need not have taken them.
      others = lib.filter (version: version != null && !(lib.elem version versions)) (
        [ release ] ++ lib.optional (latest != release) latest
      );

      time = version: lib.elemAt (lib.splitString "-" version) 1;
      withoutDot = lib.replaceStrings [ "." ] [ "" ];
      updated = known.lastUpdated or (if ofSnapshot then withoutDot (time latest) else "20240101123456");

      isPlain = text: builtins.match "[^<>\"'&]*" text != null;
      isRight =
        lib.hasInfix "${lib.replaceStrings [ "." ] [ "/" ] known.groupId}/${artifact}" url
        && lib.all isPlain (
          [
            known.groupId
            updated
          ]
          ++ lib.optionals (!ofSnapshot) (
            lib.filter (version: version != null) [
              latest
              release
            ]
          )
        );
    in
    if !isRight then
      throw "buildproxy: ${what}: what it says of ${url} is not right: ${builtins.toJSON known}"
    else
      lines (
        [
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
          "<metadata modelVersion=\"1.1.0\">"
          "  <groupId>${known.groupId}</groupId>"
          "  <artifactId>${artifact}</artifactId>"
        ]
        ++ (
          if ofSnapshot then
            [
              "  <version>${lib.last folders}</version>"
              "  <versioning>"
              "    <snapshot>"
              "      <timestamp>${time latest}</timestamp>"
              "      <buildNumber>${lib.last (lib.splitString "-" latest)}</buildNumber>"
              "    </snapshot>"
              "    <lastUpdated>${updated}</lastUpdated>"
              "    <snapshotVersions>"
            ]
            ++ lib.concatMap (
              file:
              [ "      <snapshotVersion>" ]
              # Further in than the others.
              ++ lib.optional (
                file.classifier != null
              ) "              <classifier>${file.classifier}</classifier>"
              ++ [
                "        <extension>${file.extension}</extension>"
                "        <value>${file.version}</value>"
                "        <updated>${withoutDot (time file.version)}</updated>"
                "      </snapshotVersion>"
              ]
            ) files
            ++ [ "    </snapshotVersions>" ]
          else
            [
              "  <versioning>"
              "    <latest>${latest}</latest>"
              (lib.optionalString (release != null) "    <release>${release}</release>")
              "    <versions>"
            ]
            ++ map (version: "      <version>${version}</version>") (versions ++ others)
            ++ [
              "    </versions>"
              "    <lastUpdated>${updated}</lastUpdated>"
            ]
        )
        ++ [
          "  </versioning>"
          "</metadata>"
        ]
      );
in
# `what` is how messages call it.
what: data:
let
  # Where two are the same URL, the last in the order of the names counts.
  all = lib.concatLists (lib.mapAttrsToList (name: leaves what [ name ]) data);
  found = lib.foldl' (urls: leaf: urls // { ${leaf.name} = leaf.value; }) { } all;
in
lib.mapAttrs (
  url: value:
  if lib.isString value then
    { hash = value; }
  else if lib.isAttrs value then
    { text = metadata what url value (lib.attrNames found); }
  else
    throw "buildproxy: ${what}: ${url} is none of what lock files have"
) found
