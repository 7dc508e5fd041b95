# shellcheck shell=bash
# Functions for the scripts of the test cluster. Source this file, do not run it.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=../../scripts/lib.sh
source "$here/../../scripts/lib.sh"

CLUSTER_CACHE=$CACHE/cluster
mkdir -p "$CLUSTER_CACHE"/{programs,go}

# programs default|all|NAME...: print these programs' lines of programs.txt, without the mark of optional ones.
programs() {
  awk -v wanted=" $* " '
    /^#/ || !NF { next }
    { optional = ($1 == "?"); if (optional) { sub(/^\?[ \t]*/, "") } }
    index(wanted, " all ") || index(wanted, " " $1 " ") || (!optional && index(wanted, " default ")) { print $1, $2, $3, $4 }
  ' "$here/programs.txt"
}

# hash_of FILE...: print a short fingerprint of the files' contents (not of their paths).
hash_of() { cat "$@" | sha256sum | cut -c1-12; }

# A program is stored under its version. BIN, which is on the PATH, has links to the versions that this checkout needs.
BIN=$CLUSTER_CACHE/bin-$(hash_of "$here/programs.txt" "$here"/mains/*/*)
export PATH=$BIN:$PATH

version_of() { programs "$1" | cut -d' ' -f3; } # version_of PROGRAM
