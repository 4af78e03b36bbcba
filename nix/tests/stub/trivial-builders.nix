# `runCommand`, `writeText` and what else is built from a few lines.
{
  lib,
  stdenv,
  stdenvNoCC,
  shellcheck,
}:
let
  runCommandWith =
    {
      stdenv ? stdenvNoCC,
      runLocal ? false,
      derivationArgs ? { },
      name,
    }:
    buildCommand:
    stdenv.mkDerivation (
      {
        enableParallelBuilding = true;
        inherit buildCommand name;
        passAsFile = [ "buildCommand" ] ++ derivationArgs.passAsFile or [ ];
      }
      // lib.optionalAttrs runLocal {
        preferLocalBuild = true;
        allowSubstitutes = false;
      }
      // removeAttrs derivationArgs [ "passAsFile" ]
    );

  runCommand =
    name: derivationArgs:
    runCommandWith {
      inherit name derivationArgs;
    };
  runCommandLocal =
    name: derivationArgs:
    runCommandWith {
      inherit name derivationArgs;
      runLocal = true;
    };
  runCommandCC =
    name: derivationArgs:
    runCommandWith {
      inherit name derivationArgs stdenv;
    };

  writeTextFile =
    {
      name,
      text,
      executable ? false,
      destination ? "",
      checkPhase ? "",
      meta ? { },
      passthru ? { },
      allowSubstitutes ? false,
      preferLocalBuild ? true,
      derivationArgs ? { },
    }:
    runCommandLocal name
      (
        {
          inherit
            text
            executable
            checkPhase
            allowSubstitutes
            preferLocalBuild
            passthru
            ;
          passAsFile = [ "text" ];
          meta =
            lib.optionalAttrs (executable && lib.hasPrefix "/bin/" destination) {
              mainProgram = lib.removePrefix "/bin/" destination;
            }
            // meta;
        }
        // derivationArgs
      )
      ''
        target=$out${lib.escapeShellArg destination}
        mkdir -p "$(dirname "$target")"
        if [ -e "$textPath" ]; then mv "$textPath" "$target"; else echo -n "$text" >"$target"; fi
        if [ -n "$executable" ]; then chmod +x "$target"; fi
        eval "$checkPhase"
      '';

  shebang = "#!${stdenv.shell}\n";
  # The shell reads the script, and does not run it.
  parses = ''${stdenv.shell} -n -O extglob "$target"'';

  writeShellScript =
    name: text:
    writeTextFile {
      inherit name;
      executable = true;
      text = "${shebang}${text}\n";
      checkPhase = parses;
    };
  writeShellScriptBin =
    name: text:
    writeTextFile {
      inherit name;
      executable = true;
      destination = "/bin/${name}";
      text = "${shebang}${text}\n";
      checkPhase = parses;
    };
  writeShellApplication =
    {
      name,
      text,
      runtimeInputs ? [ ],
      runtimeEnv ? { },
      meta ? { },
      passthru ? { },
      checkPhase ? null,
      excludeShellChecks ? [ ],
      bashOptions ? [
        "errexit"
        "nounset"
        "pipefail"
      ],
    }:
    writeTextFile {
      inherit name meta passthru;
      executable = true;
      destination = "/bin/${name}";
      text =
        shebang
        + lib.concatMapStrings (option: "set -o ${option}\n") bashOptions
        + lib.concatStrings (
          lib.mapAttrsToList (name: value: "${lib.toShellVar name value}\nexport ${name}\n") runtimeEnv
        )
        + lib.optionalString (
          runtimeInputs != [ ]
        ) "export PATH=\"${lib.makeBinPath runtimeInputs}:$PATH\"\n"
        + "\n${text}\n";
      checkPhase =
        if checkPhase != null then
          checkPhase
        else
          ''
            ${parses}
            ${shellcheck}/bin/shellcheck ${
              lib.optionalString (
                excludeShellChecks != [ ]
              ) "--exclude ${lib.concatStringsSep "," excludeShellChecks}"
            } "$target"
          '';
    };

  makeSetupHook =
    {
      name,
      substitutions ? { },
      propagatedBuildInputs ? [ ],
      meta ? { },
      passthru ? { },
    }:
    script:
    runCommandLocal name
      {
        inherit meta passthru propagatedBuildInputs;
        dontUnpack = true;
      }
      ''
        mkdir -p "$out/nix-support"
        recordPropagated=${lib.escapeShellArg (toString propagatedBuildInputs)}
        [ -z "$recordPropagated" ] || echo "$recordPropagated" >"$out/nix-support/propagated-build-inputs"
        substitute ${script} "$out/nix-support/setup-hook" ${
          lib.escapeShellArgs (
            lib.concatLists (
              lib.mapAttrsToList (name: value: [
                "--subst-var-by"
                name
                "${value}"
              ]) substitutions
            )
          )
        }
      '';

  symlinkJoin =
    {
      name,
      paths,
      postBuild ? "",
      ...
    }@args:
    runCommandLocal name
      (removeAttrs args [
        "name"
        "postBuild"
      ])
      ''
        mkdir -p "$out"
        for each in ${lib.escapeShellArgs paths}; do
            cp -rs --no-preserve=mode "$each"/. "$out"
        done
        ${postBuild}
      '';

  # `{ name, path }` each, or a set from names to paths.
  linkFarm =
    name: entries:
    let
      list =
        if builtins.isAttrs entries then
          lib.mapAttrsToList (name: path: { inherit name path; }) entries
        else
          entries;
    in
    runCommandLocal name
      { passthru.entries = lib.listToAttrs (map (e: lib.nameValuePair e.name e.path) list); }
      ''
        mkdir -p "$out"
        cd "$out"
        ${lib.concatMapStrings (entry: ''
          mkdir -p "$(dirname ${lib.escapeShellArg entry.name})"
          ln -s ${lib.escapeShellArg "${entry.path}"} ${lib.escapeShellArg entry.name}
        '') list}
      '';

  mkShellWith =
    stdenv:
    {
      name ? "nix-shell",
      packages ? [ ],
      inputsFrom ? [ ],
      nativeBuildInputs ? [ ],
      shellHook ? "",
      ...
    }@args:
    stdenv.mkDerivation (
      removeAttrs args [
        "packages"
        "inputsFrom"
      ]
      // {
        inherit name;
        nativeBuildInputs =
          packages ++ nativeBuildInputs ++ lib.concatMap (from: from.nativeBuildInputs or [ ]) inputsFrom;
        buildInputs = args.buildInputs or [ ] ++ lib.concatMap (from: from.buildInputs or [ ]) inputsFrom;
        shellHook = lib.concatStringsSep "\n" (
          map (from: from.shellHook or "") (lib.reverseList inputsFrom) ++ [ shellHook ]
        );
        phases = [ "buildPhase" ];
        buildPhase = ''
          echo "This file was made by mkShell: it is not meant to be used." >"$out"
          export >>"$out"
        '';
        preferLocalBuild = true;
      }
    );
in
{
  inherit
    runCommand
    runCommandCC
    runCommandLocal
    runCommandWith
    writeTextFile
    writeShellScript
    writeShellScriptBin
    writeShellApplication
    makeSetupHook
    symlinkJoin
    linkFarm
    ;
  writeText = name: text: writeTextFile { inherit name text; };
  writeTextDir =
    path: text:
    writeTextFile {
      name = baseNameOf path;
      inherit text;
      destination = "/${path}";
    };
  writeScript =
    name: text:
    writeTextFile {
      inherit name text;
      executable = true;
    };
  writeScriptBin =
    name: text:
    writeTextFile {
      inherit name text;
      executable = true;
      destination = "/bin/${name}";
    };
  linkFarmFromDrvs =
    name: packages:
    linkFarm name (
      map (package: {
        inherit (package) name;
        path = package;
      }) packages
    );
  mkShell = mkShellWith stdenv;
  mkShellNoCC = mkShellWith stdenvNoCC;
}
