# shellcheck shell=bash
# What the scripts of the test cluster share. Sourced, not run.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../scripts/lib.sh
source "$here/../../scripts/lib.sh"

CLUSTER_CACHE=$CACHE/cluster
mkdir -p "$CLUSTER_CACHE"/{programs,go}

# programs default|all|NAME...: their lines of programs.txt, without the mark of the optional ones.
programs() {
  awk -v wanted=" $* " '
    /^#/ || !NF { next }
    { optional = ($1 == "?"); if (optional) { sub(/^\?[ \t]*/, "") } }
    index(wanted, " all ") || index(wanted, " " $1 " ") || (!optional && index(wanted, " default ")) { print $1, $2, $3, $4 }
  ' "$here/programs.txt"
}

# hash_of FILE...: a short fingerprint of what the files say (not of where they are).
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

# A program is kept under its version; BIN, which goes on the PATH, links to the versions that this checkout asks for.
BIN=$CLUSTER_CACHE/bin-$(hash_of "$here/programs.txt" "$here"/mains/*/*)
export PATH=$BIN:$PATH

version_of() { programs "$1" | cut -d' ' -f3; } # version_of PROGRAM
