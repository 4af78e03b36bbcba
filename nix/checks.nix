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

  # Archives whose bytes follow from what is in them, for the patches.
  archive =
    name: command:
    runCommand name
      {
        nativeBuildInputs = [
          pkgs.gnutar
          pkgs.gzip
          pkgs.zip
        ];
      }
      ''
        mkdir tool-1.0
        printf 'one\ntwo\n' >tool-1.0/lines
        touch -d @1000000000 tool-1.0/lines tool-1.0
        ${command}
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
    patches = {
      "https://example.org/tool.tar.gz" = [ patch ];
      "https://example.org/tool.zip" = patch;
      "https://example.org/lines" = [ patch ];
    };
    extraEntries = [
      {
        url = "https://example.org/tool.tar.gz";
        body.store-path = archive "tool.tar.gz" "tar -c tool-1.0 | gzip -n >$out";
      }
      {
        url = "https://example.org/tool.zip";
        body.store-path = archive "tool.zip" "zip -qr tool.zip tool-1.0; mv tool.zip $out";
      }
      {
        url = "https://example.org/lines";
        body.store-path = builtins.toFile "lines" "one\ntwo\n";
      }
    ];
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

  # Other artifacts, and patches for a text and for the inside of archives.
  changed =
    runCommand "buildproxy-check-changed"
      {
        nativeBuildInputs = [
          (scope.mkBuildproxy changed)
          pkgs.curl
          pkgs.gnutar
          pkgs.gzip
          pkgs.unzip
        ];
      }
      ''
        curl -sSfLO --remote-name-all https://example.org/{latest,tool.tar.gz,tool.zip,lines}
        grep -qx 'another greeting' latest
        grep -qx patched lines
        tar -xzf tool.tar.gz
        grep -qx patched tool-1.0/lines
        [ "$(stat -c %Y tool-1.0/lines)" = 1000000000 ]
        rm -r tool-1.0
        unzip -qq tool.zip
        grep -qx patched tool-1.0/lines
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
