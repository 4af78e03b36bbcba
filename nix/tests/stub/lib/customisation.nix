# Packages that can be made again with other arguments.
lib:
let
  inherit (builtins) intersectAttrs;
in
{
  # `f args`, with `.override` and an `.overrideAttrs` that keeps it.
  makeOverridable =
    f:
    lib.mirrorFunctionArgs f (
      args:
      let
        result = f args;
        overrideWith = new: args // (if lib.isFunction new then new args else new);
        override = lib.mirrorFunctionArgs f (new: lib.makeOverridable f (overrideWith new));
        again = change: lib.makeOverridable (lib.mirrorFunctionArgs f (args: change (f args))) args;
      in
      if builtins.isAttrs result then
        result
        // {
          inherit override;
          overrideDerivation = change: again (package: lib.overrideDerivation package change);
          ${if result ? overrideAttrs then "overrideAttrs" else null} =
            change: again (package: package.overrideAttrs change);
        }
      else if lib.isFunction result then
        lib.setFunctionArgs result (lib.functionArgs result) // { inherit override; }
      else
        result
    );

  callPackageWith =
    autoArgs: fn: args:
    let
      f = if lib.isFunction fn then fn else import fn;
      wanted = lib.functionArgs f;
      found = intersectAttrs wanted autoArgs // args;
      missing = lib.filterAttrs (name: optional: !optional && !found ? ${name}) wanted;
    in
    if missing == { } then
      lib.makeOverridable f found
    else
      throw "lib.customisation.callPackageWith: Function called without required argument \"${lib.head (lib.attrNames missing)}\"";
  callPackagesWith = lib.callPackageWith;

  # `package` with `passthru`, which its outputs have as well.
  extendDerivation =
    condition: passthru: package:
    let
      outputs = package.outputs or [ "out" ];
      common =
        package
        // lib.genAttrs outputs (
          output:
          {
            inherit (package.${output}) type outputName;
            outputSpecified = true;
            drvPath =
              assert condition;
              package.${output}.drvPath;
            outPath =
              assert condition;
              package.${output}.outPath;
          }
          // passthru
        )
        // passthru;
    in
    common
    // {
      drvPath =
        assert condition;
        package.drvPath;
      outPath =
        assert condition;
        package.outPath;
    };

  overrideDerivation =
    package: change:
    let
      new = derivation (package.drvAttrs // change package);
    in
    lib.extendDerivation true { inherit (package) meta passthru; } new;

  makeScope =
    newScope: f:
    let
      self = f self // {
        newScope = scope: newScope (self // scope);
        callPackage = self.newScope { };
        overrideScope = change: lib.makeScope newScope (lib.extends change f);
        packages = f;
      };
    in
    self;

}
