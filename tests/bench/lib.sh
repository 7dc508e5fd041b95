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
  download_step "$PYPI" "installing what $LOCK locks" "$BENCH_PEERS/bin/python" -m pip --disable-pip-version-check --no-input install \
    --require-hashes --requirement "$LOCK"
  touch "$BENCH_PEERS/complete"
}

# oban_environment: the same for oban-py, which needs Python 3.12; BENCH_OBAN is empty if none is found.
oban_environment() {
  local lock=requirements/bench-oban.txt newer=
  BENCH_OBAN=
  for newer in python3.13 python3.12 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[23].*/bin/python; do
    ! "$newer" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || break
    newer=
  done
  [[ -n $newer ]] || return 0
  BENCH_OBAN=$BENCH_FOLDER/oban-$(cat "$lock" <("$newer" --version) | sha256sum | cut -c1-16)
  [[ -e $BENCH_OBAN/complete ]] || with_lock "$(basename "$BENCH_OBAN")" make_oban_environment "$newer" "$lock"
}

make_oban_environment() {
  [[ ! -e $BENCH_OBAN/complete ]] || return 0
  step "making a virtual environment for oban-py" "$1" -m venv --clear "$BENCH_OBAN"
  download_step "$PYPI" "installing what $2 locks" "$BENCH_OBAN/bin/python" -m pip --disable-pip-version-check --no-input install \
    --require-hashes --requirement "$2"
  touch "$BENCH_OBAN/complete"
}
