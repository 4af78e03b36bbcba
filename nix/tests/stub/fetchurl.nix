# `fetchurl`: a file whose hash is known, from the first of its URLs that has it. Fixed-output derivations have the
# network of the machine, so that origins on loopback can be used.
{
  lib,
  stdenvNoCC,
  curl,
}:
let
  # Like in nixpkgs, `fetchurl` takes these and no others.
  fetch =
    {
      url ? "",
      urls ? [ ],
      name ? "",
      pname ? "",
      version ? "",
      hash ? "",
      sha1 ? "",
      sha256 ? "",
      sha512 ? "",
      outputHash ? "",
      outputHashAlgo ? "",
      recursiveHash ? false,
      executable ? false,
      postFetch ? "",
      downloadToTemp ? false,
      curlOpts ? "",
      curlOptsList ? [ ],
      netrcPhase ? null,
      netrcImpureEnvVars ? [ ],
      showURLs ? false,
      preferLocalBuild ? true,
      nativeBuildInputs ? [ ],
      meta ? { },
      passthru ? { },
    }:
    let
      all =
        if urls != [ ] && url == "" then
          urls
        else if urls == [ ] && url != "" then
          [ url ]
        else
          throw "fetchurl requires either `url` or `urls` to be set: ${
            builtins.toJSON { inherit url urls; }
          }";
      hashes = lib.filterAttrs (_: value: value != "") {
        inherit
          hash
          sha1
          sha256
          sha512
          outputHash
          ;
      };
      given = builtins.attrNames hashes;
      kind = builtins.head given;
    in
    if builtins.length given != 1 then
      throw "fetchurl requires one hash for fixed-output derivation: ${builtins.toJSON all}"
    else if showURLs then
      throw "fetchurl of the tests has no `showURLs`"
    else
      stdenvNoCC.mkDerivation (
        {
          urls = all;
          nativeBuildInputs = [ curl ] ++ nativeBuildInputs;
          outputHash = hashes.${kind};
          outputHashAlgo =
            {
              hash = null;
              outputHash = if outputHashAlgo == "" then null else outputHashAlgo;
            }
            .${kind} or kind;
          outputHashMode = if recursiveHash || executable then "recursive" else "flat";
          curlOpts = toString curlOpts;
          curlOptsList = lib.escapeShellArgs curlOptsList;
          inherit
            executable
            postFetch
            downloadToTemp
            preferLocalBuild
            netrcPhase
            passthru
            meta
            ;
          # No proxy and no roots of this machine's: the origins of the tests are on loopback, with roots of their own,
          # and the hash tells what is right.
          impureEnvVars = netrcImpureEnvVars;
          buildCommand = builtins.readFile ./fetchurl.sh;
        }
        // (
          if pname != "" && version != "" then
            { inherit pname version; }
          else
            { name = if name != "" then name else baseNameOf (toString (builtins.head all)); }
        )
      );
in
lib.makeOverridable fetch
