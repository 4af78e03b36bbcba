# A lock file of mitm-cache as an inventory. It knows no header, no status and no query: what it has is GETs and redirects.
{ lib }:
let
  names = import ./names.nix { inherit lib; };

  entry =
    what: url: answer:
    if answer ? hash then
      {
        inherit url;
        body = {
          inherit (answer) hash;
          name = names.ofUrl url;
        };
      }
    else if answer ? text then
      {
        inherit url;
        body = { inherit (answer) text; };
      }
    else if answer ? redirect then
      {
        inherit url;
        status = 302;
        headers.location = answer.redirect;
      }
    else
      throw ''
        buildproxy: ${what}: ${url} has none of `hash`, `text` and `redirect`, and mitm-cache's lock files have nothing else.
        If this is a lock file of nixpkgs' Gradle support, it is a shorter form of that: capture the build instead.'';
in
# `what` is how messages call it.
what: data:
if data."!version" != 1 then
  throw ''
    buildproxy: ${what} is a lock file of version ${toString data."!version"}; only version 1 is known.
    Capture the build instead: `buildproxy capture -- COMMAND`.''
else
  {
    version = 1;
    # mitm-cache looks up and records URLs without their query.
    match.ignore-query = [ "*" ];
    entry = lib.mapAttrsToList (entry what) (lib.filterAttrs (url: _: !(lib.hasPrefix "!" url)) data);
  }
