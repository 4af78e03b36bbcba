# `stdenv.mkDerivation`: a set of attributes, or a function from the final ones.
{
  lib,
  system,
  setup,
}:
let
  # The derivation for `attrs`. An attribute that Nix knows nothing of becomes a variable of the builder.
  make =
    overrideAttrs: finalPackage: attrs:
    let
      name =
        attrs.name or (
          if attrs ? pname && attrs ? version then
            "${attrs.pname}-${attrs.version}"
          else
            throw "mkDerivation: needs `name`, or `pname` and `version`"
        );
      env = attrs.env or { };
      both = builtins.attrNames (builtins.intersectAttrs env attrs);
      wrong = builtins.filter (
        name: !(lib.isStringLike env.${name} || builtins.isBool env.${name} || builtins.isInt env.${name})
      ) (builtins.attrNames env);
      structured = attrs.__structuredAttrs or false;

      inputs = [
        "depsBuildBuild"
        "nativeBuildInputs"
        "propagatedNativeBuildInputs"
        "buildInputs"
        "propagatedBuildInputs"
      ];
      # A list in a list, and null, are allowed in these alone.
      flat = lib.genAttrs inputs (
        input:
        let
          value = attrs.${input} or [ ];
        in
        if builtins.isList value then
          builtins.filter (x: x != null) (lib.flatten value)
        else
          throw "mkDerivation: ${input} of ${name} is no list"
      );

      arguments =
        removeAttrs attrs [
          "args"
          "builder"
          "checkInputs"
          "env"
          "meta"
          "nativeCheckInputs"
          "nativeInstallCheckInputs"
          "passthru"
          "pos"
          # Only on Darwin.
          "__darwinAllowLocalNetworking"
        ]
        // flat
        // {
          inherit name system;
          nativeBuildInputs =
            flat.nativeBuildInputs
            ++ lib.optionals (attrs.doCheck or false) (attrs.nativeCheckInputs or [ ])
            ++ lib.optionals (attrs.doInstallCheck or false) (attrs.nativeInstallCheckInputs or [ ]);
          builder = "/bin/bash";
          args =
            attrs.args or [
              "-e"
              ./builder.sh
              (attrs.builder or "")
            ];
          stdenv = setup;
          patches = attrs.patches or [ ];
          doCheck = attrs.doCheck or false;
          doInstallCheck = attrs.doInstallCheck or false;
          strictDeps = attrs.strictDeps or false;
          userHook = null;
          __ignoreNulls = true;
        }
        // (if structured then { env = lib.mapAttrs (_: value: toString value) env; } else env);

      checked =
        lib.throwIf (both != [ ] && !structured)
          "mkDerivation: ${toString both} of ${name} are in `env` and outside of it"
          (
            lib.throwIf (
              wrong != [ ]
            ) "mkDerivation: ${toString wrong} in `env` of ${name} are no strings" arguments
          );
    in
    lib.extendDerivation true (
      {
        inherit name overrideAttrs;
        meta = {
          inherit name;
          available = true;
          outputsToInstall = attrs.outputs or [ "out" ];
        }
        // attrs.meta or { };
        passthru = attrs.passthru or { };
        stdenv = setup;
        inputDerivation = derivation (
          checked
          // {
            name = "inputDerivation-${name}";
            outputs = [ "out" ];
            args = [
              "-c"
              "export >$out"
            ];
          }
        );
        inherit finalPackage;
      }
      // attrs.passthru or { }
    ) (derivation checked);

  extensible =
    attrsOf:
    let
      attrs = attrsOf (attrs // { inherit finalPackage overrideAttrs; });
      overrideAttrs =
        change:
        extensible (
          final:
          let
            prev = attrsOf final;
          in
          prev // (lib.toExtension change) final prev
        );
      finalPackage = make overrideAttrs finalPackage attrs;
    in
    finalPackage;
in
attrs: if lib.isFunction attrs then extensible attrs else extensible (_: attrs)
