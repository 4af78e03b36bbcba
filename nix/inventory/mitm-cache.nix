# A lock file of mitm-cache as an inventory. It knows no header, no status and no query: what it has is GETs and redirects.
{ lib }:
let
  names = import ./names.nix { inherit lib; };
  fromGradle = import ./gradle.nix { inherit lib; };

  # Whether it is an answer of mitm-cache's own form, and not a part of a URL.
  isAnswer =
    answer:
    lib.isAttrs answer
    && lib.any (key: lib.isString (answer.${key} or null)) [
      "hash"
      "text"
      "redirect"
    ];

  entry =
    url: answer:
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
    else
      {
        inherit url;
        status = 302;
        headers.location = answer.redirect;
      };
in
# `what` is how messages call it.
what: data:
if data."!version" != 1 then
  throw ''
    buildproxy: ${what} is a lock file of version ${toString data."!version"}; only version 1 is known.
    Capture the build instead: `buildproxy capture -- COMMAND`.''
else
  let
    answers = lib.filterAttrs (url: _: !(lib.hasPrefix "!" url)) data;
    own = lib.filterAttrs (_: isAnswer) answers;
    shorter = lib.filterAttrs (_: answer: !(isAnswer answer)) answers;
  in
  {
    version = 1;
    # mitm-cache looks up and records URLs without their query.
    match.ignore-query = [ "*" ];
    entry = lib.mapAttrsToList entry (fromGradle what shorter // own);
  }
