# Packages that are programs of this machine: `bin/` has links to those of the package, and to no others, so that what
# is not among a build's inputs is not in its PATH.
{ lib, system }:
let
  # pname -> programs, or { programs; main; } where the main one has another name than the package.
  packages = {
    bash = [
      "bash"
      "sh"
    ];
    bzip2 = [
      "bzip2"
      "bunzip2"
      "bzcat"
    ];
    cmake = [
      "cmake"
      "ctest"
    ];
    coreutils = lib.splitString " " (
      "arch b2sum base32 base64 basename cat chgrp chmod chown cksum comm cp csplit cut date dd df dirname du echo env "
      + "expand expr factor false fmt fold groups head id install join link ln logname ls md5sum mkdir mkfifo mknod "
      + "mktemp mv nice nl nohup nproc numfmt od paste pathchk pr printenv printf ptx pwd readlink realpath rm rmdir "
      + "seq sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac "
      + "tail tee test timeout touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami yes"
    );
    curl = [ "curl" ];
    diffutils = [
      "cmp"
      "diff"
      "diff3"
      "sdiff"
    ];
    findutils = [
      "find"
      "xargs"
    ];
    gawk = [ "awk" ];
    gcc = [
      "ar"
      "as"
      "c++"
      "cc"
      "cpp"
      "g++"
      "gcc"
      "ld"
      "nm"
      "objcopy"
      "objdump"
      "ranlib"
      "readelf"
      "strip"
    ];
    git = [ "git" ];
    gnugrep = [
      "egrep"
      "fgrep"
      "grep"
    ];
    gnumake = [ "make" ];
    gnused = [ "sed" ];
    gnutar = [ "tar" ];
    gzip = [
      "gunzip"
      "gzip"
      "zcat"
    ];
    jq = [ "jq" ];
    nix = lib.splitString " " "nix nix-build nix-hash nix-instantiate nix-prefetch-url nix-store";
    nginx = [ "nginx" ];
    openssl = [ "openssl" ];
    patch = [ "patch" ];
    python3 = [ "python3" ];
    shellcheck = [ "shellcheck" ];
    unzip = [ "unzip" ];
    util-linux = [
      "flock"
      "getopt"
      "setsid"
      "unshare"
    ];
    wget = [ "wget" ];
    xz = [
      "unxz"
      "xz"
      "xzcat"
    ];
    zip = [ "zip" ];
    zstd = [
      "unzstd"
      "zstd"
      "zstdcat"
    ];
  };
  # The compiler is where its installer puts it, and two lints are below target/: these are for what is only evaluated.
  elsewhere = lib.genAttrs [
    "cargo"
    "clippy"
    "deadnix"
    "nixfmt"
    "nixfmt-tree"
    "rustc"
    "rustfmt"
  ] (name: [ name ]);
  mainPrograms = {
    coreutils = null;
    diffutils = null;
    findutils = "find";
    gnugrep = "grep";
    gnumake = "make";
    gnused = "sed";
    gnutar = "tar";
    util-linux = null;
  };

  # A derivation with the links for `programs`; building it says which one this machine has not.
  links =
    pname: programs:
    let
      package = derivation {
        name = "${pname}-0-of-this-machine";
        inherit pname system;
        version = "0-of-this-machine";
        builder = "/bin/bash";
        preferLocalBuild = true;
        programs = lib.concatStringsSep " " programs;
        args = [
          "-euc"
          ''
            export PATH=/usr/bin:/bin
            mkdir -p "$out/bin"
            for program in $programs; do
                for folder in /usr/bin /usr/sbin none; do
                    if [ -e "$folder/$program" ]; then break; fi
                done
                if [ "$folder" = none ]; then
                    echo "the tests need $program in /usr/bin: ./test installs it" >&2
                    exit 1
                fi
                ln -s "$folder/$program" "$out/bin/$program"
            done
          ''
        ];
      };
      mainProgram = mainPrograms.${pname} or pname;
    in
    lib.extendDerivation true {
      inherit pname;
      version = "0-of-this-machine";
      passthru = { };
      meta = {
        description = "Programs of this machine";
        ${if mainProgram != null then "mainProgram" else null} = mainProgram;
      };
      override = _: links pname programs;
      overrideAttrs = _: links pname programs;
    } package;
in
lib.mapAttrs links (packages // elsewhere)
// {
  # What every build has in its PATH: the list of nixpkgs' `common-path.nix`, in one package.
  commonPath = links "common-path" (
    lib.concatMap (name: packages.${name}) [
      "coreutils"
      "findutils"
      "diffutils"
      "gnused"
      "gnugrep"
      "gawk"
      "gnutar"
      "gzip"
      "bzip2"
      "gnumake"
      "bash"
      "patch"
      "xz"
    ]
  );
  bashInteractive = links "bash" packages.bash;
  bashNonInteractive = links "bash" packages.bash;
  gitMinimal = links "git" packages.git;
}
