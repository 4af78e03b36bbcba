# For those without flakes: `nix-build -A buildproxy`, `(import ./. { }).mkBuildproxy ./inventory.toml`.
{
  pkgs ? import <nixpkgs> { },
}:
import ./nix { inherit pkgs; }
