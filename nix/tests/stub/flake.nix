{
  description = "The tests' own nixpkgs: nix flake check --override-input nixpkgs path:./nix/tests/stub";

  outputs =
    { self }:
    let
      lib = import ./lib;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs lib.systems.flakeExposed (
        system: import self { inherit system lib; }
      );
    };
}
