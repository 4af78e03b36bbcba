# Names of store paths, as buildproxy makes them.
{ lib }:
let
  digits = lib.listToAttrs (
    lib.imap0 (value: digit: lib.nameValuePair digit value) (lib.stringToCharacters "0123456789abcdef")
  );

  # The characters from code 32 on, with a dash for those that Nix does not allow in a name.
  printable = "-----------+--.-0123456789---=-?-ABCDEFGHIJKLMNOPQRSTUVWXYZ----_-abcdefghijklmnopqrstuvwxyz-----";

  # The character of the code `%XX`.
  decoded =
    code:
    let
      value = part: digits.${lib.toLower (builtins.substring part 1 code)};
    in
    if value 0 < 2 || value 0 > 7 then
      "-"
    else
      builtins.substring (value 0 * 16 + value 1 - 32) 1 printable;

  plain =
    text:
    lib.concatMapStrings (part: if lib.isList part then "-" else part) (
      builtins.split "[^0-9A-Za-z+._?=-]" text
    );

  clean =
    segment:
    lib.concatMapStrings (part: if lib.isList part then decoded (lib.head part) else plain part) (
      builtins.split "%([0-9A-Fa-f]{2})" segment
    );

  withoutDots =
    name: if lib.hasPrefix "." name then withoutDots (lib.removePrefix "." name) else name;
in
{
  # The name for the body of `url`: its last path segment, percent-decoded, without query; what Nix refuses becomes `-`.
  ofUrl =
    url:
    let
      withoutQuery = lib.head (builtins.split "[?#]" url);
      path = builtins.match "[^:]*://[^/]*/(.*)" withoutQuery;
      segment = if path == null then "" else lib.last (lib.splitString "/" (lib.head path));
      name = builtins.substring 0 207 (withoutDots (clean segment));
    in
    if name == "" then
      "source"
    else if lib.hasSuffix ".drv" name then
      lib.removeSuffix ".drv" name + "-drv"
    else
      name;
}
