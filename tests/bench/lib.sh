# shellcheck shell=bash
# What the benchmarks share beside scripts/lib.sh, which is to be sourced first.

LOCK=requirements/bench.txt
BENCH_FOLDER=$CACHE/bench
mkdir -p "$BENCH_FOLDER"

# bench_environment: the virtual environment of peers, profiler and plots; its path is in BENCH_PEERS.
bench_environment() {
  local fingerprint
  fingerprint=$(cat "$LOCK" <(.venv/bin/python --version) | sha256sum | cut -c1-16)
  BENCH_PEERS=$BENCH_FOLDER/$fingerprint
  [[ -e $BENCH_PEERS/complete ]] || with_lock "bench-$fingerprint" make_bench_environment
}

make_bench_environment() {
  [[ ! -e $BENCH_PEERS/complete ]] || return 0
  step "making a virtual environment for what is measured beside" .venv/bin/python -m venv --clear "$BENCH_PEERS"
  step "installing what $LOCK locks" "$BENCH_PEERS/bin/python" -m pip --disable-pip-version-check --no-input install \
    --require-hashes --requirement "$LOCK"
  touch "$BENCH_PEERS/complete"
}
