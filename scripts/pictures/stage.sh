# shellcheck shell=bash
# Functions for the scenes, which run inside the recorded terminal. Source this file, do not run it.
set -euo pipefail

background=() # processes to stop at the end of the scene
folder=$(mktemp -d)
trap end_scene EXIT

end_scene() {
  ((!${#background[@]})) || kill "${background[@]}" 2>/dev/null || true
  wait
  rm -rf "$folder"
}

# prompt COMMAND [EXIT-CODE]: show the command as if somebody typed it, and run it.
prompt() {
  local index code=0
  printf '\e[1;32m$\e[0m '
  sleep 0.6
  for ((index = 0; index < ${#1}; index++)); do
    printf '%s' "${1:index:1}"
    sleep 0.04
  done
  sleep 0.4
  printf '\n'
  eval "$1" || code=$?
  ((code == ${2:-0})) || exit 1
}

# a_shop: create a new ledger for shop.py, on a machine that is named "laptop".
a_shop() {
  hostname laptop
  export SPOKE_APP=shop PYTHONPATH=$PWD/scripts/pictures SPOKE_DATABASE_URL=sqlite:///$folder/shop.sqlite3
  PATH=$PWD/.venv/bin:$PATH
  spoke-jobs migrate >/dev/null
}

dispatch() { spoke-jobs dispatch "$1" --payload "{\"seconds\": $2}" >/dev/null; }

work() {
  spoke-jobs worker --processes 3 --grace 0 >"$folder/worker.log" 2>&1 &
  background+=($!)
}

# until_reason CODE ID: wait until `why` gives this reason.
until_reason() { until [[ $(spoke-jobs why "$2") == "$1"* ]]; do sleep 0.2; done; }
