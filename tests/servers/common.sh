# What the scripts in the folders beside this file share. Sourced, not run.
#
# State lies under $RHIZOME_SERVERS_DIR/NAME (default: target/servers/NAME), downloads under
# $XDG_CACHE_HOME/rhizome. Everything listens on 127.0.0.1 only, on ports that were free when
# the server was first started; they are written to NAME/env, which tests read.
# Exit code 77 means that the server cannot be had on this machine, any other but 0 that it
# should have come up and did not.
set -euo pipefail
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
state=${RHIZOME_SERVERS_DIR:-$root/target/servers}/$name
cache=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/rhizome
mkdir -p "$state" "$cache"
state=$(cd "$state" && pwd)

say() { printf '%s: %s\n' "$name" "$*"; }
die() { say "$*" >&2; exit 1; }
cannot() { say "cannot be had here: $*" >&2; exit 77; }

# One up or down at a time for one state folder.
lock() { exec 9>"$state/lock"; flock -w 300 9 || die "another up or down holds $state/lock"; }

# need COMMAND|FILE PACKAGE: installs a Debian package for a command, or a file by its pattern,
# that is missing.
need() {
  if command -v "$1" >/dev/null 2>&1 || compgen -G "$1" >/dev/null; then return; fi
  install_packages "$2"
}

# need_packages PACKAGE...: installs those of these Debian packages that are missing.
need_packages() {
  local missing=() package
  for package; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

# install_packages PACKAGE...: Debian packages. No service of them is started.
install_packages() {
  [ -e /etc/debian_version ] || cannot "the package \`$1\` is missing, and this is not Debian"
  [ "$(id -u)" = 0 ] || cannot "missing: $*; install these packages, or run as root"
  say "installing $*"
  (
    exec 8>"$cache/apt.lock"; flock -w 900 8
    guard=/usr/sbin/policy-rc.d
    if [ ! -e $guard ]; then
      printf '#!/bin/sh\nexit 101\n' >$guard; chmod 755 $guard
      trap 'rm -f $guard' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    install() {
      apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
    }
    install "$@" || { apt-get update && install "$@"; }
  ) >"$state/apt-$1.log" 2>&1 9>&- || cannot "$* could not be installed, see $state/apt-$1.log"
}

# The start time of a process, empty if it is gone or a zombie: with the pid it names one
# process for ever. A server of several processes sets `part` to the name of one after the other.
part=
pid_file() { echo "$state/$part${part:+.}pid"; }
started() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; }
alive() {
  local pid at
  read -r pid at 2>/dev/null <"$(pid_file)" || return 1
  [ -n "${at:-}" ] && [ "$(started "$pid")" = "$at" ]
}

# free_port: one that nothing listens on now, below the range that the system gives to clients, and
# that no other server has chosen lately: several come up at once, and listen some time after this.
free_port() {
  local port
  mkdir -p "$cache/ports"
  find "$cache/ports" -mindepth 1 -mmin +30 -delete 2>/dev/null || true
  for _ in {1..200}; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue
    mkdir "$cache/ports/$port" 2>/dev/null || continue
    echo $port; return
  done
  die "no free port found"
}

# run_in_background LOG COMMAND...: starts it in a session of its own and notes what it is.
run_in_background() {
  local log=$1; shift
  setsid nohup "$@" >>"$log" 2>&1 </dev/null 9>&- &
  echo "$! $(started $!)" >"$(pid_file)"
}

# wait_for SECONDS COMMAND...: until it succeeds, or the server is gone, or the time is over.
wait_for() {
  local end=$((SECONDS + $1)); shift
  until "$@"; do
    alive || return 1
    [ $SECONDS -lt $end ] || return 1
    sleep 0.1
  done
}

# guard: stops this server when the process $RHIZOME_SERVERS_FOR is gone, however it went.
guard() {
  local owner=${RHIZOME_SERVERS_FOR:-}
  [ -n "$owner" ] || return 0
  [ "$(cat "$state/guard" 2>/dev/null)" != "$owner" ] || return 0
  echo "$owner" >"$state/guard"
  setsid nohup bash -c '
    while [ -e "/proc/$1" ]; do sleep 0.3; done
    [ "$(cat "$2/guard" 2>/dev/null)" != "$1" ] || { rm -f "$2/guard"; exec "$3/down"; }
  ' guard "$owner" "$state" "$here/$name" >/dev/null 2>&1 </dev/null 9>&- &
}

# stop SIGNAL: ends only the process that up started, and what it left of its own group.
stop() {
  local pid at
  if alive; then
    read -r pid at <"$(pid_file)"
    kill -CONT "$pid"; kill -"$1" "$pid"
    for _ in {1..600}; do [ "$(started "$pid")" = "$at" ] || break; sleep 0.05; done
    if [ "$(started "$pid")" = "$at" ]; then kill -KILL "$pid"; sleep 0.5; fi
    kill -KILL -- "-$pid" 2>/dev/null || true
    say "stopped${part:+ $part}"
  fi
  rm -f "$(pid_file)"
}
