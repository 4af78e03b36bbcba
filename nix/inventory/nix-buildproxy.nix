# A proxy_content.nix of nix-buildproxy as an inventory: `{ fetchurl }: [ { url, file, status_code, headers } ]`.
{
  lib,
  fetchurl,
}:
let
  entry =
    what: content:
    if !(content ? url) then
      throw "buildproxy: ${what}: an entry has no `url`: ${lib.concatStringsSep ", " (builtins.attrNames content)} is all it has"
    else
      {
        inherit (content) url;
        status = content.status_code or 200;
        headers = lib.mapAttrs' (name: lib.nameValuePair (lib.toLower name)) (
          # It is the length of what was sent, which can be another than that of the file: decoded bodies were kept.
          lib.filterAttrs (name: _: lib.toLower name != "content-length") (content.headers or { })
        );
      }
      // lib.optionalAttrs (content.file or null != null) {
        body.store-path = "${content.file}";
      };
in
# `what` is how messages call it.
what: content: {
  version = 1;
  entry = map (entry what) (
    if builtins.isList content then content else content { inherit fetchurl; }
  );
}
