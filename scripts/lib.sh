# shellcheck shell=bash
# Functions for the scripts here and in tests/cluster. Source this file, do not run it.
# Progress goes to standard error, results (a URL, a path) to standard output, so that callers can capture them.
set -euo pipefail

# shellcheck disable=SC2034 # for those that source this
REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/spoke-jobs
mkdir -p "$CACHE/logs"
unset PYTHONDONTWRITEBYTECODE # without the bytecode of an earlier process, each one compiles all modules and tests anew

say() { printf '%s\n' "$*" >&2; }

# fail REASON: end with it. The first reason of a run also goes to the file that FAILURE_FILE names: .ci/run repeats it in its last line.
fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  [[ -z ${FAILURE_FILE:-} || -s $FAILURE_FILE ]] || printf '%s: %s\n' "${0##*/}" "$*" >"$FAILURE_FILE"
  exit 1
}

need_root() { # need_root WHAT-FOR
  ((EUID == 0)) || fail "must be root to $1; run it once as root (or with sudo), or ask somebody with root access to"
}

# step DESCRIPTION COMMAND...: run the command, and print one line with its duration. Its output goes to a log, shown if it fails.
# Do not call this in a condition (if, &&, ||): bash would then ignore errors inside the command.
step() {
  local description=$1 log status begin=${EPOCHREALTIME/./}
  shift
  log=$(mktemp "$CACHE/logs/step.XXXXXX")
  printf '%s ... ' "$description" >&2
  set +e
  (
    set -e
    "$@"
  ) >"$log" 2>&1 </dev/null
  status=$?
  set -e
  if ((status)); then
    printf 'failed after %s\n' "$(since "$begin")" >&2
    tail -n 40 "$log" >&2
    fail "$description failed (exit $status${registry:+, three times; it needs $registry}); all of its output: $log"
  fi
  printf '%s\n' "$(since "$begin")" >&2
  rm -f "$log"
}

# download_step REGISTRY DESCRIPTION COMMAND...: a step that downloads from a package registry. If it fails or stands still, it runs up to
# three times, so that a registry may be silent for a minute.
download_step() {
  local registry=$1 description=$2
  shift 2
  step "$description" three_times "$@"
}

# What people call the registries.
# shellcheck disable=SC2034 # for those that source this
APT="Debian's package servers (apt)" PYPI="the Python package index (pip)" GO_PROXY="the Go module proxy" REGISTRY="the container registry"
# shellcheck disable=SC2034 # likewise
NPM="the npm registry (npm)"
PAUSES=(15 60) # seconds between the three tries

three_times() {
  local pause status
  for pause in "${PAUSES[@]}" none; do
    set +e
    watched "$@"
    status=$?
    set -e
    ((status)) || return 0
    [[ $pause != none ]] || return $status
    echo "failed (exit $status); the next try is in $pause s"
    sleep "$pause"
  done
}

IDLE_SECONDS=300 # longer than a pull of one image's largest layer: what a Docker engine does for its client counts as nothing
WATCH_SECONDS=5

# watched COMMAND...: run it in a subshell, and end it once it has done nothing for IDLE_SECONDS: it has neither used CPU time nor written,
# as when a registry accepts a connection and then is silent.
watched() {
  local self=$BASHPID watcher status
  end_idle "$self" &
  watcher=$!
  (
    set -e
    "$@"
  )
  status=$?
  kill "$watcher" 2>/dev/null
  wait "$watcher" 2>/dev/null
  return $status
}

# end_idle SHELL: end what the shell has started, but this watcher, once it has done nothing for IDLE_SECONDS.
end_idle() {
  local before='' now last=$SECONDS watcher=$BASHPID
  close_descriptors # the pauses below must not hold locks
  while sleep "$WATCH_SECONDS"; do
    now=$(descendants "$1" "$watcher" && stat --dereference --format %s "/proc/$watcher/fd/1")
    if [[ $now != "$before" ]]; then
      before=$now last=$SECONDS
    elif ((SECONDS - last >= IDLE_SECONDS)); then
      echo "it has done nothing for $IDLE_SECONDS s, as if the registry were silent"
      descendants "$1" "$watcher" | awk '{ print $1 }' | xargs --no-run-if-empty kill
      return
    fi
  done
}

# descendants PROCESS WITHOUT: print the number and the CPU seconds of all that descend from the process, but not by way of another one.
descendants() {
  ps -e -o pid=,ppid=,cputimes= | awk -v process="$1" -v without="$2" '
    { parent[$1] = $2; seconds[$1] = $3 }
    END {
      for (each in parent) {
        for (one = each; one in parent && one != process && one != without; one = parent[one]);
        if (each != process && one == process) print each, seconds[each]
      }
    }' | sort -n
}

# since MICROSECONDS: how long ago that was, as "1.2 s".
since() {
  local passed=$((${EPOCHREALTIME/./} - $1))
  printf '%d.%d s' $((passed / 1000000)) $((passed / 100000 % 10))
}

# with_lock NAME COMMAND...: run one such command at a time on this machine. The lock is released when its holder exits or is killed.
with_lock() {
  local file=$CACHE/$1.lock descriptor
  shift
  exec {descriptor}>"$file"
  if ! flock -n "$descriptor"; then
    say "waiting for another run that holds $file"
    flock "$descriptor"
  fi
  "$@"
  exec {descriptor}>&-
}

# with_turn WHAT COMMAND...: run a heavy command, such as all tests, when no other heavy one runs on this machine. What it calls goes on at
# once: HEAVY_LOCK tells it. The lock is released when this process ends or is killed, since no other process inherits its descriptor.
with_turn() {
  local what=$1 file=$CACHE/heavy.lock descriptor
  shift
  if [[ ${HEAVY_LOCK:-} == "$file" ]]; then
    "$@"
    return
  fi
  exec {descriptor}<>"$file"
  if ! flock -n "$descriptor"; then
    say "$(waiting_message "$file")"
    until flock --timeout "$REMIND_SECONDS" "$descriptor"; do say "$(waiting_message "$file")"; done
  fi
  printf '%s\t%s\t%s\t%s\n' "$what" "$PWD" "$$" "$EPOCHSECONDS" >"$file" || true # it only informs
  export HEAVY_LOCK=$file
  "$@" {descriptor}>&- # bash keeps its own copy, which no other program gets
  unset HEAVY_LOCK
  exec {descriptor}>&-
}

REMIND_SECONDS=60

# waiting_message FILE: print who holds the heavy lock, and for how long so far.
waiting_message() {
  local what folder start
  IFS=$'\t' read -r what folder _ start <"$1" || true # empty if the holder has not yet written to it
  if [[ $start =~ ^[0-9]+$ ]]; then
    echo "waiting for $what in $folder, $(((EPOCHSECONDS - start) / 60)) min so far"
  else
    echo "waiting for another heavy run"
  fi
}

# tied COMMAND...: run a program that is told to end (SIGTERM) when this process ends, even if it is killed. Otherwise its tests would go on
# beside those of the next run, on the same cluster.
tied() { if command -v setpriv >/dev/null; then setpriv --pdeathsig TERM "$@"; else "$@"; fi; }

# find_python: set $python to an interpreter of 3.11 or newer that can create virtual environments. Install Debian's if there is none.
find_python() {
  local candidates=(python3.11 python3 /usr/bin/python3)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  for python in "${candidates[@]}"; do ! is_suitable "$python" || return 0; done
  [[ -z ${PYTHON:-} ]] || fail "PYTHON=$PYTHON is no Python 3.11 or newer with the modules venv and ensurepip"
  apt_install python3 python3-venv
  python=/usr/bin/python3
  is_suitable "$python" || fail "Python 3.11 or newer is needed, and this Debian's is $("$python" --version); name another with PYTHON=..."
}

is_suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# missing_packages PACKAGE...: print the Debian packages that are not installed.
missing_packages() {
  local installed package
  installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
  for package; do
    [[ $'\n'$installed$'\n' == *$'\n'"$package installed"$'\n'* ]] || echo "$package"
  done
}

# apt_install PACKAGE...: install the missing packages.
apt_install() {
  local missing
  command -v dpkg-query >/dev/null || fail "these scripts install Debian packages, but this system is not Debian; install by hand: $*"
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  need_root "install Debian packages (${missing[*]})"
  if [[ -z ${apt_updated:-} ]]; then
    download_step "$APT" "updating the lists of Debian packages" apt-get update -q
    apt_updated=yes
  fi
  download_step "$APT" "installing Debian packages: ${missing[*]}" apt_install_now "${missing[@]}"
}

# Without systemd, RUNLEVEL=1 keeps packages from starting their services: these scripts start their own.
apt_install_now() {
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  dpkg --configure -a # complete an installation that was killed
  local install=(apt-get install -yq --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@")
  "${install[@]}" || { apt-get update -q && "${install[@]}"; } # apt-get update succeeds without an answer, too
}

# detached LOG COMMAND...: start a daemon that outlives the caller and does not keep its terminal, pipes or locks open.
detached() {
  local log=$1
  shift
  (
    close_descriptors
    cd /
    exec setsid nohup "$@"
  ) </dev/null >>"$log" 2>&1 &
  disown
}

# close_descriptors: close all descriptors of this (sub)shell, including locks, except standard input, output and error.
close_descriptors() {
  local descriptor
  for descriptor in /proc/self/fd/*; do
    descriptor=${descriptor##*/}
    ((descriptor <= 2)) || eval "exec $descriptor>&-" 2>/dev/null || true
  done
}

# alive PID NAME: whether the process runs and has that name. A zombie keeps its number and name, but does not run.
alive() {
  local status
  status=$(cat "/proc/$1/status" 2>/dev/null) || return 1
  [[ $status == *$'Name:\t'"$2"$'\n'* && $status != *$'State:\tZ'* && $status != *$'State:\tX'* ]]
}

# any_alive NAME: whether any process of that name runs.
any_alive() {
  local pid
  for pid in $(pgrep -x "$1"); do ! alive "$pid" "$1" || return 0; done
  return 1
}

# wait_until SECONDS COMMAND...: run the command every 0.2 s until it succeeds. Fail after that many seconds.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || return 1
    sleep 0.2
  done
}

not() { ! "$@"; }

# identity PID: print what names this process for good: its number and when it started. Nothing if it does not run.
identity() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  read -ra stat <<<"${stat##*) }" # after the name, which may contain anything
  [[ ${stat[0]} == [ZX] ]] || echo "$1 ${stat[19]}"
}

free_gb() { df --output=avail --block-size=1M "$1" | awk 'END { print int($1 / 1024) }'; } # free_gb FOLDER

available_memory_gb() { free --mebi | awk '/^Mem:/ { print int($7 / 1024) }'; }

# Prefer Debian's client, which fits Debian's engine, over any other client on the PATH.
docker_client() { if [[ -x /usr/bin/docker ]]; then echo /usr/bin/docker; else echo docker; fi; }

docker() { command "$(docker_client)" "$@"; }

docker_answers() { timeout 20 "$(docker_client)" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
