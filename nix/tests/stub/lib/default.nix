# The functions of nixpkgs' `lib` that the code under test may use, with the meaning that they have there. Written for
# the tests: what is not here fails by its name, and is then added here.
let
  lib =
    trivial
    // lists
    // strings
    // attrsets
    // customisation
    // meta
    // sources
    // {
      inherit fileset;
    }
    // {
      inherit
        trivial
        lists
        strings
        attrsets
        customisation
        sources
        ;
      inherit (trivial) fixedPoints versions;
    };

  trivial = import ./trivial.nix lib;
  lists = import ./lists.nix lib;
  strings = import ./strings.nix lib;
  attrsets = import ./attrsets.nix lib;
  customisation = import ./customisation.nix lib;
  meta = import ./meta.nix lib;
  sources = import ./sources.nix lib;
  fileset = import ./fileset.nix lib;
in
lib
