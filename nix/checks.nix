# What `nix flake check` builds: the program, and the hook at work in the sandbox.
{
  pkgs,
  # What `import ./. { inherit pkgs; }` gives.
  scope,
}:
let
  inherit (pkgs) lib runCommand;

  # An inventory without anything to fetch: a text, and a redirect to it.
  inventory = {
    version = 1;
    entry = [
      {
        url = "https://example.org/greeting";
        body = {
          text = "hello, sandbox\n";
          hash = "sha256-0QLDd02hJXf9TME7kPu+tNu5arRkDiQKjpY7ydejgOU=";
          size = 15;
          name = "greeting";
        };
      }
      {
        url = "https://example.org/latest";
        status = 302;
        headers.location = "/greeting";
      }
    ];
  };

  hook = scope.mkBuildproxy { inherit inventory; };

  # One text in every form that patches can be for.
  forms = {
    lines = "cat tool-1.0/lines";
    "lines.gz" = "gzip -nc tool-1.0/lines";
    "tool.tar" = "tar -c tool-1.0";
    "dotted.tar.gz" = "tar -c ./tool-1.0 | gzip -n";
    "tool.tar.gz" = "tar -c tool-1.0 | gzip -n";
    "tool.tar.bz2" = "tar -c tool-1.0 | bzip2";
    "tool.tar.xz" = "tar -c tool-1.0 | xz";
    "tool.tar.zst" = "tar -c tool-1.0 | zstd -q";
    "tool.zip" = "zip -qr - tool-1.0";
  };

  formTools = with pkgs; [
    bzip2
    gnutar
    gzip
    unzip
    xz
    zip
    zstd
  ];

  inForm =
    name: command:
    runCommand name { nativeBuildInputs = formTools; } ''
      mkdir tool-1.0
      printf 'one\ntwo\n' >tool-1.0/lines
      touch -d @1000000000 tool-1.0/lines tool-1.0
      ${command} >"$out"
    '';

  patch = builtins.toFile "two.patch" ''
    --- a/lines
    +++ b/lines
    @@ -1,2 +1,2 @@
     one
    -two
    +patched
  '';

  changed = {
    inherit inventory;
    overrides."https://example.org/greeting" = builtins.toFile "other" "another greeting\n";
    patches = lib.mapAttrs' (name: _: lib.nameValuePair "https://example.org/${name}" [ patch ]) forms;
    extraEntries = lib.mapAttrsToList (name: command: {
      url = "https://example.org/${name}";
      body.store-path = inForm name command;
    }) forms;
  };
in
{
  inherit (scope) buildproxy;
  inherit (hook.tests) verified starts;

  # As a setup hook, over HTTPS, through a redirect.
  hook =
    runCommand "buildproxy-check-hook"
      {
        nativeBuildInputs = [
          hook
          pkgs.curl
        ];
      }
      ''
        curl -sSfL https://example.org/latest >"$out"
        grep -qx 'hello, sandbox' "$out"
      '';

  # Sourced, as nix-buildproxy's users have it.
  sourced = runCommand "buildproxy-check-sourced" { nativeBuildInputs = [ pkgs.curl ]; } ''
    source ${hook}
    curl -sSfL https://example.org/latest >"$out"
  '';

  # Other artifacts, and patches for a text and for the inside of archives, whose files keep their times.
  changed =
    runCommand "buildproxy-check-changed"
      {
        nativeBuildInputs = formTools ++ [
          (scope.mkBuildproxy changed)
          pkgs.curl
        ];
      }
      ''
        get() {
          curl -sSfL "https://example.org/$1"
        }
        get latest | grep -qx 'another greeting'
        get lines | grep -qx patched
        get lines.gz | gzip -dc | grep -qx patched
        check() {
          grep -qx patched tool-1.0/lines
          [ "$(stat -c %Y tool-1.0/lines)" = 1000000000 ]
          rm -r tool-1.0
        }
        get tool.tar | tar -x; check
        get tool.tar.gz | tar -xz; check
        get dotted.tar.gz | tar -xz ./tool-1.0/lines; check
        get tool.tar.bz2 | tar -xj; check
        get tool.tar.xz | tar -xJ; check
        get tool.tar.zst | zstd -dc | tar -x; check
        get tool.zip >tool.zip; TZ=UTC unzip -qq tool.zip; check
        touch "$out"
      '';

  # What the inventory has not is missed, and said so; the build can go on where that is wanted.
  lenient =
    runCommand "buildproxy-check-lenient"
      {
        nativeBuildInputs = [
          (scope.mkBuildproxy {
            inherit inventory;
            strict = false;
            missStatus = 410;
          })
          pkgs.curl
        ];
      }
      ''
        curl -sS -o answer -w '%{http_code}' https://example.org/other >"$out"
        grep -qx 410 "$out"
        grep -q 'no recorded answer' answer
      '';

  shell = runCommand "buildproxy-check-shell" { nativeBuildInputs = [ pkgs.curl ]; } ''
    ${lib.getExe (scope.mkBuildproxyShell { inherit inventory; })} \
      curl -sSfL https://example.org/latest >"$out"
  '';
}
