# Licences, platforms, and the program that a package is for.
lib:
let
  license = spdxId: fullName: {
    inherit spdxId fullName;
    shortName = lib.toLower spdxId;
    free = true;
    url = "https://spdx.org/licenses/${spdxId}.html";
  };
  linux = [
    "x86_64-linux"
    "aarch64-linux"
  ];
  darwin = [
    "x86_64-darwin"
    "aarch64-darwin"
  ];
in
{
  licenses = {
    mit = license "MIT" "MIT License";
    asl20 = license "Apache-2.0" "Apache License 2.0";
    bsd3 = license "BSD-3-Clause" "BSD 3-clause \"New\" or \"Revised\" License";
    gpl3Plus = license "GPL-3.0-or-later" "GNU General Public License v3.0 or later";
    cc0 = license "CC0-1.0" "Creative Commons Zero v1.0 Universal";
  };

  platforms = {
    inherit linux darwin;
    unix = linux ++ darwin;
    all = linux ++ darwin;
    none = [ ];
  };
  systems.flakeExposed = linux ++ darwin;
  maintainers = { };
  teams = { };
  sourceTypes = {
    fromSource.isSource = true;
    binaryNativeCode.isSource = false;
  };

  getExe =
    package:
    lib.getExe' package (
      package.meta.mainProgram
        or (throw "getExe: package ${package.name} has no meta.mainProgram: give it one")
    );
  getExe' = package: program: "${lib.getBin package}/bin/${program}";
  setName = name: package: package // { inherit name; };
  addMetaAttrs = new: package: package // { meta = package.meta or { } // new; };
  lowPrio = package: package;
  hiPrio = package: package;
  meta.availableOn =
    platform: package: lib.elem platform.system (package.meta.platforms or [ platform.system ]);
}
