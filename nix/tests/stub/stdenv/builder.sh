# shellcheck shell=bash
# What a derivation runs where it names no builder of its own. $1, where there is one, is that of the derivation.
# shellcheck disable=SC1090,SC1091
# The variable of the same purpose names a wrong place in Nix's sandbox before 2.9.
if [ -e .attrs.sh ]; then source .attrs.sh; fi
# shellcheck disable=SC2154 # the derivation's
source "$stdenv/setup"
if [ -n "${1-}" ]; then source "$1"; else genericBuild; fi
