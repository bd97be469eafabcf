# What up and down of this server share. Sourced, not run.
docker=/usr/bin/docker
# The path of a socket may have some hundred characters.
socket=$state/docker.sock
[ ${#socket} -lt 100 ] || socket=/tmp/rhizome-docker-$(printf '%s' "$state" | sha256sum | cut -c1-16).sock
host=unix://$socket

answers() { "$docker" -H "$host" version >/dev/null 2>&1; }

# sweep: ends the engine, and what one that was killed has left: its helpers, whose arguments name
# its folder, its containers, whose control groups are called after them, mounts and bridges.
sweep() {
  local pid folder
  stop TERM
  for pid in $(grep -lF -- "$state/run/" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3); do
    [ "$pid" = $$ ] || kill -KILL "$pid" 2>/dev/null || true
  done
  for folder in "$state"/data/containers/*/; do
    for pid in $(grep -lF -- "/$(basename "$folder")" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3); do
      kill -KILL "$pid" 2>/dev/null || true
    done
  done
  for folder in $(awk -v under="$state/" 'index($5, under) == 1 {print $5}' /proc/self/mountinfo | sort -r); do
    umount -l "$folder" 2>/dev/null || true
  done
  rm -rf "$socket" "$state/own.pid" "$state/run"
}

# Engines that run at the same time share the machine's forwarding and its rules: how those were
# without any is noted by the first that comes, and put back by the last that goes. Each is known
# here by the file that says which process it is.
shared=/run/rhizome-docker
me=$(printf '%s' "$state" | sha256sum | cut -c1-16)

# enter COMMAND...: notes that this engine is here, which this command starts; restore: that it has gone.
enter() (
  mkdir -p "$shared/engines"; exec 8>"$shared/lock"; flock 8
  [ -e "$shared/before" ] || {
    echo "forward=$(sysctl -n net.ipv4.ip_forward)"
    echo "policy=$(iptables -S FORWARD 2>/dev/null | awk '$1 == "-P" {print $3}')"
    echo "chains=$(iptables-save 2>/dev/null | grep -c '^:DOCKER')"
  } >"$shared/before" || true
  ln -sfn "$(pid_file)" "$shared/engines/$me"
  "$@" 8>&-
)
restore() (
  [ -L "$shared/engines/$me" ] || return 0
  exec 8>"$shared/lock"; flock 8
  rm -f "$shared/engines/$me"
  for engine in "$shared"/engines/*; do
    read -r pid at 2>/dev/null <"$engine" || continue
    [ "$(started "$pid")" != "$at" ] || return 0
  done
  . "$shared/before"
  # Whoever has an engine of his own beside ours keeps his rules.
  if [ "${chains:-0}" = 0 ]; then
    iptables-save | grep -v DOCKER | iptables-restore || true
    [ -z "${policy:-}" ] || iptables -P FORWARD "$policy" || true
    sysctl -qw net.ipv4.ip_forward="${forward:-0}" || true
  fi
  rm -rf "$shared/engines" "$shared/before"
)
