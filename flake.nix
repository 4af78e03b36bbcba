{
  description = "Records what a build downloads and answers it again inside the Nix sandbox";

  inputs.nixpkgs.url = "git+https://github.com/NixOS/nixpkgs?ref=nixpkgs-unstable&shallow=1";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      forEach = make: lib.genAttrs systems (system: make (scopeFor system));
      scopeFor = system: import ./nix { pkgs = import nixpkgs { inherit system; }; };
    in
    {
      # `lib.${system}.mkBuildproxy ./inventory.toml`; `lib.withPkgs pkgs` for a package set of your own.
      lib =
        forEach (scope: {
          inherit (scope) mkBuildproxy mkBuildproxyShell;
        })
        // {
          withPkgs = pkgs: import ./nix { inherit pkgs; };
        };

      overlays.default = import ./nix/overlay.nix;

      packages = forEach (scope: {
        inherit (scope) buildproxy;
        default = scope.buildproxy;
      });

      apps = lib.genAttrs systems (system: rec {
        buildproxy = {
          type = "app";
          program = lib.getExe self.packages.${system}.buildproxy;
          meta.description = "Capture, replay and verify";
        };
        default = buildproxy;
      });

      checks = lib.genAttrs systems (
        system:
        import ./nix/checks.nix {
          pkgs = import nixpkgs { inherit system; };
          scope = scopeFor system;
        }
      );

      devShells = lib.genAttrs systems (system: {
        default = import ./nix/dev-shell.nix { pkgs = import nixpkgs { inherit system; }; };
      });

      formatter = lib.genAttrs systems (system: (import nixpkgs { inherit system; }).nixfmt-tree);
    };
}
