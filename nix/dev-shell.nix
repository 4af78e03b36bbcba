# What it takes to work on buildproxy: the compiler, and the clients that `./test` runs.
{ pkgs }:
pkgs.mkShell {
  packages = with pkgs; [
    cargo
    clippy
    rustc
    rustfmt
    cmake
    curl
    git
    nginx
    openssl
    python3
    shellcheck
    wget
    nixfmt
    deadnix
  ];
}
